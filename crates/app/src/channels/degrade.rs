//! What becomes of a reply on a channel that cannot show all of it: the only place where texts are split and where
//! buttons become numbered lines.
//!
//! A channel states its `Limits` and encodes the `Part`s of the `plan`. Invariants: nothing that a person should
//! read is dropped; no part is over a limit. Every length is in UTF-16 units: no provider counts fewer for a
//! character, whatever it counts in.

use std::collections::BTreeSet;

use kernel::conversation::{Media, Reply, ReplyOption};

/// What a channel shows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of a message that is only text.
    pub text_units_max: usize,
    /// Of the caption that such a medium takes; 0 for none.
    pub caption_units_max: fn(&Media) -> usize,
    /// The ways to offer options, the best first. None if the channel knows no buttons.
    pub menus: &'static [MenuLimits],
}

/// One way to offer options, all of them required to have an effect: a menu that a reply does not fit is not used.
#[derive(Clone, Copy, Debug)]
pub struct MenuLimits {
    pub kind: MenuKind,
    pub options_max: usize,
    pub label_units_max: usize,
    /// Whether a label that is too long is cut; otherwise the menu is not used.
    pub cuts_labels: bool,
    /// Where the whole of a label that was cut is shown; 0 for nowhere.
    pub description_units_max: usize,
    pub token_bytes_max: usize,
    /// Of the text above the options.
    pub text_units_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MenuKind {
    Buttons,
    /// Rows that open at a tap.
    List,
}

/// One message of the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Medium { medium: Media, caption: Option<String> },
    Menu { kind: MenuKind, text: String, rows: Vec<Row> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub token: String,
    pub label: String,
    /// The whole label, where `label` is cut.
    pub description: Option<String>,
}

/// The messages that show `reply`, in order. A reply without content has none.
pub fn plan(reply: &Reply, limits: &Limits) -> Vec<Part> {
    let text = clean(&reply.text).trim().to_owned();
    let media = reply.media.iter().map(|medium| Media { url: clean(&medium.url), kind: medium.kind.clone() });
    // A menu hangs on a text: without one, the numbered lines are the text.
    let menus = if text.is_empty() || reply.options.is_empty() { &[] } else { limits.menus };
    let menu = menus.iter().find_map(|menu| Some((menu, rows(&reply.options, menu)?)));
    match menu {
        Some((menu, rows)) => {
            // The question stands last, next to where the person answers.
            let mut parts: Vec<Part> = media.map(|medium| Part::Medium { medium, caption: None }).collect();
            parts.extend(with_menu(&text, menu, rows, limits));
            parts
        }
        None => with_media(&numbered(&text, &reply.options), media, limits),
    }
}

/// None unless every option fits, each told from the others by what is seen of it and by its token.
fn rows(options: &[ReplyOption], menu: &MenuLimits) -> Option<Vec<Row>> {
    if options.len() > menu.options_max {
        return None;
    }
    let row = |option: &ReplyOption| {
        let whole = line(&option.label);
        let is_cut = units(&whole) > menu.label_units_max;
        let fits = !whole.is_empty()
            && !option.id.is_empty()
            && option.id.len() <= menu.token_bytes_max
            && (menu.cuts_labels || !is_cut);
        let described = is_cut && menu.description_units_max > 0;
        fits.then(|| Row {
            token: option.id.clone(),
            label: cut(&whole, menu.label_units_max),
            description: described.then(|| cut(&whole, menu.description_units_max)),
        })
    };
    let rows: Option<Vec<Row>> = options.iter().map(row).collect();
    let labels: BTreeSet<&str> = rows.iter().flatten().map(|row| row.label.as_str()).collect();
    let tokens: BTreeSet<&str> = rows.iter().flatten().map(|row| row.token.as_str()).collect();
    let are_distinct = labels.len() == options.len() && tokens.len() == options.len();
    rows.filter(|_| are_distinct)
}

fn with_menu(text: &str, menu: &MenuLimits, rows: Vec<Row>, limits: &Limits) -> Vec<Part> {
    let mut pieces = split(text, limits.text_units_max);
    let last = pieces.pop().unwrap_or_default();
    pieces.extend(split(&last, menu.text_units_max));
    let above = pieces.pop().unwrap_or_default();
    let mut parts: Vec<Part> = pieces.into_iter().map(Part::Text).collect();
    parts.push(Part::Menu { kind: menu.kind, text: above, rows });
    parts
}

/// The first medium goes with the last of the text, as its caption, if it takes one that long; each other gets a
/// message of its own.
fn with_media(text: &str, media: impl Iterator<Item = Media>, limits: &Limits) -> Vec<Part> {
    let mut pieces = split(text, limits.text_units_max);
    let mut media = media.peekable();
    let room = media.peek().map_or(0, |medium| (limits.caption_units_max)(medium));
    let mut caption = pieces.pop_if(|last| units(last) <= room);
    let mut parts: Vec<Part> = pieces.into_iter().map(Part::Text).collect();
    parts.extend(media.map(|medium| Part::Medium { medium, caption: caption.take() }));
    parts
}

/// The options as numbered lines under the text: the router takes the number for an answer.
fn numbered(text: &str, options: &[ReplyOption]) -> String {
    let mut text = text.to_owned();
    for (index, option) in options.iter().enumerate() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{}. {}", index + 1, line(&option.label)));
    }
    text
}

