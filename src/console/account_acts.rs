//! What a person does to an account in the console: pause, resume, clear its quotas. Every one is a
//! form.

use poem::http::StatusCode;
use poem::web::{Data, Path};
use poem::{Body, Response, Result, handler};

use crate::console::ConsoleState;
use crate::console::acts::{Form, State, check_token};
use crate::console::door::see_other;
use crate::console::pages::{self, AccountNotice};
use crate::console::session::Seat;
use crate::journey::ids::AccountId;
use crate::sender::quota::Cleared;
use crate::store::overview;
use crate::store::pauses::{self, Pause};

/// Who acts, in an open console.
const SOMEBODY: &str = "console";

/// The account that a form is about, when who sends it may act on it.
async fn allowed(state: &ConsoleState, seat: &Seat, form: &Form, key: &str) -> Result<AccountId> {
    check_token(seat, form)?;
    if !seat.visitor.write {
        return Err(StatusCode::FORBIDDEN.into());
    }
    let account = overview::account(state.store.read(), key).await;
    let account = account.map_err(pages::failed)?;
    Ok(account.ok_or(StatusCode::NOT_FOUND)?.id)
}

fn by(seat: &Seat) -> String {
    let name = &seat.visitor.name;
    if name.is_empty() {
        SOMEBODY.to_owned()
    } else {
        name.clone()
    }
}

fn back(key: &str, notice: AccountNotice) -> Response {
    see_other(&format!(
        "{}?done={}",
        pages::account_path(key),
        notice.word()
    ))
}

#[handler]
pub(super) async fn pause(
    state: State<'_>,
    seat: Data<&Seat>,
    Path(key): Path<String>,
    body: Body,
) -> Result<Response> {
    let form = Form::read(body).await?;
    let account = allowed(&state, &seat, &form, &key).await?;
    let pause = Pause {
        reason: form.field("reason").unwrap_or_default().trim().to_owned(),
        by: by(&seat),
        at: state.clock.now(),
    };
    let changed = pauses::pause(&state.store, account, pause).await;
    Ok(back(
        &key,
        match changed.map_err(pages::failed)? {
            true => AccountNotice::Paused,
            false => AccountNotice::Nothing,
        },
    ))
}

#[handler]
pub(super) async fn resume(
    state: State<'_>,
    seat: Data<&Seat>,
    Path(key): Path<String>,
    body: Body,
) -> Result<Response> {
    let form = Form::read(body).await?;
    let account = allowed(&state, &seat, &form, &key).await?;
    let now = state.clock.now();
    let changed = pauses::resume(&state.store, account, &by(&seat), now).await;
    Ok(back(
        &key,
        match changed.map_err(pages::failed)? {
            true => AccountNotice::Resumed,
            false => AccountNotice::Nothing,
        },
    ))
}

#[handler]
pub(super) async fn clear_quota(
    state: State<'_>,
    seat: Data<&Seat>,
    Path(key): Path<String>,
    body: Body,
) -> Result<Response> {
    let form = Form::read(body).await?;
    let account = allowed(&state, &seat, &form, &key).await?;
    if form.field("confirm") != Some("yes") {
        return Ok(back(&key, AccountNotice::NotConfirmed));
    }
    let Some(quotas) = state.quotas.clone() else {
        return Ok(back(&key, AccountNotice::NotCleared));
    };
    let by = by(&seat);
    // A task of its own: a visitor who goes away must not stop it between call and record.
    let cleared = tokio::spawn(async move { quotas.clear(account, &by).await }).await;
    let cleared = cleared.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let notice = match cleared.map_err(pages::failed)? {
        Cleared::Done => AccountNotice::Cleared,
        Cleared::NoneLeft => AccountNotice::NoneLeft,
        Cleared::Refused(_) | Cleared::NoPlatform => AccountNotice::NotCleared,
        Cleared::Unknown(_) => AccountNotice::Silent,
    };
    Ok(back(&key, notice))
}
