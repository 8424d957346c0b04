//! Recognisers over the network: who is asked what a message means, and what becomes of a message that nobody read.
//!
//! They advise: their answer becomes candidates of the message, which the router weighs in the state that the session
//! is in when the message is decided on. Whatever goes wrong here, the message goes on without candidates and the
//! built-in recogniser reads it. `rasa` and `openai` are pure; the call is made here, on a thread that may block.

mod openai;
mod queue;
mod rasa;
mod settings;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::{Admission, Breaker, BreakerSettings, Clock, Engine, ReadingWanted};
use kernel::conversation::{Candidate, Confidence, Conversation, Intent, Message};
use kernel::id::{InputKey, MachineName, TenantId};
use kernel::input::{Cause, Input};
use tokio::sync::Semaphore;

use crate::connections::{entries, for_whom, host_of};
use crate::outgoing::{Outgoing, Request, SendError};
use crate::secret::Secret;
use crate::traces::{self, Traces};
use queue::Queues;

pub use queue::Place;
pub use settings::{Kind, RecogniserConfig};

/// Calls under way at one time, of all recognisers together. Each holds a thread; beyond, the built-in recogniser is
/// quicker than any queue.
const CALLS_MAX: usize = 64;
/// Candidates that are kept of an answer. What comes behind them is noise.
const CANDIDATES_MAX: usize = 5;

/// Where a recogniser is, and how long it may take.
#[derive(Clone, Debug)]
struct Endpoint {
    url: String,
    api_key: Option<Secret>,
    timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Protocol {
    Rasa,
    OpenAi { model: String },
}

/// Why there is no advice.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unread {
    Timeout,
    Unreachable(String),
    Status(u16),
    /// It answered, and not as agreed; never with a word of what it said, which may be the person's own.
    Unreadable(String),
    /// A language model would not say.
    Declined,
    /// It failed too often, and is left alone for a while.
    Open,
    /// Too many are being asked.
    Busy,
}

impl Unread {
    /// For figures and the history.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Status(_) => "refused",
            Self::Unreadable(_) => "unreadable",
            Self::Declined => "declined",
            Self::Open => "open",
            Self::Busy => "busy",
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Status(status) => format!("status {status}"),
            other => other.outcome().to_owned(),
        }
    }

    /// What a line of the log says that it did.
    fn told(&self) -> String {
        match self {
            Self::Timeout => "did not answer in time".to_owned(),
            Self::Unreachable(detail) => format!("cannot be reached: {detail}"),
            Self::Status(status) => format!("answered HTTP {status}"),
            Self::Unreadable(detail) => format!("answered what cannot be read: {detail}"),
            Self::Declined => "declined to read the message".to_owned(),
            Self::Open => "failed too often, and is left alone for a while".to_owned(),
            Self::Busy => "is not asked, since too many calls of recognisers are under way".to_owned(),
        }
    }

    /// Whether the endpoint is to blame, and nothing about this message.
    fn is_a_failure(&self) -> bool {
        !matches!(self, Self::Declined | Self::Open | Self::Busy)
    }
}

/// What is asked about one message.
struct Question<'a> {
    conversation: &'a Conversation,
    /// The intents that lead anywhere from where the session is.
    heard: &'a [String],
    message: &'a Message,
    key: &'a InputKey,
}

impl<'a> Question<'a> {
    fn text(&self) -> &'a str {
        self.message.text.as_deref().unwrap_or_default()
    }

    fn intents(&self) -> impl Iterator<Item = &'a Intent> {
        self.conversation.intents.iter()
    }

    fn knows(&self, name: &str) -> bool {
        self.conversation.intent_by_name(name).is_some()
    }

    fn hears(&self, name: &str) -> bool {
        self.heard.iter().any(|heard| heard == name)
    }

    fn locale(&self) -> &'a str {
        let named = self.message.locale.as_deref().and_then(|tag| self.conversation.base_locale(tag));
        named.unwrap_or(self.conversation.locales.first().map_or("en", String::as_str))
    }
}

/// A confidence that somebody else computed: what is out of range is at its end.
fn share(confidence: f64) -> Confidence {
    Confidence::from_share(confidence.clamp(0.0, 1.0)).unwrap_or(Confidence::NONE)
}

/// An answer that is not the JSON that was agreed on. The error's own words might repeat some of it.
fn unreadable(error: &serde_json::Error) -> Unread {
    let (line, column) = (error.line(), error.column());
    Unread::Unreadable(format!("not the JSON that was asked for, at line {line}, column {column}"))
}

