//! Just enough of Rust's lexical rules to tell code from comments and literals, tests from the rest, and where
//! a function ends.
//!
//! Not a parser: macros are read as plain tokens. Invariant: every view of a file has the file's own lines.

/// A Rust file with its views.
#[derive(Debug)]
pub struct RustSource {
    /// Relative to the root.
    pub path: String,
    pub text: String,
    /// The text with comments and literals blanked out.
    pub code: String,
    /// The text with everything but the contents of literals blanked out.
    pub literals: String,
    /// For each line, whether it belongs to a test.
    test_lines: Vec<bool>,
    /// Names of the modules that are in files of their own and only built for tests.
    test_modules: Vec<String>,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// From 1: the line with `fn`.
    pub line: usize,
    /// From the line with `fn` to the one with the closing brace, both included.
    pub length: usize,
}

impl RustSource {
    pub fn new(path: String, text: String) -> Self {
        let (code, literals) = split(&text);
        let items = test_items(&code);
        let mut test_lines = vec![false; text.lines().count()];
        for item in &items {
            for line in test_lines.iter_mut().take(item.line_last).skip(item.line_first - 1) {
                *line = true;
            }
        }
        let test_modules = items.into_iter().filter_map(|item| item.module).collect();
        Self { path, text, code, literals, test_lines, test_modules }
    }

    /// `line` is from 1.
    pub fn is_test_line(&self, line: usize) -> bool {
        self.test_lines.get(line.wrapping_sub(1)).copied().unwrap_or(false)
    }

    pub fn mark_all_as_test(&mut self) {
        self.test_lines.fill(true);
    }

    /// The lines before the first inline module of tests; all where there is none.
    pub fn lines_before_tests(&self) -> usize {
        let items = test_items(&self.code);
        let module = items.iter().find(|item| item.is_inline_module);
        module.map_or_else(|| self.text.lines().count(), |item| item.line_first - 1)
    }

