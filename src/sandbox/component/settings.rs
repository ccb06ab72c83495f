//! What the platform is told about a third-party platform (第三方平台, "component"), and the points
//! that the platform's pages leave open, as switches.

use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::sandbox::settings::Profile;

/// What the authorizer's app id replaces in the message URL.
pub(in crate::sandbox) const APP_ID_MARK: &str = "$APPID$";

/// One third-party platform, as its owner would set it up at open.weixin.qq.com.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxComponent {
    /// `wx…` of the component itself.
    pub app_id: String,
    /// What `api_component_token` must present.
    pub app_secret: SecretString,
    /// Signs callbacks (消息校验Token).
    pub token: SecretString,
    /// 43 characters; encrypts every callback (消息加解密Key).
    pub encoding_aes_key: SecretString,
    /// 授权事件接收URL: tickets and authorizations, http or https.
    pub event_url: String,
    /// 消息与事件接收URL: contains `$APPID$`, which the authorizer's app id replaces.
    pub message_url: String,
    /// Shown on the authorization page.
    #[serde(default)]
    pub name: String,
    /// Accounts that exist from the start under this component, authorized by nobody yet.
    #[serde(default)]
    pub accounts: Vec<ComponentAccount>,
    /// The open points, as switches.
    #[serde(default)]
    pub rules: ComponentRules,
}

impl SandboxComponent {
    /// A component with the platform's rules and no accounts.
    pub fn new(
        app_id: &str,
        app_secret: SecretString,
        token: SecretString,
        encoding_aes_key: SecretString,
        [event_url, message_url]: [&str; 2],
    ) -> Self {
        Self {
            app_id: app_id.to_owned(),
            app_secret,
            token,
            encoding_aes_key,
            event_url: event_url.to_owned(),
            message_url: message_url.to_owned(),
            name: String::new(),
            accounts: Vec::new(),
            rules: ComponentRules::default(),
        }
    }
}

/// An account without a server of its own: only a component can take its callbacks.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentAccount {
    /// `wx…`
    pub app_id: String,
    /// `gh_…`; made up when absent.
    #[serde(default)]
    pub original_id: Option<String>,
    /// Shown on the phone and on the authorization page.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub kind: AuthorizerKind,
    /// Which rule of grants the platform enforces.
    #[serde(default)]
    pub profile: Profile,
}

/// What kind of account it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorizerKind {
    /// 公众号
    #[default]
    OfficialAccount,
    /// 小程序
    MiniProgram,
}

/// How the platform behaves toward a component where its pages leave that open or say it twice.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ComponentRules {
    /// Between two pushes of the ticket, in seconds; 600 by the platform's rules. 0 for pushes by
    /// `api_start_push_ticket` and the control API only.
    pub ticket_interval_seconds: u64,
    /// How often `api_component_token` may be called in a day (45009); the platform has a limit
    /// and does not publish it.
    pub component_tokens_per_day: Option<u64>,
    /// How long a superseded component or authorizer token goes on beside the new one, in seconds.
    /// The platform promises nothing.
    pub overlap_seconds: u64,
    /// Life of a `pre_auth_code` in seconds: the page's text says 1800, its example 600.
    pub pre_auth_code_seconds: u64,
    /// Life of an authorization code in seconds.
    pub authorization_code_seconds: u64,
    /// How often one authorization code may be exchanged before it answers 61010.
    pub authorization_code_uses: u32,
    /// `api_authorizer_token` answers a new refresh token each time and forgets the old one.
    pub refresh_token_rotates: bool,
    /// The code for a call outside the granted permission sets: 61007 or 48001.
    pub missing_set_code: i32,
    /// The code for a call after the authorization is gone: 61003 or 61016.
    pub gone_code: i32,
}

impl Default for ComponentRules {
    fn default() -> Self {
        Self {
            ticket_interval_seconds: 600,
            component_tokens_per_day: None,
            overlap_seconds: 0,
            pre_auth_code_seconds: 1800,
            authorization_code_seconds: 600,
            authorization_code_uses: 1,
            refresh_token_rotates: false,
            missing_set_code: 61007,
            gone_code: 61003,
        }
    }
}

impl ComponentRules {
    pub(super) fn overlap(&self) -> Duration {
        Duration::from_secs(self.overlap_seconds)
    }
}
