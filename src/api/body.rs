//! Reads a request's body up to a limit before anything else does.
//!
//! The readers of the web framework read without one, and its own middleware refuses every request
//! that names no length.

use poem::{Endpoint, Middleware, Request, Response, Result};

/// Refuses bodies that are longer than so many bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimit(pub(super) usize);

impl<E: Endpoint> Middleware<E> for BodyLimit {
    type Output = Limited<E>;

    fn transform(&self, inner: E) -> Self::Output {
        Limited {
            inner,
            bytes_max: self.0,
        }
    }
}

/// An endpoint behind a limit.
#[derive(Debug)]
pub(super) struct Limited<E> {
    inner: E,
    bytes_max: usize,
}

impl<E: Endpoint> Endpoint for Limited<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let body = request.take_body().into_bytes_limit(self.bytes_max).await?;
        request.set_body(body);
        self.inner
            .call(request)
            .await
            .map(poem::IntoResponse::into_response)
    }
}
