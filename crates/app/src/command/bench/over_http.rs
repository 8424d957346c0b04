//! The whole server over HTTP on loopback: clients with a connection each, one message at a time.
//!
//! The clients share the machine with the server, as bare as they can be made: a blocking socket and a search for the
//! end of the answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use store::Store;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::accept::{self, Limits};
use crate::access::Access;
use crate::command::Failure;
use crate::command::bench::conversation::{TURNS, engine, words};
use crate::command::bench::{Line, percentiles};
use crate::http::{self, App};

pub(super) fn measure(store: Arc<dyn Store>, clients: usize, time: Duration) -> Result<Line, Failure> {
    let app = Arc::new(App::new(engine(store)?, Access::Open, "http://localhost".into(), Arc::default()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let (stop_server, stopped) = oneshot::channel::<()>();
    let router = http::router(Arc::clone(&app));
    let server = runtime.spawn(accept::serve(listener, router, Limits::default(), async {
        let _ = stopped.await;
    }));
    let users = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let started = Instant::now();
    let results: Vec<Result<Vec<u32>, Failure>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(|| client(address, &users, &stop))).collect();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let lost = || Err(Failure("a client of the benchmark died".into()));
        clients.into_iter().map(|client| client.join().unwrap_or_else(|_| lost())).collect()
    });
    let elapsed = started.elapsed().as_secs_f64();
    let _ = stop_server.send(());
    runtime.block_on(server).map_err(|error| Failure(error.to_string()))?;
    let mut latencies = Vec::new();
    for result in results {
        latencies.extend(result?);
    }
    let count = latencies.len() as f64;
    let (p50_ms, p99_ms) = percentiles(&mut latencies);
    let group = Some(count / app.engine.metrics().batches().max(1) as f64);
    let what = format!("server: durable messages over HTTP, {clients} clients");
    Ok(Line { p50_ms, p99_ms, group, ..Line::rate(&what, count / elapsed) })
}

fn client(address: SocketAddr, users: &AtomicUsize, stop: &AtomicBool) -> Result<Vec<u32>, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::new();
    let mut buffer = Vec::with_capacity(8_192);
    while !stop.load(Ordering::Relaxed) {
        let user = users.fetch_add(1, Ordering::Relaxed);
        for turn in 0..TURNS {
            let body = format!("{{\"message_id\":\"m{turn}\",\"text\":\"{}\"}}", words(turn));
            let request = format!(
                "POST /v1/machines/progress_update/sessions/user-{user}/messages HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let sent = Instant::now();
            stream.write_all(request.as_bytes())?;
            read_answer(&mut stream, &mut buffer)?;
            latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
    Ok(latencies)
}

/// Reads one answer to its end, which its content-length tells, and insists on a 200.
fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    buffer.clear();
    let mut chunk = [0_u8; 8_192];
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err(Failure("the server closed a connection of the benchmark".into()));
        }
        buffer.extend_from_slice(&chunk[..read]);
        let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if buffer.len() < end + 4 + length.unwrap_or(0) {
            continue;
        }
        if head.starts_with("http/1.1 200") {
            return Ok(());
        }
        return Err(Failure(format!(
            "the server answered the benchmark with {}",
            head.lines().next().unwrap_or("")
        )));
    }
}
