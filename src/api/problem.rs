//! Errors as RFC 9457 says: `application/problem+json`, made here and nowhere else.
//!
//! What went wrong inside goes to the log; a caller reads only what the caller can change.

use poem::http::{HeaderValue, StatusCode, header};
use poem::{Endpoint, IntoResponse, Middleware, Request, Response};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object};
use serde_json::{Value, json};

use crate::store;

/// Media type of a problem.
const CONTENT_TYPE: &str = "application/problem+json";

/// An error.
#[derive(Clone, Debug, Object)]
pub(super) struct Problem {
    /// Always `about:blank`: `code` says which problem it is.
    #[oai(rename = "type")]
    kind: String,
    /// The HTTP status in words.
    title: String,
    status: u16,
    /// What was wrong with this request.
    detail: String,
    /// Stays the same for the same problem, for programs to compare.
    code: String,
}

macro_rules! codes {
    ($($name:ident: $word:literal, $status:ident;)*) => {
        /// Which problem it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Code { $($name),* }

        impl Code {
            fn of_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$name),)* _ => None }
            }

            fn word(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }

            fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),* }
            }
        }
    };
}

codes! {
    BadRequest: "bad_request", BAD_REQUEST;
    BadCursor: "bad_cursor", BAD_REQUEST;
    KeyMissing: "key_missing_or_wrong", UNAUTHORIZED;
    ScopeMissing: "scope_missing", FORBIDDEN;
    NoSuchPath: "no_such_path", NOT_FOUND;
    NoSuchAccount: "no_such_account", NOT_FOUND;
    NoSuchComponent: "no_such_component", NOT_FOUND;
    NoSuchFollower: "no_such_follower", NOT_FOUND;
    NoSuchSequence: "no_such_sequence", NOT_FOUND;
    NoSuchLinkKey: "no_such_link_key", NOT_FOUND;
    NoSuchBroadcast: "no_such_broadcast", NOT_FOUND;
    MethodNotAllowed: "method_not_allowed", METHOD_NOT_ALLOWED;
    NotAllowed: "reenter_not_allowed", CONFLICT;
    NotFollowing: "not_following", CONFLICT;
    NotNow: "state_not_right", CONFLICT;
    NoAlerts: "alerts_not_configured", CONFLICT;
    NoPlatform: "no_platform", CONFLICT;
    NoClearLeft: "no_clear_left", CONFLICT;
    PlatformRefused: "platform_refused", CONFLICT;
    PlatformSilent: "platform_silent", GATEWAY_TIMEOUT;
    TooLarge: "body_too_large", PAYLOAD_TOO_LARGE;
    MediaType: "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE;
    KeyReused: "idempotency_key_reused", UNPROCESSABLE_ENTITY;
    BadKey: "bad_idempotency_key", UNPROCESSABLE_ENTITY;
    Internal: "internal", INTERNAL_SERVER_ERROR;
    Busy: "busy", SERVICE_UNAVAILABLE;
}

impl Problem {
    fn new(code: Code, status: StatusCode, detail: String) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail,
            code: code.word().to_owned(),
        }
    }
}

/// An operation's errors.
#[derive(Clone, Debug, ApiResponse)]
pub(super) enum Refusal {
    /// A parameter or the body cannot be read.
    #[oai(status = 400, content_type = "application/problem+json")]
    BadRequest(Json<Problem>),
    /// The key is missing or is nobody's.
    #[oai(status = 401, content_type = "application/problem+json")]
    Unauthorized(Json<Problem>),
    /// The key lacks the scope.
    #[oai(status = 403, content_type = "application/problem+json")]
    Forbidden(Json<Problem>),
    /// There is no such account, follower, sequence or broadcast.
    #[oai(status = 404, content_type = "application/problem+json")]
    NotFound(Json<Problem>),
    /// The rules of the sequence, the state of follower or broadcast, or the platform do not allow it.
    #[oai(status = 409, content_type = "application/problem+json")]
    Conflict(Json<Problem>),
    /// The body is larger than 64 KiB.
    #[oai(status = 413, content_type = "application/problem+json")]
    TooLarge(Json<Problem>),
    /// The body is not JSON.
    #[oai(status = 415, content_type = "application/problem+json")]
    MediaType(Json<Problem>),
    /// The idempotency key cannot be used for this request.
    #[oai(status = 422, content_type = "application/problem+json")]
    Unprocessable(Json<Problem>),
    /// Something went wrong inside; the log says what.
    #[oai(status = 500, content_type = "application/problem+json")]
    Internal(Json<Problem>),
    /// Too much is waiting to be written; nothing of this request was.
    #[oai(status = 503, content_type = "application/problem+json")]
    Busy(Json<Problem>),
    /// The platform's answer was lost: it may or may not have done what was asked.
    #[oai(status = 504, content_type = "application/problem+json")]
    Silent(Json<Problem>),
}

