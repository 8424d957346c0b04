//! Commits: chains into one call of a script, and what it says about them.
//!
//! On one server a batch is one call and so atomic, whatever tenants it is about. On a cluster it is one call for each
//! bucket, all sent at once: a batch that one of them refuses whole may be saved in the others, and nobody is told that
//! nothing was.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use kernel::commit::Commit;
use kernel::conversation::ClarificationStatus;
use redis::Value;

use crate::chain::Batch;
use crate::record::{ClarificationRow, InstanceRow, LineRow, PhaseOf, Prepared, number};
use crate::redis::failure::{self, Failure};
use crate::redis::keys::{Place, escaped};
use crate::redis::pack::Packer;
use crate::redis::servers::Call;
use crate::redis::{RedisStore, script, value};
use crate::row;
use crate::seal;
use crate::{CommitError, Outcome};

/// The commits of one instance that are saved together, with their places in the batch.
type Links<'a, 'b> = Vec<(usize, &'b Prepared<'a>)>;

/// What the script says of a chain.
enum Answer {
    Saved,
    Undecided,
    Stale,
    Duplicate(Vec<u8>),
}

/// Chains of one bucket.
struct Group<'a, 'b> {
    place: Place,
    /// The highest number of its log that was heard of before it is asked.
    seen: i64,
    /// With their places among all chains.
    chains: Vec<(usize, &'b Links<'a, 'b>)>,
}

impl RedisStore {
    pub(super) fn save_batch(&self, commits: &[Commit]) -> Result<Vec<Outcome>, CommitError> {
        let batch = Batch::new(&self.records, commits);
        check_questions(commits).map_err(CommitError::Unavailable)?;
        let mut outcomes: Vec<Option<Outcome>> = vec![None; commits.len()];
        let mut places = Vec::new();
        let mut chains: Vec<Links<'_, '_>> = Vec::new();
        for chain in batch.chains().into_iter().filter(|chain| chain.is_sound) {
            let link = |place: &usize| Some((*place, batch.prepared[*place].as_ref().ok()?));
            chains.push(chain.places.iter().filter_map(link).collect());
            places.push(chain.places);
        }
        let answers = self.save_chains(&chains)?;
        let mut is_any_saved = false;
        for (places, answer) in places.iter().zip(answers) {
            let outcome = match answer {
                Answer::Undecided => continue,
                Answer::Saved => Outcome::Committed,
                Answer::Stale => Outcome::Stale,
                Answer::Duplicate(line) => self.duplicate(&batch.commits[places[0]], &line),
            };
            is_any_saved |= outcome == Outcome::Committed;
            for place in places {
                outcomes[*place] = Some(outcome.clone());
            }
        }
        let open: Vec<usize> = (0..commits.len()).filter(|place| outcomes[*place].is_none()).collect();
        let saved = batch.one_by_one(open, &mut outcomes, |prepared, passed_over| {
            let outcome = self.save_one(prepared, passed_over)?;
            is_any_saved |= outcome == Outcome::Committed;
            Ok(outcome)
        });
        match saved {
            Ok(()) => Ok(outcomes.into_iter().flatten().collect()),
            Err(error) if is_any_saved => {
                Err(CommitError::Unknown(format!("only a part was saved: {error}")))
            }
            Err(error) => Err(error),
        }
    }

    /// A commit by itself. `passed_over`: what it was decided on was not saved.
    fn save_one(&self, prepared: &Prepared<'_>, passed_over: bool) -> Result<Outcome, CommitError> {
        let commit = prepared.commit;
        if passed_over {
            let line = self.line(&commit.tenant, commit.entry.receipt)?;
            return Ok(line.map_or(Outcome::Stale, |line| self.duplicate(commit, &line)));
        }
        let answer = self.save_chains(&[vec![(0, prepared)]])?.pop();
        Ok(match answer {
            Some(Answer::Saved) => Outcome::Committed,
            Some(Answer::Duplicate(line)) => self.duplicate(commit, &line),
            Some(Answer::Stale) => Outcome::Stale,
            Some(Answer::Undecided) | None => {
                return Err(Failure::strange("a single commit that is undecided").into());
            }
        })
    }

