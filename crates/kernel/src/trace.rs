//! Where an input stands in a trace, as W3C Trace Context has it, and what the spans are called that others name.
//!
//! Who records spans, and where they go, is the server's business. Invariant: the id of a trace is 32 lowercase
//! hexadecimal digits, not all zero.

use std::fmt;

use crate::id::{Digest, TenantId};
use crate::time::Timestamp;

/// The parts of the header `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// 32 lowercase hexadecimal digits.
    pub id: String,
    /// What the input is part of.
    pub span: SpanId,
    /// Whether whoever began the trace records it.
    pub sampled: bool,
}

/// Written as 16 lowercase hexadecimal digits. Zero stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SpanId(pub u64);

/// The one flag with a meaning: the caller has recorded its part of the trace.
const SAMPLED: u8 = 1;

impl Trace {
    /// `None` for anything that the recommendation calls invalid: such a header is treated as if none had come.
    ///
    /// Version `00` is exactly `version-trace-parent-flags`; a later version may go on after another dash, and
    /// `ff` is forbidden. Of any version only the flag `SAMPLED` is known to mean what it says.
    pub fn parse(header: &str) -> Option<Self> {
        let mut fields = header.splitn(5, '-');
        let version = hex(fields.next()?, 2)?;
        let id = not_zero(hex(fields.next()?, 32)?)?.to_owned();
        let span = SpanId(u64::from_str_radix(not_zero(hex(fields.next()?, 16)?)?, 16).ok()?);
        let flags = u8::from_str_radix(hex(fields.next()?, 2)?, 16).ok()?;
        match (version, fields.next()) {
            ("ff", _) | ("00", Some(_)) => None,
            _ => Some(Self { id, span, sampled: flags & SAMPLED != 0 }),
        }
    }

    /// A trace that a record belongs to, long after its request. `None` when `id` is none.
    pub fn recorded(id: &str, unsampled: bool, span: SpanId) -> Option<Self> {
        Some(Self { id: not_zero(hex(id, 32)?)?.to_owned(), span, sampled: !unsampled })
    }

    /// The same trace, from another span on.
    pub fn at(&self, span: SpanId) -> Self {
        Self { id: self.id.clone(), span, sampled: self.sampled }
    }
}

/// The value of the header, in version `00`, where the flags without a meaning are sent as zero.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.sampled { SAMPLED } else { 0 };
        write!(f, "00-{}-{}-{flags:02x}", self.id, self.span)
    }
}

impl SpanId {
    /// The span in which a revision is saved, given as `instance:revision`. Whoever knows the revision knows the span:
    /// what is delivered of it later, by whatever server, is part of it.
    pub fn of_commit(tenant: &TenantId, revision: &str) -> Self {
        Self::of_parts(&["commit", tenant.as_str(), revision])
    }

    /// The span of one attempt at an effect, by when its claim runs out.
    pub fn of_attempt(tenant: &TenantId, effect: &str, until: Timestamp) -> Self {
        Self::of_parts(&["attempt", tenant.as_str(), effect, &until.as_millis().to_string()])
    }

    fn of_parts(parts: &[&str]) -> Self {
        let Digest(digest) = Digest::of_parts(parts);
        // Its lower half, which is as good as the other.
        Self((digest as u64).max(1))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

fn hex(text: &str, digits: usize) -> Option<&str> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(is_digit)).then_some(text)
}

fn not_zero(digits: &str) -> Option<&str> {
    digits.bytes().any(|byte| byte != b'0').then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn traceparent_is_read_strictly() {
        let zero_trace = "0".repeat(32);
        for (header, expected) in [
            // The recommendation's own examples.
            (format!("00-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-00"), Some(false)),
            (format!("00-{TRACE}-{SPAN}-ff"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-fe"), Some(false)),
            // A later version may say more.
            (format!("01-{TRACE}-{SPAN}-03"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01-what-ever"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-00-"), Some(false)),
            (format!("cc-{TRACE}-{SPAN}-01.what"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{TRACE}-{SPAN}-01-"), None),
            (format!("00-{TRACE}-{SPAN}-01-what"), None),
            (format!("00-{TRACE}-{SPAN}"), None),
            (format!("00-{TRACE}-{SPAN}-"), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            (format!("00-{TRACE}-{SPAN}-0g"), None),
            (format!("00-{TRACE}-{SPAN}-+1"), None),
            (format!("0-{TRACE}-{SPAN}-01"), None),
            (format!("0G-{TRACE}-{SPAN}-01"), None),
            (format!(" 00-{TRACE}-{SPAN}-01"), None),
            (format!("00-{TRACE}-{SPAN}-01 "), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00-{TRACE}-{}-01", SPAN.to_uppercase()), None),
            (format!("00-{zero_trace}-{SPAN}-01"), None),
            (format!("00-{TRACE}-{}-01", &zero_trace[..16]), None),
            (format!("00-{}-{SPAN}-01", &TRACE[1..]), None),
            (format!("00-{TRACE}0-{SPAN}-01"), None),
            (format!("00-{TRACE}-{}-01", "é".repeat(8)), None),
            (format!("00_{TRACE}_{SPAN}_01"), None),
            (String::new(), None),
        ] {
            let expected = expected.map(|sampled| Trace {
                id: TRACE.to_owned(),
                span: SpanId(0x00f0_67aa_0ba9_02b7),
                sampled,
            });
            assert_eq!(Trace::parse(&header), expected, "{header}");
        }
    }

    #[test]
    fn what_is_sent_on_is_the_same_trace_with_the_flag_that_has_a_meaning() {
        for (flags, sent) in [("00", "00"), ("01", "01"), ("fe", "00"), ("ff", "01")] {
            let came = Trace::parse(&format!("00-{TRACE}-{SPAN}-{flags}")).unwrap();
            assert_eq!(came.to_string(), format!("00-{TRACE}-{SPAN}-{sent}"));
            assert_eq!(came.at(SpanId(0xab)).to_string(), format!("00-{TRACE}-00000000000000ab-{sent}"));
        }
    }

    #[test]
    fn recorded_traces_go_on_only_if_they_are_some() {
        for unsampled in [false, true] {
            let within = Trace::recorded(TRACE, unsampled, SpanId(7)).unwrap();
            assert_eq!(within, Trace { id: TRACE.to_owned(), span: SpanId(7), sampled: !unsampled });
        }
        for none in ["", "4bf92f", &TRACE.to_uppercase(), &"0".repeat(32)] {
            assert_eq!(Trace::recorded(none, false, SpanId(7)), None, "{none}");
        }
    }

    #[test]
    fn spans_that_others_name_differ_by_all_that_they_are_of() {
        let tenant = |name: &str| TenantId::parse(name).unwrap();
        let spans = [
            SpanId::of_commit(&tenant("acme"), "ord_1:2"),
            SpanId::of_commit(&tenant("other"), "ord_1:2"),
            SpanId::of_commit(&tenant("acme"), "ord_2:2"),
            SpanId::of_commit(&tenant("acme"), "ord_1:3"),
            SpanId::of_attempt(&tenant("acme"), "ord_1:2:0", Timestamp::from_millis(1)),
            SpanId::of_attempt(&tenant("acme"), "ord_1:2:0", Timestamp::from_millis(2)),
            SpanId::of_attempt(&tenant("acme"), "ord_1:2:1", Timestamp::from_millis(1)),
        ];
        let different: std::collections::HashSet<_> = spans.iter().collect();
        assert_eq!(different.len(), spans.len());
        assert_eq!(spans[0], SpanId::of_commit(&tenant("acme"), "ord_1:2"));
    }
}
