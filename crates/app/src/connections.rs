//! What the server is connected to: channels, the receivers of webhooks, and what machines call.
//!
//! Owns the shape of these settings, what is wrong with them, and which of them an effect or a webhook belongs to.
//! It sends nothing and verifies nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use kernel::conversation::Address;
use kernel::id::{MachineName, Subject, TenantId};
use kernel::time::Delay;
use serde::Deserialize;
use store::OutboxEffect;

use crate::channels::{meta, slack, telegram, twilio};
use crate::outgoing;
use crate::secret::Secret;
use crate::webhook::SigningSecret;

/// Longer than most receivers need, and shorter than the claim of an effect.
const TIMEOUT: Duration = Duration::from_secs(15);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    Twilio,
    Meta,
    Telegram,
    Slack,
}

impl ChannelKind {
    pub const ALL: [Self; 4] = [Self::Twilio, Self::Meta, Self::Telegram, Self::Slack];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Twilio => "twilio",
            Self::Meta => "meta",
            Self::Telegram => "telegram",
            Self::Slack => "slack",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    fn default_api(self) -> &'static str {
        match self {
            Self::Twilio => twilio::DEFAULT_API,
            Self::Meta => meta::DEFAULT_API,
            Self::Telegram => telegram::DEFAULT_API,
            Self::Slack => slack::DEFAULT_API,
        }
    }

    /// The settings that tell its webhooks from forged ones, and those without which nothing can be sent.
    fn secrets(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Twilio => (&["auth_token"], &["account_sid", "auth_token"]),
            Self::Meta => (&["app_secret", "verify_token"], &["access_token"]),
            Self::Telegram => (&["secret_token"], &["bot_token"]),
            Self::Slack => (&["signing_secret"], &["bot_token"]),
        }
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How Twilio gets its replies: in the answer to its webhook, or by its API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyBy {
    #[default]
    Twiml,
    Api,
}

/// `[[channels]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    pub kind: ChannelKind,
    /// What it is called among endpoints.
    #[serde(skip)]
    pub name: String,
    /// Any if it is not said: the address of a webhook names one.
    pub machine: Option<MachineName>,
    /// Whose sessions they are; the first tenant's if it is not said.
    pub tenant: Option<TenantId>,
    /// The business's own number or account; any if it is not said.
    pub account: Option<String>,
    /// The base of the provider's API, for another region or a test.
    pub api_url: Option<String>,
    /// Sends a second, at most.
    pub rate: Option<f64>,
    #[serde(default)]
    pub reply_by: ReplyBy,
    pub auth_token: Option<Secret>,
    pub account_sid: Option<Secret>,
    pub app_secret: Option<Secret>,
    pub verify_token: Option<Secret>,
    pub access_token: Option<Secret>,
    pub api_version: Option<String>,
    pub secret_token: Option<Secret>,
    pub signing_secret: Option<Secret>,
    pub bot_token: Option<Secret>,
}

/// `[[webhooks]]`: who is told what nobody waits for, and what has no address of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    pub url: String,
    /// What it is called among endpoints.
    #[serde(skip)]
    pub name: String,
    pub secret: SigningSecret,
    pub machine: Option<MachineName>,
    pub tenant: Option<TenantId>,
    /// Whether it is told of every transition too.
    #[serde(default)]
    pub transitions: bool,
    pub rate: Option<f64>,
    pub timeout: Option<Delay>,
}

/// `[[calls]]`: who answers what machines call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallTarget {
    /// The `src` of a definition's `invoke`, or the beginning of one with `*` behind it.
    pub src: String,
    pub url: String,
    /// What it is called among endpoints.
    #[serde(skip)]
    pub name: String,
    pub secret: SigningSecret,
    pub machine: Option<MachineName>,
    pub tenant: Option<TenantId>,
    pub rate: Option<f64>,
    pub timeout: Option<Delay>,
}

