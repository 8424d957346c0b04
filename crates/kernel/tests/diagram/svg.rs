//! What a picture says as SVG: that it may stand in any page, and what is laid over it.

use kernel::diagram::layout::layout;
use kernel::diagram::{Diagram, Overlay, PhaseLook, Step, svg};
use kernel::flow::PhaseState;

use crate::{definitions, directory, machine};

fn drawn(diagram: &Diagram, overlay: &Overlay) -> String {
    svg(diagram, &layout(diagram), overlay)
}

fn thirteen(overlay: &Overlay) -> String {
    drawn(&Diagram::of(&machine(&directory().join("thirteen.yaml")), &[]), overlay)
}

fn step(from: &str, to: &str, event: &str) -> Step {
    Step { from: from.to_owned(), to: to.to_owned(), event: event.to_owned() }
}

/// Every element by its name and attributes, in order; fails where the text is not well-formed.
fn elements(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let (mut elements, mut open) = (Vec::new(), Vec::new());
    for part in text.split('<').skip(1) {
        let (tag, after) = part.split_once('>').unwrap_or_else(|| panic!("`{part}` does not end"));
        assert!(!after.contains('>'), "`{after}` has an angle");
        let bare = after.split('&').skip(1).any(|entity| !entity.contains(';'));
        assert!(!bare, "`{after}` has an ampersand");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "in {text}");
            continue;
        }
        let (inner, closed) = tag.strip_suffix('/').map_or((tag, false), |inner| (inner, true));
        let (name, attributes) = inner.split_once(' ').unwrap_or((inner, ""));
        let pieces: Vec<&str> = attributes.split('"').collect();
        let pairs = pieces.chunks(2).filter(|pair| pair.len() == 2);
        let pairs = pairs.map(|pair| (pair[0].trim().trim_end_matches('=').to_owned(), pair[1].to_owned()));
        assert_eq!(pieces.last().map(|rest| rest.trim()), Some(""), "`{tag}` has a quote too many");
        elements.push((name.to_owned(), pairs.collect()));
        if !closed {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
    elements
}

/// What a page's policy forbids, or two pictures in one page would share.
fn may_stand_in_any_page(picture: &str) {
    const NAMES: [&str; 8] = ["svg", "g", "title", "desc", "rect", "path", "circle", "text"];
    for (name, attributes) in elements(picture) {
        assert!(NAMES.contains(&name.as_str()), "an element `{name}`");
        for (attribute, _) in attributes {
            let forbidden = ["id", "style", "href", "xlink:href"].contains(&attribute.as_str());
            assert!(!forbidden && !attribute.starts_with("on"), "an attribute `{attribute}` at `{name}`");
        }
    }
}

#[test]
fn a_picture_may_stand_in_any_page() {
    for path in definitions(&directory()) {
        let picture = drawn(&Diagram::of(&machine(&path), &[]), &Overlay::default());
        may_stand_in_any_page(&picture);
        assert!(picture.contains(" role=\"img\" "), "{picture}");
    }
}

#[test]
fn nothing_that_an_author_writes_becomes_markup() {
    let attack = "\"'><script>alert(1)</script><g onload=\"alert(2)\" &amp;\u{1}";
    let mut diagram = Diagram::of(&machine(&directory().join("thirteen.yaml")), &[]);
    let clean = elements(&drawn(&diagram, &Overlay::default())).len();
    diagram.title = attack.to_owned();
    for node in &mut diagram.nodes {
        node.name = attack.to_owned();
        for line in &mut node.lines {
            line.event = attack.to_owned();
        }
    }
    for edge in &mut diagram.edges {
        for label in &mut edge.labels {
            (label.event, label.guard) = (attack.to_owned(), Some(attack.to_owned()));
        }
        for step in &mut edge.steps {
            *step = self::step(attack, attack, attack);
        }
    }
    let active = [diagram.state_path(2)].into();
    let would = Some(step(attack, attack, attack));
    let picture = drawn(&diagram, &Overlay { active, would, ..Overlay::default() });
    may_stand_in_any_page(&picture);
    assert!(!picture.contains("<script") && !picture.contains('\u{1}'), "{picture}");
    // What was a name without text has one now, and long labels have more lines; no other element came of it.
    assert!(elements(&picture).iter().filter(|(name, _)| name != "text" && name != "title").count() <= clean);
}

