//! Where access tokens come from: the seam behind `token`, and own accounts' `stable_token`.
//!
//! Only `stable_token` in its ordinary mode is asked, never with `force_refresh` (20 a day) nor the
//! old interface (2,000 a day, and each call kills the token before). A restart asks again and is
//! given the same one. Tokens of third-party platforms are in `component`.
//!
//! Source: the platform's page "get stable access token".

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::WechatSettings;
use super::errcode::{Reaction, Reply, reaction};
use super::wire::{Wire, hide};
use crate::sender::platform::{Answer, AnswerClass};

const PATH: &str = "/cgi-bin/stable_token";
const DOING: &str = "access token";

/// Longest one renewal may take; within it, a broken connection is tried a second time.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(5);
const TRIES: u32 = 2;

/// Lifetimes the platform may state, in seconds; it states 7,200. Cut, so that no answer can make
/// a token live for ever.
const LIFETIME_SECONDS_MAX: u64 = 86_400;

/// Longest token taken; the platform asks for room for 512.
const TOKEN_BYTES_MAX: usize = 2_048;

/// What a source brings.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Granted {
    pub value: SecretString,
    pub lifetime: Duration,
}

/// A question to the platform under way.
pub(in crate::sender) type Asking<'a> =
    Pin<Box<dyn Future<Output = Result<Granted, Answer>> + Send + 'a>>;

/// Where tokens come from.
pub(in crate::sender) trait Source: Send + Sync + fmt::Debug {
    /// Asks for a token other than `held`, which is refused or near its end, within some seconds.
    ///
    /// # Errors
    /// The answer to give for the message that needs it. Nothing in it is secret.
    fn ask<'a>(&'a self, held: Option<&'a SecretString>) -> Asking<'a>;

    /// App id of the account that it is for.
    fn app_id(&self) -> &str;

    /// A number of its own, so that not all tokens are renewed at once.
    fn seed(&self) -> i64;
}

/// An own account's tokens.
#[derive(Debug)]
pub(super) struct StableToken {
    pub settings: Arc<WechatSettings>,
    pub wire: Wire,
}

impl Source for StableToken {
    fn app_id(&self) -> &str {
        &self.settings.app_id
    }

    // The platform itself gives every node the same one.
    fn ask<'a>(&'a self, _: Option<&'a SecretString>) -> Asking<'a> {
        Box::pin(async {
            let body = json!({
                "grant_type": "client_credential",
                "appid": self.settings.app_id,
                "secret": self.settings.app_secret.expose_secret(),
                "force_refresh": false,
            });
            let asked = ask(
                &self.wire,
                (PATH, DOING),
                &body,
                self.settings.attempt_timeout,
            )
            .await;
            asked
                .and_then(|reply| granted(&reply, "access_token", DOING))
                .map_err(|failure| hide(failure, &self.settings.app_secret))
        })
    }

    fn seed(&self) -> i64 {
        self.settings.account.0
    }
}

/// Asks what needs no token, twice if the connection breaks: asking again harms nobody.
pub(super) async fn ask(
    wire: &Wire,
    (path, doing): (&str, &str),
    body: &Value,
    timeout: Duration,
) -> Result<Reply, Answer> {
    let body = body.to_string().into_bytes();
    let deadline = Instant::now() + RENEWAL_TIMEOUT.min(timeout);
    let written = Arc::new(AtomicBool::new(false));
    let mut tries = 0;
    loop {
        tries += 1;
        let asked = wire.post(path, None, body.clone(), deadline, &written);
        match asked.await {
            Ok(reply) => return Ok(reply),
            Err(silence) if tries >= TRIES || Instant::now() >= deadline => {
                return Err(silence.harmless(doing));
            }
            Err(_) => {}
        }
    }
}

/// The token in the field `name` of an answer.
pub(super) fn granted(reply: &Reply, name: &str, doing: &str) -> Result<Granted, Answer> {
    if let Some(code) = reply.code.filter(|code| *code != 0) {
        return Err(reply.answer_as(refusal(code), doing));
    }
    let fields = &reply.fields;
    granted_in(fields, name).ok_or_else(|| {
        let words = format!("{doing}: answer has no token");
        Answer::without_code(AnswerClass::RetrySoon, words)
    })
}

/// The token in the field `name` of an object, with its `expires_in`.
pub(in crate::sender) fn granted_in(fields: &Value, name: &str) -> Option<Granted> {
    let value = secret_in(fields, name)?;
    let seconds = fields.get("expires_in")?.as_u64().filter(|s| *s > 0)?;
    Some(Granted {
        value,
        lifetime: Duration::from_secs(seconds.min(LIFETIME_SECONDS_MAX)),
    })
}

/// A secret in a field of an object, where it is one that can be used.
pub(super) fn secret_in(fields: &Value, name: &str) -> Option<SecretString> {
    let value = fields.get(name)?.as_str()?;
    let usable = !value.is_empty()
        && value.len() <= TOKEN_BYTES_MAX
        && value.bytes().all(|b| b.is_ascii_graphic());
    usable.then(|| SecretString::from(value))
}

/// What a refused token means for the message that needed it: never that the message is at fault.
pub(super) fn refusal(code: i64) -> AnswerClass {
    match reaction(code) {
        Reaction::Settle(
            class @ (AnswerClass::RetrySoon | AnswerClass::NextMinute | AnswerClass::NextDay),
        ) => class,
        // 40001 here says that the secret is wrong, and no retry will mend it.
        Reaction::Settle(_)
        | Reaction::RefreshToken
        | Reaction::UploadAgain
        | Reaction::AskWhetherFollowed => AnswerClass::NeedsAttention,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_never_costs_a_message() {
        for (code, class) in [
            (40001, AnswerClass::NeedsAttention),
            (40013, AnswerClass::NeedsAttention),
            (40125, AnswerClass::NeedsAttention),
            (40164, AnswerClass::NeedsAttention),
            (89503, AnswerClass::NeedsAttention),
            (40003, AnswerClass::NeedsAttention),
            (45011, AnswerClass::NextMinute),
            (45009, AnswerClass::NextDay),
            (-1, AnswerClass::RetrySoon),
            (99_999, AnswerClass::RetrySoon),
        ] {
            assert_eq!(refusal(code), class, "{code}");
        }
    }
}
