//! The console's own style, script and icon, embedded.

use std::sync::OnceLock;

use poem::http::header;
use poem::{Endpoint, Response, endpoint};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("assets/console.css");
const SCRIPT: &str = include_str!("assets/console.js");
const ICON: &str = include_str!("assets/icon.svg");

/// Changes with the files, so that browsers may keep them for ever.
pub(super) fn stamp() -> &'static str {
    static STAMP: OnceLock<String> = OnceLock::new();
    STAMP.get_or_init(|| {
        let hash = Sha256::new_with_prefix(STYLE)
            .chain_update(SCRIPT)
            .finalize();
        hash.iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    })
}

pub(super) fn style() -> impl Endpoint<Output = Response> + 'static {
    file(STYLE, "text/css; charset=utf-8")
}

pub(super) fn script() -> impl Endpoint<Output = Response> + 'static {
    file(SCRIPT, "text/javascript; charset=utf-8")
}

pub(super) fn icon() -> impl Endpoint<Output = Response> + 'static {
    file(ICON, "image/svg+xml")
}

fn file(text: &'static str, kind: &'static str) -> impl Endpoint<Output = Response> + 'static {
    endpoint::make_sync(move |_| {
        Response::builder()
            .content_type(kind)
            .header(header::CACHE_CONTROL, "public, max-age=31536000, immutable")
            .body(text)
    })
}
