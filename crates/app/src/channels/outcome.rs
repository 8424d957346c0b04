//! What an HTTP status says about a request that sends, where the provider's body does not say it better.
//!
//! Invariant: only what certainly was not taken is `Later` or `Refused`. The rest is `Unknown`, because no provider
//! here takes a key by which a repeat would be recognised.

use serde_json::Value;

use super::Sent;

/// Providers' messages may hold whole pages; a log wants a line.
const ERROR_CHARACTERS_MAX: usize = 300;

/// `because` is what the body says. `retry_after` is the header's value in seconds.
///
/// Any 4xx was understood and not carried out. 503 is how servers and gateways say that they did not begin; every
/// other 5xx may come after the message has gone out, and a redirect after who knows what.
pub fn of_status(status: u16, retry_after: Option<u64>, because: &str) -> Sent {
    let error = error(status, because);
    match status {
        // 401 is a token that has expired or was never right: whoever mends it wants nothing lost meanwhile.
        401 | 408 | 425 | 429 | 503 => Sent::Later { error, after_seconds: retry_after },
        400..=499 => Sent::Refused { error },
        _ => Sent::Unknown { error },
    }
}

/// A success in other words than the provider's own, such as a gateway's page: nobody knows what became of the request.
pub fn accepted(provider_id: Option<String>, status: u16, body: &[u8]) -> Sent {
    let is_providers = provider_id.is_some() || body.is_empty() || self::body(body).is_object();
    match is_providers {
        true => Sent::Accepted { provider_id },
        false => Sent::Unknown { error: error(status, &raw(body)) },
    }
}

pub fn error(status: u16, because: &str) -> String {
    let line: Vec<&str> = because.split_whitespace().collect();
    let line: String = line.join(" ").chars().take(ERROR_CHARACTERS_MAX).collect();
    let line = if line.is_empty() { "no reason given" } else { &line };
    format!("HTTP {status}: {line}")
}

/// The body as JSON, `Null` where it is none.
pub fn body(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or(Value::Null)
}

/// The body's own words where it is no JSON that is understood: gateways answer in HTML.
pub fn raw(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(4 * ERROR_CHARACTERS_MAX)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_certainly_not_taken_is_repeated_or_given_up() {
        let table: [(&[u16], &str); 3] = [
            (&[401, 408, 425, 429, 503], "later"),
            (&[400, 403, 404, 409, 413, 422, 499], "refused"),
            (&[100, 301, 302, 500, 501, 502, 504, 529, 599, 0, 999], "unknown"),
        ];
        for (statuses, expected) in table {
            for status in statuses {
                let outcome = match of_status(*status, Some(7), "x") {
                    Sent::Later { after_seconds: Some(7), .. } => "later",
                    Sent::Refused { .. } => "refused",
                    Sent::Unknown { .. } => "unknown",
                    other => panic!("{other:?}"),
                };
                assert_eq!(outcome, expected, "{status}");
            }
        }
    }

    #[test]
    fn errors_are_one_short_line() {
        assert_eq!(error(400, " a\n\tb "), "HTTP 400: a b");
        assert_eq!(error(500, ""), "HTTP 500: no reason given");
        assert_eq!(error(500, &"é".repeat(900)).chars().count(), "HTTP 500: ".len() + ERROR_CHARACTERS_MAX);
    }
}
