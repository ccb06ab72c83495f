//! The key `closed`: one word, or a list of other carriers with what each of them says.
//!
//! Shape and check stand together, since nothing else uses either. What may stand in a template's
//! fields beyond names and lengths only the platform knows: it answers 47003 to what does not fit.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Reader;
use crate::journey::message::{Form, Message, MiniProgram, Say};
use crate::journey::sequence::{Closed, ClosedThen, Fallback};
use crate::journey::template;
use crate::yaml::{At, Place, nearest};

/// Most carriers of one list.
const CARRIERS_MAX: usize = 8;
/// Most fields of a template; the platform's own have seven at most.
const FIELDS_MAX: usize = 20;
/// Longest field of a template, in characters.
const FIELD_MAX: usize = 200;
/// Longest id of a template; the platform's have 43 characters.
const TEMPLATE_MAX: usize = 64;
/// Longest name of a field.
const FIELD_NAME_MAX: usize = 32;
/// Longest path of a mini program's page.
const PATH_MAX: usize = 1024;

const WORDS: [&str; 5] = [
    "subscription_notice",
    "template",
    "mass_send",
    "hold",
    "skip",
];

/// `hold`, `skip`, or a list of carriers.
#[derive(Debug)]
pub(crate) struct RawClosed {
    place: Place,
    items: Vec<RawItem>,
    /// Whether it was written as a list.
    list: bool,
}

/// One carrier, or what happens when none can take the step.
#[derive(Debug)]
pub(crate) struct RawItem {
    word: At<String>,
    form: Option<RawForm>,
}

/// What a carrier with a template says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "form")]
pub(crate) struct RawForm {
    /// The template's id, as the platform's console shows it.
    template: At<String>,
    /// Page that a tap opens.
    url: Option<At<String>>,
    /// Mini program that a tap opens instead, where the follower's client can.
    mini_program: Option<RawMiniProgram>,
    /// The template's fields by name, such as `thing1`.
    data: At<RawData>,
}

/// A page of a mini program.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "mini_program")]
struct RawMiniProgram {
    app_id: At<String>,
    path: At<String>,
}

/// Fields in the order of the file.
#[derive(Debug)]
struct RawData(Vec<(At<String>, At<String>)>);

impl<'de> Deserialize<'de> for RawData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Body;
        impl<'de> Visitor<'de> for Body {
            type Value = RawData;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("fields such as `{ thing1: \"…\" }`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawData, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(RawData(fields))
            }
        }
        deserializer.deserialize_map(Body)
    }
}

impl JsonSchema for RawData {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "data".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The template's fields by name; `{{ … }}` in a value is filled in.",
            "type": "object",
            "minProperties": 1,
            "maxProperties": FIELDS_MAX,
            "patternProperties": { "^[A-Za-z0-9_]{1,32}$": { "type": "string" } },
            "additionalProperties": false,
        })
    }
}

/// What the reader finds under `closed`, before its place is put to it.
enum Body {
    Word(String),
    Map(RawItem),
    List(Vec<RawItem>),
}

struct BodyVisitor {
    lists: bool,
}

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`hold`, `skip`, or a list of carriers")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Body, E> {
        Ok(Body::Word(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
        let word: At<String> = map
            .next_key()?
            .ok_or_else(|| de::Error::custom("a carrier is missing here"))?;
        if !matches!(word.value.as_str(), "subscription_notice" | "template") {
            return Err(de::Error::unknown_field(
                &word.value,
                &["subscription_notice", "template"],
            ));
        }
        let form = Some(map.next_value()?);
        if map.next_key::<de::IgnoredAny>()?.is_some() {
            return Err(de::Error::custom(
                "a carrier of the list is one key only: begin the next one with `-`",
            ));
        }
        Ok(Body::Map(RawItem { word, form }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Body, A::Error> {
        if !self.lists {
            return Err(de::Error::custom("a list cannot stand in this list"));
        }
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<RawItem>()? {
            items.push(item);
        }
        Ok(Body::List(items))
    }
}

struct Outer(Body);

impl<'de> Deserialize<'de> for Outer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let body = deserializer.deserialize_any(BodyVisitor { lists: true })?;
        Ok(Self(body))
    }
}

struct Inner(Body);

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let body = deserializer.deserialize_any(BodyVisitor { lists: false })?;
        Ok(Self(body))
    }
}

