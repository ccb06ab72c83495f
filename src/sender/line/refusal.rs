//! What an answer of the Messaging API means: its HTTP status, and for 429 its words. Pure.
//!
//! 409 under a retry key says that this very call was accepted before. 429 is either the rate, which
//! passes, or the month's messages, which the platform counts by its own calendar and may hold back
//! for a while for another call; both end by themselves, so the account rests and is asked again.
//!
//! Source: <https://developers.line.biz/en/reference/messaging-api/>, "Status codes" and "Error
//! messages"; the FAQ on "You have reached your monthly limit."

use serde_json::Value;

use crate::clock::Timestamp;
use crate::sender::http::Heard;
use crate::sender::platform::{Answer, AnswerClass};
use crate::sender::wechat::errcode::clean;

const MONTHLY: &str = "monthly limit";

/// The answer to a call.
pub(super) fn answer(path: &str, heard: &Heard, now: Timestamp) -> Answer {
    let said = heard.json();
    if !said.is_object() {
        let words = format!("{path}: HTTP {}, and no answer of the API's", heard.status);
        return Answer::without_code(AnswerClass::Unknown, words);
    }
    let words = clean(said.get("message").and_then(Value::as_str).unwrap_or(""));
    let class = match heard.status {
        200..=299 => return Answer::without_code(AnswerClass::Accepted, path),
        409 => return Answer::without_code(AnswerClass::Accepted, "accepted before"),
        429 if words.contains(MONTHLY) => AnswerClass::NextDay,
        429 => match heard.retry_after(now) {
            Some(span) => AnswerClass::NotBefore(now.plus(span)),
            None => AnswerClass::NextMinute,
        },
        400 | 413 | 415 => AnswerClass::Dropped,
        // Token, permissions, address, or an interface that is no more: nothing will pass.
        401 | 403 | 404 | 405 | 410 => AnswerClass::NeedsAttention,
        // "If you get a 5xx error, there is a possibility that your message was delivered."
        _ => AnswerClass::Unknown,
    };
    Answer {
        class,
        code: Some(i64::from(heard.status)),
        detail: format!("{path}: {} {words}", heard.status),
        reference: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classed(status: u16, body: &str) -> AnswerClass {
        let heard = Heard::of(status, body);
        answer("push", &heard, Timestamp(0)).class
    }

    #[test]
    fn each_status_has_its_class() {
        use AnswerClass::{Accepted, Dropped, NeedsAttention, NextDay, NextMinute, Unknown};
        let said = r#"{"message":"m"}"#;
        for (status, class) in [
            (200, Accepted),
            (409, Accepted),
            (400, Dropped),
            (413, Dropped),
            (401, NeedsAttention),
            (403, NeedsAttention),
            (429, NextMinute),
            (500, Unknown),
        ] {
            assert_eq!(classed(status, said), class, "{status}");
        }
        let monthly = r#"{"message":"You have reached your monthly limit."}"#;
        assert_eq!(classed(429, monthly), NextDay);
        for garbage in ["", "ok", "<html></html>", "[]"] {
            assert_eq!(classed(200, garbage), Unknown, "{garbage}");
        }
    }
}