/// All of them, settled and checked.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    channels: Vec<Channel>,
    webhooks: Vec<Webhook>,
    calls: Vec<CallTarget>,
}

impl Channel {
    /// Twilio's webhooks for any machine, answered in TwiML.
    pub fn twilio(auth_token: Secret) -> Self {
        Self {
            kind: ChannelKind::Twilio,
            name: String::new(),
            machine: None,
            tenant: None,
            account: None,
            api_url: None,
            rate: None,
            reply_by: ReplyBy::Twiml,
            auth_token: Some(auth_token),
            account_sid: None,
            app_secret: None,
            verify_token: None,
            access_token: None,
            api_version: None,
            secret_token: None,
            signing_secret: None,
            bot_token: None,
        }
    }

    fn named(&self, name: &str) -> Option<&Secret> {
        match name {
            "auth_token" => self.auth_token.as_ref(),
            "account_sid" => self.account_sid.as_ref(),
            "app_secret" => self.app_secret.as_ref(),
            "verify_token" => self.verify_token.as_ref(),
            "access_token" => self.access_token.as_ref(),
            "secret_token" => self.secret_token.as_ref(),
            "signing_secret" => self.signing_secret.as_ref(),
            "bot_token" => self.bot_token.as_ref(),
            _ => None,
        }
    }

    pub fn api_url(&self) -> &str {
        self.api_url.as_deref().unwrap_or(self.kind.default_api()).trim_end_matches('/')
    }

    /// Whether replies to its messages are sent, rather than told in the answer to the webhook.
    pub fn sends_replies(&self) -> bool {
        self.kind != ChannelKind::Twilio || self.reply_by == ReplyBy::Api
    }

    /// The setting without which nothing can be sent by it.
    pub fn missing_to_send(&self) -> Option<&'static str> {
        self.kind.secrets().1.iter().copied().find(|name| self.named(name).is_none())
    }

    fn check(&self) -> Result<(), String> {
        let (receiving, sending) = self.kind.secrets();
        if let Some(missing) = receiving.iter().find(|name| self.named(name).is_none()) {
            return Err(format!(
                "`{missing}` is missing, by which forged webhooks are told from genuine ones"
            ));
        }
        let all = ChannelKind::ALL.iter().flat_map(|kind| [kind.secrets().0, kind.secrets().1]).flatten();
        let foreign =
            all.copied().collect::<BTreeSet<_>>().into_iter().find(|name| {
                self.named(name).is_some() && !receiving.contains(name) && !sending.contains(name)
            });
        if let Some(foreign) = foreign {
            return Err(format!("`{foreign}` is no setting of the channel {}", self.kind));
        }
        if self.reply_by == ReplyBy::Api {
            if self.kind != ChannelKind::Twilio {
                return Err("`reply_by` is a setting of the channel twilio".to_owned());
            }
            if let Some(missing) = self.missing_to_send() {
                return Err(format!("`reply_by = \"api\"` needs `{missing}`"));
            }
        }
        if self.api_version.is_some() && self.kind != ChannelKind::Meta {
            return Err("`api_version` is a setting of the channel meta".to_owned());
        }
        check_url(self.api_url())?;
        check_rate(self.rate)
    }
}

impl Connections {
    /// # Errors
    /// A fragment that says which entry is wrong and why.
    pub fn new(
        channels: Vec<Channel>,
        webhooks: Vec<Webhook>,
        calls: Vec<CallTarget>,
        first_tenant: &TenantId,
    ) -> Result<Self, String> {
        let mut settled = Self { channels, webhooks, calls };
        for (number, channel) in settled.channels.iter_mut().enumerate() {
            channel.tenant.get_or_insert_with(|| first_tenant.clone());
            channel.check().map_err(|problem| format!("[[channels]] number {}: {problem}", number + 1))?;
        }
        settled.tell_channels_apart()?;
        for (number, webhook) in settled.webhooks.iter().enumerate() {
            let checked = check_url(&webhook.url).and_then(|()| check_rate(webhook.rate));
            checked
                .and_then(|()| timeout(webhook.timeout).map(drop))
                .map_err(|problem| format!("[[webhooks]] number {}: {problem}", number + 1))?;
        }
        for (number, call) in settled.calls.iter().enumerate() {
            let checked = check_url(&call.url).and_then(|()| check_rate(call.rate));
            checked
                .and_then(|()| timeout(call.timeout).map(drop))
                .map_err(|problem| format!("[[calls]] number {}: {problem}", number + 1))?;
        }
        settled.name_endpoints();
        Ok(settled)
    }

