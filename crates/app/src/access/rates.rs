//! How often somebody may ask: a bucket of tokens for each address and each tenant, and of each address one for wrong keys
//! and one for those at the sign-in, so that a script that goes on with a revoked key locks out nobody beside it.
//!
//! Owns which address a request counts for. Buckets are kept for those alone who have asked lately; time is what has
//! passed since the server began, whatever clock its machines go by.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::HeaderMap;
use engine::Bucket;
use kernel::id::TenantId;
use kernel::time::{Delay, Timestamp};

use crate::http::problem::Problem;
use crate::outgoing::Block;

/// Of wrong keys from one address: a person mistypes, and a script that goes on with a revoked key is told slowly.
const WRONG_PER_SECOND: f64 = 0.5;
const WRONG_BURST: u32 = 20;
/// Beyond so many, those whose buckets are full are forgotten.
const BUCKETS_MAX: usize = 10_000;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

#[derive(Debug)]
pub struct Rates {
    tenants: Option<Buckets<TenantId>>,
    addresses: Option<Buckets<IpAddr>>,
    wrong: Buckets<IpAddr>,
    wrong_sign_ins: Buckets<IpAddr>,
    trusted_proxies: Vec<Block>,
    began: Instant,
}

impl Default for Rates {
    fn default() -> Self {
        Self::new(None, None, Vec::new())
    }
}

impl Rates {
    /// Requests in a second, for each tenant and for each address; `None` is without a limit.
    pub fn new(per_tenant: Option<f64>, per_address: Option<f64>, trusted_proxies: Vec<Block>) -> Self {
        let buckets = |rate: f64| (rate, rate.ceil().clamp(1.0, f64::from(u32::MAX)) as u32);
        Self {
            tenants: per_tenant.map(buckets).map(|(rate, burst)| Buckets::new(rate, burst)),
            addresses: per_address.map(buckets).map(|(rate, burst)| Buckets::new(rate, burst)),
            wrong: Buckets::new(WRONG_PER_SECOND, WRONG_BURST),
            wrong_sign_ins: Buckets::new(WRONG_PER_SECOND, WRONG_BURST),
            trusted_proxies,
            began: Instant::now(),
        }
    }

    /// Whose request it is: the peer, or whom proxies that are trusted say that they have it from. What others write
    /// into the header counts nothing.
    pub fn address(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let is_trusted = |address: IpAddr| self.trusted_proxies.iter().any(|block| block.contains(address));
        let mut address = peer.0.to_canonical();
        let lines = headers.get_all("x-forwarded-for").iter().rev();
        let said = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
        for hop in said {
            if !is_trusted(address) {
                break;
            }
            // Some write the port, too.
            let hop = hop.trim();
            let with_port = || hop.parse::<std::net::SocketAddr>().map(|address| address.ip());
            let Ok(before) = hop.parse::<IpAddr>().or_else(|_| with_port()) else { break };
            address = before.to_canonical();
        }
        network(address)
    }

    pub fn admit_address(&self, address: IpAddr) -> Result<(), Problem> {
        let Some(buckets) = &self.addresses else { return Ok(()) };
        buckets.take(&address, self.now()).map_err(|wait| limited("this address", wait))
    }

    pub fn admit_tenant(&self, tenant: &TenantId) -> Result<(), Problem> {
        let Some(buckets) = &self.tenants else { return Ok(()) };
        buckets.take(tenant, self.now()).map_err(|wait| limited("this tenant", wait))
    }

    /// Counts a wrong key; whoever shows too many is told so.
    pub fn note_wrong(&self, address: IpAddr) -> Result<(), Problem> {
        self.wrong.take(&address, self.now()).map_err(|wait| limited("wrong keys from this address", wait))
    }

    /// Whether an address has signed in with wrong keys too often of late for what it shows there to be looked at.
    pub fn admit_sign_in(&self, address: IpAddr) -> Result<(), Problem> {
        let admitted = self.wrong_sign_ins.look(&address, self.now());
        admitted.map_err(|wait| limited("signing in with wrong keys from this address", wait))
    }

    /// Counts a wrong key at the sign-in.
    pub fn note_wrong_sign_in(&self, address: IpAddr) -> Result<(), Problem> {
        let admitted = self.wrong_sign_ins.take(&address, self.now());
        admitted.map_err(|wait| limited("signing in with wrong keys from this address", wait))
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
}

/// Who has an IPv6 address has a network of them.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        other => other,
    }
}

fn limited(what: &str, wait: Delay) -> Problem {
    Problem::rate_limited(format!("too many requests: {what}, for the moment"), wait)
}

#[derive(Debug)]
struct Buckets<K> {
    fresh: Bucket,
    all: Mutex<HashMap<K, Bucket>>,
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    fn new(per_second: f64, burst: u32) -> Self {
        Self { fresh: Bucket::new(per_second, burst), all: Mutex::default() }
    }

    /// Takes a token, or says how long until there is one.
    fn take(&self, of: &K, now: Timestamp) -> Result<(), Delay> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= BUCKETS_MAX && !all.contains_key(of) {
            all.retain(|_, bucket| !bucket.is_full(now));
            // Whoever has so many addresses at once would fill the memory; the others begin afresh.
            if all.len() >= BUCKETS_MAX {
                all.clear();
            }
        }
        let bucket = all.entry(of.clone()).or_insert_with(|| self.fresh.clone());
        bucket.take(now).map_err(|until| until.since(now))
    }

    /// As `take`, and leaves it there.
    fn look(&self, of: &K, now: Timestamp) -> Result<(), Delay> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = all.get(of).cloned();
        bucket.map_or(Ok(()), |mut bucket| bucket.take(now).map_err(|until| until.since(now)))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn each_has_a_bucket_and_who_waits_is_admitted_again() {
        let buckets: Buckets<&str> = Buckets::new(2.0, 2);
        for _ in 0..2 {
            assert_eq!(buckets.take(&"a", at(0)), Ok(()));
        }
        assert_eq!(buckets.look(&"a", at(0)), Err(Delay::from_millis(500)));
        assert_eq!(buckets.take(&"a", at(0)), Err(Delay::from_millis(500)));
        assert_eq!(buckets.take(&"b", at(0)), Ok(()));
        assert_eq!(buckets.take(&"a", at(500)), Ok(()));
    }

    #[test]
    fn many_addresses_fill_no_memory() {
        let buckets: Buckets<usize> = Buckets::new(1.0, 1);
        for address in 0..3 * BUCKETS_MAX {
            assert_eq!(buckets.take(&address, at(0)), Ok(()));
        }
        assert!(buckets.all.lock().unwrap().len() <= BUCKETS_MAX);
    }

    #[test]
    fn only_trusted_proxies_say_for_whom_they_ask() {
        let blocks = ["10.0.0.0/8", "::1"].map(|block| Block::parse(block).unwrap());
        let rates = Rates::new(None, None, blocks.to_vec());
        let address = |peer: &str, said: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in said {
                headers.append("x-forwarded-for", HeaderValue::from_str(line).unwrap());
            }
            rates.address(Peer(peer.parse().unwrap()), &headers).to_string()
        };
        assert_eq!(address("203.0.113.5", &["1.2.3.4"]), "203.0.113.5");
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(address("::ffff:10.0.0.1", &["9.9.9.9, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(address("::1", &["9.9.9.9", "1.2.3.4, 10.0.0.7"]), "1.2.3.4");
        assert_eq!(address("10.0.0.1", &["1.2.3.4:5678"]), "1.2.3.4");
        assert_eq!(address("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(address("2001:db8:1:2:3:4:5:6", &[]), "2001:db8:1:2::");
    }
}
