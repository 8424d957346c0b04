//! Redis beside the store that forgets, through the same random work: all that they say has to be the same.
//!
//! The counts of Redis are kept by its scripts, those of the model are counted anew each time, so that a count that went
//! astray is found here.

use kernel::conversation::ClarificationStatus;
use kernel::flow::PhaseState;
use kernel::snapshot::{Snapshot, StuckBy};
use store::contract::{Draft, at, phase, tenant};
use store::phase::WorkerQuery;
use store::{
    ClarificationQuery, DeliveryReport, DeliveryStage, EffectQuery, EffectStatus, HistoryQuery,
    InstanceQuery, MemoryStore, PhaseQuery, Settlement, SettlementResult, StandingAt, Store,
};

use crate::redis_support::{CLUSTER, ONE, fresh_prefix, open, server, url_of};

/// Numbers that look random and are the same in every run with the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len() as u64) as usize]
    }
}

const TENANTS: [&str; 4] = ["t", "u", "t~shadow", "t~receipts"];
const STEPS: u64 = 400;

struct Pair {
    redis: Box<dyn Store>,
    model: MemoryStore,
    dice: Dice,
    now: i64,
    instances: Vec<Snapshot>,
    questions: u64,
    tenants: &'static [&'static str],
}

impl Pair {
    fn both<T: PartialEq + std::fmt::Debug>(&self, what: &str, ask: impl Fn(&dyn Store) -> T) -> T {
        let expected = ask(&self.model);
        assert_eq!(ask(&*self.redis), expected, "{what} at {}", self.now);
        expected
    }

    fn same<T: PartialEq + std::fmt::Debug>(&self, what: &str, ask: impl Fn(&dyn Store) -> T) {
        let _ = self.both(what, ask);
    }

    /// A commit on an instance as it was at some time, so that many come too late.
    fn draft(&mut self) -> Draft {
        let (now, dice) = (self.now, &mut self.dice);
        let known = self.instances.len() as u64;
        let mut draft = if known == 0 || dice.roll(4) == 0 {
            let of = dice.one_of(self.tenants);
            let subject = format!("s{}", dice.roll(5));
            let draft = Draft::creation(&format!("i{}", dice.roll(30))).tenant(of);
            draft.machine(dice.one_of(&["order", "invoice"])).session(&subject, dice.roll(3) as u32)
        } else {
            let before = self.instances[dice.roll(known) as usize].clone();
            if dice.roll(6) == 0 {
                return Draft::refusal(&before).at(now).key(&format!("k{}", dice.roll(200)));
            }
            Draft::change(&before)
        };
        let (now, dice) = (self.now, &mut self.dice);
        draft =
            draft.at(now).key(&format!("k{}", dice.roll(1_000))).state(dice.one_of(&["open", "a.b", "x,y"]));
        draft = match dice.roll(3) {
            0 => draft.no_timer(),
            1 => draft.timer(now + dice.roll(500) as i64),
            _ => draft,
        };
        for _ in 0..dice.roll(3) {
            draft = match dice.roll(3) {
                0 => draft.effect("reply"),
                1 => draft.calls("c"),
                _ => draft.tells("other", "e"),
            };
        }
        for place in 0..dice.roll(3) as u16 {
            let state = dice.one_of(&PhaseState::ALL);
            let mut row = phase(place, state);
            row.offered_at = (dice.roll(2) == 0).then(|| at(now - dice.roll(50) as i64));
            row.retries = dice.roll(3) as u32;
            row.lease = (dice.roll(3) == 0).then(|| format!("l:{}", dice.roll(3)));
            row.error = (dice.roll(3) == 0).then(|| "E%".to_owned());
            draft = draft.phase(row);
        }
        if dice.roll(4) == 0 {
            self.questions += 1;
            let status = dice.one_of(&[ClarificationStatus::Expired, ClarificationStatus::Answered]);
            draft = draft.question(&format!("q:{}", dice.roll(self.questions)), status);
        }
        if dice.roll(5) == 0 {
            draft = draft.closed(dice.one_of(&["completed", "timeout"]));
        }
        draft
    }

    fn commit(&mut self) {
        let mut batch = Vec::new();
        for _ in 0..=self.dice.roll(4) {
            let draft = self.draft();
            let after = draft.snapshot();
            batch.push(draft.build());
            if self.dice.roll(2) == 0 {
                let next = Draft::change(&after).at(self.now).key(&format!("n{}", self.dice.roll(1_000)));
                batch.push(next.build());
            }
        }
        let outcomes = self.both("outcomes", |store| store.commit(&batch));
        for (commit, outcome) in batch.iter().zip(outcomes.unwrap_or_default()) {
            if outcome == store::Outcome::Committed {
                self.instances.extend(commit.after.clone());
            }
        }
        if self.instances.len() > 60 {
            self.instances.drain(..30);
        }
    }

