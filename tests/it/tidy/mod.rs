//! The shape of the code, held on every run: floors, headers, names, purity, and documents that
//! say what is there.
//!
//! The tables are the documentation; `ARCHITECTURE.md` points here. Reads text and knows of Rust no
//! more than comments, strings and paths: a macro could deceive it, a person has to mean to.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod rules;
mod source;

use std::path::Path;

use clap::CommandFactory;
use dripwheel::cli::Cli;
use dripwheel::config::{Config, directory};
use dripwheel::journey::parse::parse;
use dripwheel::yaml::render_all;

use rules::RULES;
use source::{File, project};

/// Who may use whom, lowest floor first: a file uses lower floors and its own folder. Modules that
/// share a floor do not know each other.
///
/// `config` stands as high as the stages although it needs so little: no stage reads settings, each
/// has a struct of its own that `app` fills in.
const FLOORS: &[&[&str]] = &[
    &["clock", "listener", "sign"],
    &["yaml"],
    &["journey"],
    &["policy"],
    &["store"],
    &["scheduler"],
    &["config", "inbound", "sender"],
    &["alert", "broadcast", "reconcile", "simulator", "story"],
    &["api", "console", "sandbox"],
    &["app"],
    &["cli"],
    &["main"],
];

/// Who does not know whom although the floors would allow it, and why.
const STRANGERS: &[(&str, &[&str], &str)] = &[
    (
        "inbound",
        &["scheduler"],
        "what a commit armed is told by the writer",
    ),
    (
        "sender",
        &["scheduler"],
        "due deliveries come through a channel that `app` joins",
    ),
    (
        "sandbox",
        &["config", "policy", "scheduler", "store", "story"],
        "an imitation that shared our rules and rows would share our mistakes",
    ),
];

/// Folders and files without I/O, async and clocks. A file whose header says "Pure" is held to it
/// as well.
const PURE: &[&str] = &["src/journey/", "src/policy/", "src/scheduler/wheel.rs"];

/// What a pure file does not say.
const IMPURE: &[&str] = &[
    "async",
    "await",
    "tokio",
    "sea_orm",
    "reqwest",
    "poem",
    "tracing",
    "metrics",
    "Clock",
    "SystemTime",
    "Instant::now",
    "Zoned::now",
    "Timestamp::now",
    "Utc::now",
    "std::fs",
    "TcpStream",
    "TcpListener",
    "std::env",
    "thread_rng",
    "getrandom",
];

const LINES_MAX: usize = 500;

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &[
    "base", "common", "core", "helper", "helpers", "imp", "manager", "misc", "shared", "types",
    "util", "utils",
];

/// Words that the glossary has another one for.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("user", "follower, or operator"),
    ("users", "followers, or operators"),
    ("subscriber", "follower"),
    ("subscribers", "followers"),
    ("tenant", "account"),
    ("channel", "account, carrier, or `_tx` and `_rx`"),
    ("campaign", "sequence"),
    ("funnel", "sequence"),
    ("workflow", "sequence"),
    ("webhook", "callback"),
    ("inbox", "receipts"),
    ("job", "delivery"),
    ("jobs", "deliveries"),
    ("dequeue", "promote"),
    ("janitor", "sweep"),
];

/// Other people's names, spelled as they spell them.
const THEIR_NAMES: &[&str] = &[
    "FromUserName",
    "ToUserName",
    "SubscriberExt",
    "SubscriberInitExt",
    "USER_AGENT",
    "UserMessageFormatter",
    "tracing_subscriber",
    "create_channel",
    "Webhook",
    "WebhookAccess",
    "WebhookClient",
    "WebhookGate",
    "WebhookSettings",
    "webhook",
    "channel_access_token",
    "channel_id",
    "channel_secret",
];

/// Where the platform's own words are spoken: it calls followers users.
const PLATFORM_WORDS: &[&str] = &[
    "src/inbound/",
    "src/sandbox/",
    "src/sender/line/",
    "src/sender/telegram/",
    "src/sender/webhook/",
    "src/sender/wechat/",
    "src/sender/wecom_kf/",
    "tests/",
];

/// Verbs that fit everything.
const EMPTY_VERBS: &[&str] = &[
    "do_", "execute_", "handle_", "manage_", "perform_", "process_",
];

fn violations(files: &[File]) -> Vec<String> {
    let each = files.iter().flat_map(|file| {
        let found = RULES.iter().flat_map(move |rule| rule(file));
        found.map(|violation| violation.to_string())
    });
    each.collect()
}

fn text_of(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(path)).unwrap()
}

