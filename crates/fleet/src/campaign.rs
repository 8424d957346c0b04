//! One campaign from beginning to end: starting everything, saying and killing for a while, and judging.
//!
//! The thread that runs it starts every server and does all the harm itself, one thing after the other.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::check::Check;
use crate::home::{Home, StoreChoice};
use crate::http::Client;
use crate::load::{Load, User};
use crate::random::Random;
use crate::report::{Report, Violations};
use crate::server::{Launch, Servers};
use crate::sink::Sink;

const MACHINE: &str = include_str!("machine.yaml");
const TENANTS: usize = 3;
/// As the Standard Webhooks specification shows one; nobody verifies it here.
const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(20);

/// What is done to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chaos {
    /// kill -9 of a server, which is started again.
    Kill,
    /// SIGSTOP of a server for longer than its leases, then SIGCONT.
    Stop,
    /// The database is killed or stopped, and started again.
    Database,
    /// A master of the cluster is.
    Master,
}

impl Chaos {
    /// # Errors
    /// A fragment that says what may be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "kill" => Ok(Self::Kill),
            "stop" => Ok(Self::Stop),
            "database" => Ok(Self::Database),
            "master" => Ok(Self::Master),
            _ => Err(format!("`{text}` is no chaos; write kill, stop, database or master")),
        }
    }
}

/// What a campaign is to be like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub binary: PathBuf,
    pub store: StoreChoice,
    pub servers: usize,
    pub users: usize,
    /// How long messages are said; the judgement takes its own time.
    pub lasts: Duration,
    pub seed: u64,
    pub chaos: Vec<Chaos>,
    /// Between two harms, on average.
    pub chaos_every: Duration,
    /// How long what a server has claimed is left to it.
    pub lease: Duration,
    /// How many ids are said again afterwards at most.
    pub repeats_max: usize,
}

impl Plan {
    /// A short one, of seed 1.
    pub fn new(binary: PathBuf, store: StoreChoice) -> Self {
        Self {
            binary,
            store,
            servers: 3,
            users: 24,
            lasts: Duration::from_secs(10),
            seed: 1,
            chaos: vec![Chaos::Kill],
            chaos_every: Duration::from_secs(3),
            lease: Duration::from_secs(5),
            repeats_max: 20_000,
        }
    }

    fn check(&self, home: &Home) -> Result<(), String> {
        if self.servers == 0 || self.users == 0 {
            return Err("a fleet has one server at least, and one user".to_owned());
        }
        if self.servers > 1 && home.is_exclusive() {
            return Err("only one server may work over a file: --servers 1".to_owned());
        }
        let private = |chaos: &Chaos| matches!(chaos, Chaos::Database | Chaos::Master);
        if self.chaos.iter().any(private) && !home.is_private() {
            return Err(
                "only a private database may be hurt: --store postgres, redis or redis-cluster".to_owned()
            );
        }
        if self.chaos.contains(&Chaos::Master) && !home.is_cluster() {
            return Err("only a cluster has masters to kill: --store redis-cluster".to_owned());
        }
        Ok(())
    }
}

/// The server that cargo has built beside this program.
///
/// # Errors
/// A fragment that says how it is built.
pub fn built_binary() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    // Tests are in a folder of their own, below.
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join("statewright"));
    let mut found = found.filter(|path| path.is_file());
    found.next().ok_or_else(|| {
        format!("there is no `statewright` beside {}; build it with `cargo build -p app`", own.display())
    })
}

