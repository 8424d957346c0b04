//! Delays: milliseconds, durations as texts, and names of delays.

use crate::time::Delay;
use crate::xstate::import::Importer;
use crate::xstate::json::Json;

/// The longest delay that a definition may have: never, as far as anybody is concerned.
pub(super) const LONGEST_MS: i64 = 36_525 * DAY_MS;
pub(super) const DAY_MS: i64 = 86_400_000;

impl Importer<'_> {
    /// How long a delay is; `None` for a name whose length is not in the JSON.
    pub(super) fn delay(&self, written: &Json) -> Option<Delay> {
        let milliseconds = match written {
            Json::Number(number) => number.as_f64(),
            Json::Text(text) => parse(text).or_else(|| self.delay_by_name(text)),
            _ => None,
        };
        let milliseconds = milliseconds.filter(|ms| ms.is_finite() && *ms >= 0.0)?;
        // Nothing here comes after no time at all; a fraction of a millisecond is one.
        Some(Delay::from_millis((milliseconds.ceil() as i64).clamp(1, LONGEST_MS)))
    }

    /// Version 6 may say in the machine how long a name is.
    fn delay_by_name(&self, name: &str) -> Option<f64> {
        let written = self.top.get("delays")?.get(name)?;
        match written.get("duration").unwrap_or(written) {
            Json::Number(number) => number.as_f64(),
            Json::Text(text) => parse(text),
            _ => None,
        }
    }
}

/// `1000`, and the durations of version 6: `250ms`, `1.5s`, ISO 8601 such as `PT1M30S`.
fn parse(text: &str) -> Option<f64> {
    let text = text.trim();
    let number = |text: &str| {
        let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','));
        text.replace(',', ".").parse::<f64>().ok().filter(|_| digits)
    };
    if let Some(milliseconds) = number(text) {
        return Some(milliseconds);
    }
    let lower = text.to_ascii_lowercase();
    if let Some(milliseconds) = lower.strip_suffix("ms") {
        return number(milliseconds);
    }
    if let Some(period) = lower.strip_prefix('p') {
        return parse_period(period, number);
    }
    lower.strip_suffix('s').and_then(number).map(|seconds| seconds * 1_000.0)
}

fn parse_period(period: &str, number: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let (days, times) = period.split_once('t').unwrap_or((period, ""));
    let units = |rest: &str, units: &[(char, f64)]| {
        let mut total = 0.0;
        let mut rest = rest;
        while !rest.is_empty() {
            let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
            let (_, scale) = units.iter().find(|(unit, _)| rest[end..].starts_with(*unit))?;
            total += number(&rest[..end])? * scale;
            rest = &rest[end + 1..];
        }
        Some(total)
    };
    let days = units(days, &[('w', 7.0 * DAY_MS as f64), ('d', DAY_MS as f64)])?;
    let times = units(times, &[('h', 3_600_000.0), ('m', 60_000.0), ('s', 1_000.0)])?;
    Some(days + times).filter(|_| period.contains(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_version_6_writes_them() {
        for (text, milliseconds) in [
            ("1000", Some(1_000.0)),
            ("250ms", Some(250.0)),
            ("1.5s", Some(1_500.0)),
            ("PT1M30S", Some(90_000.0)),
            ("P1DT12H", Some(129_600_000.0)),
            ("P1W", Some(604_800_000.0)),
            ("PT0,5S", Some(500.0)),
            ("P", None),
            ("PT", None),
            ("s", None),
            ("ms", None),
            ("soon", None),
            ("-5", None),
            ("1h", None),
            ("PT1Y", None),
            ("NaN", None),
            ("inf", None),
            ("1e3", None),
            ("", None),
        ] {
            assert_eq!(parse(text), milliseconds, "{text}");
        }
    }
}
