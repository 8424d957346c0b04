//! `rollout`: whom a machine of a running server answers, and what it would have answered the others.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::command::client::{ServerArgs, text, words};
use crate::command::{CommandResult, Failure};
use crate::outgoing::escaped;

/// What is named is changed, and the rest stays; without any of it, the rollout is shown.
#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    machine: String,
    #[arg(long, value_parser = ["off", "shadow", "allow_list", "percentage", "on"])]
    mode: Option<String>,
    /// Everybody whom an allow-list has, separated by commas; means --mode allow_list
    #[arg(long, value_name = "SUBJECTS", value_delimiter = ',', conflicts_with_all = ["add_user", "remove_user"])]
    users: Option<Vec<String>>,
    /// Put somebody on the allow-list; may be given several times
    #[arg(long, value_name = "SUBJECT")]
    add_user: Vec<String>,
    /// Take somebody off the allow-list; may be given several times
    #[arg(long, value_name = "SUBJECT")]
    remove_user: Vec<String>,
    /// The share of people, 0 to 100 with two decimals; means --mode percentage
    #[arg(long, value_name = "PERCENT")]
    percent: Option<f64>,
    /// What those get who are not on the list or in the share
    #[arg(long, value_parser = ["off", "shadow"])]
    others: Option<String>,
    /// What would have happened, session by session, the newest session first
    #[arg(long, conflicts_with_all = ["mode", "users", "add_user", "remove_user", "percent", "others"])]
    shadow_log: bool,
    /// Only this person's part of the log
    #[arg(long, requires = "shadow_log")]
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
    let current = args.server.get(&path, &[])?;
    let rollout = match changed(&current, args)? {
        Some(body) => args.server.put(&path, &body)?,
        None => current,
    };
    if args.server.json {
        say!("{rollout}");
        return Ok(ExitCode::SUCCESS);
    }
    for name in ["machine", "mode", "percent", "users", "others", "saved_at"] {
        match &rollout[name] {
            Value::Null => {}
            Value::Array(users) => say!("{name:10} {}", words(users)),
            value => say!("{name:10} {}", text(value)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The rollout that is asked for, if any is: what is not named is taken over from the current one.
fn changed(current: &Value, args: &RolloutArgs) -> Result<Option<Value>, Failure> {
    let on_the_list = !args.add_user.is_empty() || !args.remove_user.is_empty();
    let now = current["mode"].as_str().unwrap_or("on");
    let mode = match (&args.mode, &args.users, args.percent) {
        (Some(mode), ..) => mode.as_str(),
        (None, Some(_), None) => "allow_list",
        (None, None, Some(_)) => "percentage",
        (None, Some(_), Some(_)) => {
            return Err(Failure("--users and --percent are of different modes; name one".into()));
        }
        (None, None, None) if on_the_list && now != "allow_list" => {
            let problem = format!("the mode is `{now}`, which has no list; say --mode allow_list as well");
            return Err(Failure(problem));
        }
        (None, None, None) if on_the_list || args.others.is_some() => now,
        (None, None, None) => return Ok(None),
    };
    let mut body = json!({"mode": mode});
    if mode == "allow_list" || on_the_list || args.users.is_some() {
        let listed = || current["users"].as_array().map(|users| users.iter().map(text).collect());
        let listed: Option<Vec<String>> = args.users.clone().or_else(listed);
        if listed.is_some() || on_the_list {
            let mut users = listed.unwrap_or_default();
            users.extend(args.add_user.iter().cloned());
            users.retain(|user| !user.is_empty() && !args.remove_user.contains(user));
            body["users"] = json!(users);
        }
    }
    match args.percent {
        Some(percent) => body["percent"] = json!(percent),
        None if mode == "percentage" && !current["percent"].is_null() => {
            body["percent"] = current["percent"].clone();
        }
        None => {}
    }
    match &args.others {
        Some(others) => body["others"] = json!(others),
        None if matches!(mode, "allow_list" | "percentage") && !current["others"].is_null() => {
            body["others"] = current["others"].clone();
        }
        None => {}
    }
    Ok(Some(body))
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
            say!("    < {}", text(reply).replace('\n', "\n      "));
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
        changed(current, &args).map_err(|Failure(problem)| problem)
    }

    #[test]
    fn what_is_named_is_changed_and_the_rest_stays() {
        let on = json!({"mode": "on"});
        let list = json!({"mode": "allow_list", "users": ["ann", "bob"], "others": "shadow"});
        let share = json!({"mode": "percentage", "percent": 5.0, "others": "off"});
        for (current, arguments, expected) in [
            (&on, "", None),
            (&on, "--mode shadow", Some(json!({"mode": "shadow"}))),
            (&on, "--percent 2.5", Some(json!({"mode": "percentage", "percent": 2.5}))),
            (&on, "--users ann,bob", Some(json!({"mode": "allow_list", "users": ["ann", "bob"]}))),
            (&on, "--mode allow_list --add-user ann", Some(json!({"mode": "allow_list", "users": ["ann"]}))),
            (
                &list,
                "--add-user eve --remove-user ann",
                Some(json!({"mode": "allow_list", "users": ["bob", "eve"], "others": "shadow"})),
            ),
            (
                &list,
                "--others off",
                Some(json!({"mode": "allow_list", "users": ["ann", "bob"], "others": "off"})),
            ),
            (&list, "--mode on", Some(json!({"mode": "on"}))),
            (
                &share,
                "--others shadow",
                Some(json!({"mode": "percentage", "percent": 5.0, "others": "shadow"})),
            ),
            // For the server to refuse, with its reasons.
            (&on, "--mode on --percent 5", Some(json!({"mode": "on", "percent": 5.0}))),
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
