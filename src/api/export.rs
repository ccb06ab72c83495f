//! Outcomes as a table, streamed: the answer holds one page of rows at a time, however many there are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use futures_util::stream::try_unfold;
use poem::Body;
use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::payload::Binary;
use poem_openapi::{ApiResponse, OpenApi, ResponseContent};

use crate::api::accounts::named;
use crate::api::csv;
use crate::api::keys::Presented;
use crate::api::problem::{Code, Refusal};
use crate::api::{ApiState, Group};
use crate::clock::Timestamp;
use crate::config::Scope;
use crate::journey::ids::{AccountId, VersionId};
use crate::store::export::{self, Exported, Key, Wanted};
use crate::store::statistics;

#[derive(Debug)]
pub(super) struct ExportApi;

#[derive(ResponseContent)]
enum Content {
    #[oai(content_type = "text/csv; charset=utf-8")]
    Csv(Binary<Body>),
}

#[derive(ApiResponse)]
enum Told {
    #[oai(status = 200)]
    Told(Content),
}

const HEAD: [&str; 15] = [
    "account",
    "openid",
    "language",
    "enrollment",
    "sequence",
    "version",
    "step",
    "entry",
    "outcome",
    "steps",
    "due_at",
    "at",
    "carrier",
    "code",
    "detail",
];

#[OpenApi]
impl ExportApi {
    /// Tells every outcome as CSV
    ///
    /// One row for each entry of a step's history, in the order of enrollments and steps; `steps` says
    /// how many steps it ends. Language is the follower's as it is known now. Cells that a program could
    /// take for a formula begin with a quote.
    #[oai(
        path = "/outcomes.csv",
        method = "get",
        tag = "Group::Statistics",
        operation_id = "export_outcomes"
    )]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a parameter of the request"
    )]
    async fn outcomes(
        &self,
        presented: Presented,
        state: Data<&Arc<ApiState>>,
        /// Only of this account, by the operator's name for it.
        account: Query<Option<String>>,
        /// Only of this version.
        version: Query<Option<i64>>,
        /// First day, such as `2026-03-01`, UTC.
        from: Query<Option<String>>,
        /// Last day.
        to: Query<Option<String>>,
    ) -> Result<Told, Refusal> {
        presented.caller().may(Scope::Read)?;
        let account = match &account.0 {
            Some(key) => Some(named(&state, key).await?.id),
            None => None,
        };
        let wanted = Wanted {
            account,
            version: version.0.map(VersionId),
            from: from.0.as_deref().map(|day| midnight(day, 0)).transpose()?,
            until: to.0.as_deref().map(|day| midnight(day, 1)).transpose()?,
        };
        let accounts = statistics::account_keys(state.store.read()).await?;
        let telling = Telling {
            state: Arc::clone(&state),
            accounts,
            wanted,
        };
        let head = csv::write([HEAD.map(Cow::Borrowed).to_vec()]);
        let first = (telling, Some(export::FIRST), head);
        let pages = try_unfold(first, |(telling, next, mut bytes)| async move {
            let Some(after) = next else {
                return Ok::<_, io::Error>(None);
            };
            let next = telling.page(after, &mut bytes).await?;
            Ok(Some((bytes, (telling, next, Vec::new()))))
        });
        Ok(Told::Told(Content::Csv(Binary(Body::from_bytes_stream(
            pages,
        )))))
    }
}

/// The beginning of the day that is so many behind this one.
fn midnight(day: &str, behind: i64) -> Result<Timestamp, Refusal> {
    let day = statistics::read_day(day);
    day.map(|day| Timestamp(day.saturating_add(behind).saturating_mul(86_400_000)))
        .ok_or_else(|| Refusal::new(Code::BadRequest, "a day is written as `2026-03-01`"))
}

/// One answer under way.
struct Telling {
    state: Arc<ApiState>,
    accounts: BTreeMap<AccountId, String>,
    wanted: Wanted,
}

impl Telling {
    /// Adds the next rows; says where to go on.
    async fn page(&self, after: Key, bytes: &mut Vec<u8>) -> io::Result<Option<Key>> {
        let read = self.state.store.read();
        let page = export::page(read, self.wanted, after).await;
        let (found, next) = page.map_err(|error| {
            tracing::error!(%error, cause = ?error, "outcomes were told up to here");
            io::Error::other("the rest cannot be read")
        })?;
        let catalog = self.state.store.knowledge().catalog();
        let row = |one: &Exported| {
            let entry = &one.entry;
            let sequence = catalog
                .version(one.version)
                .map(|version| &version.sequence);
            let step = sequence.and_then(|all| all.steps.get(usize::from(entry.step)));
            let cell = |text: &str| Cow::Owned(csv::cell(text).into_owned());
            let said = |text: String| Cow::Owned(text);
            vec![
                cell(self.accounts.get(&one.account).map_or("", String::as_str)),
                cell(&one.openid),
                cell(one.language.as_deref().unwrap_or_default()),
                said(entry.enrollment.to_string()),
                cell(sequence.map_or("", |sequence| &sequence.name)),
                said(one.version.to_string()),
                cell(step.map_or("", |step| &step.id)),
                said(entry.entry.to_string()),
                said(entry.outcome.word().to_owned()),
                said(entry.steps.to_string()),
                said(entry.due_at.to_chrono().to_rfc3339()),
                said(entry.at.to_chrono().to_rfc3339()),
                said(
                    entry
                        .carrier
                        .map_or("", |carrier| carrier.word())
                        .to_owned(),
                ),
                // A number of the platform's, which may be below zero.
                said(entry.code.map_or_else(String::new, |code| code.to_string())),
                cell(&entry.detail),
            ]
        };
        bytes.extend(csv::write(found.iter().map(row)));
        Ok(next)
    }
}