    /// The longest that an attempt at any of them may take; zero where there is none.
    pub fn longest_timeout(&self) -> Duration {
        let told = self.webhooks.iter().map(|webhook| webhook.timeout);
        let called = self.calls.iter().map(|call| call.timeout);
        let waited = told.chain(called).map(|written| timeout(written).unwrap_or_default());
        // A reply by a channel may be several sends.
        let providers = self.channels.iter().map(|_| TIMEOUT_MAX);
        waited.chain(providers).max().unwrap_or_default()
    }

    /// Whoever is reached by one of two must not be answered by the other.
    fn tell_channels_apart(&self) -> Result<(), String> {
        let place = |c: &Channel| (c.kind, c.tenant.clone(), c.machine.clone(), c.account.clone());
        for (number, channel) in self.channels.iter().enumerate() {
            if let Some(first) =
                self.channels[..number].iter().position(|other| place(other) == place(channel))
            {
                return Err(format!(
                    "[[channels]] number {} and number {} are for the same messages; give each the `account` that is its own",
                    first + 1,
                    number + 1
                ));
            }
            // A webhook belongs to a tenant by its secret, and else by its account: one that fits two is anybody's.
            let secret = |c: &Channel| -> Option<String> {
                let name = c.kind.secrets().0.first()?;
                c.named(name).map(|secret| secret.expose().to_owned())
            };
            let meet = |c: &Channel| match (&c.machine, &channel.machine) {
                (Some(one), Some(other)) => one == other,
                _ => true,
            };
            let foreign = |c: &Channel| {
                (c.kind, &c.account) == (channel.kind, &channel.account)
                    && c.tenant != channel.tenant
                    && meet(c)
                    && secret(c) == secret(channel)
            };
            if let Some(first) = self.channels[..number].iter().position(foreign) {
                return Err(format!(
                    "[[channels]] number {} and number {} are of two tenants under one secret; give each the `account` that is its own",
                    first + 1,
                    number + 1
                ));
            }
        }
        Ok(())
    }

    /// Where each channel's provider is to send its webhooks, a line each.
    pub fn listening_at(&self, public_url: &str) -> Vec<String> {
        let line = |channel: &Channel| {
            let machine = channel.machine.as_ref().map_or("{machine}", MachineName::as_str);
            let replies = match channel.missing_to_send() {
                None => String::new(),
                Some(missing) if channel.sends_replies() => {
                    format!("; it receives only, without `{missing}`")
                }
                Some(missing) => format!("; what timers say is not sent without `{missing}`"),
            };
            format!("channel: {public_url}/v1/channels/{}/{machine}{replies}", channel.kind)
        };
        self.channels.iter().map(line).collect()
    }

    /// Who is told of effects and who answers calls, a line each, by their hosts: paths may hold tokens.
    pub fn reaching(&self) -> Vec<String> {
        let webhooks = self.webhooks.iter().map(|webhook| {
            let told = if webhook.transitions { ", of transitions too" } else { "" };
            let whom = for_whom(webhook.machine.as_ref(), webhook.tenant.as_ref());
            format!("webhook: {}, {whom}{told}", webhook.name)
        });
        let calls = self.calls.iter().map(|call| {
            let whom = for_whom(call.machine.as_ref(), call.tenant.as_ref());
            format!("call: {} by {}, {whom}", call.src, call.name)
        });
        webhooks.chain(calls).collect()
    }

