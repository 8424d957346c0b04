//! The floor on Redis: one script call for each commit, a group of them in one pipeline, with the bytes that ours writes.
//!
//! The instance as a hash guarded by its revision, its log as a list, a receipt, and a place among the timers.

use kernel::commit::Commit;
use redis::{Connection, Script};

use super::{Bytes, Sink};
use crate::command::Failure;
use crate::command::bench::decided::{revision, wake_at};

const SAVE: &str = r"
    if (redis.call('HGET', KEYS[1], 'revision') or '0') ~= ARGV[1] then return 0 end
    redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'state', ARGV[3], 'updated_at', ARGV[4], 'body', ARGV[5])
    redis.call('RPUSH', KEYS[2], ARGV[6])
    redis.call('SET', KEYS[3], KEYS[1])
    if ARGV[7] ~= '' then redis.call('ZADD', KEYS[4], ARGV[7], KEYS[1]) end
    return 1";

pub(super) struct Bare {
    connection: Connection,
    hash: String,
    prefix: String,
}

fn failed(error: redis::RedisError) -> Failure {
    Failure(format!("Redis: {error}"))
}

impl Bare {
    pub fn open(url: &str) -> Result<Self, Failure> {
        let client = redis::Client::open(url).map_err(failed)?;
        let mut connection = client.get_connection().map_err(failed)?;
        let hash = Script::new(SAVE).prepare_invoke().load(&mut connection).map_err(failed)?;
        Ok(Self { connection, hash, prefix: format!("bench{}", std::process::id()) })
    }

    /// Before every key of this run, ours too.
    pub fn prefix(&self) -> String {
        self.prefix.clone()
    }
}

impl Sink for Bare {
    fn save(&mut self, group: &[Commit], bytes: &[Bytes]) -> Result<(), Failure> {
        let mut pipeline = redis::pipe();
        let prefix = &self.prefix;
        for (commit, bytes) in group.iter().zip(bytes) {
            let entry = &commit.entry;
            let instance = format!("{prefix}:bare:i:{}/{}", commit.tenant, commit.instance);
            pipeline
                .cmd("EVALSHA")
                .arg(&self.hash)
                .arg(4)
                .arg(&instance)
                .arg(format!("{instance}:log"))
                .arg(format!("{prefix}:bare:r:{:032x}", entry.receipt.0.0))
                .arg(format!("{prefix}:bare:due"))
                .arg(revision(commit) - 1)
                .arg(revision(commit))
                .arg(&entry.to)
                .arg(entry.at.as_millis())
                .arg(&bytes.instance)
                .arg(&bytes.entry)
                .arg(wake_at(commit).map(|at| at.to_string()).unwrap_or_default());
        }
        let saved: Vec<i64> = pipeline.query(&mut self.connection).map_err(failed)?;
        match saved.iter().all(|saved| *saved == 1) {
            true => Ok(()),
            false => Err(Failure("the bare script did not save a commit".into())),
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // What the run has written, a thousand keys at a time; if it fails, the keys say by their prefix what they were.
        let _ = self.delete_all();
    }
}

impl Bare {
    fn delete_all(&mut self) -> redis::RedisResult<()> {
        let pattern = format!("{}:*", self.prefix);
        let mut cursor = 0_u64;
        loop {
            let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(1_000)
                .query(&mut self.connection)?;
            if !keys.is_empty() {
                redis::cmd("UNLINK").arg(keys).query::<()>(&mut self.connection)?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }
}