/// A label is one line, whatever it holds: the number in front must be seen to belong to it.
fn line(label: &str) -> String {
    let label = clean(label);
    let words: Vec<&str> = label.split_whitespace().collect();
    words.join(" ")
}

/// Without control characters, and without what XML 1.0 cannot hold, escaped or not.
pub fn clean(text: &str) -> String {
    let stays = |c: &char| match c {
        '\n' | '\t' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        c => !c.is_control(),
    };
    text.chars().filter(stays).collect()
}

/// Pieces of at most `units_max`, cut where a line ends if that leaves a good half, else where a word ends, else
/// anywhere. No text gives no piece.
pub fn split(text: &str, units_max: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text.trim();
    while let Some(end) = overflow(rest, units_max) {
        let head = &rest[..end];
        // The break itself may be the first character that is over.
        let reach = end + rest[end..].chars().next().map_or(0, char::len_utf8);
        let line_end = rest[..reach].rfind('\n').filter(|at| *at >= end / 2);
        let word_end = || rest[..reach].rfind(char::is_whitespace);
        let cut = line_end.or_else(word_end).unwrap_or(head.len());
        pieces.push(rest[..cut].trim_end().to_owned());
        rest = rest[cut..].trim_start();
    }
    if !rest.is_empty() {
        pieces.push(rest.to_owned());
    }
    pieces
}

/// At most `units_max`, with an ellipsis where something is missing.
fn cut(text: &str, units_max: usize) -> String {
    if units(text) <= units_max {
        return text.to_owned();
    }
    let end = overflow(text, units_max - 1).unwrap_or(text.len());
    format!("{}…", text[..end].trim_end())
}

