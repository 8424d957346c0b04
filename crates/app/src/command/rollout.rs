//! `rollout`: whom a machine of a running server answers, and what it would have answered the others.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::command::client::{ServerArgs, text, words};
use crate::command::{CommandResult, Failure};
use crate::outgoing::escaped;

/// What is named is changed, and the rest stays, also what the mode does not look at; without any of it, the rollout is
/// shown.
#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    machine: String,
    #[arg(long, value_parser = ["off", "shadow", "allow_list", "percentage", "on"])]
    mode: Option<String>,
    /// Everybody whom the allow-list has, separated by commas; means --mode allow_list, unless a mode is named
    #[arg(long, value_name = "SUBJECTS", value_delimiter = ',', conflicts_with_all = ["add_user", "remove_user"])]
    users: Option<Vec<String>>,
    /// Put somebody on the allow-list; may be given several times
    #[arg(long, value_name = "SUBJECT")]
    add_user: Vec<String>,
    /// Take somebody off the allow-list; may be given several times
    #[arg(long, value_name = "SUBJECT")]
    remove_user: Vec<String>,
    /// The share of people, 0 to 100 with two decimals; means --mode percentage, unless a mode is named
    #[arg(long, value_name = "PERCENT")]
    percent: Option<f64>,
    /// What those get who are not on the list or in the share
    #[arg(long, value_parser = ["off", "shadow"])]
    others: Option<String>,
    /// Whether those who are left out finish a session that is open, or are left out at once
    #[arg(long, value_parser = ["follow", "finish"])]
    open_sessions: Option<String>,
    /// What would have happened, session by session, the newest session first
    #[arg(long, conflicts_with_all = ["mode", "users", "add_user", "remove_user", "percent", "others", "open_sessions"])]
    shadow_log: bool,
    /// How this person is treated, and why; of the log, this person's part
    #[arg(long)]
    subject: Option<String>,
    /// Lines of the log
    #[arg(long, requires = "shadow_log", default_value = "100")]
    limit: usize,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn rollout(args: &RolloutArgs) -> CommandResult {
    let machine = format!("/v1/machines/{}", escaped(&args.machine));
    if args.shadow_log {
        return shadow_log(args, &machine);
    }
    let path = format!("{machine}/rollout");
    let person: Vec<(&str, String)> = args.subject.iter().map(|s| ("subject", s.clone())).collect();
    let mut rollout = args.server.get(&path, &person)?;
    if let Some(change) = change(&rollout, args)? {
        rollout = args.server.put(&path, &change)?;
        if !person.is_empty() {
            rollout = args.server.get(&path, &person)?;
        }
    }
    if args.server.json {
        say!("{rollout}");
        return Ok(ExitCode::SUCCESS);
    }
    for name in [
        "machine",
        "mode",
        "percent",
        "users",
        "others",
        "open_sessions",
        "saved_at",
        "subject",
        "treatment",
        "because",
    ] {
        match &rollout[name] {
            Value::Null => {}
            Value::Array(users) => say!("{name:13} {}", words(users)),
            value => say!("{name:13} {}", text(value)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is asked to be different, if anything is; the server keeps the rest.
fn change(current: &Value, args: &RolloutArgs) -> Result<Option<Value>, Failure> {
    let mode = match (&args.mode, &args.users, args.percent) {
        (Some(mode), ..) => Some(mode.as_str()),
        (None, Some(_), Some(_)) => {
            return Err(Failure(
                "--users and --percent are of different modes; name one, or a --mode".into(),
            ));
        }
        (None, Some(_), None) => Some("allow_list"),
        (None, None, Some(_)) => Some("percentage"),
        (None, None, None) => None,
    };
    let now = current["mode"].as_str().unwrap_or("on");
    if mode.is_none() && !args.add_user.is_empty() && now != "allow_list" {
        // Whoever is put on a list expects to be answered.
        return Err(Failure(format!(
            "the mode is `{now}`, which looks at no list; say --mode allow_list as well, or --mode {now} to put them on the list for later"
        )));
    }
    let mut change = serde_json::Map::new();
    let mut name = |field: &str, value: Option<Value>| change.extend(value.map(|v| (field.to_owned(), v)));
    let listed = |users: &[String]| json!(users.iter().filter(|user| !user.is_empty()).collect::<Vec<_>>());
    let some = |users: &[String]| (!users.is_empty()).then(|| listed(users));
    name("mode", mode.map(|mode| json!(mode)));
    name("users", args.users.as_deref().map(listed));
    name("add_users", some(&args.add_user));
    name("remove_users", some(&args.remove_user));
    name("percent", args.percent.map(|percent| json!(percent)));
    name("others", args.others.as_ref().map(|others| json!(others)));
    name("open_sessions", args.open_sessions.as_ref().map(|open| json!(open)));
    Ok((!change.is_empty()).then_some(Value::Object(change)))
}

fn shadow_log(args: &RolloutArgs, machine: &str) -> CommandResult {
    let subject: Vec<(&str, String)> = args.subject.iter().map(|s| ("subject", s.clone())).collect();
    let query = [&subject[..], &[("limit", args.limit.to_string())]].concat();
    let log = args.server.get(&format!("{machine}/shadow"), &query)?;
    if args.server.json {
        say!("{log}");
        return Ok(ExitCode::SUCCESS);
    }
    for line in log["data"].as_array().into_iter().flatten() {
        let said = if line["text"].is_null() { String::new() } else { format!("  {}", line["text"]) };
        say!(
            "{}  {}{said}\n    {} {} {}: {} -> {}  {}",
            text(&line["at"]),
            text(&line["subject"]),
            text(&line["outcome"]),
            text(&line["rule"]),
            text(&line["intent"]),
            text(&line["from"]),
            text(&line["to"]),
            text(&line["event"])
        );
        for reply in line["reply"].as_array().into_iter().flatten() {
            say!("    < {}", text(&reply["text"]).replace('\n', "\n      "));
            for (number, option) in reply["options"].as_array().into_iter().flatten().enumerate() {
                say!("      [{}] {}", number + 1, text(&option["label"]));
            }
        }
    }
    if log["has_more"] == json!(true) {
        say!("… there are more; raise --limit");
    }
    let summary = args.server.get(&format!("{machine}/shadow/summary"), &subject)?;
    let outcomes = summary["outcomes"].as_object().into_iter().flatten();
    let outcomes: Vec<String> = outcomes.map(|(outcome, count)| format!("{count} {outcome}")).collect();
    let at_least = if summary["complete"] == json!(true) { "" } else { "at least " };
    say!("{at_least}{} message(s): {}", summary["messages"], outcomes.join(", "));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        rollout: RolloutArgs,
    }

    fn asked(current: &Value, arguments: &str) -> Result<Option<Value>, String> {
        let line = ["rollout", "bot"].into_iter().chain(arguments.split_whitespace());
        let args = Line::try_parse_from(line).map_err(|error| error.to_string())?.rollout;
        change(current, &args).map_err(|Failure(problem)| problem)
    }

    #[test]
    fn what_is_named_is_changed_and_the_rest_stays() {
        let on = json!({"mode": "on"});
        let list = json!({"mode": "allow_list", "users": ["ann", "bob"], "others": "shadow"});
        for (current, arguments, expected) in [
            (&on, "", None),
            (&on, "--subject ann", None),
            (&on, "--mode shadow", Some(json!({"mode": "shadow"}))),
            (&on, "--percent 2.5", Some(json!({"mode": "percentage", "percent": 2.5}))),
            (&on, "--users ann,bob", Some(json!({"mode": "allow_list", "users": ["ann", "bob"]}))),
            (&on, "--users=", Some(json!({"mode": "allow_list", "users": []}))),
            (
                &on,
                "--mode allow_list --add-user ann",
                Some(json!({"mode": "allow_list", "add_users": ["ann"]})),
            ),
            (&on, "--remove-user ann", Some(json!({"remove_users": ["ann"]}))),
            (
                &list,
                "--add-user eve --remove-user ann",
                Some(json!({"add_users": ["eve"], "remove_users": ["ann"]})),
            ),
            (&list, "--others off", Some(json!({"others": "off"}))),
            (&list, "--mode on --percent 5", Some(json!({"mode": "on", "percent": 5.0}))),
        ] {
            assert_eq!(asked(current, arguments), Ok(expected), "{current} {arguments}");
        }
        for (arguments, part) in [
            ("--add-user ann", "--mode allow_list"),
            ("--users ann --percent 5", "different modes"),
            ("--users ann --add-user bob", "cannot be used with"),
            ("--shadow-log --mode on", "cannot be used with"),
            ("--mode sometimes", "possible values"),
        ] {
            let problem = asked(&on, arguments).unwrap_err();
            assert!(problem.contains(part), "{arguments}: {problem}");
        }
    }
}
