//! Table: every code that a definition may be told, and what it means.
//!
//! Codes are public: scripts compare them, and `docs/diagnostics.md` is written from here and from the cases of
//! `tests/diagnostics`. A code keeps its meaning.

/// A code and its meaning, in the order in which an author meets them.
pub const CODES: [(&str, &str); 44] = [
    ("syntax", "The text is not YAML 1.2 or JSON; what follows the place could not be read."),
    (
        "too_large",
        "The definition has more of something than a machine may have, or than a person could review.",
    ),
    ("too_deep", "States or actions are nested deeper than anybody draws them."),
    (
        "too_many",
        "There are more problems than anybody reads at once; the rest is told when these are mended.",
    ),
    ("missing_key", "Something that has to be said is not said."),
    (
        "unknown_key",
        "A key that means nothing here, and is probably a slip of the pen. Keys are never ignored.",
    ),
    ("bad_overlay", "An overlay without its base, with another's, or that would change the base's name."),
    ("wrong_type", "A value of another kind than belongs here, such as a list instead of text."),
    ("bad_value", "A value that cannot stand here, such as a default that its field does not take."),
    ("bad_name", "A name that nothing can be called by, or that the machine keeps for itself."),
    ("bad_delay", "A delay that is none, or comes at once."),
    ("duplicate_name", "Two things that would be told apart by a name have the same."),
    ("unknown_target", "A transition, `initial` or `safe_state` names a state that is not there."),
    ("illegal_target", "States that cannot be active together, or that a history state could not remember."),
    ("illegal_state", "A state that has what its kind cannot have."),
    ("unknown_field", "A field that the context does not declare."),
    (
        "bad_expression",
        "An expression that is no CEL, is too large, names what is not there, or could never work.",
    ),
    (
        "type_mismatch",
        "An expression gives another type than is wanted here: a guard that is no boolean, a value that its field does not take.",
    ),
    (
        "never_holds",
        "An invariant that does not hold for an instance that is given nothing, or where a recovery leads: none could begin, or be recovered.",
    ),
    ("unknown_phase", "What a phase needs, or is rolled back to, is no phase of the flow."),
    (
        "phase_cycle",
        "Phases that need one another, directly or not, so that none of them could ever start; or a flow that is a phase of itself.",
    ),
    ("unknown_id", "What is cancelled is delayed nowhere."),
    ("unknown_reply", "A reply that the conversation does not have."),
    ("bad_template", "A reply with a brace that has no partner."),
    ("bad_pattern", "A regular expression that is none, or is too large."),
    ("unknown_intent", "An intent that the conversation does not have."),
    ("unknown_locale", "A language that the conversation does not speak."),
    ("unknown_event", "Accepted input becomes an event that no state takes."),
    ("missing_event", "A state accepts input, and nothing says which event it becomes."),
    ("idle_intent", "An intent that does nothing."),
    (
        "label_is_command",
        "A button would say what a command says: pressing it would be taken for the command.",
    ),
    (
        "conflicting_phrase",
        "One phrase under two intents of the same priority: an error for commands, of which neither would be obeyed; for others a question is asked each time.",
    ),
    ("unreachable_state", "No transition leads to the state."),
    ("no_way_to_end", "The machine can end, but not from this state: whoever comes here never gets out."),
    (
        "no_way_out_by_time",
        "Whoever is in the state and sends nothing stays there for ever; or a phase of a flow waits without end for few people to say yes.",
    ),
    ("never_chosen", "A transition that stands behind one that always wins."),
    (
        "constant_guard",
        "A guard, the `when` of a phase, or an invariant that reads nothing, and so always says the same.",
    ),
    (
        "endless_loop",
        "Transitions that follow one another without end. When they run they are stopped and refused as `step_limit`.",
    ),
    ("useless_history", "A history state that nothing leads to, or that could only remember one thing."),
    ("unheard_event", "An event that is raised, listed or meant by an intent, and that no state takes."),
    (
        "unproduced_event",
        "In a conversation: an event that no intent or accepted input becomes, that nothing raises, and that is not listed under `events` as sent by callers.",
    ),
    (
        "unread_field",
        "A field that no guard, reply, output or other expression reads. In a flow that people or workers have a part in, every field is read: they are shown them all.",
    ),
    ("unwritten_field", "A field that is read, and that nothing assigns or gives a value."),
    (
        "secret_shown",
        "The value of a secret field is shown in a reply or a button, or copied into a field that is not secret.",
    ),
];
