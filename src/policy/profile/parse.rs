//! Reads a profile from its YAML, with the place and the mend of everything that is wrong with it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Carriers, Combine, GrantRule, Interface, MassSend, PassiveReply, Profile, Source};
use crate::policy::grant::{Kind, Opener};
use crate::yaml::{self, At, Problem, Problems, nearest, parse_span, print_span};

/// Longest window: platforms forget within days, and a month is more than any of them grants.
const LASTS_MAX: Duration = Duration::from_secs(31 * 86_400);
/// Most messages of one grant.
const QUOTA_MAX: u16 = 10_000;
/// Longest wait for a mass send's company.
const GATHER_MAX: Duration = Duration::from_secs(86_400);
/// Most rules and codes of one profile.
const LIST_MAX: usize = 32;

/// The rules of one platform.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "dripwheel profile")]
struct RawProfile {
    /// Name of the profile: small letters, digits, `-` and `_`. The name of a shipped profile goes
    /// before that one.
    profile: At<String>,
    /// One line for people.
    title: At<String>,
    /// How grants of different kinds go together: `side_by_side` or `widest` (default), one window.
    combine: Option<Combine>,
    /// What an event permits; an empty list for a platform without any such window.
    grants: At<Vec<RawRule>>,
    /// Codes by which the platform says that the count, not the time, is used up.
    spent_codes: Option<At<Vec<i64>>>,
    /// What the platform carries messages by; what is left out it does not have.
    carriers: RawCarriers,
    /// Who is served first when a follower's quota is short.
    priority: Option<At<Vec<Source>>>,
}

/// These events open that grant.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "grant")]
struct RawRule {
    /// `act` or `message`.
    kind: At<String>,
    /// `followed`, `scanned`, `clicked`, `message`.
    opened_by: At<Vec<At<String>>>,
    /// Messages that it allows.
    quota: At<u16>,
    /// From the instant of the event.
    lasts: At<String>,
    /// How long before the end nothing is sent any more; `0s` when left out.
    margin: Option<At<String>>,
}

/// The platform's carriers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "carriers")]
struct RawCarriers {
    customer_message: Option<RawInterface>,
    passive_reply: Option<RawPassiveReply>,
    subscription_notice: Option<RawInterface>,
    template: Option<RawInterface>,
    mass_send: Option<RawMassSend>,
}

/// The limits of one interface.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "interface")]
struct RawInterface {
    per_day: Option<At<u32>>,
    per_minute: Option<At<u32>>,
    /// How long the platform remembers our id of a message.
    once_within: Option<At<String>>,
    /// Longest text, in bytes of UTF-8.
    text_max: Option<At<usize>>,
}

/// The answer to the follower's own event.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "passive_reply")]
struct RawPassiveReply {
    /// From the callback's arrival.
    within: At<String>,
    /// `nothing` (default), or `grant` where the platform counts it.
    spends: Option<RawSpends>,
    /// Whether accounts use it unless they say otherwise.
    by_default: bool,
    /// Longest text, in bytes of UTF-8.
    text_max: Option<At<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "spends")]
enum RawSpends {
    Nothing,
    Grant,
}

/// One call for many followers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "mass_send")]
struct RawMassSend {
    /// Messages that one follower takes in one calendar month.
    per_month: At<u16>,
    /// Followers in one call.
    chunk: RawChunk,
    /// Steps wait for the next instant that is a multiple of this.
    gather: At<String>,
    per_day: Option<At<u32>>,
    per_minute: Option<At<u32>>,
    /// How long the platform remembers our id of a message.
    once_within: Option<At<String>>,
    /// Longest text, in bytes of UTF-8.
    text_max: Option<At<usize>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "chunk")]
struct RawChunk {
    least: At<usize>,
    most: At<usize>,
}

/// Reads one profile; `file` is only for messages.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file; never an empty list.
pub fn parse(source: &str, file: &str) -> Result<Profile, Vec<Problem>> {
    let raw: RawProfile = yaml::read(source, file).map_err(|problem| vec![*problem])?;
    let mut reader = Reader(Problems::new(source, file));
    match reader.profile(&raw) {
        Some(profile) if reader.0.is_empty() => Ok(profile),
        _ => Err(reader.0.into_vec()),
    }
}

