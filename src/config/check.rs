//! Checks what a configuration says, and lays it over the defaults.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::raw::{RawConfig, RawSender, RawServer, RawWheel};
use super::{
    ApiKey, Config, Console, DEFAULT_YAML, ProfileFiles, Sender, Sequences, Server, Wheel,
};
use crate::yaml::{self, At, Problem, Problems};

/// Keys whose values no message may show.
const SECRET_KEYS: [&str; 6] = [
    "secret",
    "secret_previous",
    "app_secret",
    "token",
    "encoding_aes_key",
    "encoding_aes_key_previous",
];

pub(super) static DEFAULTS: LazyLock<RawConfig> = LazyLock::new(|| {
    yaml::read(DEFAULT_YAML, "default.yaml").expect("the embedded defaults are tested to be YAML")
});

/// The default of a key that `default.yaml` has.
pub(super) fn preset<T>(value: Option<T>) -> T {
    value.expect("default.yaml is tested to have every key that needs a default")
}

pub(super) fn config(
    text: &str,
    file: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Vec<Problem>> {
    let raw = yaml::read_with(text, file, env)
        .map_err(|problems| problems.into_iter().map(redacted).collect::<Vec<_>>())?;
    let mut check = Check {
        problems: Problems::new(text, file),
        base: Path::new(file).parent().unwrap_or(Path::new("")),
    };
    let config = check.config(&raw);
    match config {
        Some(config) if check.problems.is_empty() => Ok(config),
        _ => Err(check
            .problems
            .into_vec()
            .into_iter()
            .map(redacted)
            .collect()),
    }
}

/// The problem without a secret that may stand on its line.
fn redacted(mut problem: Problem) -> Problem {
    let excerpt = problem.excerpt.as_str();
    let line = excerpt.trim_start().trim_start_matches("- ");
    let key_first = line
        .split_once(':')
        .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    let secret = SECRET_KEYS
        .iter()
        .flat_map(|key| excerpt.match_indices(key).map(|(at, _)| at + key.len()))
        .filter(|end| {
            let rest = excerpt[*end..].trim_start_matches(['"', '\'']);
            rest.trim_start().starts_with(':')
        })
        .min();
    if !key_first {
        // The middle of a text of several lines: there is no telling whose.
        problem.excerpt.clear();
    } else if let Some(end) = secret {
        problem.excerpt.truncate(end);
        problem.excerpt.push_str(": …");
        let room = (problem.excerpt.chars().count() + 1).saturating_sub(problem.column);
        problem.width = problem.width.min(room.max(1));
    } else if let Some(start) = problem.excerpt.find("postgres") {
        // What follows may be a url with a password in it.
        problem.excerpt.truncate(start);
        problem.excerpt.push('…');
        let room = (problem.excerpt.chars().count() + 1).saturating_sub(problem.column);
        problem.width = problem.width.min(room.max(1));
    }
    problem
}

pub(super) struct Check<'a> {
    pub(super) problems: Problems<'a>,
    /// Where relative paths of secret files start.
    pub(super) base: &'a Path,
}

