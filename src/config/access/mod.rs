//! What an account and its platform know each other by: which keys each platform has, and what they
//! must look like.
//!
//! An account has the keys of its own platform and no others, so that a secret written under the
//! wrong account is named and not overlooked.

#[cfg(test)]
mod tests;

use secrecy::{ExposeSecret, SecretString};

use super::account::all;
use super::check::{Check, DEFAULTS, preset};
use super::raw::{RawAccount, RawSecret};
use super::{CallbackMode, PlatformName};
use crate::sign::SigningKey;
use crate::yaml::{At, Place};

/// Longest secret of a platform that does not say how long its own are, in bytes.
const SECRET_BYTES_MAX: usize = 1024;

/// An account's platform, and what the two know each other by.
#[derive(Clone, Debug)]
pub enum Access {
    Wechat(WechatAccess),
    Line(LineAccess),
    Telegram(TelegramAccess),
    WecomKf(WecomKfAccess),
    Webhook(WebhookAccess),
}

/// A WeChat Official Account.
#[derive(Clone, Debug)]
pub struct WechatAccess {
    pub app_id: String,
    pub app_secret: SecretString,
    /// Signs callbacks.
    pub token: SecretString,
    /// 43 characters; there unless `mode` is plain.
    pub encoding_aes_key: Option<SecretString>,
    /// Still accepted while the platform changes to the new one.
    pub encoding_aes_key_previous: Option<SecretString>,
    pub mode: CallbackMode,
}

/// A channel of the LINE Messaging API.
#[derive(Clone, Debug)]
pub struct LineAccess {
    /// As LINE's console shows it.
    pub channel_id: String,
    /// Signs callbacks.
    pub channel_secret: SecretString,
    pub channel_access_token: SecretString,
}

/// A Telegram bot.
#[derive(Clone, Debug)]
pub struct TelegramAccess {
    /// The part of the token before its colon.
    pub bot_id: String,
    pub bot_token: SecretString,
    /// Ours; comes back with every callback.
    pub secret_token: SecretString,
}

/// One service account (客服账号) of WeCom's 微信客服.
#[derive(Clone, Debug)]
pub struct WecomKfAccess {
    pub corp_id: String,
    pub corp_secret: SecretString,
    pub open_kfid: String,
    /// Signs callbacks.
    pub token: SecretString,
    pub encoding_aes_key: SecretString,
    /// Still accepted while the platform changes to the new one.
    pub encoding_aes_key_previous: Option<SecretString>,
}

/// Any other server that takes and sends signed POSTs.
#[derive(Clone, Debug)]
pub struct WebhookAccess {
    /// Where messages go.
    pub url: String,
    /// Signs both ways: `whsec_` and base64.
    pub secret: SecretString,
    /// Still accepted while the other side changes to the new one.
    pub secret_previous: Option<SecretString>,
}

impl Access {
    /// Which platform it is.
    pub fn platform(&self) -> PlatformName {
        match self {
            Self::Wechat(_) => PlatformName::Wechat,
            Self::Line(_) => PlatformName::Line,
            Self::Telegram(_) => PlatformName::Telegram,
            Self::WecomKf(_) => PlatformName::WecomKf,
            Self::Webhook(_) => PlatformName::Webhook,
        }
    }

    /// What the platform knows the account by; nothing secret.
    pub fn id(&self) -> &str {
        match self {
            Self::Wechat(wechat) => &wechat.app_id,
            Self::Line(line) => &line.channel_id,
            Self::Telegram(telegram) => &telegram.bot_id,
            Self::WecomKf(kf) => &kf.open_kfid,
            Self::Webhook(webhook) => &webhook.url,
        }
    }

