//! A real browser that looks at a server's pages, by WebDriver, as far as tests need it.
//!
//! The protocol is JSON over HTTP (https://www.w3.org/TR/webdriver2), and what is used of it is a dozen requests: a
//! client library would bring an asynchronous runtime and thirty crates for them.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::{BROWSER_ARGUMENTS, Browser as Driver, Settings};
use ureq::Agent;

/// How long the browser may take for anything: a busy machine starts it in seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long something may take to be seen on a page.
const SEEN_MAX_MS: u64 = 15_000;
/// How an element is named in the protocol.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct Browser {
    driver: Driver,
    agent: Agent,
    session: String,
    base: String,
}

impl Browser {
    /// A browser with a window of this size that looks at `base`.
    pub fn at(base: &str, width: u32, height: u32) -> Self {
        let driver = Driver::start(&Settings::default()).unwrap_or_else(|error| panic!("{error}"));
        let config = Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
        let agent: Agent = config.build().into();
        let mut arguments: Vec<String> = BROWSER_ARGUMENTS.iter().map(ToString::to_string).collect();
        arguments.push(format!("--window-size={width},{height}"));
        let asked = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let begun = post(&agent, &format!("{}/session", driver.url()), &asked);
        let id = begun["sessionId"].as_str().unwrap_or_else(|| panic!("no browser: {begun}"));
        let session = format!("{}/session/{id}", driver.url());
        let mut browser = Self { driver, agent, session, base: base.to_owned() };
        browser.resize(width, height);
        browser
    }

    fn ask(&self, what: &str, body: &Value) -> Value {
        post(&self.agent, &format!("{}/{what}", self.session), body)
    }

    /// The page's own size, whatever stands around it.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        let command = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": size});
        self.ask("goog/cdp/execute", &command);
    }

    pub fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.ask("goog/cdp/execute", &json!({"cmd": "Emulation.setEmulatedMedia", "params": features}));
    }

    pub fn open(&self, path: &str) {
        self.ask("url", &json!({ "url": format!("{}{path}", self.base) }));
    }

    /// What a script's body returns.
    pub fn run(&self, script: &str) -> Value {
        self.ask("execute/sync", &json!({"script": script, "args": []}))
    }

    /// The text of the first element that `css` finds, as it is to be seen.
    pub fn text(&self, css: &str) -> String {
        let found = self.run(&format!("return document.querySelector({})?.innerText ?? null", json!(css)));
        found.as_str().unwrap_or_else(|| panic!("there is no {css} on {}", self.place())).to_owned()
    }

    pub fn place(&self) -> String {
        self.run("return location.pathname + location.search").as_str().unwrap_or_default().to_owned()
    }

    /// How many elements there are.
    pub fn count(&self, css: &str) -> usize {
        let found = self.run(&format!("return document.querySelectorAll({}).length", json!(css)));
        found.as_u64().unwrap_or_default() as usize
    }

    /// Waits until the text of an element has `text` in it.
    pub fn see(&self, css: &str, text: &str) {
        let holds = format!("document.querySelector({})?.innerText.includes({})", json!(css), json!(text));
        if !self.comes_true(&holds) {
            let found = self.run(&format!("return document.querySelector({})?.innerText", json!(css)));
            panic!("{css} on {} does not come to have `{text}`; it has {found}", self.place());
        }
    }

    /// Waits until an expression of JavaScript holds.
    pub fn wait(&self, expression: &str) {
        assert!(self.comes_true(expression), "`{expression}` does not come to hold on {}", self.place());
    }

    fn comes_true(&self, expression: &str) -> bool {
        let script = format!(
            "const done = arguments[0]; const until = Date.now() + {SEEN_MAX_MS};
             const look = () => ({expression}) ? done(true) : Date.now() > until ? done(false) : setTimeout(look, 20);
             look();"
        );
        self.ask("execute/async", &json!({"script": script, "args": []})) == json!(true)
    }

    fn element(&self, css: &str) -> String {
        let found = self.ask("element", &json!({"using": "css selector", "value": css}));
        let id = found[ELEMENT].as_str();
        id.unwrap_or_else(|| panic!("there is no {css} on {}: {found}", self.place())).to_owned()
    }

    /// Clicks as a mouse would: what is hidden, covered or disabled cannot be clicked.
    pub fn click(&self, css: &str) {
        let element = self.element(css);
        let answer = self.ask(&format!("element/{element}/click"), &json!({}));
        assert_eq!(answer["error"], Value::Null, "{css}: {answer}");
    }

    /// Types into a field what was not there before.
    pub fn fill(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.ask(&format!("element/{element}/clear"), &json!({}));
        let answer = self.ask(&format!("element/{element}/value"), &json!({ "text": text }));
        assert_eq!(answer["error"], Value::Null, "{css}: {answer}");
    }

    /// Answers a question that the page asks: yes.
    pub fn accept_question(&self) {
        let answer = self.ask("alert/accept", &json!({}));
        assert_eq!(answer["error"], Value::Null, "there is no question on {}", self.base);
    }

    /// What the browser has complained about since it was last asked: errors of scripts, what the content policy has
    /// forbidden, what could not be loaded.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.ask("se/log", &json!({"type": "browser"}));
        let lines = log.as_array().map(Vec::as_slice).unwrap_or_default();
        let severe = lines.iter().filter(|line| line["level"] == json!("SEVERE"));
        severe.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What keeps people from using the page who cannot see it, or do not use a mouse: the serious and the critical of
    /// what axe-core finds.
    pub fn barriers(&self) -> Vec<String> {
        let path = std::env::var_os("STATEWRIGHT_TEST_AXE").map(PathBuf::from);
        let path =
            path.expect("STATEWRIGHT_TEST_AXE is not set: run by `cargo xtask servers cargo nextest run …`");
        let axe =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // As the browser's own, since the page's policy lets no foreign script in.
        self.run(&axe);
        let script = "const done = arguments[0];
            axe.run({resultTypes: ['violations']}).then((found) => done(found.violations
              .filter((one) => ['serious', 'critical'].includes(one.impact))
              .map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(' ')).join(', ')}`)), (e) => done([String(e)]));";
        let found = self.ask("execute/async", &json!({"script": script, "args": []}));
        let found = found.as_array().unwrap_or_else(|| panic!("axe-core says {found}"));
        found.iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browsers with itself; this only lets them end in order.
        let _ = self.agent.delete(&self.session).call();
        let _ = &self.driver;
    }
}

fn post(agent: &Agent, url: &str, body: &Value) -> Value {
    let mut answer = agent.post(url).send_json(body).unwrap_or_else(|error| panic!("{url}: {error}"));
    let mut answer: Value = answer.body_mut().read_json().unwrap_or_else(|error| panic!("{url}: {error}"));
    answer["value"].take()
}
