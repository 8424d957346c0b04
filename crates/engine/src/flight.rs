//! Batches on their way into the store: saved by threads of their own, so that the shard decides on the next meanwhile.
//!
//! Batches in the air at one time have nothing in common, neither an instance nor a session nor a receipt: so it makes no
//! difference which is saved first. Whether something is in the air is asked of `worlds`.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use store::{CommitError, Outcome, Store};

use crate::EndTogether;
use crate::batch::{Batch, World};

/// A batch with what became of it.
pub(crate) struct Landed {
    /// Without its world.
    pub batch: Batch,
    pub saved: Result<Vec<Outcome>, CommitError>,
    pub began: Instant,
    pub took: Duration,
}

/// Lives as long as the shard. Dropping it ends the threads.
pub(crate) struct InAir {
    departures: Option<Sender<(u64, Batch)>>,
    arrivals: Receiver<(u64, Landed)>,
    worlds: Vec<(u64, World)>,
    flights: u64,
    writers: Vec<JoinHandle<()>>,
}

impl InAir {
    /// One thread for each batch that the store saves at one time to advantage.
    pub fn new(store: &Arc<dyn Store>) -> Self {
        let (departures, ready) = crossbeam_channel::unbounded();
        let (landings, arrivals) = crossbeam_channel::unbounded();
        let writers = (0..store.info().writers.max(1)).map(|_| {
            let (store, ready, landings) =
                (Arc::clone(store), Receiver::clone(&ready), Sender::clone(&landings));
            std::thread::Builder::new()
                .name("writer".into())
                .spawn(move || {
                    let _end = EndTogether("a writer");
                    for (flight, batch) in &ready {
                        // The shard is there for as long as something is in the air.
                        let _ = landings.send((flight, save(&*store, batch)));
                    }
                })
                .expect("a server that cannot start one thread cannot serve")
        });
        let writers = writers.collect();
        Self { departures: Some(departures), arrivals, worlds: Vec::new(), flights: 0, writers }
    }

    pub fn is_empty(&self) -> bool {
        self.worlds.is_empty()
    }

    /// Whether a batch would be saved at once.
    pub fn has_room(&self) -> bool {
        self.worlds.len() < self.writers.len()
    }

    /// How the instances look that may be saved any moment.
    pub fn worlds(&self) -> impl Iterator<Item = &World> {
        self.worlds.iter().map(|(_, world)| world)
    }

    /// Hands a batch to a writer.
    pub fn take_off(&mut self, mut batch: Batch) {
        self.flights += 1;
        self.worlds.push((self.flights, std::mem::take(&mut batch.world)));
        if let Some(departures) = &self.departures {
            // Writers end only after this has been dropped.
            let _ = departures.send((self.flights, batch));
        }
    }

    /// Where batches land.
    pub fn arrivals(&self) -> &Receiver<(u64, Landed)> {
        &self.arrivals
    }

    /// To be told of each arrival.
    pub fn arrived(&mut self, flight: u64) {
        self.worlds.retain(|(number, _)| *number != flight);
    }
}

/// Saves a batch on this thread.
pub(crate) fn save(store: &dyn Store, batch: Batch) -> Landed {
    let began = Instant::now();
    let saved = store.commit(&batch.commits);
    Landed { batch, saved, began, took: began.elapsed() }
}

impl Drop for InAir {
    fn drop(&mut self) {
        self.departures = None;
        for writer in self.writers.drain(..) {
            // A writer that panicked has ended the process.
            let _ = writer.join();
        }
    }
}
