//! While a batch is being saved, the next is decided: what has nothing to do with it goes on, and what has waits for it.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use engine::{Answered, Engine, EngineError};
use kernel::commit::Commit;
use kernel::input::Input;
use store::CommitError;

use crate::failing_store::Wrapped;
use crate::world::{World, delay, revision, says, written};

/// Longer than anything here takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A batch that has come to the store and is held there. It is saved when this goes, unless it is told to fail.
struct Held {
    /// The subjects of its commits, in order.
    who: Vec<String>,
    fails: Sender<()>,
}

impl Held {
    fn fail(self) {
        self.fails.send(()).unwrap();
    }
}

/// A world in which every batch is held, with an engine that saves so many at one time.
fn held(writers: usize) -> (World, Engine, Receiver<Held>) {
    let (entered, batches) = channel();
    let entered = Mutex::new(entered);
    let store = Wrapped::new(move |_, batch, inner| {
        let (fails, told) = channel();
        let who = batch.iter().map(subject).collect();
        // A test that is over waits for nothing.
        let _ = entered.lock().unwrap().send(Held { who, fails });
        match told.recv() {
            Ok(()) => Err(CommitError::Unavailable("the disk is away".into())),
            Err(_) => inner.commit(batch),
        }
    });
    store.save_at_once(writers);
    let world = World::over(store);
    let engine = world.engine();
    (world, engine, batches)
}

fn subject(commit: &Commit) -> String {
    let subject = commit.after.as_ref().and_then(|after| after.subject.as_ref());
    subject.map_or_else(String::new, ToString::to_string)
}

fn send(engine: &Engine, input: Input) -> Receiver<Answered> {
    let (answer, answered) = channel();
    engine.submit(input, move |given| {
        let _ = answer.send(given);
    });
    answered
}

fn told(answered: &Receiver<Answered>) -> Answered {
    answered.recv_timeout(PATIENCE).unwrap()
}

fn revision_told(answered: &Receiver<Answered>) -> u64 {
    revision(&told(answered).unwrap().answer)
}

fn next(batches: &Receiver<Held>, who: &[&str]) -> Held {
    let held = batches.recv_timeout(PATIENCE).unwrap();
    assert_eq!(held.who, who);
    held
}

/// Lets every batch through until there is what is waited for.
fn let_through<T>(batches: &Receiver<Held>, mut there: impl FnMut() -> Option<T>) -> T {
    let asked = Instant::now();
    loop {
        let _ = batches.recv_timeout(Duration::from_millis(5));
        if let Some(found) = there() {
            return found;
        }
        assert!(asked.elapsed() < PATIENCE, "it never came");
    }
}

/// The first messages of these people, in one batch that is on its way into the store.
fn in_air(engine: &Engine, batches: &Receiver<Held>, who: [&str; 2]) -> (Held, [Receiver<Answered>; 2]) {
    // One alone is saved by the shard itself: behind it the two come together.
    let alone = send(engine, says("zoe", &format!("before {}", who[0]), "update"));
    let first = next(batches, &["zoe"]);
    let answers = who.map(|who| send(engine, says(who, "k1", "update")));
    drop(first);
    told(&alone).unwrap();
    (next(batches, &who), answers)
}

#[test]
fn a_known_answer_is_given_while_others_are_being_saved() {
    let (_world, engine, batches) = held(1);
    let (both, answers) = in_air(&engine, &batches, ["ana", "ben"]);
    drop(both);
    let first = written(&told(&answers[0]).unwrap());
    let (_held, _) = in_air(&engine, &batches, ["cid", "dan"]);
    let again = told(&send(&engine, says("ana", "k1", "update"))).unwrap();
    assert_eq!((written(&again), again.replayed), (first, true));
}

#[test]
fn what_concerns_somebody_in_the_air_waits_in_its_order() {
    let (world, engine, batches) = held(2);
    let (both, answers) = in_air(&engine, &batches, ["ana", "ben"]);
    let later = ["k2", "k3", "k4"].map(|key| send(&engine, says("ana", key, "Task 1")));
    let repeat = send(&engine, says("ben", "k1", "update"));
    // The second writer is free, and has nothing to do but this.
    let other = send(&engine, says("cid", "k1", "update"));
    let others = next(&batches, &["cid"]);
    drop(others);
    assert_eq!(revision_told(&other), 1);
    assert!(later.iter().chain([&repeat]).all(|answered| answered.try_recv().is_err()));
    drop(both);
    drop(next(&batches, &["ana", "ana", "ana"]));
    assert_eq!([0, 1].map(|n| revision_told(&answers[n])), [1, 1]);
    assert_eq!([0, 1, 2].map(|n| revision_told(&later[n])), [2, 3, 4]);
    assert!(told(&repeat).unwrap().replayed);
    let logged = world.history(&world.session("ana").instance);
    assert_eq!(logged.iter().map(|e| e.key.to_string()).collect::<Vec<_>>(), ["k1", "k2", "k3", "k4"]);
}