    /// What an input left that was handled before. If that is damaged, there is no first answer to give: the commit is
    /// stale then, which sends the caller to `receipt`, which says what is wrong.
    fn duplicate(&self, commit: &Commit, line: &[u8]) -> Outcome {
        match row::entry(commit.entry.receipt.0.0.to_be_bytes(), line, &self.records.secrets) {
            Ok(found) => Outcome::Duplicate(Box::new(found)),
            Err(seal::Fault::Damaged(damage)) => {
                self.quarantine(&[*damage]);
                Outcome::Stale
            }
            Err(seal::Fault::NewerFormat(_) | seal::Fault::Locked(_)) => Outcome::Stale,
            Err(seal::Fault::Backend(never)) => match never {},
        }
    }

    fn save_chains(&self, chains: &[Links<'_, '_>]) -> Result<Vec<Answer>, Failure> {
        if chains.is_empty() {
            return Ok(Vec::new());
        }
        let groups = self.groups(chains);
        let effects: usize = chains.iter().flatten().map(|(_, link)| link.effects.len()).sum();
        let first = self.effects_heard.fetch_add(effects as i64, Ordering::Relaxed) + 1;
        let numbers = numbered_effects(chains, first);
        // What is with one server is one call. Elsewhere only what is in one slot can be.
        let each: usize = if self.servers.is_cluster { 1 } else { groups.len() };
        let calls: Vec<Call> = groups
            .chunks(each)
            .map(|groups| {
                let packed = self.packed(groups, first, &numbers);
                let keys = groups.iter().map(|group| self.keys().meta(group.place)).collect();
                Call::script(groups[0].place, &script::COMMIT, keys, &self.identity, packed)
            })
            .collect();
        let replies = failure::all(self.servers.ask_and_wait(&calls, self.location.wait))?;
        let mut answers: Vec<Answer> = chains.iter().map(|_| Answer::Undecided).collect();
        for (groups, reply) in groups.chunks(each).zip(replies) {
            for (group, reply) in groups.iter().zip(value::list(reply)?) {
                let [seq, effects, lost, outcomes] = value::parts(reply)?;
                self.heard(group.place, value::number(seq)?, value::number(effects)?);
                let lost = value::number(lost)?;
                if lost > 0 {
                    self.note_loss(group.place, lost);
                }
                for ((index, _), outcome) in group.chains.iter().zip(value::list(outcomes)?) {
                    answers[*index] = answer(outcome)?;
                }
            }
        }
        Ok(answers)
    }

    fn groups<'a, 'b>(&self, chains: &'b [Links<'a, 'b>]) -> Vec<Group<'a, 'b>> {
        let mut groups: Vec<Group<'a, 'b>> = Vec::new();
        for (index, links) in chains.iter().enumerate() {
            let Some((_, first)) = links.first() else { continue };
            let place = self.keys().bucket_of(&first.commit.tenant);
            match groups.iter_mut().find(|group| group.place == place) {
                Some(group) => group.chains.push((index, links)),
                None => groups.push(Group { place, seen: self.seen(place), chains: vec![(index, links)] }),
            }
        }
        groups
    }

