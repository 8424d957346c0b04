//! A file at rest: who asks and changes nothing wakes nobody.

use std::time::{Duration, Instant};

use super::{Place, fill};
use crate::Store;
use crate::contract::at;

#[test]
fn claims_that_find_nothing_leave_nothing_to_checkpoint() {
    let place = Place::new();
    let store = place.open();
    fill(&store);
    let since = Instant::now();
    while store.checkpointer.has_to_look() {
        assert!(since.elapsed() < Duration::from_secs(20), "nobody looks at the log");
        std::thread::yield_now();
    }
    assert_eq!(store.claim_due(at(1_000), at(9_000), 10).unwrap(), []);
    assert_eq!(store.claim_effects(at(1_000), at(9_000), 10).unwrap(), []);
    assert!(!store.clean_up(at(0), 10).unwrap().more);
    assert!(!store.checkpointer.has_to_look());
}
