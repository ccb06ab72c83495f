//! One POST to a platform that answers with HTTP statuses: what came back, or whether anything had
//! left when the connection broke. For the platforms other than WeChat, which answers 200 to all.
//!
//! A redirect is not followed. Deliberately absent: what a status means (each platform's own file).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures_util::stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, RequestBuilder};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::platform::{Answer, AnswerClass};
use super::wechat::wire::{describe, read_at_most};
use crate::clock::Timestamp;

/// Longest answer that is read; most are a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Longest rest that a platform is believed to want.
const REST_MAX: Duration = Duration::from_secs(24 * 3600);

/// What a platform answered.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) heads: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Heard {
    /// For tests of what answers mean.
    #[cfg(test)]
    pub(super) fn of(status: u16, body: &str) -> Self {
        let (heads, body) = (HeaderMap::new(), body.as_bytes().to_vec());
        Self {
            status,
            heads,
            body,
        }
    }

    /// The body as JSON; null when it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// How long `Retry-After` asks to wait, in seconds or as a date.
    pub(super) fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.heads.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let seconds = text.parse().ok()?;
            return Some(Duration::from_secs(seconds).min(REST_MAX));
        }
        let parser = jiff::fmt::rfc2822::DateTimeParser::new();
        let at = parser.parse_timestamp(text).ok()?;
        let span = Timestamp(at.as_millisecond()).since(now);
        Some(span.min(REST_MAX))
    }
}

/// The class and words of an answer that is about the address, not the message: a redirect, or a
/// page of somebody else's.
pub(super) fn elsewhere(doing: &str, status: u16) -> Answer {
    let words = format!("{doing}: HTTP {status}; check the API's address");
    Answer::without_code(AnswerClass::NeedsAttention, words)
}

/// A request that knows whether its body has begun to leave.
pub(super) struct Post {
    request: RequestBuilder,
    written: Arc<AtomicBool>,
}

impl Post {
    /// JSON.
    pub(super) fn json(request: RequestBuilder, body: Vec<u8>) -> Self {
        let written = Arc::new(AtomicBool::new(false));
        let length = body.len();
        let request = request
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            // Spares the platform a chunked body, which a stream would otherwise become.
            .header(CONTENT_LENGTH, length)
            .body(noted(body, &written));
        Self { request, written }
    }

    /// A form with texts and one file.
    pub(super) fn form(
        request: RequestBuilder,
        texts: Vec<(String, String)>,
        (field, name, bytes): (&'static str, String, Vec<u8>),
    ) -> Self {
        let written = Arc::new(AtomicBool::new(false));
        let length = bytes.len() as u64;
        let part = Part::stream_with_length(noted(bytes, &written), length).file_name(name);
        let form = texts
            .into_iter()
            .fold(Form::new(), |form, (name, text)| form.text(name, text));
        // The file comes last: without it the platform has nothing to take.
        let request = request.multipart(form.part(field, part));
        Self { request, written }
    }

    /// The answer, or what its absence means: definite while nothing of the body had left.
    pub(super) async fn exchange(self, doing: &str, deadline: Instant) -> Result<Heard, Answer> {
        self.exchange_within(doing, deadline, ANSWER_BYTES_MAX)
            .await
    }

    /// The same for an answer that may be so many bytes long.
    pub(super) async fn exchange_within(
        self,
        doing: &str,
        deadline: Instant,
        bytes_max: usize,
    ) -> Result<Heard, Answer> {
        let written = self.written;
        let answered = timeout_at(deadline, async {
            let response = self.request.send().await.map_err(describe)?;
            let (status, heads) = (response.status().as_u16(), response.headers().clone());
            let body = read_at_most(response, bytes_max).await;
            let body = body.map_err(|error| format!("unreadable answer: {error}"))?;
            Ok(Heard {
                status,
                heads,
                body,
            })
        });
        let heard = match answered.await {
            Ok(heard) => heard,
            Err(_) => Err("no answer in time".to_owned()),
        };
        heard.map_err(|words: String| {
            let class = match written.load(Ordering::SeqCst) {
                true => AnswerClass::Unknown,
                false => AnswerClass::RetrySoon,
            };
            Answer::without_code(class, format!("{doing}: {words}"))
        })
    }
}

/// A body that notes when its bytes are asked for: hyper does it only when it has a connection to
/// write to.
fn noted(body: Vec<u8>, written: &Arc<AtomicBool>) -> Body {
    let written = Arc::clone(written);
    Body::wrap_stream(stream::once(async move {
        written.store(true, Ordering::SeqCst);
        Ok::<_, Infallible>(body)
    }))
}

/// The rest that a platform asked an account for: until it ends nothing is asked of the platform.
#[derive(Debug)]
pub(super) struct Rest(AtomicI64);

impl Default for Rest {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Rest {
    /// The answer for a message while the rest lasts. It has no code, for nothing was asked.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), Answer> {
        let until = Timestamp(self.0.load(Ordering::SeqCst));
        if now >= until {
            return Ok(());
        }
        let words = format!("the platform wants to be asked nothing before {until}");
        Err(Answer::without_code(AnswerClass::NotBefore(until), words))
    }

    /// Notes a rest from now on; its end.
    pub(super) fn begin(&self, now: Timestamp, span: Duration) -> Timestamp {
        let until = now.plus(span.min(REST_MAX));
        self.0.fetch_max(until.0, Ordering::SeqCst);
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = Timestamp(1_700_000_000_000);
        let heard = |value: &str| {
            let mut heads = HeaderMap::new();
            heads.insert(RETRY_AFTER, value.parse().unwrap());
            let body = Vec::new();
            Heard {
                status: 429,
                heads,
                body,
            }
            .retry_after(now)
        };
        assert_eq!(heard("7"), Some(Duration::from_secs(7)));
        let date = heard("Tue, 14 Nov 2023 22:14:20 GMT");
        assert_eq!(date, Some(Duration::from_secs(60)));
        assert_eq!(heard("Tue, 14 Nov 2023 22:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(heard("soon"), None);
        assert_eq!(heard("99999999"), Some(REST_MAX));
    }

    #[test]
    fn a_rest_ends_and_a_shorter_one_does_not_shorten_it() {
        let (rest, now) = (Rest::default(), Timestamp(1_000));
        assert!(rest.check(now).is_ok());
        rest.begin(now, Duration::from_secs(10));
        rest.begin(now, Duration::from_secs(1));
        let until = Timestamp(11_000);
        let class = rest.check(Timestamp(10_999)).unwrap_err().class;
        assert_eq!(class, AnswerClass::NotBefore(until));
        assert!(rest.check(until).is_ok());
    }
}
