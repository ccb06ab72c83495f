//! Operations on followers: their story, and beginning and ending passages.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};

use crate::api::accounts::named;
use crate::api::keys::Presented;
use crate::api::problem::{Code, Refusal};
use crate::api::views::{
    Cancelled, Enroll, Enrolled, FollowerView, FollowersPage, Language, TagsView, TimelineView,
};
use crate::api::{ApiState, Group, PAGE_DEFAULT, PAGE_MAX, cursor};
use crate::config::Scope;
use crate::store::overview;
use crate::store::work::{Act, Acted};
use crate::story::{self, Lang};

/// Longest name of a tag that the platform takes, in characters.
const TAG_CHARS_MAX: usize = 30;

#[derive(Debug)]
pub(super) struct FollowersApi;

type State<'a> = Data<&'a Arc<ApiState>>;

#[derive(ApiResponse)]
enum Began {
    /// The passage began.
    #[oai(status = 201)]
    Created(Json<Enrolled>),
}

#[OpenApi]
impl FollowersApi {
    /// Lists the followers of an account, newest first
    #[oai(
        path = "/accounts/:key/followers",
        method = "get",
        tag = "Group::Followers",
        operation_id = "list_followers"
    )]
    async fn list(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the account.
        key: Path<String>,
        /// `next` of the page before.
        cursor: Query<Option<String>>,
        /// Most items of the page; 50 when left out.
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<Option<u32>>,
    ) -> Result<Json<FollowersPage>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let before = cursor::read(cursor.0.as_deref())?;
        let limit = limit.0.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
        let account = named(&state, &key.0).await?.id;
        let page = overview::followers(state.store.read(), account, before, limit).await?;
        Ok(Json(FollowersPage {
            items: page.items.into_iter().map(FollowerView::from).collect(),
            next: page.next.map(cursor::write),
        }))
    }

    /// Shows one follower
    #[oai(
        path = "/accounts/:key/followers/:openid",
        method = "get",
        tag = "Group::Followers",
        operation_id = "get_follower"
    )]
    async fn get(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the account.
        key: Path<String>,
        /// The platform's id of the person.
        openid: Path<String>,
    ) -> Result<Json<FollowerView>, Refusal> {
        presented.caller().may(Scope::Read)?;
        let account = named(&state, &key.0).await?.id;
        let found = overview::follower_named(state.store.read(), account, &openid.0).await?;
        found.map(|one| Json(one.into())).ok_or_else(nobody)
    }

    /// Tells a follower's whole story
    ///
    /// Events, grants, and every step with its due instant, its state and why.
    #[oai(
        path = "/accounts/:key/followers/:openid/timeline",
        method = "get",
        tag = "Group::Followers",
        operation_id = "get_timeline"
    )]
    async fn timeline(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the account.
        key: Path<String>,
        /// The platform's id of the person.
        openid: Path<String>,
        /// Language of `why`; English when left out.
        lang: Query<Option<Language>>,
    ) -> Result<Json<TimelineView>, Refusal> {
        presented.caller().may(Scope::Read)?;
        named(&state, &key.0).await?;
        let now = state.clock.now();
        let told = story::load_live(&state.store, &key.0, &openid.0, now).await?;
        let told = told.ok_or_else(nobody)?;
        let lang = lang.0.map_or(Lang::En, Lang::from);
        Ok(Json(TimelineView::of(&told, lang)))
    }

    /// Begins a passage of a follower through the live version of a sequence
    ///
    /// With an `Idempotency-Key`, a request that is sent again within 24 hours acts once and is
    /// answered the same. Without one, only the sequence's `reenter` rule keeps it from acting
    /// twice; with `reenter: always` it would.
    #[oai(
        path = "/accounts/:key/followers/:openid/enrollments",
        method = "post",
        tag = "Group::Followers",
        operation_id = "enroll"
    )]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a parameter of the request"
    )]
    async fn enroll(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the account.
        key: Path<String>,
        /// The platform's id of the person.
        openid: Path<String>,
        /// 1 to 255 visible ASCII characters, fresh for each request.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: Header<Option<String>>,
        body: Json<Enroll>,
    ) -> Result<Began, Refusal> {
        let caller = presented.caller().clone();
        caller.may(Scope::Write)?;
        let state = Arc::clone(&state);
        // A task of its own: a caller that hangs up must not keep the answer from being
        // remembered while the passage begins all the same.
        let began = tokio::spawn(async move {
            let (key, openid, sequence) = (&key.0, &openid.0, &body.0.sequence);
            let request = ["enroll", key, openid, sequence];
            let begin = begin(&state, key, openid, sequence);
            let idempotency_key = idempotency_key.0.as_deref();
            state
                .replays
                .once(&caller, idempotency_key, &request, begin)
                .await
        })
        .await
        .map_err(|_| internal())?;
        Ok(Began::Created(Json(began?)))
    }

    /// Ends a follower's unfinished passages
    ///
    /// Steps that are left are cancelled, except one that is being sent, which its answer ends.
    #[oai(
        path = "/accounts/:key/followers/:openid/enrollments",
        method = "delete",
        tag = "Group::Followers",
        operation_id = "cancel"
    )]
    async fn cancel(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the account.
        key: Path<String>,
        /// The platform's id of the person.
        openid: Path<String>,
        /// Only passages through this sequence; all of them when left out.
        #[oai(validator(min_length = 1, max_length = 64))]
        sequence: Query<Option<String>>,
    ) -> Result<Json<Cancelled>, Refusal> {
        presented.caller().may(Scope::Write)?;
        let act = Act::Cancel {
            sequence: sequence.0,
        };
        match act_on(&state, &key.0, &openid.0, act).await? {
            Acted::Cancelled(n) => Ok(Json(Cancelled {
                cancelled: u32::try_from(n).unwrap_or(u32::MAX),
            })),
            other => Err(refused(&other)),
        }
    }

    /// Puts a tag on a follower
    ///
    /// Here at once, and on the platform as soon as it takes it: there a tag of this name is made
    /// if there is none. The platform allows 100 tags, and 20 on one follower.
    #[oai(
        path = "/accounts/:key/followers/:openid/tags/:tag",
        method = "put",
        tag = "Group::Followers",
        operation_id = "put_tag"
    )]
    async fn put_tag(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the account.
        key: Path<String>,
        /// The platform's id of the person.
        openid: Path<String>,
        /// Name of the tag.
        tag: Path<String>,
    ) -> Result<Json<TagsView>, Refusal> {
        presented.caller().may(Scope::Write)?;
        change_tag(&state, &key.0, &openid.0, &tag.0, true).await
    }

    /// Takes a tag off a follower
    ///
    /// Here at once, and on the platform as soon as it takes it.
    #[oai(
        path = "/accounts/:key/followers/:openid/tags/:tag",
        method = "delete",
        tag = "Group::Followers",
        operation_id = "delete_tag"
    )]
    async fn delete_tag(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the account.
        key: Path<String>,
        /// The platform's id of the person.
        openid: Path<String>,
        /// Name of the tag.
        tag: Path<String>,
    ) -> Result<Json<TagsView>, Refusal> {
        presented.caller().may(Scope::Write)?;
        change_tag(&state, &key.0, &openid.0, &tag.0, false).await
    }

    /// Forgets a follower
    ///
    /// Ends their passages and deletes what is known of them; a pseudonym stays, by which they are
    /// known again, and not greeted twice, once they act again: this does not end their following
    /// on the platform.
    #[oai(
        path = "/accounts/:key/followers/:openid",
        method = "delete",
        tag = "Group::Followers",
        operation_id = "erase_follower"
    )]
    async fn erase(
        &self,
        presented: Presented,
        state: State<'_>,
        /// The operator's name for the account.
        key: Path<String>,
        /// The platform's id of the person.
        openid: Path<String>,
    ) -> Result<Json<FollowerView>, Refusal> {
        presented.caller().may(Scope::Write)?;
        match act_on(&state, &key.0, &openid.0, Act::Erase).await? {
            Acted::Erased => {}
            other => return Err(refused(&other)),
        }
        let account = named(&state, &key.0).await?.id;
        let found = overview::follower_named(state.store.read(), account, &openid.0).await?;
        found.map(|one| Json(one.into())).ok_or_else(nobody)
    }
}

