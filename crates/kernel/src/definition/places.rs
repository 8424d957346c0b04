//! Where the states and transitions of a definition stand in its text.
//!
//! A machine that runs knows none of it: who wants to point at a line reads the text again.

use crate::definition::{Definition, StateDefinition, overlay, read};
use crate::diagnostic::Place;

/// Places in the order of a chart's indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    pub states: Vec<Place>,
    pub transitions: Vec<Place>,
}

impl Places {
    /// `None` for a text that is no definition.
    pub fn read(source: &str) -> Option<Self> {
        let node = overlay::read(source).ok()?.0;
        read::read(&node, &mut Vec::new()).as_ref().map(Self::of)
    }

    pub(crate) fn of(definition: &Definition) -> Self {
        let states = definition.root.walk();
        // The order in which they are compiled: state by state.
        let transitions = states.iter().copied().flat_map(StateDefinition::transitions);
        Self {
            transitions: transitions.map(|transition| transition.place).collect(),
            states: states.iter().map(|state| state.name.place).collect(),
        }
    }
}
