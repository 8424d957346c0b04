//! Files that are no definition at all, some of them on purpose: an error, soon, and never a panic.

use std::fmt::Write;

use kernel::definition::load;

/// The code and the message of the one error that `source` gets.
fn only_error(source: &str) -> (&'static str, String) {
    let (machine, diagnostics) = load(source);
    assert!(machine.is_none());
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    let rendered = diagnostics[0].render("m.yaml", source);
    assert!(rendered.len() < 2_000, "{rendered}");
    (diagnostics[0].code, diagnostics[0].message.clone())
}

#[test]
fn file_larger_than_a_definition_may_be_is_not_even_read() {
    let source = format!("machine: m\n# {}\n", "x".repeat(2 * 1024 * 1024));
    assert_eq!(only_error(&source).0, "too_large");
}

#[test]
fn deep_nesting_is_an_error() {
    for deep in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        (0..700).fold(String::new(), |mut text, depth| {
            let _ = writeln!(text, "{}a:", " ".repeat(depth));
            text
        }),
        "- ".repeat(100_000),
        format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000)),
    ] {
        assert_eq!(only_error(&deep).0, "syntax");
    }
}

#[test]
fn aliases_that_multiply_are_an_error() {
    let mut source = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(source, "a{level}: &a{level} [{aliases}]");
    }
    assert_eq!(only_error(&source).0, "syntax");
    assert_eq!(only_error("a: &a [*a]\n").0, "syntax");
}

#[test]
fn bytes_that_are_no_text_are_an_error() {
    for source in ["\u{0}", "\u{1b}[31m", "a: \"\\x\"", "%YAML 9.9\n---\na: 1", "!!binary x", "? [a, b]\n: c"]
    {
        let (machine, diagnostics) = load(source);
        assert!(machine.is_none() && !diagnostics.is_empty(), "{source:?}");
    }
}

#[test]
fn anchors_that_are_used_fairly_are_no_error() {
    let source = "
machine: m
initial: a
states:
  a: &waits { after: { 1h: b }, on: { go: b } }
  b: *waits
";
    let (machine, diagnostics) = load(source);
    assert!(machine.is_some(), "{diagnostics:?}");
}

const HEAD: &str = "machine: m\ninitial: s0\nafter: { 1h: s0 }\n";

/// So many states, each with what `body` says of it.
fn states(count: usize, body: &dyn Fn(usize) -> String) -> String {
    (0..count).fold(String::from("states:\n"), |mut text, n| {
        let _ = writeln!(text, "  s{n}: {{{}}}", body(n));
        text
    })
}

fn two_events(n: usize) -> String {
    format!("on: {{e{n}: s0, f{n}: s0}}")
}

/// As large as a definition may be, in every direction at once: each is refused or compiled within seconds.
#[test]
fn definitions_that_multiply_do_not_stall() {
    let wildcards = format!("on: {{'*': [{}]}}\n", vec!["s0"; 15_000].join(","));
    let unknown = |count: usize| (0..count).map(|n| format!("k{n}: 1, ")).collect::<String>();
    let children: String = (0..1_900).map(|n| format!("s{n}: {{}}, ")).collect();
    let large = format!("{{guard: '[{}] == []'}}", vec!["1"; 900].join(","));
    for source in [
        format!("{HEAD}{wildcards}{}", states(1_900, &two_events)),
        format!("{HEAD}{}", states(1_900, &|n| format!("on: {{e{n}: [{}]}}", vec!["s0"; 120].join(",")))),
        format!(
            "{HEAD}{}",
            states(1_900, &|n| format!("on: {{e{n}: nowhere_{n}_at_all, f: no_{n}, g: no}}"))
        ),
        format!(
            "{HEAD}states:\n  s0: {{on: {{go: {}}}}}\n  ? {}\n  : {{}}\n",
            "x".repeat(400_000),
            "x".repeat(400_001)
        ),
        format!(
            "{HEAD}context: {{{}}}\nstates: {{s0: {{}}}}",
            (0..70_000).map(|n| format!("a{n}: ,")).collect::<String>()
        ),
        format!("{HEAD}states: {{s0: {{on: {{go: {{target: [{}]}}}}}}}}", vec!["s0"; 30_000].join(",")),
        format!("{HEAD}states:\n  s0: {{}}\n  ? {}\n  : {{{}}}\n", "x".repeat(300_000), unknown(40_000)),
        format!("{HEAD}states:\n  s0: {{}}\n  ? {}\n  : {{states: {{{children}}}}}\n", "x".repeat(800_000)),
        format!("{HEAD}states: {{s0: {{on: {{go: [{}]}}}}}}", vec![large.as_str(); 400].join(",")),
        format!(
            "machine: m\ninitial: c\nstates: {{c: {{initial: p, on: {{go: [{}]}}, states: {{h: {{type: history, history: deep, target: p}}, p: {{type: parallel, {}}}}}}}}}",
            vec!["c.h"; 15_000].join(","),
            states(1_900, &|_| String::new()).replace(":\n", ": {").replace("\n", ",") + "}"
        ),
        // Each of these takes its share of memory once it is compiled.
        format!(
            "{HEAD}{}",
            states(1_900, &|n| format!(
                "on: {{e: {{guard: 'event.a.matches(\"\\w{{{}}}\")', target: s0}}}}",
                n % 20
            ))
        ),
        format!(
            "{HEAD}states: {{s0: {{}}}}\nconversation: {{intents: {{i: {{priority: P4, patterns: [{}]}}}}}}",
            vec!["'\\w{20}'"; 10_000].join(",")
        ),
        format!(
            "machine: m\ntype: parallel\non: {{go: [{}]}}\n{}",
            vec!["s0"; 15_000].join(","),
            states(1_900, &|_| String::new())
        ),
    ] {
        let (machine, diagnostics) = load(&source);
        assert!(machine.is_none(), "{}", &source[..100]);
        assert!(!diagnostics.is_empty());
    }
}