async fn change_tag(
    state: &ApiState,
    key: &str,
    openid: &str,
    tag: &str,
    present: bool,
) -> Result<Json<TagsView>, Refusal> {
    let tag = tag.trim();
    if !(1..=TAG_CHARS_MAX).contains(&tag.chars().count()) || tag.contains(char::is_control) {
        return Err(Refusal::new(
            Code::BadRequest,
            format!("a tag has 1 to {TAG_CHARS_MAX} characters on one line"),
        ));
    }
    let act = Act::Tag {
        tag: tag.to_owned(),
        present,
    };
    match act_on(state, key, openid, act).await? {
        Acted::Tagged(tags) => {
            state.store.ask_to_reconcile();
            Ok(Json(TagsView { tags }))
        }
        other => Err(refused(&other)),
    }
}

async fn begin(
    state: &ApiState,
    key: &str,
    openid: &str,
    sequence: &str,
) -> Result<Enrolled, Refusal> {
    let act = Act::Enroll {
        sequence: sequence.to_owned(),
    };
    match act_on(state, key, openid, act).await? {
        Acted::Enrolled(id) => Ok(Enrolled {
            enrollment: id.to_string(),
            sequence: sequence.to_owned(),
        }),
        other => Err(refused(&other)),
    }
}

async fn act_on(state: &ApiState, key: &str, openid: &str, act: Act) -> Result<Acted, Refusal> {
    let account = named(state, key).await?.id;
    Ok(state
        .store
        .writer()
        .act(account, openid.to_owned(), act)
        .await?)
}

fn nobody() -> Refusal {
    Refusal::new(
        Code::NoSuchFollower,
        "the account knows nobody by this openid",
    )
}

fn internal() -> Refusal {
    Refusal::new(Code::Internal, "the log says what happened")
}

fn refused(acted: &Acted) -> Refusal {
    match acted {
        Acted::NoSuchFollower => nobody(),
        Acted::NoSuchSequence => Refusal::new(
            Code::NoSuchSequence,
            "no live sequence of this name runs on this account",
        ),
        Acted::NotFollowing => Refusal::new(Code::NotFollowing, "the person does not follow"),
        Acted::NotAllowed => Refusal::new(
            Code::NotAllowed,
            "the sequence's `reenter` rule does not allow another passage now",
        ),
        // The writer answers each act with its own kind.
        Acted::Enrolled(_)
        | Acted::Cancelled(_)
        | Acted::Tagged(_)
        | Acted::Erased
        | Acted::Allowed => internal(),
    }
}
