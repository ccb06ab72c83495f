//! The platform's error codes: what to do about each, and how to read one out of an answer.
//!
//! WeChat answers HTTP 200 to nearly everything; the code in the JSON is the real answer. A code
//! that was read is definite, even one nobody has seen before. Deliberately absent: doing what
//! a reaction asks (the client).

use serde_json::Value;

use super::codes::TABLE;
use crate::sender::platform::{Answer, AnswerClass};

/// What a code asks of the client before, or instead of, telling the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The answer's class, nothing else to do.
    Settle(AnswerClass),
    /// Renew the access token and send once more; the second time it is `TokenStale`.
    RefreshToken,
    /// Forget the media id, upload once more and send once more; then `Dropped`.
    UploadAgain,
    /// One code, two meanings: ask whether the follower still follows.
    AskWhetherFollowed,
}

impl Reaction {
    /// The class of an answer when nothing more can be done about it.
    pub fn class(self) -> AnswerClass {
        match self {
            Self::Settle(class) => class,
            Self::RefreshToken => AnswerClass::TokenStale,
            Self::UploadAgain => AnswerClass::Dropped,
            Self::AskWhetherFollowed => AnswerClass::GrantClosed,
        }
    }
}

/// What to do about a code. A code that is not in the table was still a refusal, so it is worth
/// another attempt soon; the engine bounds how many.
pub fn reaction(code: i64) -> Reaction {
    row(code).map_or(Reaction::Settle(AnswerClass::RetrySoon), |row| row.1)
}

/// The platform's words for a code, where it is known.
pub fn words(code: i64) -> Option<&'static str> {
    row(code).map(|row| row.2)
}

fn row(code: i64) -> Option<&'static super::codes::Row> {
    let at = TABLE.binary_search_by_key(&code, |row| row.0).ok()?;
    TABLE.get(at)
}

/// A JSON object that the platform answered with.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// Absent in some successful answers, such as a token's or an upload's.
    pub code: Option<i64>,
    /// The platform's `errmsg`, which ends in the request's id (`rid`).
    message: String,
    /// Everything it said.
    pub fields: Value,
}

impl Reply {
    /// Reads an answer; `None` when it is not a JSON object or its code is not a number.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let fields: Value = serde_json::from_slice(bytes).ok()?;
        let object = fields.as_object()?;
        // Some interfaces wrap the pair in `base_resp`, with names of their own.
        let wrapped = object.get("base_resp");
        let code = object
            .get("errcode")
            .or_else(|| wrapped.and_then(|inner| inner.get("ret")));
        let message = object
            .get("errmsg")
            .or_else(|| wrapped.and_then(|inner| inner.get("err_msg")))
            .and_then(Value::as_str)
            .map(clean)
            .unwrap_or_default();
        let code = match code {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.trim().parse().ok()?),
            Some(number) => Some(number.as_i64()?),
        };
        Some(Self {
            code,
            message,
            fields,
        })
    }

    /// A text field of the answer.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str().filter(|t| !t.is_empty())
    }

    /// What the reply means when nothing more is done about it. `doing` names the call for people.
    pub(super) fn answer(&self, doing: &str) -> Answer {
        let class = self
            .code
            .map_or(AnswerClass::Unknown, |code| reaction(code).class());
        self.answer_as(class, doing)
    }

    /// The same with a class that the client knows better.
    pub(super) fn answer_as(&self, class: AnswerClass, doing: &str) -> Answer {
        let Some(code) = self.code else {
            return Answer::without_code(class, format!("{doing}: answer has no errcode"));
        };
        let said = if self.message.is_empty() {
            words(code).unwrap_or("no words")
        } else {
            &self.message
        };
        Answer {
            class,
            code: Some(code),
            detail: format!("{doing}: {code} {said}"),
            reference: None,
        }
    }
}

/// Longest text of the other side's that goes into a detail, in characters.
const WORDS_MAX: usize = 300;