/// Runs a campaign, telling how it goes.
///
/// # Errors
/// Why it could not be run. What the servers did wrong is in the report.
pub fn run(plan: &Plan, tell: &mut dyn FnMut(&str)) -> Result<Report, String> {
    let directory = tempfile::Builder::new().prefix("statewright-fleet-").tempdir();
    let directory = directory.map_err(|error| format!("failed to make a directory: {error}"))?;
    let home = Home::start(&plan.store, directory.path())?;
    plan.check(&home)?;
    let sink = Sink::start()?;
    write_settings(plan, directory.path(), &sink.url())?;
    let tenants: Vec<String> = (0..TENANTS).map(|number| format!("tenant-{number}")).collect();
    let keys: Vec<String> = (0..TENANTS).map(|number| format!("key-of-the-tenant-{number}")).collect();
    let pairs: Vec<String> =
        tenants.iter().zip(&keys).map(|(tenant, key)| format!("{tenant}={key}")).collect();
    let launch = Launch {
        binary: plan.binary.clone(),
        store: home.url(),
        directory: directory.path().to_owned(),
        keys: pairs.join(","),
    };
    let servers = Servers::start(launch, plan.servers)?;
    let violations = Violations::default();
    let mut report = about(plan, &servers, &keys)?;
    if home.may_lose() && report.durability != "bounded-loss" {
        let what = "a store that may lose what it has acknowledged does not say so";
        violations.say(what, vec![format!("it says `{}`", report.durability)]);
    }
    let mut users: Vec<User> = (0..plan.users).map(new_user).collect();
    let load = Load {
        servers: &servers,
        keys: &keys,
        seed: plan.seed,
        began: Instant::now(),
        over: AtomicBool::new(false),
        answers: AtomicU64::new(0),
        repeats: AtomicU64::new(0),
        together: AtomicU64::new(0),
        told_lost: AtomicU64::new(0),
        may_lose: home.may_lose(),
        violations: &violations,
    };
    let harms = thread::scope(|scope| {
        users.iter_mut().for_each(|user| drop(scope.spawn(|| load.run(user))));
        let mut harm = Harm { plan, home: &home, load: &load, tell, told: Duration::ZERO, done: Vec::new() };
        let outcome = harm.run();
        load.over.store(true, Ordering::Relaxed);
        outcome.map(|()| harm.done)
    })?;
    for number in servers.ended() {
        violations.say(
            format!("server {number} has ended by itself"),
            vec![format!("see its log in {}", directory.path().display())],
        );
    }
    measure(&mut report, &load, &users, &harms);
    judge(plan, &load, &users, &tenants, &sink, &mut report, tell);
    report.violations = violations.all();
    keep_if_wrong(&report, directory, tell);
    Ok(report)
}

fn new_user(number: usize) -> User {
    User { number, tenant: number % TENANTS, subject: format!("user-{}", number / TENANTS), told: Vec::new() }
}

/// What the first server says of the store.
fn about(plan: &Plan, servers: &Servers, keys: &[String]) -> Result<Report, String> {
    let url = servers.url(0).ok_or("no server runs")?;
    let info = Client::new(Duration::from_secs(20)).get(&format!("{url}/v1/info"), &keys[0])?;
    let info: serde_json::Value = serde_json::from_str(&info.body).unwrap_or_default();
    let text = |field: &str| info["store"][field].as_str().unwrap_or("?").to_owned();
    Ok(Report {
        store: text("backend"),
        durability: text("durability"),
        seed: plan.seed,
        servers: plan.servers,
        users: plan.users,
        ..Report::default()
    })
}

fn judge(
    plan: &Plan,
    load: &Load<'_>,
    users: &[User],
    tenants: &[String],
    sink: &Sink,
    report: &mut Report,
    tell: &mut dyn FnMut(&str),
) {
    let urls: Vec<String> = (0..load.servers.count()).filter_map(|number| load.servers.url(number)).collect();
    let check = Check {
        urls,
        tenants,
        keys: load.keys,
        users,
        may_lose: load.may_lose,
        repeats_max: plan.repeats_max,
        settle_max: plan.lease + Duration::from_secs(120),
        violations: load.violations,
    };
    tell("over; waiting until nothing is left to be done");
    report.settled_in = check.settle();
    tell(&format!("at rest after {:.1} s; looking at everything", report.settled_in.as_secs_f64()));
    check.run(&sink.deliveries(), report);
}

/// Whoever wants to look at what went wrong finds settings, logs and a file store.
fn keep_if_wrong(report: &Report, directory: TempDir, tell: &mut dyn FnMut(&str)) {
    if !report.violations.is_empty() {
        let kept = directory.keep();
        tell(&format!("the servers' settings and logs are kept in {}", kept.display()));
    }
}

fn write_settings(plan: &Plan, directory: &Path, sink: &str) -> Result<(), String> {
    let lease = plan.lease.as_millis();
    let settings = format!(
        "allow_addresses = [\"127.0.0.0/8\"]\npublic_url = \"http://fleet.example\"\n\
         [limits]\ntimer_lease = \"{lease}ms\"\ndelivery_lease = \"{lease}ms\"\n\
         [[calls]]\nsrc = \"tally.*\"\nurl = \"{sink}\"\nsecret = \"{SIGNING_SECRET}\"\ntimeout = \"2s\"\n\
         [[webhooks]]\nurl = \"{sink}\"\nsecret = \"{SIGNING_SECRET}\"\ntimeout = \"2s\"\n"
    );
    let write = || {
        std::fs::create_dir_all(directory.join("machines"))?;
        std::fs::write(directory.join("machines/tally.yaml"), MACHINE)?;
        std::fs::write(directory.join("statewright.toml"), settings)
    };
    write().map_err(|error| format!("failed to write in {}: {error}", directory.display()))
}

