//! One HTTP call to the platform: bounded in time and size, and honest about what may have arrived.
//!
//! Nothing is followed (redirects), inherited (proxies of the environment) or kept (cookies), and
//! no error text carries a URL, because the access token travels in the query. Deliberately absent:
//! what an answer means (`errcode`, the client) and any retry.

use std::convert::Infallible;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use futures_util::stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::errcode::{Reply, clean};
use crate::sender::platform::{Answer, AnswerClass};

/// Longest answer that is read unless the question allows more; most are a few hundred bytes.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Idle connections kept per host: as many as an account may have in flight.
const IDLE_MAX: usize = 256;

/// How long an idle connection is kept. Short, because a request that meets the platform's own
/// close on a kept connection has an unknown outcome.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

const USER_AGENT: &str = concat!("dripwheel/", env!("CARGO_PKG_VERSION"));

/// A builder with everything that every outgoing client here has in common.
pub(super) fn builder(connect_timeout: Duration) -> reqwest::ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails only when a provider is installed already, which serves as well.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
    });
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(connect_timeout)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .tcp_nodelay(true)
        .http1_only()
}

/// The HTTP client that all accounts share.
///
/// # Errors
/// When the system's certificates cannot be loaded.
pub fn http_client(connect_timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(connect_timeout)
        .pool_max_idle_per_host(IDLE_MAX)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build()
}

/// Why a call brought no reply of the platform's.
#[derive(Clone, Debug)]
pub(super) enum Silence {
    /// An HTTP answer that says something, but not with a code of the platform's.
    Status(StatusCode),
    /// No answer, or an unreadable one.
    Broken(String),
}

impl Silence {
    /// The class when it does not matter whether the platform has read the request: asking for a
    /// token or uploading the same file twice harms nobody.
    pub(super) fn harmless(self, doing: &str) -> Answer {
        match self {
            Self::Status(status) if status == StatusCode::TOO_MANY_REQUESTS => {
                Answer::without_code(AnswerClass::NextMinute, format!("{doing}: HTTP {status}"))
            }
            // The platform itself always answers 200; so this is another server or a wrong address.
            Self::Status(status) if !status.is_server_error() => Answer::without_code(
                AnswerClass::NeedsAttention,
                format!("{doing}: HTTP {status} without errcode; check the API's address"),
            ),
            Self::Status(status) => {
                Answer::without_code(AnswerClass::RetrySoon, format!("{doing}: HTTP {status}"))
            }
            Self::Broken(words) => {
                Answer::without_code(AnswerClass::RetrySoon, format!("{doing}: {words}"))
            }
        }
    }

    /// The class when a message was in the request: definite only where the platform cannot have
    /// taken it, which is while nothing of the body had left (`written` is false).
    pub(super) fn after_message(self, written: bool, doing: &str) -> Answer {
        let (class, words) = match self {
            Self::Broken(words) if !written => (AnswerClass::RetrySoon, words),
            Self::Broken(words) => (AnswerClass::Unknown, words),
            Self::Status(status) => match status.as_u16() {
                // A proxy or a wrong address, never the platform; not followed, so not taken. Nothing
                // will pass until a person looks.
                301 | 302 | 307 | 308 => (
                    AnswerClass::NeedsAttention,
                    format!("HTTP {status}, not followed; check the API's address"),
                ),
                429 => (AnswerClass::NextMinute, format!("HTTP {status}")),
                _ => (AnswerClass::Unknown, format!("HTTP {status}")),
            },
        };
        Answer::without_code(class, format!("{doing}: {words}"))
    }
}

/// The way to one platform's API.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    http: reqwest::Client,
    api_base: Url,
}

impl Wire {
    pub(super) fn new(http: reqwest::Client, api_base: Url) -> Self {
        Self { http, api_base }
    }

    /// The address of an interface; `path` begins with a slash.
    fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.api_base.clone();
        let base = self.api_base.path().trim_end_matches('/');
        url.set_path(&format!("{base}{path}"));
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Posts JSON. `written` becomes true once the connection stands and the body begins to leave;
    /// while it is false the other side cannot have taken anything.
    pub(super) async fn post(
        &self,
        path: &str,
        token: Option<&SecretString>,
        body: Vec<u8>,
        deadline: Instant,
        written: &Arc<AtomicBool>,
    ) -> Result<Reply, Silence> {
        let request = self.posted(path, token, body, written);
        exchange(request, deadline, ANSWER_BYTES_MAX).await
    }

    /// The request that `post` makes.
    pub(super) fn posted(
        &self,
        path: &str,
        token: Option<&SecretString>,
        body: Vec<u8>,
        written: &Arc<AtomicBool>,
    ) -> RequestBuilder {
        let url = match token {
            Some(token) => self.url(path, &[("access_token", token.expose_secret())]),
            None => self.url(path, &[]),
        };
        let length = body.len();
        let written = Arc::clone(written);
        // A stream, because hyper asks it for its bytes only when it has a connection to write to.
        let body = Body::wrap_stream(stream::once(async move {
            written.store(true, Ordering::SeqCst);
            Ok::<_, Infallible>(body)
        }));
        self.http
            .post(url)
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            // Spares the platform a chunked body, which a stream would otherwise become.
            .header(CONTENT_LENGTH, length)
            .body(body)
    }

