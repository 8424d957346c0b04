//! Plays inputs on a flow, by text, and says in one line what each did.
//!
//! A play is lines of `input => what came of it`; `check` compares all of it. Inputs are an event with who sends it
//! (`a.approve by ann {"reason": "fine"}`), seconds since the beginning (`@60`, which fires what is due then), the result
//! of what a phase has called (`a.done {…}`, `a.failed {…}`), or `create {…}`. Every play runs twice, once with the
//! snapshot written and read back, as stores do, between every two inputs; that makes no difference.

use kernel::commit::{Answer, Commit, EffectKind, FlowAnswer};
use kernel::decide::decide;
use kernel::definition::load;
use kernel::id::{InputKey, InstanceId, TenantId};
use kernel::input::{CallOutcome, Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::refusal::Refusal;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;

pub struct Player<'m> {
    pub machine: &'m Machine,
    saves: bool,
    pub snapshot: Option<Snapshot>,
    pub now: Timestamp,
    count: usize,
}

pub fn machine(source: &str) -> Machine {
    let (machine, diagnostics) = load(source);
    let machine = machine.unwrap_or_else(|| panic!("{diagnostics:#?}\n{source}"));
    assert!(machine.flow.is_some(), "no flow:\n{source}");
    machine
}

fn instance() -> InstanceId {
    InstanceId::parse("f-1").unwrap()
}

impl<'m> Player<'m> {
    pub fn new(machine: &'m Machine, saves: bool) -> Self {
        Self { machine, saves, snapshot: None, now: Timestamp::from_millis(0), count: 0 }
    }

    pub fn give(&mut self, cause: Cause, by: Option<&str>) -> Result<Commit, Refusal> {
        self.count += 1;
        if self.saves {
            self.snapshot = self.snapshot.as_ref().map(crate::restored::restored);
        }
        let input = Input {
            tenant: TenantId::default_tenant(),
            key: InputKey::parse(&format!("k{}", self.count)).unwrap(),
            cause,
            expected: None,
            by: by.map(str::to_owned),
            trace: None,
        };
        let commit = decide(self.machine, self.snapshot.as_ref(), &input, self.now)?;
        if self.saves {
            crate::kept::kept(&commit);
        }
        self.snapshot.clone_from(&commit.after);
        Ok(commit)
    }

    pub fn create(&mut self, context: Fields, flow: Start) -> Result<Commit, Refusal> {
        let machine = self.machine.name.clone();
        let cause = Cause::Create { machine, id: Some(instance()), subject: None, context, start: flow };
        self.give(cause, None)
    }

    pub fn event(&mut self, event: &str, payload: Fields, by: Option<&str>) -> Result<Commit, Refusal> {
        self.give(Cause::Event { instance: instance(), event: event.to_owned(), payload }, by)
    }

    fn result(&mut self, phase: &str, outcome: CallOutcome) -> Result<Commit, Refusal> {
        let calls = &self.snapshot.as_ref().unwrap().invocations;
        let called = calls.iter().find(|call| &*call.id == phase);
        let call = called.map_or("none", |call| &call.key).to_owned();
        // Of a flow, the flow itself says it.
        let by =
            called.map(|call| call.src.replace("wait_for:", "flow:")).filter(|src| src.starts_with("flow:"));
        self.give(Cause::Result { instance: instance(), call, outcome }, by.as_deref())
    }

    /// Fires everything that is due at `seconds`, each timer at its own time.
    fn pass(&mut self, seconds: i64) -> Vec<String> {
        let end = Timestamp::from_millis(seconds * 1_000);
        let mut told = Vec::new();
        while let Some(timer) = self.snapshot.as_ref().and_then(|s| s.due_timer(end, |_| true)).cloned() {
            self.now = timer.deadline;
            let (timer, deadline) = (timer.id.to_string(), timer.deadline);
            let fired =
                self.give(Cause::Timer { instance: instance(), timer: timer.clone(), deadline }, None);
            let at = deadline.as_millis() / 1_000;
            told.push(format!("@{at} {timer}: {}", describe(fired.as_ref())));
        }
        self.now = end;
        told
    }

    fn play(&mut self, input: &str) -> String {
        let (input, payload) = match input.find('{') {
            Some(at) => (input[..at].trim(), serde_json::from_str(&input[at..]).expect(input)),
            None => (input, Fields::new()),
        };
        let (event, by) = match input.split_once(" by ") {
            Some((event, by)) => (event, Some(by.trim())),
            None => (input, None),
        };
        if let Some(seconds) = event.strip_prefix('@') {
            return self.pass(seconds.parse().expect(event)).join("; ");
        }
        let made = match event.rsplit_once('.') {
            Some((phase, "done")) => self.result(phase, CallOutcome::Done(payload)),
            Some((phase, "failed")) => self.result(phase, CallOutcome::Failed(payload)),
            _ if event == "create" => {
                let mut start = Start::default();
                let (mut context, mut booleans) = (payload, Fields::new());
                context.retain(|name, value| {
                    let boolean = name.ends_with("_completed");
                    if boolean {
                        booleans.insert(name.clone(), value.clone());
                    }
                    !boolean
                });
                start.booleans = booleans;
                self.create(context, start)
            }
            _ => self.event(event, payload, by),
        };
        describe(made.as_ref())
    }
}

pub fn answer(commit: &Commit) -> &FlowAnswer {
    let Answer::Event(answer) = &commit.entry.answer else { panic!("{:?}", commit.entry.answer) };
    answer.flow.as_ref().expect("a flow answers as one")
}

/// The status, how much is done in percent, what has moved, and what has to be done outside.
fn describe(made: Result<&Commit, &Refusal>) -> String {
    let commit = match made {
        Ok(commit) => commit,
        Err(refusal) => return format!("refused {}: {}", refusal.code.as_str(), refusal.message),
    };
    let answer = answer(commit);
    let mut told = vec![format!("{} {:.0}%", commit.entry.to, answer.progress * 100.0)];
    let mut moved: Vec<String> = Vec::new();
    for step in &answer.moved {
        let from = format!("{} {}>", step.phase, step.from);
        match moved.last_mut().filter(|last| {
            last.starts_with(&format!("{} ", step.phase)) && last.ends_with(step.from.as_str())
        }) {
            Some(last) => last.push_str(&format!(">{}", step.to)),
            None => moved.push(format!("{from}{}", step.to)),
        }
    }
    told.extend(moved);
    told.extend(commit.effects.iter().map(|effect| match &effect.kind {
        EffectKind::Call { src, input, .. } => {
            format!("calls {src} {}", serde_json::to_string(input).unwrap())
        }
        EffectKind::Tell(what) => what.describe(),
        other => format!("{other:?}"),
    }));
    told.join(", ")
}

/// Plays `lines` on the flow, which begins first.
pub fn check(source: &str, lines: &str) {
    let machine = machine(source);
    let mut transcripts = Vec::new();
    for saves in [false, true] {
        let mut player = Player::new(&machine, saves);
        let begins = lines.trim_start().starts_with("create");
        if !begins {
            player.create(Fields::new(), Start::default()).unwrap();
        }
        let inputs = lines.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut transcript = String::new();
        for line in inputs {
            let input = line.split(" => ").next().unwrap_or_default().trim_end_matches(" =>").trim();
            let output = player.play(input);
            transcript.push_str(format!("{input} => {output}").trim_end());
            transcript.push('\n');
        }
        transcripts.push(transcript);
    }
    let expected: String = lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(transcripts[0], transcripts[1], "saving the flow makes a difference");
    assert!(transcripts[0] == expected, "\n--- what came\n{}\n--- expected\n{expected}", transcripts[0]);
}
