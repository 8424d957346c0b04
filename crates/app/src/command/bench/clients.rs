//! Clients over HTTP: a connection each, one message at a time, as cheap as they can be made.
//!
//! They share the machine with the server, so all of them are tasks of one thread, with bare sockets and a search for
//! the end of an answer. They send the six messages of a conversation, then begin another as somebody else; or one message
//! as anybody whose conversation has stopped in the middle.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::command::Failure;
use crate::command::bench::conversation::{TURNS, words};
use crate::command::bench::line::Round;

/// Nothing may take so long; a message that was lost must not hold the benchmark for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// What of all the time each client must have spent waiting, or it is not the server that is measured.
const WAITING_MIN: f64 = 0.9;

/// Who says something.
#[derive(Clone, Copy, Debug)]
pub(super) enum People {
    /// Somebody new for each conversation, numbered from `first`.
    New { first: usize },
    /// Of so many people, whose numbers are multiples of `every`, anybody for each message.
    Met { every: usize, count: usize },
}

/// A message with whom it is from; its key is the letter with the number.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    user: usize,
    key: (char, usize),
    text: &'static str,
}

impl People {
    /// What is said in one go, the `number`th of all.
    fn messages(self, number: usize) -> impl Iterator<Item = Said> {
        let turns = match self {
            Self::New { .. } => 0..TURNS,
            // What they can say any number of times.
            Self::Met { .. } => 3..4,
        };
        turns.map(move |turn| match self {
            Self::New { first } => Said { user: first + number, key: ('m', turn), text: words(turn) },
            Self::Met { every, count } => {
                let user = scattered(number) % count * every;
                Said { user, key: ('r', number), text: words(turn) }
            }
        })
    }
}

/// Numbers in a row become numbers all over the place (the finalizer of SplitMix64).
fn scattered(number: usize) -> usize {
    let mut z = (number as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 1) as usize
}

#[derive(Debug)]
pub(super) struct Clients {
    runtime: Runtime,
    address: SocketAddr,
    count: usize,
    people: People,
    said: Arc<AtomicUsize>,
}

impl Clients {
    pub fn of(address: SocketAddr, count: usize) -> Result<Self, Failure> {
        Self::among(address, count, People::New { first: 0 })
    }

    pub fn among(address: SocketAddr, count: usize, people: People) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, address, count, people, said: Arc::default() })
    }

    /// One message, and its answer.
    pub fn first(&self) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let stream = TcpStream::connect(self.address).await?;
            client(stream, self.people, Arc::clone(&self.said), Instant::now()).await.map(drop)
        })
    }

    /// All connect, and then all send at once. What was spent and how it was grouped is for the caller to say.
    pub fn round(&mut self, time: Duration) -> Result<Round, Failure> {
        let Self { runtime, address, count, people, said } = self;
        runtime.block_on(async {
            let mut streams = Vec::new();
            for _ in 0..*count {
                let stream = TcpStream::connect(*address).await?;
                stream.set_nodelay(true)?;
                streams.push(stream);
            }
            let started = Instant::now();
            let mut clients = JoinSet::new();
            for stream in streams {
                clients.spawn(client(stream, *people, Arc::clone(said), started + time));
            }
            let mut latencies_us = Vec::new();
            while let Some(ended) = clients.join_next().await {
                latencies_us.extend(ended??);
            }
            let round = Round {
                events: latencies_us.len(),
                elapsed: started.elapsed(),
                latencies_us,
                is_awaited: true,
                ..Round::default()
            };
            check_waiting(&round, *count)?;
            Ok(round)
        })
    }

    /// The body of an answer to a GET.
    pub fn get(&self, path: &str) -> Result<String, Failure> {
        self.runtime.block_on(async {
            let mut stream = TcpStream::connect(self.address).await?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await??;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        })
    }
}

