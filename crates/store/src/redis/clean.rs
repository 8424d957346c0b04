//! Cleaning up: what is old goes bucket by bucket, the one with the oldest first.

use kernel::time::Timestamp;

use crate::query::CleanupReport;
use crate::redis::failure::Failure;
use crate::redis::keys::Place;
use crate::redis::pack::Packer;
use crate::redis::{RedisStore, script, value};

/// How much one call of the script deletes, so that nobody waits long for it.
const AT_ONCE: usize = 500;

impl RedisStore {
    pub(super) fn delete_old(&self, before: Timestamp, limit: usize) -> Result<CleanupReport, Failure> {
        self.forget_expired()?;
        let entries_deleted = self.delete("entries", "log", before, limit)?;
        let effects_deleted = self.delete("effects", "settled", before, limit - entries_deleted)?;
        let left = limit - entries_deleted - effects_deleted;
        let instances_deleted = self.delete("beside", "beside", before, left)?;
        let more = entries_deleted + effects_deleted + instances_deleted == limit;
        Ok(CleanupReport { entries_deleted, effects_deleted, instances_deleted, more })
    }

    /// Up to `limit` of what the set of this name leads to.
    fn delete(&self, what: &str, set: &str, before: Timestamp, limit: usize) -> Result<usize, Failure> {
        let bound = format!("({}", before.as_millis());
        let mut deleted = 0;
        let mut places: Vec<Place> = Vec::new();
        for (_, _, place) in self.candidates(set, &bound, limit)? {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        for place in places {
            while deleted < limit {
                let count = (limit - deleted).min(AT_ONCE);
                let done = self.clean(place, what, before, count)?;
                deleted += done;
                if done < count {
                    break;
                }
            }
        }
        Ok(deleted)
    }

    /// Sweeps up after instances that have gone by time.
    fn forget_expired(&self) -> Result<(), Failure> {
        if self.ttl().is_none() {
            return Ok(());
        }
        for place in self.keys().all_buckets() {
            self.clean(place, "expired", Timestamp::from_millis(0), AT_ONCE)?;
        }
        Ok(())
    }

    fn clean(&self, place: Place, what: &str, before: Timestamp, limit: usize) -> Result<usize, Failure> {
        let packed = Packer::array_of(3, |p| {
            p.text(what).number(before.as_millis()).number(limit as i64);
        });
        let deleted = value::number(self.tell_one(self.call(place, &script::CLEAN, packed))?)?;
        Ok(usize::try_from(deleted).unwrap_or(0))
    }
}
