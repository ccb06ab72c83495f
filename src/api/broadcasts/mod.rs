//! Operations on broadcasts: made, started, interrupted, resumed, tried again, and followed.

mod views;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::{EventStream, Json};
use poem_openapi::{ApiResponse, OpenApi};

use crate::api::accounts::named;
use crate::api::keys::Presented;
use crate::api::problem::{Code, Refusal};
use crate::api::{ApiState, Group, PAGE_DEFAULT, PAGE_MAX, cursor};
use crate::broadcast::audience::Audience;
use crate::broadcast::compose::{self, Refused};
use crate::broadcast::{forecast, repeat};
use crate::clock::Timestamp;
use crate::config::Scope;
use crate::journey::ids::{AccountId, BroadcastId};
use crate::store::broadcasts::{self, Broadcast, Obeyed, Order, Retry, State};
use crate::store::{Error, overview, recipients};

use views::{
    BroadcastBody, BroadcastView, BroadcastsPage, DryRunView, Listed, ListedView,
    RecipientStanding, RecipientView, RecipientsPage,
};

/// Followers that are named in one request.
const LISTED_MAX: usize = 1_000;

/// How often a stream looks at the rows, and how long it lasts; a reader opens the next one by itself.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOKS_MAX: u32 = 3_600;

/// Keeps proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct BroadcastsApi;

type StateOf<'a> = Data<&'a Arc<ApiState>>;

#[derive(ApiResponse)]
enum Made {
    /// The broadcast is made.
    #[oai(status = 201)]
    Created(Json<BroadcastView>),
}

