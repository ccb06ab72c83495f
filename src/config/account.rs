//! Checks the accounts, and the single values that configuration is made of.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::check::{Check, DEFAULTS, pick, preset};
use super::raw::{RawAccount, RawAccountDefaults, RawConfig, RawRate, RawSecret};
use super::{Account, PlatformName, Rate, directory};
use crate::yaml::{At, parse_span, print_span};

/// Largest secret file, in bytes.
const SECRET_MAX: usize = 4096;
/// Most accounts of one server.
const ACCOUNTS_MAX: usize = 10_000;

/// What a secret must look like; the error never has the secret in it.
pub(super) type Rule<'r> = &'r dyn Fn(&str) -> Result<(), &'static str>;

impl Check<'_> {
    pub(super) fn accounts(&mut self, raw: &RawConfig) -> Vec<Account> {
        let list = raw.accounts.as_deref().unwrap_or_default();
        if let Some(beyond) = list.get(ACCOUNTS_MAX) {
            let message = format!("there are {} accounts", list.len());
            let fix = format!("use at most {ACCOUNTS_MAX} on one server");
            self.problems.note_with(beyond.place, message, fix);
            return Vec::new();
        }
        let mut accounts: Vec<Account> = Vec::new();
        for at in list {
            let Some(account) = self.account(&at.value, raw.account_defaults.as_ref()) else {
                continue;
            };
            if accounts.iter().any(|other| other.key == account.key) {
                let message = format!("the account `{}` is here twice", account.key);
                self.problems.note_with(
                    at.value.key.place,
                    message,
                    "give every account its own key",
                );
            }
            let same = |other: &Account| {
                let (one, two) = (&other.access, &account.access);
                one.platform() == two.platform() && one.id() == two.id()
            };
            if accounts.iter().any(same) {
                let key = account.access.id_key();
                let place = at.value.place_of(key).unwrap_or(at.place);
                let words = match account.access.platform() {
                    PlatformName::Wechat => "two accounts have the same app id".to_owned(),
                    _ => format!("two accounts have the same `{key}`"),
                };
                let fix = "keep one of them: a callback must belong to one account";
                self.problems.note_with(place, words, fix);
            }
            accounts.push(account);
        }
        accounts
    }

    fn account(&mut self, raw: &RawAccount, given: Option<&RawAccountDefaults>) -> Option<Account> {
        let base = preset(DEFAULTS.account_defaults.as_ref());
        let key = self.name(&raw.key);
        let name = match &raw.name {
            Some(name) => self.text(name, "a name", 64),
            None => key.clone(),
        };
        let platform = first(
            raw.platform,
            given.and_then(|given| given.platform),
            base.platform,
        );
        // Where and by which rules an account is served differs by platform: the defaults speak of
        // accounts of their own platform only.
        let here = given.filter(|given| given.platform.or(base.platform) == Some(platform));
        let access = self.access(raw, platform, given.and_then(|given| given.mode));
        let profile = raw.profile.as_ref();
        let profile = profile.or(here.and_then(|here| here.profile.as_ref()));
        let api_base = raw.api_base.as_ref();
        let api_base = api_base.or(here.and_then(|here| here.api_base.as_ref()));
        let timezone = choose(
            &raw.timezone,
            given.map(|given| &given.timezone),
            &base.timezone,
        );
        let profile = match profile {
            Some(at) => self.name(at),
            None => Some(platform.own_profile().to_owned()),
        };
        let api_base = match api_base {
            Some(at) => self.web_address(at),
            None => Some(platform.own_api_base().to_owned()),
        };
        let timezone = self.zone(timezone);
        let given_rate = given.and_then(|given| given.rate.as_ref());
        let rate = self.rate(raw.rate.as_ref(), given_rate);
        let says = |rate: &RawRate| rate.per_second.is_some();
        let said = raw.rate.iter().chain(given_rate).any(says);
        let own = platform.own_per_second().filter(|_| !said);
        let rate = rate.map(|rate| Rate {
            per_second: own.unwrap_or(rate.per_second),
            ..rate
        });
        let quota_reset = choose(
            &raw.quota_reset,
            given.map(|given| &given.quota_reset),
            &base.quota_reset,
        );
        let quota_timezone = choose(
            &raw.quota_timezone,
            given.map(|given| &given.quota_timezone),
            &base.quota_timezone,
        );
        let quota_reset = self.minute_of_day(quota_reset);
        let quota_timezone = self.zone(quota_timezone);
        let in_flight = raw
            .in_flight
            .as_ref()
            .or(given.and_then(|given| given.in_flight.as_ref()));
        let in_flight = in_flight.map(|at| self.count(at, 1, 10_000));
        Some(Account {
            key: key?,
            name: name?,
            access: access?,
            profile: profile?,
            api_base: api_base?,
            timezone: timezone?,
            passive_reply: raw
                .passive_reply
                .or(given.and_then(|given| given.passive_reply)),
            erase_on_unfollow: first(
                raw.erase_on_unfollow,
                given.and_then(|given| given.erase_on_unfollow),
                base.erase_on_unfollow,
            ),
            track_links: first(
                raw.track_links,
                given.and_then(|given| given.track_links),
                base.track_links,
            ),
            rate: rate?,
            quota_reset: quota_reset?,
            quota_timezone: quota_timezone?,
            in_flight: all(in_flight)?,
        })
    }

    pub(super) fn rate(&mut self, raw: Option<&RawRate>, given: Option<&RawRate>) -> Option<Rate> {
        let preset_rate = preset(preset(DEFAULTS.account_defaults.as_ref()).rate.as_ref());
        let mut limit = |field: fn(&RawRate) -> &Option<At<u32>>| {
            let at = raw.and_then(|raw| field(raw).as_ref());
            let at = at.or(given.and_then(|given| field(given).as_ref()));
            let at = pick(at, field(preset_rate));
            if at.value == 0 {
                let message = "a limit of 0 would send nothing";
                self.problems.note_with(
                    at.place,
                    message,
                    "use a number above 0, or pause the account",
                );
                return None;
            }
            Some(at.value)
        };
        let per_second = limit(|rate| &rate.per_second);
        let per_minute = limit(|rate| &rate.per_minute);
        let per_day = limit(|rate| &rate.per_day);
        Some(Rate {
            per_second: per_second?,
            per_minute: per_minute?,
            per_day: per_day?,
        })
    }

    pub(super) fn app_secret(&mut self, at: &At<RawSecret>) -> Option<SecretString> {
        self.secret(at, &|text| {
            ((16..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric()))
                .then_some(())
                .ok_or("an app secret has 16 to 128 letters and digits")
        })
    }

    pub(super) fn callback_token(&mut self, at: &At<RawSecret>) -> Option<SecretString> {
        self.secret(at, &|text| {
            ((3..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric()))
                .then_some(())
                .ok_or("a token has 3 to 32 letters and digits")
        })
    }

    pub(super) fn app_id(&mut self, at: &At<String>) -> Option<String> {
        let ok = at.value.strip_prefix("wx").is_some_and(|rest| {
            rest.len() == 16
                && rest
                    .bytes()
                    .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
        });
        let result = ok
            .then(|| at.value.clone())
            .ok_or_else(|| "is no app id".to_owned());
        let fix = "an app id is `wx` and 16 digits or small letters";
        self.problems.keep(at, result, fix)
    }

    pub(super) fn aes_key(&mut self, at: &At<RawSecret>) -> Option<SecretString> {
        self.secret(at, &|text| {
            (text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric()))
                .then_some(())
                .ok_or("an encoding key has exactly 43 letters and digits")
        })
    }

    /// A secret from the text or from its file, held to its rule.
    pub(super) fn secret(&mut self, at: &At<RawSecret>, rule: Rule<'_>) -> Option<SecretString> {
        let secret = match &at.value {
            RawSecret::Text(secret) => secret.clone(),
            RawSecret::File(path) => {
                let read = directory::read_text(&self.base.join(&path.value), SECRET_MAX);
                let text = self
                    .problems
                    .keep(path, read, "name a file with the secret in it")?;
                SecretString::from(text.trim())
            }
        };
        match rule(secret.expose_secret()) {
            Ok(()) => Some(secret),
            Err(why) => {
                let length = secret.expose_secret().chars().count();
                let message = format!("{why}, and this one has {length} characters");
                let fix = "copy it again, without spaces";
                self.problems.note_hidden(at.place, message, fix);
                None
            }
        }
    }

    pub(super) fn name(&mut self, at: &At<String>) -> Option<String> {
        let letter =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
        let ok = (1..=64).contains(&at.value.len()) && at.value.bytes().all(letter);
        let result = ok
            .then(|| at.value.clone())
            .ok_or_else(|| "is not a name".to_owned());
        let fix = "use 1 to 64 small letters, digits, `-` and `_`";
        self.problems.keep(at, result, fix)
    }

    pub(super) fn text(&mut self, at: &At<String>, what: &str, most: usize) -> Option<String> {
        let length = at.value.trim().chars().count();
        if (1..=most).contains(&length) {
            return Some(at.value.trim().to_owned());
        }
        let message = format!("{what} has {length} characters");
        let fix = format!("write 1 to {most} characters");
        self.problems.note_with(at.place, message, fix);
        None
    }

    pub(super) fn web_address(&mut self, at: &At<String>) -> Option<String> {
        let fix = "write one such as https://example.com";
        self.problems.keep(at, base_url(&at.value), fix)
    }

    pub(super) fn zone(&mut self, at: &At<String>) -> Option<String> {
        let known = jiff::tz::TimeZone::get(&at.value)
            .map(|_| at.value.clone())
            .map_err(|_| "is no time zone".to_owned());
        self.problems
            .keep(at, known, "use a name such as Asia/Shanghai")
    }

    /// `hh:mm` as minutes after midnight.
    fn minute_of_day(&mut self, at: &At<String>) -> Option<u16> {
        let number = |text: &str, below: u16| {
            let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse::<u16>().ok().filter(|_| digits)?;
            (number < below).then_some(number)
        };
        let minute = at
            .value
            .split_once(':')
            .and_then(|(hour, minute)| Some(number(hour, 24)? * 60 + number(minute, 60)?));
        let minute = minute.ok_or_else(|| "is no time of day".to_owned());
        self.problems
            .keep(at, minute, "write one such as \"00:00\"")
    }

    pub(super) fn count(&mut self, at: &At<usize>, least: usize, most: usize) -> Option<usize> {
        if (least..=most).contains(&at.value) {
            return Some(at.value);
        }
        let message = format!("this number has to be from {least} to {most}");
        self.problems.note(at.place, message);
        None
    }

    pub(super) fn span(
        &mut self,
        at: &At<String>,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        let fix = format!(
            "write a time from {} to {}",
            print_span(least),
            print_span(most)
        );
        let parsed = parse_span(&at.value).and_then(|span| {
            (least <= span && span <= most)
                .then_some(span)
                .ok_or_else(|| "is too short or too long".to_owned())
        });
        self.problems.keep(at, parsed, &fix)
    }
}

fn base_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|_| "is no web address".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("does not begin with https:// or http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name in it".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has parameters in it".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("has no host".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// The first value that there is; the last one is the default's.
pub(super) fn first<T>(own: Option<T>, given: Option<T>, base: Option<T>) -> T {
    preset(own.or(given).or(base))
}

pub(super) fn choose<'v>(
    own: &'v Option<At<String>>,
    given: Option<&'v Option<At<String>>>,
    base: &'v Option<At<String>>,
) -> &'v At<String> {
    pick(own.as_ref().or(given.and_then(Option::as_ref)), base)
}

/// Turns "given but refused" into a refusal, and "not given" into nothing.
pub(super) fn all<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(inner) => inner.map(Some),
    }
}
