//! `dev` and `serve`: the server, from its settings to its orderly end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use engine::{Clock, Engine, Machines, Settings};
use kernel::definition;
use kernel::diagnostic::{Diagnostic, nearest};
use kernel::id::MachineName;
use kernel::time::Delay;
use store::{MasterKey, Store, StoreInfo};
use tokio::net::TcpListener;

use crate::accept::{self, Door, Limits};
use crate::access::jwt::Issuer;
use crate::access::{Access, BackupKey, Names, api_key};
use crate::carrier::HttpCarrier;
use crate::command::greeting::greeting;
use crate::command::machine_files::{SAME_VERSION_HELP, Versions, definition_files, read_source};
use crate::command::overlay_files::{OverlayFile, read_definition};
use crate::command::{CommandResult, Failure, MachineDirs};
use crate::config::{ConfigFile, LogChoice, TlsConfig};
use crate::connections::{Channel, Connections};
use crate::dashboard::keep_pulse;
use crate::encryption::{dev_key, open_store};
use crate::http::{self, App};
use crate::outgoing::{Allowed, Block, Outgoing};
use crate::receipts;
use crate::recognisers::{RecogniserConfig, Recognisers};
use crate::rollout::{self, Rollouts};
use crate::secret::Secret;
use crate::telemetry::{self, LogFormat};
use crate::tls::Tls;
use crate::traces::{Traces, TracesConfig};

const LISTEN: &str = "127.0.0.1:7474";
const STORE: &str = "sqlite:./statewright.db";

/// For so long providers send again what was not acknowledged, and a day more.
const REDELIVERY: Delay = Delay::from_secs(8 * 86_400);

/// What `dev` and `serve` have in common. Flags win over the environment, that over statewright.toml.
#[derive(Debug, Args)]
struct ServerArgs {
    /// Address to listen on; port 0 picks a free one [default: 127.0.0.1:7474]
    #[arg(long, value_name = "ADDR:PORT", env = "STATEWRIGHT_LISTEN")]
    listen: Option<String>,
    /// Where to remember: sqlite:PATH or memory: [default: sqlite:./statewright.db]
    #[arg(long, value_name = "URL", env = "STATEWRIGHT_STORE")]
    store: Option<String>,
    #[command(flatten)]
    machines: MachineDirs,
    /// How providers reach this server: the base of the URLs that they sign
    #[arg(long, value_name = "URL", env = "STATEWRIGHT_PUBLIC_URL")]
    public_url: Option<String>,
    /// Twilio's auth token, to check the signatures of its webhooks
    #[arg(long, value_name = "TOKEN", env = "STATEWRIGHT_TWILIO_AUTH_TOKEN", hide_env_values = true)]
    twilio_auth_token: Option<String>,
    /// Where a collector of OpenTelemetry takes traces by OTLP over HTTP, as http://127.0.0.1:4318
    #[arg(long, value_name = "URL", env = "STATEWRIGHT_TRACES_ENDPOINT")]
    traces_endpoint: Option<String>,
    /// How to write the log, on standard error
    #[arg(long, value_name = "FORMAT", env = "STATEWRIGHT_LOG_FORMAT")]
    log: Option<LogChoice>,
    /// Blocks of addresses that requests to the outside may go to, though they are not public; separated by commas
    #[arg(long, value_name = "BLOCKS", env = "STATEWRIGHT_ALLOW_ADDRESSES")]
    allow_addresses: Option<String>,
    /// Settings file; flags and environment win over it [default: statewright.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClockChoice {
    System,
    /// Stands still until POST /v1/clock/advance moves it
    Virtual,
}

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[arg(long, default_value = "system")]
    clock: ClockChoice,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Who may ask: tenant=key, separated by commas
    #[arg(long, value_name = "PAIRS", env = "STATEWRIGHT_API_KEYS", hide_env_values = true)]
    api_keys: Option<String>,
    /// Certificate chain in PEM, to be shown to whoever connects; read again when it changes, or at SIGHUP
    #[arg(long, value_name = "FILE", env = "STATEWRIGHT_TLS_CERTIFICATE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The certificate's private key in PEM
    #[arg(long, value_name = "FILE", env = "STATEWRIGHT_TLS_KEY", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// TLS is in front: listen elsewhere than on loopback without it
    #[arg(long, env = "STATEWRIGHT_PLAIN_HTTP", value_parser = FalseyValueParser::new())]
    plain_http: bool,
    /// Who sends it is given a backup of all tenants
    #[arg(long, value_name = "KEY", env = "STATEWRIGHT_BACKUP_KEY", hide_env_values = true)]
    backup_key: Option<String>,
}

