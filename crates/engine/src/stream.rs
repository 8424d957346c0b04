//! The feed: what has landed here, told to whoever listens, as it lands.
//!
//! Owns a bounded ring of the last commits and the places of its readers in it. It keeps nothing beyond the process and
//! knows nothing of what other servers commit to the same store: a cursor of another run, or one that the ring has left
//! behind, gets a gap, never silence. The shard waits for no reader: it puts into the ring what it has in its hands anyhow,
//! and who is too slow is told what was missed. Values of contexts and texts of messages are not in it.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use kernel::id::{InstanceId, MachineName, Revision, Subject, TenantId};
use kernel::time::Timestamp;
use serde::Serialize;

/// What is remembered for readers who come back: some 3 MB when it is full, and two seconds of the heaviest load.
const REMEMBERED_MAX: usize = 8_192;
/// Taken out of the ring at a time: the shard may have to wait for that.
const TAKEN_MAX: usize = 64;

/// What a commit did, in so far as anybody of the tenant may know it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Happening {
    #[serde(skip)]
    pub tenant: TenantId,
    pub instance: InstanceId,
    /// Not known of a refusal if the instance has been put out of memory meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    pub revision: Revision,
    pub at: Timestamp,
    pub from: String,
    pub to: String,
    pub event: String,
    pub success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closure_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looping: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
}

/// Whose commits, and which of them.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub tenant: TenantId,
    pub machine: Option<MachineName>,
    pub instance: Option<InstanceId>,
}

impl Wanted {
    fn has(&self, happening: &Happening) -> bool {
        happening.tenant == self.tenant
            && (self.machine.is_none() || self.machine == happening.machine)
            && self.instance.as_ref().is_none_or(|instance| *instance == happening.instance)
    }
}

/// Where a reader begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With what lands from now on.
    Now,
    /// With the last so many of what it wants, as far as they are remembered.
    Recent(usize),
    /// After what this cursor stands for.
    After(String),
}

/// What a reader is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// With the cursor to go on after it.
    Happened(String, Arc<Happening>),
    /// Something is missing before what follows: how many commits of all tenants, if that is known.
    Gap(String, Option<u64>),
}

#[derive(Debug)]
pub struct Feed {
    /// Tells this run of the server from all others.
    run: u64,
    ring: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    remembered: VecDeque<Arc<Happening>>,
    /// The number of the next commit; the first of a run has 1.
    next: u64,
    /// Readers who have read all, by their numbers.
    waiting: BTreeMap<u64, Waker>,
    /// How many there have been, and how many there are.
    readers: u64,
    listening: usize,
}

impl Ring {
    fn oldest(&self) -> u64 {
        self.next - self.remembered.len() as u64
    }
}

impl Default for Feed {
    fn default() -> Self {
        let remembered = VecDeque::new();
        let ring = Ring { remembered, next: 1, waiting: BTreeMap::new(), readers: 0, listening: 0 };
        Self { run: RandomState::new().hash_one(0), ring: Mutex::new(ring) }
    }
}

impl Feed {
    /// For the shard, and for whoever measures what that costs it.
    pub fn tell(&self, happening: Happening) {
        let happening = Arc::new(happening);
        let mut ring = self.lock();
        // Whatever falls out is freed after the lock.
        let forgotten = match ring.remembered.len() >= REMEMBERED_MAX {
            true => ring.remembered.pop_front(),
            false => None,
        };
        ring.remembered.push_back(happening);
        ring.next += 1;
        let waiting = std::mem::take(&mut ring.waiting);
        drop(ring);
        drop(forgotten);
        waiting.into_values().for_each(Waker::wake);
    }

    /// Something may have been saved of which nobody here knows what it was: everybody gets a gap.
    pub(crate) fn lose(&self) {
        let mut ring = self.lock();
        ring.remembered.clear();
        ring.next += 1;
        let waiting = std::mem::take(&mut ring.waiting);
        drop(ring);
        waiting.into_values().for_each(Waker::wake);
    }

