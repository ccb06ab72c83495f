//! What a sandbox is told when it starts: its address, its accounts and its bounds.
//!
//! Every field that has a sensible default has one, so that a demo names only its accounts.
//! How the platform treats one account is in `rules`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::component::SandboxComponent;
use super::rules::AccountRules;

/// Everything a sandbox needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxSettings {
    /// Where it listens; loopback unless told otherwise. Port 0 takes a free one.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
    /// The official accounts that exist on this platform; at least one, or a component.
    pub accounts: Vec<SandboxAccount>,
    /// The third-party platforms that accounts may authorize.
    #[serde(default)]
    pub components: Vec<SandboxComponent>,
    /// Every custom/send call is appended here as one JSON line before it is answered.
    #[serde(default)]
    pub record_file: Option<PathBuf>,
    /// Followers, chats, media and counters outlive a restart in this file and in a folder beside
    /// it, `<state_file>.media`. Written at most once a second and on a stop: after a kill the last
    /// second may be missing, and with it a follower who was added within it.
    #[serde(default)]
    pub state_file: Option<PathBuf>,
    /// Bounds of memory and time.
    #[serde(default)]
    pub limits: SandboxLimits,
}

impl SandboxSettings {
    /// Settings for `accounts` on a free loopback port.
    pub fn new(accounts: Vec<SandboxAccount>) -> Self {
        Self {
            listen: loopback(),
            accounts,
            components: Vec::new(),
            record_file: None,
            state_file: None,
            limits: SandboxLimits::default(),
        }
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// One official account, as its owner would set it up in the platform's console.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxAccount {
    /// `wx…`
    pub app_id: String,
    /// What the token calls must present.
    pub app_secret: SecretString,
    /// Signs callbacks.
    pub token: SecretString,
    /// 43 characters; encrypts callbacks in safe and compat mode.
    pub encoding_aes_key: SecretString,
    /// How callbacks are protected.
    #[serde(default)]
    pub mode: Mode,
    /// How callbacks are written.
    #[serde(default)]
    pub format: Format,
    /// `gh_…`, the `ToUserName` of every callback.
    pub original_id: String,
    /// Where callbacks go, http or https.
    pub callback_url: String,
    /// Which rule of grants the platform enforces.
    #[serde(default)]
    pub profile: Profile,
    /// Shown on the phone.
    #[serde(default)]
    pub name: String,
    /// Buttons below the chat; each pushes a CLICK event.
    #[serde(default)]
    pub menu: Vec<MenuButton>,
    /// How the platform treats it: kind, limits, and what documents leave open.
    #[serde(default)]
    pub rules: AccountRules,
}

/// One button of an account's menu.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MenuButton {
    pub label: String,
    /// Comes back as `EventKey`.
    pub key: String,
}

/// How callbacks of an account are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Encrypted only.
    #[default]
    Safe,
    /// Readable and encrypted side by side.
    Compat,
    /// Readable only.
    Plain,
}

/// How callbacks of an account are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Xml,
    Json,
}

/// Which rule of grants the platform enforces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Profile {
    /// Until 2021: anything a follower does allows 20 messages for 48 hours.
    #[default]
    #[serde(rename = "wechat-48h")]
    Wechat48h,
    /// Since 2023: a message allows 5 for 48 hours, the rest 3 for one minute.
    #[serde(rename = "wechat-2023")]
    Wechat2023,
}

impl Profile {
    /// The name by which settings and pages know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wechat48h => "wechat-48h",
            Self::Wechat2023 => "wechat-2023",
        }
    }
}

/// Bounds of memory and time, so that a runaway caller cannot take the machine.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxLimits {
    /// Calls remembered without their bodies.
    pub record_entries_max: usize,
    /// Calls remembered with their bodies.
    pub record_bodies_max: usize,
    /// Lines on all phones together.
    pub chat_lines_max: usize,
    /// Followers per account.
    pub followers_max: usize,
    /// Bytes of all media together.
    pub media_bytes_max: usize,
    /// How long the platform waits for a callback's answer, in milliseconds; 5 s by its rules.
    pub callback_timeout_ms: u64,
    /// From the start of one attempt to the next, in milliseconds.
    pub callback_spacing_ms: u64,
    /// Attempts per event, the first included; 3 by the platform's rules.
    pub callback_attempts_max: u32,
    /// From an accepted template message, subscription notice or mass send to the push of its
    /// result, in real milliseconds.
    pub result_delay_ms: u64,
}

impl SandboxLimits {
    /// How long the platform waits for a callback's answer.
    pub fn callback_timeout(&self) -> Duration {
        Duration::from_millis(self.callback_timeout_ms)
    }

    /// From an accepted call to the push of its result.
    pub fn result_delay(&self) -> Duration {
        Duration::from_millis(self.result_delay_ms)
    }

    /// From the start of one attempt to the next.
    pub fn callback_spacing(&self) -> Duration {
        Duration::from_millis(self.callback_spacing_ms)
    }
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self {
            record_entries_max: 1_000_000,
            record_bodies_max: 10_000,
            chat_lines_max: 10_000,
            followers_max: 5_000_000,
            media_bytes_max: 256 << 20,
            callback_timeout_ms: 5_000,
            callback_spacing_ms: 5_000,
            callback_attempts_max: 3,
            result_delay_ms: 200,
        }
    }
}
