//! The rules of `tidy`, each a function from one file to what is wrong with it.

use std::path::Path;

use super::source::{File, Violation, is_word, places, words};
use super::{
    EMPTY_NAMES, EMPTY_VERBS, FLOORS, IMPURE, LINES_MAX, OTHER_WORDS, PLATFORM_WORDS, PURE,
    STRANGERS, THEIR_NAMES,
};

/// Every rule.
pub(super) const RULES: &[fn(&File) -> Vec<Violation>] = &[
    floors,
    length,
    header,
    name,
    other_words,
    verbs,
    purity,
    left_over,
    machine_paths,
    documents,
];

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// `crate::…` leads down, or stays at home.
fn floors(file: &File) -> Vec<Violation> {
    let rule = "floors";
    let Some(own) = file.module().filter(|own| file.is_rust() && *own != "lib") else {
        return Vec::new();
    };
    let unknown = |module: &str| {
        format!("`{module}` stands on no floor: give it its place in FLOORS of tests/it/tidy")
    };
    let Some(floor) = floor_of(own) else {
        return vec![file.note(0, rule, unknown(own))];
    };
    let mut found = Vec::new();
    for (at, used) in uses(file).into_iter().filter(|(_, used)| used != own) {
        let Some(below) = floor_of(&used) else {
            found.push(file.note(at, rule, unknown(&used)));
            continue;
        };
        let strange = STRANGERS
            .iter()
            .find(|(who, whom, _)| *who == own && whom.contains(&used.as_str()));
        if let Some((_, _, why)) = strange {
            let what = format!("`{own}` does not know `{used}`: {why}");
            found.push(file.note(at, rule, what));
        } else if below >= floor {
            let what = format!(
                "`{own}` (floor {floor}) uses `{used}` (floor {below}): move what both need to a \
                 lower floor, or hand it down as a value"
            );
            found.push(file.note(at, rule, what));
        }
    }
    found
}

/// The modules at the root of the crate that a file names, each with its place.
fn uses(file: &File) -> Vec<(usize, String)> {
    let code = &file.code;
    let mut found = Vec::new();
    for word in ["crate", "super"] {
        for at in places(code, word) {
            let mut end = at + word.len();
            let mut steps = 1;
            while code[end..].starts_with("::super::") {
                end += "::super".len();
                steps += 1;
            }
            let to_root = word == "crate" || steps >= file.depth();
            let Some(path) = code[end..].strip_prefix("::").filter(|_| to_root) else {
                continue;
            };
            let segments = first_segments(path);
            // A chain of `super`s from within an inline module ends below the root.
            let sure = |segment: &&str| word == "crate" || floor_of(segment).is_some();
            let segments = segments.into_iter().filter(|one| sure(one));
            found.extend(segments.map(|one| (at, one.to_owned())));
        }
    }
    found
}

/// The first segment of a path, or of each path in a group.
fn first_segments(path: &str) -> Vec<&str> {
    let head = |text: &'_ str| text.bytes().take_while(|byte| is_word(*byte)).count();
    let path = path.trim_start();
    let Some(group) = path.strip_prefix('{') else {
        return vec![&path[..head(path)]];
    };
    let (mut depth, mut begins, mut segments) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if c.is_whitespace() => {}
            _ if begins => {
                begins = false;
                let segment = &group[at..at + head(&group[at..])];
                segments.extend((segment != "self").then_some(segment));
            }
            _ => {}
        }
    }
    segments
}

fn length(file: &File) -> Vec<Violation> {
    let lines = file.text.lines().count();
    let what = format!("has {lines} lines, more than {LINES_MAX}: split it by reasons to change");
    let long = file.is_rust() && lines > LINES_MAX;
    long.then(|| file.note(0, "length", what))
        .into_iter()
        .collect()
}

fn header(file: &File) -> Vec<Violation> {
    let missing = file.is_rust() && !file.text.starts_with("//!");
    let what = "begins without `//!`: say what it promises and what it leaves out".to_owned();
    missing
        .then(|| file.note(0, "header", what))
        .into_iter()
        .collect()
}

fn name(file: &File) -> Vec<Violation> {
    let folders_and_stem = file.path.split('/').map(|part| match part.split_once('.') {
        Some((stem, _)) => stem,
        None => part,
    });
    let empty = folders_and_stem.filter(|part| file.is_rust() && EMPTY_NAMES.contains(part));
    empty
        .map(|part| {
            let what = format!("`{part}` says nothing: name it after what is in it");
            file.note(0, "name", what)
        })
        .collect()
}

/// One word per idea: identifiers are split into words and held against the glossary.
fn other_words(file: &File) -> Vec<Violation> {
    let theirs = PLATFORM_WORDS
        .iter()
        .any(|path| file.path.starts_with(path));
    let mut found = Vec::new();
    for (at, identifier) in words(&file.code) {
        // tokio's channels are made by a path and named by what flows.
        let path = file.code[..at].ends_with("::") && identifier == "channel";
        if path || THEIR_NAMES.contains(&identifier) {
            continue;
        }
        for part in parts(identifier) {
            let banned = OTHER_WORDS.iter().find(|(word, _)| *word == part);
            if let Some((word, better)) = banned.filter(|_| !(theirs && part.starts_with("user"))) {
                let what = format!("`{identifier}` says {word}: the glossary says {better}");
                found.push(file.note(at, "words", what));
            }
        }
    }
    found
}