/// That each client really had one message under way nearly all the time.
fn check_waiting(round: &Round, clients: usize) -> Result<(), Failure> {
    let waited: f64 = round.latencies_us.iter().map(|us| f64::from(*us) / 1e6).sum();
    let in_flight = waited / round.elapsed.as_secs_f64();
    match in_flight >= clients as f64 * WAITING_MIN {
        true => Ok(()),
        false => Err(Failure(format!("of {clients} clients, only {in_flight:.0} had a message under way"))),
    }
}

async fn client(
    mut stream: TcpStream,
    people: People,
    said: Arc<AtomicUsize>,
    until: Instant,
) -> Result<Vec<u32>, Failure> {
    let (mut latencies, mut request, mut answer) = (Vec::new(), Vec::new(), Vec::with_capacity(8_192));
    loop {
        for Said { user, key: (letter, number), text } in
            people.messages(said.fetch_add(1, Ordering::Relaxed))
        {
            request.clear();
            write!(
                request,
                "POST /v1/machines/progress_update/sessions/user-{user}/messages HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{{\"message_id\":\"{letter}{number}\",\"text\":\"{text}\"}}",
                r#"{"message_id":"m","text":""}"#.len() + decimals(number) + text.len()
            )?;
            let sent = Instant::now();
            stream.write_all(&request).await?;
            read_answer(&mut stream, &mut answer).await?;
            latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
            if Instant::now() >= until {
                return Ok(latencies);
            }
        }
    }
}

fn decimals(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Reads one answer to its end, and insists on a 200.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<(), Failure> {
    answer.clear();
    loop {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(answer)).await;
        match read.map_err(|_| Failure("the server left a message of the benchmark unanswered".into()))? {
            Ok(0) => return Err(Failure("the server closed a connection of the benchmark".into())),
            read => read?,
        };
        if !is_whole(answer) {
            continue;
        }
        if answer.starts_with(b"HTTP/1.1 200") {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(answer);
        return Err(Failure(format!("the server answered the benchmark with {shown}")));
    }
}

/// Whether all is there that the length in its head promises. Servers write the names of headers in small letters.
fn is_whole(answer: &[u8]) -> bool {
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    let find = |what: &[u8]| answer.windows(what.len()).position(|window| window == what);
    let Some(end) = find(b"\r\n\r\n") else {
        return false;
    };
    let length = find(LENGTH).filter(|at| *at < end).map_or(0, |at| {
        let digits = answer[at + LENGTH.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
    });
    answer.len() >= end + 4 + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is_there() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 12\r\nx: y\r\n\r\n123456789012", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 12\r\nx: y\r\n\r\n12345678901", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 12\r\nx: y\r\n", false),
            ("HTTP/1.1 204 No Content\r\n\r\n", true),
            ("HTTP/1.1 204 No Content\r\n\r\n\r\ncontent-length: 99", true),
            ("", false),
        ] {
            assert_eq!(is_whole(answer.as_bytes()), expected, "{answer:?}");
        }
    }

    #[test]
    fn new_people_hold_conversations_and_others_are_found_all_over_the_place() {
        let new: Vec<Said> = People::New { first: 40 }.messages(2).collect();
        assert_eq!(new.len(), TURNS);
        assert_eq!(new[4], Said { user: 42, key: ('m', 4), text: words(4) });
        let met = People::Met { every: 11, count: 100 };
        let met: Vec<Said> = (0..1_000).flat_map(|number| met.messages(number)).collect();
        assert!(met.iter().all(|said| said.user % 11 == 0 && said.user < 1_100));
        let users: std::collections::BTreeSet<usize> = met.iter().map(|said| said.user).collect();
        assert!(met.len() == 1_000 && users.len() > 95, "{} of {}", users.len(), met.len());
    }

    #[test]
    fn clients_that_do_not_wait_are_found_out() {
        let round =
            |latencies_us| Round { elapsed: Duration::from_secs(1), latencies_us, ..Round::default() };
        assert!(check_waiting(&round(vec![950_000, 980_000]), 2).is_ok());
        assert!(check_waiting(&round(vec![950_000, 700_000]), 2).is_err());
    }
}
