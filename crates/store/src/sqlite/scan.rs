//! Lists that may have to look through much for little: read in steps, none of which keeps a read transaction for long.
//!
//! A list is first read at once, which is enough wherever an index leads to what is wanted. When that takes too long, its
//! range is read in parts, each in a transaction of its own, from the key at which the last part ended. What is found is
//! what so many pages would have found.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::query::Page;
use crate::seal::Damage;
use crate::sqlite::readers::Reader;
use crate::sqlite::seal::Fault;
use crate::vault::Locked;
use crate::vault::parts::Secrets;

/// For how long one read transaction may last: some tenths of a second of full load are 32 MiB of log.
pub(super) const BUDGET: Duration = Duration::from_millis(50);

const ROWS_AT_FIRST: usize = 4_096;
const ROWS_MAX: usize = 1 << 17;

/// Records of a part of a list, and whether there are more in it than were asked for.
pub(super) struct Part<T> {
    pub records: Vec<T>,
    pub has_more: bool,
    /// What had to be left out.
    pub damaged: Vec<Damage>,
    /// A record that there is no key to: the list ends before it, for to leave it out would say that it is not there.
    pub locked: Option<Box<Locked>>,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { records: Vec::new(), has_more: false, damaged: Vec::new(), locked: None }
    }
}

/// The part of a list that lies behind `after` and not behind `until`, which are cursors.
#[derive(Clone, Copy)]
pub(super) struct Range<'a> {
    pub after: Option<&'a str>,
    pub until: Option<&'a str>,
}

/// A list in the order of keys that its cursors stand for.
pub(super) trait List {
    type Record;

    fn part(
        &self,
        connection: &Connection,
        secrets: &Secrets,
        range: Range<'_>,
        limit: usize,
    ) -> rusqlite::Result<Part<Self::Record>>;

    /// The cursor of the key that comes `rows` keys behind `after`, whether or not what it stands for is wanted; nothing
    /// if there are not so many.
    fn skip(
        &self,
        connection: &Connection,
        after: Option<&str>,
        rows: usize,
    ) -> rusqlite::Result<Option<String>>;

    fn cursor_of(&self, record: &Self::Record) -> String;
}

pub(super) fn page<L: List>(
    reader: &Reader,
    (list, secrets): (&L, &Secrets),
    cursor: Option<&str>,
    limit: usize,
    budget: Duration,
) -> Result<(Page<L::Record>, Vec<Damage>), Fault> {
    let whole = Range { after: cursor, until: None };
    let part = match reader.within(Some(budget), |connection| list.part(connection, secrets, whole, limit))? {
        Some(part) => part,
        None => in_steps(reader, (list, secrets), cursor, limit, budget)?,
    };
    if let Some(locked) = part.locked {
        return Err(Fault::Locked(locked));
    }
    let last = part.records.last().filter(|_| part.has_more);
    let next = last.map(|last| list.cursor_of(last));
    Ok((Page { data: part.records, next }, part.damaged))
}

fn in_steps<L: List>(
    reader: &Reader,
    (list, secrets): (&L, &Secrets),
    cursor: Option<&str>,
    limit: usize,
    budget: Duration,
) -> rusqlite::Result<Part<L::Record>> {
    let mut after = cursor.map(str::to_owned);
    let mut all = Part::default();
    let mut rows = ROWS_AT_FIRST;
    loop {
        let began = Instant::now();
        // A single record is read however long it takes.
        let budget_of_step = (rows > 1).then_some(budget);
        let skipped = reader.within(budget_of_step, |c| list.skip(c, after.as_deref(), rows))?;
        let part = match &skipped {
            None => None,
            Some(until) => {
                let range = Range { after: after.as_deref(), until: until.as_deref() };
                let wanted = limit - all.records.len();
                reader.within(budget_of_step, |c| list.part(c, secrets, range, wanted))?
            }
        };
        let (Some(until), Some(part)) = (skipped, part) else {
            rows = (rows / 4).max(1);
            continue;
        };
        all.records.extend(part.records);
        all.damaged.extend(part.damaged);
        all.has_more = part.has_more;
        all.locked = part.locked;
        if all.has_more || all.locked.is_some() || until.is_none() {
            return Ok(all);
        }
        after = until;
        if began.elapsed() < budget / 4 {
            rows = (rows * 2).min(ROWS_MAX);
        }
    }
}
