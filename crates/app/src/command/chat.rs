//! `chat`: a conversation in the terminal, on a clock that only `/advance` moves. Nothing is saved.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use engine::{Clock, Engine, EngineError, Machines, Settings};
use kernel::chart::{Chart, StateIndex, TransitionIndex};
use kernel::commit::{Answer, Entry, EntryCause, MessageAnswer};
use kernel::conversation::{Media, Message, Reply, ReplyOption, normalise};
use kernel::definition;
use kernel::diagnostic::nearest;
use kernel::id::{InputKey, MachineName, Subject, TenantId};
use kernel::input::{CallOutcome, Cause, Fields, Input};
use kernel::machine::Machine;
use kernel::time::Delay;
use store::{HistoryQuery, MemoryStore};

use crate::command::serve::find_definition;
use crate::command::{CommandResult, Failure, MachineDirs};

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// A machine's name, or the file of its definition
    machine: String,
    #[command(flatten)]
    machines: MachineDirs,
    /// The language to begin in, such as fr
    #[arg(long)]
    locale: Option<String>,
}

/// What may be typed beside what a person would say, with what comes of it.
const COMMANDS: [(&str, &str, &str); 11] = [
    ("/button", "2 or LABEL", "press the second button, or the one whose label begins so"),
    ("/photo", "[URL]", "send a picture"),
    ("/locale", "fr", "go on in another language"),
    ("/advance", "6m", "let time pass"),
    ("/why", "", "why the last answer is what it is, or which timer it was"),
    ("/state", "", "where the session stands and what it waits for"),
    ("/event", "NAME", "send an event"),
    ("/call", "ID {JSON}", "bring the result of a call that is under way"),
    ("/call", "ID error {JSON}", "bring its error"),
    ("/help", "", "this list"),
    ("/quit", "", "leave"),
];

/// What `/why` tells about.
enum Last {
    Message(Box<MessageAnswer>),
    /// What a timer, an event or the result of a call has left in the log.
    Entries(Vec<Entry>),
}

struct Chat {
    engine: Engine,
    machine: MachineName,
    subject: Subject,
    tenant: TenantId,
    locale: Option<String>,
    sent: usize,
    last: Option<Last>,
    /// The reply whose buttons were shown last.
    buttons: Option<Reply>,
}

pub(crate) fn chat(args: &ChatArgs) -> CommandResult {
    let (path, source) = find_definition(&args.machine, &args.machines)?;
    let store = Arc::new(MemoryStore::new());
    let machines = Arc::new(Machines::default());
    let clock = Clock::virtual_at(Clock::System.now());
    let (machine, diagnostics) = definition::load(&source);
    let Some(machine) = machine else {
        for diagnostic in &diagnostics {
            eprintln!("{}\n", diagnostic.render(&path.display().to_string(), &source));
        }
        return Err(Failure(format!("{} cannot be loaded", path.display())));
    };
    // Also what a tenant has made of it: here nobody else has another.
    let machine = machines.adopt(&*store, Arc::new(machine), clock.now())?;
    if machine.conversation.is_none() {
        return Err(Failure(format!(
            "the machine `{}` has no `conversation` section to talk to",
            machine.name
        )));
    }
    if let Some(locale) = &args.locale {
        check_locale(&machine, locale)?;
    }
    let mut chat = Chat {
        engine: Engine::start(store, machines, clock, Settings::of_rehearsal()),
        machine: machine.name.clone(),
        subject: Subject::parse("you").map_err(Failure)?,
        tenant: TenantId::default_tenant(),
        locale: args.locale.clone(),
        sent: 0,
        last: None,
        buttons: None,
    };
    let interactive = std::io::stdin().is_terminal();
    say!("{} version {}. /help tells the commands.", machine.name, machine.version);
    let mut lines = std::io::stdin().lock().lines();
    loop {
        let mut stdout = std::io::stdout();
        write!(stdout, "> ")?;
        stdout.flush()?;
        let Some(line) = lines.next() else { break };
        let line = line?;
        if !interactive {
            say!("{line}");
        }
        if matches!(line.split_whitespace().next(), Some("/quit" | "/exit")) {
            break;
        }
        if let Err(Failure(message)) = chat.line(line.trim()) {
            say!("  ! {message}");
        }
    }
    say!("");
    Ok(ExitCode::SUCCESS)
}

