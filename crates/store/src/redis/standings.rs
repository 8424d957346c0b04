//! How open instances stand, by walking through those of each tenant, some with each call.
//!
//! Heads tell it of nearly all; what may be a dead end is read whole. Which tenants there are is found by going through all
//! keys.

use kernel::id::TenantId;
use kernel::snapshot::Stuck;

use crate::redis::failure::{self, Failure};
use crate::redis::keys::escaped;
use crate::redis::lists::Range;
use crate::redis::{RedisStore, value};
use crate::row;
use crate::standing::{StandingAt, Standings};

impl RedisStore {
    pub(super) fn count_standings(&self, at: StandingAt) -> Result<Standings, Failure> {
        let mut standings = Standings::default();
        for tenant in self.tenants("open")?.into_iter().filter(|tenant| !tenant.is_beside()) {
            self.count_open(&tenant, at, &mut standings)?;
        }
        Ok(standings)
    }

    fn count_open(
        &self,
        tenant: &TenantId,
        StandingAt { now, stuck_by }: StandingAt,
        standings: &mut Standings,
    ) -> Result<(), Failure> {
        let mut range = Range::new("standings", format!("open:{}", escaped(tenant.as_str())));
        let mut from = "-".to_owned();
        while !range.is_at_end {
            let found = self.members(tenant, &mut range, "ZRANGEBYLEX", &[&from, "+"])?;
            let mut may_be_dead_ends = Vec::new();
            for (id, _, record) in found {
                from = format!("({id}");
                let parts = value::list(record).unwrap_or_default();
                let Ok([head, may_be_dead_end]) = <[_; 2]>::try_from(parts) else { continue };
                // What cannot be read is found damaged by whoever asks for it.
                let Some(head) = row::parse_head(&value::bytes(head)?) else { continue };
                let (machine, updated_at, wake_at) = (&head.2, head.11, head.12);
                let standing = standings.entry(tenant, machine);
                standing.open += 1;
                standing.looping += u64::from(head.13.is_some_and(|until| until > now.as_millis()));
                let why = match wake_at {
                    Some(due) => (due < stuck_by.overdue_since.as_millis()).then_some(Stuck::Overdue),
                    None => (updated_at < stuck_by.silent_since.as_millis()).then_some(Stuck::Silent),
                };
                match value::number(may_be_dead_end)? {
                    0 => standing.add_stuck(why, 1),
                    _ => may_be_dead_ends.push(id),
                }
            }
            let calls: Vec<_> = may_be_dead_ends.iter().map(|id| self.load_call(tenant, id)).collect();
            for answer in failure::all(self.servers.ask(&calls))? {
                if let Ok(Some(snapshot)) = self.loaded(tenant, answer) {
                    let standing = standings.entry(tenant, snapshot.machine.as_str());
                    standing.add_stuck(snapshot.stuck(stuck_by), 1);
                }
            }
        }
        Ok(())
    }
}
