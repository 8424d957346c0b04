//! Free ports on loopback, for a server and for the bus between the nodes of a cluster.
//!
//! Invariant: never a port that the system gives to outgoing connections (32768 and above on Linux), so that nobody
//! takes a server's port while the server is down.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Error;

/// The first port that is tried.
const FIRST: u32 = 10_000;

/// How many ports there are to try; the bus of the last one is still below the outgoing connections' ports.
const COUNT: u32 = 12_700;

/// What Redis adds to a node's port to have that of its bus.
const BUS_OFFSET: u32 = 10_000;

/// A port that is free now, and free with it the one of its bus. Somebody may be quicker to use it: try another then.
pub fn free_port() -> Result<u16, Error> {
    static ORDINAL: AtomicU32 = AtomicU32::new(0);
    // Processes that start at once look at different places.
    let start = process::id().wrapping_mul(61) % COUNT;
    for _ in 0..COUNT {
        let ordinal = ORDINAL.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start + ordinal % COUNT) % COUNT;
        if let (Some(port), Some(_)) = (if_free(port), if_free(port + BUS_OFFSET)) {
            return Ok(port);
        }
    }
    Err(Error::new(format!("no port from {FIRST} to {} is free on 127.0.0.1", FIRST + COUNT - 1)))
}

fn if_free(port: u32) -> Option<u16> {
    let port = u16::try_from(port).ok()?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|_| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_lie_below_those_of_outgoing_connections() {
        let ports: Vec<u16> = (0..20).map(|_| free_port().unwrap()).collect();
        let mut distinct = ports.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), ports.len());
        assert!(ports.iter().all(|port| u32::from(*port) + BUS_OFFSET < 32_768), "{ports:?}");
    }
}
