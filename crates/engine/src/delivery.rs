//! Delivery: effects are brought from the outbox to whom they are for.
//!
//! Owns what a deliverer has to know about where effects go (`Route`) and how an attempt ends (`Carried`), and starts the
//! thread that does it (`courier`). It makes no request itself: that is a `Carrier`. What one flow tells another goes to no
//! endpoint but back to the shard (`tell`). What must survive a crash is in the
//! store; what is held here (breakers, rates, what is under way) may be lost with the process.

mod courier;
mod guard;
mod schedule;
mod tell;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use kernel::id::{MachineName, TenantId};
use kernel::input::CallOutcome;
use kernel::time::Delay;
use store::OutboxEffect;

use crate::Answered;
pub(crate) use courier::Courier;
pub use courier::attempt_of;
pub use schedule::Schedule;

/// How long a caller waits for deliveries to come to rest after a virtual clock was moved.
const REST_MAX: Duration = Duration::from_secs(10);

/// Makes the requests that deliver effects.
pub trait Carrier: Send + Sync + fmt::Debug {
    /// Where an effect goes, by the settings that hold now.
    fn route(&self, effect: &OutboxEffect) -> Route;

    /// Sends an effect, and says once, on any thread, how that ended. Must not block.
    fn carry(&self, effect: OutboxEffect, ended: Box<dyn FnOnce(Carried) + Send>);

    /// Whether somebody asked to be told what commits do to the instances of a machine.
    fn wants_notices(&self, tenant: &TenantId, machine: &MachineName) -> bool;
}

#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    To(Endpoint),
    /// No setting says where to; the fragment says which one would.
    Nowhere(String),
}

/// Something outside that effects are sent to.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Names it in the log and in figures, and among breakers.
    pub name: Arc<str>,
    /// Whether it knows an effect that it is sent again by its key. Where it does not, an attempt that may have arrived
    /// is not repeated.
    pub repeatable: bool,
    /// Sends a second, at most.
    pub rate: Option<f64>,
    pub schedule: Schedule,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Carried {
    Delivered {
        provider_id: Option<String>,
    },
    /// A call was answered at once.
    Answered(CallOutcome),
    /// It will never be taken.
    Refused {
        error: String,
        parts_done: u32,
    },
    /// The endpoint is not there any more and wants nothing more.
    Gone {
        error: String,
    },
    /// It was not taken, and may be another time.
    Later {
        error: String,
        after: Option<Delay>,
        parts_done: u32,
    },
    /// Nobody knows whether it was taken.
    Unknown {
        error: String,
        parts_done: u32,
    },
}

pub(crate) enum Event {
    /// Something may be due.
    Wake,
    Carried {
        effect: EffectId,
        carried: Carried,
    },
    /// The engine has taken the result of a call, or not.
    Answered {
        effect: EffectId,
        answered: Answered,
    },
    /// Whoever asks is told when nothing is under way or due.
    Rest(Sender<()>),
    Stop,
}

/// An effect by what the store knows it by.
pub(crate) type EffectId = (TenantId, String);

/// The running deliverer, as the shard and the engine know it.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub carrier: Arc<dyn Carrier>,
    events: Sender<Event>,
}

impl Delivery {
    /// Starts the thread.
    pub fn start(courier: impl FnOnce(Sender<Event>) -> Courier) -> (Self, JoinHandle<()>) {
        let (events, waiting) = crossbeam_channel::unbounded();
        let mut courier = courier(events.clone());
        let carrier = Arc::clone(&courier.carrier);
        let thread = std::thread::Builder::new()
            .name("courier".into())
            .spawn(move || courier.run(&waiting))
            .expect("a server that cannot start two threads cannot serve");
        (Self { carrier, events }, thread)
    }

    /// Says that a commit has left something to deliver.
    pub fn wake(&self) {
        // A courier that has stopped finds it at the next start.
        let _ = self.events.send(Event::Wake);
    }

    /// Waits until what is due has been tried.
    pub fn rest(&self) {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        if self.events.send(Event::Rest(sender)).is_ok() {
            let _ = receiver.recv_timeout(REST_MAX);
        }
    }

    pub fn stop(&self) {
        let _ = self.events.send(Event::Stop);
    }
}