    /// Where the test modules in files of their own lie, as paths without `.rs`.
    pub fn test_module_paths(&self) -> Vec<String> {
        let (directory, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let base = match name {
            "lib.rs" | "main.rs" | "mod.rs" => directory.to_owned(),
            _ => format!("{directory}/{}", name.trim_end_matches(".rs")),
        };
        self.test_modules.iter().map(|module| format!("{base}/{module}")).collect()
    }

    /// Every line of `view` that holds `pattern` as whole words, from 1.
    pub fn lines_with(view: &str, pattern: &str) -> Vec<usize> {
        let lines = view.lines().enumerate();
        lines.filter(|(_, line)| contains_words(line, pattern)).map(|(index, _)| index + 1).collect()
    }

    /// The functions with a body, in order, nested ones too.
    pub fn functions(&self) -> Vec<Function> {
        functions(&self.code)
    }
}

/// Whether `line` holds `pattern` with no letter, digit or `_` joined to either end that is one itself.
pub fn contains_words(line: &str, pattern: &str) -> bool {
    let joins_before = pattern.starts_with(is_word);
    let joins_after = pattern.ends_with(is_word);
    line.match_indices(pattern).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(is_word);
        let after = line[at + pattern.len()..].chars().next().is_some_and(is_word);
        let joined = (joins_before && before) || (joins_after && after);
        !joined
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// Splits a text into its code and the contents of its literals, each with blanks for all else.
fn split(text: &str) -> (String, String) {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut literals = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let (kind, end) = token(&characters, at);
        for &character in &characters[at..end] {
            let blank = if character == '\n' { '\n' } else { ' ' };
            code.push(if kind == Kind::Code { character } else { blank });
            literals.push(if kind == Kind::Literal { character } else { blank });
        }
        at = end;
    }
    (code, literals)
}

/// What starts at `at`, and where it ends: a whole comment, a whole literal, a whole word, or one character.
fn token(characters: &[char], at: usize) -> (Kind, usize) {
    let next = |offset: usize| characters.get(at + offset).copied();
    match characters[at] {
        '/' if next(1) == Some('/') => (Kind::Comment, find(characters, at, '\n')),
        '/' if next(1) == Some('*') => (Kind::Comment, block_comment_end(characters, at)),
        '"' => (Kind::Literal, quoted_end(characters, at)),
        // A lifetime has no second quote where a character would have it.
        '\'' if next(1) == Some('\\') => {
            (Kind::Literal, (find(characters, at + 3, '\'') + 1).min(characters.len()))
        }
        '\'' if next(2) == Some('\'') => (Kind::Literal, at + 3),
        character if is_word(character) => {
            let length = characters[at..].iter().take_while(|character| is_word(**character)).count();
            let end = at + length;
            let word: String = characters[at..end].iter().collect();
            match word.as_str() {
                "r" | "br" | "cr" => match raw_end(characters, end) {
                    Some(raw_end) => (Kind::Literal, raw_end),
                    None => (Kind::Code, end),
                },
                _ => (Kind::Code, end),
            }
        }
        _ => (Kind::Code, at + 1),
    }
}

/// Where `wanted` is at or after `from`; the end where it is not.
fn find(characters: &[char], from: usize, wanted: char) -> usize {
    (from..characters.len()).find(|&at| characters[at] == wanted).unwrap_or(characters.len())
}

fn block_comment_end(characters: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < characters.len() {
        match (characters[at], characters.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    characters.len()
}

fn quoted_end(characters: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < characters.len() {
        match characters[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    characters.len()
}

/// Where the raw string ends whose hashes start at `hashes_start`; none where it is a raw identifier.
fn raw_end(characters: &[char], hashes_start: usize) -> Option<usize> {
    let hashes = characters[hashes_start..].iter().take_while(|character| **character == '#').count();
    if characters.get(hashes_start + hashes) != Some(&'"') {
        return None;
    }
    let mut at = hashes_start + hashes + 1;
    while at < characters.len() {
        let after = characters[at + 1..].iter().take(hashes).filter(|character| **character == '#').count();
        if characters[at] == '"' && after == hashes {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(characters.len())
}

/// An item under `#[cfg(test)]` or `#[test]`.
#[derive(Debug)]
struct TestItem {
    line_first: usize,
    line_last: usize,
    is_inline_module: bool,
    /// The name, where it is a module in a file of its own.
    module: Option<String>,
}

fn test_items(code: &str) -> Vec<TestItem> {
    let mut items = Vec::new();
    let mut from = 0;
    while let Some(start) = code[from..].find("#[").map(|offset| from + offset) {
        let attribute_end = matching_end(code, start + 1);
        from = attribute_end;
        let attribute: String = code[start..attribute_end].split_whitespace().collect();
        let is_test =
            attribute == "#[test]" || attribute == "#[cfg(test)]" || attribute.starts_with("#[cfg(all(test");
        if !is_test {
            continue;
        }
        let item_start = after_attributes(code, attribute_end);
        let end = item_end(code, item_start);
        let item = &code[item_start..end];
        let words: Vec<&str> = item.split(|character: char| !is_word(character)).collect();
        let name = words.iter().skip_while(|word| **word != "mod").find(|word| !matches!(**word, "mod" | ""));
        let is_module = is_module_item(item);
        let is_inline_module = is_module && !item.ends_with(';');
        let module = name.filter(|_| is_module && !is_inline_module).map(|name| (*name).to_owned());
        items.push(TestItem {
            line_first: line_at(code, start),
            line_last: line_at(code, end.saturating_sub(1)),
            is_inline_module,
            module,
        });
        from = end;
    }
    items
}

fn is_module_item(item: &str) -> bool {
    let head = item.split(['{', ';']).next().unwrap_or_default();
    contains_words(head, "mod")
}

/// Steps over blanks and further attributes.
fn after_attributes(code: &str, from: usize) -> usize {
    let mut at = from;
    loop {
        at += code[at..].len() - code[at..].trim_start().len();
        if !code[at..].starts_with("#[") {
            return at;
        }
        at = matching_end(code, at + 1);
    }
}

/// Just past the `;` that ends an item, or past its body's closing brace.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0_i32;
    for (offset, character) in code[start..].char_indices() {
        let at = start + offset;
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            '{' if depth == 0 => return matching_end(code, at),
            // A field or a variant ends with what encloses it.
            '}' if depth == 0 => return at,
            _ => {}
        }
    }
    code.len()
}

/// Just past what closes the bracket at `open`.
fn matching_end(code: &str, open: usize) -> usize {
    let mut depth = 0_i32;
    for (offset, character) in code[open..].char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth == 0 {
                    return open + offset + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

fn line_at(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

fn functions(code: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let name: String =
            code[at + 3..].trim_start().chars().take_while(|character| is_word(*character)).collect();
        let end = item_end(code, at);
        // `fn(u8)` is a type and has no name; a declaration in a trait has no body.
        if name.is_empty() || !code[..end].ends_with('}') {
            continue;
        }
        let line = line_at(code, at);
        functions.push(Function { name, line, length: line_at(code, end - 1) - line + 1 });
    }
    functions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_code(text: &str, expected: &str) {
        assert_eq!(split(text).0, expected, "{text}");
    }

    #[test]
    fn comments_are_not_code() {
        check_code("a // b\nc", "a     \nc");
        check_code("a /* b /* c */ d\n */ e", "a               \n    e");
        check_code("/// a\nb / c", "     \nb / c");
    }

    #[test]
    fn literals_are_not_code() {
        check_code(r#"a("b // c \" d") e"#, "a(             ) e");
        check_code(r##"a(r#"b " c"#) e"##, "a(          ) e");
        check_code(r#"a(b"c") r"\" d"#, "a(b   )      d");
        check_code(r"a('{', '\'', '\u{7D}') b", "a(   ,     ,         ) b");
        check_code("a<'b>(c: &'b str) d", "a<'b>(c: &'b str) d");
        check_code("r#type + r", "r#type + r");
    }

    #[test]
    fn contents_of_literals_are_a_view_of_their_own() {
        assert_eq!(split("a(\"now()\") // now()\nb").1, "  \"now()\"          \n ");
    }

    #[test]
    fn words_match_only_whole() {
        assert!(contains_words("use tokio::x", "tokio"));
        assert!(!contains_words("tokioish", "tokio"));
        assert!(!contains_words("operand::x", "rand::"));
        assert!(contains_words("(rand::x", "rand::"));
        assert!(contains_words("a.unwrap()", ".unwrap()"));
        assert!(!contains_words("no_sleep(", "sleep("));
    }

    /// Renders functions as `line name length`.
    fn check_functions(text: &str, expected: &[&str]) {
        let functions = RustSource::new("a.rs".to_owned(), text.to_owned()).functions();
        let rendered: Vec<String> = functions
            .iter()
            .map(|function| format!("{} {} {}", function.line, function.name, function.length))
            .collect();
        assert_eq!(rendered, expected, "{text}");
    }

    #[test]
    fn function_lengths_run_from_signature_to_closing_brace() {
        check_functions("fn a() {}\n", &["1 a 1"]);
        check_functions(
            "/// About a.\n#[inline]\npub const fn a(\n    x: u8,\n) -> u8 {\n    x\n}\n",
            &["3 a 5"],
        );
        check_functions(
            "fn a<T>() -> [u8; 4]\nwhere\n    T: X,\n{\n    y\n}\nfn b() {}\n",
            &["1 a 6", "7 b 1"],
        );
    }

    #[test]
    fn braces_in_strings_comments_and_characters_do_not_count() {
        check_functions(
            "fn a() {\n    x(\"}\"); // }\n    y('}', b'{', r#\"}\"}\"#); /* } */\n}\nz\n",
            &["1 a 4"],
        );
        check_functions("fn a<'x>(y: &'x str) {\n    '{'\n}\n", &["1 a 3"]);
    }

    #[test]
    fn nested_functions_count_themselves_and_in_their_owner() {
        check_functions("fn a() {\n    fn b() {\n    }\n}\n", &["1 a 4", "2 b 2"]);
    }

    #[test]
    fn declarations_and_types_are_not_functions() {
        check_functions(
            "trait A {\n    fn a(x: [u8; 2]);\n}\nstruct B(fn (u8) -> u8);\n// fn c() {}\nx(\"fn d() {}\")",
            &[],
        );
        check_functions("my_fn a() {}", &[]);
    }

    /// Shows which lines are test lines.
    fn check_tests(text: &str, expected: &[usize]) {
        let source = RustSource::new("a.rs".to_owned(), text.to_owned());
        let lines: Vec<usize> =
            (1..=text.lines().count()).filter(|line| source.is_test_line(*line)).collect();
        assert_eq!(lines, expected, "{text}");
    }

    #[test]
    fn test_items_span_from_attribute_to_end() {
        check_tests("a\n#[cfg(test)]\nmod tests {\n    b\n}\nc\n", &[2, 3, 4, 5]);
        check_tests("#[cfg(test)]\nmod tests;\nb\n", &[1, 2]);
        check_tests("#[cfg(test)]\n#[x(y)]\nuse a::{b, c};\nd\n", &[1, 2, 3]);
        check_tests("#[test]\nfn a() {\n}\nb\n", &[1, 2, 3]);
        check_tests("#[cfg(all(test, unix))]\nmod a {}\n", &[1, 2]);
        check_tests("#[cfg(not(test))]\nmod a {}\n", &[]);
        check_tests("#[cfg(any(test, feature = \"x\"))]\nmod a {}\n", &[]);
    }

    #[test]
    fn lines_before_tests_end_at_the_inline_module() {
        let lines = |text: &str| RustSource::new("a.rs".to_owned(), text.to_owned()).lines_before_tests();
        assert_eq!(lines("a\nb\n"), 2);
        assert_eq!(lines("a\n#[cfg(test)]\nmod tests {\n}\n"), 1);
        assert_eq!(
            lines("#[cfg(test)]\nmod cases;\nb\n#[cfg(test)]\nfn c() {}\n#[cfg(test)]\nmod tests {\n}\n"),
            5
        );
    }
}
