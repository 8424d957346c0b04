//! What a session remembers of its conversation, beside the statechart.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::conversation::clarification::Clarification;
use crate::conversation::message::{Address, Media};
use crate::conversation::offer::Offer;
use crate::id::Revision;
use crate::input::Fields;

#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct ConversationState {
    /// Where the person was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Arc<Address>>,
    /// The base language of the last message that named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// What the session is about: the `starts` of the intent that began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The question that waits for its answer. One at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Clarification>,
    /// Messages in a row that were not understood.
    #[serde(default)]
    pub failures: u32,
    /// A person has taken over; messages are only recorded.
    #[serde(default)]
    pub handed_over: bool,
    /// The revision whose reply showed the buttons that still count.
    #[serde(default)]
    pub prompt_revision: Revision,
    /// What those buttons stand for, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompt: Vec<Offer>,
    /// Media that came before anybody knew what for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_media: Vec<Media>,
    /// Work put aside on a switch, by the value of the draft's key field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drafts: BTreeMap<String, Fields>,
}
