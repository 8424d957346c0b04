//! Lists: candidates from the narrowest set there is, matched here, a chunk at a time.

use std::cmp::Reverse;
use std::collections::VecDeque;

use kernel::commit::Entry;
use kernel::conversation::{Clarification, ClarificationStatus};
use kernel::id::TenantId;
use kernel::snapshot::{Snapshot, is_within};
use redis::Value;

use crate::LoadError;
use crate::query::{ClarificationQuery, HistoryQuery, InstanceQuery, Page};
use crate::redis::failure::{self, Failure};
use crate::redis::keys::escaped;
use crate::redis::pack::Packer;
use crate::redis::read::Sieve;
use crate::redis::{RedisStore, script, value};
use crate::row;
use crate::row::Head;

/// How many members of a set are looked at with one call.
const CHUNK: usize = 256;

/// How many whole instances are asked for with one call, and lines of a log.
const RECORDS: usize = 64;

/// A set that is walked through.
#[derive(Debug)]
pub(super) struct Range {
    what: &'static str,
    set: String,
    offset: usize,
    pub is_at_end: bool,
}

impl Range {
    pub fn new(what: &'static str, set: String) -> Self {
        Self { what, set, offset: 0, is_at_end: false }
    }

    /// Lets the next part begin behind so many of the whole.
    pub fn skip_to(&mut self, offset: usize) {
        self.offset = offset;
    }
}

impl RedisStore {
    /// The next members of a range, their scores where it is one of scores, and their records. `command` with
    /// `arguments` says from where on; a lexical one begins behind what was there last, as the caller says.
    pub(super) fn members(
        &self,
        tenant: &TenantId,
        range: &mut Range,
        command: &str,
        arguments: &[&str],
    ) -> Result<Vec<(String, i64, Value)>, Failure> {
        let is_scored = command.ends_with("SCORE");
        let offset = range.offset.to_string();
        let count = CHUNK.to_string();
        let mut all = arguments.to_vec();
        if is_scored {
            all.push("WITHSCORES");
        }
        if command != "ONE" {
            all.extend(["LIMIT", &offset, &count]);
        }
        let packed = Packer::array_of(6, |p| {
            p.text(range.what).text(&escaped(tenant.as_str())).text(command).text(&range.set);
            p.texts(&all).flag(is_scored);
        });
        let answer = self.ask_one(self.call(self.keys().bucket_of(tenant), &script::LIST, packed))?;
        let [members, scores, records] = value::parts(answer)?;
        let (members, mut scores) = (value::list(members)?, value::list(scores)?.into_iter());
        range.is_at_end = command == "ONE" || members.len() < CHUNK;
        let mut found = Vec::with_capacity(members.len());
        for (member, record) in members.into_iter().zip(value::list(records)?) {
            let score = scores.next().map_or(Ok(0), value::number)?;
            found.push((value::text(member)?, score, record));
        }
        Ok(found)
    }

