//! Points in time and delays, in whole milliseconds.
//!
//! Owns how times are written (RFC 3339, UTC) and how delays are written (`5m`, `1h30m`). It has no clock:
//! every `now` in the kernel is an argument.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since 1970-01-01T00:00:00Z. Serialised as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The last instant that can be written as RFC 3339 (the year 9999); later sums saturate here.
    const LAST_MS: i64 = 253_402_207_200_000;

    pub const EPOCH: Timestamp = Timestamp(0);

    pub fn from_millis(ms: i64) -> Self {
        Self(ms.clamp(0, Self::LAST_MS))
    }

    pub fn as_millis(self) -> i64 {
        self.0
    }

    pub fn plus(self, delay: Delay) -> Self {
        Self::from_millis(self.0.saturating_add(delay.0))
    }

    /// Milliseconds from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Delay {
        Delay((self.0 - earlier.0).max(0))
    }

    pub fn parse(text: &str) -> Option<Self> {
        let parsed: jiff::Timestamp = text.parse().ok()?;
        Some(Self::from_millis(parsed.as_millisecond()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no RFC 3339 time such as 2026-01-31T12:00:00Z"))
        })
    }
}

/// A length of time in milliseconds, never negative. Written as `500ms`, `5m`, `1h30m`, `2d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Delay(i64);

const UNITS: [(&str, i64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A hundred years: what is longer is a slip of the pen, and sums of it with any time still fit.
const DELAY_MS_MAX: i64 = 36_525 * 86_400_000;

impl Delay {
    pub const ZERO: Delay = Delay(0);

    pub const fn from_millis(ms: i64) -> Self {
        Self(if ms < 0 { 0 } else { ms })
    }

    pub const fn from_secs(seconds: i64) -> Self {
        Self::from_millis(seconds.saturating_mul(1_000))
    }

    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// Parses one or more `<integer><unit>` with units d, h, m, s, ms, largest first or not.
    ///
    /// # Errors
    /// A fragment that says what was wrong with which part.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut total: i64 = 0;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err("an empty delay; write `30s`, `5m`, `2h` or `1h30m`".into());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let unit_end =
                rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
            let unit = &rest[digits..unit_end];
            let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
            let (Ok(count), Some(scale)) = (rest[..digits].parse::<i64>(), scale) else {
                return Err(format!("`{text}` is no delay; write `30s`, `5m`, `2h` or `1h30m`"));
            };
            total = count
                .checked_mul(scale)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(|| format!("`{text}` is longer than a hundred years"))?;
            rest = &rest[unit_end..];
        }
        if total > DELAY_MS_MAX {
            return Err(format!("`{text}` is longer than a hundred years"));
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (name, scale) in UNITS {
            if rest >= scale {
                write!(f, "{}{name}", rest / scale)?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

impl Serialize for Delay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_read_and_print_the_same() {
        for (text, ms, printed) in [
            ("5m", 300_000, "5m"),
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("250ms", 250, "250ms"),
            ("2d", 172_800_000, "2d"),
            ("0s", 0, "0s"),
        ] {
            let delay = Delay::parse(text).unwrap();
            assert_eq!((delay.as_millis(), delay.to_string().as_str()), (ms, printed), "{text}");
        }
    }

    #[test]
    fn what_is_no_delay_is_refused_with_an_example() {
        for text in ["", "5", "m", "5 m", "-5m", "5w", "99999999999d"] {
            assert!(Delay::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_read_and_print_the_same_to_the_millisecond() {
        let time = Timestamp::from_millis(1_795_170_896_007);
        assert_eq!(time.to_string(), "2026-11-20T10:34:56.007Z");
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }
}