/// Something that was done, and when since the beginning.
#[derive(Debug)]
struct Harmed {
    at: Duration,
    chaos: Chaos,
    what: String,
}

impl fmt::Display for Harmed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {:.1} s", self.what, self.at.as_secs_f64())
    }
}

/// Who does the harm, and tells how it goes meanwhile.
struct Harm<'a> {
    plan: &'a Plan,
    home: &'a Home,
    load: &'a Load<'a>,
    tell: &'a mut dyn FnMut(&str),
    told: Duration,
    done: Vec<Harmed>,
}

impl Harm<'_> {
    fn run(&mut self) -> Result<(), String> {
        let mut random = Random::new(self.plan.seed, 1);
        loop {
            let every = usize::try_from(self.plan.chaos_every.as_millis()).unwrap_or(usize::MAX);
            // The first comes soon, so that a short campaign has some.
            let pause = if self.done.is_empty() { every / 2 } else { every / 2 + random.below(every) };
            self.pass(Duration::from_millis(pause as u64));
            if self.is_over() {
                return Ok(());
            }
            if let Some(chaos) = random.choose(&self.plan.chaos).copied() {
                self.harm(chaos, &mut random)?;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.load.over.load(Ordering::Relaxed) || self.load.began.elapsed() >= self.plan.lasts
    }

    fn harm(&mut self, chaos: Chaos, random: &mut Random) -> Result<(), String> {
        let servers = self.load.servers;
        let number = random.below(servers.count());
        let at = self.load.began.elapsed();
        let pause = Duration::from_millis(100 + random.below(1_500) as u64);
        let what = match chaos {
            Chaos::Kill => {
                servers.kill(number);
                thread::sleep(pause);
                servers.start_again(number)?;
                format!("server {number} killed for {} ms", pause.as_millis())
            }
            Chaos::Stop => {
                let pause = self.plan.lease + pause;
                servers.pause(number);
                thread::sleep(pause);
                servers.resume(number);
                format!("server {number} stopped for {} ms", pause.as_millis())
            }
            Chaos::Database | Chaos::Master => {
                let in_order = chaos == Chaos::Database && random.percent(30);
                self.home.interrupt(in_order, number, pause)?
            }
        };
        self.done.push(Harmed { at, chaos, what });
        Ok(())
    }

    /// Lets time go by.
    fn pass(&mut self, pause: Duration) {
        let began = Instant::now();
        while began.elapsed() < pause && !self.is_over() {
            let now = self.load.began.elapsed();
            if now >= self.told + PROGRESS_INTERVAL {
                self.told = now;
                let answers = self.load.answers.load(Ordering::Relaxed);
                let last = self.done.last().map(|done| format!("; {done}")).unwrap_or_default();
                let line = format!(
                    "{:.0} s: {answers} answers, {} repeats, {} harms{last}",
                    now.as_secs_f64(),
                    self.load.repeats.load(Ordering::Relaxed),
                    self.done.len(),
                );
                (self.tell)(&line);
            }
            thread::sleep(TICK);
        }
    }
}

/// What can be counted without asking anybody.
fn measure(report: &mut Report, load: &Load<'_>, users: &[User], harms: &[Harmed]) {
    report.lasted = load.began.elapsed();
    report.answers = load.answers.load(Ordering::Relaxed);
    report.repeats = load.repeats.load(Ordering::Relaxed);
    report.together = load.together.load(Ordering::Relaxed);
    report.told_lost = load.told_lost.load(Ordering::Relaxed);
    let count = |wanted: &[Chaos]| harms.iter().filter(|harm| wanted.contains(&harm.chaos)).count() as u64;
    report.kills = count(&[Chaos::Kill]);
    report.stops = count(&[Chaos::Stop]);
    report.interruptions = count(&[Chaos::Database, Chaos::Master]);
    let told = || users.iter().flat_map(|user| &user.told);
    let mut took: Vec<Duration> = told().map(|told| told.took).collect();
    took.sort_unstable();
    let share =
        |percent: usize| took.get(took.len() * percent / 100).or(took.last()).copied().unwrap_or_default();
    report.p50 = share(50);
    report.p99 = share(99);
    report.longest = took.last().copied().unwrap_or_default();
    let mut answered: Vec<Duration> = told().map(|told| told.at).collect();
    answered.sort_unstable();
    let gaps = answered.windows(2).map(|pair| (pair[1] - pair[0], pair[1]));
    let (gap, end) = gaps.max().unwrap_or_default();
    report.gap = gap;
    let before = harms.iter().rev().find(|harm| harm.at <= end);
    report.gap_after = before.map_or_else(|| "nothing".to_owned(), Harmed::to_string);
}