    /// The machines that entries name, each with its entry.
    pub fn machines(&self) -> Vec<(String, &MachineName)> {
        let channels = self.channels.iter().map(|channel| channel.machine.as_ref());
        let webhooks = self.webhooks.iter().map(|webhook| webhook.machine.as_ref());
        let calls = self.calls.iter().map(|call| call.machine.as_ref());
        let channels = entries("channels", channels);
        channels.chain(entries("webhooks", webhooks)).chain(entries("calls", calls)).collect()
    }

    /// How many channels, webhooks and calls there are.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.channels.len(), self.webhooks.len(), self.calls.len())
    }

    /// Names where things are sent: a channel by its kind, a receiver by its host, and the second of the same name as
    /// such. What befalls one of them, such as a failure or a 410, says nothing of the others.
    fn name_endpoints(&mut self) {
        for place in 0..self.channels.len() {
            let kind = self.channels[place].kind;
            let before = self.channels[..place].iter().filter(|channel| channel.kind == kind).count();
            self.channels[place].name = numbered(kind.as_str(), before);
        }
        let webhooks = self.webhooks.iter_mut().map(|webhook| (&webhook.url, &mut webhook.name));
        let calls = self.calls.iter_mut().map(|call| (&call.url, &mut call.name));
        let mut receivers: Vec<(&String, &str, String)> = Vec::new();
        for (url, name) in webhooks.chain(calls) {
            if let Some((.., same)) = receivers.iter().find(|(known, ..)| *known == url) {
                name.clone_from(same);
                continue;
            }
            let host = host_of(url);
            *name = numbered(host, receivers.iter().filter(|(_, known, _)| *known == host).count());
            receivers.push((url, host, name.clone()));
        }
    }

    /// The channels of a kind that speak for a machine.
    pub fn listening(&self, kind: ChannelKind, machine: &MachineName) -> Vec<&Channel> {
        let speaks = |channel: &&Channel| channel.kind == kind && fits(channel.machine.as_ref(), machine);
        self.channels.iter().filter(speaks).collect()
    }

    /// The channel by which somebody is reached: one for just this account before one for any.
    ///
    /// # Errors
    /// A fragment that says which setting would say it.
    pub fn sender(&self, effect: &OutboxEffect, to: &Address) -> Result<&Channel, String> {
        let kind = ChannelKind::parse(&to.channel);
        let mut fitting = self.channels.iter().filter(|channel| {
            Some(channel.kind) == kind
                && fits(channel.machine.as_ref(), &effect.machine)
                && channel.tenant.as_ref() == Some(&effect.tenant)
                && channel.account.as_ref().is_none_or(|account| *account == to.account)
        });
        let first = fitting.next();
        let exact = fitting.find(|channel| channel.account.is_some());
        let found = exact.or(first).ok_or_else(|| {
            format!(
                "no [[channels]] of kind `{}` is set for `{}` of {}",
                to.channel, effect.machine, effect.tenant
            )
        })?;
        match found.missing_to_send() {
            None => Ok(found),
            Some(missing) => Err(format!("the channel {} sends nothing without its `{missing}`", found.kind)),
        }
    }

    pub fn webhook(&self, tenant: &TenantId, machine: &MachineName) -> Option<&Webhook> {
        self.webhooks
            .iter()
            .find(|webhook| fits(webhook.tenant.as_ref(), tenant) && fits(webhook.machine.as_ref(), machine))
    }

    pub fn call(&self, tenant: &TenantId, machine: &MachineName, src: &str) -> Option<&CallTarget> {
        let named = |call: &CallTarget| match call.src.strip_suffix('*') {
            Some(beginning) => src.starts_with(beginning),
            None => call.src == src,
        };
        self.calls.iter().find(|call| {
            named(call) && fits(call.tenant.as_ref(), tenant) && fits(call.machine.as_ref(), machine)
        })
    }
}