/// Everything settled.
struct Server {
    listen: String,
    store: String,
    machines: Vec<PathBuf>,
    public_url: Option<String>,
    connections: Connections,
    allowed: Allowed,
    recognisers: Vec<RecogniserConfig>,
    settings: Settings,
    access: Access,
    limits: Limits,
    tls: Option<Arc<Tls>>,
    trusted_proxies: Vec<Block>,
    backup_key: Option<BackupKey>,
    traces: Option<Arc<Traces>>,
    clock: Clock,
    /// What data keys are wrapped by.
    keys: Vec<MasterKey>,
    /// What to say of a key that has been made.
    key_made: Option<String>,
    /// Whether to say what to try next.
    greet: bool,
}

pub(crate) fn dev(args: DevArgs) -> CommandResult {
    let DevArgs { server, clock } = args;
    let mut file = ConfigFile::read(server.config.as_deref()).map_err(Failure)?;
    // They are for `serve`: here everybody may ask.
    file.api_keys = None;
    if server.listen.is_none()
        && let Some(listen) = file.listen.as_deref().filter(|listen| !is_loopback(listen))
    {
        return Err(Failure(format!(
            "the settings file says to listen on {listen}, and `dev` asks nobody for a key: use `serve`, or `--listen {LISTEN}`"
        )));
    }
    let clock = match clock {
        ClockChoice::System => Clock::System,
        ClockChoice::Virtual => Clock::virtual_at(Clock::System.now()),
    };
    let wants_tls = file.tls.is_some();
    let mut server = settle(server, file, Access::open(), clock)?;
    if wants_tls {
        tracing::warn!("[tls] is for `serve`: `dev` is reached from this machine alone, without TLS");
    }
    if server.keys.is_empty()
        && let Some((key, made)) = dev_key(&server.store).map_err(Failure)?
    {
        server.keys.push(key);
        server.key_made = made;
    }
    run(Server { allowed: server.allowed.and(Allowed::loopback()), greet: true, ..server })
}

pub(crate) fn serve(args: ServeArgs) -> CommandResult {
    let ServeArgs { server, api_keys, tls_certificate, tls_key, plain_http, backup_key } = args;
    let mut file = ConfigFile::read(server.config.as_deref()).map_err(Failure)?;
    if let Some(key) = backup_key {
        file.backup_key = Some(Secret::parse(&key).map_err(Failure)?);
    }
    let keys = api_keys.or(file.api_keys.take()).unwrap_or_default();
    let mut access = Access::from_pairs(&keys).map_err(Failure)?;
    let issuers = std::mem::take(&mut file.jwt).into_iter().map(Issuer::of).collect::<Result<_, _>>();
    access.issuers = issuers.map_err(|problem| Failure(format!("[[jwt]]: {problem}")))?;
    access.open_metrics = file.open_metrics;
    let files = tls_certificate.zip(tls_key).map(|(certificate, key)| TlsConfig { certificate, key });
    let files = files.or(file.tls.take());
    let tls = files.map(|files| Tls::open(&files.certificate, &files.key)).transpose();
    let tls = tls.map_err(|problem| Failure(format!("[tls]: {problem}")))?;
    let plain_http = plain_http || file.plain_http.unwrap_or_default();
    let server = Server { tls, ..settle(server, file, access, Clock::System)? };
    if server.tls.is_none() && !plain_http && !is_loopback(&server.listen) {
        return Err(Failure(format!(
            "it would listen on {} without TLS, and keys and messages would cross the network as they are: set `certificate` and `key` under [tls] (--tls-certificate, --tls-key), or, where a proxy in front has TLS, `plain_http = true` (--plain-http)",
            server.listen
        )));
    }
    if server.tls.is_none() && plain_http {
        let doubts = doubts_of_plain_http(&server.trusted_proxies, server.public_url.as_deref());
        doubts.for_each(|doubt| tracing::warn!("`plain_http` is set, but {doubt}"));
    }
    run(server)
}

