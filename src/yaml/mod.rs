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

use std::collections::HashMap;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Error, Location};

pub use problem::{Problem, Problems, nearest, render_all};
pub use span::{parse_span, print_span};

/// Longest file that is read, in bytes.
pub const FILE_MAX: usize = 256 * 1024;
/// Most values in one file.
const NODES_MAX: usize = 20_000;
/// Deepest nesting.
const DEPTH_MAX: usize = 32;
/// Most text in one file, in bytes.
const TEXT_MAX: usize = 1024 * 1024;
/// Most `${NAME}`s of one file that are replaced, and most that one error names.
const VARIABLES_MAX: usize = 1_000;
const MISSING_MAX: usize = 50;

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

/// Like [`read`], with every `${NAME}` in a value replaced by what `env` has under that name.
///
/// # Errors
/// As `read`; or every name that `env` does not have. No error shows a replaced value.
pub fn read_with<T: DeserializeOwned>(
    source: &str,
    file: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<T, Vec<Problem>> {
    short_enough(source, file).map_err(|problem| vec![*problem])?;
    let mut properties: HashMap<String, String> = source
        .split("${")
        .skip(1)
        .take(VARIABLES_MAX)
        .filter_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
            Some((rest[..end].to_owned(), env(&rest[..end])?))
        })
        .collect();
    let mut missing: Vec<Problem> = Vec::new();
    loop {
        let error = match read_once(source, Some(properties.clone())) {
            Ok(value) if missing.is_empty() => return Ok(value),
            Ok(_) => return Err(missing),
            Err(error) => error,
        };
        match error.without_snippet() {
            // Something stands in for it from here on, so that the next one is found as well.
            Error::UnresolvedProperty { name, .. } if missing.len() < MISSING_MAX => {
                missing.push(problem::explain(&error, source, file));
                properties.insert(name.clone(), "unset".to_owned());
            }
            _ if missing.is_empty() => return Err(vec![problem::explain(&error, source, file)]),
            _ => return Err(missing),
        }
    }
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
