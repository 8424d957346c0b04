//! `Queues`: of several messages of one person, each waits until the one before has its answer.
//!
//! Asking takes time that differs from message to message, and people write several in a row. Without a queue a quick
//! answer would put the second before the first, and the first be understood in the wrong state. In memory, for one
//! process: what is sent to two servers at once comes in any order, as it does without a recogniser.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use kernel::id::{MachineName, Subject, TenantId};
use tokio::sync::oneshot::{Receiver, Sender, channel};

pub(super) type Person = (TenantId, MachineName, Subject);

#[derive(Clone, Debug, Default)]
pub(super) struct Queues(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The last in each queue.
    last: HashMap<Person, Before>,
    places: u64,
}

/// Who is in front: the number of the place, and what tells of its end.
#[derive(Debug)]
struct Before {
    number: u64,
    gone: Receiver<Gone>,
}

/// Who leaves the queue tells the one behind whom that one waits for now: nobody, or whoever is still in front of the
/// one who gave up.
#[derive(Debug)]
struct Gone {
    before: Option<Before>,
}

/// Somebody's place; it is left when this is dropped.
#[derive(Debug)]
pub struct Place {
    queues: Queues,
    person: Person,
    number: u64,
    before: Option<Before>,
    behind: Option<Sender<Gone>>,
}

impl Queues {
    /// The place behind all who entered before.
    pub fn enter(&self, person: Person) -> Place {
        let (behind, gone) = channel();
        let mut state = self.0.lock().expect("no thread panics while it holds this lock");
        state.places += 1;
        let number = state.places;
        let before = state.last.insert(person.clone(), Before { number, gone });
        drop(state);
        Place { queues: self.clone(), person, number, before, behind: Some(behind) }
    }
}

impl Place {
    /// Waits until all who were before are gone, and is first then until it is dropped.
    pub async fn reached(mut self) -> Self {
        while let Some(before) = &mut self.before {
            // Whoever goes without a word has nobody in front.
            self.before = (&mut before.gone).await.ok().and_then(|gone| gone.before);
        }
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.queues.0.lock().expect("no thread panics while it holds this lock");
        let mut before = self.before.take();
        // Of those in front, who has gone meanwhile is nobody to wait for.
        while let Some(Ok(gone)) = before.as_mut().map(|before| before.gone.try_recv()) {
            before = gone.before;
        }
        if state.last.get(&self.person).is_some_and(|last| last.number == self.number) {
            // Nobody is behind; who comes next waits for whoever is still in front.
            match before {
                Some(before) => state.last.insert(self.person.clone(), before),
                None => state.last.remove(&self.person),
            };
        } else if let Some(behind) = self.behind.take() {
            // The one behind may have given up as well.
            let _ = behind.send(Gone { before });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn person(subject: &str) -> Person {
        let machine = MachineName::parse("m").unwrap();
        (TenantId::default_tenant(), machine, Subject::parse(subject).unwrap())
    }

    type Waiting = Pin<Box<dyn Future<Output = Place>>>;

    fn enter(queues: &Queues, subject: &str) -> Waiting {
        Box::pin(queues.enter(person(subject)).reached())
    }

    fn reached(waiting: &mut Waiting) -> Option<Place> {
        match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    fn people(queues: &Queues) -> usize {
        queues.0.lock().unwrap().last.len()
    }

    #[test]
    fn one_persons_messages_wait_for_each_other_in_the_order_of_entering() {
        let queues = Queues::default();
        let [mut first, mut second, mut third] = [(); 3].map(|()| enter(&queues, "ann"));
        let mut other = enter(&queues, "bob");
        // Whoever asks first need not be first.
        assert!(reached(&mut third).is_none());
        assert!(reached(&mut second).is_none());
        let at_work = reached(&mut first).unwrap();
        assert!(reached(&mut other).is_some(), "another person waits for nobody");
        assert!(reached(&mut second).is_none());
        drop(at_work);
        let at_work = reached(&mut second).unwrap();
        assert!(reached(&mut third).is_none());
        drop(at_work);
        assert!(reached(&mut third).is_some());
        assert_eq!(people(&queues), 0, "nothing is kept of those who have gone");
    }

    #[test]
    fn who_gives_up_lets_nobody_past_the_one_in_front() {
        let queues = Queues::default();
        let [mut first, second, mut third] = [(); 3].map(|()| enter(&queues, "ann"));
        let at_work = reached(&mut first).unwrap();
        drop(second);
        assert!(reached(&mut third).is_none(), "the first is still at work");
        // The last gives up, and another enters.
        drop(third);
        assert_eq!(people(&queues), 1);
        let mut fourth = enter(&queues, "ann");
        assert!(reached(&mut fourth).is_none(), "the first is still at work");
        drop(at_work);
        let at_work = reached(&mut fourth).unwrap();
        drop(enter(&queues, "ann"));
        drop(at_work);
        assert_eq!(people(&queues), 0, "nothing is kept of those who have gone");
    }
}
