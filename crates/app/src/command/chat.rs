//! `chat`: a conversation in the terminal, on a clock that only `/advance` moves. Nothing is saved.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use engine::{Clock, Engine, Machines, MachinesError, Settings};
use kernel::commit::{Answer, MessageAnswer};
use kernel::conversation::{Media, Message, Reply};
use kernel::id::{InputKey, MachineName, Subject, TenantId};
use kernel::input::{CallOutcome, Cause, Fields, Input};
use kernel::time::Delay;
use store::MemoryStore;

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

const HELP: &str = "\
Type what a person would say. Besides:
  /button 2         press the second button
  /photo [URL]      send a picture
  /advance 6m       let time pass
  /why              why the last answer is what it is
  /state            where the session stands and what it waits for
  /event NAME       send an event
  /call ID {JSON}   bring the result of a call that is under way; /call ID error {JSON} its error
  /quit             leave";

struct Chat {
    engine: Engine,
    machine: MachineName,
    subject: Subject,
    tenant: TenantId,
    locale: Option<String>,
    sent: usize,
    last: Option<MessageAnswer>,
    /// The reply whose buttons were shown last.
    buttons: Option<Reply>,
}

pub(crate) fn chat(args: &ChatArgs) -> CommandResult {
    let (path, source) = find_definition(&args.machine, &args.machines)?;
    let store = Arc::new(MemoryStore::new());
    let machines = Arc::new(Machines::default());
    let clock = Clock::virtual_at(Clock::System.now());
    let machine = match machines.activate(&*store, &source, clock.now()) {
        Ok((machine, _)) => machine,
        Err(MachinesError::Diagnostics(diagnostics)) => {
            for diagnostic in &diagnostics {
                eprintln!("{}\n", diagnostic.render(&path.display().to_string(), &source));
            }
            return Err(Failure(format!("{} cannot be loaded", path.display())));
        }
        Err(error) => return Err(error.into()),
    };
    if machine.conversation.is_none() {
        return Err(Failure(format!(
            "the machine `{}` has no `conversation` section to talk to",
            machine.name
        )));
    }
    let mut chat = Chat {
        engine: Engine::start(store, machines, clock, Settings::default()),
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
        if matches!(line.trim(), "/quit" | "/exit") {
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
                say!("{HELP}");
                Ok(())
            }
            "/why" => self.why(),
            "/state" => self.state(),
            "/advance" => self.advance(rest),
            "/button" => self.button(rest),
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
                Err(Failure(format!("there is no command `{slash}`; /help lists them")))
            }
            _ => self.say(Message::of_text(line)),
        }
    }

    fn submit(&mut self, cause: Cause) -> Result<Arc<Answer>, Failure> {
        self.sent += 1;
        let key = InputKey::parse(&format!("chat-{}", self.sent)).map_err(Failure)?;
        let input =
            Input { tenant: self.tenant.clone(), key, cause, expected: None, by: None, trace_id: None };
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
                self.last = Some(answer.clone());
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

    fn button(&mut self, number: &str) -> Result<(), Failure> {
        let Some(buttons) = &self.buttons else {
            return Err(Failure("there are no buttons yet".into()));
        };
        let option = number.parse::<usize>().ok().and_then(|n| buttons.options.get(n.checked_sub(1)?));
        let Some(option) = option else {
            return Err(Failure(format!(
                "`{number}` is no button; there are 1 to {}",
                buttons.options.len()
            )));
        };
        let payload = Some(option.id.clone());
        self.say(Message { payload, ..Message::default() })
    }

    fn advance(&mut self, by: &str) -> Result<(), Failure> {
        let by = Delay::parse(by).map_err(Failure)?;
        let now = self.engine.clock().advance(by).unwrap_or_default();
        let report = self.engine.recover()?;
        let closed = report.closed.iter().map(|(reason, n)| format!(", {n} session(s) closed: {reason}"));
        say!("  it is {now}; {} timer(s) fired{}", report.timers_fired, closed.collect::<String>());
        let session = self.engine.session(&self.tenant, &self.machine, &self.subject);
        if let (Ok(session), true) = (session, report.timers_fired > 0) {
            say!("  ({})", session.state());
        }
        Ok(())
    }

    fn why(&self) -> Result<(), Failure> {
        let Some(answer) = &self.last else { return Err(Failure("nothing was said yet".into())) };
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
        Ok(())
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
        let session = self.engine.session(&self.tenant, &self.machine, &self.subject)?;
        let payload = Fields::default();
        self.act(Cause::Event { instance: session.instance, event: event.to_owned(), payload })
    }

    /// Plays whoever carries out the calls: nobody does here.
    fn call(&mut self, answer: &str) -> Result<(), Failure> {
        let (id, fields) = answer.split_once(' ').unwrap_or((answer, ""));
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
        match &*self.submit(cause)? {
            Answer::Event(answer) => {
                let (reply, state) = (answer.reply.clone(), answer.state.clone());
                self.show(&reply);
                say!("  ({state})");
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

fn rule(answer: &MessageAnswer) -> String {
    format!("{:?}", answer.why.rule)
}
