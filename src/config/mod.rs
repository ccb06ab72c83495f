//! Configuration: `dripwheel.yaml` over the defaults of `default.yaml`.
//!
//! [`Config`] is what the rest of the program sees: complete, checked and in its own units. Secrets
//! are in `SecretString`s from the moment they are read, and no message shows one or a value that
//! came from the environment. `directory` reads the sequence files, `profiles` the platform rules.
//!
//! Deliberately absent: what can change while the program runs. A change is a restart.

mod access;
mod account;
mod alerts;
mod check;
mod component;
mod database;
pub mod directory;
pub mod forecast;
mod node;
pub mod profiles;
mod raw;
mod reconcile;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

pub use self::access::{
    Access, LineAccess, TelegramAccess, WebhookAccess, WechatAccess, WecomKfAccess,
};
use crate::store;
use crate::yaml::Problem;

/// Every key with its default and what it is for.
pub const DEFAULT_YAML: &str = include_str!("default.yaml");

/// The spool of a PostgreSQL for which none is named, beside the configuration file.
const SPOOL_FILE: &str = "dripwheel-spool.db";

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: Server,
    pub database: Database,
    pub node: Node,
    pub sequences: Sequences,
    pub profiles: ProfileFiles,
    pub accounts: Vec<Account>,
    pub components: Vec<Component>,
    pub wheel: Wheel,
    pub sender: Sender,
    pub reconcile: Reconcile,
    /// `None` when nobody is told.
    pub alerts: Option<Alerts>,
}

/// The doors.
#[derive(Clone, Debug)]
pub struct Server {
    pub listen: SocketAddr,
    pub console: Console,
    pub api_keys: Vec<ApiKey>,
    /// How the world reaches this server, without a slash at the end.
    pub public_url: Option<String>,
    /// Largest callback body, in bytes.
    pub callback_body_max: usize,
}

/// Who may see the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "console")]
pub enum Console {
    /// Whoever has an API key.
    Key,
    /// Whoever reaches it; only on a loopback address.
    Open,
}

/// A key of the API.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub name: String,
    pub secret: SecretString,
    pub scopes: Vec<Scope>,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "scope")]
pub enum Scope {
    Read,
    Write,
}

/// Where rows are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Database {
    /// `sqlite://path` or `postgres://…`, which may hold a password.
    pub url: String,
    /// The file that callbacks go to while PostgreSQL is away; `None` for an embedded store, and
    /// where no file says what a path begins at.
    pub spool: Option<PathBuf>,
    /// Events in the spool, at most.
    pub spool_max: usize,
    /// Size of its file in bytes, at most.
    pub spool_bytes_max: usize,
    /// How long outcomes stay; `None` for ever.
    pub keep_outcomes: Option<Duration>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("url", &store::shown_url(&self.url))
            .field("spool", &self.spool)
            .field("spool_max", &self.spool_max)
            .field("spool_bytes_max", &self.spool_bytes_max)
            .field("keep_outcomes", &self.keep_outcomes)
            .finish()
    }
}

/// Which node this is, of those that share a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `None` for one made of the machine's name and the port.
    pub name: Option<String>,
    /// How long its accounts stay its own when nothing is heard of it.
    pub lease: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    /// Directory of the sequence files.
    pub dir: PathBuf,
}

/// The operator's own platform rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileFiles {
    /// Directory of the profile files; `None` for the shipped ones only.
    pub dir: Option<PathBuf>,
}

/// One Official Account, or one account of another platform.
#[derive(Clone, Debug)]
pub struct Account {
    /// Names it in URLs and sequences: `[a-z0-9_-]{1,64}`.
    pub key: String,
    /// For people and messages; the key when none is given.
    pub name: String,
    /// Which platform it is on, and what the two know each other by.
    pub access: Access,
    /// Name of the platform's rules.
    pub profile: String,
    /// Without a slash at the end.
    pub api_base: String,
    /// IANA name.
    pub timezone: String,
    /// Whether a due step may answer the follower's event itself; `None` leaves it to the profile.
    pub passive_reply: Option<bool>,
    /// Whether somebody who unfollows is forgotten, but for a pseudonym.
    pub erase_on_unfollow: bool,
    /// Whether clicks on links are counted where a sequence does not say otherwise.
    pub track_links: bool,
    pub rate: Rate,
    /// When the platform counts the day's calls anew, in minutes after midnight.
    pub quota_reset: u16,
    /// IANA name of the zone that `quota_reset` is in.
    pub quota_timezone: String,
    /// Sends at the same time; `None` leaves it to [`Sender::per_account_in_flight`].
    pub in_flight: Option<usize>,
}

