//! How fast commits are saved, beside the bare statement with the same bytes. Run with `--ignored --nocapture`.

use std::time::{Duration, Instant};

use kernel::commit::Commit;
use serde_json::json;
use store::contract::Draft;
use store::{Outcome, Store};

use super::server::{Database, with_client};

const TABLES: &str = "
    CREATE TABLE bare_instances (tenant text COLLATE \"C\", id text COLLATE \"C\", subject text, revision bigint, state text,
        updated_at bigint, wake_at bigint, body text, PRIMARY KEY (tenant, id)) WITH (fillfactor = 75);
    CREATE TABLE bare_log (seq bigserial PRIMARY KEY, tenant text, instance text, revision bigint, at bigint, body text);
    CREATE TABLE bare_receipts (receipt bytea PRIMARY KEY, tenant text, instance text);";

const SAVE: &str = "
    WITH saved AS (
        INSERT INTO bare_instances AS i (tenant, id, subject, revision, state, updated_at, wake_at, body)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[],
            $7::bigint[], $8::text[])
        ON CONFLICT (tenant, id) DO UPDATE SET revision = excluded.revision, state = excluded.state,
            updated_at = excluded.updated_at, wake_at = excluded.wake_at, body = excluded.body
        WHERE i.revision = excluded.revision - 1 RETURNING 1
    ), logged AS (
        INSERT INTO bare_log (tenant, instance, revision, at, body)
        SELECT * FROM unnest($1::text[], $2::text[], $4::bigint[], $6::bigint[], $9::text[]) RETURNING 1
    ), received AS (
        INSERT INTO bare_receipts SELECT * FROM unnest($10::bytea[], $1::text[], $2::text[]) RETURNING 1
    )
    SELECT (SELECT count(*) FROM saved), (SELECT count(*) FROM logged), (SELECT count(*) FROM received)";

/// Groups of as many instances each: created, then changed four times.
fn groups(name: &str, size: usize, rounds: usize) -> Vec<Vec<Commit>> {
    let mut groups = Vec::new();
    for round in 0..rounds {
        // Ids in no order, as hashes are.
        let id = |n: usize| format!("{:08x}-{name}-{round}-{n}", (n * 2_654_435_761 + round * 97) as u32);
        let mut drafts: Vec<Draft> = (0..size)
            .map(|n| {
                Draft::creation(&id(n))
                    .session(&id(n), 1)
                    .timer(5_000)
                    .context("text", json!("x".repeat(500)))
            })
            .collect();
        for change in 0..5 {
            groups.push(drafts.iter().map(|draft| draft.clone().build()).collect());
            drafts = drafts.iter().map(|d| Draft::change(&d.snapshot()).timer(6_000 + change)).collect();
        }
    }
    groups
}

fn per_second(commits: usize, taken: Duration) -> f64 {
    commits as f64 / taken.as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
fn commits_a_second() {
    let database = Database::new();
    let store = database.open();
    database.execute(TABLES);
    for (size, rounds) in [(1, 100), (64, 20), (256, 6)] {
        for pass in 0..3 {
            let groups = groups(&format!("{size}-{pass}"), size, rounds);
            let count: usize = groups.iter().map(Vec::len).sum();
            let bare = with_client(&database.url(), async |client| bare(client, &groups).await);
            let started = Instant::now();
            for group in &groups {
                let outcomes = store.commit(group).expect("the store is there");
                assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Committed), "{outcomes:?}");
            }
            let (ours, bare) = (per_second(count, started.elapsed()), per_second(count, bare));
            println!(
                "groups of {size}: {ours:.0}/s, the bare statement {bare:.0}/s, {:.0} %",
                100.0 * ours / bare
            );
        }
    }
}

async fn bare(client: &tokio_postgres::Client, groups: &[Vec<Commit>]) -> Duration {
    let save = client.prepare(SAVE).await.expect("it can be prepared");
    let mut taken = Duration::ZERO;
    for group in groups {
        let started = Instant::now();
        let snapshots: Vec<_> = group.iter().map(|c| c.after.as_ref().expect("they are changes")).collect();
        let tenants: Vec<&str> = group.iter().map(|c| c.tenant.as_str()).collect();
        let ids: Vec<&str> = group.iter().map(|c| c.instance.as_str()).collect();
        let subjects: Vec<_> = snapshots.iter().map(|s| s.subject.as_ref().map(|s| s.as_str())).collect();
        let revisions: Vec<i64> = group.iter().map(|c| c.entry.revision.0 as i64).collect();
        let states: Vec<&str> = group.iter().map(|c| c.entry.to.as_str()).collect();
        let times: Vec<i64> = group.iter().map(|c| c.entry.at.as_millis()).collect();
        let wakes: Vec<Option<i64>> =
            snapshots.iter().map(|s| s.wake_at().map(|at| at.as_millis())).collect();
        let bodies: Vec<String> =
            snapshots.iter().map(|s| serde_json::to_string(s).expect("it prints")).collect();
        let entries: Vec<String> =
            group.iter().map(|c| serde_json::to_string(&c.entry).expect("it prints")).collect();
        let receipts: Vec<[u8; 16]> = group.iter().map(|c| c.entry.receipt.0.0.to_be_bytes()).collect();
        let receipts: Vec<&[u8]> = receipts.iter().map(|receipt| &receipt[..]).collect();
        client
            .query_one(
                &save,
                &[
                    &tenants, &ids, &subjects, &revisions, &states, &times, &wakes, &bodies, &entries,
                    &receipts,
                ],
            )
            .await
            .expect("it is saved");
        taken += started.elapsed();
    }
    taken
}