/// One recogniser that is set up.
#[derive(Debug)]
pub struct Recogniser {
    name: String,
    protocol: Protocol,
    machine: Option<MachineName>,
    tenant: Option<TenantId>,
    endpoint: Endpoint,
    confidence_max: Confidence,
    /// Shared by all that ask the same endpoint.
    breaker: Arc<Mutex<Breaker>>,
}

impl Recogniser {
    fn encode(&self, question: &Question<'_>) -> Request {
        match &self.protocol {
            Protocol::Rasa => rasa::encode(&self.endpoint, question),
            Protocol::OpenAi { model } => openai::encode(&self.endpoint, model, question),
        }
    }

    fn decode(&self, body: &[u8], question: &Question<'_>) -> Result<Vec<Candidate>, Unread> {
        match self.protocol {
            Protocol::Rasa => rasa::decode(body, question, self.confidence_max),
            Protocol::OpenAi { .. } => openai::decode(body, question, self.confidence_max),
        }
    }

    fn ask(&self, outgoing: &Outgoing, question: &Question<'_>) -> Result<Vec<Candidate>, Unread> {
        let began = Instant::now();
        let late = |otherwise: Unread| {
            if began.elapsed() >= self.endpoint.timeout { Unread::Timeout } else { otherwise }
        };
        let response = outgoing.post(&self.encode(question)).map_err(|error| match error {
            SendError::Forbidden(detail) => Unread::Unreachable(detail),
            SendError::NotSent(detail) | SendError::Unknown(detail) => late(Unread::Unreachable(detail)),
        })?;
        if !(200..300).contains(&response.status) {
            return Err(Unread::Status(response.status));
        }
        self.decode(&response.body, question).map_err(|unread| match unread {
            // A body that was still coming when time ran out is cut short.
            Unread::Unreadable(_) => late(unread),
            unread => unread,
        })
    }

    /// Asks, unless the endpoint is left alone for a while, and remembers how it went.
    fn ask_if_it_works(
        &self,
        outgoing: &Outgoing,
        question: &Question<'_>,
        clock: &Clock,
    ) -> Result<Vec<Candidate>, Unread> {
        let breaker = || self.breaker.lock().expect("no thread panics while it holds this lock");
        if matches!(breaker().admits(clock.now()), Admission::Not { .. }) {
            return Err(Unread::Open);
        }
        let read = self.ask(outgoing, question);
        match &read {
            Err(unread) if unread.is_a_failure() => breaker().failed(clock.now()),
            _ => breaker().succeeded(clock.now()),
        }
        read
    }
}

/// All that are set up; the first that fits a message is asked.
#[derive(Debug)]
pub struct Recognisers {
    all: Vec<Arc<Recogniser>>,
    outgoing: Arc<Outgoing>,
    calls: Semaphore,
    queues: Queues,
    /// Where what was asked is noted, if anybody is told.
    pub traces: Option<Arc<Traces>>,
}

impl Recognisers {
    /// # Errors
    /// Which entry makes no sense, and why.
    pub fn new(configs: &[RecogniserConfig], outgoing: Arc<Outgoing>) -> Result<Self, String> {
        let mut breakers: HashMap<String, Arc<Mutex<Breaker>>> = HashMap::new();
        let mut all = Vec::new();
        for (number, config) in configs.iter().enumerate() {
            let wrong = |problem| format!("the recogniser number {}: {problem}", number + 1);
            let endpoint = config.endpoint().map_err(wrong)?;
            let new_breaker = || Arc::new(Mutex::new(Breaker::new(BreakerSettings::default())));
            all.push(Arc::new(Recogniser {
                name: config.name(),
                protocol: config.protocol().map_err(wrong)?,
                machine: config.machine.clone(),
                tenant: config.tenant.clone(),
                confidence_max: config.confidence_max(),
                breaker: Arc::clone(breakers.entry(endpoint.url.clone()).or_insert_with(new_breaker)),
                endpoint,
            }));
        }
        Ok(Self { all, outgoing, calls: Semaphore::new(CALLS_MAX), queues: Queues::default(), traces: None })
    }

    /// Who is asked, a line each, by their hosts.
    pub fn asking(&self) -> Vec<String> {
        let line = |recogniser: &Arc<Recogniser>| {
            let host = host_of(&recogniser.endpoint.url);
            let whom = for_whom(recogniser.machine.as_ref(), recogniser.tenant.as_ref());
            format!("recogniser: {} at {host}, {whom}", recogniser.name)
        };
        self.all.iter().map(line).collect()
    }