pub fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// Where the first character begins that is over the limit.
fn overflow(text: &str, units_max: usize) -> Option<usize> {
    let mut units = 0;
    text.char_indices().find_map(|(at, character)| {
        units += character.len_utf16();
        (units > units_max).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUTTONS: MenuLimits = MenuLimits {
        kind: MenuKind::Buttons,
        options_max: 2,
        label_units_max: 5,
        cuts_labels: false,
        description_units_max: 0,
        token_bytes_max: 4,
        text_units_max: 20,
    };
    const LIST: MenuLimits = MenuLimits {
        kind: MenuKind::List,
        options_max: 3,
        label_units_max: 6,
        cuts_labels: true,
        description_units_max: 12,
        ..BUTTONS
    };
    const LIMITS: Limits = Limits {
        text_units_max: 40,
        caption_units_max: |medium| if medium.kind == "audio/ogg" { 0 } else { 10 },
        menus: &[BUTTONS, LIST],
    };

    fn reply(text: &str, options: &[(&str, &str)], media: &[&str]) -> Reply {
        let option =
            |(id, label): &(&str, &str)| ReplyOption { id: (*id).to_owned(), label: (*label).to_owned() };
        let medium = |kind: &&str| Media { url: "u".to_owned(), kind: (*kind).to_owned() };
        Reply {
            text: text.to_owned(),
            options: options.iter().map(option).collect(),
            media: media.iter().map(medium).collect(),
        }
    }

    /// A plan as one line a part.
    fn shown(reply: &Reply) -> Vec<String> {
        let row = |row: &Row| match &row.description {
            Some(description) => format!("{}={}({description})", row.token, row.label),
            None => format!("{}={}", row.token, row.label),
        };
        let part = |part: Part| match part {
            Part::Text(text) => text,
            Part::Medium { medium, caption } => format!("[{}] {}", medium.kind, caption.unwrap_or_default()),
            Part::Menu { kind, text, rows } => {
                format!("{text} <{kind:?} {}>", rows.iter().map(row).collect::<Vec<_>>().join(" "))
            }
        };
        plan(reply, &LIMITS).into_iter().map(part).collect()
    }

    #[test]
    fn options_take_the_best_menu_that_shows_all_of_them() {
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
        let table: [Case; 13] = [
            ("fits", &[("a", "Yes"), ("b", "No")], "Q? <Buttons a=Yes b=No>"),
            ("one line", &[("a", " Y\n\tes\u{7} ")], "Q? <Buttons a=Y es>"),
            ("third option", &[("a", "1"), ("b", "2"), ("c", "3")], "Q? <List a=1 b=2 c=3>"),
            ("longer label", &[("a", "Cancel")], "Q? <List a=Cancel>"),
            ("label is cut", &[("a", "Go on now")], "Q? <List a=Go on…(Go on now)>"),
            ("description is cut", &[("a", "abcdefghijklmnop")], "Q? <List a=abcde…(abcdefghijk…)>"),
            ("pairs stay whole", &[("a", "😀😀😀😀")], "Q? <List a=😀😀…(😀😀😀😀)>"),
            (
                "not unique after cutting",
                &[("a", "Cancel A"), ("b", "Cancel B")],
                "Q?\n1. Cancel A\n2. Cancel B",
            ),
            ("same label", &[("a", "Yes"), ("b", "Yes")], "Q?\n1. Yes\n2. Yes"),
            ("same token", &[("a", "Yes"), ("a", "No")], "Q?\n1. Yes\n2. No"),
            ("too many", &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")], "Q?\n1. 1\n2. 2\n3. 3\n4. 4"),
            ("token too long", &[("abcde", "Yes")], "Q?\n1. Yes"),
            ("no label", &[("a", " ")], "Q?\n1. "),
        ];
        for (name, options, expected) in table {
            assert_eq!(shown(&reply("Q?", options, &[])), [expected.trim_end()], "{name}");
        }
        assert_eq!(shown(&reply("Q?", &[("", "Yes")], &[])), ["Q?\n1. Yes"], "no token");
        assert_eq!(shown(&reply(" ", &[("a", "Yes")], &[])), ["1. Yes"], "no text");
    }

    #[test]
    fn the_end_of_a_long_text_stands_above_the_menu() {
        let long = "aaaa bbbb cccc dddd eeee ffff gggg hhhh iiii jjjj kkkk llll mmmm nnnn";
        assert_eq!(
            shown(&reply(long, &[("a", "Yes")], &["image/png"])),
            [
                "[image/png] ",
                "aaaa bbbb cccc dddd eeee ffff gggg hhhh",
                "iiii jjjj kkkk llll",
                "mmmm nnnn <Buttons a=Yes>"
            ]
        );
    }

    #[test]
    fn captions_are_the_end_of_the_text_where_they_fit() {
        for (text, media, expected) in [
            ("see", &["image/png", "image/png"] as &[_], &["[image/png] see", "[image/png] "] as &[_]),
            ("see this picture", &["image/png"], &["see this picture", "[image/png] "]),
            ("hear", &["audio/ogg"], &["hear", "[audio/ogg] "]),
            ("", &["image/png"], &["[image/png] "]),
            ("", &[], &[]),
            (" \u{0} ", &[], &[]),
        ] {
            assert_eq!(shown(&reply(text, &[], media)), expected, "{text:?} {media:?}");
        }
    }

    #[test]
    fn long_texts_are_cut_at_lines_then_words_then_anywhere() {
        let x = |count: usize| "x".repeat(count);
        let table = [
            (x(1600), vec![1600]),
            (x(1601), vec![1600, 1]),
            (format!("{}\n{}", x(1600), x(5)), vec![1600, 5]),
            (format!("{}\n{} {}", x(900), x(600), x(200)), vec![900, 801]),
            (format!("{}\n{} {}", x(100), x(1300), x(300)), vec![1401, 300]),
            (format!("{} {}", x(10), x(1700)), vec![10, 1600, 100]),
            ("é".repeat(1601), vec![1600, 1]),
            // Two UTF-16 units each.
            ("😀".repeat(801), vec![800, 1]),
            (format!("{}{}", x(1599), "😀"), vec![1599, 1]),
            (" \n ".to_owned(), vec![]),
        ];
        for (text, expected) in table {
            let pieces = split(&text, 1_600);
            let lengths: Vec<usize> = pieces.iter().map(|p| p.chars().count()).collect();
            assert_eq!(lengths, expected);
            let solid = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(solid(&pieces.concat()), solid(&text), "nothing is lost");
        }
    }
}
