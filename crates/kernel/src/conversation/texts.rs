//! Table: the sentences that every conversation needs, in the languages that come with Statewright.
//!
//! A definition overrides any of them by a reply of the same name. Braces hold the values that the router fills in.

/// The language of a conversation that names none.
pub const FALLBACK_LOCALE: &str = "en";

/// Name, English, French.
const TEXTS: [(&str, &str, &str); 15] = [
    ("did_you_mean", "Did you mean one of these?", "Vouliez-vous dire :"),
    ("which_one", "Which one do you mean?", "Lequel voulez-vous dire ?"),
    (
        "ask_switch",
        "You are in the middle of something. Do you want to go on with it, or switch? What you have entered is kept.",
        "Vous avez quelque chose en cours. Voulez-vous continuer, ou changer ? Ce que vous avez saisi est conservé.",
    ),
    ("ask_certain", "Are you sure?", "Êtes-vous sûr ?"),
    ("ask_media", "What is this for?", "À quoi cela sert-il ?"),
    ("continue", "Go on", "Continuer"),
    ("none_of_these", "None of these", "Aucun de ceux-ci"),
    ("answer_unclear", "I did not get that. Please choose one:", "Je n'ai pas compris. Veuillez choisir :"),
    ("continued", "All right, we go on.", "D'accord, on continue."),
    (
        "rephrase",
        "Sorry, I did not understand. Could you say it differently?",
        "Désolé, je n'ai pas compris. Pouvez-vous reformuler ?",
    ),
    ("menu", "Here is what I can do:", "Voici ce que je peux faire :"),
    ("menu_expired", "That menu has expired.", "Ce menu a expiré."),
    ("not_now", "That is not possible at this point.", "Ce n'est pas possible à ce stade."),
    ("handed_over", "A person will take it from here.", "Une personne va prendre le relais."),
    ("resumed", "I am back. Where were we?", "Me revoilà. Où en étions-nous ?"),
];

pub fn names() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().map(|(name, ..)| *name)
}

/// The built-in sentence `name` in `locale`, in English where there is none.
pub fn get(name: &str, locale: &str) -> Option<&'static str> {
    let (_, english, french) = TEXTS.iter().find(|(n, ..)| *n == name)?;
    Some(if locale == "fr" { french } else { english })
}