impl Chat {
    fn line(&mut self, line: &str) -> Result<(), Failure> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match command {
            "" => Ok(()),
            "/help" => {
                help();
                Ok(())
            }
            "/why" => self.why(),
            "/state" => self.state(),
            "/advance" => self.advance(rest),
            "/button" => self.button(rest),
            "/locale" => self.change_locale(rest),
            "/photo" => {
                self.sent += 1;
                let url = if rest.is_empty() {
                    format!("https://example.org/photo-{}.jpg", self.sent)
                } else {
                    rest.to_owned()
                };
                let media = vec![Media { url, kind: "image/jpeg".into() }];
                self.say(Message { media, ..Message::default() })
            }
            "/event" => self.event(rest),
            "/call" => self.call(rest),
            slash if slash.starts_with('/') => {
                let known = COMMANDS.iter().map(|(name, ..)| *name);
                Err(Failure(format!("there is no command `{slash}`; {}", nearest(slash, known))))
            }
            _ => self.say(Message::of_text(line)),
        }
    }

    fn submit(&mut self, cause: Cause) -> Result<Arc<Answer>, Failure> {
        self.sent += 1;
        let key = InputKey::parse(&format!("chat-{}", self.sent)).map_err(Failure)?;
        let input = Input { tenant: self.tenant.clone(), key, cause, expected: None, by: None, trace: None };
        Ok(self.engine.call(input)?.answer)
    }

    fn say(&mut self, mut message: Message) -> Result<(), Failure> {
        message.locale = self.locale.clone();
        let cause = Cause::Message { machine: self.machine.clone(), subject: self.subject.clone(), message };
        let answer = self.submit(cause)?;
        match &*answer {
            Answer::Message(answer) => {
                self.show(&answer.reply);
                say!("  ({}, {}, {})", answer.state, answer.outcome.as_str(), rule(answer));
                self.last = Some(Last::Message(Box::new(answer.clone())));
                Ok(())
            }
            Answer::Event(answer) => {
                self.show(&answer.reply);
                Ok(())
            }
            Answer::Refused(refusal) => Err(Failure(refusal.message.clone())),
        }
    }

    fn show(&mut self, replies: &[Reply]) {
        for reply in replies {
            say!("  {}", reply.text.replace('\n', "\n  "));
            for (number, option) in reply.options.iter().enumerate() {
                say!("    [{}] {}", number + 1, option.label);
            }
            if !reply.options.is_empty() {
                self.buttons = Some(reply.clone());
            }
        }
    }

    fn button(&mut self, written: &str) -> Result<(), Failure> {
        let Some(buttons) = &self.buttons else {
            return Err(Failure("there are no buttons yet".into()));
        };
        let payload = Some(pressed(&buttons.options, written).map_err(Failure)?.id.clone());
        self.say(Message { payload, ..Message::default() })
    }

    fn change_locale(&mut self, written: &str) -> Result<(), Failure> {
        let machine = self.engine.machines().current(&self.machine)?;
        if !written.is_empty() {
            check_locale(&machine, written)?;
            self.locale = Some(written.to_owned());
        }
        let locales = machine.conversation.as_ref().map(|c| c.locales.as_slice()).unwrap_or_default();
        let locale = self.locale.as_deref().or(locales.first().map(String::as_str)).unwrap_or_default();
        say!("  messages are in {locale}; there are {}", locales.join(", "));
        Ok(())
    }

    fn advance(&mut self, by: &str) -> Result<(), Failure> {
        if by.is_empty() {
            return Err(Failure("how far? As in `/advance 30s`, `/advance 2h` or `/advance 1h30m`".into()));
        }
        let by = Delay::parse(by).map_err(Failure)?;
        let before = self.log()?;
        let now = self.engine.clock().advance(by).unwrap_or_default();
        let report = self.engine.recover()?;
        let closed = report.closed.iter().map(|(reason, n)| format!(", {n} session(s) closed: {reason}"));
        say!("  it is {now}; {} timer(s) fired{}", report.timers_fired, closed.collect::<String>());
        let fired = self.log_since(&before)?;
        let Some(last) = fired.last() else { return Ok(()) };
        let state = last.to.clone();
        for entry in &fired {
            match &entry.answer {
                Answer::Event(answer) => self.show(&answer.reply),
                Answer::Message(answer) => self.show(&answer.reply),
                Answer::Refused(refusal) => say!("  ! {}", refusal.message),
            }
        }
        say!("  ({state})");
        self.last = Some(Last::Entries(fired));
        Ok(())
    }

    /// What the session's log has; nothing before the first message.
    fn log(&self) -> Result<Vec<Entry>, Failure> {
        let session = match self.engine.session(&self.tenant, &self.machine, &self.subject) {
            Err(EngineError::NotFound { .. }) => return Ok(Vec::new()),
            session => session?,
        };
        let mut query =
            HistoryQuery { limit: 1000, ..HistoryQuery::of(self.tenant.clone(), session.instance) };
        let mut log = Vec::new();
        loop {
            let page = self.engine.store().history(&query)?;
            log.extend(page.data);
            query.cursor = page.next;
            if query.cursor.is_none() {
                return Ok(log);
            }
        }
    }

    /// What has come into the log since it was `before`.
    fn log_since(&self, before: &[Entry]) -> Result<Vec<Entry>, Failure> {
        let mut log = self.log()?;
        log.retain(|entry| !before.iter().any(|known| known.receipt == entry.receipt));
        Ok(log)
    }

    fn why(&self) -> Result<(), Failure> {
        match &self.last {
            None => Err(Failure("nothing was said yet".into())),
            Some(Last::Message(answer)) => {
                why_message(answer);
                Ok(())
            }
            Some(Last::Entries(entries)) => {
                let session = self.engine.session(&self.tenant, &self.machine, &self.subject)?;
                let machine = self.engine.machines().of(&session)?;
                entries.iter().for_each(|entry| why_entry(entry, &machine.chart));
                Ok(())
            }
        }
    }

    fn state(&self) -> Result<(), Failure> {
        let session = self.engine.session(&self.tenant, &self.machine, &self.subject)?;
        let machine = self.engine.machines().of(&session)?;
        let waiting = kernel::decide::waiting_for(&machine, &session, self.engine.clock().now());
        say!("  {} at revision {}", session.state(), session.revision);
        if let Some(closure) = &session.closure {
            say!("  closed: {}", closure.reason);
        }
        say!("  context: {}", serde_json::to_string(&*session.context)?);
        say!("  takes: {}", waiting.events.join(", "));
        for due in &waiting.timers {
            say!("  {} at {}, in {}", due.timer.id, due.timer.deadline, due.within);
        }
        for call in &session.invocations {
            say!("  {} calls {}: {}", call.id, call.src, serde_json::to_string(&call.input)?);
        }
        Ok(())
    }

    fn event(&mut self, event: &str) -> Result<(), Failure> {
        if event.is_empty() {
            return Err(Failure("which event? /state lists those that are taken here".into()));
        }
        let session = self.engine.session(&self.tenant, &self.machine, &self.subject)?;
        let payload = Fields::default();
        self.act(Cause::Event { instance: session.instance, event: event.to_owned(), payload })
    }

    /// Plays whoever carries out the calls: nobody does here.
    fn call(&mut self, answer: &str) -> Result<(), Failure> {
        let (id, fields) = answer.split_once(' ').unwrap_or((answer, ""));
        if id.is_empty() {
            return Err(Failure("which call? /state lists those that are under way".into()));
        }
        let session = self.engine.session(&self.tenant, &self.machine, &self.subject)?;
        let Some(call) = session.invocations.iter().find(|call| &*call.id == id) else {
            return Err(Failure(format!("no call `{id}` is under way; /state lists those that are")));
        };
        let (failed, fields) = match fields.trim().strip_prefix("error") {
            Some(error) => (true, error.trim()),
            None => (false, fields.trim()),
        };
        let fields = if fields.is_empty() { "{}" } else { fields };
        let fields: Fields = serde_json::from_str(fields).map_err(|error| {
            Failure(format!("what a call brings is an object, as {{\"id\": 7}}: {error}"))
        })?;
        let outcome = if failed { CallOutcome::Failed(fields) } else { CallOutcome::Done(fields) };
        let call = call.key.clone();
        self.act(Cause::Result { instance: session.instance, call, outcome })
    }

    /// Submits what is answered as an event is.
    fn act(&mut self, cause: Cause) -> Result<(), Failure> {
        let before = self.log()?;
        let answer = self.submit(cause)?;
        let left = self.log_since(&before)?;
        // What is refused without a trace leaves nothing to ask about.
        if !left.is_empty() {
            self.last = Some(Last::Entries(left));
        }
        match &*answer {
            Answer::Event(answer) => {
                self.show(&answer.reply);
                say!("  ({})", answer.state);
                Ok(())
            }
            Answer::Refused(refusal) => {
                let allowed = match refusal.allowed.is_empty() {
                    true => String::new(),
                    false => format!("; allowed: {}", refusal.allowed.join(", ")),
                };
                Err(Failure(format!("{}{allowed}", refusal.message)))
            }
            Answer::Message(_) => Ok(()),
        }
    }
}

