//! The connections of a store: so many at most, each for one caller at a time.
//!
//! Owns who waits for one and which are good enough to be used again. A connection that somebody has left within a
//! transaction, or that has ended, is closed; the next caller opens another.

use std::ops::Deref;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::postgres::address::Address;
use crate::postgres::failure::Trouble;
use crate::postgres::link::{Hat, Link};

#[derive(Debug)]
pub(super) struct Pool {
    address: Address,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Link>,
    /// Idle and in use.
    open: usize,
}

/// A connection for as long as this is held.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    link: Option<Link>,
    is_spoiled: bool,
}

impl Pool {
    pub(super) fn new(address: Address) -> Self {
        Self { address, state: Mutex::default(), freed: Condvar::new() }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// A connection that works, with that hat on.
    pub(super) fn take(&self, hat: Hat) -> Result<Lease<'_>, Trouble> {
        loop {
            let Some(link) = self.idle_or_room(hat)? else { break };
            let mut lease = Lease { pool: self, link: Some(link), is_spoiled: true };
            let is_good =
                lease.link.as_mut().is_some_and(|link| !link.is_closed() && link.put_on(hat).is_ok());
            if is_good {
                lease.is_spoiled = false;
                return Ok(lease);
            }
        }
        // From here on there is room for one, and the lease gives it back if none can be opened.
        let mut lease = Lease { pool: self, link: None, is_spoiled: true };
        let mut link = Link::open(&self.address)?;
        link.put_on(hat)?;
        lease.link = Some(link);
        lease.is_spoiled = false;
        Ok(lease)
    }

    /// An idle connection, or nothing when there is room for another, which counts from then on.
    fn idle_or_room(&self, hat: Hat) -> Result<Option<Link>, Trouble> {
        let options = &self.address.options;
        let until = Instant::now() + options.patience;
        let mut state = self.state();
        loop {
            // Rather one that has the hat on already: the other way costs a round trip.
            let fitting = state.idle.iter().rposition(|link| link.hat() == hat);
            let has_room = state.open < options.connections;
            if let Some(place) = fitting {
                return Ok(Some(state.idle.swap_remove(place)));
            }
            if has_room {
                state.open += 1;
                return Ok(None);
            }
            if let Some(link) = state.idle.pop() {
                return Ok(Some(link));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let detail = format!("all {} connections are in use", options.connections);
                return Err(Trouble::NoLink(detail));
            }
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    /// Whatever was begun on it may not be over, so nobody is to use it again.
    pub(super) fn spoil(&mut self) {
        self.is_spoiled = true;
    }
}

impl Deref for Lease<'_> {
    type Target = Link;

    fn deref(&self) -> &Link {
        self.link.as_ref().expect("a lease that was given out has a link")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let link = self.link.take().filter(|_| !self.is_spoiled && !std::thread::panicking());
        let mut state = self.pool.state();
        match link {
            Some(link) => state.idle.push(link),
            None => state.open -= 1,
        }
        drop(state);
        self.pool.freed.notify_one();
    }
}
