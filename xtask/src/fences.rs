//! From a document's text to the commands it shows: fenced blocks marked `sh`, cut into whole shell commands.
//!
//! Pure: runs nothing and reads no file. Invariant: every command keeps the number of the document's line it
//! starts on, so that a failure can point there. Blocks follow CommonMark's rules for fences.

/// A fenced block whose info string is exactly `sh`.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// The document's line, from 1, of the block's first line of content.
    pub line: usize,
    pub text: String,
}

/// One command of a block, which may span lines.
#[derive(Debug, PartialEq, Eq)]
pub struct ShellCommand {
    /// The document's line, from 1.
    pub line: usize,
    pub text: String,
}

/// The blocks of `document` that a reader is invited to run.
pub fn executable_blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(Fence, Block)> = None;
    for (index, line) in document.lines().enumerate() {
        let fence = Fence::read(line);
        match (&mut open, fence) {
            (None, Some(fence)) => open = Some((fence, Block { line: index + 2, text: String::new() })),
            (None, None) => {}
            (Some((opening, _)), Some(fence)) if fence.closes(opening) => {
                blocks.extend(open.take().and_then(executable));
            }
            (Some((opening, block)), _) => {
                block.text.push_str(without_indent(line, opening.indent));
                block.text.push('\n');
            }
        }
    }
    blocks.extend(open.take().and_then(executable));
    blocks
}

/// For each line of `document`, whether it belongs to a fenced block of any kind, its fences included.
pub fn fenced_lines(document: &str) -> Vec<bool> {
    let mut open: Option<Fence> = None;
    document
        .lines()
        .map(|line| {
            let fence = Fence::read(line);
            match (&open, fence) {
                (None, Some(fence)) => open = Some(fence),
                (None, None) => return false,
                (Some(opening), Some(fence)) if fence.closes(opening) => open = None,
                (Some(_), _) => {}
            }
            true
        })
        .collect()
}

/// Cuts a block into commands: a line goes with the one before while a quote, a here-document, a backslash or
/// an operator at the line's end leaves that one open.
pub fn commands(block: &Block) -> Vec<ShellCommand> {
    let mut commands: Vec<ShellCommand> = Vec::new();
    let mut continues = false;
    for (index, line) in block.text.lines().enumerate() {
        match commands.last_mut() {
            Some(command) if continues => {
                command.text.push('\n');
                command.text.push_str(line);
            }
            _ => commands.push(ShellCommand { line: block.line + index, text: line.to_owned() }),
        }
        continues = commands.last().is_some_and(|command| is_open(&command.text));
    }
    commands
}

fn executable((fence, block): (Fence, Block)) -> Option<Block> {
    (fence.info == "sh").then_some(block)
}

#[derive(Debug)]
struct Fence {
    indent: usize,
    mark: char,
    length: usize,
    info: String,
}

impl Fence {
    fn read(line: &str) -> Option<Self> {
        let content = line.trim_start_matches(' ');
        let mark = content.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
        let length = content.chars().take_while(|character| *character == mark).count();
        let info = content.get(length..)?.trim();
        // A line such as ```x``` is inline code.
        if length < 3 || (mark == '`' && info.contains('`')) {
            return None;
        }
        Some(Self { indent: line.len() - content.len(), mark, length, info: info.to_owned() })
    }

    fn closes(&self, opening: &Self) -> bool {
        self.mark == opening.mark && self.length >= opening.length && self.info.is_empty()
    }
}

fn without_indent(line: &str, indent: usize) -> &str {
    let spaces = line.len() - line.trim_start_matches(' ').len();
    line.get(spaces.min(indent)..).unwrap_or(line)
}