/// What is not as it should be where TLS is said to be in front.
fn doubts_of_plain_http(
    trusted_proxies: &[Block],
    public_url: Option<&str>,
) -> impl Iterator<Item = &'static str> {
    let no_proxies = "there are no `trusted_proxies`: all who come by a proxy count as one address, for its requests, connections and wrong keys";
    let no_https = "`public_url` is not there or does not begin with `https://`: browsers would send the cookie of who has signed in without TLS, too";
    let is_https = public_url.is_some_and(|url| url.starts_with("https://"));
    [(trusted_proxies.is_empty(), no_proxies), (!is_https, no_https)]
        .into_iter()
        .filter_map(|(applies, doubt)| applies.then_some(doubt))
}

/// What flags, environment and file come to; the log begins with it.
fn settle(args: ServerArgs, file: ConfigFile, access: Access, clock: Clock) -> Result<Server, Failure> {
    init_log(args.log.or(file.log));
    let machines = match file.machines {
        Some(dirs) if args.machines.dirs.is_empty() => dirs,
        _ => args.machines.paths(),
    };
    let twilio = args.twilio_auth_token.or(file.twilio_auth_token);
    let twilio = twilio.map(|token| Secret::parse(&token).map(Channel::twilio)).transpose();
    let channels = file.channels.into_iter().chain(twilio.map_err(Failure)?).collect();
    let connections = Connections::new(channels, file.webhooks, file.calls, &access.first_tenant());
    let connections = connections.map_err(|problem| Failure(format!("the settings are wrong: {problem}")))?;
    let allowed = args.allow_addresses.or(file.allow_addresses.map(|blocks| blocks.join(",")));
    let settings = file.limits.settings().map_err(|problem| Failure(format!("[limits]: {problem}")))?;
    let (longest, lease) = (connections.longest_timeout(), settings.delivery_lease);
    if lease.as_millis().unsigned_abs() <= longest.as_millis() as u64 {
        let longest = longest.as_secs_f64();
        return Err(Failure(format!(
            "[limits]: `delivery_lease` is {lease}, and an attempt may take {longest} s; another server would make it a second time meanwhile"
        )));
    }
    if settings.retention < REDELIVERY {
        tracing::warn!(retention = %settings.retention, "a message that a provider sends again after this would be taken twice; Meta does so for seven days");
    }
    let wrong_limit = |problem| Failure(format!("[limits]: {problem}"));
    let proxies = file.trusted_proxies.unwrap_or_default();
    let proxies = proxies.iter().map(|block| Block::parse(block)).collect::<Result<Vec<_>, _>>();
    let trusted_proxies = proxies.map_err(|problem| Failure(format!("`trusted_proxies`: {problem}")))?;
    let mut access = access;
    access.rates = file.limits.rates(trusted_proxies.clone()).map_err(wrong_limit)?;
    let limits = file.limits.connections().map_err(wrong_limit)?;
    let backup_key = file.backup_key.map(|key| BackupKey::new(key.expose()));
    let endpoint = args.traces_endpoint.or(file.traces.endpoint);
    let traces = Traces::open(TracesConfig { endpoint, ..file.traces });
    Ok(Server {
        machines,
        listen: args.listen.or(file.listen).unwrap_or_else(|| LISTEN.to_owned()),
        store: args.store.or(file.store).unwrap_or_else(|| STORE.to_owned()),
        public_url: args.public_url.or(file.public_url),
        connections,
        allowed: Allowed::parse(&allowed.unwrap_or_default()).map_err(Failure)?,
        recognisers: file.recognisers,
        settings,
        access,
        limits,
        tls: None,
        trusted_proxies,
        backup_key: backup_key.transpose().map_err(Failure)?,
        traces: traces.map_err(|problem| Failure(format!("[traces]: {problem}")))?,
        clock,
        keys: file.encryption.keys().map_err(|problem| Failure(format!("[encryption]: {problem}")))?,
        key_made: None,
        greet: false,
    })
}

/// Whether only this machine can reach what listens there.
fn is_loopback(listen: &str) -> bool {
    match listen.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => listen.starts_with("localhost:"),
    }
}

fn init_log(choice: Option<LogChoice>) {
    let format = match choice.unwrap_or(LogChoice::Auto) {
        LogChoice::Json => LogFormat::Json,
        LogChoice::Text => LogFormat::Text,
        LogChoice::Auto => LogFormat::Auto,
    };
    telemetry::init(format, None);
}

/// How long threads may take to end when all is done: longer than the engine's own farewell, should a request that was
/// cut off be the last to hold it.
const FAREWELL_MAX: Duration = Duration::from_secs(6);