#[OpenApi]
impl BroadcastsApi {
    /// Makes a broadcast: one message to many followers
    ///
    /// It begins when it is started, at `start_at`, or again and again by `cron`. Who gets it is frozen
    /// when it begins. With an `Idempotency-Key`, a request that is sent again within 24 hours makes one.
    #[oai(
        path = "/broadcasts",
        method = "post",
        tag = "Group::Broadcasts",
        operation_id = "create_broadcast"
    )]
    async fn create(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        /// 1 to 255 visible ASCII characters, fresh for each request.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: Header<Option<String>>,
        body: Json<BroadcastBody>,
    ) -> Result<Made, Refusal> {
        let caller = presented.caller().clone();
        caller.may(Scope::Write)?;
        let state = Arc::clone(&state);
        // A task of its own: a caller that hangs up must not keep the answer from being remembered.
        let made = tokio::spawn(async move {
            let asked = format!("{:?}", body.0);
            let request = ["broadcast", &asked];
            let make = make(&state, body.0, &caller.name);
            let key = idempotency_key.0.as_deref();
            state.replays.once(&caller, key, &request, make).await
        })
        .await
        .map_err(|_| Refusal::new(Code::Internal, "the log says what happened"))?;
        Ok(Made::Created(Json(made?)))
    }

    /// Lists broadcasts, newest first
    #[oai(
        path = "/broadcasts",
        method = "get",
        tag = "Group::Broadcasts",
        operation_id = "list_broadcasts"
    )]
    async fn list(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        /// `next` of the page before.
        cursor: Query<Option<String>>,
        /// Most items of the page; 50 when left out.
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<Option<u32>>,
    ) -> Result<Json<BroadcastsPage>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let before = cursor::read(cursor.0.as_deref())?;
        let limit = limit.0.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
        let found = broadcasts::list(state.store.read(), before, limit).await?;
        let full = found.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let next = found.last().filter(|_| full).map(|one| one.id.0);
        let mut items = Vec::with_capacity(found.len());
        for one in found {
            items.push(view(&state, one).await?);
        }
        let next = next.map(cursor::write);
        Ok(Json(BroadcastsPage { items, next }))
    }

    /// Shows a broadcast and how far it has come
    #[oai(
        path = "/broadcasts/:id",
        method = "get",
        tag = "Group::Broadcasts",
        operation_id = "get_broadcast"
    )]
    async fn get(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        id: Path<i64>,
    ) -> Result<Json<BroadcastView>, Refusal> {
        presented.caller().may(Scope::Read)?;
        found(&state, BroadcastId(id.0)).await
    }

    /// Follows a broadcast: a stream of what `get` shows, at most one a second
    ///
    /// It ends when the broadcast is not sending.
    #[oai(
        path = "/broadcasts/:id/events",
        method = "get",
        tag = "Group::Broadcasts",
        operation_id = "follow_broadcast"
    )]
    async fn events(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        id: Path<i64>,
    ) -> Result<EventStream<BoxStream<'static, BroadcastView>>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let id = BroadcastId(id.0);
        found(&state, id).await?;
        let seen = Seen {
            state: Arc::clone(&state),
            id,
            last: None,
            looks: 0,
            over: false,
        };
        let views = stream::unfold(seen, |mut seen| async {
            let view = seen.next().await?;
            Some((view, seen))
        });
        Ok(EventStream::new(views.boxed()).keep_alive(KEEP_ALIVE))
    }

    /// Names followers one by one, for a broadcast whose audience is `listed`
    ///
    /// As often as needed before it begins; who is named twice gets the message once.
    #[oai(
        path = "/broadcasts/:id/listed",
        method = "post",
        tag = "Group::Broadcasts",
        operation_id = "list_recipients_by_name"
    )]
    async fn add_listed(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        id: Path<i64>,
        body: Json<Listed>,
    ) -> Result<Json<ListedView>, Refusal> {
        presented.caller().may(Scope::Write)?;
        let id = BroadcastId(id.0);
        let broadcast = broadcasts::of(state.store.read(), id).await?;
        let broadcast = broadcast.ok_or_else(no_such)?;
        let audience = Audience::read(&broadcast.audience).unwrap_or_default();
        if !audience.listed {
            let what = "its audience is not `listed`: nobody is named";
            return Err(Refusal::new(Code::NotNow, what));
        }
        if body.0.openids.len() > LISTED_MAX {
            let what = format!("name at most {LISTED_MAX} followers in one request");
            return Err(Refusal::new(Code::BadRequest, what));
        }
        let account = named(&state, &body.0.account).await?.id;
        let parts = broadcasts::parts(state.store.read(), id).await?;
        if parts.iter().all(|part| part.account != account) {
            let what = "the broadcast is not for this account";
            return Err(Refusal::new(Code::NoSuchAccount, what));
        }
        let openids = body.0.openids;
        let added = recipients::add_listed(&state.store, id, account, &openids).await?;
        let Some((added, strangers)) = added else {
            return Err(not_now(State::Sending));
        };
        Ok(Json(ListedView { added, strangers }))
    }

    /// Tells who would get a broadcast if it were sent now, and by which carrier
    ///
    /// And who of its audience would not, and why. Writes nothing. Looks at some thousands of followers
    /// at once: ask again with `next` and add the numbers up.
    #[oai(
        path = "/broadcasts/:id/dry-run",
        method = "get",
        tag = "Group::Broadcasts",
        operation_id = "dry_run_broadcast"
    )]
    async fn dry_run(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        id: Path<i64>,
        /// `next` of the part before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<DryRunView>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let broadcast = broadcasts::of(state.store.read(), BroadcastId(id.0)).await?;
        let broadcast = broadcast.ok_or_else(no_such)?;
        let after = cursor::read_place(cursor.0.as_deref())?;
        let after = after.map(|(account, openid)| (AccountId(account), openid));
        let now = state.clock.now();
        let found = forecast::forecast(&state.store, &broadcast, after, now).await?;
        Ok(Json(found.into()))
    }

    /// Starts a broadcast
    #[oai(
        path = "/broadcasts/:id/start",
        method = "post",
        tag = "Group::Broadcasts",
        operation_id = "start_broadcast"
    )]
    async fn start(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        id: Path<i64>,
    ) -> Result<Json<BroadcastView>, Refusal> {
        presented.caller().may(Scope::Write)?;
        obey(&state, BroadcastId(id.0), Order::Start).await
    }

    /// Interrupts a broadcast, or keeps one that begins by itself from beginning
    ///
    /// No other recipient's turn comes. Messages that are on their way are brought to their end.
    #[oai(
        path = "/broadcasts/:id/interrupt",
        method = "post",
        tag = "Group::Broadcasts",
        operation_id = "interrupt_broadcast"
    )]
    async fn interrupt(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        id: Path<i64>,
    ) -> Result<Json<BroadcastView>, Refusal> {
        presented.caller().may(Scope::Write)?;
        obey(&state, BroadcastId(id.0), Order::Interrupt).await
    }

    /// Lets an interrupted broadcast go on with those whose turn has not come
    #[oai(
        path = "/broadcasts/:id/resume",
        method = "post",
        tag = "Group::Broadcasts",
        operation_id = "resume_broadcast"
    )]
    async fn resume(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        id: Path<i64>,
    ) -> Result<Json<BroadcastView>, Refusal> {
        presented.caller().may(Scope::Write)?;
        let id = BroadcastId(id.0);
        let broadcast = broadcasts::of(state.store.read(), id).await?;
        let broadcast = broadcast.ok_or_else(no_such)?;
        let next = match broadcast.cron.as_str() {
            "" => None,
            cron => {
                let next = repeat::next(cron, &broadcast.zone, state.clock.now());
                let next = next.map_err(|why| Refusal::new(Code::NotNow, why))?;
                let never = || Refusal::new(Code::NotNow, "its `cron` never comes again");
                Some(next.ok_or_else(never)?)
            }
        };
        obey(&state, id, Order::Resume(next)).await
    }

    /// Sends a completed broadcast again to those with whom it failed
    ///
    /// To those whose answer was lost only when `unknown` says so: some of them would get it twice.
    #[oai(
        path = "/broadcasts/:id/retry",
        method = "post",
        tag = "Group::Broadcasts",
        operation_id = "retry_broadcast"
    )]
    async fn retry(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        id: Path<i64>,
        unknown: Query<Option<bool>>,
    ) -> Result<Json<BroadcastView>, Refusal> {
        presented.caller().may(Scope::Write)?;
        let retry = match unknown.0 {
            Some(true) => Retry::UnknownToo,
            Some(false) | None => Retry::Failed,
        };
        obey(&state, BroadcastId(id.0), Order::Retry(retry)).await
    }

    /// Lists the recipients of a broadcast, and what came of each
    #[oai(
        path = "/broadcasts/:id/recipients",
        method = "get",
        tag = "Group::Broadcasts",
        operation_id = "list_recipients"
    )]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a parameter of the request"
    )]
    async fn recipients(
        &self,
        presented: Presented,
        state: StateOf<'_>,
        id: Path<i64>,
        /// Only those who stand so.
        standing: Query<Option<RecipientStanding>>,
        /// `next` of the page before.
        cursor: Query<Option<String>>,
        /// Most items of the page; 50 when left out.
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<Option<u32>>,
    ) -> Result<Json<RecipientsPage>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let id = BroadcastId(id.0);
        if broadcasts::of(state.store.read(), id).await?.is_none() {
            return Err(no_such());
        }
        let after = cursor::read_pair(cursor.0.as_deref())?.unwrap_or(recipients::FIRST);
        let limit = limit.0.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
        let limit = usize::try_from(limit).unwrap_or(1);
        let standing = standing.0.map(recipients::Standing::from);
        let read = state.store.read();
        let (found, next) = recipients::page(read, id, standing, after, limit).await?;
        let keys = account_keys(&state).await?;
        let items = found.into_iter().map(|one| {
            let key = keys.get(&one.account).cloned().unwrap_or_default();
            RecipientView::of(one, key)
        });
        Ok(Json(RecipientsPage {
            items: items.collect(),
            next: next.map(cursor::write_pair),
        }))
    }
}