/// The classes of the group that has this attribute.
fn classes(picture: &str, attribute: &str, value: &str) -> String {
    let has = |attributes: &[(String, String)], name: &str, value: &str| {
        attributes.iter().any(|(other, said)| other == name && said == value)
    };
    let elements = elements(picture);
    let group = elements.iter().find(|(name, attributes)| name == "g" && has(attributes, attribute, value));
    let (_, attributes) = group.unwrap_or_else(|| panic!("no {attribute} is {value}"));
    attributes.iter().find(|(name, _)| name == "class").unwrap().1.clone()
}

#[test]
fn what_is_known_of_instances_is_laid_over() {
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    let declined = step("checkout.authorising", "checkout.payment", "declined");
    let picture = thirteen(&Overlay {
        active: paths(&["fulfilment.parcel.packed", "fulfilment.invoice.sent"]),
        visited: paths(&["cart", "checkout.payment"]),
        taken: [step("cart", "checkout", "check_out")].into(),
        would: Some(step("fulfilment.parcel.packed", "fulfilment.parcel.in_transit", "handed_over")),
        counts: [("cart".to_owned(), 1204)].into(),
        flows: [(declined, 10), (step("cart", "checkout", "check_out"), 1000)].into(),
        ..Overlay::default()
    });
    for (path, expected) in [
        ("fulfilment.parcel.packed", "sw-state sw-active"),
        ("fulfilment.parcel", "sw-state sw-compound sw-region sw-active"),
        ("fulfilment", "sw-state sw-parallel sw-active"),
        ("checkout.payment", "sw-state sw-visited"),
        ("checkout", "sw-state sw-compound"),
        ("cancelled", "sw-state sw-final"),
    ] {
        assert_eq!(classes(&picture, "data-state", path), expected, "{path}");
    }
    for (event, expected) in [
        ("check_out", "sw-edge sw-heat-5 sw-taken"),
        ("handed_over", "sw-edge sw-heat-0 sw-would"),
        ("card_given", "sw-edge sw-heat-0"),
        ("after.2m.checkout.authorising declined", "sw-edge sw-heat-2"),
        ("declined", "sw-label"),
    ] {
        assert_eq!(classes(&picture, "data-event", event), expected, "{event}");
    }
    assert!(picture.contains("sw-count") && picture.contains(">1204</text>"), "{picture}");
}

#[test]
fn phases_look_like_their_states() {
    let diagram = Diagram::of(&machine(&directory().join("flow.yaml")), &[]);
    let look = PhaseLook { state: PhaseState::InProgress, progress: 0.4 };
    let picture =
        drawn(&diagram, &Overlay { phases: [("busy".to_owned(), look)].into(), ..Overlay::default() });
    assert_eq!(classes(&picture, "data-state", "busy"), "sw-state sw-phase-in_progress");
    let bars = elements(&picture).iter().filter(|(name, _)| name == "rect").count();
    let without =
        elements(&drawn(&diagram, &Overlay::default())).iter().filter(|(name, _)| name == "rect").count();
    assert_eq!(bars, without + 2, "what is done of all that there is to do");
}

#[test]
fn what_is_laid_over_moves_nothing() {
    let ways = |overlay: &Overlay| -> Vec<String> {
        let of_line = |(_, attributes): (String, Vec<(String, String)>)| {
            let line = attributes.iter().any(|(name, value)| name == "class" && value == "sw-line");
            attributes.into_iter().find(|(name, _)| line && name == "d").map(|(_, way)| way)
        };
        elements(&thirteen(overlay)).into_iter().filter_map(of_line).collect()
    };
    let active = ["cart".to_owned()].into();
    let counts = [("cart".to_owned(), 7)].into();
    assert_eq!(ways(&Overlay { active, counts, ..Overlay::default() }), ways(&Overlay::default()));
}