    fn deliver(&mut self) {
        let (now, limit) = (self.now, self.dice.roll(5) as usize);
        let claimed = self.both("claims", |store| {
            let claimed = store.claim_effects(at(now), at(now + 40), limit).expect("they can be claimed");
            let seen = claimed
                .into_iter()
                .map(|c| (c.effect.tenant, c.effect.effect.key, c.effect.attempts, c.interrupted));
            let mut seen: Vec<_> = seen.collect();
            // What is due since the same time is in the order of numbers, which are each tenant's own.
            seen.sort();
            seen
        });
        for (of, key, attempt, _) in claimed {
            let error = || "so it is".to_owned();
            let result = match self.dice.roll(6) {
                0 => continue,
                1 => SettlementResult::Retry { at: at(now + 30), error: error(), parts_done: 1 },
                2 => SettlementResult::Dead { error: error(), parts_done: 2 },
                3 => SettlementResult::Postponed { at: at(now + 10), error: error() },
                4 => SettlementResult::Unknown { error: error(), parts_done: 0 },
                _ => SettlementResult::Delivered { provider_id: Some(format!("p{}", self.dice.roll(9))) },
            };
            let settlement = Settlement { tenant: of, key, attempt, result };
            self.same("settled", |store| store.settle_effects(std::slice::from_ref(&settlement), at(now)));
        }
        let report = DeliveryReport {
            tenant: tenant("t"),
            provider_id: format!("p{}", self.dice.roll(9)),
            key: None,
            stage: self.dice.one_of(&DeliveryStage::ALL),
            error: Some("reported".to_owned()),
        };
        self.same("reported", |store| store.note_stage(&report));
        let all = self.model.effects(&EffectQuery::of(tenant("t"))).expect("the model answers").data;
        if !all.is_empty() {
            let key = all[self.dice.roll(all.len() as u64) as usize].effect.key.clone();
            self.same("retried", |store| store.retry_effect(&tenant("t"), &key, at(now)));
        }
    }

    fn look(&mut self) {
        let limit = 1 + self.dice.roll(20) as usize;
        let now = self.now;
        for of in TENANTS {
            let of = kernel::id::TenantId::stored(of).expect("a tenant or what is beside one");
            let all = InstanceQuery { limit, ..InstanceQuery::of(of.clone()) };
            let queries = [
                all.clone(),
                InstanceQuery { closed: Some(true), ..all.clone() },
                InstanceQuery { due_before: Some(at(now)), ..all.clone() },
                InstanceQuery { state: Some("a".into()), idle_since: Some(at(now - 20)), ..all },
            ];
            for query in queries {
                let page =
                    self.both("instances", |store| store.instances(&query)).expect("the model answers");
                for snapshot in &page.data {
                    let query = HistoryQuery {
                        tenant: of.clone(),
                        instance: snapshot.instance.clone(),
                        cursor: None,
                        limit: 100,
                    };
                    self.same("history", |store| store.history(&query).map(|page| page.data));
                }
            }
            let all = PhaseQuery { limit, ..PhaseQuery::of(of.clone()) };
            let queries = [
                all.clone(),
                PhaseQuery { state: Some(PhaseState::Failed), ..all.clone() },
                PhaseQuery { lease: Some("l:1".into()), ..all.clone() },
                PhaseQuery { error: Some("E%".into()), min_retries: Some(1), ..all.clone() },
                PhaseQuery { for_worker: Some(WorkerQuery { now: at(now - 9), kind: String::new() }), ..all },
            ];
            for query in queries {
                let page = self.both("phases", |store| store.phases(&query)).expect("the model answers");
                let next = PhaseQuery { cursor: page.next, ..query };
                self.same("more phases", |store| store.phases(&next));
            }
            let query =
                ClarificationQuery { tenant: of.clone(), status: None, id: None, cursor: None, limit };
            self.same("questions", |store| store.clarifications(&query));
            for statuses in [vec![], vec![EffectStatus::Dead, EffectStatus::Pending]] {
                let query = EffectQuery { statuses, limit: 10_000, ..EffectQuery::of(of.clone()) };
                let unnumbered = |store: &dyn Store| {
                    let page = store.effects(&query).expect("effects can be listed");
                    let unnumbered = |effect| store::OutboxEffect { seq: 0, ..effect };
                    let mut effects: Vec<_> = page.data.into_iter().map(unnumbered).collect();
                    // What of a batch has to be saved one by one is saved last.
                    effects.sort_by(|a, b| a.effect.key.cmp(&b.effect.key));
                    effects
                };
                self.same("effects", unnumbered);
            }
        }
        self.same("statistics", |store| {
            let mut figures = store.statistics().expect("the store answers");
            // The latest there has been, also when it was deleted since.
            figures.latest_change = None;
            figures
        });
        let stuck_by = StuckBy { overdue_since: at(self.now - 5), silent_since: at(self.now - 50) };
        let now = at(self.now);
        self.same("standings", |store| store.standings(StandingAt { now, stuck_by }));
        self.same("next effect", |store| store.next_effect_due());
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.now += self.dice.roll(20) as i64;
            match self.dice.roll(8) {
                0..=3 => self.commit(),
                4 | 5 => self.deliver(),
                6 => {
                    let now = self.now;
                    self.same("due", |store| {
                        let due = store.claim_due(at(now), at(now + 30), 1_000);
                        due.map(|mut due| {
                            due.sort();
                            due
                        })
                    });
                    self.same("next due", |store| store.next_due());
                }
                _ if self.dice.roll(6) == 0 => {
                    let before = at(self.now - 100);
                    self.same("cleaned up", |store| store.clean_up(before, 1_000));
                }
                _ => self.look(),
            }
        }
        self.look();
    }
}

#[test]
fn everything_is_as_in_the_model() {
    // On a cluster, a batch about several tenants that violates something may be saved in part; an instance that was
    // deleted beside a tenant and is begun again does that.
    for (seed, variable, tenants) in
        [(1, ONE, &TENANTS[..]), (2, ONE, &TENANTS), (3, ONE, &TENANTS), (4, CLUSTER, &TENANTS[..2])]
    {
        let redis = Box::new(open(&url_of(&server(variable), &fresh_prefix())));
        let model = MemoryStore::new();
        Pair { redis, model, dice: Dice(seed), now: 10_000, instances: Vec::new(), questions: 0, tenants }
            .run();
    }
}
