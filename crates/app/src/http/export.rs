//! Tables for analysis, as one line of JSON for each row, sent as they are read.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::Response;
use bytes::Bytes;
use http_body::Frame;
use kernel::id::MachineName;
use kernel::time::Timestamp;
use serde::Deserialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::export::{self, Table, Wanted};
use crate::http::problem::Problem;
use crate::http::request::{Asked, Caller, Segments};
use crate::http::{App, Shared};

/// Sent at a time.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for a reader who is slow; then the store waits too.
pub(super) const CHUNKS_MAX: usize = 4;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    machine: Option<MachineName>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

pub async fn get(
    State(app): State<Shared>,
    Segments(table): Segments<String>,
    caller: Caller,
    Asked(asked): Asked<ExportQuery>,
) -> Result<Response, Problem> {
    let table = Table::parse(&table).map_err(Problem::not_found)?;
    let ExportQuery { machine, since, until } = asked;
    if let Some(machine) = &machine {
        app.engine.machines().current_for(&caller.tenant, machine)?;
    }
    let sight = caller.sight();
    let wanted = Wanted { table, tenant: caller.tenant, machine, sight, since, until };
    let (sender, receiver) = channel(CHUNKS_MAX);
    tokio::task::spawn_blocking(move || send(&app, &wanted, &sender));
    let mut response = Response::new(Body::new(Streamed(receiver)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// Ends early when nobody reads any more.
fn send(app: &App, wanted: &Wanted, to: &Sender<Result<Bytes, String>>) {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    let read = export::rows(&app.engine, wanted, &mut |row| {
        chunk.extend_from_slice(&row);
        chunk.push(b'\n');
        if chunk.len() < CHUNK_BYTES {
            return ControlFlow::Continue(());
        }
        match to.blocking_send(Ok(std::mem::take(&mut chunk).into())) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    let last = match read {
        Ok(()) => Ok(chunk.into()),
        Err(error) => {
            tracing::warn!(table = wanted.table.name(), "failed to export all of it: {error}");
            Err(error.to_string())
        }
    };
    // Whoever has gone away needs no end.
    let _ = to.blocking_send(last);
}

/// A body whose end is an error if not all of it was read: the connection then breaks off, and nobody takes a part for
/// the whole.
#[derive(Debug)]
pub(super) struct Streamed(Receiver<Result<Bytes, String>>);

impl Streamed {
    pub fn new(receiver: Receiver<Result<Bytes, String>>) -> Self {
        Self(receiver)
    }
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        self.0.poll_recv(context).map(|received| received.map(|chunk| chunk.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::io::{Read, Write};
    use std::net::TcpStream;

    use axum::Router;
    use axum::routing::get;

    use super::*;

    /// What a client reads of a body that ends so, up to the end of the connection.
    fn read(last: Result<Bytes, String>) -> String {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let answer = move || {
            let (sender, receiver) = channel(CHUNKS_MAX);
            sender.try_send(Ok("{}\n".into())).unwrap();
            sender.try_send(last.clone()).unwrap();
            std::future::ready(Body::new(Streamed(receiver)))
        };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, Router::new().route("/", get(answer))).await });
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut told = Vec::new();
        // A connection that is reset has told what it has.
        let _ = stream.read_to_end(&mut told);
        String::from_utf8(told).unwrap()
    }

    #[test]
    fn a_body_that_was_not_read_to_its_end_does_not_look_whole() {
        const END: &str = "\r\n0\r\n\r\n";
        assert!(read(Ok("{}\n".into())).ends_with(END));
        let broken = read(Err("the store is gone".into()));
        assert!(!broken.ends_with(END), "{broken}");
    }
}
