//! Conversations: what a person says becomes an event, or a question.
//!
//! Thin by design: a definition's `conversation` section is read (`definition`), messages are recognised and routed
//! (`recognise`, `route`), and the outcome is told in the person's language. It owns no table, loop or timer.

pub mod clarification;
pub mod message;
mod state;

pub use clarification::{Choice, Clarification, ClarificationOption, ClarificationStatus};
pub use message::{
    Candidate, Confidence, Media, Message, MessageOutcome, Reply, ReplyOption, Rule, TraceStep, Why,
};
pub use state::ConversationState;