fn item(body: Body, place: Place) -> RawItem {
    match body {
        Body::Word(value) => RawItem {
            word: At { value, place },
            form: None,
        },
        Body::Map(item) => item,
        // `Inner` refuses lists, and `RawClosed` takes them apart.
        Body::List(_) => RawItem {
            word: At {
                value: String::new(),
                place,
            },
            form: None,
        },
    }
}

impl<'de> Deserialize<'de> for RawItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let At { value, place } = At::<Inner>::deserialize(deserializer)?;
        Ok(item(value.0, place))
    }
}

impl<'de> Deserialize<'de> for RawClosed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let At { value, place } = At::<Outer>::deserialize(deserializer)?;
        Ok(match value.0 {
            Body::List(items) => Self {
                place,
                items,
                list: true,
            },
            one => Self {
                place,
                items: vec![item(one, place)],
                list: false,
            },
        })
    }
}

impl JsonSchema for RawClosed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "closed".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let form = generator.subschema_for::<RawForm>();
        schemars::json_schema!({
            "description": "`hold` (default) waits for the follower's next event, `skip` leaves the \
                step out; or a list of other carriers in the order in which they are tried, with \
                `hold` or `skip` at its end.",
            "anyOf": [
                { "type": "string", "enum": ["hold", "skip"] },
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": CARRIERS_MAX,
                    "items": {
                        "anyOf": [
                            { "type": "string", "enum": ["mass_send", "hold", "skip"] },
                            {
                                "type": "object",
                                "minProperties": 1,
                                "maxProperties": 1,
                                "additionalProperties": false,
                                "properties": { "subscription_notice": form, "template": form },
                            },
                        ],
                    },
                },
            ],
        })
    }
}