/// The JSON Schema of profile files, for editors.
pub fn profile_schema() -> serde_json::Value {
    schemars::generate::SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<RawProfile>()
        .to_value()
}

struct Reader<'a>(Problems<'a>);

impl Reader<'_> {
    fn profile(&mut self, raw: &RawProfile) -> Option<Profile> {
        let letter =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
        let name = raw.profile.value.as_str();
        let ok = (1..=64).contains(&name.len()) && name.bytes().all(letter);
        let name = self.0.keep(
            &raw.profile,
            ok.then(|| name.to_owned())
                .ok_or_else(|| "is not a name".to_owned()),
            "use 1 to 64 small letters, digits, `-` and `_`",
        );
        let length = raw.title.value.trim().chars().count();
        if !(1..=200).contains(&length) {
            let message = format!("`title` has {length} characters");
            self.0
                .note_with(raw.title.place, message, "write 1 to 200 characters");
        }
        if raw.grants.value.len() > LIST_MAX {
            let message = format!("there are {} grants", raw.grants.value.len());
            let fix = format!("use at most {LIST_MAX}");
            self.0.note_with(raw.grants.place, message, fix);
            return None;
        }
        let rules = raw.grants.value.iter().map(|rule| self.rule(rule));
        let grants: Option<Vec<_>> = rules.collect::<Vec<_>>().into_iter().collect();
        let codes = raw.spent_codes.as_ref();
        if let Some(codes) = codes.filter(|codes| codes.value.len() > LIST_MAX) {
            let fix = format!("use at most {LIST_MAX}");
            self.0.note_with(codes.place, "too many codes", fix);
        }
        let carriers = self.carriers(&raw.carriers);
        Some(Profile {
            name: name?,
            title: raw.title.value.trim().to_owned(),
            grants: grants?,
            combine: raw.combine.unwrap_or(Combine::Widest),
            spent_codes: codes.map_or_else(Vec::new, |codes| codes.value.clone()),
            carriers: carriers?,
            priority: self.priority(raw.priority.as_ref()),
        })
    }

    fn rule(&mut self, raw: &RawRule) -> Option<GrantRule> {
        let kind = match raw.kind.value.as_str() {
            "act" => Some(Kind::Act),
            "message" => Some(Kind::Message),
            _ => {
                let refused = Err("is no kind of grant".to_owned());
                self.0.keep(&raw.kind, refused, "use act or message")
            }
        };
        let openers = Opener::ALL.map(Opener::word);
        let allowed = &openers[1..];
        let mut opened_by = Vec::new();
        for at in &raw.opened_by.value {
            match Opener::named(&at.value) {
                Some(opener) if opened_by.contains(&opener) => {
                    let message = format!("`{}` is here twice", at.value);
                    self.0.note_with(at.place, message, "keep one of them");
                }
                Some(opener) => opened_by.push(opener),
                None => {
                    let list = allowed.join(", ");
                    let fix = match nearest(&at.value, allowed) {
                        Some(near) => format!("did you mean `{near}`? allowed here: {list}"),
                        None => format!("allowed here: {list}"),
                    };
                    let refused = Err("opens no grant".to_owned());
                    self.0.keep::<()>(at, refused, &fix);
                }
            }
        }
        if raw.opened_by.value.is_empty() {
            let fix = format!("name at least one of {}", allowed.join(", "));
            self.0
                .note_with(raw.opened_by.place, "nothing opens this grant", fix);
        }
        if !(1..=QUOTA_MAX).contains(&raw.quota.value) {
            let fix = format!("use a number from 1 to {QUOTA_MAX}");
            self.0
                .note_with(raw.quota.place, "no such quota can be", fix);
        }
        let lasts = self.span(&raw.lasts, Duration::from_secs(1), LASTS_MAX)?;
        let margin = match &raw.margin {
            Some(at) => {
                let most = lasts.saturating_sub(Duration::from_millis(1));
                self.span(at, Duration::ZERO, most)?
            }
            None => Duration::ZERO,
        };
        Some(GrantRule {
            kind: kind?,
            opened_by,
            quota: raw.quota.value,
            lasts,
            margin,
        })
    }

    fn carriers(&mut self, raw: &RawCarriers) -> Option<Carriers> {
        let customer_message = raw.customer_message.as_ref().map(|one| self.interface(one));
        let notice = raw.subscription_notice.as_ref();
        let subscription_notice = notice.map(|one| self.interface(one));
        let template = raw.template.as_ref().map(|one| self.interface(one));
        let passive_reply = match &raw.passive_reply {
            Some(one) => Some(PassiveReply {
                // The platform itself gives up after five seconds; a minute serves any other.
                within: self.span(&one.within, millis(100), Duration::from_secs(60))?,
                spends_grant: one.spends == Some(RawSpends::Grant),
                by_default: one.by_default,
                text_max: self.text_max(one.text_max.as_ref()),
            }),
            None => None,
        };
        let mass_send = match &raw.mass_send {
            Some(one) => Some(self.mass_send(one)?),
            None => None,
        };
        Some(Carriers {
            customer_message,
            passive_reply,
            subscription_notice,
            template,
            mass_send,
        })
    }

    fn interface(&mut self, raw: &RawInterface) -> Interface {
        Interface {
            per_day: self.limit(raw.per_day.as_ref()),
            per_minute: self.limit(raw.per_minute.as_ref()),
            once_within: self.once(raw.once_within.as_ref()),
            text_max: self.text_max(raw.text_max.as_ref()),
        }
    }

    fn mass_send(&mut self, raw: &RawMassSend) -> Option<MassSend> {
        let (least, most) = (raw.chunk.least.value, raw.chunk.most.value);
        if least == 0 || least > most || most > 1_000_000 {
            self.0.note_with(
                raw.chunk.least.place,
                format!("no call takes {least} to {most} followers"),
                "give `least` from 1 up, and `most` from there to 1000000",
            );
        }
        if raw.per_month.value == 0 {
            let fix = "leave `mass_send` out if the platform has none";
            self.0
                .note_with(raw.per_month.place, "a month of 0 messages sends none", fix);
        }
        let interface = Interface {
            per_day: self.limit(raw.per_day.as_ref()),
            per_minute: self.limit(raw.per_minute.as_ref()),
            once_within: self.once(raw.once_within.as_ref()),
            text_max: self.text_max(raw.text_max.as_ref()),
        };
        Some(MassSend {
            per_month: raw.per_month.value,
            chunk_least: least,
            chunk_most: most,
            gather: self.span(&raw.gather, Duration::from_secs(1), GATHER_MAX)?,
            interface,
        })
    }

    fn limit(&mut self, at: Option<&At<u32>>) -> Option<u32> {
        let at = at?;
        if at.value == 0 {
            let fix = "leave it out for no limit";
            self.0
                .note_with(at.place, "a limit of 0 would send nothing", fix);
        }
        Some(at.value)
    }

    fn text_max(&mut self, at: Option<&At<usize>>) -> Option<usize> {
        let at = at?;
        if !(1..=1_048_576).contains(&at.value) {
            let fix = "use a number of bytes from 1 to 1048576";
            self.0.note_with(at.place, "no text has such a length", fix);
        }
        Some(at.value)
    }

    fn once(&mut self, at: Option<&At<String>>) -> Option<Duration> {
        self.span(at?, Duration::from_secs(1), LASTS_MAX)
    }

    fn priority(&mut self, raw: Option<&At<Vec<Source>>>) -> Vec<Source> {
        use Source::{Broadcast, Drip, Operator, PassiveReply};
        let Some(at) = raw else {
            return vec![PassiveReply, Drip, Broadcast, Operator];
        };
        let mut seen: Vec<Source> = Vec::new();
        for source in &at.value {
            if seen.contains(source) {
                self.0
                    .note_with(at.place, "a source is here twice", "keep one of them");
            }
            seen.push(*source);
        }
        seen
    }

    fn span(&mut self, at: &At<String>, least: Duration, most: Duration) -> Option<Duration> {
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
        self.0.keep(at, parsed, &fix)
    }
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "\
profile: ours
title: Ours
combine: side_by_side
grants:
  - { kind: act, opened_by: [followed], quota: 3, lasts: 1m, margin: 5s }
