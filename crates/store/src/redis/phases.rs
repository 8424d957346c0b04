//! Phases of flows: which index leads to those that are asked for, and in which order.

use kernel::id::InstanceId;
use kernel::time::Timestamp;

use crate::phase::{PhaseLine, PhaseQuery, Position, WorkerQuery};
use crate::query::Page;
use crate::redis::failure::Failure;
use crate::redis::keys::escaped;
use crate::redis::lists::Range;
use crate::redis::read::Sieve;
use crate::redis::{RedisStore, value};
use crate::row;

impl RedisStore {
    pub(super) fn list_phases(&self, query: &PhaseQuery) -> Result<Page<PhaseLine>, Failure> {
        let mut page = Page { data: Vec::new(), next: None };
        let after = match query.cursor.as_deref().map(|cursor| query.after(cursor)) {
            None => None,
            Some(Some(position)) => Some(position),
            Some(None) => return Ok(page),
        };
        let mut walk = Walk::new(query, after);
        let mut sieve = Sieve::default();
        'pages: loop {
            let arguments: Vec<&str> = walk.arguments.iter().map(String::as_str).collect();
            let found = self.members(&query.tenant, &mut walk.range, walk.command, &arguments)?;
            walk.go_on(found.len(), found.last().map(|(member, ..)| member.as_str()));
            for (member, _, record) in found {
                let Some((id, place)) = walk.named(&member) else { continue };
                let line = match value::optional_bytes(record)? {
                    Some(bytes) => sieve.keep(row::phase(&query.tenant, id.as_str(), place, &bytes)),
                    None => sieve.lost("phases", &format!("{}/{id}/{place}", query.tenant)),
                };
                let Some(line) = line.filter(|line| query.matches(line)) else { continue };
                if after.is_some_and(|after| query.position(&line).compare(&after).is_le()) {
                    continue;
                }
                if page.data.len() == query.limit {
                    page.next = page.data.last().map(|last| query.cursor_of(last));
                    break 'pages;
                }
                page.data.push(line);
            }
            if walk.range.is_at_end {
                break;
            }
        }
        self.quarantine(&sieve.damaged);
        Ok(page)
    }
}

/// A way through one of the two sets of a tenant, as `index_phase` in the scripts fills them.
struct Walk {
    range: Range,
    command: &'static str,
    arguments: Vec<String>,
    is_for_worker: bool,
    offset: usize,
}

impl Walk {
    fn new(query: &PhaseQuery, after: Option<Position<'_>>) -> Self {
        let tenant = escaped(query.tenant.as_str());
        if let Some(WorkerQuery { now, .. }) = &query.for_worker {
            let from = after.and_then(|after| after.offered_at).map(Timestamp::as_millis);
            let from = from.map_or("-inf".to_owned(), |from| from.to_string());
            return Self {
                range: Range::new("offers", format!("offers:{tenant}")),
                command: "ZRANGEBYSCORE",
                arguments: vec![from, now.as_millis().to_string()],
                is_for_worker: true,
                offset: 0,
            };
        }
        let prefix = prefix(query);
        let is_of_one = prefix.starts_with('a') && query.instance.is_some();
        let from = match after {
            Some(after) if !is_of_one => {
                format!("({prefix}{}\u{1f}{:05}", after.instance, u16::MAX - after.place)
            }
            // What begins with the prefix, and nothing else, comes before it with the next higher end.
            _ => format!("({}\u{20}", &prefix[..prefix.len() - 1]),
        };
        let to = format!("[{prefix}");
        Self {
            range: Range::new("phases", format!("phases:{tenant}")),
            command: "ZREVRANGEBYLEX",
            arguments: vec![from, to],
            is_for_worker: false,
            offset: 0,
        }
    }

    fn go_on(&mut self, count: usize, last: Option<&str>) {
        if self.is_for_worker {
            self.offset += count;
            self.range.skip_to(self.offset);
        } else if let Some(last) = last {
            self.arguments[0] = format!("({last}");
        }
    }

    /// Whose line a member stands for.
    fn named(&self, member: &str) -> Option<(InstanceId, u16)> {
        let mut parts = member.rsplitn(3, '\u{1f}');
        let place: u16 = parts.next()?.parse().ok()?;
        let id = InstanceId::parse(parts.next()?).ok()?;
        Some((id, if self.is_for_worker { place } else { u16::MAX - place }))
    }
}

/// What the members of the narrowest part of the index begin with, up to the ids.
fn prefix(query: &PhaseQuery) -> String {
    if let Some(lease) = &query.lease {
        format!("l\u{1f}{}\u{1f}", escaped(lease))
    } else if let Some(instance) = &query.instance {
        format!("a\u{1f}{instance}\u{1f}")
    } else if let Some(error) = &query.error {
        format!("e\u{1f}{}\u{1f}", escaped(error))
    } else if let Some(state) = query.state {
        format!("s\u{1f}{}\u{1f}", state.as_str())
    } else if query.min_retries.is_some_and(|least| least > 0) {
        "r\u{1f}".to_owned()
    } else {
        "a\u{1f}".to_owned()
    }
}