/// Foreign words on one bounded line, fit for a log and a page.
pub(in crate::sender) fn clean(text: &str) -> String {
    text.chars()
        .take(WORDS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::AnswerClass::*;
    use super::*;

    /// The platform's codes as the reference lists them, by what is to be done.
    const LISTED: &[(&str, AnswerClass, &[i64])] = &[
        ("ok", Accepted, &[0, 45065]),
        ("again soon", RetrySoon, &[-1, -1000, 61450]),
        ("token", TokenStale, &[40001, 40014, 42001]),
        ("minute", NextMinute, &[45011, 45066, 53501, 61005, 61006]),
        ("day", NextDay, &[45009, 45028, 48006]),
        ("unsubscribed", Unsubscribed, &[43004, 50005]),
        ("muted", Muted, &[43019, 48002]),
        ("closed", GrantClosed, &[45015, 45047, 43101, 43117]),
        ("media", Dropped, &[40007, 46001]),
        (
            "account",
            NeedsAttention,
            &[
                40002, 40013, 40125, 41002, 41004, 40164, 61004, 45035, 41001, 42007, 43002, 43003,
                48001, 48003, 48004, 50002, 53500, 61003, 61007, 61011, 61014, 61016, 61017, 61023,
                61024, 87009, 89501, 89503, 89506, 89507,
            ],
        ),
        (
            "this message",
            Dropped,
            &[
                40003, 40004, 40005, 40006, 40009, 40137, 40012, 45001, 45007, 40008, 40033, 40035,
                40038, 44002, 47001, 40130, 40031, 40032, 40132, 40200, 43005, 44003, 44004, 44001,
                45002, 45003, 45004, 45005, 45006, 45008, 45029, 45064, 45067, 45072, 45080, 45081,
                45083, 45084, 45109, 45157, 45158, 45159, 45058, 45059, 45162, 45166, 46004, 47003,
                48008, 49003, 50001, 61009, 61010, 61451, 61452, 76003, 76021, 76022,
            ],
        ),
    ];

    #[test]
    fn every_listed_code_is_in_the_table_once_with_its_class() {
        let mut listed = 0;
        for (what, class, codes) in LISTED {
            for code in *codes {
                let rows = TABLE.iter().filter(|row| row.0 == *code).count();
                assert_eq!(rows, 1, "{code} ({what})");
                assert_eq!(reaction(*code).class(), *class, "{code} ({what})");
                assert!(words(*code).is_some_and(|words| !words.is_empty()));
                listed += 1;
            }
        }
        assert_eq!(listed, TABLE.len(), "the table has a code nobody listed");
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn only_the_token_media_and_window_codes_ask_for_more() {
        let more = |wanted| -> Vec<i64> {
            let rows = TABLE.iter().filter(|row| row.1 == wanted);
            rows.map(|row| row.0).collect()
        };
        assert_eq!(more(Reaction::RefreshToken), [40001, 40014, 42001]);
        assert_eq!(more(Reaction::UploadAgain), [40007, 46001]);
        assert_eq!(more(Reaction::AskWhetherFollowed), [45015]);
    }

    #[test]
    fn a_code_may_be_a_number_or_a_string_and_may_be_wrapped() {
        for (body, code) in [
            (r#"{"errcode":0,"errmsg":"ok"}"#, Some(0)),
            (r#"{"errcode":"45015","errmsg":"x"}"#, Some(45015)),
            (r#"{"errcode":-1}"#, Some(-1)),
            (r#"{"base_resp":{"ret":-1,"err_msg":"x"}}"#, Some(-1)),
            (r#"{"media_id":"m"}"#, None),
            (r#"{"errcode":null}"#, None),
        ] {
            assert_eq!(Reply::parse(body.as_bytes()).unwrap().code, code, "{body}");
        }
    }

    #[test]
    fn garbage_is_no_reply() {
        let deep = "[".repeat(100_000);
        for body in [
            "",
            "ok",
            "null",
            "[]",
            "<html></html>",
            r#"{"errcode":0"#,
            r#"{"errcode":"zero"}"#,
            r#"{"errcode":1e300}"#,
            r#"{"errcode":99999999999999999999}"#,
            r#"{"errcode":{}}"#,
            r#"{"errcode":true}"#,
            "\u{feff}{}",
            &deep,
        ] {
            assert!(Reply::parse(body.as_bytes()).is_none(), "{body:.40}");
        }
        assert!(Reply::parse(b"{\"errmsg\":\"\xff\"}").is_none());
    }

    #[test]
    fn an_unknown_code_is_tried_again_and_kept() {
        let reply = Reply::parse(br#"{"errcode":99123,"errmsg":"new rid: 6-7"}"#).unwrap();
        let answer = reply.answer("send");
        assert_eq!(answer.class, RetrySoon);
        assert_eq!(answer.code, Some(99123));
        assert_eq!(answer.detail, "send: 99123 new rid: 6-7");
    }

    #[test]
    fn foreign_words_are_cut_and_kept_on_one_line() {
        let body = format!(r#"{{"errcode":1,"errmsg":"a\nb{}"}}"#, "字".repeat(9_000));
        let detail = Reply::parse(body.as_bytes()).unwrap().answer("send").detail;
        assert!(detail.starts_with("send: 1 a b字"));
        assert!(detail.chars().count() < 320);
    }
}
