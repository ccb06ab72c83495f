//! What a person does to a broadcast in the console: start, interrupt, resume, try again. Every one is a
//! form.

use poem::http::StatusCode;
use poem::web::{Data, Path};
use poem::{Body, Response, Result, handler};

use crate::broadcast::repeat;
use crate::console::ConsoleState;
use crate::console::acts::{Form, State, check_token};
use crate::console::door::see_other;
use crate::console::pages::{self, BroadcastNotice};
use crate::console::session::Seat;
use crate::journey::ids::BroadcastId;
use crate::store::broadcasts::{self, Obeyed, Order, Retry};

#[handler]
pub(super) async fn order(
    state: State<'_>,
    seat: Data<&Seat>,
    Path((id, order)): Path<(i64, String)>,
    body: Body,
) -> Result<Response> {
    let form = Form::read(body).await?;
    check_token(&seat, &form)?;
    if !seat.visitor.write {
        return Err(StatusCode::FORBIDDEN.into());
    }
    let order = match order.as_str() {
        "start" => Order::Start,
        "interrupt" => Order::Interrupt,
        "resume" => Order::Resume(next(&state, id).await?),
        "retry" if form.field("unknown") == Some("yes") => Order::Retry(Retry::UnknownToo),
        "retry" => Order::Retry(Retry::Failed),
        _ => return Err(StatusCode::NOT_FOUND.into()),
    };
    let now = state.clock.now();
    let obeyed = broadcasts::obey(&state.store, BroadcastId(id), order, now).await;
    let notice = match obeyed.map_err(pages::failed)? {
        Obeyed::Done => BroadcastNotice::Changed,
        Obeyed::NotNow(_) => BroadcastNotice::NotNow,
        Obeyed::NoSuch => return Err(StatusCode::NOT_FOUND.into()),
    };
    Ok(see_other(&format!(
        "/broadcasts/{id}?done={}",
        notice.word()
    )))
}

/// When one that repeats goes on.
async fn next(state: &ConsoleState, id: i64) -> Result<Option<crate::clock::Timestamp>> {
    let one = broadcasts::of(state.store.read(), BroadcastId(id)).await;
    let one = one.map_err(pages::failed)?.ok_or(StatusCode::NOT_FOUND)?;
    match one.cron.as_str() {
        "" => Ok(None),
        cron => Ok(repeat::next(cron, &one.zone, state.clock.now()).unwrap_or_default()),
    }
}