/// So many phases, each with what `body` says of it.
fn phases(count: usize, body: &dyn Fn(usize) -> String) -> String {
    (0..count).fold(String::from("flow: f\nphases:\n"), |mut text, n| {
        let _ = writeln!(text, "  p{n}: {{{}}}", body(n));
        text
    })
}

#[test]
fn flows_that_multiply_do_not_stall() {
    let codes = |count: usize| (0..count).map(|n| format!("C{n}: {{rollback: p0}}, ")).collect::<String>();
    let unknown = |count: usize| (0..count).map(|n| format!("f{n}: 1, ")).collect::<String>();
    let long = "x".repeat(300_000);
    for source in [
        phases(2_001, &|_| String::new()),
        phases(1_990, &|n| format!("needs: [p{}]", (n + 1) % 1_990)),
        phases(1_990, &|n| format!("needs: [nothing_{n}, n{n}, p]")),
        phases(300, &|_| format!("needs: [{}]", vec!["p0"; 600].join(", "))),
        phases(300, &|n| {
            format!(
                "needs: [{}]",
                (0..200).map(|i| format!("p{}", (n + i) % 300)).collect::<Vec<_>>().join(", ")
            )
        }),
        phases(30, &|n| match n {
            0 => String::new(),
            n => format!("needs: [p{}], on_error: {{{}, X: {{rollback: p{n}}}}}", n - 1, codes(1_000)),
        }),
        format!("{}context: {{g: {{}}}}", phases(1, &|_| format!("output: {{{}}}", unknown(40_000)))),
        format!("flow: f\nphases:\n  ? {long}\n  : {{needs: [{long}], on_error: 5}}\n"),
        phases(1_990, &|n| format!("when: \"{}{n}\"", "1 == 1 && ".repeat(20))),
    ] {
        let (machine, diagnostics) = load(&source);
        assert!(machine.is_none(), "{}", &source[..100]);
        assert!(!diagnostics.is_empty());
        let long = diagnostics.iter().find(|d| d.message.len() > 1_000);
        assert!(long.is_none(), "{} says much", long.map_or("", |d| d.code));
    }
    let (machine, diagnostics) = load(&phases(1_990, &|n| match n {
        0 => String::new(),
        n => format!(
            "needs: [{}], on_error: {{X: {{rollback: p0}}}}",
            (n.saturating_sub(9)..n).map(|n| format!("p{n}")).collect::<Vec<_>>().join(", ")
        ),
    }));
    assert!(machine.is_some(), "{:?}", diagnostics.first());
}

/// What may be that large loads within seconds, checks and all.
#[test]
fn definitions_as_large_as_they_may_be_load() {
    let phrases = vec!["same"; 100_000].join(",");
    let (machine, _) = load(&format!(
        "{HEAD}states: {{s0: {{on: {{go: s0}}}}}}\nconversation: {{intents: {{i: {{priority: P1, event: go, phrases: [{phrases}]}}}}}}"
    ));
    assert!(machine.is_some());
    let around = |n: usize| format!("always: s{}", (n + 1) % 1_900);
    let itself =
        |n: usize| format!("always: {{guard: 'event.x', raise: e}}, on: {{e: {{raise: [e, e{n}]}}}}");
    for body in [&two_events as &dyn Fn(usize) -> String, &around, &itself] {
        let (machine, diagnostics) = load(&format!("{HEAD}{}", states(1_900, body)));
        assert!(machine.is_some(), "{:?}", diagnostics.first());
    }
}
