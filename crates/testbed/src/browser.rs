//! A private driver of browsers: chromedriver, on a free port, which starts a Chromium for each session that is asked
//! of it (WebDriver, a W3C recommendation). What is done in a session is the test's, with a client of its own.

use std::net::TcpStream;
use std::process::Command;

use crate::process::{Process, Signals};
use crate::program::chromedriver;
use crate::{Error, Settings};

/// It ends its browsers itself when it is asked to end.
const SIGNALS: Signals = Signals { stop: "TERM", end: "KILL" };

/// What Chromium is started with: without a window, and asking nobody outside anything.
pub const ARGUMENTS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
];

/// A driver; it ends, and all its browsers end, with the value.
#[derive(Debug)]
pub struct Browser {
    _process: Process,
    port: u16,
}

impl Browser {
    /// Starts the driver; no browser yet.
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        let program = chromedriver()?;
        let process = Process::new("Chromedriver", SIGNALS, settings)?;
        let command = |port: u16| {
            let mut command = Command::new(&program);
            command.arg(format!("--port={port}"));
            Ok(command)
        };
        let is_ready = |port: u16, _| TcpStream::connect(("127.0.0.1", port)).is_ok();
        let port = process.start_on_free_port(command, is_ready)?;
        Ok(Self { _process: process, port })
    }

    /// Where WebDriver is spoken.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