    pub(super) fn list_history(&self, query: &HistoryQuery) -> Result<Page<Entry>, Failure> {
        let mut page = Page { data: Vec::new(), next: None };
        // Numbers begin with 1, so below zero is before all of them.
        let mut behind = query.behind().unwrap_or(-1);
        let mut sieve = Sieve::default();
        let mut last = 0;
        'pages: loop {
            let packed = Packer::array_of(5, |p| {
                p.text(&escaped(query.tenant.as_str())).text(&escaped(query.instance.as_str()));
                p.number(behind).number(RECORDS as i64).flag(query.newest_first);
            });
            let call = self.call(self.keys().bucket_of(&query.tenant), &script::HISTORY, packed);
            let mut lines = value::list(self.ask_one(call)?)?.into_iter();
            let is_last = lines.len() < RECORDS * 3;
            while let (Some(number), Some(receipt), Some(line)) = (lines.next(), lines.next(), lines.next()) {
                behind = value::number(number)?;
                let receipt = value::text(receipt)?;
                let entry = match value::optional_bytes(line)? {
                    Some(line) => {
                        let id =
                            u128::from_str_radix(&receipt, 16).map_err(|_| Failure::strange(&receipt))?;
                        sieve.keep(row::entry(id.to_be_bytes(), &line, &self.records.secrets))
                    }
                    None => sieve.lost("log", &format!("{}/{}/{receipt}", query.tenant, query.instance)),
                };
                let Some((_, entry)) = entry else { continue };
                if page.data.len() == query.limit {
                    page.next = Some(last.to_string());
                    break 'pages;
                }
                page.data.push(entry);
                last = behind;
            }
            if is_last {
                break;
            }
        }
        self.quarantine(&sieve.damaged);
        sieve.all_open()?;
        Ok(page)
    }

    pub(super) fn list_questions(&self, query: &ClarificationQuery) -> Result<Page<Clarification>, Failure> {
        let tenant = escaped(query.tenant.as_str());
        let mut page = Page { data: Vec::new(), next: None };
        let after = match query.cursor.as_deref().map(ClarificationQuery::parse_cursor) {
            None => None,
            Some(Some(position)) => Some(position),
            Some(None) => return Ok(page),
        };
        let set = match query.status {
            Some(ClarificationStatus::Pending) => format!("pending:{tenant}"),
            _ => format!("questions:{tenant}"),
        };
        let from = after.map_or("+inf".to_owned(), |(at, _)| at.as_millis().to_string());
        let mut range = Range::new("questions", set);
        let mut sieve = Sieve::default();
        'pages: loop {
            let found = match &query.id {
                Some(id) => self.members(&query.tenant, &mut range, "ONE", &[id])?,
                None => self.members(&query.tenant, &mut range, "ZREVRANGEBYSCORE", &[&from, "-inf"])?,
            };
            range.offset += found.len();
            for (id, _, record) in found {
                let question = match value::optional_bytes(record)? {
                    Some(bytes) => {
                        sieve.keep(row::question(&query.tenant, &id, &bytes, &self.records.secrets))
                    }
                    None if query.id.is_some() => None,
                    None => sieve.lost("clarifications", &format!("{}/{id}", query.tenant)),
                };
                let Some(question) = question else { continue };
                let is_after = after.is_none_or(|position| (question.created_at, &*question.id) < position);
                if !is_after || query.status.is_some_and(|status| status != question.status) {
                    continue;
                }
                if page.data.len() == query.limit {
                    page.next = page.data.last().map(ClarificationQuery::cursor_of);
                    break 'pages;
                }
                page.data.push(question);
            }
            if range.is_at_end {
                break;
            }
        }
        self.quarantine(&sieve.damaged);
        sieve.all_open()?;
        Ok(page)
    }

    pub(super) fn list_instances(&self, query: &InstanceQuery) -> Result<Page<Snapshot>, LoadError> {
        let mut sieve = Sieve::default();
        let mut walks = self.walks(query);
        let mut page = Page { data: Vec::new(), next: None };
        'pages: loop {
            let ids = self.next_ids(query, &mut walks, &mut sieve)?;
            if ids.is_empty() {
                break;
            }
            let calls: Vec<_> = ids.iter().map(|id| self.load_call(&query.tenant, id)).collect();
            for answer in failure::all(self.servers.ask(&calls))? {
                let snapshot = match self.loaded(&query.tenant, answer) {
                    Ok(Some(snapshot)) => snapshot,
                    // It went meanwhile; or it is in quarantine by now; or a newer program wrote it.
                    Ok(None) | Err(_) => continue,
                };
                if !query.matches(&snapshot) {
                    continue;
                }
                if page.data.len() == query.limit {
                    page.next = page.data.last().map(|last: &Snapshot| last.instance.to_string());
                    break 'pages;
                }
                page.data.push(snapshot);
            }
        }
        self.quarantine(&sieve.damaged);
        sieve.all_open()?;
        Ok(page)
    }

    /// The sets of ids that are walked through together.
    fn walks(&self, query: &InstanceQuery) -> Vec<Walk> {
        let tenant = escaped(query.tenant.as_str());
        let before = query.cursor.as_deref().map_or("+".to_owned(), |cursor| format!("({cursor}"));
        let is_open_only =
            query.closed == Some(false) || query.due_before.is_some() || query.stuck_by.is_some();
        let walk = |set: &str, is_wanted: bool| {
            is_wanted.then(|| Walk {
                range: Range::new("heads", format!("{set}:{tenant}")),
                before: before.clone(),
                found: VecDeque::new(),
            })
        };
        let walks = [walk("open", query.closed != Some(true)), walk("closed", !is_open_only)];
        walks.into_iter().flatten().collect()
    }

    /// The next ids, newest first, of instances that may match, as far as their heads tell.
    fn next_ids(
        &self,
        query: &InstanceQuery,
        walks: &mut [Walk],
        sieve: &mut Sieve,
    ) -> Result<Vec<String>, Failure> {
        let wanted = query.limit.saturating_add(1).min(RECORDS);
        let mut ids = Vec::new();
        while ids.len() < wanted {
            for walk in walks.iter_mut() {
                self.fill(query, walk)?;
            }
            let newest = walks.iter_mut().filter(|walk| !walk.found.is_empty());
            let Some(walk) = newest.min_by_key(|walk| Reverse(walk.found.front().map(|(id, _)| id.clone())))
            else {
                break;
            };
            let is_open = walk.range.set.starts_with("open:");
            let Some((id, head)) = walk.found.pop_front() else { break };
            match head {
                None if is_open || self.ttl().is_none() => {
                    sieve.lost::<()>("instances", &format!("{}/{id}", query.tenant));
                }
                None => {}
                // What cannot be read is asked for, and found damaged.
                Some(head) if row::parse_head(&head).is_none_or(|head| may_match(query, &head)) => {
                    ids.push(id)
                }
                Some(_) => {}
            }
        }
        Ok(ids)
    }

    fn fill(&self, query: &InstanceQuery, walk: &mut Walk) -> Result<(), Failure> {
        while walk.found.is_empty() && !walk.range.is_at_end {
            let Walk { range, before, found } = walk;
            for (member, _, head) in self.members(&query.tenant, range, "ZREVRANGEBYLEX", &[before, "-"])? {
                *before = format!("({member}");
                let id = member.split('\u{1f}').next().unwrap_or_default().to_owned();
                found.push_back((id, value::optional_bytes(head)?));
            }
        }
        Ok(())
    }
}