    /// Posts a file as the form field `media`.
    pub(super) async fn upload(
        &self,
        path: &str,
        query: &[(&str, &str)],
        part: reqwest::multipart::Part,
        deadline: Instant,
    ) -> Result<Reply, Silence> {
        let form = reqwest::multipart::Form::new().part("media", part);
        let request = self.http.post(self.url(path, query)).multipart(form);
        exchange(request, deadline, ANSWER_BYTES_MAX).await
    }

    /// Asks.
    pub(super) async fn get(
        &self,
        path: &str,
        query: &[(&str, &str)],
        deadline: Instant,
    ) -> Result<Reply, Silence> {
        self.get_within(path, query, deadline, ANSWER_BYTES_MAX)
            .await
    }

    /// Asks for an answer that may be so many bytes long.
    pub(super) async fn get_within(
        &self,
        path: &str,
        query: &[(&str, &str)],
        deadline: Instant,
        bytes_max: usize,
    ) -> Result<Reply, Silence> {
        exchange(self.http.get(self.url(path, query)), deadline, bytes_max).await
    }
}

pub(super) async fn exchange(
    request: RequestBuilder,
    deadline: Instant,
    bytes_max: usize,
) -> Result<Reply, Silence> {
    let answered = timeout_at(deadline, async {
        let response = request.send().await.map_err(broken)?;
        read(response, bytes_max).await
    });
    answered
        .await
        .unwrap_or_else(|_| Err(Silence::Broken("no answer in time".into())))
}

async fn read(response: Response, bytes_max: usize) -> Result<Reply, Silence> {
    let status = response.status();
    let worth_reading = status.is_success() || status.is_client_error();
    if !worth_reading {
        return Err(Silence::Status(status));
    }
    let bytes = read_at_most(response, bytes_max)
        .await
        .map_err(|error| Silence::Broken(format!("unreadable answer: {error}")))?;
    match Reply::parse(&bytes) {
        Some(reply) if status.is_success() || reply.code.is_some() => Ok(reply),
        _ if status.is_success() => Err(Silence::Broken("answer is not the API's JSON".into())),
        _ => Err(Silence::Status(status)),
    }
}

/// Why a body could not be had whole.
#[derive(Debug, thiserror::Error)]
pub(in crate::sender) enum BodyError {
    #[error("longer than {0} bytes")]
    TooLong(usize),
    #[error("{0}")]
    Broken(String),
}

/// A whole body of at most `max` bytes.
pub(in crate::sender) async fn read_at_most(
    mut response: Response,
    max: usize,
) -> Result<Vec<u8>, BodyError> {
    let fits = |length: usize| length <= max;
    let announced = response.content_length().unwrap_or(0);
    if !usize::try_from(announced).is_ok_and(fits) {
        return Err(BodyError::TooLong(max));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::broken)? {
        if !fits(bytes.len() + chunk.len()) {
            return Err(BodyError::TooLong(max));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

impl BodyError {
    fn broken(error: reqwest::Error) -> Self {
        Self::Broken(describe(error))
    }
}

fn broken(error: reqwest::Error) -> Silence {
    Silence::Broken(describe(error))
}

/// An error's words with all its causes and without its URL.
pub(in crate::sender) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_words = inner.to_string();
        if !words.contains(&inner_words) {
            words.push_str(": ");
            words.push_str(&inner_words);
        }
        cause = inner.source();
    }
    clean(&words)
}

/// Takes a secret out of words that the other side may have echoed.
pub(in crate::sender) fn hide(mut answer: Answer, secret: &SecretString) -> Answer {
    let secret = secret.expose_secret();
    if !secret.is_empty() && answer.detail.contains(secret) {
        answer.detail = answer.detail.replace(secret, "[hidden]");
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_keeps_the_base_path_and_escapes_the_query() {
        let http = http_client(Duration::from_secs(1)).unwrap();
        for base in ["http://127.0.0.1:9/wx", "http://127.0.0.1:9/wx/?a=b"] {
            let wire = Wire::new(http.clone(), Url::parse(base).unwrap());
            let url = wire.url("/cgi-bin/user/info", &[("access_token", "a&b=c d")]);
            assert_eq!(
                url.as_str(),
                "http://127.0.0.1:9/wx/cgi-bin/user/info?access_token=a%26b%3Dc+d"
            );
        }
    }

    #[test]
    fn a_break_is_definite_only_before_the_body_left() {
        let class = |silence: Silence, written| silence.after_message(written, "send").class;
        let broken = Silence::Broken("reset".into());
        assert_eq!(class(broken.clone(), false), AnswerClass::RetrySoon);
        assert_eq!(class(broken, true), AnswerClass::Unknown);
        for (status, expected) in [
            (302, AnswerClass::NeedsAttention),
            (303, AnswerClass::Unknown),
            (404, AnswerClass::Unknown),
            (429, AnswerClass::NextMinute),
            (502, AnswerClass::Unknown),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(class(Silence::Status(status), true), expected, "{status}");
        }
    }

    #[test]
    fn an_echoed_secret_is_hidden() {
        let answer = Answer::without_code(AnswerClass::Unknown, "a SECRET b SECRET");
        let hidden = hide(answer, &SecretString::from("SECRET"));
        assert_eq!(hidden.detail, "a [hidden] b [hidden]");
    }
}
