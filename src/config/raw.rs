//! The shape of `dripwheel.yaml`: every key may be left out, and `default.yaml` then has it.

use std::fmt;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::config::{CallbackMode, Console, PlatformName, Scope};
use crate::yaml::At;

/// Settings of one dripwheel server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "dripwheel.yaml")]
pub(super) struct RawConfig {
    pub server: Option<RawServer>,
    pub database: Option<RawDatabase>,
    pub sequences: Option<RawSequences>,
    pub account_defaults: Option<RawAccountDefaults>,
    pub accounts: Option<Vec<At<RawAccount>>>,
    pub wheel: Option<RawWheel>,
    pub sender: Option<RawSender>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "server")]
pub(super) struct RawServer {
    pub listen: Option<At<String>>,
    pub console: Option<At<Console>>,
    pub api_keys: Option<Vec<RawApiKey>>,
    pub public_url: Option<At<String>>,
    pub callback_body_max: Option<At<usize>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "api_key")]
pub(super) struct RawApiKey {
    pub name: At<String>,
    pub secret: At<RawSecret>,
    pub scopes: At<Vec<Scope>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "database")]
pub(super) struct RawDatabase {
    pub url: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "sequences")]
pub(super) struct RawSequences {
    pub dir: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "account_defaults")]
pub(super) struct RawAccountDefaults {
    pub platform: Option<PlatformName>,
    pub profile: Option<At<String>>,
    pub mode: Option<CallbackMode>,
    pub api_base: Option<At<String>>,
    pub timezone: Option<At<String>>,
    pub rate: Option<RawRate>,
    pub in_flight: Option<At<usize>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "account")]
pub(super) struct RawAccount {
    pub key: At<String>,
    pub name: Option<At<String>>,
    pub app_id: At<String>,
    pub app_secret: At<RawSecret>,
    pub token: At<RawSecret>,
    pub encoding_aes_key: Option<At<RawSecret>>,
    pub encoding_aes_key_previous: Option<At<RawSecret>>,
    pub platform: Option<PlatformName>,
    pub profile: Option<At<String>>,
    pub mode: Option<CallbackMode>,
    pub api_base: Option<At<String>>,
    pub timezone: Option<At<String>>,
    pub rate: Option<RawRate>,
    pub in_flight: Option<At<usize>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "rate")]
pub(super) struct RawRate {
    pub per_second: Option<At<u32>>,
    pub per_minute: Option<At<u32>>,
    pub per_day: Option<At<u32>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "wheel")]
pub(super) struct RawWheel {
    pub ring_entries: Option<At<usize>>,
    pub lead: Option<At<String>>,
    pub sweep_every: Option<At<String>>,
    pub promote_max: Option<At<usize>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "sender")]
pub(super) struct RawSender {
    pub in_flight: Option<At<usize>>,
    pub per_account_in_flight: Option<At<usize>>,
    pub attempt_timeout: Option<At<String>>,
    pub connect_timeout: Option<At<String>>,
}

/// A secret, or the file that holds it.
#[derive(Clone, Debug)]
pub(super) enum RawSecret {
    Text(SecretString),
    File(At<String>),
}

impl<'de> Deserialize<'de> for RawSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Body;
        // serde's own errors name the value they refuse, so every scalar has a method here.
        const QUOTE: &str = "a secret is text: put it in quotes";
        impl<'de> Visitor<'de> for Body {
            type Value = RawSecret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret as text or `{ file: path }`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawSecret, E> {
                Ok(RawSecret::Text(SecretString::from(text)))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<RawSecret, E> {
                Err(de::Error::custom(QUOTE))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<RawSecret, E> {
                Err(de::Error::custom(QUOTE))
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<RawSecret, E> {
                Err(de::Error::custom(QUOTE))
            }

            fn visit_i128<E: de::Error>(self, _: i128) -> Result<RawSecret, E> {
                Err(de::Error::custom(QUOTE))
            }

            fn visit_u128<E: de::Error>(self, _: u128) -> Result<RawSecret, E> {
                Err(de::Error::custom(QUOTE))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<RawSecret, E> {
                Err(de::Error::custom(QUOTE))
            }

            fn visit_unit<E: de::Error>(self) -> Result<RawSecret, E> {
                Err(de::Error::custom("a secret is missing here"))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawSecret, A::Error> {
                match map.next_key::<String>()? {
                    Some(key) if key == "file" => {}
                    Some(_) => {
                        let message = "a secret is text or `{ file: path }`";
                        return Err(de::Error::custom(message));
                    }
                    None => return Err(de::Error::custom("a secret is missing here")),
                }
                let path = map.next_value()?;
                if map.next_key::<de::IgnoredAny>()?.is_some() {
                    return Err(de::Error::custom("`file` stands alone"));
                }
                Ok(RawSecret::File(path))
            }
        }
        deserializer.deserialize_any(Body)
    }
}

impl JsonSchema for RawSecret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RawSecret".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Text, `${NAME}` from the environment, or `{ file: path }`.",
            "anyOf": [
                { "type": "string" },
                {
                    "type": "object",
                    "required": ["file"],
                    "properties": { "file": { "type": "string" } },
                    "additionalProperties": false,
                },
            ],
        })
    }
}