/// A set of ids, walked through from the newest id on.
#[derive(Debug)]
struct Walk {
    range: Range,
    before: String,
    /// Ids with their heads; without one, it is gone.
    found: VecDeque<(String, Option<Vec<u8>>)>,
}

/// Whether an instance with this head may be wanted. The rest is for `InstanceQuery::matches` to say.
fn may_match(query: &InstanceQuery, head: &Head) -> bool {
    fn is(wanted: Option<&str>, found: Option<&str>) -> bool {
        wanted.is_none() || wanted == found
    }
    let (machine, subject) = (&head.2, head.5.as_deref());
    let (state, closure, updated_at) = (&head.8, &head.9, head.11);
    let (wake_at, looping_until) = (head.12, head.13);
    is(query.machine.as_ref().map(|machine| machine.as_str()), Some(machine))
        && is(query.subject.as_ref().map(|subject| subject.as_str()), subject)
        && query.has_part(subject)
        && query.states().all(|wanted| state.split(',').any(|path| is_within(path, wanted)))
        && query.closed.is_none_or(|closed| closed == closure.is_some())
        && query.due_before.is_none_or(|limit| wake_at.is_some_and(|due| due < limit.as_millis()))
        && query.idle_since.is_none_or(|limit| updated_at < limit.as_millis())
        && query.looping_at.is_none_or(|now| looping_until.is_some_and(|until| until > now.as_millis()))
        && query.stuck_by.is_none_or(|limits| {
            closure.is_none() && wake_at.is_none_or(|due| due < limits.overdue_since.as_millis())
        })
}
