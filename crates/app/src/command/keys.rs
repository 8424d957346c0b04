//! `keys`: which keys secrets are encrypted with, and changing them: of a running server, or of a store that none has.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use engine::Clock;
use kernel::id::TenantId;
use serde_json::{Value, json};
use store::KeyedStore;

use crate::command::client::{ServerArgs, text};
use crate::command::{CommandResult, Failure};
use crate::config::ConfigFile;
use crate::encryption::open_store;

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List the data keys of the tenant, and by which key of the settings each is wrapped
    Ls(LsArgs),
    /// Wrap all data keys by the first key of the settings; nothing that is stored with them is written anew
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
struct LsArgs {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// Make the tenant a new data key, too: what is written from then on is encrypted with it
    #[arg(long)]
    data: bool,
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
        KeysCommand::Ls(LsArgs { place }) => {
            let data = match place.open()? {
                Some(store) => serde_json::to_value(store.keys(place.tenant()?.as_ref())?)?,
                None => place.server.get("/v1/keys", &[])?["data"].take(),
            };
            show(place, &json!({ "data": data }))
        }
        KeysCommand::Rotate(RotateArgs { data, place }) => {
            let rotated = match place.open()? {
                Some(store) => rotate(&store, place.tenant()?, *data)?,
                None => place.server.post("/v1/keys/rotate", &json!({ "data": data }))?,
            };
            if !place.server.json {
                say!("{} data key(s) wrapped anew", text(&rotated["rewrapped"]));
            }
            show(place, &rotated)
        }
    }
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
    let keys = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    if keys.is_empty() {
        say!("no data keys: nothing is encrypted yet");
    }
    for key in keys {
        let current = if key["current"] == json!(true) { ", current" } else { "" };
        let problem = key["problem"].as_str().map(|problem| format!(": {problem}")).unwrap_or_default();
        say!(
            "{} {} wrapped by {}, made {}{current}{problem}",
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
