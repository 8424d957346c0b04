//! Places of which each may take some: connections of an address, streams of a tenant.
//!
//! Owns the counts. Those alone are remembered who have a place.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// How many each has.
#[derive(Debug)]
pub struct Places<K>(Mutex<HashMap<K, usize>>);

impl<K> Default for Places<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Places<K> {
    /// A place, if there are fewer than `most` of it.
    pub fn take(self: &Arc<Self>, of: K, most: usize) -> Option<Place<K>> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&of).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        taken.insert(of.clone(), count + 1);
        Some(Place { places: Arc::clone(self), of })
    }
}

/// One that is taken for as long as this is there, however what it was taken for ends.
#[derive(Debug)]
pub struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    of: K,
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_share_and_nobody_is_remembered_who_has_left() {
        let places = Arc::new(Places::default());
        let taken: Vec<_> = (0..2).map(|_| places.take("a", 2)).collect();
        assert!(taken.iter().all(Option::is_some) && places.take("a", 2).is_none());
        assert!(places.take("b", 2).is_some());
        drop(taken);
        assert!(places.0.lock().unwrap().is_empty());
        assert!(places.take("a", 2).is_some());
    }
}