fn run(server: Server) -> CommandResult {
    let outgoing = Arc::new(Outgoing::new(server.allowed.clone()));
    let mut recognisers = Recognisers::new(&server.recognisers, Arc::clone(&outgoing)).map_err(Failure)?;
    recognisers.traces.clone_from(&server.traces);
    let traces = server.traces.clone();
    let enabled = fsm_enabled()?;
    let keyed = open_store(&server.store, server.keys.clone()).map_err(Failure)?;
    let store: Arc<dyn Store> = Arc::clone(&keyed) as Arc<dyn Store>;
    want_a_key(&*store, &server)?;
    let machines = known_machines(&*store, &server)?;
    warn_of_unknown(&machines, server.connections.machines().into_iter().chain(recognisers.machines()));
    // A clock that is moved by hand must not go back at a restart: it goes on where the data ends.
    if server.clock.is_virtual()
        && let Some(latest) = store.statistics()?.latest_change
    {
        server.clock.advance(latest.since(server.clock.now()));
    }
    let rollouts = Rollouts::load(&*store, enabled)?;
    if !rollouts.enabled() {
        tracing::warn!("{} is off: no message is answered, whatever is set for its machine", rollout::SWITCH);
    }
    let about = store.info();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let listener = TcpListener::bind(&server.listen)
            .await
            .map_err(|error| Failure(format!("failed to listen on {}: {error}", server.listen)))?;
        let address = listener.local_addr()?;
        let scheme = if server.tls.is_some() { "https" } else { "http" };
        announce(&format!("{scheme}://{address}"), &about, server.key_made.as_deref());
        let mut access = server.access;
        access.names = Names::of(&server.listen, address, server.public_url.as_deref());
        let public_url = server.public_url.unwrap_or_else(|| format!("{scheme}://{address}"));
        access.secure_cookies = public_url.starts_with("https://");
        let public_url = public_url.trim_end_matches('/').to_owned();
        let connections = Arc::new(server.connections);
        let carrier = HttpCarrier {
            outgoing,
            connections: Arc::clone(&connections),
            public_url: public_url.clone(),
            runtime: tokio::runtime::Handle::current(),
            traces: server.traces.clone(),
        };
        let engine =
            Engine::start_delivering(store, machines, server.clock, server.settings, Arc::new(carrier));
        if server.greet {
            let mut machines = engine.machines().all();
            machines.retain(|machine| !machine.name.is_own());
            greeting(&machines, &server.machines, address).iter().for_each(|line| say!("{line}"));
        }
        let connected = [connections.listening_at(&public_url), connections.reaching(), recognisers.asking()];
        connected.iter().flatten().for_each(|line| say!("{line}"));
        server.traces.iter().for_each(|traces| export(traces, &engine));
        let mut app = App::new(engine, access, public_url, connections);
        app.traces = server.traces;
        app.rollouts = rollouts;
        app.machine_folders = server.machines;
        app.recognisers = Some(recognisers);
        app.keys = Some(keyed);
        app.backup_key = server.backup_key;
        let door = door(server.limits, server.tls, server.trusted_proxies)?;
        let cut = answer_until_stopped(Arc::new(app), listener, door).await;
        tracing::info!(connections_cut = cut, "stopped");
        Ok(ExitCode::SUCCESS)
    });
    traces.iter().for_each(|traces| traces.end());
    // What was being sent has had its time; whoever still says nothing is not waited for.
    runtime.shutdown_timeout(FAREWELL_MAX);
    ended
}

/// Has what is noted of the engine's inputs exported.
fn export(traces: &Arc<Traces>, engine: &Engine) {
    say!("traces: spans go to {}", traces.host());
    traces.start(engine);
}

/// How many connections were cut off at the end.
async fn answer_until_stopped(app: Arc<App>, listener: TcpListener, door: Door) -> usize {
    tokio::spawn(http::keep_settings_fresh(Arc::downgrade(&app)));
    tokio::spawn(keep_pulse(Arc::downgrade(&app)));
    let (router, asked) = (http::router(Arc::clone(&app)), Arc::clone(&app));
    let handle = move |request| http::answer(Arc::clone(&asked), router.clone(), request);
    let count = |open| app.engine.metrics().set_connections(open);
    accept::serve(listener, handle, door, count, stopped(Arc::clone(&app))).await
}

