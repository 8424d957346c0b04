//! Commits that were decided on beforehand, so that what is measured is saving them.

use kernel::commit::Commit;
use kernel::decide::decide;
use kernel::id::TenantId;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;

use crate::command::Failure;
use crate::command::bench::conversation::{self, TURNS};

/// What a bare program would write of a commit.
#[derive(Debug)]
pub(super) struct Bytes {
    pub instance: String,
    pub entry: String,
}

pub(super) fn revision(commit: &Commit) -> i64 {
    commit.entry.revision.0.cast_signed()
}

pub(super) fn wake_at(commit: &Commit) -> Option<i64> {
    commit.after.as_ref()?.wake_at().map(Timestamp::as_millis)
}

/// The messages of `users` people of a tenant, so that each `group` in a row is of as many people.
pub(super) fn conversations(
    tenant: &str,
    users: usize,
    group: usize,
    mut each: impl FnMut(usize, Commit, Bytes),
) -> Result<(), Failure> {
    let machine = conversation::machine()?;
    let tenant = TenantId::parse(tenant).map_err(Failure)?;
    let now = engine::Clock::System.now();
    for users in (0..users).collect::<Vec<_>>().chunks(group) {
        let mut before = vec![None; users.len()];
        for turn in 0..TURNS {
            for (user, before) in users.iter().zip(&mut before) {
                let mut input = conversation::input(*user, turn)?;
                input.tenant = tenant.clone();
                let commit = decide(&machine, before.as_ref(), &input, now)
                    .map_err(|refusal| Failure(format!("the machine refused it: {}", refusal.message)))?;
                before.clone_from(&commit.after);
                let bytes = Bytes {
                    instance: serde_json::to_string(&commit.after.as_ref().map(Snapshot::stored))?,
                    entry: serde_json::to_string(&commit.entry.stored(&commit.instance))?,
                };
                each(*user, commit, bytes);
            }
        }
    }
    Ok(())
}