impl Reader<'_> {
    pub(super) fn closed(&mut self, raw: &RawClosed) -> Closed {
        let mut closed = Closed::only(ClosedThen::Hold);
        if raw.items.is_empty() {
            self.note(
                raw.place,
                "`closed` is an empty list",
                "name a carrier, or write `closed: hold`",
            );
        }
        if raw.items.len() > CARRIERS_MAX {
            let message = format!("`closed` lists {} carriers", raw.items.len());
            self.note(raw.place, message, format!("use at most {CARRIERS_MAX}"));
            return closed;
        }
        let mut ended = false;
        for item in &raw.items {
            if ended {
                self.note(
                    item.word.place,
                    "nothing is tried after `hold` or `skip`",
                    "move `hold` or `skip` to the end of the list",
                );
                break;
            }
            match (item.word.value.as_str(), &item.form) {
                ("hold", None) => ended = true,
                ("skip", None) => {
                    closed.then = ClosedThen::Skip;
                    ended = true;
                }
                ("mass_send", None) if raw.list => {
                    if closed.carriers.contains(&Fallback::MassSend) {
                        self.note(item.word.place, "`mass_send` is here twice", "keep one");
                    }
                    closed.carriers.push(Fallback::MassSend);
                }
                ("subscription_notice", Some(form)) if raw.list => {
                    let form = self.form(form).map(Fallback::SubscriptionNotice);
                    closed.carriers.extend(form);
                }
                ("template", Some(form)) if raw.list => {
                    closed
                        .carriers
                        .extend(self.form(form).map(Fallback::Template));
                }
                (word, form) => self.misplaced(&item.word, word, form.is_some(), raw.list),
            }
        }
        closed
    }

    fn misplaced(&mut self, at: &At<String>, word: &str, form: bool, list: bool) {
        if matches!(word, "subscription_notice" | "template") && !form {
            let fix = format!(
                "write `{word}: {{ template: ID, data: {{ thing1: … }} }}` as an item of a list"
            );
            self.note(at.place, format!("`{word}` does not say anything"), fix);
        } else if WORDS.contains(&word) && !list {
            let fix = format!("write `closed: [{word}, hold]`");
            self.note(at.place, format!("`{word}` stands in no list"), fix);
        } else {
            let cut: String = word.chars().take(40).collect();
            let all = WORDS.join(", ");
            let fix = match nearest(word, &WORDS) {
                Some(near) => format!("did you mean `{near}`? allowed here: {all}"),
                None => format!("allowed here: {all}"),
            };
            self.note(at.place, format!("unknown word `{cut}`"), fix);
        }
    }

    fn form(&mut self, raw: &RawForm) -> Option<Form> {
        let template =
            self.identifier(&raw.template, "is no id of a template", TEMPLATE_MAX, |b| {
                b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
            });
        let url = match &raw.url {
            Some(url) => Some(self.link(url)?),
            None => None,
        };
        let mini_program = match &raw.mini_program {
            Some(page) => {
                let app_id = self.app_id(&page.app_id);
                let path = self
                    .plain(&page.path, "the page of a mini program")
                    .and_then(|()| self.line(&page.path, "a path", PATH_MAX, false));
                Some(MiniProgram {
                    app_id: app_id?,
                    path: path?,
                })
            }
            None => None,
        };
        let data = self.fields(&raw.data);
        Some(Form {
            template: template?,
            url,
            mini_program,
            data: data?,
        })
    }

    fn fields(&mut self, raw: &At<RawData>) -> Option<BTreeMap<String, String>> {
        let count = raw.value.0.len();
        if !(1..=FIELDS_MAX).contains(&count) {
            let message = format!("this template has {count} fields");
            self.note(raw.place, message, format!("give it 1 to {FIELDS_MAX}"));
            return None;
        }
        let mut fields = BTreeMap::new();
        let mut complete = true;
        for (name, value) in &raw.value.0 {
            let name = self.identifier(name, "is no name of a field", FIELD_NAME_MAX, |b| {
                b.is_ascii_alphanumeric() || b == b'_'
            });
            let value = self.line(value, "a field", FIELD_MAX, false);
            match (name, value) {
                (Some(name), Some(value)) => drop(fields.insert(name, value)),
                _ => complete = false,
            }
        }
        complete.then_some(fields)
    }

    fn identifier(
        &mut self,
        at: &At<String>,
        refused: &str,
        most: usize,
        letter: fn(u8) -> bool,
    ) -> Option<String> {
        let text = at.value.as_str();
        let ok = (1..=most).contains(&text.len()) && text.bytes().all(letter);
        let result = ok
            .then(|| text.to_owned())
            .ok_or_else(|| refused.to_owned());
        let fix = format!("copy it from the platform's console: 1 to {most} letters and digits");
        self.problems.keep(at, result, &fix)
    }

    /// A mass send has no words of its own: the step's must fit it. `own` is where the step itself
    /// asks for it.
    pub(super) fn mass_sendable(&mut self, say: &Say, step: Place, own: Option<&RawClosed>) {
        let mut messages = std::iter::once(&say.default).chain(say.by_language.values());
        let refused = messages.find_map(|message| match message {
            Message::Text(text) if template::is_template(text) => {
                Some("a mass send says the same to everybody, and this text has `{{ … }}` in it")
            }
            Message::Text(_) | Message::Image(_) | Message::Voice(_) => None,
            _ => Some("a mass send brings texts, images and voice messages only"),
        });
        let Some(refused) = refused else { return };
        let word = own.and_then(|raw| raw.items.iter().find(|item| item.word.value == "mass_send"));
        let (place, fix) = match word {
            Some(item) => (item.word.place, "leave `mass_send` out for this step"),
            None => (
                step,
                "give this step a `closed` of its own, without `mass_send`",
            ),
        };
        self.note(place, refused, fix);
    }
}
