//! What the platform makes of an account's answer to a callback.
//!
//! Nothing and `success` say that all is well; everything else has to be a passive reply, protected
//! as the account's mode asks and addressed to whom the callback was about. The platform's page on
//! passive replies names the fields, its page on encryption the checks and their codes.

use secrecy::ExposeSecret;
use thiserror::Error;

use super::callback::Recipient;
use super::media::MediaKind;
use super::message::Shown;
use super::reply::Reply;
use super::settings::Mode;
use super::{Account, World};
use crate::inbound::cipher::CipherError;
use crate::inbound::signature::verify;

/// A passive reply that the platform takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// `None` for a hand-over to an agent, which shows nothing.
    pub(super) shown: Option<Shown>,
    pub(super) msgtype: String,
    /// The readable body.
    pub(super) body: String,
}

/// Why the platform complains to the follower instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Wrong {
    #[error("the status is not 200")]
    Status,
    #[error("neither success nor a reply")]
    Junk,
    #[error("a reply in safe mode must be encrypted")]
    Readable,
    #[error("a reply in plain mode must not be encrypted")]
    Encrypted,
    #[error("the reply's signature is wrong")]
    Signature,
    #[error("the reply was encrypted for another app id")]
    AppId,
    #[error("the reply cannot be decrypted")]
    Cipher,
    #[error("the encrypted reply is no reply")]
    Content,
    #[error("ToUserName must be the follower, FromUserName the account, CreateTime a number")]
    Address,
    #[error("a reply of no known kind, or without what its kind needs")]
    Kind,
    #[error("the reply names a media id that does not exist")]
    Media,
    #[error("the reply's text is longer than the platform takes")]
    TextSize,
}

impl Wrong {
    /// By the codes of the platform's encryption samples; 0 where the answer was no reply at all.
    pub(super) fn code(self) -> i32 {
        match self {
            Self::Status | Self::Junk => 0,
            Self::Signature => -40001,
            Self::Readable | Self::Encrypted | Self::Content | Self::Address | Self::Kind => -40002,
            Self::AppId => -40005,
            Self::Cipher => -40007,
            Self::Media => 40007,
            Self::TextSize => 45002,
        }
    }
}

/// The reply in an answer, if it has one.
pub(super) fn judge(
    world: &World,
    account: &Account,
    to: &Recipient<'_>,
    openid: &str,
    status: u16,
    body: &str,
) -> Result<Option<Given>, Wrong> {
    if status != 200 {
        return Err(Wrong::Status);
    }
    if body.is_empty() || body == "success" {
        return Ok(None);
    }
    let reply = Reply::parse(body).ok_or(Wrong::Junk)?;
    let (reply, body) = match (to.mode, reply.get("Encrypt")) {
        (_, None) if reply.get("MsgType").is_none() => return Err(Wrong::Junk),
        (Mode::Safe, None) => return Err(Wrong::Readable),
        (Mode::Plain, Some(_)) => return Err(Wrong::Encrypted),
        (_, None) => (reply, body.to_owned()),
        (_, Some(encrypted)) => open(to, &reply, encrypted)?,
    };
    let is_addressed = reply.get("ToUserName") == Some(openid)
        && reply.get("FromUserName") == Some(&account.settings.original_id)
        && reply
            .get("CreateTime")
            .is_some_and(|time| time.parse::<i64>().is_ok());
    if !is_addressed {
        return Err(Wrong::Address);
    }
    let msgtype = reply.get("MsgType").unwrap_or_default().to_owned();
    let shown = reply.into_shown().ok_or(Wrong::Kind)?;
    let media = |id: &str, kind| {
        let now = world.clock.now();
        let found = world.shelf.check(account.index, id, &[kind], now);
        found.map_err(|_| Wrong::Media)
    };
    match &shown {
        Some(Shown::Image { media_id }) => media(media_id, MediaKind::Image)?,
        Some(Shown::Voice { media_id }) => media(media_id, MediaKind::Voice)?,
        Some(Shown::Video { media_id, .. }) => media(media_id, MediaKind::Video)?,
        Some(Shown::Text { content }) if content.len() > account.settings.rules.text_bytes_max => {
            return Err(Wrong::TextSize);
        }
        _ => {}
    }
    Ok(Some(Given {
        shown,
        msgtype,
        body,
    }))
}

/// The readable reply in an encrypted one.
pub(super) fn open(
    to: &Recipient<'_>,
    reply: &Reply,
    encrypted: &str,
) -> Result<(Reply, String), Wrong> {
    let token = to.token.expose_secret();
    let part = |name: &str| reply.get(name).unwrap_or_default();
    let signed = [token, part("TimeStamp"), part("Nonce"), encrypted];
    if !verify(&signed, part("MsgSignature")) {
        return Err(Wrong::Signature);
    }
    let opened = to.cipher.decrypt(encrypted).map_err(|error| {
        if matches!(error, CipherError::OtherApp) {
            Wrong::AppId
        } else {
            Wrong::Cipher
        }
    })?;
    let text = String::from_utf8(opened.message).map_err(|_| Wrong::Content)?;
    let reply = Reply::parse(&text).ok_or(Wrong::Content)?;
    Ok((reply, text))
}