#[test]
fn the_project_keeps_its_rules() {
    let found = violations(&project());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The rules on trial: what violates each, by rule, path and text.
#[rustfmt::skip]
const GUILTY: &[(&str, &str, &str)] = &[
    ("floors", "src/policy/mod.rs", "//! x\nuse crate::store::Store;"),
    ("floors", "src/policy/mod.rs", "//! x\nuse crate::{\n clock::Timestamp, store::{self}};"),
    ("floors", "src/policy/mod.rs", "//! x\nfn f(store: &crate::store::Store) {}"),
    ("floors", "src/policy/grant.rs", "//! x\nuse super::super::store::Store;"),
    ("floors", "src/inbound/mod.rs", "//! x\nuse crate::sender::Sender;"),
    ("floors", "src/sandbox/grant.rs", "//! x\nuse crate::policy::grant::Grant;"),
    ("floors", "src/loyalty/mod.rs", "//! x"),
    ("floors", "src/app.rs", "//! x\nuse crate::loyalty::Points;"),
    ("header", "src/app.rs", "use std::fmt;"),
    ("name", "src/store/utils.rs", "//! x"),
    ("name", "src/store/common/rows.rs", "//! x"),
    ("words", "src/app.rs", "//! x\nstruct RawUser;"),
    ("words", "src/app.rs", "//! x\nlet campaign_id = 1;"),
    ("verbs", "src/app.rs", "//! x\nfn process_event() {}"),
    ("purity", "src/journey/plan.rs", "//! x\npub async fn plan() {}"),
    ("purity", "src/sender/x.rs", "//! Pure: x.\nuse std::fs::File;"),
    ("left over", "src/app.rs", "//! x\nfn f() { dbg!(1); }"),
    ("left over", "tests/it/x.rs", "//! x\n#[test]\n#[ignore]\nfn f() {}"),
    ("left over", "src/app.rs", concat!("//! FIX", "ME")),
    ("machine path", "sequences/x.yaml", concat!("# see /ho", "me/somebody/x")),
    ("documents", "README.md", "see `src/nothing.rs`"),
    ("documents", "README.md", "see `policy::Nothing`"),
    ("documents", "README.md", "see `nothing::open`"),
];

/// What only looks as if it violated something.
#[rustfmt::skip]
const INNOCENT: &[(&str, &str)] = &[
    ("src/policy/mod.rs", "//! x\n// crate::store\nfn f() { \"crate::store, dbg!\"; }"),
    ("src/policy/mod.rs", "//! x\nuse crate::journey::{self, ids};\nuse crate::clock;"),
    ("src/policy/mod.rs", "//! x\nfn f<'a>(c: char) { c == '\"' }\nconst R: &str = r#\"async\"#;"),
    ("src/store/x.rs", "//! x\nlet (due_tx, due_rx) = mpsc::channel(1);"),
    ("src/sandbox/x.rs", "//! x\nfn user_info() {}"),
    ("tests/it/x.rs", "//! x\n#[ignore = \"needs a disk that can fail\"]\nfn f() {}"),
    ("README.md", "`success`, `policy::judge`, `src/lib.rs`, `a / b`"),
];

#[test]
fn every_rule_notices_what_it_is_for() {
    let long = "//! x\n".repeat(LINES_MAX + 1);
    for (rule, path, text) in GUILTY.iter().chain(&[("length", "src/app.rs", &*long)]) {
        let found = violations(&[File::new(path, text)]);
        let noticed = found.len() == 1 && found[0].contains(&format!(": {rule}: "));
        assert!(noticed, "{rule} on trial with {text:?} found {found:?}");
    }
    for (path, text) in INNOCENT {
        assert_eq!(violations(&[File::new(path, text)]), [""; 0], "{text:?}");
    }
}

#[test]
fn every_shipped_sequence_passes_the_check() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("sequences");
    let loaded = directory::load_dir(&dir);
    assert!(
        loaded.problems.is_empty(),
        "{}",
        render_all(&loaded.problems, false)
    );
    assert!(!loaded.sequences.is_empty(), "sequences/ has none");
}

#[test]
fn every_migration_is_embedded_in_its_order() {
    let names_of = |database: &str| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(dir.join("migrations").join(database)).unwrap();
        let names = files.map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    let names = names_of("sqlite");
    assert_eq!(names, names_of("postgres"), "both databases have every one");
    let code = text_of("src/store/migrations.rs");
    let (mut last, mut last_number) = (0, 0);
    for name in &names {
        let stem = name
            .strip_suffix(".sql")
            .expect("a migration is an SQL file");
        let number: u32 = name[..4].parse().expect("begins with four digits");
        assert!(number > last_number, "{name} has the number of another");
        last_number = number;
        let embedded = code.find(&format!("file!(\"{stem}\")"));
        let embedded = embedded.unwrap_or_else(|| panic!("add {name} to Files::migrations"));
        assert!(
            embedded > last,
            "{name} is out of order in Files::migrations"
        );
        last = embedded;
    }
}

/// Blocks of `language` in the README, in their order.
fn blocks(readme: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let blocks = readme.split(&fence).skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn what_the_readme_shows_works() {
    let blocks = blocks(&text_of("README.md"), "yaml");
    let [sequence, config] = &blocks[..] else {
        panic!("the README shows a sequence and a configuration, and these: {blocks:?}");
    };
    let none = |file: &str| Err(format!("there is no {file}"));
    if let Err(problems) = parse(sequence, "README.md", &none) {
        panic!("{}", render_all(&problems, false));
    }
    let secret = |name: &str| {
        let length = if name.ends_with("AES_KEY") { 43 } else { 32 };
        Some("a".repeat(length))
    };
    match Config::from_text(config, "README.md", &secret) {
        Ok(config) => assert_eq!(config.accounts.len(), 1),
        Err(problems) => panic!("{}", render_all(&problems, false)),
    }
}

#[test]
fn the_readme_names_every_command() {
    let readme = text_of("README.md");
    let rows: Vec<_> = readme
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    for command in Cli::command().get_subcommands() {
        let name = format!("`{}`", command.get_name());
        let named = rows.iter().any(|row| {
            row.split(" | ")
                .next()
                .is_some_and(|cell| cell.contains(&name))
        });
        assert!(
            named,
            "add a row for {name} to the README's table of commands"
        );
    }
}