/// Whether the shell would wait for more lines. Compound commands (`for`, `if`) are not looked at: nothing
/// depends on keeping those together, since a block's commands run in one script.
fn is_open(text: &str) -> bool {
    let mut quote: Option<char> = None;
    let mut here_document: Option<String> = None;
    for line in text.lines() {
        // A here-document starts after the whole command, so after a quote that spans lines.
        if quote.is_none()
            && let Some(delimiter) = &here_document
        {
            if line.trim_start_matches('\t') == delimiter {
                here_document = None;
            }
            continue;
        }
        let characters: Vec<char> = line.chars().collect();
        let mut at = 0;
        while let Some(&character) = characters.get(at) {
            let starts_word = at == 0 || characters.get(at - 1).is_some_and(|before| before.is_whitespace());
            match (quote, character) {
                (Some('\''), '\'') | (Some('"'), '"') => quote = None,
                (Some('\''), _) => {}
                (_, '\\') => at += 1,
                (None, '\'' | '"') => quote = Some(character),
                (None, '#') if starts_word => break,
                (None, '<') => {
                    let (delimiter, length) = here_document_start(&characters[at..]);
                    here_document = delimiter.or(here_document);
                    at += length;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }
    let last = text.lines().last().unwrap_or_default().trim_end();
    let operator = ["\\", "|", "&&"].iter().any(|operator| last.ends_with(operator));
    quote.is_some() || here_document.is_some() || operator
}

/// The delimiter when `characters`, which start with `<`, start a here-document; and how many to step over.
fn here_document_start(characters: &[char]) -> (Option<String>, usize) {
    let arrows = characters.iter().take_while(|character| **character == '<').count();
    // One arrow reads a file, three read a string.
    if arrows != 2 {
        return (None, arrows);
    }
    let rest: String = characters[arrows..].iter().collect();
    let word = rest.trim_start_matches('-').trim_start();
    let skipped = arrows + rest.chars().count() - word.chars().count();
    let raw: String = word
        .chars()
        .take_while(|character| character.is_alphanumeric() || matches!(character, '_' | '\'' | '"' | '\\'))
        .collect();
    let delimiter: String = raw.chars().filter(|character| !matches!(character, '\'' | '"' | '\\')).collect();
    let length = skipped + raw.chars().count();
    if delimiter.is_empty() { (None, length) } else { (Some(delimiter), length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Renders blocks as `line: text`, one command a line, with line ends shown as `/`.
    fn check(document: &str, expected: &[&str]) {
        let rendered: Vec<String> = executable_blocks(document)
            .iter()
            .flat_map(|block| {
                let commands = commands(block);
                commands
                    .into_iter()
                    .map(|command| format!("{}: {}", command.line, command.text.replace('\n', "/")))
            })
            .collect();
        assert_eq!(rendered, expected, "{document}");
    }

    #[test]
    fn only_blocks_marked_sh_are_executable() {
        check("```sh\na\nb\n```\ntext\n~~~sh\nc\n~~~", &["2: a", "3: b", "7: c"]);
        for info in ["", "text", "console", "yaml", "json", "bash", "sh no-run", "shell"] {
            check(&format!("```{info}\na\n```\n"), &[]);
        }
        check("``` sh \na\n```", &["2: a"]);
        check("a `sh` b\n```sh```\nc", &[]);
    }

    #[test]
    fn fences_nest_by_length_and_close_by_their_own_mark() {
        check("````text\n```sh\na\n```\n````\n", &[]);
        check("````sh\na\n```\nb\n````\n", &["2: a", "3: ```", "4: b"]);
        check("```sh\na\n~~~\n```\n", &["2: a", "3: ~~~"]);
        check("```text\nx\n```sh\ny\n```\n", &[]);
        check("```sh\na", &["2: a"]);
    }

    #[test]
    fn blocks_in_lists_lose_their_indent() {
        check("- item\n\n  ```sh\n  a\n    b\n  ```\n", &["4: a", "5:   b"]);
    }

    #[test]
    fn open_lines_stay_with_their_command() {
        check("```sh\na \\\n  b\nc\n```", &["2: a \\/  b", "4: c"]);
        check("```sh\ncurl -d '{\n  \"a\": 1\n}' x\nc\n```", &["2: curl -d '{/  \"a\": 1/}' x", "5: c"]);
        check("```sh\na |\n  b &&\n  c\nd\n```", &["2: a |/  b &&/  c", "5: d"]);
        check("```sh\ncat <<'EOF' > x\nit's\nEOF\nb\n```", &["2: cat <<'EOF' > x/it's/EOF", "5: b"]);
        check("```sh\ncat <<< \"x\"\nb < y\nc\n```", &["2: cat <<< \"x\"", "3: b < y", "4: c"]);
    }

    #[test]
    fn quotes_in_comments_and_after_backslashes_open_nothing() {
        check("```sh\na # it's\nb\n```", &["2: a # it's", "3: b"]);
        check("```sh\na \\' x\nb\n```", &["2: a \\' x", "3: b"]);
        check("```sh\na \"\\\"\"\nb\n```", &["2: a \"\\\"\"", "3: b"]);
        check("```sh\na '\\'\nb\n```", &["2: a '\\'", "3: b"]);
        check("```sh\na#b '\nc'\nd\n```", &["2: a#b '/c'", "4: d"]);
    }

    #[test]
    fn lines_of_every_fence_are_known() {
        assert_eq!(fenced_lines("a\n```yaml\nb\n```\nc"), [false, true, true, true, false]);
    }
}