/// What a stream has shown.
struct Seen {
    state: Arc<ApiState>,
    id: BroadcastId,
    last: Option<BroadcastView>,
    looks: u32,
    over: bool,
}

impl Seen {
    /// Waits for the next change; `None` when the stream ends.
    async fn next(&mut self) -> Option<BroadcastView> {
        while !self.over && self.looks < LOOKS_MAX {
            if self.last.is_some() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            self.looks += 1;
            let Json(view) = found(&self.state, self.id).await.ok()?;
            self.over = !view.is_sending();
            if self.last.as_ref() != Some(&view) {
                self.last = Some(view.clone());
                return Some(view);
            }
        }
        None
    }
}

async fn make(
    state: &ApiState,
    body: BroadcastBody,
    caller: &str,
) -> Result<BroadcastView, Refusal> {
    let draft = body.into_draft()?;
    let now = state.clock.now();
    let id = compose::create(&state.store, draft, caller, now).await;
    let id = id.map_err(|refused| match refused {
        Refused::Wrong(what) => Refusal::new(Code::BadRequest, what),
        Refused::NoSuchAccount(_) => Refusal::new(Code::NoSuchAccount, refused.to_string()),
        Refused::Store(error) => error.into(),
    })?;
    let Json(view) = found(state, id).await?;
    Ok(view)
}

async fn obey(
    state: &ApiState,
    id: BroadcastId,
    order: Order,
) -> Result<Json<BroadcastView>, Refusal> {
    match broadcasts::obey(&state.store, id, order, state.clock.now()).await? {
        Obeyed::Done => found(state, id).await,
        Obeyed::NoSuch => Err(no_such()),
        Obeyed::NotNow(standing) => Err(not_now(standing)),
    }
}

async fn found(state: &ApiState, id: BroadcastId) -> Result<Json<BroadcastView>, Refusal> {
    let broadcast = broadcasts::of(state.store.read(), id).await?;
    Ok(Json(view(state, broadcast.ok_or_else(no_such)?).await?))
}

async fn view(state: &ApiState, broadcast: Broadcast) -> Result<BroadcastView, Refusal> {
    let read = state.store.read();
    let progress = broadcasts::progress(read, broadcast.id).await?;
    let parts = broadcasts::parts(read, broadcast.id).await?;
    let keys = account_keys(state).await?;
    let accounts = parts.iter().filter_map(|part| keys.get(&part.account));
    let accounts = accounts.cloned().collect();
    let catalog = state.store.knowledge().catalog();
    let version = catalog.version(broadcast.version);
    let kind = version.map(|version| version.sequence.kind);
    Ok(BroadcastView::of(broadcast, kind, accounts, progress))
}

async fn account_keys(state: &ApiState) -> Result<HashMap<AccountId, String>, Error> {
    let accounts = overview::accounts(state.store.read()).await?;
    Ok(accounts.into_iter().map(|one| (one.id, one.key)).collect())
}

fn no_such() -> Refusal {
    Refusal::new(
        Code::NoSuchBroadcast,
        "there is no broadcast of this number",
    )
}

fn not_now(standing: State) -> Refusal {
    let what = match standing {
        State::NotStarted => "it has not started",
        State::Sending => "it is sending: interrupt it first, or let it complete",
        State::Interrupted => "it is interrupted: resume it first",
        State::Completed => "it is completed",
    };
    Refusal::new(Code::NotNow, what)
}

/// An instant of a request.
fn instant(at: chrono::DateTime<chrono::Utc>) -> Timestamp {
    Timestamp(at.timestamp_millis())
}
