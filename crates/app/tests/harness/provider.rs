//! A provider, or somebody's own server, on this machine: it remembers what it was asked and does what it is told.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// As text, where it is that.
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    /// A field of a form.
    pub fn field(&self, name: &str) -> String {
        let found = form_urlencoded::parse(self.body.as_bytes()).find(|(found, _)| found == name);
        found.unwrap_or_else(|| panic!("no {name} in {}", self.body)).1.into_owned()
    }
}

/// What it does about a request.
#[derive(Clone, Debug)]
pub enum Does {
    Answers(u16, Value),
    /// With a header besides.
    Says(u16, &'static str, &'static str, Value),
    /// Answers once the test says so, by `let_go`.
    Waits(Value),
    /// Closes the connection in the middle of the answer.
    BreaksOff(Value),
    /// It reads the request and closes the connection.
    Closes,
    /// It reads the request and says nothing for as long as the connection lives.
    Hangs,
}

type Otherwise = Box<dyn Fn(&Seen, usize) -> Does + Send + Sync>;

#[derive(Default)]
struct Memory {
    seen: Mutex<Vec<Seen>>,
    news: Condvar,
    script: Mutex<VecDeque<Does>>,
    /// Whether answers that wait have to wait on.
    held: Mutex<bool>,
}

pub struct Provider {
    pub port: u16,
    memory: Arc<Memory>,
}

impl Provider {
    /// One that does the same about every request, unless it was told otherwise. It is given the request and its number,
    /// from 1.
    pub fn doing(otherwise: impl Fn(&Seen, usize) -> Does + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), Box::new(otherwise))
    }

    /// One that comes back on a port that was left before.
    pub fn back_at(port: u16, otherwise: impl Fn(&Seen, usize) -> Does + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind(("127.0.0.1", port)).unwrap(), Box::new(otherwise))
    }

    fn on(listener: TcpListener, otherwise: Otherwise) -> Self {
        let port = listener.local_addr().unwrap().port();
        let memory: Arc<Memory> = Arc::default();
        let (kept, otherwise) = (Arc::clone(&memory), Arc::new(otherwise));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (memory, otherwise) = (Arc::clone(&kept), Arc::clone(&otherwise));
                std::thread::spawn(move || attend(stream.unwrap(), &memory, &**otherwise));
            }
        });
        Self { port, memory }
    }

    /// Meta's Graph API: the first message is called `wamid.sent.1`.
    pub fn meta() -> Self {
        Self::doing(|_, n| Does::Answers(200, json!({ "messages": [{ "id": format!("wamid.sent.{n}") }] })))
    }

    /// Somebody who is content with everything.
    pub fn content() -> Self {
        Self::doing(|_, _| Does::Answers(200, json!({})))
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it does about the next requests, one after another, before it goes on as always.
    pub fn next(&self, does: impl IntoIterator<Item = Does>) {
        *self.memory.held.lock().unwrap() = true;
        self.memory.script.lock().unwrap().extend(does);
    }

    pub fn let_go(&self) {
        *self.memory.held.lock().unwrap() = false;
        self.memory.news.notify_all();
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.memory.seen.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.memory.seen.lock().unwrap().len()
    }

    /// All requests, once there are as many as that.
    pub fn wait(&self, count: usize) -> Vec<Seen> {
        let until = Instant::now() + PATIENCE;
        let mut seen = self.memory.seen.lock().unwrap();
        while seen.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} requests instead of {count}: {seen:#?}", seen.len());
            seen = self.memory.news.wait_timeout(seen, left).unwrap().0;
        }
        assert!(seen.len() == count, "{} requests instead of {count}: {seen:#?}", seen.len());
        seen.clone()
    }

    /// The last request, which is the one of this number.
    pub fn nth(&self, number: usize) -> Seen {
        self.wait(number).pop().unwrap()
    }
}

/// Asks again and again until it is so.
pub fn until(is_so: impl Fn() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < limit, "it has not come to be so");
    }
}

/// A port on which nobody listens.
pub fn deserted_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn attend(stream: TcpStream, memory: &Memory, otherwise: &(dyn Fn(&Seen, usize) -> Does + Send + Sync)) {
    let mut reader = BufReader::new(stream);
    while let Some(seen) = read(&mut reader) {
        let number = {
            let mut all = memory.seen.lock().unwrap();
            all.push(seen.clone());
            all.len()
        };
        let told = memory.script.lock().unwrap().pop_front();
        memory.news.notify_all();
        let (status, header, body) = match told.unwrap_or_else(|| otherwise(&seen, number)) {
            Does::Answers(status, body) => (status, String::new(), body),
            Does::Says(status, name, value, body) => (status, format!("{name}: {value}\r\n"), body),
            Does::Waits(body) => {
                let held = memory.held.lock().unwrap();
                let held = memory.news.wait_timeout_while(held, PATIENCE, |held| *held).unwrap().0;
                drop(held);
                (200, String::new(), body)
            }
            Does::BreaksOff(body) => {
                let body = body.to_string();
                let head = format!("HTTP/1.1 200 Said\r\ncontent-length: {}\r\n\r\n", body.len());
                // Whoever reads it sees how it ends.
                let _ = reader.get_mut().write_all((head + &body[..body.len() / 2]).as_bytes());
                return;
            }
            Does::Closes => return,
            Does::Hangs => {
                // Until the other end gives up.
                let _ = reader.read(&mut [0]);
                return;
            }
        };
        let body = body.to_string();
        let length = if status == 202 { 0 } else { body.len() };
        let head = format!("HTTP/1.1 {status} Said\r\n{header}content-length: {length}\r\n\r\n");
        if reader.get_mut().write_all((head + &body[..length]).as_bytes()).is_err() {
            return;
        }
    }
}

/// `None` at the end of the connection.
fn read(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split_whitespace().nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).ok()?;
    Some(Seen { path, headers, body: String::from_utf8_lossy(&bytes).into_owned(), bytes })
}
