//! The command line: one file a command. Each has `--json` where a script would want it, and ends with 0 when all
//! is well, 1 when something was refused or failed, and 2 when the command line itself is wrong. `diff` ends as others of
//! its name do: with 1 when something differs, and with 2 when that cannot be said.
#![allow(clippy::print_stdout, reason = "a command's standard output is its result")]

/// Writes a line to standard output. Whoever reads it may have gone away (`statewright ls | head`): a server must not
/// die of that, and a command has nobody left to tell.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}

mod act;
mod backup;
mod bench;
mod chat;
mod check;
mod client;
mod dead_letters;
mod definition_formats;
mod diagram;
mod diff;
mod doctor;
mod export;
mod flow;
mod greeting;
mod import;
mod keys;
pub(crate) mod machine_files;
mod migrate;
mod output;
mod overlay_files;
mod paths;
mod replay;
mod reroute;
mod rollout;
mod schema;
mod serve;
mod shadow;
mod show;
mod stories;
mod story;
mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::telemetry;

#[derive(Debug, Parser)]
#[command(
    name = "statewright",
    version,
    about = "A durable state-machine server: it never gets stuck, never runs twice, and can always say why."
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server with an SQLite file and the machines in ./machines; needs no key
    Dev(serve::DevArgs),
    /// Start the server for production: keys required, configured by statewright.toml, environment or flags
    Serve(serve::ServeArgs),
    /// Check definitions: every diagnostic with its place
    Check(check::CheckArgs),
    /// Draw a definition as a Mermaid or Graphviz diagram
    Diagram(diagram::DiagramArgs),
    /// Say what changed between two definitions, and which instances of a running server that touches
    Diff(diff::DiffArgs),
    /// Print the JSON Schema of definitions, by which editors complete and check them
    Schema,
    /// Make a definition of a machine of XState (JSON); what cannot be carried over is listed
    ImportDefinition(definition_formats::ImportArgs),
    /// Make a machine of XState (JSON) of a definition; what cannot be carried over is listed
    ExportDefinition(definition_formats::ExportArgs),
    /// Run stories
    Test(stories::TestArgs),
    /// Find the shortest stories that reach every state and take every transition
    Paths(paths::PathsArgs),
    /// Talk to a machine in the terminal, on a virtual clock, saving nothing
    Chat(chat::ChatArgs),
    /// Send a message to a running server
    Send(client::SendArgs),
    /// List the instances of a running server
    Ls(client::LsArgs),
    /// Show one instance, or the session of a subject, and its history
    Show(show::ShowArgs),
    /// Show the last transitions of a running server, and with -f those that come
    Tail(tail::TailArgs),
    /// Tell what happened in a session of a running server, as a story that `test` plays
    Story(story::StoryArgs),
    /// Bring in sessions of another system from a file, by a mapping, each once
    Import(import::ImportArgs),
    /// Take open instances of a running server to another version of their machine
    Migrate(migrate::MigrateArgs),
    /// Write sessions, flows, transitions, clarifications or phases of a running server into a file for analysis
    Export(export::ExportArgs),
    /// Write all of a running server, of every tenant, into one file
    Backup(backup::BackupArgs),
    /// Fill an empty store with what is in a backup
    Restore(backup::RestoreArgs),
    /// Read all of a backup, and say what is in it
    Verify(backup::VerifyArgs),
    /// Decide the past of instances of a running server again, and compare it with what is stored
    Replay(replay::ReplayArgs),
    /// Say what changed settings or a changed definition would have made of a running server's messages
    Reroute(reroute::RerouteArgs),
    /// Say what a version of a definition would have made of a running server's history
    Shadow(shadow::ShadowArgs),
    /// Say what an event or a message would do to an instance, and why
    Explain(client::ExplainArgs),
    /// Begin an instance of a machine of a running server
    Create(act::CreateArgs),
    /// Send an event to an instance of a running server
    Event(act::EventArgs),
    /// Put an instance of a running server into its safe state
    Recover(act::RecoverArgs),
    /// Show or set whom a machine of a running server answers, and what it would have answered the others
    Rollout(rollout::RolloutArgs),
    /// Begin, watch and move on phased flows of a running server
    Flow(flow::FlowArgs),
    /// List what could not be delivered, and try it again
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Say what is wrong with a running server or a store, and what to do about it
    Doctor(doctor::DoctorArgs),
    /// List and rotate the keys that secret fields are encrypted with
    Keys(keys::KeysArgs),
    /// Measure kernel, engine and HTTP beside a bare floor, in one run
    Bench(bench::BenchArgs),
}

/// Which machines to load, for every command that loads some.
#[derive(Debug, Args)]
pub(crate) struct MachineDirs {
    /// Folder with definitions; may be given several times [default: machines]
    #[arg(long = "machines", value_name = "DIR")]
    dirs: Vec<PathBuf>,
}

impl MachineDirs {
    /// The folders asked for, else `machines`.
    pub fn paths(&self) -> Vec<PathBuf> {
        if self.dirs.is_empty() { vec![PathBuf::from("machines")] } else { self.dirs.clone() }
    }
}

/// What ends a command badly: said on standard error, exit code 1.
#[derive(Debug)]
pub(crate) struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

pub(crate) type CommandResult = Result<ExitCode, Failure>;

pub fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Dev(args) => serve::dev(args),
        Command::Serve(args) => serve::serve(args),
        Command::Check(args) => check::check(&args),
        Command::Diagram(args) => diagram::diagram(&args),
        Command::Diff(args) => Ok(diff::diff(&args)),
        Command::Schema => schema::schema(),
        Command::ImportDefinition(args) => definition_formats::import(&args),
        Command::ExportDefinition(args) => definition_formats::export(&args),
        Command::Test(args) => stories::test(&args),
        Command::Paths(args) => paths::paths(&args),
        Command::Chat(args) => chat::chat(&args),
        Command::Send(args) => client::send(&args),
        Command::Ls(args) => client::ls(&args),
        Command::Show(args) => show::show(&args),
        Command::Tail(args) => tail::tail(&args),
        Command::Story(args) => story::story(&args),
        Command::Import(args) => import::import(&args),
        Command::Migrate(args) => migrate::migrate(&args),
        Command::Export(args) => export::export(&args),
        Command::Backup(args) => backup::backup(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Verify(args) => backup::verify(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Reroute(args) => reroute::reroute(&args),
        Command::Shadow(args) => shadow::shadow(&args),
        Command::Explain(args) => client::explain(&args),
        Command::Create(args) => act::create(&args),
        Command::Event(args) => act::event(&args),
        Command::Recover(args) => act::recover(&args),
        Command::Rollout(args) => rollout::rollout(&args),
        Command::Flow(args) => flow::flow(&args),
        Command::DeadLetters(args) => dead_letters::dead_letters(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Keys(args) => keys::keys(&args),
        Command::Bench(args) => bench::bench(&args),
    };
    // What was logged comes before what went wrong.
    telemetry::flush();
    result.unwrap_or_else(|Failure(message)| {
        eprintln!("statewright: {message}");
        ExitCode::FAILURE
    })
}
