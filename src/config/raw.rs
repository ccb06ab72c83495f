//! The shape of `dripwheel.yaml`: every key may be left out, and `default.yaml` then has it.

use std::fmt;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{Deserializer, EnumAccess, VariantAccess, Visitor};

use crate::config::{CallbackMode, Console, PlatformName, Scope};
use crate::yaml::At;

/// Settings of one dripwheel server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "dripwheel.yaml")]
pub(super) struct RawConfig {
    pub server: Option<RawServer>,
    pub database: Option<RawDatabase>,
    pub node: Option<RawNode>,
    pub sequences: Option<RawSequences>,
    pub profiles: Option<RawProfiles>,
    pub account_defaults: Option<RawAccountDefaults>,
    pub accounts: Option<Vec<At<RawAccount>>>,
    pub component_defaults: Option<RawComponentDefaults>,
    pub components: Option<Vec<At<RawComponent>>>,
    pub wheel: Option<RawWheel>,
    pub sender: Option<RawSender>,
    pub reconcile: Option<RawReconcile>,
    pub alerts: Option<RawAlerts>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "server")]
pub(super) struct RawServer {
    pub listen: Option<At<String>>,
    pub console: Option<At<Console>>,
    pub api_keys: Option<Vec<RawApiKey>>,
    pub public_url: Option<At<String>>,
    pub callback_body_max: Option<At<usize>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "api_key")]
pub(super) struct RawApiKey {
    pub name: At<String>,
    pub secret: At<RawSecret>,
    pub scopes: At<Vec<Scope>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "database")]
pub(super) struct RawDatabase {
    pub url: Option<At<String>>,
    pub spool: Option<At<String>>,
    pub spool_max: Option<At<usize>>,
    pub spool_bytes_max: Option<At<usize>>,
    pub keep_outcomes: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "node")]
pub(super) struct RawNode {
    pub name: Option<At<String>>,
    pub lease: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "sequences")]
pub(super) struct RawSequences {
    pub dir: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "profiles")]
pub(super) struct RawProfiles {
    pub dir: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "account_defaults")]
pub(super) struct RawAccountDefaults {
    pub platform: Option<PlatformName>,
    pub profile: Option<At<String>>,
    pub mode: Option<CallbackMode>,
    pub api_base: Option<At<String>>,
    pub timezone: Option<At<String>>,
    pub passive_reply: Option<bool>,
    pub erase_on_unfollow: Option<bool>,
    pub track_links: Option<bool>,
    pub rate: Option<RawRate>,
    pub quota_reset: Option<At<String>>,
    pub quota_timezone: Option<At<String>>,
    pub in_flight: Option<At<usize>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "account")]
pub(super) struct RawAccount {
    pub key: At<String>,
    pub name: Option<At<String>>,
    pub platform: Option<PlatformName>,
    // What proves the account to its platform; which of these, `access` says.
    pub app_id: Option<At<String>>,
    pub app_secret: Option<At<RawSecret>>,
    pub token: Option<At<RawSecret>>,
    pub encoding_aes_key: Option<At<RawSecret>>,
    pub encoding_aes_key_previous: Option<At<RawSecret>>,
    pub channel_id: Option<At<String>>,
    pub channel_secret: Option<At<RawSecret>>,
    pub channel_access_token: Option<At<RawSecret>>,
    pub bot_token: Option<At<RawSecret>>,
    pub secret_token: Option<At<RawSecret>>,
    pub corp_id: Option<At<String>>,
    pub corp_secret: Option<At<RawSecret>>,
    pub open_kfid: Option<At<String>>,
    pub url: Option<At<String>>,
    pub secret: Option<At<RawSecret>>,
    pub secret_previous: Option<At<RawSecret>>,
    pub profile: Option<At<String>>,
    pub mode: Option<CallbackMode>,
    pub api_base: Option<At<String>>,
    pub timezone: Option<At<String>>,
    pub passive_reply: Option<bool>,
    pub erase_on_unfollow: Option<bool>,
    pub track_links: Option<bool>,
    pub rate: Option<RawRate>,
    pub quota_reset: Option<At<String>>,
    pub quota_timezone: Option<At<String>>,
    pub in_flight: Option<At<usize>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "component_defaults")]
pub(super) struct RawComponentDefaults {
    pub login_base: Option<At<String>>,
    pub mobile_login_base: Option<At<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "component")]
pub(super) struct RawComponent {
    pub key: At<String>,
    pub app_id: At<String>,
    pub app_secret: At<RawSecret>,
    pub token: At<RawSecret>,
    pub encoding_aes_key: At<RawSecret>,
    pub encoding_aes_key_previous: Option<At<RawSecret>>,
    pub api_base: Option<At<String>>,
    pub login_base: Option<At<String>>,
    pub mobile_login_base: Option<At<String>>,
    pub profile: Option<At<String>>,
    pub timezone: Option<At<String>>,
    pub passive_reply: Option<bool>,
    pub erase_on_unfollow: Option<bool>,
    pub track_links: Option<bool>,
    pub rate: Option<RawRate>,
    pub in_flight: Option<At<usize>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "rate")]
pub(super) struct RawRate {
    pub per_second: Option<At<u32>>,
    pub per_minute: Option<At<u32>>,
    pub per_day: Option<At<u32>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "wheel")]
pub(super) struct RawWheel {
    pub ring_entries: Option<At<usize>>,
    pub lead: Option<At<String>>,
    pub sweep_every: Option<At<String>>,
    pub promote_max: Option<At<usize>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "sender")]
pub(super) struct RawSender {
    pub in_flight: Option<At<usize>>,
    pub per_account_in_flight: Option<At<usize>>,
    pub attempt_timeout: Option<At<String>>,
    pub connect_timeout: Option<At<String>>,
    pub ask_quota_every: Option<At<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "alerts")]
pub(super) struct RawAlerts {
    pub url: At<String>,
    pub secret: At<RawSecret>,
    pub unknown_sends: Option<At<u32>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "reconcile")]
pub(super) struct RawReconcile {
    pub after_downtime: Option<At<String>>,
    pub daily_at: Option<At<String>>,
    pub page_pause: Option<At<String>>,
    pub refresh_pause: Option<At<String>>,
    pub accounts_at_once: Option<At<usize>>,
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
        impl<'de> Visitor<'de> for Body {
            type Value = RawSecret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret as text or `{ file: path }`")
            }

            fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<RawSecret, A::Error> {
                let (word, body) = data.variant::<String>()?;
                if word == "file" {
                    return body.newtype_variant().map(RawSecret::File);
                }
                body.unit_variant()?;
                Ok(RawSecret::Text(SecretString::from(word)))
            }
        }
        // As an enum, because a reader then takes any scalar for text: a secret of digits needs no
        // quotes, and no error shows the value as serde's own would.
        deserializer.deserialize_enum("secret", &["file"], Body)
    }
}

impl JsonSchema for RawSecret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "secret".into()
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
