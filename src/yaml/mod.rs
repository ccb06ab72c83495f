//! YAML: the one way in for files that people write, with bounds and with errors that help.
//!
//! `read` turns text into a type; what it refuses becomes a [`Problem`] with file, line, column and,
//! where one is known, the fix. Checks that need more than the shape of the file run afterwards on
//! values that remember their [`Place`], and collect into [`Problems`], so that one look at a file
//! finds as much as possible.
//!
//! Deliberately absent: anchors and aliases (they are how a small file becomes a big one), merge
//! keys, includes, several documents in one file. Nothing here opens a file.

mod problem;
mod span;
mod variables;

use std::collections::HashMap;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Error, Location};

pub use problem::{Problem, Problems, nearest, render_all};
pub use span::{parse_span, print_span};
pub use variables::read_with;

/// Longest file that is read, in bytes.
pub const FILE_MAX: usize = 256 * 1024;
/// Most values in one file.
const NODES_MAX: usize = 20_000;
/// Deepest nesting.
const DEPTH_MAX: usize = 32;
/// Most text in one file, in bytes.
const TEXT_MAX: usize = 1024 * 1024;

/// Where a value stands in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// From 1; 0 when it is not known.
    pub line: usize,
    /// From 1, in characters; 0 when it is not known.
    pub column: usize,
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

impl Place {
    /// The place of some bytes of a text; both have to be on the boundary of a character.
    pub fn of(source: &str, start: usize, end: usize) -> Self {
        let before = source.get(..start).unwrap_or(source);
        let line = before.rsplit('\n').next().unwrap_or(before);
        Self {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            start,
            end,
        }
    }
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        let number = |value: u64| usize::try_from(value).unwrap_or(0);
        let span = location.span();
        let start = number(span.byte_offset().unwrap_or(0));
        Self {
            line: number(location.line()),
            column: number(location.column()),
            start,
            end: start + number(span.byte_len().unwrap_or(0)),
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At<T> {
    pub value: T,
    pub place: Place,
}

impl<T> At<T> {
    /// The same place with another value.
    pub fn with<U>(&self, value: U) -> At<U> {
        At {
            value,
            place: self.place,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        Ok(Self {
            place: spanned.referenced.into(),
            value: spanned.value,
        })
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

/// Reads one document of at most [`FILE_MAX`] bytes.
///
/// # Errors
/// The first thing that is not YAML, breaks a bound or does not fit `T`.
pub fn read<T: DeserializeOwned>(source: &str, file: &str) -> Result<T, Box<Problem>> {
    short_enough(source, file)?;
    read_once(source, None).map_err(|error| Box::new(problem::explain(&error, source, file)))
}

fn short_enough(source: &str, file: &str) -> Result<(), Box<Problem>> {
    if source.len() <= FILE_MAX {
        return Ok(());
    }
    let message = format!(
        "this file has {} bytes, and at most {FILE_MAX} are read",
        source.len()
    );
    Err(Box::new(Problem::of_file(file, message)))
}

fn read_once<T: DeserializeOwned>(
    source: &str,
    properties: Option<HashMap<String, String>>,
) -> Result<T, Error> {
    let mut options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(FILE_MAX),
            max_events: NODES_MAX * 2,
            max_aliases: 0,
            max_anchors: 0,
            max_recorded_anchor_events: 0,
            max_recorded_anchor_bytes: 0,
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_inclusion_depth: 0,
            max_documents: 1,
            max_nodes: NODES_MAX,
            max_total_scalar_bytes: TEXT_MAX,
            max_merge_keys: 0,
            max_property_expansion_depth: 2,
            max_total_property_interpolation_work: TEXT_MAX,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    if let Some(properties) = properties {
        options = options.with_properties(properties);
    }
    serde_saphyr::from_str_with_options(source, options)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Lists = BTreeMap<String, Vec<String>>;

    /// 160 KB that another reader turned into 2 GB. Whether it is text or anchors that are over
    /// the bound does not matter: what matters is that no alias is ever followed.
    #[test]
    fn a_bomb_of_aliases_is_refused_at_its_first_anchor() {
        let bomb = format!(
            "a:\n  - &x \"{}\"\nb: [{}]\n",
            "x".repeat(100_000),
            "*x,".repeat(20_000)
        );
        assert!(bomb.len() < FILE_MAX);
        let problem = read::<Lists>(&bomb, "bomb.yaml").unwrap_err();
        assert_eq!(
            problem.message,
            "anchors and aliases (`&name`, `*name`) are not read"
        );
        assert_eq!(problem.line, 2);
        assert!(problem.excerpt.len() < 1_000);
        let laughs = "a: &a [lol]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\n";
        assert_eq!(read::<Lists>(laughs, "x.yaml").unwrap_err().line, 1);
    }

    #[test]
    fn values_that_look_like_something_else_stay_what_they_are_asked_for() {
        let read_text = |text: &str| read::<BTreeMap<String, String>>(text, "x.yaml");
        let map = read_text("a: no\nb: 010\nc: 09:00\nd: 1e999\ne: 0x1f\nf: 2026-01-01\n").unwrap();
        let values: Vec<&str> = map.values().map(String::as_str).collect();
        assert_eq!(
            values,
            ["no", "010", "09:00", "1e999", "0x1f", "2026-01-01"]
        );
        assert!(read::<BTreeMap<String, bool>>("a: no\n", "x.yaml").is_err());
        assert!(read::<BTreeMap<String, u32>>("a: 1e999\n", "x.yaml").is_err());
        assert!(read_text("a: !include other.yaml\n").is_err());
    }

    #[test]
    fn places_count_characters_and_spans_count_bytes() {
        let source = "好: 值\nbb: \"quoted\"\n";
        let map: BTreeMap<String, At<String>> = read(source, "x.yaml").unwrap();
        let place = map["好"].place;
        assert_eq!((place.line, place.column), (1, 4));
        assert_eq!(&source[place.start..place.end], "值");
        let place = map["bb"].place;
        assert_eq!(&source[place.start..place.end], "\"quoted\"");
    }

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let words = ["follow", "scan", "message"];
        assert_eq!(nearest("folow", &words), Some("follow"));
        assert_eq!(nearest("mesasge", &words), Some("message"));
        assert_eq!(nearest("SCAN", &words), Some("scan"));
        assert_eq!(nearest("unsubscribe", &words), None);
        assert_eq!(nearest("", &words), None);
        assert_eq!(nearest(&"x".repeat(100_000), &words), None);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let problem = read::<Lists>("\"\\e[31mred\": 1\n", "x.yaml").unwrap_err();
        assert!(!problem.render(false).contains('\u{1b}'));
        let problem = read::<Lists>("a: [x]\nb: \u{1b}[31m\n", "x.yaml").unwrap_err();
        assert!(!problem.render(false).contains('\u{1b}'));
    }
}
