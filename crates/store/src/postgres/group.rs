//! A group of commits as the arrays that the statement takes.
//!
//! Owns which value goes into which array. Of the commits of a chain, only the last snapshot is written, and so is only
//! the last of what one clarification or one phase was: what was between is in the log.

use std::borrow::Cow;
use std::collections::HashMap;

use kernel::id::{InstanceId, TenantId};
use kernel::snapshot::SNAPSHOT_FORMAT;
use tokio_postgres::types::ToSql;

use crate::outbox::Lane;
use crate::postgres::Trouble;
use crate::postgres::link::{Link, Values};
use crate::postgres::seal::{escaped, maybe_escaped};
use crate::postgres::statement::{self, Parts};
use crate::record::{ClarificationRow, EffectRow, Filed, InstanceRow, LineRow, PhaseOf, Prepared, number};

type Text<'a> = Cow<'a, str>;

#[derive(Default)]
pub(super) struct Group<'a> {
    /// How many chains there are.
    count: i64,
    inserts: Chains<'a>,
    updates: Chains<'a>,
    /// They change nothing, but their instances must be at that revision.
    locks: Locks<'a>,
    lines: Lines<'a>,
    clarifications: Clarifications<'a>,
    phases: Phases<'a>,
    effects: Effects<'a>,
}

#[derive(Default)]
struct Chains<'a> {
    of: Locks<'a>,
    machine: Vec<&'a str>,
    version: Vec<i64>,
    definition: Vec<&'a str>,
    subject: Vec<Option<Text<'a>>>,
    ordinal: Vec<i64>,
    revision: Vec<i64>,
    state: Vec<Text<'a>>,
    closure_reason: Vec<Option<Text<'a>>>,
    created_at: Vec<i64>,
    updated_at: Vec<i64>,
    wake_at: Vec<Option<i64>>,
    looping_until: Vec<Option<i64>>,
    format: Vec<i64>,
    checksum: Vec<i64>,
    body: Vec<&'a str>,
}

/// Which instance a chain is of, and at which revision it has to be.
#[derive(Default)]
struct Locks<'a> {
    n: Vec<i64>,
    tenant: Vec<&'a str>,
    id: Vec<&'a str>,
    expected: Vec<i64>,
}

#[derive(Default)]
struct Lines<'a> {
    chain: Vec<i64>,
    tenant: Vec<&'a str>,
    instance: Vec<&'a str>,
    revision: Vec<i64>,
    at: Vec<i64>,
    receipt: Vec<&'a [u8]>,
    checksum: Vec<i64>,
    body: Vec<&'a str>,
}

#[derive(Default)]
struct Clarifications<'a> {
    chain: Vec<i64>,
    tenant: Vec<&'a str>,
    id: Vec<Text<'a>>,
    instance: Vec<&'a str>,
    status: Vec<&'a str>,
    created_at: Vec<i64>,
    checksum: Vec<i64>,
    body: Vec<&'a str>,
}

#[derive(Default)]
struct Phases<'a> {
    chain: Vec<i64>,
    place: Vec<i64>,
    tenant: Vec<&'a str>,
    instance: Vec<&'a str>,
    machine: Vec<&'a str>,
    phase: Vec<Text<'a>>,
    state: Vec<&'a str>,
    since: Vec<i64>,
    attempts: Vec<i64>,
    retries: Vec<i64>,
    error: Vec<Option<Text<'a>>>,
    offered_at: Vec<Option<i64>>,
    kind: Vec<Text<'a>>,
    lease: Vec<Option<Text<'a>>>,
    worker: Vec<Option<Text<'a>>>,
    checksum: Vec<i64>,
}

#[derive(Default)]
struct Effects<'a> {
    chain: Vec<i64>,
    tenant: Vec<&'a str>,
    key: Vec<Text<'a>>,
    instance: Vec<&'a str>,
    machine: Vec<&'a str>,
    subject: Vec<Option<Text<'a>>>,
    times: Vec<Option<i64>>,
    added: Vec<Option<i64>>,
    created_at: Vec<i64>,
    checksum: Vec<i64>,
    body: Vec<&'a str>,
}

