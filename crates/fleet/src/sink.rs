//! Whom the servers call and tell: a receiver on loopback that remembers what has come, by idempotency key.
//!
//! Takes its time now and then, so that a server that is killed is killed in the middle of deliveries, and turns some
//! calls away at first, so that they are tried again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What has come under one key.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// Its place among the first arrivals of all keys.
    pub first: usize,
    pub times: u32,
    /// Whether it was ever answered with success.
    pub taken: bool,
    /// What it said the first time, without what differs at each attempt.
    pub said: String,
    /// Whether it ever said something else.
    pub changed: Option<String>,
}

#[derive(Debug, Default)]
struct Memory(Mutex<BTreeMap<String, Delivery>>);

/// Ends with the process; what it holds is small.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    memory: Arc<Memory>,
    port: u16,
}

impl Sink {
    pub fn start() -> Result<Self, String> {
        let listener =
            TcpListener::bind("127.0.0.1:0").map_err(|error| format!("failed to listen: {error}"))?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let sink = Self { memory: Arc::default(), port };
        let memory = Arc::clone(&sink.memory);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let memory = Arc::clone(&memory);
                thread::spawn(move || serve(&stream, &memory));
            }
        });
        Ok(sink)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn deliveries(&self) -> BTreeMap<String, Delivery> {
        self.memory.all().clone()
    }
}

impl Memory {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Delivery>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an arrival; how often its key has come by now.
    fn note(&self, key: &str, said: &Value) -> u32 {
        let said = json!({ "type": said["type"], "data": said["data"] }).to_string();
        let mut all = self.all();
        let first = all.len();
        let delivery = all.entry(key.to_owned()).or_insert_with(|| Delivery {
            first,
            times: 0,
            taken: false,
            said: said.clone(),
            changed: None,
        });
        delivery.times += 1;
        if delivery.said != said {
            delivery.changed = Some(said);
        }
        delivery.times
    }

    fn note_taken(&self, key: &str) {
        if let Some(delivery) = self.all().get_mut(key) {
            delivery.taken = true;
        }
    }
}

/// One connection, to its end.
fn serve(stream: &TcpStream, memory: &Memory) {
    let mut reader = BufReader::new(stream);
    while let Some((key, body)) = read_request(&mut reader) {
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let times = memory.note(&key, &said);
        let chance: usize = key.bytes().map(usize::from).sum();
        // Now and then a receiver takes its time, so that servers die while they wait for it.
        thread::sleep(Duration::from_millis(if chance.is_multiple_of(4) { 60 } else { 0 }));
        let call = &said["data"]["input"]["n"];
        let (status, answer) = match (call.as_u64(), times) {
            // A webhook that is turned away twice waits for minutes: only calls are.
            (Some(_), 1) if chance.is_multiple_of(16) => ("503 Service Unavailable", "{}".to_owned()),
            (Some(n), _) => ("200 OK", json!({ "n": n }).to_string()),
            (None, _) => ("200 OK", "{}".to_owned()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        let mut stream = stream;
        if stream.write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
        if status.starts_with('2') {
            memory.note_taken(&key);
        }
    }
}

/// The idempotency key and the body; none at the end of the connection.
fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut key, mut length, mut line) = (String::new(), 0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "webhook-id" => value.trim().clone_into(&mut key),
            "content-length" => length = value.trim().parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((key, body))
}
