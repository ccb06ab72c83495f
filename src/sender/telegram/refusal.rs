//! What a Bot API answer means.
//!
//! Every answer is JSON with `ok`; a refusal has `error_code`, `description` and, for a rate,
//! `parameters.retry_after`. The documents say that codes may change and descriptions are for people;
//! no other sign tells a block from another 403, so the words that have stood for years are read.
//! Anything that is no such JSON leaves open whether the message was taken. Pure.
//!
//! Source: <https://core.telegram.org/bots/api#making-requests>; the words as
//! <https://github.com/TelegramBotAPI/errors> lists them.

use std::time::Duration;

use serde_json::Value;

use crate::clock::Timestamp;
use crate::sender::http::Heard;
use crate::sender::platform::{Answer, AnswerClass};
use crate::sender::wechat::errcode::clean;

/// How long to rest where a 429 does not say it.
const REST: Duration = Duration::from_secs(5);

/// Words of a 403 about somebody who is gone for us.
const GONE: [&str; 4] = [
    "blocked by the user",
    "user is deactivated",
    "can't initiate conversation",
    "bot was kicked",
];

/// The answer to a call of `method`.
pub(super) fn answer(method: &str, heard: &Heard, said: &Value, now: Timestamp) -> Answer {
    let Some(ok) = said.get("ok").and_then(Value::as_bool) else {
        let words = format!(
            "{method}: HTTP {}, and no answer of the API's",
            heard.status
        );
        return Answer::without_code(AnswerClass::Unknown, words);
    };
    if ok {
        return Answer::without_code(AnswerClass::Accepted, method);
    }
    let code = said.get("error_code").and_then(Value::as_i64);
    let code = code.unwrap_or_else(|| i64::from(heard.status));
    let words = clean(
        said.get("description")
            .and_then(Value::as_str)
            .unwrap_or(""),
    );
    Answer {
        class: class(code, &words, said, heard, now),
        code: Some(code),
        detail: format!("{method}: {code} {words}"),
        reference: None,
    }
}

fn class(code: i64, words: &str, said: &Value, heard: &Heard, now: Timestamp) -> AnswerClass {
    match code {
        429 => {
            let seconds = said.pointer("/parameters/retry_after");
            let span = seconds.and_then(Value::as_u64).map(Duration::from_secs);
            let span = span.or_else(|| heard.retry_after(now)).unwrap_or(REST);
            AnswerClass::NotBefore(now.plus(span.min(Duration::from_secs(24 * 3600))))
        }
        403 if GONE.iter().any(|gone| words.contains(gone)) => AnswerClass::Unsubscribed,
        // "bot can't send messages to the user" and its like: seen to pass.
        403 => AnswerClass::RetrySoon,
        // A token that is none is answered 404.
        401 | 404 => AnswerClass::NeedsAttention,
        400..=499 => AnswerClass::Dropped,
        // The service fell over somewhere on the way.
        _ => AnswerClass::Unknown,
    }
}

/// Whether a refusal is about the file and not about the message.
pub(super) fn blames_file(said: &Value) -> bool {
    let words = said.get("description").and_then(Value::as_str);
    words.is_some_and(|words| words.contains("file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn classed(status: u16, said: &Value) -> AnswerClass {
        let heard = Heard::of(status, &said.to_string());
        answer("sendMessage", &heard, said, NOW).class
    }

    fn refused(code: u16, words: &str) -> AnswerClass {
        classed(
            code,
            &json!({ "ok": false, "error_code": code, "description": words }),
        )
    }

    #[test]
    fn each_refusal_has_its_class() {
        use AnswerClass::{Dropped, NeedsAttention, RetrySoon, Unknown, Unsubscribed};
        for (code, words, class) in [
            (403, "Forbidden: bot was blocked by the user", Unsubscribed),
            (403, "Forbidden: user is deactivated", Unsubscribed),
            (
                403,
                "Forbidden: bot can't send messages to the user",
                RetrySoon,
            ),
            (401, "Unauthorized", NeedsAttention),
            (404, "Not Found", NeedsAttention),
            (400, "Bad Request: chat not found", Dropped),
            (413, "Request Entity Too Large", Dropped),
            (500, "Internal Server Error", Unknown),
        ] {
            assert_eq!(refused(code, words), class, "{code} {words}");
        }
        let taken = json!({ "ok": true, "result": { "message_id": 1 } });
        assert_eq!(classed(200, &taken), AnswerClass::Accepted);
    }

    #[test]
    fn a_rate_says_how_long_and_garbage_says_nothing() {
        let said = json!({ "ok": false, "error_code": 429, "description": "Too Many Requests",
            "parameters": { "retry_after": 31 } });
        let until = NOW.plus(Duration::from_secs(31));
        assert_eq!(classed(429, &said), AnswerClass::NotBefore(until));
        for (status, said) in [(200, json!({})), (200, Value::Null), (502, Value::Null)] {
            assert_eq!(classed(status, &said), AnswerClass::Unknown);
        }
    }
}