    fn packed(&self, groups: &[Group<'_, '_>], first: i64, numbers: &HashMap<usize, i64>) -> Vec<u8> {
        Packer::array_of(2, |p| {
            p.optional_number(self.ttl());
            p.array(groups.len());
            for group in groups {
                p.array(3).number(group.seen).number(first).array(group.chains.len());
                for (_, links) in &group.chains {
                    pack_chain(p, links, numbers);
                }
            }
        })
    }
}

fn answer(value: Value) -> Result<Answer, Failure> {
    Ok(match value {
        Value::Int(0) => Answer::Undecided,
        Value::Int(1) => Answer::Saved,
        Value::Int(2) => Answer::Stale,
        line => Answer::Duplicate(value::bytes(line)?),
    })
}

/// The number of the first effect of each commit, by its place, in the order of the batch.
fn numbered_effects(chains: &[Links<'_, '_>], first: i64) -> HashMap<usize, i64> {
    let mut counts: Vec<(usize, usize)> =
        chains.iter().flatten().map(|(place, link)| (*place, link.effects.len())).collect();
    counts.sort_unstable();
    let mut next = first;
    let numbered = counts.into_iter().map(|(place, count)| {
        let number = next;
        next += count as i64;
        (place, number)
    });
    numbered.collect()
}

/// Two pending questions of one instance are a mistake of the program. Where it can be seen here, nothing is sent.
fn check_questions(commits: &[Commit]) -> Result<(), String> {
    for commit in commits {
        let pending = commit.clarifications.iter().filter(|c| c.status == ClarificationStatus::Pending);
        let asked: HashSet<&str> = pending.map(|c| c.id.as_str()).collect();
        if asked.len() > 1 {
            return Err(format!("{} has a pending clarification", commit.instance));
        }
    }
    Ok(())
}

/// As `commit.lua` says what is in a chain.
fn pack_chain(p: &mut Packer, links: &Links<'_, '_>, numbers: &HashMap<usize, i64>) {
    let commit = links[0].1.commit;
    p.array(10);
    p.text(&escaped(commit.tenant.as_str())).text(&escaped(commit.instance.as_str()));
    p.text(commit.instance.as_str()).number(number(commit.expected)).flag(commit.tenant.is_beside());
    p.array(links.len());
    for (_, link) in links {
        let receipt = row::receipt_name(link.line.receipt);
        p.array(3)
            .text(&receipt)
            .text(&row::entry_value(&link.line))
            .number(link.commit.entry.at.as_millis());
    }
    match links.iter().rev().find_map(|(_, link)| link.instance.as_ref()) {
        None => {
            p.flag(false);
        }
        Some(instance) => pack_instance(p, instance),
    }
    pack_questions(p, &links.iter().flat_map(|(_, link)| &link.clarifications).collect::<Vec<_>>());
    pack_phases(p, &links.iter().flat_map(|(_, link)| &link.phases).collect::<Vec<_>>());
    p.array(links.iter().map(|(_, link)| link.effects.len()).sum());
    for (place, link) in links {
        let first = numbers.get(place).copied().unwrap_or_default();
        for (number, effect) in (first..).zip(&link.effects) {
            p.array(5).text(&effect.effect.key).number(number).optional_text(row::lane(effect.effect));
            p.number(effect.created_at.as_millis()).text(&row::effect_value(effect));
        }
    }
}

pub(super) fn pack_line(p: &mut Packer, line: &LineRow<'_>) {
    p.array(3)
        .text(&row::receipt_name(line.receipt))
        .text(&row::entry_value(line))
        .number(line.entry.at.as_millis());
}

pub(super) fn pack_instance(p: &mut Packer, instance: &InstanceRow<'_>) {
    let snapshot = instance.snapshot;
    p.array(10).text(&row::head_of(instance)).text(&instance.body);
    p.text(snapshot.machine.as_str()).optional_text(instance.subject());
    p.number(i64::from(snapshot.ordinal)).text(&instance.state);
    p.optional_text(instance.closure_reason()).number(snapshot.updated_at.as_millis());
    p.optional_number(instance.wake_at).optional_number(instance.looping_until);
}

pub(super) fn pack_questions(p: &mut Packer, questions: &[&ClarificationRow<'_>]) {
    p.array(questions.len());
    for question in questions {
        let clarification = question.clarification;
        p.array(5).text(&escaped(&clarification.id)).text(&clarification.id);
        p.text(clarification.status.as_str()).number(clarification.created_at.as_millis());
        p.text(&row::question_value(question));
    }
}

pub(super) fn pack_phases(p: &mut Packer, phases: &[&PhaseOf<'_>]) {
    p.array(phases.len());
    for phase in phases {
        p.array(2).number(phase.row.place.into()).text(&row::phase_value(phase));
    }
}