    /// The machines that entries name, each with its entry.
    pub fn machines(&self) -> Vec<(String, &MachineName)> {
        entries("recognisers", self.all.iter().map(|recogniser| recogniser.machine.as_ref())).collect()
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The one to ask about messages such as this, if there is one.
    pub fn of(&self, input: &Input) -> Option<Arc<Recogniser>> {
        let Cause::Message { machine, .. } = &input.cause else { return None };
        let fits = |recogniser: &&Arc<Recogniser>| {
            recogniser.machine.as_ref().is_none_or(|own| own == machine)
                // What is tried out in a tenant's shadow is to go as it would for the tenant.
                && recogniser.tenant.as_ref().is_none_or(|own| *own == input.tenant || own.shadow() == input.tenant)
        };
        self.all.iter().find(fits).cloned()
    }

    /// A place behind the person's messages that came before, if somebody is to be asked about this one.
    pub fn queue(&self, input: &Input) -> Option<Place> {
        self.of(input)?;
        match &input.cause {
            Cause::Message { machine, subject, .. } => {
                Some(self.queues.enter((input.tenant.clone(), machine.clone(), subject.clone())))
            }
            _ => None,
        }
    }

    /// The input with what the recogniser makes of its message, if that could make a difference; or with the reason why
    /// it makes nothing of it. Blocks for as long as the recogniser may take.
    pub fn advise(&self, engine: &Engine, recogniser: &Recogniser, mut input: Input) -> Input {
        // A repeat gets its first answer whatever anybody says. What cannot be looked up is told by the engine.
        if !matches!(engine.answered_before(&input), Ok(false)) {
            return input;
        }
        let Ok(Some(ReadingWanted { machine, heard })) = engine.reading_wanted(&input) else { return input };
        let (Cause::Message { message, .. }, Some(conversation)) = (&mut input.cause, &machine.conversation)
        else {
            return input;
        };
        let question = Question { conversation, heard: &heard, message, key: &input.key };
        let began = Instant::now();
        let read = match self.calls.try_acquire() {
            Ok(_call) => recogniser.ask_if_it_works(&self.outgoing, &question, engine.clock()),
            Err(_) => Err(Unread::Busy),
        };
        let name = &recogniser.name;
        let outcome = read.as_ref().map_or_else(Unread::outcome, |_| "ok");
        engine.metrics().count_recogniser_call(name, outcome);
        if let Some((traces, trace)) =
            self.traces.as_ref().zip(input.trace.clone().filter(|trace| trace.sampled))
        {
            let (recogniser, ended) = (name.clone(), Instant::now());
            traces.question(traces::Question { trace, recogniser, outcome, began, ended });
        }
        let plain = std::mem::take(message);
        *message = match read {
            Ok(candidates) => plain.advised(name, candidates),
            Err(unread) => {
                let trace_id = input.trace.as_ref().map_or("", |trace| &trace.id);
                let told = unread.told();
                tracing::warn!(
                    trace_id,
                    recogniser = name,
                    outcome,
                    "the recogniser {name} {told}; the built-in one is used"
                );
                plain.unadvised(name, &unread.reason())
            }
        };
        input
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn endpoint(api_key: Option<&str>) -> Endpoint {
        let api_key = api_key.map(|key| Secret::parse(key).unwrap());
        Endpoint { url: "http://nlu.example".into(), api_key, timeout: Duration::from_secs(3) }
    }

    /// A question about a text, in a session of the shipped progress update that hears three intents.
    pub(super) fn asked<T>(text: &str, then: impl FnOnce(&Question<'_>) -> T) -> T {
        let source = include_str!("../../../../machines/progress_update.yaml");
        let machine = kernel::definition::load(source).0.unwrap();
        let heard = ["cancel", "progress_update", "greeting"].map(str::to_owned);
        let question = Question {
            conversation: machine.conversation.as_ref().unwrap(),
            heard: &heard,
            message: &Message::of_text(text),
            key: &InputKey::parse("m1").unwrap(),
        };
        then(&question)
    }

    fn recognisers(toml: &str) -> Result<Recognisers, String> {
        let file = crate::config::ConfigFile::parse(toml)?;
        let outgoing = Outgoing::new(crate::outgoing::Allowed::public());
        Recognisers::new(&file.recognisers, Arc::new(outgoing))
    }

    #[test]
    fn what_went_wrong_is_told_in_words() {
        for (unread, told) in [
            (Unread::Timeout, "did not answer in time"),
            (Unread::Unreachable("refused".into()), "cannot be reached: refused"),
            (Unread::Status(500), "answered HTTP 500"),
            (Unread::Unreadable("not JSON".into()), "answered what cannot be read: not JSON"),
            (Unread::Declined, "declined to read the message"),
            (Unread::Open, "failed too often, and is left alone for a while"),
            (Unread::Busy, "is not asked, since too many calls of recognisers are under way"),
        ] {
            assert_eq!(unread.told(), told);
        }
    }

    #[test]
    fn the_first_that_fits_machine_and_tenant_is_asked() {
        let all = recognisers(
            r#"
            [[recognisers]]
            kind = "rasa"
            name = "acme's"
            machine = "purchase"
            tenant = "acme"
            url = "https://nlu.example/"
            [[recognisers]]
            kind = "openai"
            machine = "progress_update"
            url = "https://llm.example/v1"
            model = "small"
            api_key = "k"
            [[recognisers]]
            kind = "rasa"
            tenant = "acme"
            url = "https://nlu.example"
            "#,
        )
        .unwrap();
        let of = |tenant: TenantId, machine: &str| {
            let input = Input {
                tenant,
                key: InputKey::parse("m1").unwrap(),
                cause: Cause::Message {
                    machine: MachineName::parse(machine).unwrap(),
                    subject: kernel::id::Subject::parse("ann").unwrap(),
                    message: Message::of_text("x"),
                },
                expected: None,
                by: None,
                trace: None,
            };
            all.of(&input).map(|recogniser| recogniser.name.clone())
        };
        let cases = [
            ("acme", "purchase", Some("acme's")),
            ("other", "purchase", None),
            ("other", "progress_update", Some("openai")),
            ("acme", "banking_menu", Some("rasa")),
        ];
        for (tenant, machine, expected) in cases {
            let tenant = TenantId::parse(tenant).unwrap();
            assert_eq!(of(tenant.shadow(), machine).as_deref(), expected, "{tenant}'s shadow, {machine}");
            assert_eq!(of(tenant, machine).as_deref(), expected, "{machine}");
        }
        assert_eq!(
            all.asking(),
            [
                "recogniser: acme's at nlu.example, for `purchase` and the tenant `acme`",
                "recogniser: openai at llm.example, for `progress_update` and all tenants",
                "recogniser: rasa at nlu.example, for all machines and the tenant `acme`",
            ]
        );
        assert_eq!((all.count(), all.machines()[1].0.as_str()), (3, "[[recognisers]] number 2"));
        assert!(Arc::ptr_eq(&all.all[0].breaker, &all.all[2].breaker), "one endpoint, one breaker");
        assert!(!Arc::ptr_eq(&all.all[0].breaker, &all.all[1].breaker));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_with_the_reason() {
        let rasa = "[[recognisers]]\nkind = \"rasa\"\nurl = \"http://nlu.example\"\n";
        let openai = "[[recognisers]]\nkind = \"openai\"\nurl = \"http://llm.example\"\n";
        for (toml, part) in [
            (format!("{rasa}timeout = \"0s\""), "`timeout` is 0s"),
            (format!("{rasa}timeout = \"11s\""), "up to 10s"),
            (format!("{rasa}timeout = \"soon\""), "is no delay"),
            (format!("{rasa}model = \"a\""), "leave `model` out"),
            (format!("{rasa}modle = \"a\""), "unknown field `modle`"),
            (format!("{rasa}confidence_max = 1.5"), "not between 0 and 1"),
            (format!("{rasa}name = \"\""), "`name` takes"),
            (format!("{rasa}api_key = \"env:STATEWRIGHT_NO_SUCH\""), "STATEWRIGHT_NO_SUCH"),
            (format!("{rasa}{openai}"), "the recogniser number 2: `model` is missing"),
            ("[[recognisers]]\nkind = \"rasa\"\nurl = \"nlu.example\"".into(), "the URL"),
            ("[[recognisers]]\nkind = \"rasa\"\nurl = \"http://a:b@nlu.example\"".into(), "credentials"),
            ("[[recognisers]]\nkind = \"rasa\"\nurl = \"http://nlu.example?a=b\"".into(), "query"),
            (
                "[[recognisers]]\nkind = \"luis\"\nurl = \"http://nlu.example\"".into(),
                "unknown variant `luis`",
            ),
        ] {
            let problem = recognisers(&toml).unwrap_err();
            assert!(problem.contains(part), "{toml}: {problem}");
        }
    }
}
