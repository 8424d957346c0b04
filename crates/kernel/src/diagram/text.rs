//! How much room texts take in a picture, and where their lines break.
//!
//! Without a font: widths are those of DejaVu Sans, the widest of the faces that `system-ui` stands for on common
//! systems, so that elsewhere texts come out a little shorter than their room and never longer.

use crate::diagram::label::Label;

/// A size and a weight that texts are set in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Face {
    pub size: i32,
    pub bold: bool,
    /// From one line to the next.
    pub leading: i32,
}

/// Names of states.
pub const NAME: Face = Face { size: 13, bold: true, leading: 18 };
/// What happens inside of a state.
pub const BODY: Face = Face { size: 11, bold: false, leading: 15 };
/// What is written beside an arrow.
pub const ARROW: Face = Face { size: 11, bold: false, leading: 14 };

/// How far what goes on of a label stands in, so that the next label is told from it.
pub const INDENT: i32 = 10;
/// A label that is wider pushes apart what lies beside its arrow.
const LINE_CHARS: usize = 34;

/// Hundredths of an em, from the blank to the tilde.
const WIDTHS: [u8; 95] = [
    32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    34, 34, 84, 84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79, 60, 79, 69, 63,
    61, 73, 68, 99, 69, 61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97,
    63, 61, 63, 63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84,
];
/// What bold letters are wider by, in hundredths.
const BOLD: i32 = 114;

/// The width of a line, rounded up.
pub fn width(text: &str, face: Face) -> i32 {
    let hundredths: i32 = text.chars().map(hundredths).sum();
    let weight = if face.bold { BOLD } else { 100 };
    (hundredths * face.size * weight).div_euclid(10_000) + 1
}

fn hundredths(c: char) -> i32 {
    let code = u32::from(c);
    match code {
        0x20..=0x7e => {
            code.checked_sub(0x20).and_then(|i| WIDTHS.get(i as usize)).map_or(100, |w| (*w).into())
        }
        // Letters of Latin with marks, and Greek.
        0xa0..=0x3ff => 72,
        // The others that are written with letters; wide ones, ideographs and pictures fill a square.
        0x400..=0x10ff => 90,
        _ => 105,
    }
}

/// A line of a label, and how far it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    pub indent: i32,
}

/// The lines of a label, broken between words where they are long.
pub fn lines(label: &Label) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for whole in label.lines() {
        let mut line = String::new();
        for word in whole.split(' ') {
            let chars = line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && chars > LINE_CHARS {
                lines.push(indented(std::mem::take(&mut line), lines.is_empty()));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(indented(line, lines.is_empty()));
    }
    lines
}

fn indented(text: String, first: bool) -> Line {
    Line { text, indent: if first { 0 } else { INDENT } }
}

/// The room that labels take below one another: width, and the height of each.
pub fn block(labels: &[Label], face: Face) -> (i32, Vec<i32>) {
    let mut widest = 0;
    let heights = labels.iter().map(|label| {
        let lines = lines(label);
        let widths = lines.iter().map(|line| line.indent + width(&line.text, face));
        widest = widest.max(widths.max().unwrap_or(0));
        i32::try_from(lines.len()).unwrap_or(1) * face.leading
    });
    let heights = heights.collect();
    (widest, heights)
}