    /// # Errors
    /// A fragment, when the cursor is none that a feed ever gave.
    pub fn reader(self: &Arc<Self>, wanted: Wanted, begin: &Begin) -> Result<Reader, String> {
        let after = match begin {
            Begin::After(cursor) => Some(parse_cursor(cursor)?),
            Begin::Now | Begin::Recent(_) => None,
        };
        let mut ring = self.lock();
        ring.readers += 1;
        ring.listening += 1;
        let (number, oldest, next) = (ring.readers, ring.oldest(), ring.next);
        drop(ring);
        let (next, told) = match (begin, after) {
            (_, Some((run, last))) if run == self.run && last < next => (last + 1, VecDeque::new()),
            (_, Some(_)) => (oldest, VecDeque::from([Told::Gap(self.cursor(oldest - 1), None)])),
            (Begin::Recent(_), None) => (oldest, VecDeque::new()),
            (_, None) => (next, VecDeque::new()),
        };
        let mut reader = Reader { feed: Arc::clone(self), number, wanted, next, told };
        if let Begin::Recent(count) = begin {
            reader.keep_last(*count);
        }
        Ok(reader)
    }

    /// How many listen.
    pub(crate) fn readers(&self) -> usize {
        self.lock().listening
    }

    fn cursor(&self, last: u64) -> String {
        format!("{:016x}-{last}", self.run)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // Nothing that may panic happens under it.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The run, and the number of the last commit that was told.
fn parse_cursor(cursor: &str) -> Result<(u64, u64), String> {
    let parts = cursor.split_once('-');
    let parsed = parts.and_then(|(run, last)| Some((u64::from_str_radix(run, 16).ok()?, last.parse().ok()?)));
    parsed.ok_or_else(|| format!("`{cursor}` is no cursor of a stream; take the `id` of an event as it came"))
}

/// One who listens. What is not read stays in the ring for as long as there is room.
#[derive(Debug)]
pub struct Reader {
    feed: Arc<Feed>,
    number: u64,
    wanted: Wanted,
    /// The first commit that was not looked at.
    next: u64,
    /// What was looked at and is not told yet.
    told: VecDeque<Told>,
}

impl Reader {
    /// What comes next, if it is there.
    pub fn try_next(&mut self) -> Option<Told> {
        self.look(None)
    }

    /// What comes next; whoever polls is woken when there may be something.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Told> {
        self.look(Some(context.waker())).map_or(Poll::Pending, Poll::Ready)
    }

    /// The cursor after all that was told, and after what it does not want.
    pub fn cursor(&self) -> String {
        self.feed.cursor(self.next - 1)
    }

    fn look(&mut self, waker: Option<&Waker>) -> Option<Told> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Some(told);
            }
            let mut ring = self.feed.lock();
            let oldest = ring.oldest();
            if self.next < oldest {
                drop(ring);
                let missed = oldest - self.next;
                self.next = oldest;
                return Some(Told::Gap(self.cursor(), Some(missed)));
            }
            let seen = usize::try_from(self.next - oldest).unwrap_or(usize::MAX);
            let taken: Vec<Arc<Happening>> =
                ring.remembered.iter().skip(seen).take(TAKEN_MAX).cloned().collect();
            if taken.is_empty() {
                if let Some(waker) = waker {
                    ring.waiting.insert(self.number, waker.clone());
                }
                return None;
            }
            drop(ring);
            for happening in taken {
                if self.wanted.has(&happening) {
                    self.told.push_back(Told::Happened(self.feed.cursor(self.next), happening));
                }
                self.next += 1;
            }
        }
    }

    fn keep_last(&mut self, count: usize) {
        let mut kept = VecDeque::new();
        while let Some(told) = self.try_next() {
            kept.push_back(told);
            if kept.len() > count {
                kept.pop_front();
            }
        }
        self.told = kept;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut ring = self.feed.lock();
        ring.waiting.remove(&self.number);
        ring.listening -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    fn happening(tenant: &str, machine: &str, number: u64) -> Happening {
        Happening {
            tenant: TenantId::parse(tenant).unwrap(),
            instance: InstanceId::parse("i").unwrap(),
            machine: Some(MachineName::parse(machine).unwrap()),
            version: Some(1),
            revision: Revision(number),
            at: Timestamp::EPOCH,
            from: "a".into(),
            to: "b".into(),
            event: "go".into(),
            success: true,
            code: None,
            closure_reason: None,
            looping: None,
            subject: None,
        }
    }

    fn of(tenant: &str) -> Wanted {
        Wanted { tenant: TenantId::parse(tenant).unwrap(), machine: None, instance: None }
    }

    fn fed(numbers: impl Iterator<Item = u64>) -> Arc<Feed> {
        let feed = Arc::new(Feed::default());
        numbers.for_each(|number| feed.tell(happening("acme", "m", number)));
        feed
    }

    /// Revisions, and gaps as what they say was missed.
    fn read(reader: &mut Reader) -> Vec<Result<u64, Option<u64>>> {
        let told = std::iter::from_fn(|| reader.try_next());
        told.map(|told| match told {
            Told::Happened(_, happening) => Ok(happening.revision.0),
            Told::Gap(_, missed) => Err(missed),
        })
        .collect()
    }

    fn last_cursor(reader: &mut Reader) -> String {
        let told = std::iter::from_fn(|| reader.try_next()).last();
        match told {
            Some(Told::Happened(cursor, _) | Told::Gap(cursor, _)) => cursor,
            None => reader.cursor(),
        }
    }

    #[test]
    fn a_reader_goes_on_behind_its_cursor_and_sees_its_tenant_only() {
        let feed = fed(1..=3);
        let mut first = feed.reader(of("acme"), &Begin::Recent(10)).unwrap();
        let cursor = last_cursor(&mut first);
        feed.tell(happening("other", "m", 4));
        feed.tell(happening("acme", "m", 5));
        assert_eq!(read(&mut first), [Ok(5)]);
        let mut again = feed.reader(of("acme"), &Begin::After(cursor)).unwrap();
        assert_eq!(read(&mut again), [Ok(5)]);
        let mut other = feed.reader(of("other"), &Begin::Recent(10)).unwrap();
        assert_eq!(read(&mut other), [Ok(4)]);
        let mut newcomer = feed.reader(of("acme"), &Begin::Now).unwrap();
        assert_eq!(read(&mut newcomer), []);
    }

    #[test]
    fn only_what_is_wanted_counts_among_the_last() {
        let feed = fed(1..=5);
        (6..=9).for_each(|number| feed.tell(happening("acme", "other", number)));
        let wanted = Wanted { machine: Some(MachineName::parse("m").unwrap()), ..of("acme") };
        let mut reader = feed.reader(wanted, &Begin::Recent(2)).unwrap();
        assert_eq!(read(&mut reader), [Ok(4), Ok(5)]);
        let elsewhere = Wanted { instance: Some(InstanceId::parse("j").unwrap()), ..of("acme") };
        assert_eq!(read(&mut feed.reader(elsewhere, &Begin::Recent(9)).unwrap()), []);
    }

    #[test]
    fn who_is_too_slow_is_told_how_much_was_missed() {
        let max = REMEMBERED_MAX as u64;
        let feed = fed(1..=1);
        let mut slow = feed.reader(of("acme"), &Begin::Recent(1)).unwrap();
        assert_eq!(read(&mut slow), [Ok(1)]);
        (2..=max + 3).for_each(|number| feed.tell(happening("acme", "m", number)));
        let told = read(&mut slow);
        assert_eq!(told[..2], [Err(Some(2)), Ok(4)]);
        assert_eq!((told.len() as u64, told.last()), (max + 1, Some(&Ok(max + 3))));
    }

    #[test]
    fn a_cursor_of_another_run_gets_a_gap_and_all_that_is_remembered() {
        let feed = fed(1..=2);
        let elsewhere = fed(1..=1).reader(of("acme"), &Begin::Now).unwrap().cursor();
        let from_the_future = feed.cursor(7);
        for cursor in [elsewhere, from_the_future] {
            let mut reader = feed.reader(of("acme"), &Begin::After(cursor)).unwrap();
            assert_eq!(read(&mut reader), [Err(None), Ok(1), Ok(2)]);
        }
        for cursor in ["", "7", "x-1", "1-x"] {
            let refused = feed.reader(of("acme"), &Begin::After(cursor.into())).unwrap_err();
            assert!(refused.contains("no cursor"), "{refused}");
        }
    }

    #[test]
    fn what_may_have_been_saved_unseen_is_a_gap_for_everybody() {
        let feed = fed(1..=2);
        let mut reader = feed.reader(of("acme"), &Begin::Now).unwrap();
        feed.lose();
        feed.tell(happening("acme", "m", 3));
        assert_eq!(read(&mut reader), [Err(Some(1)), Ok(3)]);
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_waits_is_woken_once_and_who_has_gone_is_forgotten() {
        let feed = fed(0..0);
        let mut reader = feed.reader(of("acme"), &Begin::Now).unwrap();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        assert_eq!(reader.poll_next(&mut context), Poll::Pending);
        (1..=2).for_each(|number| feed.tell(happening("acme", "m", number)));
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(read(&mut reader), [Ok(1), Ok(2)]);
        assert_eq!(reader.poll_next(&mut context), Poll::Pending);
        assert_eq!(feed.lock().waiting.len(), 1);
        drop(reader);
        assert_eq!(feed.lock().waiting.len(), 0);
    }
}
