//! Checks where rows are kept: the database, the spool beside it, and how long outcomes stay.

use std::time::Duration;

use url::Url;

use super::Database;
use super::check::{Check, DEFAULTS, pick, preset};
use super::raw::RawDatabase;
use crate::yaml::{At, parse_span};

/// What keeps outcomes without an end.
const FOREVER: &str = "forever";

/// Longest url, in bytes.
const URL_BYTES_MAX: usize = 4096;

const DAY: Duration = Duration::from_secs(86_400);

/// Outcomes of the last week are asked for: by what is told of accounts, and by reports that the
/// platform sends days later.
const KEEP_MIN: Duration = DAY.saturating_mul(7);

/// What a url of PostgreSQL may say after its question mark. Others would be ignored, with a warning
/// that shows their values.
const PARAMETERS: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

impl Check<'_> {
    pub(super) fn database(&mut self, raw: Option<&RawDatabase>) -> Option<Database> {
        let base = preset(DEFAULTS.database.as_ref());
        let url = pick(raw.and_then(|raw| raw.url.as_ref()), &base.url);
        let shared = is_shared(&url.value);
        let url = self.database_url(url);
        let spool = match raw.and_then(|raw| raw.spool.as_ref()) {
            None => Some(None),
            Some(at) if !shared => {
                self.problems.note_with(
                    at.place,
                    "SQLite needs no spool: its disk would be the same one",
                    "leave this out, or use PostgreSQL",
                );
                None
            }
            Some(at) => self.text(at, "a file", URL_BYTES_MAX).map(Some),
        };
        let events = raw.and_then(|raw| raw.spool_max.as_ref());
        let bytes = raw.and_then(|raw| raw.spool_bytes_max.as_ref());
        let spool_max = self.count(pick(events, &base.spool_max), 1, 100_000_000);
        let bytes = pick(bytes, &base.spool_bytes_max);
        let spool_bytes_max = self.count(bytes, 65_536, 1 << 40);
        let keep = raw.and_then(|raw| raw.keep_outcomes.as_ref());
        let keep_outcomes = self.keep_outcomes(pick(keep, &base.keep_outcomes));
        Some(Database {
            url: url?,
            spool: spool?.map(Into::into),
            spool_max: spool_max?,
            spool_bytes_max: spool_bytes_max?,
            keep_outcomes: keep_outcomes?,
        })
    }

    fn database_url(&mut self, at: &At<String>) -> Option<String> {
        let (scheme, path) = at.value.split_once("://").unwrap_or(("", ""));
        let result = match scheme {
            "sqlite" if path.is_empty() => Err("names no file".to_owned()),
            "sqlite" if path.contains(['?', '#']) => Err("has parameters".to_owned()),
            "sqlite" if path.len() <= URL_BYTES_MAX => Ok(at.value.clone()),
            "postgres" | "postgresql" => return self.postgres_url(at),
            // The rest of it may hold a password.
            _ => {
                self.problems.note_hidden(
                    at.place,
                    "this kind of database is not supported: SQLite and PostgreSQL are",
                    "write sqlite://dripwheel.db or postgres://user@host/database",
                );
                return None;
            }
        };
        self.problems.keep(at, result, "write sqlite:// and a path")
    }

    /// Every problem of it without the url, which may hold a password.
    fn postgres_url(&mut self, at: &At<String>) -> Option<String> {
        let parsed = Url::parse(&at.value).ok();
        let Some(url) = parsed.filter(|_| at.value.len() <= URL_BYTES_MAX) else {
            self.problems.note_hidden(
                at.place,
                "this url of PostgreSQL cannot be read",
                "write postgres://user:password@host:5432/database, with `%40` for an @ in the password",
            );
            return None;
        };
        let known = |key: &str| PARAMETERS.contains(&key) || key.starts_with("options[");
        if let Some((key, _)) = url.query_pairs().find(|(key, _)| !known(key)) {
            // The end of a password with a question mark in it would be taken for a parameter.
            let key: String = key.chars().take(2).collect();
            self.problems.note_hidden(
                at.place,
                format!("this url of PostgreSQL has a parameter `{key}…` that is not supported"),
                "take it out; with a `?` in the password, write `%3F`",
            );
            return None;
        }
        Some(at.value.clone())
    }

    fn keep_outcomes(&mut self, at: &At<String>) -> Option<Option<Duration>> {
        if at.value == FOREVER {
            return Some(None);
        }
        let parsed = parse_span(&at.value);
        let parsed = parsed.and_then(|span| match span >= KEEP_MIN {
            true => Ok(Some(span)),
            false => Err("is too short".to_owned()),
        });
        let fix = "write a time from 7d on, such as 90d, or `forever`";
        self.problems.keep(at, parsed, fix)
    }
}

/// Whether several nodes can share the database behind a url.
pub(super) fn is_shared(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}
