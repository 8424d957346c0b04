//! A `Line` of a terminal: pieces of text, each with its paint, cut to the width that there is.
//!
//! Owns how wide a character is. What comes from others may hold control characters; none of them reaches the terminal.

/// How a piece looks where there is colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::command) enum Paint {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Magenta,
    Cyan,
}

#[derive(Clone, Debug, Default)]
pub(in crate::command) struct Line(Vec<(Paint, String)>);

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\u{1b}[1m",
            Self::Dim => "\u{1b}[2m",
            Self::Red => "\u{1b}[31m",
            Self::Green => "\u{1b}[32m",
            Self::Yellow => "\u{1b}[33m",
            Self::Magenta => "\u{1b}[35m",
            Self::Cyan => "\u{1b}[36m",
        }
    }
}

impl Line {
    pub fn with(mut self, paint: Paint, text: impl AsRef<str>) -> Self {
        if !text.as_ref().is_empty() {
            self.0.push((paint, printable(text.as_ref())));
        }
        self
    }

    /// A piece that is as wide as its column, cut or filled up.
    pub fn column(self, paint: Paint, text: impl AsRef<str>, width: usize) -> Self {
        let text = cut(&printable(text.as_ref()), width);
        let fill = " ".repeat(width - width_of(&text));
        self.with(paint, text + &fill)
    }

    /// The line as it is written, no wider than `width`.
    pub fn written(&self, width: usize, colour: bool) -> String {
        let whole: usize = self.0.iter().map(|(_, text)| width_of(text)).sum();
        let mut left = width;
        let mut written = String::new();
        for (paint, text) in &self.0 {
            // The piece at which the line is too wide ends with the sign for what is left out.
            let piece = match width_of(text) {
                wide if wide <= left && (whole <= width || wide < left) => text.clone(),
                _ => cut_always(text, left),
            };
            left -= width_of(&piece);
            match paint.code() {
                code if colour && !code.is_empty() => {
                    written.push_str(code);
                    written.push_str(&piece);
                    written.push_str("\u{1b}[0m");
                }
                _ => written.push_str(&piece),
            }
            if left == 0 {
                break;
            }
        }
        if colour { written } else { written.trim_end().to_owned() }
    }
}

/// Columns of a text.
pub(super) fn width_of(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The text, or as much of it as there is room for.
pub(in crate::command) fn cut(text: &str, width: usize) -> String {
    if width_of(text) <= width { text.to_owned() } else { cut_always(text, width) }
}

fn cut_always(text: &str, width: usize) -> String {
    let mut kept = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        if columns(c) > left {
            break;
        }
        left -= columns(c);
        kept.push(c);
    }
    if width > 0 {
        kept.push('…');
    }
    kept
}

/// Without what a terminal would take for a command.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// As most terminals have it: combining marks take no room, and what is written in East Asia and pictures take two
/// columns (Unicode Standard Annex 11, wide and full-width).
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36F | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x2069 | 0xFE00..=0xFE0F | 0xFEFF => 0,
        0x1100..=0x115F
        | 0x2E80..=0x303E
        | 0x3041..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1F64F
        | 0x1F680..=0x1F6FF
        | 0x1F900..=0x1F9FF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_never_wider_than_there_is_room_for() {
        for (text, width, cut_to) in [
            ("phase", 5, "phase"),
            ("phase", 4, "pha…"),
            ("phase", 1, "…"),
            ("phase", 0, ""),
            ("写真を送る", 10, "写真を送る"),
            ("写真を送る", 9, "写真を送…"),
            ("写真を送る", 8, "写真を…"),
            ("e\u{301}te\u{301}", 3, "e\u{301}te\u{301}"),
        ] {
            assert_eq!(cut(text, width), cut_to, "{text} {width}");
            assert!(width_of(&cut(text, width)) <= width);
        }
        let line =
            Line::default().with(Paint::Green, "one ").with(Paint::Plain, "two ").with(Paint::Red, "three");
        for (width, written) in
            [(13, "one two three"), (12, "one two thr…"), (8, "one two…"), (7, "one tw…"), (1, "…"), (0, "")]
        {
            assert_eq!(line.written(width, false), written, "{width}");
        }
        assert_eq!(line.written(6, true), "\u{1b}[32mone \u{1b}[0mt…");
    }

    #[test]
    fn what_others_have_written_commands_no_terminal() {
        let line = Line::default().column(Paint::Plain, "a\u{1b}[2J\nb\u{9b}c", 9);
        assert_eq!(line.written(80, true), "a [2J b c");
    }
}
