//! An archive of the whole store, of all tenants, sent as it is written.

use std::io::{Error, ErrorKind, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use kernel::time::Timestamp;
use store::KeyedStore;
use store::archive;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Sender, channel};

use crate::http::Shared;
use crate::http::export::{CHUNK_BYTES, CHUNKS_MAX, Streamed};
use crate::http::identify::peer;
use crate::http::problem::Problem;
use crate::http::request;

/// Who takes nothing for so long is gone: what the store keeps for whoever reads it goes on growing meanwhile.
const READER_PATIENCE: Duration = Duration::from_secs(60);

pub async fn get(State(app): State<Shared>, parts: Parts) -> Result<Response, Problem> {
    let authorization = request::text(&parts.headers, "authorization")?;
    let address = app.access.rates.address(peer(&parts.extensions), &parts.headers);
    app.access.check_backup(app.backup_key.as_ref(), authorization, address)?;
    let store = app.keys.clone().ok_or_else(Problem::internal)?;
    let now = app.engine.clock().now();
    let (sender, receiver) = channel(CHUNKS_MAX);
    tokio::task::spawn_blocking(move || send(&store, now, sender));
    let mut response = Response::new(Body::new(Streamed::new(receiver)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

fn send(store: &Arc<KeyedStore>, now: Timestamp, to: Sender<Result<Bytes, String>>) {
    let chunks = Chunks { chunk: Vec::with_capacity(CHUNK_BYTES), to: to.clone() };
    let written = archive::write(store, now, chunks, &mut |_| match to.is_closed() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    let sent = written.map_err(|problem| problem.to_string()).and_then(|(mut chunks, trailer)| {
        chunks.flush().map_err(|error| error.to_string())?;
        Ok(trailer)
    });
    match sent {
        Ok(trailer) => tracing::info!(instances = trailer.counts.instances, "a backup was taken"),
        Err(problem) => {
            tracing::warn!("a backup was not finished: {problem}");
            // Whoever has gone away needs no end.
            let _ = to.blocking_send(Err(problem));
        }
    }
}

/// What is written to it goes to whoever reads the response, a chunk at a time.
struct Chunks {
    chunk: Vec<u8>,
    to: Sender<Result<Bytes, String>>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        let sent = async { tokio::time::timeout(READER_PATIENCE, self.to.send(Ok(chunk.into()))).await };
        match Handle::current().block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Error::new(ErrorKind::BrokenPipe, "whoever asked for it has gone")),
            Err(_) => Err(Error::new(ErrorKind::TimedOut, "whoever asked for it takes nothing of it")),
        }
    }
}
