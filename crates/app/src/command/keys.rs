//! `keys`: who may ask (API keys), and which keys secrets are encrypted with (data keys): listing and changing both, of a
//! running server, or of a store that none has.

mod offline;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use engine::Clock;
use kernel::id::{InstanceId, TenantId};
use kernel::time::Delay;
use serde_json::{Value, json};
use store::KeyedStore;

use crate::access::{Holder, Scope, api_key};
use crate::command::client::{ServerArgs, text};
use crate::command::{CommandResult, Failure};
use crate::config::ConfigFile;
use crate::encryption::open_store;
use crate::outgoing::escaped;

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make an API key; it is shown this once
    Create(CreateArgs),
    /// List the API keys of the tenant, and the data keys, by which key of the settings each is wrapped
    Ls(LsArgs),
    /// Replace an API key, which goes on for a while; without an id, wrap all data keys by the first key of the settings
    Rotate(RotateArgs),
    /// Revoke an API key: it opens nothing any more
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Whose key it is, or what for
    #[arg(long)]
    name: String,
    /// metrics, read, write, operate or admin; each has those before it in it
    #[arg(long)]
    scope: String,
    /// How long it opens, such as 90d [default: until it is revoked]
    #[arg(long, value_name = "DELAY")]
    expires: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct LsArgs {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// Of an API key
    #[arg(conflicts_with = "data")]
    id: Option<String>,
    /// For how long the old API key goes on [default: 24h]
    #[arg(long, value_name = "DELAY", requires = "id")]
    overlap: Option<String>,
    /// Make the tenant a new data key, too: what is written from then on is encrypted with it
    #[arg(long)]
    data: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    id: String,
    #[command(flatten)]
    place: Place,
}

