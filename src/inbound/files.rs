//! Files of messages for platforms that fetch them from us: `GET /files/{sha256}`.
//!
//! A file is named by the hash of its bytes, which only somebody who has the message or the file can
//! know; so the door asks for nothing else. What is served is what an operator published in a
//! sequence, with nothing in it that a browser would run.

use std::sync::Arc;

use poem::http::{StatusCode, header};
use poem::web::{Data, Path};
use poem::{EndpointExt, Response, Route, get, handler};

use crate::store::{Store, assets};

/// Hexadecimal digits of a SHA-256.
const HASH_CHARS: usize = 64;

/// The routes, below `/files`.
pub fn routes(store: Arc<Store>) -> impl poem::Endpoint {
    Route::new().at("/:sha256", get(serve)).data(store)
}

#[handler]
async fn serve(Path(sha256): Path<String>, store: Data<&Arc<Store>>) -> Response {
    let is_hash = sha256.len() == HASH_CHARS
        && sha256
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    let found = match is_hash {
        true => assets::by_sha256(&store, &sha256).await,
        false => Ok(None),
    };
    match found {
        Ok(Some(file)) => Response::builder()
            .content_type(file.mime)
            .header(
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; sandbox",
            )
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .header(header::CACHE_CONTROL, "public, max-age=31536000, immutable")
            .body(file.bytes),
        Ok(None) => StatusCode::NOT_FOUND.into(),
        Err(error) => {
            tracing::warn!(%error, "a file was not served");
            StatusCode::SERVICE_UNAVAILABLE.into()
        }
    }
}
