//! Who may use the control API and the page: this machine's own user, not a page he visits.
//!
//! The sandbox has no login; it listens on loopback. A foreign web page could still reach it
//! through the browser, so requests from other sites and for other host names are refused.
//! The platform's own calls need a token and are not guarded here.

use std::net::SocketAddr;

use poem::http::{HeaderValue, Method, header};
use poem::{Request, Response};

/// Only what the sandbox itself serves, and no inline script.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                   media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
                   frame-ancestors 'none'";

/// Says why a request is refused that a foreign page made the browser send.
pub(super) fn check(addr: SocketAddr, request: &Request) -> Result<(), &'static str> {
    const FOREIGN: &str = "another site sent this request";
    let host = request.header(header::HOST).unwrap_or_default();
    // A name that an attacker's DNS points here is not one of these (DNS rebinding).
    if addr.ip().is_loopback() && !is_local(host) {
        return Err("open the sandbox under 127.0.0.1 or localhost");
    }
    if request.method() == Method::GET || request.method() == Method::HEAD {
        return Ok(());
    }
    let site = request.header("sec-fetch-site");
    if site.is_some_and(|site| !["same-origin", "none"].contains(&site)) {
        return Err(FOREIGN);
    }
    let origin = request.header(header::ORIGIN);
    if origin.is_some_and(|origin| origin.strip_prefix("http://") != Some(host)) {
        return Err(FOREIGN);
    }
    Ok(())
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || address
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// Adds the headers that keep a browser from doing more than it is told.
pub(super) fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With `no-referrer` a browser also hides the origin of the page's own forms.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(CSP));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in [
            "localhost",
            "localhost:80",
            "127.0.0.1:9",
            "[::1]:8080",
            "127.8.8.8",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example:80",
            "localhost.evil:80",
            "8.8.8.8",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
