//! Security headers on every answer, errors included.
//!
//! An endpoint that needs another content policy sets its own, which is kept.

use poem::http::{HeaderName, HeaderValue, header};
use poem::{Endpoint, IntoResponse, Middleware, Request, Response, Result};

/// For whatever is not a page of ours: nothing may be loaded or framed.
const CONTENT_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; \
                              form-action 'none'";

/// Names in lower case.
const HEADERS: &[(&str, &str)] = &[
    ("content-security-policy", CONTENT_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), microphone=(), geolocation=()",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// Told to browsers when the world reaches us by TLS.
const HSTS: &str = "max-age=31536000";

/// Adds the headers; goes around the whole server.
#[derive(Clone, Copy, Debug, Default)]
pub struct SecurityHeaders {
    /// Whether the public address is an `https` one.
    pub tls: bool,
}

impl<E: Endpoint> Middleware<E> for SecurityHeaders {
    type Output = WithHeaders<E>;

    fn transform(&self, inner: E) -> Self::Output {
        WithHeaders {
            inner,
            tls: self.tls,
        }
    }
}

/// An endpoint whose answers have the headers.
#[derive(Debug)]
pub struct WithHeaders<E> {
    inner: E,
    tls: bool,
}

impl<E: Endpoint> Endpoint for WithHeaders<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let mut response = match self.inner.call(request).await {
            Ok(output) => output.into_response(),
            Err(error) => error.into_response(),
        };
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            if !headers.contains_key(*name) {
                headers.insert(
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                );
            }
        }
        if self.tls {
            let hsts = HeaderValue::from_static(HSTS);
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts);
        }
        Ok(response)
    }
}