/// Whether anybody could ask the server that is about to start.
fn want_a_key(store: &dyn Store, server: &Server) -> Result<(), Failure> {
    let access = &server.access;
    if access.is_open() || access.has_any() || api_key::any_open(store, server.clock.now())? {
        return Ok(());
    }
    // Others may have a password in them.
    let url = if server.store.starts_with("sqlite:") { &server.store } else { "URL" };
    Err(Failure(format!(
        "there is no API key, so that nobody could ask: make the first with `statewright keys create --store {url} --tenant NAME --name NAME --scope admin`, or set STATEWRIGHT_API_KEYS=tenant=key, or use `dev`"
    )))
}

/// The first lines: where the server listens, and what its store is worth.
fn announce(url: &str, about: &StoreInfo, key_made: Option<&str>) {
    say!("statewright {} listens on {url}", env!("CARGO_PKG_VERSION"));
    say!("store: {} ({})", about.location, about.durability.as_str());
    key_made.iter().for_each(|line| say!("{line}"));
    if about.durability != store::Durability::Durable {
        let durability = about.durability.as_str();
        tracing::warn!(durability, "what this store acknowledges may be lost");
    }
    about.notes.iter().for_each(|note| tracing::warn!(store = about.backend, "{note}"));
}

/// By what connections come in; a certificate is looked after from now on.
fn door(limits: Limits, tls: Option<Arc<Tls>>, trusted_proxies: Vec<Block>) -> Result<Door, Failure> {
    let acceptor = tls.as_ref().map(Tls::acceptor).transpose().map_err(Failure)?;
    tls.map(|tls| tokio::spawn(tls.keep_fresh()));
    // On this machine there is a proxy, or nobody who could not do worse.
    let uncounted = ["127.0.0.0/8", "::1"].iter().flat_map(|block| Block::parse(block));
    Ok(Door { limits, tls: acceptor, uncounted: uncounted.chain(trusted_proxies).collect() })
}

/// What is stored, what is in the folders, and our own.
fn known_machines(store: &dyn Store, server: &Server) -> Result<Arc<Machines>, Failure> {
    let machines = Arc::new(Machines::from_store(store)?);
    machines.check_secrets(store)?;
    load_machines(&machines, store, server)?;
    receipts::activate(&machines, store, server.clock.now())?;
    api_key::activate(&machines, store, server.clock.now())?;
    Ok(machines)
}

/// The switch over all machines, which is not ours to name: hosts have set it before.
fn fsm_enabled() -> Result<bool, Failure> {
    let value = std::env::var_os(rollout::SWITCH);
    let value = value.as_ref().map(|value| value.to_string_lossy());
    rollout::switch(value.as_deref()).map_err(Failure)
}

/// Activates what is in the folders, in the order of versions, so that the highest of each machine is current, then the
/// overlays. A definition that is current already is left alone. All is checked before any of it is activated.
fn load_machines(machines: &Machines, store: &dyn Store, server: &Server) -> Result<(), Failure> {
    let now = server.clock.now();
    let mut files = Vec::new();
    let mut overlays = Vec::new();
    let mut versions = Versions::default();
    for path in all_definition_files(&server.machines)? {
        let source = read_source(&path)?;
        if let Some(overlay) = OverlayFile::of(&path, &source) {
            overlays.push(overlay);
            continue;
        }
        let (machine, diagnostics) = definition::load(&source);
        let Some(machine) = machine.filter(|machine| !machine.is_customised()) else {
            show_diagnostics(&path, &source, &diagnostics);
            return Err(Failure(format!("{} cannot be loaded; mend it or move it away", path.display())));
        };
        versions
            .add(&machine, &path)
            .map_err(|problem| Failure(format!("{problem}: {SAME_VERSION_HELP}")))?;
        files.push((Arc::new(machine), path, diagnostics));
    }
    files.sort_by_key(|(machine, ..)| machine.version);
    for overlay in &overlays {
        let file = files.iter().rev().find(|(machine, ..)| machine.name.as_str() == overlay.base);
        let stored = || machines.all().into_iter().find(|machine| machine.name.as_str() == overlay.base);
        let base = file.map(|(machine, ..)| Arc::clone(machine)).or_else(stored);
        let base_path = file.map_or(Path::new("(stored)"), |(_, path, _)| path);
        overlay.check_over(base_path, base.as_deref())?;
    }
    for (machine, path, diagnostics) in &files {
        machines.adopt(store, Arc::clone(machine), now)?;
        tracing::info!(machine = %machine.name, version = machine.version, file = %path.display(), "loaded");
        show_diagnostics(path, &machine.source, diagnostics);
    }
    let first_tenant = server.access.first_tenant();
    for overlay in &overlays {
        let tenant = overlay.tenant.as_ref().unwrap_or(&first_tenant);
        let name = MachineName::parse(&overlay.base).map_err(Failure)?;
        machines.set_overlay(store, tenant, &name, &overlay.text, now)?;
        tracing::info!(%tenant, machine = %name, file = %overlay.path.display(), "overlay loaded");
    }
    machines.all().iter().for_each(|machine| machines.refit_overlays(store, &machine.name, now));
    Ok(())
}