/// Where the keys are.
#[derive(Debug, Args)]
struct Place {
    /// Look into this store itself, which has the keys of all tenants; an SQLite file must have no server
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Settings file with the keys to the store [default: statewright.toml, if there is one]
    #[arg(long, value_name = "FILE", requires = "store")]
    config: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn keys(args: &KeysArgs) -> CommandResult {
    match &args.command {
        KeysCommand::Create(args) => create(args),
        KeysCommand::Ls(LsArgs { place }) => {
            let answer = match place.open()? {
                Some(store) => {
                    let tenant = place.tenant()?;
                    let data = store.keys(tenant.as_ref())?;
                    json!({ "api_keys": offline::list(&*store, tenant.as_ref())?, "data": data })
                }
                None => json!({
                    "api_keys": place.server.get_all("/v1/api-keys")?,
                    "data": place.server.get("/v1/keys", &[])?["data"].take(),
                }),
            };
            show(place, &answer)
        }
        KeysCommand::Rotate(RotateArgs { id: Some(id), overlap, place, .. }) => {
            let made = match place.open()? {
                Some(store) => {
                    let overlap = overlap.as_deref().map(Delay::parse).transpose().map_err(Failure)?;
                    offline::rotate(&*store, &parsed(id)?, overlap)?
                }
                None => {
                    let body = overlap.as_ref().map_or(json!({}), |overlap| json!({ "overlap": overlap }));
                    place.server.post(&format!("/v1/api-keys/{}/rotate", escaped(id)), &body)?
                }
            };
            show_made(place, &made)
        }
        KeysCommand::Rotate(RotateArgs { data, place, .. }) => {
            let rotated = match place.open()? {
                Some(store) => rotate(&store, place.tenant()?, *data)?,
                None => place.server.post("/v1/keys/rotate", &json!({ "data": data }))?,
            };
            if !place.server.json {
                say!("{} data key(s) wrapped anew", text(&rotated["rewrapped"]));
            }
            show(place, &rotated)
        }
        KeysCommand::Revoke(RevokeArgs { id, place }) => {
            let revoked = match place.open()? {
                Some(store) => offline::revoke(&*store, &parsed(id)?)?,
                None => place.server.delete(&format!("/v1/api-keys/{}", escaped(id)))?,
            };
            match place.server.json {
                true => say!("{revoked}"),
                false => say!(
                    "{} `{}` is {}",
                    text(&revoked["id"]),
                    text(&revoked["name"]),
                    text(&revoked["state"])
                ),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn parsed(id: &str) -> Result<InstanceId, Failure> {
    InstanceId::parse(id).map_err(Failure)
}

fn create(CreateArgs { name, scope, expires, place }: &CreateArgs) -> CommandResult {
    let scope = Scope::parse(scope).map_err(Failure)?;
    let made = match place.open()? {
        Some(store) => {
            api_key::check_name(name).map_err(Failure)?;
            let tenant =
                place.tenant()?.ok_or_else(|| Failure("--tenant is missing: whose key is it?".into()))?;
            let lasts = expires.as_deref().map(Delay::parse).transpose().map_err(Failure)?;
            offline::create(&*store, Holder { tenant, scope, who: name.as_str().into() }, lasts)?
        }
        None => {
            let body = json!({ "name": name, "scope": scope, "expires_in": expires });
            place.server.post("/v1/api-keys", &body)?
        }
    };
    show_made(place, &made)
}

fn show_made(place: &Place, made: &Value) -> CommandResult {
    if place.server.json {
        say!("{made}");
        return Ok(ExitCode::SUCCESS);
    }
    let until = made["expires_at"].as_str().map(|end| format!(", until {end}")).unwrap_or_default();
    say!(
        "API key {} `{}` of scope {}{until}; it is shown this once:",
        text(&made["id"]),
        text(&made["name"]),
        text(&made["scope"])
    );
    say!("{}", text(&made["key"]));
    if let Some(end) = made["old_until"].as_str() {
        say!("the old one goes on until {end}");
    }
    Ok(ExitCode::SUCCESS)
}

fn rotate(store: &KeyedStore, tenant: Option<TenantId>, data: bool) -> Result<Value, Failure> {
    let now = Clock::System.now();
    let rewrapped = store.rotate(now)?;
    if data {
        let tenant =
            tenant.as_ref().ok_or_else(|| Failure("--data needs --tenant: whose key is it?".into()))?;
        store.rotate_data(tenant, now)?;
    }
    Ok(json!({ "rewrapped": rewrapped, "data": store.keys(tenant.as_ref())? }))
}

fn show(place: &Place, answer: &Value) -> CommandResult {
    if place.server.json {
        say!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    let api_keys = answer["api_keys"].as_array();
    for key in api_keys.into_iter().flatten() {
        let end = key["retires_at"].as_str().or(key["expires_at"].as_str());
        let end = end.map(|end| format!(", until {end}")).unwrap_or_default();
        let [id, name, scope, state] = ["id", "name", "scope", "state"].map(|field| text(&key[field]));
        let tenant = key["tenant"].as_str().map(|tenant| format!("{tenant} ")).unwrap_or_default();
        say!(
            "API key {tenant}{id} `{name}` of scope {scope}, {state}, made {} by {}{end}",
            text(&key["made_at"]),
            text(&key["made_by"])
        );
    }
    if api_keys.is_some_and(Vec::is_empty) {
        say!("no API keys but those of the settings, if there are any");
    }
    let keys = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    if keys.is_empty() {
        say!("no data keys: nothing is encrypted yet");
    }
    for key in keys {
        let current = if key["current"] == json!(true) { ", current" } else { "" };
        let problem = key["problem"].as_str().map(|problem| format!(": {problem}")).unwrap_or_default();
        say!(
            "data key {} {} wrapped by {}, made {}{current}{problem}",
            text(&key["tenant"]),
            text(&key["id"]),
            text(&key["kek"]),
            text(&key["created_at"])
        );
    }
    Ok(ExitCode::SUCCESS)
}

impl Place {
    fn open(&self) -> Result<Option<Arc<KeyedStore>>, Failure> {
        let Some(url) = &self.store else { return Ok(None) };
        let file = ConfigFile::read(self.config.as_deref()).map_err(Failure)?;
        let keys = file.encryption.keys().map_err(Failure)?;
        open_store(url, keys).map(Some).map_err(Failure)
    }

    fn tenant(&self) -> Result<Option<TenantId>, Failure> {
        self.server.tenant.as_deref().map(TenantId::parse).transpose().map_err(Failure)
    }
}
