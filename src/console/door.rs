//! The door: everything a request to the console must pass, in one place.
//!
//! The name it was sent to (an open console answers only to loopback names, so that a foreign
//! site's name that leads here is of no use), the session, and where a form came from. Adds the
//! pages' content policy, and makes pages of errors.

use std::net::IpAddr;
use std::sync::Arc;

use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::web::cookie::CookieJar;
use poem::{Endpoint, IntoResponse, Middleware, Request, Response, Result};

use crate::console::ConsoleState;
use crate::console::pages::{self, Wrong};
use crate::console::session::Seat;
use crate::story::Lang;

const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; \
    base-uri 'none'; require-trusted-types-for 'script'";

/// What a visitor who has not signed in may ask for.
const PUBLIC: &[&str] = &[
    "/login",
    "/assets/console.css",
    "/assets/console.js",
    "/favicon.ico",
];

#[derive(Clone, Copy, Debug)]
pub(super) struct Door;

impl<E: Endpoint> Middleware<E> for Door {
    type Output = Guarded<E>;

    fn transform(&self, inner: E) -> Self::Output {
        Guarded(inner)
    }
}

/// The console behind its door.
#[derive(Debug)]
pub(super) struct Guarded<E>(E);

impl<E: Endpoint> Endpoint for Guarded<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let Some(state) = request.data::<Arc<ConsoleState>>().cloned() else {
            return Ok(StatusCode::INTERNAL_SERVER_ERROR.into());
        };
        let jar = request.cookie().clone();
        let (lang, chosen) = language(&request, &jar);
        if chosen {
            jar.add(state.sessions.language_cookie(lang.tag()));
        }
        request.set_data(lang);
        let seat = state.sessions.seat(&jar).await;
        if let Some(seat) = &seat {
            request.set_data(seat.clone());
        }
        let mut response = match refuse(&state, &request, seat.as_ref()) {
            Some(Refusal::SignIn) => to_login(&request),
            Some(Refusal::Forbidden) => pages::wrong(lang, Wrong::Refused),
            None => match self.0.call(request).await {
                Ok(output) => output.into_response(),
                Err(error) => fail(&error, lang),
            },
        };
        let policy = HeaderValue::from_static(CONTENT_POLICY);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        Ok(response)
    }
}

enum Refusal {
    SignIn,
    Forbidden,
}

fn refuse(state: &ConsoleState, request: &Request, seat: Option<&Seat>) -> Option<Refusal> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    if state.sessions.is_open() && !host(request).is_some_and(is_loopback) {
        return Some(Refusal::Forbidden);
    }
    if !safe && !is_from_here(request) {
        return Some(Refusal::Forbidden);
    }
    let public = PUBLIC.contains(&request.original_uri().path());
    (seat.is_none() && !public).then_some(Refusal::SignIn)
}

/// An error of the router or of a page.
fn fail(error: &poem::Error, lang: Lang) -> Response {
    let status = error.status();
    if status.is_server_error() {
        tracing::error!(%error, cause = ?error, "console page failed");
    }
    match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            pages::wrong(lang, Wrong::Nothing)
        }
        StatusCode::FORBIDDEN => pages::wrong(lang, Wrong::Refused),
        _ if status.is_client_error() => pages::wrong(lang, Wrong::Refused),
        _ => pages::wrong(lang, Wrong::Failed),
    }
}

fn to_login(request: &Request) -> Response {
    // Only a page can be returned to: a form's address shows nothing.
    let next = match *request.method() {
        Method::GET => request.original_uri().path(),
        _ => "/",
    };
    let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
    see_other(&format!("/login?next={next}"))
}

/// Leads a browser to another page of ours.
pub(super) fn see_other(to: &str) -> Response {
    Response::builder()
        .status(StatusCode::SEE_OTHER)
        .header(header::LOCATION, to)
        .finish()
}

/// The language of a request, and whether it was chosen with it.
fn language(request: &Request, jar: &CookieJar) -> (Lang, bool) {
    let query = request.original_uri().query().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let chosen = pairs.find(|(name, _)| name == "lang");
    if let Some(lang) = chosen.and_then(|(_, tag)| Lang::of_tag(&tag)) {
        return (lang, true);
    }
    let kept = jar.get("dripwheel_lang");
    if let Some(lang) = kept.and_then(|cookie| Lang::of_tag(cookie.value_str())) {
        return (lang, false);
    }
    let accepted = request.header(header::ACCEPT_LANGUAGE).unwrap_or_default();
    let first = accepted.split(',').find_map(Lang::of_tag);
    (first.unwrap_or_default(), false)
}

fn host(request: &Request) -> Option<&str> {
    request.header(header::HOST)
}

/// Whether a `Host` header names this machine to itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let address: Option<IpAddr> = bare.parse().ok();
    let named = name.eq_ignore_ascii_case("localhost") || name.ends_with(".localhost");
    named || address.is_some_and(|address| address.is_loopback())
}

/// Whether a form was sent by a page of ours, as far as the browser says. The form's token is
/// checked besides.
fn is_from_here(request: &Request) -> bool {
    if let Some(site) = request.header("sec-fetch-site") {
        return site == "same-origin";
    }
    // Older browsers, and plain HTTP beyond this machine.
    let Some(origin) = request.header(header::ORIGIN) else {
        return true;
    };
    let from = origin.split_once("://").map(|(_, authority)| authority);
    from.is_some() && from == host(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "[::1]",
            "drip.localhost:80",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com:80",
            "127.0.0.1.example.com",
            "10.0.0.1",
            "evil:localhost",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_form_of_another_site_is_told_apart() {
        let check = |headers: &[(&str, &str)]| {
            let mut builder = Request::builder().method(Method::POST);
            for (name, value) in headers {
                builder = builder.header(*name, *value);
            }
            is_from_here(&builder.finish())
        };
        assert!(check(&[("sec-fetch-site", "same-origin")]));
        assert!(check(&[("host", "a:1"), ("origin", "http://a:1")]));
        assert!(!check(&[("sec-fetch-site", "cross-site")]));
        assert!(!check(&[
            ("sec-fetch-site", "same-site"),
            ("host", "a"),
            ("origin", "http://a")
        ]));
        assert!(!check(&[("host", "a:1"), ("origin", "http://a:2")]));
        assert!(!check(&[("host", "a:1"), ("origin", "null")]));
    }
}
