//! Broken answers: turns the right answer of a call into what a fault asks for.
//!
//! Whether the call was carried out before is decided by the caller.

use std::io;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Body, Response};

use super::fault::FaultKind;

/// A hanging call is let go after this long, so that forgotten ones do not pile up.
const HANG_MAX: Duration = Duration::from_secs(600);

/// The answer to send instead of `right`, after waiting where the fault waits.
///
/// Resets are done by the caller, who holds the connection; they arrive here as an empty answer.
pub(super) async fn spoil(kind: &FaultKind, right: String, trap: &str) -> Response {
    match kind {
        FaultKind::Delay { ms } => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            json(right)
        }
        FaultKind::Hang => {
            tokio::time::sleep(HANG_MAX).await;
            StatusCode::GATEWAY_TIMEOUT.into()
        }
        FaultKind::ResetBefore | FaultKind::ResetAfter => StatusCode::NO_CONTENT.into(),
        FaultKind::Status { status } => status_page(*status),
        FaultKind::Garbage => json("\u{0}\u{1}{{]]errcode\"::0,,".to_owned()),
        FaultKind::Truncated => truncated(&right),
        FaultKind::Html => html(StatusCode::OK),
        FaultKind::WrongLength => {
            let short = right.len().saturating_sub(5).max(1);
            stream_of_length(short, stream::iter([Ok::<_, io::Error>(right)]))
        }
        FaultKind::Huge { bytes } => huge(*bytes),
        FaultKind::Drip { ms } => drip(right, Duration::from_millis(*ms)),
        FaultKind::Redirect { location } => {
            let location = location.as_deref().unwrap_or(trap);
            let mut response: Response = StatusCode::FOUND.into();
            if let Ok(location) = HeaderValue::from_str(location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        FaultKind::Errcode { .. }
        | FaultKind::KillTokens { .. }
        | FaultKind::Undelivered { .. }
        | FaultKind::Drop
        | FaultKind::LoseAnswer => json(right),
    }
}

/// A whole answer, with the header that the platform sends.
pub(super) fn json(body: String) -> Response {
    Response::builder()
        .content_type("application/json; encoding=utf-8")
        .body(body)
}

fn html(status: StatusCode) -> Response {
    Response::builder()
        .status(status)
        .content_type("text/html")
        .body("<html><head><title>error</title></head><body><center><h1>error</h1></center></body></html>")
}

fn status_page(status: u16) -> Response {
    html(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
}

/// Half of the body under the length of the whole; the server then closes the connection.
fn truncated(right: &str) -> Response {
    let half: String = right.chars().take(right.chars().count() / 2).collect();
    stream_of_length(right.len(), stream::iter([Ok::<_, io::Error>(half)]))
}

fn stream_of_length<S>(length: usize, pieces: S) -> Response
where
    S: futures_util::Stream<Item = Result<String, io::Error>> + Send + 'static,
{
    Response::builder()
        .content_type("application/json; encoding=utf-8")
        .header(header::CONTENT_LENGTH, length)
        .body(Body::from_bytes_stream(pieces))
}

fn huge(bytes: u64) -> Response {
    const PIECE: usize = 64 * 1024;
    static SPACES: [u8; PIECE] = [b' '; PIECE];
    let pieces = stream::unfold(bytes, |left| async move {
        let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        (size > 0).then(|| (Ok::<_, io::Error>(&SPACES[..size]), left - size as u64))
    });
    Response::builder()
        .content_type("application/json; encoding=utf-8")
        .body(Body::from_bytes_stream(pieces))
}

fn drip(right: String, pause: Duration) -> Response {
    let bytes = stream::iter(right.into_bytes()).then(move |byte| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, io::Error>(vec![byte])
    });
    Response::builder()
        .content_type("application/json; encoding=utf-8")
        .body(Body::from_bytes_stream(bytes))
}