/// A machine that settings name may be activated later, so one that is not there is no error; but it may be misspelt.
fn warn_of_unknown<'a>(machines: &Machines, named: impl Iterator<Item = (String, &'a MachineName)>) {
    for (entry, machine) in named.filter(|(_, machine)| machines.current(machine).is_err()) {
        let known = machines.all();
        let known = known.iter().map(|machine| &machine.name).filter(|name| !name.is_own());
        let help = nearest(machine.as_str(), known.map(MachineName::as_str));
        tracing::warn!("{entry} is for `{machine}`, and there is no such machine yet; {help}");
    }
}

/// The definitions of all folders, each file once.
fn all_definition_files(dirs: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for dir in dirs {
        files.extend(definition_files(dir)?);
    }
    files.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    Ok(files)
}

fn show_diagnostics(path: &Path, source: &str, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        eprintln!("{}\n", diagnostic.render(&path.display().to_string(), source));
    }
}

/// A machine by its name in the machine folders, or by its file.
pub(crate) fn find_definition(name: &str, dirs: &MachineDirs) -> Result<(PathBuf, String), Failure> {
    let direct = Path::new(name);
    if direct.is_file() {
        return Ok((direct.to_owned(), read_definition(direct)?));
    }
    let mut known = Vec::new();
    let (mut named, mut called): (Option<(u32, PathBuf, String)>, _) = (None, None);
    for path in all_definition_files(&dirs.paths())? {
        let source = read_source(&path)?;
        if OverlayFile::of(&path, &source).is_some() {
            if path.file_stem().is_some_and(|stem| stem == name) {
                called = Some((0, path.clone(), read_definition(&path)?));
            }
            continue;
        }
        let machine = definition::load(&source).0;
        let own = machine.as_ref().map(|machine| machine.name.to_string());
        let version = machine.map_or(0, |machine| machine.version);
        if own.as_deref() == Some(name) {
            // The one that a server would have as the current one.
            if named.as_ref().is_none_or(|(highest, ..)| *highest < version) {
                named = Some((version, path, source));
            }
        } else if called.is_none() && path.file_stem().is_some_and(|stem| stem == name) {
            called = Some((version, path, source));
        }
        known.extend(own);
    }
    if let Some((_, path, source)) = named.or(called) {
        return Ok((path, source));
    }
    let help = nearest(name, known.iter().map(String::as_str));
    Err(Failure(format!("there is no machine `{name}`; {help}")))
}

/// Until somebody wants it to end. Streams would go on for as long as somebody reads.
async fn stopped(app: Arc<App>) {
    stop_signal().await;
    app.streams.end();
}

pub(super) async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupt = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        Err(error) => {
            tracing::warn!("SIGTERM cannot be heard: {error}");
            let _ = interrupt.await;
        }
    }
    tracing::info!("stopping: open requests are finished first");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_doubted_where_nothing_says_what_is_in_front() {
        let proxies = vec![Block::parse("10.0.0.0/8").unwrap()];
        let https = Some("https://bot.example.org");
        for (proxies, public_url, expected) in [
            (&proxies[..], https, &[][..]),
            (&[], https, &["trusted_proxies"]),
            (&proxies, None, &["public_url"]),
            (&proxies, Some("http://bot.example.org"), &["public_url"]),
            (&[], None, &["trusted_proxies", "public_url"]),
        ] {
            let doubts: Vec<_> = doubts_of_plain_http(proxies, public_url).collect();
            assert_eq!(doubts.len(), expected.len(), "{doubts:?}");
            for (doubt, about) in doubts.iter().zip(expected) {
                assert!(doubt.contains(about), "{doubt}");
            }
        }
    }
}
