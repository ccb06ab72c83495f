//! The shape of a sequence file: what serde reads, and what the JSON Schema for editors is made of.
//!
//! Nothing here judges: every value keeps its place, and `parse` checks what it says.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::closed::RawClosed;
use crate::yaml::{At, nearest};

/// A sequence: messages that follow each other after an event.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "dripwheel sequence")]
pub(crate) struct RawSequence {
    /// Name of the sequence, unique in its directory: small letters, digits, `-` and `_`.
    pub sequence: At<String>,
    /// Name for people.
    pub title: Option<At<String>>,
    /// Keys of the accounts it runs on; all accounts when left out.
    pub accounts: Option<At<Vec<At<String>>>>,
    /// What enrolls a follower.
    pub trigger: RawEvent,
    /// Whether a follower may enter again: `never` (default), `always` or `after 30d`.
    pub reenter: Option<At<String>>,
    /// Events that end the passage early. An unfollow always does.
    pub exit_on: Option<Vec<RawEvent>>,
    /// What happens to somebody who followed while the server was down and is found later in the
    /// platform's list: `enroll` (default) as of the instant of the follow, or `record`.
    pub reconcile: Option<RawReconcile>,
    /// Whether clicks on the links of its messages are counted; as the account says when left out.
    pub track_links: Option<bool>,
    /// Hours of the day in which nothing is sent.
    pub quiet_hours: Option<RawQuietHours>,
    /// Zone of `at:` and of quiet hours, such as `Asia/Shanghai`; `account` (default) for the
    /// account's own.
    pub timezone: Option<At<String>>,
    /// How long after its start a step may be due; `48h` when left out.
    pub horizon: Option<At<String>>,
    /// Least time between two messages to one follower; `2s` when left out.
    pub min_gap: Option<At<String>>,
    /// Steps that many followers would get at one instant are spread over this time; `0s` when
    /// left out.
    pub spread: Option<At<String>>,
    /// How much earlier than its instant a step may be sent when the platform's grant would close
    /// before it; `0s` when left out, which is never.
    pub last_call: Option<At<String>>,
    /// For steps without their own `late`.
    pub late: Option<RawLate>,
    /// For steps without their own `closed`.
    pub closed: Option<RawClosed>,
    /// For steps without their own `on_unknown`.
    pub on_unknown: Option<RawOnUnknown>,
    /// For steps without their own `expire_after`; `48h` when left out.
    pub expire_after: Option<At<String>>,
    /// The messages, in the order in which they are sent.
    pub steps: At<Vec<At<RawStep>>>,
}

/// One message of the sequence.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "step")]
pub(crate) struct RawStep {
    /// Stable name of the step: small letters, digits, `-` and `_`. Keep it when you edit the step.
    pub id: At<String>,
    /// How long after the start it is due: `0s`, `10m`, `23h`, `1h30m`, `2d`.
    pub after: Option<At<String>>,
    /// A time of day instead of `after`.
    pub at: Option<At<RawTime>>,
    /// Condition such as `'vip' not in follower.tags`; when it does not hold, the step is skipped.
    pub when: Option<At<String>>,
    /// What it says.
    pub say: At<RawSay>,
    /// What happens when it comes much too late, as after downtime.
    pub late: Option<RawLate>,
    /// What happens when the platform grants no message: `hold` (default) waits for the follower's
    /// next event; a list names other carriers to try first.
    pub closed: Option<RawClosed>,
    /// What happens after a send whose answer was lost: `resend` (default) or `skip`.
    pub on_unknown: Option<RawOnUnknown>,
    /// How long after it is due a held step is still worth sending.
    pub expire_after: Option<At<String>>,
}

/// A time of day.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "at")]
pub(crate) struct RawTime {
    /// Days after the day of the start; 0 is the same day.
    pub day: At<u16>,
    /// Such as `"09:00"`, in the sequence's time zone.
    pub time: At<String>,
}

/// Hours of the day in which nothing is sent, but for a step `after: 0s`, which answers the
/// follower's own act.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "quiet_hours")]
pub(crate) struct RawQuietHours {
    /// First quiet minute, such as `"23:00"`.
    pub from: At<String>,
    /// First minute that is not quiet, such as `"08:00"`.
    pub to: At<String>,
    /// As the sequence's `timezone`.
    pub timezone: Option<At<String>>,
    /// What happens to a step in them: `shift` (default) sends it when they end.
    pub then: Option<RawQuiet>,
}

/// What happens to a follower who was found later.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "reconcile")]
pub(crate) enum RawReconcile {
    Enroll,
    Record,
}

/// What happens to a step in quiet hours.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "quiet_then")]
pub(crate) enum RawQuiet {
    Shift,
    Skip,
}

/// What happens to a step that comes much too late.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "late")]
pub(crate) struct RawLate {
    /// From this lateness on; `1h` when left out.
    pub after: Option<At<String>>,
    /// `send` (default), `skip`, or `shift`: sent, and the rest of the plan moves by as much.
    pub then: Option<RawLateThen>,
}