spent_codes: [45047]
carriers:
  customer_message: { per_day: 5 }
  passive_reply: { within: 4s, spends: grant, by_default: true }
  mass_send: { per_month: 4, chunk: { least: 2, most: 9 }, gather: 5m }
priority: [operator, drip]
";

    /// Checks the one problem of a change; it stands where `word` does.
    fn refused(from: &str, to: &str, word: &str, message: &str, fix: &str) {
        let text = OURS.replacen(from, to, 1);
        let start = text.find(to).expect("is there") + to.find(word).expect("is in it");
        let place = yaml::Place::of(&text, start, start + word.len());
        let place = format!("{}:{}", place.line, place.column);
        let problems = parse(&text, "ours.yaml").expect_err(to);
        assert_eq!(problems.len(), 1, "{to}: {problems:#?}");
        let one = &problems[0];
        assert_eq!(format!("{}:{}", one.line, one.column), place, "{one}");
        assert!(one.message.contains(message), "{one}");
        assert!(one.fix.as_deref().unwrap_or("-").contains(fix), "{one}");
    }

    #[test]
    fn a_profile_is_read_as_it_is_written() {
        let ours = parse(OURS, "ours.yaml").expect("is right");
        assert_eq!(ours.name, "ours");
        assert_eq!(ours.combine, Combine::SideBySide);
        assert_eq!(ours.grants[0].opened_by, [Opener::Followed]);
        assert_eq!(ours.grants[0].margin, Duration::from_secs(5));
        assert!(
            ours.carriers
                .passive_reply
                .is_some_and(|one| one.spends_grant)
        );
        assert_eq!(ours.carriers.template, None);
        assert_eq!(ours.priority, [Source::Operator, Source::Drip]);
        let plain = "profile: line\ntitle: LINE\ngrants: []\ncarriers: { customer_message: {} }\n";
        let plain = parse(plain, "line.yaml").expect("has no window");
        assert!(plain.grants.is_empty() && plain.priority.len() == 4);
    }

    #[test]
    fn whatever_is_wrong_is_named_with_its_place_and_its_mend() {
        refused(
            "profile: ours",
            "profile: Ours",
            "Ours",
            "is not a name",
            "small letters",
        );
        refused("title: Ours", "title: \"\"", "\"\"", "0 characters", "200");
        refused(
            "side_by_side",
            "widdest",
            "widdest",
            "unknown word",
            "widest",
        );
        refused("kind: act", "kind: acts", "acts", "no kind", "message");
        refused(
            "[followed]",
            "[folowed]",
            "folowed",
            "opens no grant",
            "`followed`",
        );
        refused("[followed]", "[]", "[]", "nothing opens", "at least one");
        refused("quota: 3", "quota: 0", "0", "no such quota", "1 to 10000");
        refused("lasts: 1m", "lasts: 60", "60", "no unit", "from 1s");
        refused("margin: 5s", "margin: 1m", "1m", "too long", "59s999ms");
        refused(
            "per_day: 5",
            "per_day: 0",
            "0",
            "send nothing",
            "leave it out",
        );
        refused("within: 4s", "within: 2m", "2m", "too long", "1m");
        refused("least: 2", "least: 10", "10", "10 to 9", "`most`");
        refused("per_month: 4", "per_month: 0", "0", "sends none", "leave");
        refused("gather: 5m", "gather: 2d", "2d", "too long", "1d");
        refused(
            "[operator, drip]",
            "[drip, drip]",
            "[drip",
            "twice",
            "keep one",
        );
        refused(
            "priority:",
            "prioritys:",
            "prioritys",
            "unknown key",
            "`priority`",
        );
    }

    #[test]
    fn the_schema_tells_what_every_key_is_for() {
        let schema = profile_schema();
        let properties = schema["properties"].as_object().expect("has keys");
        assert_eq!(properties.len(), 7);
        for (key, value) in properties {
            let told = value["description"].is_string() || key == "carriers";
            assert!(told, "{key}: {value}");
        }
        assert!(!schema.to_string().contains("Raw"));
    }
}