/// Which machines and tenants an entry is for.
pub(crate) fn for_whom(machine: Option<&MachineName>, tenant: Option<&TenantId>) -> String {
    let machines = machine.map_or("all machines".to_owned(), |machine| format!("`{machine}`"));
    let tenants = tenant.map_or("all tenants".to_owned(), |tenant| format!("the tenant `{tenant}`"));
    format!("for {machines} and {tenants}")
}

/// Those of the entries of one kind that name a machine, as the settings number them.
pub(crate) fn entries<'a>(
    kind: &'a str,
    machines: impl Iterator<Item = Option<&'a MachineName>>,
) -> impl Iterator<Item = (String, &'a MachineName)> {
    machines
        .enumerate()
        .filter_map(move |(number, machine)| Some((format!("[[{kind}]] number {}", number + 1), machine?)))
}

fn fits<T: PartialEq>(wanted: Option<&T>, found: &T) -> bool {
    wanted.is_none_or(|wanted| wanted == found)
}

/// The subject of somebody on a channel: the same person at two numbers of the business is two.
///
/// # Errors
/// When the provider's identities are longer than a subject may be, or no text.
pub fn subject_of(kind: ChannelKind, account: &str, user: &str) -> Result<Subject, String> {
    let parts = [kind.as_str(), account, user];
    let told: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    Subject::parse(&told.join(":"))
}

/// How long a request may take.
///
/// # Errors
/// When that is longer than an effect is left to one attempt.
pub fn timeout(written: Option<Delay>) -> Result<Duration, String> {
    let timeout = written.map_or(TIMEOUT, |delay| Duration::from_millis(delay.as_millis().unsigned_abs()));
    if timeout.is_zero() || timeout > TIMEOUT_MAX {
        return Err(format!("`timeout` may be up to {} seconds", TIMEOUT_MAX.as_secs()));
    }
    Ok(timeout)
}

/// `host`, `host (2)`, …: paths may hold tokens, and names are for the log and for figures.
fn numbered(name: &str, before: usize) -> String {
    if before == 0 { name.to_owned() } else { format!("{name} ({})", before + 1) }
}

pub(crate) fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

fn check_url(url: &str) -> Result<(), String> {
    outgoing::check_url(url).map_err(|error| error.to_string())
}

