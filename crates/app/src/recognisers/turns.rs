//! `Turns`: of several messages of one person, each waits until the one before has its answer.
//!
//! Asking takes time that differs from message to message, and people write several in a row. Without turns a quick
//! answer would put the second before the first, and the first be understood in the wrong state. In memory, for one
//! process: what is sent to two servers at once comes in any order, as it does without a recogniser.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use kernel::id::{MachineName, Subject, TenantId};
use tokio::sync::{Mutex as Queue, OwnedMutexGuard};

pub(super) type Person = (TenantId, MachineName, Subject);

#[derive(Debug, Default, Clone)]
pub(super) struct Turns(Arc<Mutex<HashMap<Person, Arc<Queue<()>>>>>);

/// Somebody's turn; it ends when this is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    person: Person,
    queue: Arc<Queue<()>>,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// In the order of asking.
    pub async fn wait(&self, person: Person) -> Turn {
        let queue = {
            let mut queues = self.0.lock().expect("no thread panics while it holds this lock");
            Arc::clone(queues.entry(person.clone()).or_default())
        };
        // Made before waiting, so that whoever gives up waiting tidies up too.
        let mut turn = Turn { turns: self.clone(), person, queue, held: None };
        turn.held = Some(Arc::clone(&turn.queue).lock_owned().await);
        turn
    }

    #[cfg(test)]
    fn people(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queues = self.turns.0.lock().expect("no thread panics while it holds this lock");
        self.held = None;
        // The map's and ours: nobody else waits, and nobody can begin to while the map is held.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(&self.person);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn person(subject: &str) -> Person {
        let machine = MachineName::parse("m").unwrap();
        (TenantId::default_tenant(), machine, Subject::parse(subject).unwrap())
    }

    /// Whether it is somebody's turn at once.
    fn ready<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn one_persons_messages_wait_for_each_other_and_no_one_elses() {
        let turns = Turns::default();
        let first = ready(turns.wait(person("ann"))).unwrap();
        let mut second = Box::pin(turns.wait(person("ann")));
        let mut poll = || second.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll().is_pending());
        assert!(ready(turns.wait(person("bob"))).is_some());
        drop(first);
        assert!(poll().is_ready());
    }

    #[test]
    fn nothing_is_kept_of_those_who_have_gone() {
        let turns = Turns::default();
        let first = ready(turns.wait(person("ann"))).unwrap();
        assert!(ready(turns.wait(person("ann"))).is_none());
        assert_eq!(turns.people(), 1);
        let mut gives_up = Box::pin(turns.wait(person("ann")));
        assert!(gives_up.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(first);
        drop(gives_up);
        assert_eq!(turns.people(), 0);
    }
}
