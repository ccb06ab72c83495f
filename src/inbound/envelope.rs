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

use super::cipher::Cipher;
use super::message::{self, Message};
pub use super::refusal::{Doubt, Refusal};
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
pub(super) fn fresh<'q>(
    door: &Door,
    query: &'q Query,
    now: Timestamp,
) -> Result<(&'q str, &'q str), Refusal> {
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
pub(super) fn check(door: &Door, given: Option<&str>, parts: &[&str]) -> Result<(), Refusal> {
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

#[cfg(test)]
mod tests {
    use super::super::vectors::*;
    use super::*;

    const PLAIN_BODY: &str = r#"{"ToUserName":"gh_97417a04a28d","FromUserName":"o9AgO5Kd5ggOC-bXrbNODIiE3bGY","CreateTime":1714037059,"MsgType":"event","Event":"debug_demo","debug_str":"hello world"}"#;

    fn plain_query() -> Query {
        query(&[
            ("timestamp", "1714037059"),
            ("nonce", "486452656"),
            ("signature", "899cf89e464efb63f54ddac96b0a0a235f53aa78"),
        ])
    }

    #[test]
    fn answers_that_say_nothing_and_answers_to_plain_callbacks_stay_plain() {
        let door = spam_door(Mode::Safe);
        for (text, key_index) in [("", Some(0)), ("success", Some(0)), ("<xml/>", None)] {
            let reply = Reply {
                text,
                sent_at: at(1),
                nonce: "1",
                random: [0; 16],
            };
            assert_eq!(seal(&door, key_index, Format::Xml, &reply), text);
        }
    }

    #[test]
    fn the_handshake_echoes_only_harmless_text_under_a_good_signature() {
        let door = door(Mode::Safe, "AAAAA", SPAM_APP, SPAM_KEY);
        let greeted = |echo: &str, signature: &str| {
            let pairs = [
                ("timestamp", "1714036504"),
                ("nonce", "1514711492"),
                ("signature", signature),
                ("echostr", echo),
            ];
            greet(&door, &query(&pairs), at(1_714_036_504))
        };
        let good = "f464b24fc39322e44b38aa78f5edd27bd1441696";
        assert_eq!(
            greeted("4375120948345356249", good).unwrap(),
            "4375120948345356249"
        );
        assert_eq!(
            greeted("1", &good.replace('f', "0")),
            Err(Doubt::Signature.into())
        );
        for echo in ["", "<script>", "a b", "中", &"1".repeat(ECHO_BYTES_MAX + 1)] {
            assert_eq!(greeted(echo, good).unwrap_err().status(), 400, "{echo}");
        }
        let stale = greet(&door, &query(&[]), at(1_714_036_504));
        assert_eq!(stale, Err(Doubt::Timestamp.into()));
    }

    #[test]
    fn a_plain_callback_opens_in_plain_mode_only() {
        let now = at(1_714_037_059);
        let with = |mode| {
            open(
                &door(mode, "AAAAA", SPAM_APP, SPAM_KEY),
                &plain_query(),
                PLAIN_BODY.as_bytes(),
                now,
            )
        };
        assert_eq!(with(Mode::Plain).unwrap().key_index, None);
        assert_eq!(with(Mode::Safe).unwrap_err(), Doubt::NotEncrypted.into());
        assert_eq!(with(Mode::Compat).unwrap_err(), Doubt::NotEncrypted.into());
    }

    #[test]
    fn requests_are_taken_five_minutes_either_way_and_not_a_second_longer() {
        let door = spam_door(Mode::Safe);
        let body = sealed_xml(SEALED_C);
        for (offset, taken) in [
            (-301, false),
            (-300, true),
            (0, true),
            (300, true),
            (301, false),
        ] {
            let opened = open(&door, &query_c(), body.as_bytes(), at(SENT_C + offset));
            assert_eq!(opened.is_ok(), taken, "{offset}");
            if let Err(refusal) = opened {
                assert_eq!(refusal, Doubt::Age.into());
            }
        }
        for timestamp in [
            "",
            "-1",
            "+1409735669",
            " 1409735669",
            "1409735669.0",
            "abc",
            "99999999999999999999",
            "１",
        ] {
            let query = Query {
                timestamp: Some(timestamp.into()),
                ..query_c()
            };
            assert_eq!(
                refusal(&door, &query, &body),
                Doubt::Timestamp.into(),
                "{timestamp}"
            );
        }
    }

    #[test]
    fn only_the_signature_over_the_ciphertext_opens_an_encrypted_callback() {
        let door = spam_door(Mode::Safe);
        let body = sealed_xml(SEALED_C);
        let plain = signature::sign(&["spamtest", &SENT_C.to_string(), "1320562132"]);
        for given in [None, Some(""), Some("0"), Some(plain.as_str())] {
            let query = Query {
                msg_signature: given.map(str::to_owned),
                signature: Some(plain.clone()),
                ..query_c()
            };
            assert_eq!(refusal(&door, &query, &body), Doubt::Signature.into());
        }
        for nonce in [
            "",
            "1320562133",
            "a b",
            "<x>",
            &"1".repeat(NONCE_BYTES_MAX + 1),
        ] {
            let query = aes_query(SENT_C, nonce, SIGNATURE_C);
            assert_eq!(
                refusal(&door, &query, &body),
                Doubt::Signature.into(),
                "{nonce}"
            );
        }
        let upper = aes_query(SENT_C, "1320562132", &SIGNATURE_C.to_uppercase());
        assert!(open(&door, &upper, body.as_bytes(), at(SENT_C)).is_ok());
    }

    #[test]
    fn a_callback_without_its_encrypted_half_is_refused() {
        for mode in [Mode::Safe, Mode::Compat] {
            let door = spam_door(mode);
            for encrypt_type in [None, Some("raw"), Some("")] {
                let encrypt_type = encrypt_type.map(str::to_owned);
                let query = Query {
                    encrypt_type,
                    ..query_c()
                };
                let refusal = refusal(&door, &query, &sealed_xml(SEALED_C));
                assert_eq!(refusal, Doubt::NotEncrypted.into());
            }
            for body in [PLAIN_BODY, &sealed_xml("")] {
                assert_eq!(refusal(&door, &query_c(), body), Doubt::NotEncrypted.into());
            }
        }
        let door = Door {
            cipher: None,
            ..spam_door(Mode::Safe)
        };
        assert_eq!(
            refusal(&door, &query_c(), &sealed_xml(SEALED_C)),
            Doubt::NoCipher.into()
        );
    }

    #[test]
    fn the_previous_token_still_opens_and_an_empty_one_never_does() {
        let body = sealed_xml(SEALED_C);
        let with = |token: &str, previous: Option<&str>| Door {
            token: token.into(),
            previous_token: previous.map(Into::into),
            ..spam_door(Mode::Safe)
        };
        let opens =
            |door: &Door, query: &Query| open(door, query, body.as_bytes(), at(SENT_C)).is_ok();
        assert!(opens(&with("new", Some("spamtest")), &query_c()));
        assert!(opens(&with("spamtest", Some("old")), &query_c()));
        assert!(!opens(&with("new", Some("old")), &query_c()));
        let forged = signature::sign(&["", &SENT_C.to_string(), "1", SEALED_C]);
        assert!(!opens(
            &with("", Some("")),
            &aes_query(SENT_C, "1", &forged)
        ));
    }

    #[test]
    fn bodies_that_are_too_large_or_malformed_say_so() {
        let door = spam_door(Mode::Safe);
        let large = sealed_xml(&"A".repeat(BODY_BYTES_MAX));
        assert_eq!(refusal(&door, &query_c(), &large), Refusal::TooLarge);
        let twice = sealed_xml("A").replace("</xml>", "<Encrypt>B</Encrypt></xml>");
        for body in ["", "hello", "<xml>", "{}}", "[]", &twice] {
            assert_eq!(refusal(&door, &query_c(), body).status(), 400, "{body}");
        }
        let cipher = Cipher::new(SPAM_APP, &[SPAM_KEY]).unwrap();
        for inner in [
            "",
            "x",
            "<xml/>",
            "<!DOCTYPE x><xml/>",
            &sealed_xml(SEALED_C),
        ] {
            let (query, body) = signed(&cipher.encrypt(inner.as_bytes(), 0, [1; 16]));
            assert_eq!(refusal(&door, &query, &body).status(), 400, "{inner}");
        }
    }

    #[test]
    fn nothing_happens_long_after_it_was_told() {
        let happened = |seconds: i64| {
            let inner = format!(
                "<xml><ToUserName>gh_1</ToUserName><FromUserName>o1</FromUserName>\
                 <CreateTime>{seconds}</CreateTime><MsgType>image</MsgType></xml>"
            );
            let cipher = Cipher::new(SPAM_APP, &[SPAM_KEY]).unwrap();
            let (query, body) = signed(&cipher.encrypt(inner.as_bytes(), 0, [1; 16]));
            let opened = open(&spam_door(Mode::Safe), &query, body.as_bytes(), at(SENT_C));
            opened.unwrap().message.arrival.created_at.seconds()
        };
        assert_eq!(happened(SENT_C - 86_400), SENT_C - 86_400);
        assert_eq!(happened(SENT_C + 300), SENT_C + 300);
        assert_eq!(happened(SENT_C + 301), SENT_C);
        assert_eq!(happened(999_999_999_999), SENT_C);
    }

    #[test]
    fn a_parameter_given_twice_is_no_query_and_none_shows_in_debug_output() {
        let twice = r#"{"signature":"a","signature":"b"}"#;
        assert!(serde_json::from_str::<Query>(twice).is_err());
        let shown = format!("{:?} {:?}", query_c(), spam_door(Mode::Safe));
        for secret in [SIGNATURE_C, "spamtest", SPAM_KEY] {
            assert!(!shown.contains(secret));
        }
    }
}
