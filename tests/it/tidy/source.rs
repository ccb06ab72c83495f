//! A file of the project as the rules see it: its text, and its code without comments and literals.

use std::fmt;
use std::path::Path;

/// One thing that is not as it should be.
pub(super) struct Violation {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) rule: &'static str,
    pub(super) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            rule,
            what,
        } = self;
        write!(f, "{file}:{line}: {rule}: {what}")
    }
}

/// A file of the project.
pub(super) struct File {
    /// From the root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// Of a Rust file: the text with comments and literals blanked, line for line.
    pub(super) code: String,
}

impl File {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code = match path.ends_with(".rs") {
            true => code_of(text),
            false => String::new(),
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
        }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The module it belongs to at the root of the crate; `None` outside of `src`.
    pub(super) fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        rest.split('/').next()?.trim_end_matches(".rs").into()
    }

    /// How many `super`s lead to the root of the crate.
    pub(super) fn depth(&self) -> usize {
        let folders = self.path.matches('/').count();
        folders - usize::from(self.path.ends_with("/mod.rs"))
    }

    pub(super) fn note(&self, at: usize, rule: &'static str, what: String) -> Violation {
        let line = 1 + self.text.bytes().take(at).filter(|b| *b == b'\n').count();
        Violation {
            file: self.path.clone(),
            line,
            rule,
            what,
        }
    }
}

/// Blanks comments, strings and characters; what is left has the same length and lines.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let in_word = at > 0 && is_word(bytes[at - 1]);
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let (false, Some(length)) = (in_word, raw_string(rest)) {
            length
        } else if rest.starts_with('"') {
            quoted(rest, '"').unwrap_or(rest.len())
        } else if rest.starts_with("'\\") {
            quoted(rest, '\'').unwrap_or(1)
        } else if let (true, Some(c)) = (rest.starts_with('\''), rest[1..].chars().next()) {
            // A lifetime has no quote behind its first character.
            let end = 1 + c.len_utf8();
            if rest[end..].starts_with('\'') {
                end + 1
            } else {
                0
            }
        } else {
            0
        };
        for byte in &mut code[at..at + length] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += length.max(1);
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// Length of a raw string that `rest` begins with.
fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let body = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let head = rest.len() - body.len();
    Some(
        body.find(&end)
            .map_or(rest.len(), |at| head + at + end.len()),
    )
}

/// Length of a literal that `rest` begins with, up to its closing quote.
fn quoted(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands on its own.
pub(super) fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let free = |byte: Option<&u8>| byte.is_none_or(|byte| !is_word(*byte));
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let bytes = code.as_bytes();
            free(at.checked_sub(1).and_then(|before| bytes.get(before)))
                && free(bytes.get(at + word.len()))
        })
}

/// The words of a code, each where it begins.
pub(super) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    code.split(|c: char| !c.is_ascii() || !is_word(c as u8))
        .map(move |word| {
            let here = code[at..].find(word).map_or(at, |skip| at + skip);
            at = here + word.len();
            (here, word)
        })
        .filter(|(_, word)| !word.is_empty())
}

/// Every text file of the project, in the order of their paths.
pub(super) fn project() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(root, "", &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(
        files.len() > 50,
        "the project is not where it is looked for"
    );
    files
}

fn walk(dir: &Path, below: &str, files: &mut Vec<File>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{below}{name}");
        // What builds and runs leave behind, and other people's.
        if [".git", "data", "node_modules", "target"].contains(&name.as_str()) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &format!("{path}/"), files);
        } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
            files.push(File::new(&path, &text));
        }
    }
}