#[test]
fn two_batches_are_saved_at_one_time_and_the_later_may_land_first() {
    let (_world, engine, batches) = held(2);
    let (both, answers) = in_air(&engine, &batches, ["ana", "ben"]);
    let others = ["cid", "dan"].map(|who| send(&engine, says(who, "k1", "update")));
    let held = batches.recv_timeout(PATIENCE).unwrap();
    drop(held);
    assert_eq!(revision_told(&others[0]), 1);
    assert!(answers[0].try_recv().is_err());
    drop(both);
    assert_eq!(revision_told(&answers[0]), 1);
}

#[test]
fn what_waited_for_a_batch_that_fails_is_decided_on_what_was_before() {
    let (world, engine, batches) = held(1);
    let (both, answers) = in_air(&engine, &batches, ["ana", "ben"]);
    let later = send(&engine, says("ana", "k2", "update"));
    let repeat = send(&engine, says("ben", "k1", "update"));
    both.fail();
    drop(next(&batches, &["ana", "ben"]));
    for answered in &answers {
        assert!(matches!(told(answered), Err(EngineError::Unavailable(_))));
    }
    assert_eq!(revision_told(&later), 1);
    assert!(!told(&repeat).unwrap().replayed);
    assert_eq!(world.history(&world.session("ana").instance).len(), 1);
}

#[test]
fn a_timer_of_somebody_in_the_air_fires_once_and_after() {
    let (world, engine, batches) = held(1);
    let (both, answers) = in_air(&engine, &batches, ["ana", "ben"]);
    drop(both);
    assert_eq!([0, 1].map(|n| revision_told(&answers[n])), [1, 1]);
    world.clock.advance(delay("3h"));
    let (late, report) = std::thread::scope(|scope| {
        let recovery = scope.spawn(|| engine.recover().unwrap());
        let closing = batches.recv_timeout(PATIENCE).unwrap();
        let late = send(&engine, says("ana", "k9", "update"));
        drop(closing);
        let_through(&batches, || recovery.is_finished().then_some(()));
        let landed = let_through(&batches, || late.try_recv().ok());
        (landed, recovery.join().unwrap())
    });
    assert_eq!(report.timers_fired, 3, "zoe, ana, ben");
    assert_eq!(revision(&late.unwrap().answer), 1, "of a new session");
    assert_eq!(world.session("ana").ordinal, 2);
}

#[test]
fn a_timer_that_came_due_in_the_air_fires_on_landing() {
    let (world, engine, batches) = held(1);
    drop(in_air(&engine, &batches, ["ana", "ben"]).0);
    let first = send(&engine, says("zoe", "k1", "update"));
    drop(next(&batches, &["zoe"]));
    told(&first).unwrap();
    let alone = send(&engine, says("zoe", "k2", "Task 1"));
    let zoe = next(&batches, &["zoe"]);
    let both = ["ana", "ben"].map(|who| send(&engine, says(who, "k2", "Task 1")));
    drop(zoe);
    told(&alone).unwrap();
    let held = next(&batches, &["ana", "ben"]);
    world.clock.advance(delay("3h"));
    // Any input has the shard look for what is due, when it has dealt with that.
    for _ in 0..3 {
        assert!(told(&send(&engine, says("zoe", "k1", "update"))).unwrap().replayed);
    }
    drop(held);
    let closed = || world.session("ana").closure.filter(|_| world.session("zoe").is_closed());
    let_through(&batches, closed);
    assert_eq!(both.each_ref().map(revision_told), [2, 2]);
}

#[test]
fn who_stops_answers_what_is_in_the_air_and_what_waits_for_it() {
    let (_world, mut engine, batches) = held(1);
    let (both, answers) = in_air(&engine, &batches, ["ana", "ben"]);
    let later = send(&engine, says("ana", "k2", "Task 1"));
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| engine.stop());
        drop(both);
        drop(next(&batches, &["ana"]));
        stopping.join().unwrap();
    });
    assert_eq!([&answers[0], &answers[1], &later].map(revision_told), [1, 1, 2]);
}