/// One third-party platform (第三方平台). Its accounts come by authorization; what they have is here.
#[derive(Clone, Debug)]
pub struct Component {
    /// Names it in URLs: `[a-z0-9_-]{1,64}`.
    pub key: String,
    pub app_id: String,
    pub app_secret: SecretString,
    /// Signs the callbacks of all its accounts.
    pub token: SecretString,
    /// 43 characters; callbacks are encrypted in any case.
    pub encoding_aes_key: SecretString,
    /// Still accepted while the platform changes to the new one.
    pub encoding_aes_key_previous: Option<SecretString>,
    /// Without a slash at the end, as the two below.
    pub api_base: String,
    /// Where people authorize on a computer.
    pub login_base: String,
    /// Where they do in WeChat itself.
    pub mobile_login_base: String,
    /// Name of the platform's rules.
    pub profile: String,
    /// IANA name.
    pub timezone: String,
    /// As in [`Account`].
    pub passive_reply: Option<bool>,
    /// As of an account.
    pub erase_on_unfollow: bool,
    /// As of an account.
    pub track_links: bool,
    /// Of each account.
    pub rate: Rate,
    /// Of each account, as in [`Account`].
    pub in_flight: Option<usize>,
}

/// Which platform an account is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "platform")]
pub enum PlatformName {
    Wechat,
    Line,
    Telegram,
    /// 微信客服 of WeCom.
    WecomKf,
    /// Any in-house channel that takes and sends signed POSTs.
    Webhook,
}

impl PlatformName {
    /// The word that YAML, tables, API and pages use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Wechat => "wechat",
            Self::Line => "line",
            Self::Telegram => "telegram",
            Self::WecomKf => "wecom-kf",
            Self::Webhook => "webhook",
        }
    }
}

/// How an account's callbacks are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "mode")]
pub enum CallbackMode {
    Safe,
    /// Both plain and encrypted; only the encrypted part counts.
    Compat,
    /// Not encrypted; for tests.
    Plain,
}

/// Calls that an account may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    pub per_minute: u32,
    pub per_day: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wheel {
    /// Timers held in memory, at most.
    pub ring_entries: usize,
    /// How long before its instant a timer becomes a delivery.
    pub lead: Duration,
    pub sweep_every: Duration,
    /// Timers that become deliveries in one transaction, at most.
    pub promote_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Sends at the same time, of all accounts.
    pub in_flight: usize,
    pub per_account_in_flight: usize,
    pub attempt_timeout: Duration,
    pub connect_timeout: Duration,
    pub ask_quota_every: Duration,
}

/// Where alerts go.
#[derive(Clone, Debug)]
pub struct Alerts {
    pub url: url::Url,
    /// `whsec_` and base64.
    pub secret: SecretString,
    /// More unknown sends of one account in 24 hours are an alert.
    pub unknown_sends: u32,
}

/// Followers compared with the platform's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconcile {
    /// Having been away for so long begins a comparison; `None` for never.
    pub after_downtime: Option<Duration>,
    /// When one begins every day, by the account's clock; `None` for never.
    pub daily_at: Option<jiff::civil::Time>,
    /// Rest between two pages of the list.
    pub page_pause: Duration,
    /// Rest between two questions about 100 followers each.
    pub refresh_pause: Duration,
    pub accounts_at_once: usize,
}

impl Config {
    /// Reads a file; `${NAME}` comes from the environment, and relative paths start at the file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Vec<Problem>> {
        let file = path.display().to_string();
        let text = directory::read_text(path, crate::yaml::FILE_MAX)
            .map_err(|why| vec![Problem::of_file(&file, why)])?;
        let mut config = Self::from_text(&text, &file, &|name| std::env::var(name).ok())?;
        config.start_paths_at(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Reads a text; paths stay as written, but those of secret files start at the directory of
    /// `file`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_text(
        text: &str,
        file: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<Problem>> {
        check::config(text, file, env)
    }

    /// The account with a key.
    pub fn account(&self, key: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.key == key)
    }

    fn start_paths_at(&mut self, base: &Path) {
        self.sequences.dir = base.join(&self.sequences.dir);
        self.profiles.dir = self.profiles.dir.as_ref().map(|dir| base.join(dir));
        if let Some(path) = self.database.url.strip_prefix("sqlite://") {
            self.database.url = format!("sqlite://{}", base.join(path).display());
        } else {
            let spool = self.database.spool.take();
            let spool = spool.unwrap_or_else(|| SPOOL_FILE.into());
            self.database.spool = Some(base.join(spool));
        }
    }
}

impl Default for Config {
    /// What `default.yaml` says.
    fn default() -> Self {
        Self::from_text("{}", "default.yaml", &|_| None)
            .expect("the embedded defaults are tested to be valid")
    }
}

/// Name of the profile, and the zone, of accounts that say nothing else.
pub fn default_rules() -> (String, String) {
    let base = check::preset(check::DEFAULTS.account_defaults.as_ref());
    let text = |at: &Option<crate::yaml::At<String>>| check::preset(at.as_ref()).value.clone();
    (text(&base.profile), text(&base.timezone))
}

/// The JSON Schema of `dripwheel.yaml`, for editors.
pub fn config_schema() -> serde_json::Value {
    schemars::generate::SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<raw::RawConfig>()
        .to_value()
}