/// What happens to a late step.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "late_then")]
pub(crate) enum RawLateThen {
    Send,
    Skip,
    Shift,
}

/// What happens after a send whose answer was lost.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "on_unknown")]
pub(crate) enum RawOnUnknown {
    Resend,
    Skip,
}

/// What an event must look like; `*` stands for any run of characters.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "filter")]
pub(crate) struct RawFilter {
    /// Of `follow` and `scan`: the QR code's scene.
    pub scene: Option<At<String>>,
    /// Of `message`: the text.
    pub text: Option<At<String>>,
    /// Of `click`: the menu item's key.
    pub key: Option<At<String>>,
}

/// `follow`, or `{ follow: { scene: "spring-*" } }`. Which words there are is checked by `parse`,
/// since serde would name the place of the key before it.
#[derive(Debug)]
pub(crate) struct RawEvent {
    pub word: At<String>,
    pub filter: RawFilter,
}

impl<'de> Deserialize<'de> for RawEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let body = At::<RawEventBody>::deserialize(deserializer)?;
        Ok(match body.value {
            RawEventBody::Word(value) => Self {
                word: At {
                    value,
                    place: body.place,
                },
                filter: RawFilter::default(),
            },
            RawEventBody::Filtered(word, filter) => Self { word, filter },
        })
    }
}

enum RawEventBody {
    Word(String),
    Filtered(At<String>, RawFilter),
}

impl<'de> Deserialize<'de> for RawEventBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Body;
        impl<'de> Visitor<'de> for Body {
            type Value = RawEventBody;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event such as `follow` or `{ message: { text: \"hi*\" } }`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawEventBody, E> {
                Ok(RawEventBody::Word(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawEventBody, A::Error> {
                let word: At<String> = map
                    .next_key()?
                    .ok_or_else(|| de::Error::custom("an event is missing here"))?;
                let filter = map.next_value::<Option<RawFilter>>()?.unwrap_or_default();
                no_more(&mut map, "only one event fits here")?;
                Ok(RawEventBody::Filtered(word, filter))
            }
        }
        deserializer.deserialize_any(Body)
    }
}

/// The words for events.
pub(crate) const EVENTS: [&str; 5] = ["follow", "scan", "message", "click", "api"];

impl JsonSchema for RawEvent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "event".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let filter = generator.subschema_for::<Option<RawFilter>>();
        schemars::json_schema!({
            "description": "`follow`, or with a filter: `{ follow: { scene: \"spring-*\" } }`; of \
                            `exit_on` also `clicked('step.link')`.",
            "anyOf": [
                { "type": "string", "enum": EVENTS },
                { "type": "string", "pattern": "^clicked\\('[^']+'\\)$" },
                {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                    "additionalProperties": false,
                    "properties": {
                        "follow": filter, "scan": filter, "message": filter, "click": filter,
                        "api": filter,
                    },
                },
            ],
        })
    }
}

/// One message: its only key is its kind.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "lowercase", rename = "message")]
pub(crate) enum RawMessage {
    /// Plain text, at most 2048 bytes of UTF-8 (about 680 Chinese characters).
    Text(At<String>),
    /// A PNG, JPG or GIF of at most 10 MB: a path beside this file, or a URL.
    Image(At<String>),
    /// An AMR or MP3 of at most 2 MB and 60 seconds: a path beside this file, or a URL.
    Voice(At<String>),
    Video(RawVideo),
    News(RawNews),
    MsgMenu(RawMsgMenu),
    MiniProgramPage(RawMiniProgramPage),
    /// A published article, by its `article_id`.
    Article(At<String>),
}

/// A film.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "video")]
pub(crate) struct RawVideo {
    /// An MP4 of at most 10 MB.
    pub file: At<String>,
    /// Cover picture: a JPG of at most 64 KB.
    pub thumb: At<String>,
    pub title: At<String>,
    pub description: Option<At<String>>,
}

/// A card with a picture that opens a page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "news")]
pub(crate) struct RawNews {
    pub title: At<String>,
    pub description: Option<At<String>>,
    /// The page it opens.
    pub url: At<String>,
    /// Name of the link, for `clicked('step.name')`; its position, `1`, when left out.
    pub link: Option<At<String>>,
    /// `false` leaves the link alone where clicks are counted.
    pub track: Option<bool>,
    /// A PNG or JPG of at most 1 MB: a path beside this file, or a URL.
    pub picture: Option<At<String>>,
}

/// Text with choices to tap.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "msgmenu")]
pub(crate) struct RawMsgMenu {
    /// Above the choices.
    pub head: At<String>,
    pub items: At<Vec<RawMenuItem>>,
    /// Below the choices.
    pub tail: Option<At<String>>,
}

