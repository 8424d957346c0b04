//! What was sent of every record, so that a record that says the same as before is not sent again.
//!
//! Digests only: of what a record is called, and of what it said last. Knows nothing of where records come from.

use std::collections::{HashMap, HashSet};

use kernel::id::Digest;

use crate::command::import::account::Fate;

#[derive(Debug, Default)]
pub(super) struct Memory {
    known: HashMap<Digest, Known>,
    /// What came to no session: skipped, or rejected before it was sent.
    dropped: HashSet<Digest>,
    round: u32,
}

#[derive(Debug)]
struct Known {
    says: Digest,
    /// The last in which it was there.
    round: u32,
    sent: Sent,
    is_missed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sent {
    /// What has come of it is not known yet.
    UnderWay,
    Settled,
    /// It was rejected because of something that may pass.
    Waits,
}

/// Whether a record is to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum News {
    /// It says what it said before.
    Nothing,
    Something,
    /// It was rejected before; if it is again, nobody need be told.
    OnceMore,
}

impl Memory {
    pub fn begin_round(&mut self) {
        self.round += 1;
    }

    pub fn met(&mut self, name: Digest, says: Digest) -> News {
        let round = self.round;
        let news = match self.known.get(&name) {
            Some(known) if known.says == says && known.sent == Sent::Waits => News::OnceMore,
            Some(known) if known.says == says => News::Nothing,
            _ => News::Something,
        };
        let sent = match news {
            News::Nothing => self.known.get(&name).map_or(Sent::UnderWay, |known| known.sent),
            _ => Sent::UnderWay,
        };
        self.known.insert(name, Known { says, round, sent, is_missed: false });
        news
    }

    /// Whether what came to no session is new.
    pub fn drop_first(&mut self, record: Digest) -> bool {
        self.dropped.insert(record)
    }

    /// What has come of a record. A later one of the same name may be on its way already.
    pub fn settle(&mut self, name: Digest, says: Digest, fate: &Fate) {
        if let Some(known) = self.known.get_mut(&name).filter(|known| known.says == says) {
            known.sent = match fate {
                Fate::Rejected { may_pass: true, .. } => Sent::Waits,
                _ => Sent::Settled,
            };
        }
    }

    /// Forgets what was sent and has no answer, so that it is sent again. With all that there is having been read, says how
    /// many are there no longer that were.
    pub fn end_round(&mut self, is_all: bool) -> u64 {
        self.known.retain(|_, known| known.sent != Sent::UnderWay);
        let mut missed = 0;
        for known in self.known.values_mut().filter(|known| is_all && known.round < self.round) {
            missed += u64::from(!known.is_missed);
            known.is_missed = true;
        }
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    /// Records as `name:content`, each with what comes of it, if anything does; gives what was sent.
    fn round(memory: &mut Memory, records: &[(&str, Option<Fate>)], is_all: bool) -> (Vec<News>, u64) {
        memory.begin_round();
        let mut news = Vec::new();
        for (record, fate) in records {
            let (name, says) =
                record.split_once(':').map(|(name, says)| (digest(name), digest(says))).unwrap();
            news.push(memory.met(name, says));
            if let Some(fate) = fate {
                memory.settle(name, says, fate);
            }
        }
        (news, memory.end_round(is_all))
    }

    #[test]
    fn what_says_the_same_is_sent_once() {
        let mut memory = Memory::default();
        let done = || Some(Fate::Existed);
        let waits = || Some(Fate::Rejected { reason: "later".into(), may_pass: true });
        use News::{Nothing, OnceMore, Something};
        for (records, expected) in [
            (vec![("a:1", done()), ("b:1", done())], [Something, Something]),
            (vec![("a:1", None), ("b:2", done())], [Nothing, Something]),
            // It has been something else in between.
            (vec![("a:2", done()), ("a:1", done())], [Something, Something]),
            (vec![("a:1", None), ("b:2", None)], [Nothing, Nothing]),
            // Nobody knows what came of one, and one may come to something another time.
            (vec![("a:3", None), ("b:3", waits())], [Something, Something]),
            (vec![("a:3", done()), ("b:3", waits())], [Something, OnceMore]),
            (vec![("a:3", None), ("b:3", done())], [Nothing, OnceMore]),
            (vec![("a:3", None), ("b:3", None)], [Nothing, Nothing]),
        ] {
            assert_eq!(round(&mut memory, &records, false), (expected.to_vec(), 0), "{records:?}");
        }
    }

    #[test]
    fn what_is_there_no_longer_is_missed_once() {
        let mut memory = Memory::default();
        let done = || Some(Fate::Existed);
        let all = [("a:1", done()), ("b:1", done()), ("c:1", done())];
        round(&mut memory, &all, true);
        assert_eq!(round(&mut memory, &all[..1], false).1, 0, "only a part was read");
        for missed in [2, 0] {
            assert_eq!(round(&mut memory, &all[..1], true).1, missed);
        }
        assert_eq!(round(&mut memory, &all[..2], true), (vec![News::Nothing; 2], 0));
        assert_eq!(round(&mut memory, &all[..1], true).1, 1);
    }
}
