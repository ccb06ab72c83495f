//! `${NAME}` in values, from the environment.
//!
//! A variable replaces a value or a part of it, never structure: what it holds is not read as YAML.
//! YAML has no braces inside `{ … }` and readers differ on quotes, so a variable stands in a value
//! without quotes, on a line of its own; anywhere else it is refused rather than taken for text.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_saphyr::Error;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

use super::{Place, Problem, problem, read_once, short_enough};

/// Most `${NAME}`s of one file that are replaced, and most that one error names.
const VARIABLES_MAX: usize = 1_000;
const MISSING_MAX: usize = 50;

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
            Ok(value) => {
                missing.extend(quoted(source, file));
                return if missing.is_empty() {
                    Ok(value)
                } else {
                    Err(missing)
                };
            }
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

/// Every quoted value that has a variable in it.
fn quoted(source: &str, file: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    if !source.contains("${") {
        return found;
    }
    // Whoever calls has read the file within its bounds already.
    for (event, span) in Parser::new_from_str(source).map_while(Result::ok) {
        let Event::Scalar(text, style, ..) = event else {
            continue;
        };
        if style == ScalarStyle::Plain || !text.contains("${") {
            continue;
        }
        let bytes = span.byte_range().unwrap_or(0..0);
        let place = Place::of(source, bytes.start, bytes.end);
        let message = "a variable in quotes is not replaced";
        found.push(
            Problem::new(source, file, place, message)
                .fix("write the value without quotes, on a line of its own"),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Texts = BTreeMap<String, String>;

    fn env(name: &str) -> Option<String> {
        (name == "A").then(|| "1: [x".to_owned())
    }

    fn places(source: &str) -> Vec<String> {
        read_with::<Texts>(source, "x.yaml", &env)
            .expect_err(source)
            .iter()
            .map(|problem| format!("{}:{} {}", problem.line, problem.column, problem.message))
            .collect()
    }

    #[test]
    fn a_variable_is_a_value_whatever_yaml_would_make_of_it() {
        let source = "# ${COMMENT}\na: ${A}\nb: x ${A}\nc: ${D:-other}\nd: $A\n";
        let map: Texts = read_with(source, "x.yaml", &env).unwrap();
        let values: Vec<&str> = map.values().map(String::as_str).collect();
        assert_eq!(values, ["1: [x", "x 1: [x", "other", "$A"]);
    }

    #[test]
    fn all_variables_that_are_not_set_are_named() {
        assert_eq!(
            places("a: ${A}\nb: ${B}\nc: x ${C}\n"),
            [
                "2:4 the environment variable `B` is not set",
                "3:4 the environment variable `C` is not set",
            ]
        );
    }

    #[test]
    fn a_variable_in_quotes_or_braces_is_refused() {
        assert_eq!(
            places("a: \"${A}\"\nb: '${A}'\nc: |\n  ${A}\n"),
            [
                "1:4 a variable in quotes is not replaced",
                "2:4 a variable in quotes is not replaced",
                "4:3 a variable in quotes is not replaced",
            ]
        );
        let problems = read_with::<BTreeMap<String, Texts>>("a: { b: ${A} }\n", "x.yaml", &env);
        let problem = &problems.unwrap_err()[0];
        assert!(
            problem
                .fix
                .as_deref()
                .is_some_and(|fix| fix.contains("line of its own"))
        );
    }
}
