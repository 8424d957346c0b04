//! `[[recognisers]]` of statewright.toml: who may be asked what a message means, for which machines.

use std::time::Duration;

use kernel::conversation::Confidence;
use kernel::id::{MachineName, TenantId};
use kernel::time::Delay;
use serde::Deserialize;

use crate::recognisers::{Endpoint, Protocol};
use crate::secret::Secret;

/// A person waits for the answer, and a provider for ours: longer than this is worse than the built-in recogniser.
const TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Names are labels of figures and stand with every message in the history.
const NAME_CHARS_MAX: usize = 64;
/// Language models are sure of themselves; what they say is never quite an exact phrase.
const MODEL_CONFIDENCE_MAX: Confidence = Confidence::basis_points(9_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Rasa,
    OpenAi,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Rasa => "rasa",
            Self::OpenAi => "openai",
        }
    }
}

/// One entry, as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecogniserConfig {
    pub kind: Kind,
    /// How it is called in figures, the log and the history; its kind, if nothing is said.
    pub name: Option<String>,
    /// Without one, it is asked for all machines.
    pub machine: Option<MachineName>,
    /// Without one, it is asked for all tenants.
    pub tenant: Option<TenantId>,
    /// What comes before `/model/parse` or `/chat/completions`.
    pub url: String,
    pub model: Option<String>,
    pub api_key: Option<Secret>,
    #[serde(default = "three_seconds")]
    pub timeout: Delay,
    /// Surer than this it is never taken to be.
    pub confidence_max: Option<Confidence>,
}

fn three_seconds() -> Delay {
    Delay::from_secs(3)
}

impl RecogniserConfig {
    pub(super) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.kind.as_str().to_owned())
    }

    pub(super) fn confidence_max(&self) -> Confidence {
        self.confidence_max.unwrap_or(match self.kind {
            Kind::Rasa => Confidence::CERTAIN,
            Kind::OpenAi => MODEL_CONFIDENCE_MAX,
        })
    }

    /// # Errors
    /// A fragment that says what is missing or makes no sense.
    pub(super) fn protocol(&self) -> Result<Protocol, String> {
        match (self.kind, &self.model) {
            (Kind::Rasa, None) => Ok(Protocol::Rasa),
            (Kind::Rasa, Some(_)) => Err("Rasa serves one model; leave `model` out".into()),
            (Kind::OpenAi, Some(model)) => Ok(Protocol::OpenAi { model: model.clone() }),
            (Kind::OpenAi, None) => Err("`model` is missing".into()),
        }
    }

    /// # Errors
    /// As `protocol`.
    pub(super) fn endpoint(&self) -> Result<Endpoint, String> {
        let url = self.url.trim_end_matches('/').to_owned();
        crate::outgoing::check_url(&url).map_err(|error| error.to_string())?;
        if url.contains(['?', '#']) {
            return Err(
                "the URL has a query; only what comes before the protocol's own path is wanted".into()
            );
        }
        let timeout = Duration::from_millis(u64::try_from(self.timeout.as_millis()).unwrap_or_default());
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            return Err(format!("`timeout` is {}; it takes more than nothing and up to 10s", self.timeout));
        }
        let name = self.name();
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
            return Err(format!("`name` takes 1 to {NAME_CHARS_MAX} characters"));
        }
        Ok(Endpoint { url, api_key: self.api_key.clone(), timeout })
    }
}
