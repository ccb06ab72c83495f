//! Opens what the platform posts and seals what we answer.
//!
//! The order is the promise: bounds, the request's age, the signature, and only then decryption,
//! so that nothing about a forged ciphertext can be learned. Outside, every doubt about who sent a
//! callback looks the same; `Refusal::reason` is for our own log.
//!
//! Deliberately absent: HTTP, the choice of the account (the caller brings its `Door`), memory of
//! nonces. A request repeated within the window is taken in once by its digest.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;

use super::cipher::{Cipher, CipherError};
use super::message::{self, Message};
use super::signature;
use super::xml::{BODY_BYTES_MAX, Fields, Format, ReadError};
use crate::clock::Timestamp;

/// How far a request's timestamp may be from now, either way, unless configured otherwise.
pub const TIMESTAMP_WINDOW: Duration = Duration::from_secs(300);

/// Longest nonce taken, in bytes. The platform's are decimal numbers of up to 10 digits.
const NONCE_BYTES_MAX: usize = 64;
/// Longest `echostr` answered, in bytes; it is echoed to whoever asks with a good signature.
const ECHO_BYTES_MAX: usize = 256;

/// How the account receives callbacks, as set in the platform's console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// 安全模式: encrypted only.
    #[default]
    Safe,
    /// 兼容模式: encrypted beside a plain copy. Only the encrypted half is read, for the plain one
    /// is signed by nobody; so a callback without it is refused, as in safe mode.
    Compat,
    /// 明文模式: plain. The signature does not cover the body, so whoever sees one URL can post
    /// anything under it until the timestamp is too old.
    Plain,
}

/// What is needed to let an account's callbacks in, and only those.
#[derive(Debug)]
pub struct Door {
    pub token: SecretString,
    /// The token before a change, still taken until the change has reached every server.
    pub previous_token: Option<SecretString>,
    /// Without it, only plain mode lets anything in.
    pub cipher: Option<Cipher>,
    pub mode: Mode,
    pub timestamp_window: Duration,
}

/// The query of a callback. A parameter given twice does not deserialize.
#[derive(Clone, Default, Deserialize)]
pub struct Query {
    pub signature: Option<String>,
    pub msg_signature: Option<String>,
    pub timestamp: Option<String>,
    pub nonce: Option<String>,
    pub echostr: Option<String>,
    pub encrypt_type: Option<String>,
    /// The follower, as far as the URL says. Not signed: nothing is decided on it.
    pub openid: Option<String>,
}

impl fmt::Debug for Query {
    /// Shows no signature: with it, anybody could repeat the request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("timestamp", &self.timestamp)
            .field("encrypt_type", &self.encrypt_type)
            .finish_non_exhaustive()
    }
}

/// A callback is not let in. The text is for the caller and tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not proven to come from the platform, or not meant for this account.
    #[error("forbidden")]
    Forbidden(Doubt),
    /// Not written as the platform writes.
    #[error("malformed")]
    Malformed(ReadError),
    /// Longer than 64 KiB.
    #[error("too large")]
    TooLarge,
}

/// What a callback failed at. For logs and counters only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Doubt {
    #[error("the timestamp is missing or not a number of seconds")]
    Timestamp,
    #[error("the timestamp is too far from now: check the clocks, or it is an old request again")]
    Age,
    #[error("the signature is missing or wrong: check the token")]
    Signature,
    #[error(
        "the callback is not encrypted: set the console to safe mode, or this account to plain"
    )]
    NotEncrypted,
    #[error("the callback is encrypted, but the account has no EncodingAESKey")]
    NoCipher,
    #[error(transparent)]
    Cipher(#[from] CipherError),
}

impl Refusal {
    /// The HTTP status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            Self::Forbidden(_) => 403,
            Self::Malformed(_) => 400,
            Self::TooLarge => 413,
        }
    }

    /// What exactly was wrong, for our own log; never for the caller.
    pub fn reason(&self) -> String {
        match self {
            Self::Forbidden(doubt) => doubt.to_string(),
            Self::Malformed(error) => error.to_string(),
            Self::TooLarge => ReadError::Oversized.to_string(),
        }
    }
}

impl From<Doubt> for Refusal {
    fn from(doubt: Doubt) -> Self {
        Self::Forbidden(doubt)
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Oversized => Self::TooLarge,
            ReadError::Malformed(_) => Self::Malformed(error),
        }
    }
}

/// A callback that was let in, its meaning read.
#[derive(Debug)]
pub struct Opened {
    pub message: Message,
    /// How it was written; a reply is written alike.
    pub format: Format,
    /// The key it was encrypted with, for the reply; `None` when it came in plain.
    pub key_index: Option<usize>,
}

/// A callback that was let in, its meaning not read yet.
#[derive(Debug)]
pub struct Unsealed {
    pub fields: Fields,
    pub format: Format,
    pub key_index: Option<usize>,
}

/// Answers the platform's handshake (GET): the text to send back, as `text/plain`.
pub fn greet(door: &Door, query: &Query, now: Timestamp) -> Result<String, Refusal> {
    let (timestamp, nonce) = fresh(door, query, now)?;
    check(door, query.signature.as_deref(), &[timestamp, nonce])?;
    let echo = query.echostr.as_deref().unwrap_or("");
    // It is not signed, so no markup is echoed, whatever type it would be served as.
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
    if echo.is_empty() || echo.len() > ECHO_BYTES_MAX || !echo.bytes().all(harmless) {
        return Err(ReadError::Malformed("no usable echostr").into());
    }
    Ok(echo.to_owned())
}