fn help() {
    say!("Type what a person would say. Besides:");
    for (name, what, meaning) in COMMANDS {
        say!("  {:23} {meaning}", format!("{name} {what}"));
    }
}

fn check_locale(machine: &Machine, locale: &str) -> Result<(), Failure> {
    match &machine.conversation {
        Some(conversation) if conversation.base_locale(locale).is_none() => {
            let known = conversation.locales.join(", ");
            Err(Failure(format!("`{}` does not speak `{locale}`; there are {known}", machine.name)))
        }
        _ => Ok(()),
    }
}

/// The button that somebody means: by its number, its label, or how its label alone begins.
fn pressed<'o>(options: &'o [ReplyOption], written: &str) -> Result<&'o ReplyOption, String> {
    let labels = |of: &[&ReplyOption]| {
        let labels: Vec<String> = of.iter().map(|option| format!("`{}`", option.label)).collect();
        labels.join(", ")
    };
    let all: Vec<&ReplyOption> = options.iter().collect();
    if written.is_empty() {
        return Err(format!("which one? Its number or its label: {}", labels(&all)));
    }
    if let Ok(number) = written.parse::<usize>() {
        let there_are = match options.len() {
            1 => "there is 1".to_owned(),
            many => format!("there are 1 to {many}"),
        };
        let option = number.checked_sub(1).and_then(|place| options.get(place));
        return option.ok_or_else(|| format!("`{written}` is no button; {there_are}"));
    }
    let wanted = normalise(written);
    if let Some(option) = options.iter().find(|option| normalise(&option.label) == wanted) {
        return Ok(option);
    }
    let begins = |option: &&&ReplyOption| normalise(&option.label).starts_with(&*wanted);
    let found: Vec<&ReplyOption> = all.iter().filter(begins).copied().collect();
    match found[..] {
        [only] => Ok(only),
        [] => Err(format!("`{written}` is no button; there is {}", labels(&all))),
        _ => Err(format!("`{written}` may be {}; write more of it", labels(&found))),
    }
}