/// `RawUser` and `raw_user` in small letters, word by word.
fn parts(identifier: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut small = false;
    for c in identifier.chars() {
        if c == '_' || (c.is_uppercase() && small) {
            parts.push(String::new());
        }
        small = c.is_lowercase();
        if let Some(part) = parts.last_mut().filter(|_| c != '_') {
            part.extend(c.to_lowercase());
        }
    }
    parts
}

fn verbs(file: &File) -> Vec<Violation> {
    let mut found = Vec::new();
    for at in places(&file.code, "fn") {
        let name = file.code[at + 2..].trim_start();
        if let Some(verb) = EMPTY_VERBS.iter().find(|verb| name.starts_with(**verb)) {
            let what = format!("a function called `{verb}…`: say what it does");
            found.push(file.note(at, "verbs", what));
        }
    }
    found
}

fn purity(file: &File) -> Vec<Violation> {
    let header = file.text.lines().take_while(|line| line.starts_with("//!"));
    let promised = header
        .flat_map(|line| line.split_whitespace())
        .any(|word| matches!(word, "Pure." | "Pure:"));
    if !(promised || PURE.iter().any(|path| file.path.starts_with(path))) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for word in IMPURE {
        for at in places(&file.code, word) {
            let what = format!("`{word}` in a pure file: take the value as an argument instead");
            found.push(file.note(at, "purity", what));
        }
    }
    found
}

/// What is fine while one works and not afterwards.
fn left_over(file: &File) -> Vec<Violation> {
    let mut found = Vec::new();
    // In two parts, or this file would hold them.
    for mark in [concat!("FIX", "ME"), concat!("XX", "X")] {
        for at in places(&file.text, mark).filter(|_| !file.path.ends_with(".lock")) {
            let what = format!("a {mark}: do it now, or file an issue and say why it can wait");
            found.push(file.note(at, "left over", what));
        }
    }
    for (code, fix) in [
        ("dbg!", "take it out"),
        ("#[ignore]", "say why: `#[ignore = \"…\"]`"),
    ] {
        for (at, _) in file.code.match_indices(code) {
            let what = format!("`{code}`: {fix}");
            found.push(file.note(at, "left over", what));
        }
    }
    found
}

/// No file knows the machine it was written on.
fn machine_paths(file: &File) -> Vec<Violation> {
    let places = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
        concat!("/tm", "p/"),
    ];
    let begins = |at: usize| {
        let before = file.text[..at].bytes().next_back();
        before.is_none_or(|byte| !is_word(byte) && !b".-/:}".contains(&byte))
    };
    let mut found = Vec::new();
    for place in places {
        for (at, _) in file.text.match_indices(place).filter(|(at, _)| begins(*at)) {
            let what = format!("a path below {place}: make it relative, or ask the environment");
            found.push(file.note(at, "machine path", what));
        }
    }
    found
}

/// What the documents put in backticks is really there.
fn documents(file: &File) -> Vec<Violation> {
    if !["ARCHITECTURE.md", "README.md"].contains(&file.path.as_str()) {
        return Vec::new();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut at, mut found, mut fenced) = (0, Vec::new(), false);
    for line in file.text.split_inclusive('\n') {
        fenced ^= line.starts_with("```");
        let quotes = line.split('`').skip(1).step_by(2);
        for quote in quotes.filter(|_| !fenced) {
            if let Err(what) = is_there(root, quote) {
                found.push(file.note(at, "documents", what));
            }
        }
        at += line.len();
    }
    found
}

/// Whether a quoted path or name exists; anything else is prose.
fn is_there(root: &Path, quote: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_/.:-".contains(c);
    let (quote, _) = quote.split_once('(').unwrap_or((quote, ""));
    if !quote.chars().all(plain) || quote.contains("//") || quote.starts_with('/') {
        return Ok(());
    }
    let file_like = [".rs", ".sql", ".yaml", ".toml", ".md", "/"];
    if quote.contains('/') && file_like.iter().any(|end| quote.ends_with(end)) {
        let there = root.join(quote).exists() || root.join("src").join(quote).exists();
        return there
            .then_some(())
            .ok_or_else(|| format!("there is no `{quote}`: name what there is"));
    }
    if !quote.contains("::") {
        return Ok(());
    }
    // Modules lead to a file; what follows has to stand in it.
    let (mut path, mut names) = (root.join("src"), Vec::new());
    for segment in quote.split("::") {
        let (folder, single) = (path.join(segment), path.join(format!("{segment}.rs")));
        if names.is_empty() && (folder.is_dir() || single.is_file()) {
            path = if folder.is_dir() { folder } else { single };
        } else {
            names.push(segment);
        }
    }
    let text = match path.is_dir() {
        false => std::fs::read_to_string(&path).unwrap_or_default(),
        true => std::fs::read_to_string(path.join("mod.rs")).unwrap_or_default(),
    };
    let code = File::new("x.rs", &text).code;
    match names
        .iter()
        .find(|name| places(&code, name).next().is_none())
    {
        None if path != root.join("src") => Ok(()),
        None => Err(format!("`{quote}` begins with no module of `src`")),
        Some(name) => {
            let path = path.strip_prefix(root).unwrap_or(&path);
            let path = path.display();
            Err(format!(
                "`{name}` is not in {path}: `{quote}` has another name by now"
            ))
        }
    }
}