fn check_rate(rate: Option<f64>) -> Result<(), String> {
    match rate {
        Some(rate) if !(rate.is_finite() && rate > 0.0) => {
            Err(format!("`rate` is {rate}; it is sends a second, more than 0"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigFile;

    fn connected(toml: &str) -> Result<Connections, String> {
        let ConfigFile { channels, webhooks, calls, .. } = ConfigFile::parse(toml)?;
        Connections::new(channels, webhooks, calls, &TenantId::default_tenant())
    }

    #[test]
    fn a_channel_that_cannot_be_is_refused_with_its_reason_and_without_its_secrets() {
        let meta = "[[channels]]\nkind = \"meta\"\napp_secret = \"hidden\"\n";
        let whole = format!("{meta}verify_token = \"hidden\"\n");
        for (toml, problem) in [
            (meta.to_owned(), "[[channels]] number 1: `verify_token` is missing"),
            (format!("{whole}bot_token = \"hidden\"\n"), "`bot_token` is no setting of the channel meta"),
            (format!("{whole}reply_by = \"api\"\n"), "`reply_by` is a setting of the channel twilio"),
            (format!("{whole}api_url = \"graph\"\n"), "does not begin with http:// or https://"),
            (format!("{whole}rate = 0\n"), "`rate` is 0"),
            (format!("{whole}app_secert = \"hidden\"\n"), "unknown field `app_secert`"),
            ("[[channels]]\nkind = \"fax\"\n".to_owned(), "unknown variant `fax`"),
            (
                format!("{whole}{whole}"),
                "number 1 and number 2 are for the same messages; give each the `account` that is its own",
            ),
            (
                format!("{whole}tenant = \"acme\"\n{whole}tenant = \"beta\"\n"),
                "number 1 and number 2 are of two tenants under one secret",
            ),
            (
                "[[channels]]\nkind = \"twilio\"\nauth_token = \"hidden\"\nreply_by = \"api\"\n".to_owned(),
                "`reply_by = \"api\"` needs `account_sid`",
            ),
            ("[[webhooks]]\nurl = \"https://a.example\"\nsecret = \"hidden\"\n".to_owned(), "whsec_"),
        ] {
            let told = connected(&toml).unwrap_err();
            assert!(told.contains(problem), "{told} for {toml}");
            assert!(!told.contains("hidden"), "{told}");
        }
        assert!(connected(&whole).is_ok());
    }

    #[test]
    fn each_channel_says_where_its_webhooks_go_and_what_it_cannot_do() {
        let toml = "[[channels]]\nkind = \"twilio\"\nauth_token = \"t\"\n\
                    [[channels]]\nkind = \"slack\"\nmachine = \"m\"\nsigning_secret = \"s\"\n\
                    [[channels]]\nkind = \"telegram\"\nmachine = \"m\"\nsecret_token = \"s\"\nbot_token = \"b\"\n";
        assert_eq!(
            connected(toml).unwrap().listening_at("https://h"),
            [
                "channel: https://h/v1/channels/twilio/{machine}; what timers say is not sent without `account_sid`",
                "channel: https://h/v1/channels/slack/m; it receives only, without `bot_token`",
                "channel: https://h/v1/channels/telegram/m",
            ]
        );
    }

    #[test]
    fn each_receiver_is_told_by_its_host_and_without_its_path() {
        let secret = "secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
        let toml = format!(
            "[[webhooks]]\nurl = \"https://ops.example:8443/hidden?hidden\"\n{secret}\ntransitions = true\n\
             [[webhooks]]\nurl = \"https://crm.example/\"\nmachine = \"bot\"\ntenant = \"acme\"\n{secret}\n\
             [[calls]]\nsrc = \"bank.*\"\nurl = \"https://ops.example:8443/other\"\nmachine = \"shop\"\n{secret}\n"
        );
        let connections = connected(&toml).unwrap();
        assert_eq!(
            connections.reaching(),
            [
                "webhook: ops.example:8443, for all machines and all tenants, of transitions too",
                "webhook: crm.example, for `bot` and the tenant `acme`",
                "call: bank.* by ops.example:8443 (2), for `shop` and all tenants",
            ]
        );
        let named: Vec<(String, &str)> =
            connections.machines().into_iter().map(|(entry, machine)| (entry, machine.as_str())).collect();
        assert_eq!(
            named,
            [("[[webhooks]] number 2".to_owned(), "bot"), ("[[calls]] number 1".to_owned(), "shop")]
        );
        assert_eq!(connections.counts(), (0, 2, 1));
    }

    #[test]
    fn a_call_goes_to_the_first_that_names_it() {
        let entry = |src: &str, more: &str| {
            format!(
                "[[calls]]\nsrc = \"{src}\"\nurl = \"https://{more}\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n"
            )
        };
        let toml =
            [entry("bank.pay", "a"), entry("bank.*", "b"), entry("*", "c\"\ntenant = \"acme")].concat();
        let connections = connected(&toml).unwrap();
        let machine = MachineName::parse("m").unwrap();
        let found = |tenant: &str, src: &str| {
            let tenant = TenantId::parse(tenant).unwrap();
            connections.call(&tenant, &machine, src).map(|call| call.url.clone())
        };
        for (tenant, src, url) in [
            ("t", "bank.pay", Some("https://a")),
            ("t", "bank.pay.back", Some("https://b")),
            ("t", "shop.buy", None),
            ("acme", "shop.buy", Some("https://c")),
        ] {
            assert_eq!(found(tenant, src).as_deref(), url, "{tenant} {src}");
        }
    }
}
