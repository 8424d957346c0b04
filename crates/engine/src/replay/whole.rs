//! A whole store checked, of every tenant: each instance with its log as it was at one moment, without a server.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use kernel::id::MachineName;
use store::{Dossier, LoadError, Store};

use super::Past;
use super::check::{ReplayReport, check};
use crate::Machines;

/// Instances that were read and wait to be decided on again.
const WAITING_MAX: usize = 256;

/// Goes through all instances of a store, or those of one machine. `tell` is shown how far it is, now and then.
///
/// # Errors
/// When the store cannot be read.
pub fn replay_store(
    store: &dyn Store,
    machines: &Machines,
    machine: Option<&MachineName>,
    tell: &mut dyn FnMut(&ReplayReport),
) -> Result<ReplayReport, LoadError> {
    let past = Past { store, machines };
    let report = Mutex::new(ReplayReport::default());
    let failed = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (sender, receiver) = crossbeam_channel::bounded::<Dossier>(WAITING_MAX);
    let gathered = std::thread::scope(|scope| {
        for _ in 0..threads {
            let (receiver, report, failed) = (receiver.clone(), &report, &failed);
            scope.spawn(move || {
                for Dossier { snapshot, entries, .. } in receiver {
                    match check(past, &snapshot, entries.into_iter().map(Ok)) {
                        Ok(replay) => locked(report).add(replay),
                        Err(error) => _ = locked(failed).get_or_insert(error),
                    }
                }
            });
        }
        drop(receiver);
        // It ends with the visit, and with it the threads.
        let sender = sender;
        let mut seen = 0_usize;
        store.dossiers(&mut |dossier| {
            if machine.is_some_and(|machine| dossier.snapshot.machine != *machine) {
                return ControlFlow::Continue(());
            }
            seen += 1;
            if seen.is_multiple_of(WAITING_MAX) {
                tell(&locked(&report));
            }
            // Nobody is there to take it only if all have panicked, which the scope will say.
            let is_over = locked(&failed).is_some() || sender.send(dossier).is_err();
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    })?;
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.corrupt = gathered.corrupt;
    report.sort();
    Ok(report)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
