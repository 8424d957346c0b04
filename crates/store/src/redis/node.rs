//! One server: its connections, and calls on one of them.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{Client, Connection, ConnectionInfo, ConnectionLike, RedisResult, Value};

use crate::redis::failure::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Longer than a disk takes that has stalled for a moment; an answer that comes later is not waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that was idle for longer is asked whether it is still there, so that a server that was started anew costs
/// nobody an input.
const TRUSTED_FOR: Duration = Duration::from_millis(100);

pub(super) struct Node {
    pub address: String,
    info: ConnectionInfo,
    idle: Mutex<Vec<(Connection, Instant)>>,
    idle_max: usize,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Node {
    pub fn new(info: ConnectionInfo, idle_max: usize) -> Self {
        Self { address: info.addr().to_string(), info, idle: Mutex::default(), idle_max }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that can be used. Nothing has been sent when there is none.
    pub fn take(&self) -> Result<Connection, Failure> {
        loop {
            let newest = self.idle().pop();
            let Some((mut connection, since)) = newest else {
                return self.connect().map_err(|error| Failure::NotRun(format!("{}: {error}", self.address)));
            };
            if since.elapsed() < TRUSTED_FOR || connection.check_connection() {
                return Ok(connection);
            }
            self.idle().clear();
        }
    }

    fn connect(&self) -> RedisResult<Connection> {
        let connection = Client::open(self.info.clone())?.get_connection_with_timeout(CONNECT_TIMEOUT)?;
        connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(connection)
    }

    /// Takes back a connection on which nothing is under way.
    pub fn give_back(&self, connection: Connection) {
        let mut idle = self.idle();
        if idle.len() < self.idle_max {
            idle.push((connection, Instant::now()));
        }
    }

    /// What befell one connection has befallen the others.
    pub fn broke(&self) {
        self.idle().clear();
    }
}

/// The next `count` answers.
pub(super) fn answers(connection: &mut Connection, count: usize) -> RedisResult<Vec<Value>> {
    (0..count).map(|_| connection.recv_response()).collect()
}