impl<'a> Group<'a> {
    /// `commits` are of one instance, each decided on what the one before leaves.
    pub(super) fn add(&mut self, commits: &[&'a Prepared<'a>]) {
        let Some(first) = commits.first() else { return };
        self.count += 1;
        let (n, expected) = (self.count, number(first.commit.expected));
        match commits.iter().rev().find_map(|prepared| prepared.instance.as_ref()) {
            None => self.locks.add(n, &first.commit.tenant, &first.commit.instance, expected),
            Some(last) if expected == 0 => self.inserts.add(n, expected, last),
            Some(last) => self.updates.add(n, expected, last),
        }
        let mut questions = HashMap::new();
        let mut phases = HashMap::new();
        for (place, prepared) in commits.iter().enumerate() {
            self.lines.add(n, &prepared.line);
            questions.extend(prepared.clarifications.iter().map(|row| (&row.clarification.id, place)));
            phases.extend(prepared.phases.iter().map(|phase| (phase.row.place, place)));
            for effect in &prepared.effects {
                self.effects.add(n, effect);
            }
        }
        for (place, prepared) in commits.iter().enumerate() {
            for row in prepared.clarifications.iter().filter(|row| questions[&row.clarification.id] == place)
            {
                self.clarifications.add(n, row);
            }
            for phase in prepared.phases.iter().filter(|phase| phases[&phase.row.place] == place) {
                self.phases.add(n, phase);
            }
        }
    }

    /// An instance that comes from elsewhere, without what it has to send.
    pub(super) fn take_in(&mut self, filed: &'a Filed<'a>) {
        self.count += 1;
        let n = self.count;
        self.inserts.add(n, 0, &filed.instance);
        filed.lines.iter().for_each(|line| self.lines.add(n, line));
        filed.clarifications.iter().for_each(|row| self.clarifications.add(n, row));
        filed.phases.iter().for_each(|phase| self.phases.add(n, phase));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn parts(&self, repeats: bool) -> Parts {
        Parts {
            repeats,
            inserts: !self.inserts.of.n.is_empty(),
            updates: !self.updates.of.n.is_empty(),
            locks: !self.locks.n.is_empty(),
            clarifications: !self.clarifications.chain.is_empty(),
            phases: !self.phases.chain.is_empty(),
            effects: !self.effects.chain.is_empty(),
        }
    }

    /// Saves the chains; in their order, whether each was saved. A receipt that is there fails all of them, unless
    /// `repeats` are looked for.
    pub(super) fn save(&self, link: &Link, repeats: bool) -> Result<Vec<bool>, Trouble> {
        let (sql, values) = self.statement(repeats);
        let rows = link.query(&sql, &values)?;
        let owners: Option<Vec<i64>> = rows.first().and_then(|row| row.try_get(0).ok());
        let owners = owners.filter(|owners| i64::try_from(owners.len()) == Ok(self.count));
        let owners =
            owners.ok_or_else(|| Trouble::Lost("the answer is none to what was asked".to_owned()))?;
        Ok(owners.into_iter().map(|owner| owner > 0).collect())
    }

    fn statement(&self, repeats: bool) -> (String, Values<'_>) {
        let parts = self.parts(repeats);
        let mut values: Values<'_> = vec![&self.count];
        values.extend(self.lines.values());
        if parts.inserts {
            values.extend(self.inserts.values());
        }
        if parts.updates {
            values.extend(self.updates.values());
        }
        if parts.locks {
            values.extend(self.locks.values());
        }
        if parts.clarifications {
            values.extend(self.clarifications.values());
        }
        if parts.phases {
            values.extend(self.phases.values());
        }
        if parts.effects {
            values.extend(self.effects.values());
        }
        (statement::sql(parts), values)
    }
}

impl<'a> Locks<'a> {
    fn add(&mut self, n: i64, tenant: &'a TenantId, id: &'a InstanceId, expected: i64) {
        self.n.push(n);
        self.tenant.push(tenant.as_str());
        self.id.push(id.as_str());
        self.expected.push(expected);
    }

    fn values(&self) -> Values<'_> {
        vec![&self.n, &self.tenant, &self.id, &self.expected]
    }
}

impl<'a> Chains<'a> {
    fn add(&mut self, n: i64, expected: i64, last: &'a InstanceRow<'a>) {
        let snapshot = last.snapshot;
        self.of.add(n, &snapshot.tenant, &snapshot.instance, expected);
        self.machine.push(snapshot.machine.as_str());
        self.version.push(snapshot.version.into());
        self.definition.push(snapshot.definition.as_str());
        self.subject.push(maybe_escaped(last.subject()));
        self.ordinal.push(snapshot.ordinal.into());
        self.revision.push(number(snapshot.revision));
        self.state.push(escaped(&last.state));
        self.closure_reason.push(maybe_escaped(last.closure_reason()));
        self.created_at.push(snapshot.created_at.as_millis());
        self.updated_at.push(snapshot.updated_at.as_millis());
        self.wake_at.push(last.wake_at);
        self.looping_until.push(last.looping_until);
        self.format.push(i64::from(SNAPSHOT_FORMAT));
        self.checksum.push(last.checksum);
        self.body.push(&last.body);
    }