impl Check<'_> {
    fn config(&mut self, raw: &RawConfig) -> Option<Config> {
        let server = self.server(raw.server.as_ref());
        let database = self.database(raw.database.as_ref());
        let preset_dir = &preset(DEFAULTS.sequences.as_ref()).dir;
        let dir = raw.sequences.as_ref().and_then(|raw| raw.dir.as_ref());
        let dir = self.text(
            dir.unwrap_or(preset(preset_dir.as_ref())),
            "a directory",
            4096,
        );
        let own = raw.profiles.as_ref().and_then(|raw| raw.dir.as_ref());
        let profiles = ProfileFiles {
            dir: match own {
                Some(dir) => Some(self.text(dir, "a directory", 4096)?.into()),
                None => None,
            },
        };
        let accounts = self.accounts(raw);
        let public_url = server.as_ref().is_some_and(|one| one.public_url.is_some());
        let components = self.components(raw, &accounts, public_url);
        let wheel = self.wheel(raw.wheel.as_ref());
        let sender = self.sender(raw.sender.as_ref());
        let reconcile = self.reconcile(raw.reconcile.as_ref());
        let node = self.node(raw.node.as_ref(), database.as_ref(), sender.as_ref());
        let alerts = raw.alerts.as_ref().map(|raw| self.alerts(raw));
        Some(Config {
            server: server?,
            database: database?,
            node: node?,
            sequences: Sequences { dir: dir?.into() },
            profiles,
            accounts,
            components,
            wheel: wheel?,
            sender: sender?,
            reconcile: reconcile?,
            alerts: match alerts {
                Some(alerts) => Some(alerts?),
                None => None,
            },
        })
    }

    fn server(&mut self, raw: Option<&RawServer>) -> Option<Server> {
        let base = preset(DEFAULTS.server.as_ref());
        let at = pick(raw.and_then(|raw| raw.listen.as_ref()), &base.listen);
        let parsed = at
            .value
            .parse::<SocketAddr>()
            .map_err(|_| "is no address and port".to_owned());
        let listen =
            self.problems
                .keep(at, parsed, "write one such as 127.0.0.1:8080 or [::1]:8080");
        let console = pick(raw.and_then(|raw| raw.console.as_ref()), &base.console);
        if console.value == Console::Open && listen.is_some_and(|at| !at.ip().is_loopback()) {
            self.problems.note_with(
                console.place,
                "an open console would be open to the network",
                "set `console: key`, or listen on 127.0.0.1",
            );
        }
        let public_url = match raw.and_then(|raw| raw.public_url.as_ref()) {
            Some(at) => Some(self.web_address(at)?),
            None => None,
        };
        let body = raw.and_then(|raw| raw.callback_body_max.as_ref());
        let callback_body_max = self.count(pick(body, &base.callback_body_max), 1_024, 1_048_576);
        let api_keys = self.api_keys(raw);
        Some(Server {
            listen: listen?,
            console: console.value,
            api_keys,
            public_url,
            callback_body_max: callback_body_max?,
        })
    }

    fn api_keys(&mut self, raw: Option<&RawServer>) -> Vec<ApiKey> {
        let mut keys: Vec<ApiKey> = Vec::new();
        for raw in raw
            .and_then(|raw| raw.api_keys.as_ref())
            .into_iter()
            .flatten()
        {
            let name = self.name(&raw.name);
            let secret = self.secret(&raw.secret, &|text| {
                let ok =
                    (16..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
                ok.then_some(())
                    .ok_or("an API key has 16 to 256 visible ASCII characters")
            });
            if raw.scopes.value.is_empty() {
                self.problems.note_with(
                    raw.scopes.place,
                    "this key may do nothing",
                    "write `scopes: [read]` or `scopes: [read, write]`",
                );
            }
            if let (Some(name), Some(secret)) = (name, secret) {
                if keys.iter().any(|key| key.name == name) {
                    let message = format!("the API key `{name}` is here twice");
                    self.problems
                        .note_with(raw.name.place, message, "give every key its own name");
                }
                if keys
                    .iter()
                    .any(|key| key.secret.expose_secret() == secret.expose_secret())
                {
                    self.problems.note_with(
                        raw.secret.place,
                        "two API keys have the same secret",
                        "give every key its own secret",
                    );
                }
                let scopes = raw.scopes.value.clone();
                keys.push(ApiKey {
                    name,
                    secret,
                    scopes,
                });
            }
        }
        keys
    }

    fn wheel(&mut self, raw: Option<&RawWheel>) -> Option<Wheel> {
        let base = preset(DEFAULTS.wheel.as_ref());
        let given = |pick: fn(&RawWheel) -> Option<&At<usize>>| raw.and_then(pick);
        let ring = pick(given(|raw| raw.ring_entries.as_ref()), &base.ring_entries);
        let promote = pick(given(|raw| raw.promote_max.as_ref()), &base.promote_max);
        let lead = pick(raw.and_then(|raw| raw.lead.as_ref()), &base.lead);
        let sweep = pick(
            raw.and_then(|raw| raw.sweep_every.as_ref()),
            &base.sweep_every,
        );
        let ring_entries = self.count(ring, 1_024, 67_108_864);
        let promote_max = self.count(promote, 1, 1_000_000);
        let lead = self.span(lead, millis(0), secs(60));
        let sweep_every = self.span(sweep, secs(1), secs(3_600));
        Some(Wheel {
            ring_entries: ring_entries?,
            lead: lead?,
            sweep_every: sweep_every?,
            promote_max: promote_max?,
        })
    }

    fn sender(&mut self, raw: Option<&RawSender>) -> Option<Sender> {
        let base = preset(DEFAULTS.sender.as_ref());
        let all = pick(raw.and_then(|raw| raw.in_flight.as_ref()), &base.in_flight);
        let one = pick(
            raw.and_then(|raw| raw.per_account_in_flight.as_ref()),
            &base.per_account_in_flight,
        );
        let attempt = pick(
            raw.and_then(|raw| raw.attempt_timeout.as_ref()),
            &base.attempt_timeout,
        );
        let connect = pick(
            raw.and_then(|raw| raw.connect_timeout.as_ref()),
            &base.connect_timeout,
        );
        let ask_quota = pick(
            raw.and_then(|raw| raw.ask_quota_every.as_ref()),
            &base.ask_quota_every,
        );
        let ask_quota_every = self.span(ask_quota, secs(60), secs(86_400));
        let in_flight = self.count(all, 1, 10_000);
        let per_account_in_flight = self.count(one, 1, 10_000);
        let attempt_timeout = self.span(attempt, millis(100), secs(120));
        let connect_timeout = self.span(connect, millis(100), secs(120));
        if let (Some(whole), Some(part)) = (attempt_timeout, connect_timeout)
            && part > whole
        {
            let message = "connecting may take longer than the whole attempt";
            self.problems
                .note_with(connect.place, message, "make `connect_timeout` shorter");
        }
        Some(Sender {
            in_flight: in_flight?,
            per_account_in_flight: per_account_in_flight?,
            attempt_timeout: attempt_timeout?,
            connect_timeout: connect_timeout?,
            ask_quota_every: ask_quota_every?,
        })
    }
}

/// The value of the file, else the default's.
pub(super) fn pick<'v, T>(given: Option<&'v At<T>>, preset: &'v Option<At<T>>) -> &'v At<T> {
    given.unwrap_or_else(|| self::preset(preset.as_ref()))
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
