//! What a person does in the console: sign in and out, enroll, cancel. Every one is a form.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::cookie::CookieJar;
use poem::web::{Data, Path};
use poem::{Body, Request, Response, Result, handler};
use url::form_urlencoded;

use crate::console::ConsoleState;
use crate::console::door::see_other;
use crate::console::pages::{self, Login, Notice};
use crate::console::session::Seat;
use crate::store::overview;
use crate::store::work::{Act, Acted};
use crate::story::Lang;

/// Largest form, in bytes.
const FORM_MAX: usize = 8 * 1024;

pub(super) type State<'a> = Data<&'a Arc<ConsoleState>>;

/// The fields of a form.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) async fn read(body: Body) -> Result<Self> {
        let bytes = body.into_bytes_limit(FORM_MAX).await?;
        Ok(Self(form_urlencoded::parse(&bytes).into_owned().collect()))
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let field = self.0.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.as_str())
    }
}

#[handler]
pub(super) fn login_page(request: &Request, Data(lang): Data<&Lang>) -> Response {
    let next = next(request);
    if request.data::<Seat>().is_some() {
        return see_other(&next);
    }
    pages::login(*lang, &Login { next, wrong: false }, StatusCode::OK)
}

#[handler]
pub(super) async fn login(
    request: &Request,
    state: State<'_>,
    Data(lang): Data<&Lang>,
    jar: &CookieJar,
    body: Body,
) -> Result<Response> {
    let form = Form::read(body).await?;
    let next = next(request);
    let key = form.field("key").unwrap_or_default();
    if state.sessions.sign_in(key.trim(), jar).await {
        return Ok(see_other(&next));
    }
    let page = Login { next, wrong: true };
    Ok(pages::login(*lang, &page, StatusCode::UNAUTHORIZED))
}

#[handler]
pub(super) async fn logout(
    state: State<'_>,
    seat: Data<&Seat>,
    jar: &CookieJar,
    body: Body,
) -> Result<Response> {
    let form = Form::read(body).await?;
    check_token(&seat, &form)?;
    state.sessions.sign_out(jar).await;
    Ok(see_other("/login"))
}

#[handler]
pub(super) async fn enroll(
    state: State<'_>,
    seat: Data<&Seat>,
    Path((key, openid)): Path<(String, String)>,
    body: Body,
) -> Result<Response> {
    let form = Form::read(body).await?;
    let sequence = form.field("sequence").unwrap_or_default().to_owned();
    act(
        &state,
        &seat,
        &form,
        (&key, &openid),
        Act::Enroll { sequence },
    )
    .await
}

#[handler]
pub(super) async fn cancel(
    state: State<'_>,
    seat: Data<&Seat>,
    Path((key, openid)): Path<(String, String)>,
    body: Body,
) -> Result<Response> {
    let form = Form::read(body).await?;
    let sequence = form.field("sequence").map(str::to_owned);
    act(
        &state,
        &seat,
        &form,
        (&key, &openid),
        Act::Cancel { sequence },
    )
    .await
}

/// Does what a form asks for and leads back to the follower's page.
async fn act(
    state: &ConsoleState,
    seat: &Seat,
    form: &Form,
    (key, openid): (&str, &str),
    act: Act,
) -> Result<Response> {
    check_token(seat, form)?;
    if !seat.visitor.write {
        return Err(StatusCode::FORBIDDEN.into());
    }
    let account = overview::account(state.store.read(), key)
        .await
        .map_err(pages::failed)?
        .ok_or(StatusCode::NOT_FOUND)?;
    let acted = state
        .store
        .writer()
        .act(account.id, openid.to_owned(), act)
        .await
        .map_err(pages::failed)?;
    let notice = match acted {
        Acted::Enrolled(_) => Notice::Enrolled,
        Acted::Cancelled(0) => Notice::Nothing,
        Acted::Cancelled(_) => Notice::Cancelled,
        Acted::NotAllowed => Notice::NotAllowed,
        Acted::NotFollowing => Notice::NotFollowing,
        Acted::NoSuchSequence => Notice::NoSuchSequence,
        // The forms ask for neither.
        Acted::Tagged(_) | Acted::Erased | Acted::Allowed => Notice::Nothing,
        Acted::NoSuchFollower => return Err(StatusCode::NOT_FOUND.into()),
    };
    let page = pages::follower_path(key, openid);
    Ok(see_other(&format!("{page}?done={}", notice.word())))
}

pub(super) fn check_token(seat: &Seat, form: &Form) -> Result<()> {
    if seat.sent(form.field("token").unwrap_or_default()) {
        Ok(())
    } else {
        Err(StatusCode::FORBIDDEN.into())
    }
}

/// Where to go after signing in: a page of ours, whatever the address says.
fn next(request: &Request) -> String {
    let query = request.original_uri().query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let next = pairs.find(|(name, _)| name == "next");
    let next = next
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default();
    if is_ours(&next) { next } else { "/".to_owned() }
}

/// Whether browsers take it for a path on this very server.
fn is_ours(path: &str) -> bool {
    let plain = path
        .bytes()
        .all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'"' | b'<' | b'>'));
    plain && path.starts_with('/') && !path.starts_with("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_to_no_other_site() {
        for path in ["/", "/accounts/main/followers/a%2Fb"] {
            assert!(is_ours(path), "{path}");
        }
        for path in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "evil",
            "/a\r\nSet-Cookie: x",
            "/ b",
            "javascript:alert(1)",
        ] {
            assert!(!is_ours(path), "{path}");
        }
    }
}
