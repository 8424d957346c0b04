//! What `dev` says of its machines, and what to try next.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernel::conversation::{Conversation, Priority};
use kernel::machine::Machine;
use serde_json::json;

/// Lines for whoever has just started the server with the definitions of `dirs`.
pub(crate) fn greeting(machines: &[Arc<Machine>], dirs: &[PathBuf], address: SocketAddr) -> Vec<String> {
    let names: Vec<&str> = machines.iter().map(|machine| machine.name.as_str()).collect();
    let Some(first) = names.first() else {
        let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        return vec![
            format!("dashboard: http://{address}/"),
            format!("machines: none; there is no definition in {}", dirs.join(", ")),
            "Put one there, as NAME.yaml, or name another folder with --machines DIR, and start again."
                .to_owned(),
        ];
    };
    let mut lines = vec![
        format!("dashboard: http://{address}/"),
        format!("machines: {}", names.join(", ")),
        String::new(),
        "Try, in another terminal:".to_owned(),
    ];
    match conversation(machines) {
        Some((name, phrase)) => {
            let session = format!("http://{address}/v1/machines/{name}/sessions/me");
            let message = quoted(&json!({"message_id": "1", "text": phrase}).to_string());
            lines.push(format!("  curl -s {session}/messages -d {message}"));
            lines.push(format!("  curl -s {session}"));
            let flags: String = match dirs {
                [only] if only == Path::new("machines") => String::new(),
                dirs => {
                    dirs.iter().map(|d| format!(" --machines {}", quoted(&d.to_string_lossy()))).collect()
                }
            };
            lines.push(format!(
                "  statewright chat {name}{flags}      # the same in a terminal, on a clock that you move"
            ));
        }
        None => {
            let instances = format!("http://{address}/v1/instances");
            let instance = quoted(&json!({"machine": first, "id": "first", "key": "1"}).to_string());
            lines.push(format!("  curl -s {instances} -d {instance}      # POST: creates an instance"));
            lines.push(format!("  curl -s {instances}/first      # where it stands, and what it takes"));
        }
    }
    lines
}

/// A machine to talk to, and something to say to it: if there is one, what begins something.
fn conversation(machines: &[Arc<Machine>]) -> Option<(&str, &str)> {
    let mut talking = machines.iter().filter_map(|machine| Some((machine, machine.conversation.as_ref()?)));
    let opening = |begins: bool| {
        talking.clone().find_map(|(machine, conversation)| {
            Some((machine.name.as_str(), first_phrase(conversation, begins)?))
        })
    };
    opening(true)
        .or_else(|| opening(false))
        .or_else(|| talking.next().map(|(m, _)| (m.name.as_str(), "hello")))
}

/// The first phrase of the first intent of P1, in the first language.
fn first_phrase(conversation: &Conversation, begins: bool) -> Option<&str> {
    let first = conversation.locales.first();
    let spoken = |locale: &Option<String>| locale.is_none() || locale.as_ref() == first;
    conversation
        .intents
        .iter()
        .filter(|intent| intent.priority == Priority::P1 && (intent.starts.is_some() || !begins))
        .find_map(|intent| intent.phrases.iter().find(|(locale, _)| spoken(locale)))
        .map(|(_, phrase)| phrase.as_str())
}

/// One word of a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match word.chars().all(plain) && !word.is_empty() {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    const SILENT: &str = "machine: a_silent\ninitial: a\nstates: { a: {} }\n";

    fn talking(name: &str, intent: &str) -> String {
        format!(
            "machine: {name}\ninitial: a\nstates: {{ a: {{ on: {{ go: a }} }} }}\n\
             conversation: {{ locales: [en, fr], intents: {{ go: {{ event: go, {intent} }} }} }}\n"
        )
    }

    fn told(definitions: &[&str], dirs: &[&str]) -> String {
        let machines: Vec<Arc<Machine>> = definitions
            .iter()
            .map(|definition| Arc::new(kernel::definition::load(definition).0.unwrap()))
            .collect();
        let dirs: Vec<PathBuf> = dirs.iter().map(PathBuf::from).collect();
        greeting(&machines, &dirs, "127.0.0.1:7474".parse().unwrap()).join("\n")
    }

    #[test]
    fn something_to_try_is_something_that_the_machines_know() {
        let phrases = talking("b_talking", "priority: P1, phrases: { fr: [va], en: [let's go] }");
        let begins = talking("c_begins", "priority: P1, starts: trip, phrases: [depart]");
        let wordless = talking("b_wordless", "priority: P2, keywords: [go]");
        for (definitions, expected) in [
            (
                vec![SILENT, &phrases],
                r#"/b_talking/sessions/me/messages -d '{"message_id":"1","text":"let'\''s go"}'"#,
            ),
            (
                vec![&phrases, &begins],
                r#"/c_begins/sessions/me/messages -d '{"message_id":"1","text":"depart"}'"#,
            ),
            (vec![&wordless], r#"/b_wordless/sessions/me/messages -d '{"message_id":"1","text":"hello"}'"#),
            (vec![SILENT], r#"/v1/instances -d '{"id":"first","key":"1","machine":"a_silent"}'"#),
        ] {
            let told = told(&definitions, &["machines"]);
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn the_folder_is_named_where_chat_would_not_find_it() {
        let machine = talking("m", "priority: P1, phrases: [go]");
        for (dirs, expected) in [
            (vec!["machines"], "statewright chat m "),
            (vec!["mine", "my own"], "statewright chat m --machines mine --machines 'my own' "),
        ] {
            let told = told(&[&machine], &dirs);
            assert!(told.contains(expected), "{told}");
        }
        let nothing = told(&[], &["mine"]);
        assert!(nothing.contains("no definition in mine") && nothing.contains("--machines"), "{nothing}");
    }
}
