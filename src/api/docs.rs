//! The page of the API: Swagger UI, from this binary alone.
//!
//! The page carries its script inline; the content policy names it by its hash, so that no other
//! script runs. Styles may be inline because the script makes them.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use poem::http::{HeaderValue, header};
use poem::{Body, Endpoint, Response, endpoint};
use sha2::{Digest, Sha256};

use crate::api::service;

struct Page {
    html: String,
    policy: HeaderValue,
}

/// Made on the first visit and kept: it is 1.6 MB.
fn page() -> &'static Page {
    static PAGE: OnceLock<Page> = OnceLock::new();
    PAGE.get_or_init(|| {
        let html = service().swagger_ui_html();
        let policy = policy(&html);
        Page { html, policy }
    })
}

/// The page, to be mounted at `/docs`.
pub fn docs() -> impl Endpoint<Output = Response> + 'static {
    endpoint::make_sync(|_| {
        let page = page();
        Response::builder()
            .content_type("text/html; charset=utf-8")
            .header(header::CONTENT_SECURITY_POLICY, page.policy.clone())
            .header(header::CACHE_CONTROL, "private, max-age=300")
            .body(Body::from(page.html.as_str()))
    })
}

fn policy(html: &str) -> HeaderValue {
    let mut hashes = String::new();
    for script in scripts(html) {
        let hash = STANDARD.encode(Sha256::digest(script.as_bytes()));
        hashes.push_str(&format!(" 'sha256-{hash}'"));
    }
    let policy = format!(
        "default-src 'none'; script-src{hashes}; style-src 'unsafe-inline'; \
         img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; \
         form-action 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// What stands between script tags, as a browser splits them.
fn scripts(html: &str) -> Vec<&str> {
    let mut scripts = Vec::new();
    let mut rest = html;
    while let Some((_, behind)) = rest.split_once("<script") {
        let Some((_, inside)) = behind.split_once('>') else {
            break;
        };
        let Some((script, after)) = inside.split_once("</script>") else {
            break;
        };
        scripts.push(script);
        rest = after;
    }
    scripts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_two_scripts_and_asks_nobody_else_for_one() {
        let page = page();
        assert_eq!(scripts(&page.html).len(), 2);
        assert!(!page.html.contains("<script src"));
        let policy = page.policy.to_str().expect("is ASCII");
        assert_eq!(policy.matches("'sha256-").count(), 2);
    }
}