impl Refusal {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        let status = code.status();
        let problem = Json(Problem::new(code, status, detail.into()));
        match status {
            StatusCode::BAD_REQUEST => Self::BadRequest(problem),
            StatusCode::UNAUTHORIZED => Self::Unauthorized(problem),
            StatusCode::FORBIDDEN => Self::Forbidden(problem),
            StatusCode::NOT_FOUND => Self::NotFound(problem),
            StatusCode::CONFLICT => Self::Conflict(problem),
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge(problem),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::MediaType(problem),
            StatusCode::UNPROCESSABLE_ENTITY => Self::Unprocessable(problem),
            StatusCode::SERVICE_UNAVAILABLE => Self::Busy(problem),
            StatusCode::GATEWAY_TIMEOUT => Self::Silent(problem),
            _ => Self::Internal(problem),
        }
    }
}

impl Refusal {
    /// What it is made again from, for whoever asks again.
    pub(super) fn kept(&self) -> Value {
        let problem = self.problem();
        json!({ "code": problem.code, "detail": problem.detail })
    }

    /// One that was kept.
    pub(super) fn from_kept(kept: &Value) -> Option<Self> {
        let code = Code::of_word(kept.get("code")?.as_str()?)?;
        Some(Self::new(code, kept.get("detail")?.as_str()?))
    }

    fn problem(&self) -> &Problem {
        match self {
            Self::BadRequest(problem)
            | Self::Unauthorized(problem)
            | Self::Forbidden(problem)
            | Self::NotFound(problem)
            | Self::Conflict(problem)
            | Self::TooLarge(problem)
            | Self::MediaType(problem)
            | Self::Unprocessable(problem)
            | Self::Internal(problem)
            | Self::Busy(problem)
            | Self::Silent(problem) => problem,
        }
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        use store::Error::{Away, Busy, Stopped};
        if matches!(error, Busy | Stopped | Away) {
            return Self::new(Code::Busy, "nothing was written: try again");
        }
        tracing::error!(%error, cause = ?error, "api request failed");
        Self::new(Code::Internal, "the log says what happened")
    }
}

/// Makes a problem of every error that is not one yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Problems;

impl<E: Endpoint> Middleware<E> for Problems {
    type Output = WithProblems<E>;

    fn transform(&self, inner: E) -> Self::Output {
        WithProblems(inner)
    }
}

/// An endpoint whose errors are problems.
#[derive(Debug)]
pub(super) struct WithProblems<E>(E);

impl<E: Endpoint> Endpoint for WithProblems<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let (status, said, response) = match self.0.call(request).await {
            Ok(output) => {
                let response = output.into_response();
                (response.status(), String::new(), response)
            }
            Err(error) => {
                let (status, said) = (error.status(), error.to_string());
                (status, said, error.into_response())
            }
        };
        let is_problem = response.content_type() == Some(CONTENT_TYPE);
        if is_problem || status.is_success() || status.is_redirection() {
            return Ok(response);
        }
        Ok(problem(status, said))
    }
}

fn problem(status: StatusCode, said: String) -> Response {
    let (code, detail) = match status {
        StatusCode::BAD_REQUEST => (Code::BadRequest, said),
        StatusCode::UNAUTHORIZED => (
            Code::KeyMissing,
            "send `Authorization: Bearer <key>` or `X-Api-Key: <key>`".to_owned(),
        ),
        StatusCode::FORBIDDEN => (Code::ScopeMissing, said),
        StatusCode::NOT_FOUND => (Code::NoSuchPath, "there is nothing at this path".to_owned()),
        StatusCode::METHOD_NOT_ALLOWED => (
            Code::MethodNotAllowed,
            "this path does not take this method".to_owned(),
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (Code::TooLarge, said),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (Code::MediaType, "send application/json".to_owned()),
        _ if status.is_client_error() => (Code::BadRequest, said),
        _ => {
            tracing::error!(%status, error = said, "api request failed");
            (Code::Internal, "the log says what happened".to_owned())
        }
    };
    let body = Json(Problem::new(code, status, detail));
    let mut response = body.into_response();
    response.set_status(status);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"dripwheel\"");
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