    fn values(&self) -> Values<'_> {
        let arrays: [&(dyn ToSql + Sync); 15] = [
            &self.machine,
            &self.version,
            &self.definition,
            &self.subject,
            &self.ordinal,
            &self.revision,
            &self.state,
            &self.closure_reason,
            &self.created_at,
            &self.updated_at,
            &self.wake_at,
            &self.looping_until,
            &self.format,
            &self.checksum,
            &self.body,
        ];
        let mut values = self.of.values();
        values.extend(arrays);
        values
    }
}

impl<'a> Lines<'a> {
    fn add(&mut self, n: i64, line: &'a LineRow<'a>) {
        self.chain.push(n);
        self.tenant.push(line.tenant.as_str());
        self.instance.push(line.instance.as_str());
        self.revision.push(number(line.entry.revision));
        self.at.push(line.entry.at.as_millis());
        self.receipt.push(&line.receipt);
        self.checksum.push(line.checksum());
        self.body.push(&line.body);
    }

    fn values(&self) -> Values<'_> {
        let arrays: [&(dyn ToSql + Sync); 8] = [
            &self.chain,
            &self.tenant,
            &self.instance,
            &self.revision,
            &self.receipt,
            &self.at,
            &self.checksum,
            &self.body,
        ];
        arrays.into()
    }
}

impl<'a> Clarifications<'a> {
    fn add(&mut self, n: i64, row: &'a ClarificationRow<'a>) {
        let question = row.clarification;
        self.chain.push(n);
        self.tenant.push(question.tenant.as_str());
        self.id.push(escaped(&question.id));
        self.instance.push(question.instance.as_str());
        self.status.push(question.status.as_str());
        self.created_at.push(question.created_at.as_millis());
        self.checksum.push(row.checksum);
        self.body.push(&row.body);
    }

    fn values(&self) -> Values<'_> {
        let arrays: [&(dyn ToSql + Sync); 8] = [
            &self.chain,
            &self.tenant,
            &self.id,
            &self.instance,
            &self.status,
            &self.created_at,
            &self.checksum,
            &self.body,
        ];
        arrays.into()
    }
}

impl<'a> Phases<'a> {
    fn add(&mut self, n: i64, phase: &'a PhaseOf<'a>) {
        let row = phase.row;
        self.chain.push(n);
        self.place.push(row.place.into());
        self.tenant.push(phase.after.tenant.as_str());
        self.instance.push(phase.after.instance.as_str());
        self.machine.push(phase.after.machine.as_str());
        self.phase.push(escaped(&row.phase));
        self.state.push(row.state.as_str());
        self.since.push(row.since.as_millis());
        self.attempts.push(row.attempts.into());
        self.retries.push(row.retries.into());
        self.error.push(maybe_escaped(row.error.as_deref()));
        self.offered_at.push(row.offered_at.map(|at| at.as_millis()));
        self.kind.push(escaped(&row.kind));
        self.lease.push(maybe_escaped(row.lease.as_deref()));
        self.worker.push(maybe_escaped(row.worker.as_deref()));
        self.checksum.push(phase.checksum);
    }

    fn values(&self) -> Values<'_> {
        let arrays: [&(dyn ToSql + Sync); 16] = [
            &self.chain,
            &self.place,
            &self.tenant,
            &self.instance,
            &self.machine,
            &self.phase,
            &self.state,
            &self.since,
            &self.attempts,
            &self.retries,
            &self.error,
            &self.offered_at,
            &self.kind,
            &self.lease,
            &self.worker,
            &self.checksum,
        ];
        arrays.into()
    }
}

impl<'a> Effects<'a> {
    fn add(&mut self, n: i64, row: &'a EffectRow<'a>) {
        let lane = Lane::of(row.effect);
        let added = lane.map(|lane| lane.number(0));
        self.chain.push(n);
        self.tenant.push(row.of.tenant.as_str());
        self.key.push(escaped(&row.effect.key));
        self.instance.push(row.of.instance.as_str());
        self.machine.push(row.of.machine.as_str());
        self.subject.push(maybe_escaped(row.of.subject()));
        self.times.push(lane.zip(added).map(|(lane, added)| lane.number(1) - added));
        self.added.push(added);
        self.created_at.push(row.created_at.as_millis());
        self.checksum.push(row.checksum);
        self.body.push(&row.body);
    }

    fn values(&self) -> Values<'_> {
        let arrays: [&(dyn ToSql + Sync); 11] = [
            &self.chain,
            &self.tenant,
            &self.key,
            &self.instance,
            &self.machine,
            &self.subject,
            &self.times,
            &self.added,
            &self.created_at,
            &self.checksum,
            &self.body,
        ];
        arrays.into()
    }
}