fn rule(answer: &MessageAnswer) -> String {
    format!("{:?}", answer.why.rule)
}

fn why_message(answer: &MessageAnswer) {
    let intent = answer.why.intent.as_deref().unwrap_or("no intent");
    let (raw, adjusted) = (answer.why.raw, answer.why.adjusted);
    say!("  {} decided: {intent}, raw {raw}, adjusted {adjusted}", rule(answer));
    if let Some(refusal) = &answer.refusal {
        say!("  refused: {}", refusal.message);
    }
    for step in &answer.why.trace {
        let mark = if step.applied { "*" } else { " " };
        say!("  {mark} {:>3}  {}", format!("{:?}", step.rule), step.because);
    }
}

/// Why an entry that no message left is in the log: what came, since when it was due, and the transitions that it took.
fn why_entry(entry: &Entry, chart: &Chart) {
    let event = &entry.event;
    let came = match &entry.cause {
        Some(EntryCause::Timer { id, deadline }) => format!("the timer {id} was due at {deadline}"),
        Some(EntryCause::Result { call }) => format!("the call {call} came to {event}"),
        _ => format!("the event {event} was sent"),
    };
    let became = match &entry.answer {
        Answer::Refused(refusal) => format!("refused: {}", refusal.message),
        _ if entry.from == entry.to => format!("`{}` stays", entry.to),
        _ => format!("from `{}` to `{}`", entry.from, entry.to),
    };
    let reason = entry.reason.as_ref().filter(|_| entry.success);
    let closed = reason.map(|reason| format!(", closed: {reason}")).unwrap_or_default();
    say!("  {came}; {became}{closed}");
    for index in &entry.transitions {
        say!("  * {}", drawn(chart, *index));
    }
}

/// A transition, on one line.
fn drawn(chart: &Chart, index: TransitionIndex) -> String {
    let transition = chart.transition(index);
    let path = |state: StateIndex| match &*chart.state(state).path {
        "" => "(top)".to_owned(),
        path => format!("`{path}`"),
    };
    let event = if transition.event.is_empty() { "always" } else { &transition.event };
    let guard = transition.guard.as_ref().map(|guard| format!(" [{}]", guard.source)).unwrap_or_default();
    let targets: Vec<String> = transition.targets.iter().map(|target| path(*target)).collect();
    let targets = if targets.is_empty() { "(stays)".to_owned() } else { targets.join(", ") };
    format!("{} --{event}{guard}--> {targets}", path(transition.source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_button_is_meant_by_its_number_its_label_or_how_that_begins() {
        let option = |label: &str| ReplyOption { id: label.to_uppercase(), label: label.into() };
        let options = ["Go on", "Go back", "Cancel", "Go"].map(option);
        for (written, expected) in [
            ("2", Ok("GO BACK")),
            ("go back", Ok("GO BACK")),
            ("Go", Ok("GO")),
            ("canc", Ok("CANCEL")),
            ("go  b", Ok("GO BACK")),
            ("5", Err("`5` is no button; there are 1 to 4")),
            ("0", Err("`0` is no button; there are 1 to 4")),
            ("g", Err("`g` may be `Go on`, `Go back`, `Go`; write more of it")),
            ("x", Err("`x` is no button; there is `Go on`, `Go back`, `Cancel`, `Go`")),
            ("", Err("which one? Its number or its label: `Go on`, `Go back`, `Cancel`, `Go`")),
        ] {
            let found = pressed(&options, written).map(|option| option.id.as_str());
            assert_eq!(found, expected.map_err(str::to_owned), "{written}");
        }
        assert_eq!(pressed(&options[..1], "9"), Err("`9` is no button; there is 1".to_owned()));
    }
}