/// Lets a callback (POST) in and reads what it says.
pub fn open(door: &Door, query: &Query, body: &[u8], now: Timestamp) -> Result<Opened, Refusal> {
    let unsealed = unseal(door, query, body, now)?;
    let mut message = message::interpret(&unsealed.fields)?;
    // Nothing happens after it was told. The digest keeps the platform's own word.
    if message.arrival.created_at > now.plus(door.timestamp_window) {
        message.arrival.created_at = now;
    }
    Ok(Opened {
        message,
        format: unsealed.format,
        key_index: unsealed.key_index,
    })
}

/// Lets a callback in without reading its meaning: for those that are about no follower, such as
/// a third-party platform's ticket.
pub fn unseal(
    door: &Door,
    query: &Query,
    body: &[u8],
    now: Timestamp,
) -> Result<Unsealed, Refusal> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Refusal::TooLarge);
    }
    let (timestamp, nonce) = fresh(door, query, now)?;
    if door.mode == Mode::Plain {
        check(door, query.signature.as_deref(), &[timestamp, nonce])?;
        let format = Format::of(body)?;
        return Ok(Unsealed {
            fields: Fields::read(body, format)?,
            format,
            key_index: None,
        });
    }
    let encrypt_type = query.encrypt_type.as_deref().unwrap_or("");
    if !encrypt_type.eq_ignore_ascii_case("aes") {
        return Err(Doubt::NotEncrypted.into());
    }
    let cipher = door.cipher.as_ref().ok_or(Doubt::NoCipher)?;
    let format = Format::of(body)?;
    let outer = Fields::read(body, format)?;
    let encrypted = outer.get("Encrypt").unwrap_or("");
    if encrypted.is_empty() {
        return Err(Doubt::NotEncrypted.into());
    }
    let parts = [timestamp, nonce, encrypted];
    check(door, query.msg_signature.as_deref(), &parts)?;
    let decrypted = cipher.decrypt(encrypted).map_err(Doubt::from)?;
    let format = Format::of(&decrypted.message)?;
    Ok(Unsealed {
        fields: Fields::read(&decrypted.message, format)?,
        format,
        key_index: Some(decrypted.key_index),
    })
}

/// A reply to a callback: its text, and what sealing it takes.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    pub text: &'a str,
    pub sent_at: Timestamp,
    /// The nonce of the callback.
    pub nonce: &'a str,
    /// 16 fresh random bytes.
    pub random: [u8; 16],
}

/// Writes a reply as the callback came: encrypted and signed, or plain.
///
/// The two answers that say nothing, empty and `success`, are plain in every mode.
pub fn seal(door: &Door, key_index: Option<usize>, format: Format, reply: &Reply<'_>) -> String {
    let (Some(cipher), Some(key_index)) = (&door.cipher, key_index) else {
        return reply.text.to_owned();
    };
    if matches!(reply.text, "" | "success") {
        return reply.text.to_owned();
    }
    let encrypted = cipher.encrypt(reply.text.as_bytes(), key_index, reply.random);
    let seconds = reply.sent_at.seconds();
    let token = door.token.expose_secret();
    let signature = signature::sign(&[token, &seconds.to_string(), reply.nonce, &encrypted]);
    match format {
        Format::Xml => format!(
            "<xml>\n<Encrypt><![CDATA[{encrypted}]]></Encrypt>\n\
             <MsgSignature><![CDATA[{signature}]]></MsgSignature>\n\
             <TimeStamp>{seconds}</TimeStamp>\n\
             <Nonce><![CDATA[{nonce}]]></Nonce>\n</xml>",
            nonce = reply.nonce.replace("]]>", "]]]]><![CDATA[>"),
        ),
        Format::Json => json!({
            "Encrypt": encrypted,
            "MsgSignature": signature,
            "TimeStamp": seconds,
            "Nonce": reply.nonce,
        })
        .to_string(),
    }
}

/// The timestamp and nonce of a request that is not too old and not from the future.
fn fresh<'q>(door: &Door, query: &'q Query, now: Timestamp) -> Result<(&'q str, &'q str), Refusal> {
    let timestamp = query.timestamp.as_deref().unwrap_or("");
    // Digits only: a sign or a space would be another text with the same value.
    if !(1..=12).contains(&timestamp.len()) || !timestamp.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(Doubt::Timestamp.into());
    }
    let seconds: i64 = timestamp.parse().map_err(|_| Doubt::Timestamp)?;
    if now.seconds().abs_diff(seconds) > door.timestamp_window.as_secs() {
        return Err(Doubt::Age.into());
    }
    let nonce = query.nonce.as_deref().unwrap_or("");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if nonce.is_empty() || nonce.len() > NONCE_BYTES_MAX || !nonce.bytes().all(plain) {
        return Err(Doubt::Signature.into());
    }
    Ok((timestamp, nonce))
}

/// Checks a signature over the token and `parts`, with the current or the previous token.
fn check(door: &Door, given: Option<&str>, parts: &[&str]) -> Result<(), Refusal> {
    let given = given.unwrap_or("");
    let tokens = [Some(&door.token), door.previous_token.as_ref()];
    // Both tokens are always tried, and an empty one proves nothing.
    let proven = tokens.into_iter().flatten().fold(false, |proven, token| {
        let token = token.expose_secret();
        let signed = [&[token], parts].concat();
        proven | (!token.is_empty() && signature::verify(&signed, given))
    });
    if proven {
        Ok(())
    } else {
        Err(Doubt::Signature.into())
    }
}
