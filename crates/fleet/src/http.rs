//! Asking a server: one request, one answer, within a time.
//!
//! Owns no policy of repeating; a connection that breaks is an error, a refusal is an answer.

use std::time::Duration;

/// A response as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub status: u16,
    pub body: String,
}

/// Keeps connections, so each thread should have one of its own.
#[derive(Debug, Clone)]
pub(crate) struct Client(ureq::Agent);

impl Client {
    pub fn new(patience: Duration) -> Self {
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(patience)).build();
        Self(config.into())
    }

    /// # Errors
    /// What became of the connection; whether the request was carried out is not known.
    pub fn post(&self, url: &str, key: &str, body: &str) -> Result<Answer, String> {
        let request = self.0.post(url).header("authorization", format!("Bearer {key}"));
        read(request.send(body))
    }

    /// # Errors
    /// As `post`.
    pub fn get(&self, url: &str, key: &str) -> Result<Answer, String> {
        read(self.0.get(url).header("authorization", format!("Bearer {key}")).call())
    }
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, String> {
    let mut response = response.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(u64::MAX).read_to_string();
    Ok(Answer { status, body: body.map_err(|error| error.to_string())? })
}
