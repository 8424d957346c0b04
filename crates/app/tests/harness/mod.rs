//! A real server process on a free port, and a client that asks it as anybody would.
#![allow(clippy::unwrap_used, reason = "a harness that cannot go on fails the test")]
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod browser;
pub mod days;
pub mod outside;
pub mod provider;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;

pub struct Server {
    child: Mutex<Child>,
    pub url: String,
}

/// Status, headers that matter, and the body as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub replayed: bool,
    pub etag: Option<String>,
    pub retry_after: Option<u32>,
    pub content_type: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

impl Server {
    /// `dev` over a database file, with whatever else is asked for.
    pub fn dev(store: &Path, more: &[&str]) -> Self {
        let store = format!("sqlite:{}", store.display());
        let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
        let mut arguments = vec!["dev", "--listen", "127.0.0.1:0", "--store", &store, "--machines", machines];
        arguments.extend(more);
        Self::start(&arguments, &[])
    }

    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_until(arguments, environment, "").0
    }

    /// Starts, and what is said on standard output up to the line with `last` in it.
    pub fn start_and_tell(arguments: &[&str], last: &str) -> (Self, String) {
        Self::start_until(arguments, &[], last)
    }

    fn start_until(arguments: &[&str], environment: &[(&str, &str)], last: &str) -> (Self, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_statewright"))
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (mut told, mut line) = (String::new(), String::new());
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while stdout.read_line(&mut line).unwrap() > 0 {
            told.push_str(&line);
            if std::mem::take(&mut line).contains(last) {
                break;
            }
        }
        let first = told.lines().next().unwrap_or_default();
        let at = first
            .find("http://")
            .or(first.find("https://"))
            .unwrap_or_else(|| panic!("no address on the first line: {told:?}"));
        let url = first[at..].trim().to_owned();
        (Self { child: Mutex::new(child), url }, told)
    }

    pub fn get(&self, path: &str) -> Answer {
        answer(agent().get(format!("{}{path}", self.url)).call()).unwrap()
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = agent().get(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.call()).unwrap()
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.try_post(path, body, &[]).unwrap()
    }

    pub fn put(&self, path: &str, body: &str) -> Answer {
        self.put_with(path, body, &[])
    }

    pub fn put_with(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request =
            agent().put(format!("{}{path}", self.url)).header("content-type", "application/yaml");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body)).unwrap()
    }

    pub fn delete_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = agent().delete(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.call()).unwrap()
    }

    pub fn post_with(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_post(path, body, headers).unwrap()
    }

    pub fn try_post(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Result<Answer, ureq::Error> {
        let mut request = agent().post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body))
    }

    /// A message of `subject` to the shipped progress update.
    pub fn say(&self, subject: &str, id: &str, text: &str) -> Answer {
        let body = serde_json::json!({"message_id": id, "text": text}).to_string();
        self.post(&messages(subject), &body)
    }

    /// kill -9, while others still talk to it. It is gone afterwards, and its lock on the store with it.
    pub fn kill_now(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        let child = self.child.lock().unwrap();
        assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap().success());
    }

    /// SIGTERM; whether it ended well.
    pub fn terminate(self) -> bool {
        let mut child = self.child.lock().unwrap();
        let sent = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        sent.success() && child.wait().unwrap().success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already, in the tests that end it themselves.
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

pub fn messages(subject: &str) -> String {
    format!("/v1/machines/progress_update/sessions/{subject}/messages")
}

/// A request as it stands on the wire, for what a library would add or follow; the answer as it comes.
pub fn raw(server: &Server, request: &str, headers: &str, body: &str) -> String {
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let host = if headers.contains("host: ") { String::new() } else { format!("host: {address}\r\n") };
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\n{host}connection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

pub fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, ureq::Error> {
    let mut response = response?;
    let header = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    let (replayed, etag) = (header("idempotent-replayed").is_some(), header("etag"));
    let retry_after = header("retry-after").and_then(|seconds| seconds.parse().ok());
    let content_type = header("content-type").unwrap_or_default();
    let status = response.status().as_u16();
    Ok(Answer {
        status,
        body: response.body_mut().read_to_string()?,
        replayed,
        etag,
        retry_after,
        content_type,
    })
}