    /// The key of the configuration that `id` comes from.
    pub(super) fn id_key(&self) -> &'static str {
        match self {
            Self::Wechat(_) => "app_id",
            Self::Line(_) => "channel_id",
            Self::Telegram(_) => "bot_token",
            Self::WecomKf(_) => "open_kfid",
            Self::Webhook(_) => "url",
        }
    }

    /// An Official Account's part.
    pub fn wechat(&self) -> Option<&WechatAccess> {
        match self {
            Self::Wechat(wechat) => Some(wechat),
            _ => None,
        }
    }
}

impl PlatformName {
    /// The rules of accounts that name no others.
    pub(super) fn own_profile(self) -> &'static str {
        match self {
            Self::Wechat => "wechat-48h",
            other => other.word(),
        }
    }

    /// Where the platform's API is, unless the account says something else. A webhook has its `url`.
    pub(super) fn own_api_base(self) -> &'static str {
        match self {
            Self::Wechat => "https://api.weixin.qq.com",
            Self::Line => "https://api.line.me",
            Self::Telegram => "https://api.telegram.org",
            Self::WecomKf => "https://qyapi.weixin.qq.com",
            Self::Webhook => "",
        }
    }

    /// The keys that its accounts may have.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Wechat => &[
                "app_id",
                "app_secret",
                "token",
                "encoding_aes_key",
                "encoding_aes_key_previous",
            ],
            Self::Line => &["channel_id", "channel_secret", "channel_access_token"],
            Self::Telegram => &["bot_token", "secret_token"],
            Self::WecomKf => &[
                "corp_id",
                "corp_secret",
                "open_kfid",
                "token",
                "encoding_aes_key",
                "encoding_aes_key_previous",
            ],
            Self::Webhook => &["url", "secret", "secret_previous"],
        }
    }
}

impl RawAccount {
    /// Where a key of some platform stands; `None` when it was left out.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        let given = self.given();
        given
            .into_iter()
            .find_map(|(name, place)| place.filter(|_| name == key))
    }

    fn given(&self) -> [(&'static str, Option<Place>); 16] {
        fn at<T>(value: &Option<At<T>>) -> Option<Place> {
            value.as_ref().map(|at| at.place)
        }
        [
            ("app_id", at(&self.app_id)),
            ("app_secret", at(&self.app_secret)),
            ("token", at(&self.token)),
            ("encoding_aes_key", at(&self.encoding_aes_key)),
            (
                "encoding_aes_key_previous",
                at(&self.encoding_aes_key_previous),
            ),
            ("channel_id", at(&self.channel_id)),
            ("channel_secret", at(&self.channel_secret)),
            ("channel_access_token", at(&self.channel_access_token)),
            ("bot_token", at(&self.bot_token)),
            ("secret_token", at(&self.secret_token)),
            ("corp_id", at(&self.corp_id)),
            ("corp_secret", at(&self.corp_secret)),
            ("open_kfid", at(&self.open_kfid)),
            ("url", at(&self.url)),
            ("secret", at(&self.secret)),
            ("secret_previous", at(&self.secret_previous)),
        ]
    }
}