/// One choice.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "item")]
pub(crate) struct RawMenuItem {
    /// Comes back with the follower's tap.
    pub id: At<String>,
    pub text: At<String>,
}

/// A card that opens a mini program.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "miniprogrampage")]
pub(crate) struct RawMiniProgramPage {
    pub title: At<String>,
    /// Of a mini program that is linked to the account.
    pub app_id: At<String>,
    pub path: At<String>,
    /// A JPG of at most 64 KB.
    pub thumb: At<String>,
}

const KINDS: &[&str] = &[
    "text",
    "image",
    "voice",
    "video",
    "news",
    "msgmenu",
    "miniprogrampage",
    "article",
];

/// One message for everybody, or one for each language.
#[derive(Debug)]
pub(crate) enum RawSay {
    /// Text without a kind, which `parse` refuses.
    Bare,
    One(Box<RawMessage>),
    Languages(Vec<(At<String>, RawMessage)>),
}

impl<'de> Deserialize<'de> for RawMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Body;
        impl<'de> Visitor<'de> for Body {
            type Value = RawMessage;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message such as `{ text: \"hello\" }`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMessage, A::Error> {
                let kind: At<String> = map
                    .next_key()?
                    .ok_or_else(|| de::Error::custom("a message is missing here"))?;
                message_of(&kind.value, &mut map)
            }
        }
        deserializer.deserialize_map(Body)
    }
}

impl<'de> Deserialize<'de> for RawSay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Body;
        impl<'de> Visitor<'de> for Body {
            type Value = RawSay;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message such as `{ text: \"hello\" }`, or one for each language")
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<RawSay, E> {
                Ok(RawSay::Bare)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawSay, A::Error> {
                let mut key: Option<At<String>> = map.next_key()?;
                match &key {
                    None => return Err(de::Error::custom("a message is missing here")),
                    Some(kind) if KINDS.contains(&kind.value.as_str()) => {
                        return message_of(&kind.value, &mut map)
                            .map(|raw| RawSay::One(Box::new(raw)));
                    }
                    Some(word)
                        if !language_like(&word.value) || nearest(&word.value, KINDS).is_some() =>
                    {
                        return Err(de::Error::unknown_variant(&word.value, KINDS));
                    }
                    Some(_) => {}
                }
                let mut languages = Vec::new();
                while let Some(language) = key {
                    if KINDS.contains(&language.value.as_str()) {
                        return Err(de::Error::custom(
                            "a message stands among languages here: put it under `default:`",
                        ));
                    }
                    languages.push((language, map.next_value()?));
                    key = map.next_key()?;
                }
                Ok(RawSay::Languages(languages))
            }
        }
        deserializer.deserialize_any(Body)
    }
}

/// Whether a key can be a language: `default`, or a tag such as `zh_CN` or `en`.
pub(crate) fn language_like(key: &str) -> bool {
    let mut parts = key.split(['_', '-']);
    let first = parts.next().unwrap_or("");
    key == "default"
        || (matches!(first.len(), 2..=3)
            && first.bytes().all(|letter| letter.is_ascii_lowercase())
            && parts.all(|part| {
                matches!(part.len(), 2..=8) && part.bytes().all(|b| b.is_ascii_alphanumeric())
            }))
}

fn message_of<'de, A: MapAccess<'de>>(kind: &str, map: &mut A) -> Result<RawMessage, A::Error> {
    let message = match kind {
        "text" => RawMessage::Text(map.next_value()?),
        "image" => RawMessage::Image(map.next_value()?),
        "voice" => RawMessage::Voice(map.next_value()?),
        "video" => RawMessage::Video(map.next_value()?),
        "news" => RawMessage::News(map.next_value()?),
        "msgmenu" => RawMessage::MsgMenu(map.next_value()?),
        "miniprogrampage" => RawMessage::MiniProgramPage(map.next_value()?),
        "article" => RawMessage::Article(map.next_value()?),
        other => return Err(de::Error::unknown_variant(other, KINDS)),
    };
    no_more(
        map,
        "a message has one kind only: make this a step of its own",
    )?;
    Ok(message)
}

fn no_more<'de, A: MapAccess<'de>>(map: &mut A, otherwise: &str) -> Result<(), A::Error> {
    match map.next_key::<IgnoredAny>()? {
        None => Ok(()),
        Some(_) => Err(de::Error::custom(otherwise)),
    }
}

impl JsonSchema for RawSay {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "say".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let message = generator.subschema_for::<RawMessage>();
        schemars::json_schema!({
            "description": "One message for everybody, or one for each language and a `default`.",
            "anyOf": [
                message,
                {
                    "type": "object",
                    "required": ["default"],
                    "properties": { "default": message },
                    "patternProperties": {
                        "^[a-z]{2,3}([_-][A-Za-z0-9]{2,8})*$": message,
                    },
                    "additionalProperties": false,
                },
            ],
        })
    }
}