impl Check<'_> {
    /// Reads the keys of the account's platform, and refuses those of others.
    pub(super) fn access(
        &mut self,
        raw: &RawAccount,
        platform: PlatformName,
        given_mode: Option<CallbackMode>,
    ) -> Option<Access> {
        for (key, place) in raw.given() {
            if let Some(place) = place.filter(|_| !platform.keys().contains(&key)) {
                let word = platform.word();
                let message = format!("an account of platform `{word}` has no `{key}`");
                let fix = format!(
                    "remove it, or set `platform`; these belong to `{word}`: {}",
                    platform.keys().join(", ")
                );
                self.problems.note_hidden(place, message, fix);
            }
        }
        match platform {
            PlatformName::Wechat => self.wechat(raw, given_mode).map(Access::Wechat),
            PlatformName::Line => self.line(raw).map(Access::Line),
            PlatformName::Telegram => self.telegram(raw).map(Access::Telegram),
            PlatformName::WecomKf => self.wecom_kf(raw).map(Access::WecomKf),
            PlatformName::Webhook => self.webhook(raw).map(Access::Webhook),
        }
    }

    /// The value of a key that the account's platform cannot do without.
    fn needed<'r, T>(
        &mut self,
        raw: &RawAccount,
        value: &'r Option<At<T>>,
        key: &str,
        fix: &str,
    ) -> Option<&'r At<T>> {
        if value.is_none() {
            let message = format!("the account needs `{key}`");
            self.problems.note_with(raw.key.place, message, fix);
        }
        value.as_ref()
    }

    fn wechat(&mut self, raw: &RawAccount, given: Option<CallbackMode>) -> Option<WechatAccess> {
        let base = preset(DEFAULTS.account_defaults.as_ref());
        let mode = preset(raw.mode.or(given).or(base.mode));
        let console = "copy it from 基本配置 in WeChat's console";
        let app_id = self.needed(raw, &raw.app_id, "app_id", console);
        let app_secret = self.needed(raw, &raw.app_secret, "app_secret", console);
        let token = self.needed(raw, &raw.token, "token", console);
        let app_id = app_id.map(|at| self.app_id(at));
        let app_secret = app_secret.map(|at| self.app_secret(at));
        let token = token.map(|at| self.callback_token(at));
        let aes_key = raw.encoding_aes_key.as_ref();
        let encoding_aes_key = aes_key.map(|at| self.aes_key(at));
        let previous = raw.encoding_aes_key_previous.as_ref();
        let encoding_aes_key_previous = previous.map(|at| self.aes_key(at));
        if mode != CallbackMode::Plain && aes_key.is_none() {
            self.problems.note_with(
                raw.key.place,
                "encrypted callbacks need `encoding_aes_key`",
                "add the 43 characters from the platform's console",
            );
        }
        Some(WechatAccess {
            app_id: app_id??,
            app_secret: app_secret??,
            token: token??,
            encoding_aes_key: all(encoding_aes_key)?,
            encoding_aes_key_previous: all(encoding_aes_key_previous)?,
            mode,
        })
    }

    fn line(&mut self, raw: &RawAccount) -> Option<LineAccess> {
        let console = "copy it from the channel's page in LINE's developer console";
        let id = self.needed(raw, &raw.channel_id, "channel_id", console);
        let secret = self.needed(raw, &raw.channel_secret, "channel_secret", console);
        let token = self.needed(
            raw,
            &raw.channel_access_token,
            "channel_access_token",
            console,
        );
        let id = id.map(|at| {
            let digits = (1..=20).contains(&at.value.len())
                && at.value.bytes().all(|byte| byte.is_ascii_digit());
            let id = digits
                .then(|| at.value.clone())
                .ok_or_else(|| "is no channel id".to_owned());
            self.problems.keep(at, id, "a channel id is digits only")
        });
        let secret = secret.map(|at| {
            let what = "a channel secret has 16 to 1024 visible characters";
            self.visible(at, 16, what)
        });
        let token = token.map(|at| {
            let what = "a channel access token has 16 to 1024 visible characters";
            self.visible(at, 16, what)
        });
        Some(LineAccess {
            channel_id: id??,
            channel_secret: secret??,
            channel_access_token: token??,
        })
    }

    fn telegram(&mut self, raw: &RawAccount) -> Option<TelegramAccess> {
        let token = self.needed(
            raw,
            &raw.bot_token,
            "bot_token",
            "@BotFather gives it for a new bot",
        );
        let secret = self.needed(
            raw,
            &raw.secret_token,
            "secret_token",
            "invent one, and give the same to setWebhook",
        );
        let token = token.map(|at| {
            self.secret(at, &|text| {
                let whole = text.split_once(':').is_some_and(|(id, rest)| {
                    (1..=20).contains(&id.len())
                        && id.bytes().all(|byte| byte.is_ascii_digit())
                        && (16..=128).contains(&rest.len())
                        && rest.bytes().all(is_name_byte)
                });
                whole
                    .then_some(())
                    .ok_or("a bot token is digits, a colon, and letters, digits, `_` and `-`")
            })
        });
        // The platform takes one character too; a header that anybody may guess proves nothing.
        let secret = secret.map(|at| {
            self.secret(at, &|text| {
                ((16..=256).contains(&text.len()) && text.bytes().all(is_name_byte))
                    .then_some(())
                    .ok_or("a secret token has 16 to 256 letters, digits, `_` and `-`")
            })
        });
        let bot_token: SecretString = token??;
        let (bot_id, _) = bot_token.expose_secret().split_once(':')?;
        Some(TelegramAccess {
            bot_id: bot_id.to_owned(),
            bot_token,
            secret_token: secret??,
        })
    }

    fn wecom_kf(&mut self, raw: &RawAccount) -> Option<WecomKfAccess> {
        let console = "copy it from 微信客服 in WeCom's administration";
        let corp_id = self.needed(raw, &raw.corp_id, "corp_id", console);
        let corp_secret = self.needed(raw, &raw.corp_secret, "corp_secret", console);
        let open_kfid = self.needed(raw, &raw.open_kfid, "open_kfid", console);
        let token = self.needed(raw, &raw.token, "token", console);
        let aes_key = self.needed(raw, &raw.encoding_aes_key, "encoding_aes_key", console);
        let corp_id = corp_id.map(|at| self.id(at, "is no corp id"));
        let corp_secret = corp_secret.map(|at| {
            let what = "a corp secret has 16 to 1024 visible characters";
            self.visible(at, 16, what)
        });
        let open_kfid = open_kfid.map(|at| self.id(at, "is no service account's id"));
        let token = token.map(|at| self.callback_token(at));
        let aes_key = aes_key.map(|at| self.aes_key(at));
        let previous = raw.encoding_aes_key_previous.as_ref();
        let previous = previous.map(|at| self.aes_key(at));
        Some(WecomKfAccess {
            corp_id: corp_id??,
            corp_secret: corp_secret??,
            open_kfid: open_kfid??,
            token: token??,
            encoding_aes_key: aes_key??,
            encoding_aes_key_previous: all(previous)?,
        })
    }

    fn webhook(&mut self, raw: &RawAccount) -> Option<WebhookAccess> {
        let url = self.needed(raw, &raw.url, "url", "write where messages are posted to");
        let secret = self.needed(
            raw,
            &raw.secret,
            "secret",
            "write `whsec_` and the base64 of 24 to 64 random bytes",
        );
        let url = url.map(|at| self.web_address(at));
        let secret = secret.map(|at| self.signing_secret(at));
        let previous = raw.secret_previous.as_ref();
        let previous = previous.map(|at| self.signing_secret(at));
        Some(WebhookAccess {
            url: url??,
            secret: secret??,
            secret_previous: all(previous)?,
        })
    }

    pub(super) fn signing_secret(&mut self, at: &At<RawSecret>) -> Option<SecretString> {
        self.secret(at, &|text| {
            SigningKey::parse(text)
                .map(|_| ())
                .ok_or("a signing secret is `whsec_` and the base64 of 24 to 64 bytes")
        })
    }

    /// A secret of which only a least length is known.
    fn visible(
        &mut self,
        at: &At<RawSecret>,
        least: usize,
        what: &'static str,
    ) -> Option<SecretString> {
        self.secret(at, &|text| {
            ((least..=SECRET_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic()))
            .then_some(())
            .ok_or(what)
        })
    }

    /// An id that the platform gave.
    fn id(&mut self, at: &At<String>, what: &str) -> Option<String> {
        let ok = (1..=64).contains(&at.value.len()) && at.value.bytes().all(is_name_byte);
        let id = ok.then(|| at.value.clone()).ok_or_else(|| what.to_owned());
        let fix = "use 1 to 64 letters, digits, `_` and `-`";
        self.problems.keep(at, id, fix)
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}
