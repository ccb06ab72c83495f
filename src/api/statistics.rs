//! Operations on statistics: what became of messages, and the clicks on their links.

use std::borrow::Cow;
use std::sync::Arc;

use poem::Request;
use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::payload::{Binary, Json};
use poem_openapi::{ApiResponse, Object, OpenApi, ResponseContent};

use crate::api::accounts::named;
use crate::api::csv::{self, Format};
use crate::api::keys::Presented;
use crate::api::problem::{Code, Refusal};
use crate::api::{ApiState, Group};
use crate::config::Scope;
use crate::journey::ids::VersionId;
use crate::store::statistics::Asked;
use crate::story::statistics::{self, By, Line, LinkLine};

#[derive(Debug)]
pub(super) struct StatisticsApi;

/// Refusals with one of the platform's codes.
#[derive(Clone, Debug, Object)]
struct RefusedView {
    code: i64,
    n: i64,
}

/// What became of steps.
#[derive(Clone, Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct StatisticsView {
    sequence: String,
    version: Option<i64>,
    step: Option<String>,
    account: Option<String>,
    /// Of the followers, as it was known when it happened; empty where it was not.
    language: Option<String>,
    /// In the account's time zone.
    day: Option<String>,
    /// Counted on the day on which the passage began; everything else on the day on which it happened.
    planned: i64,
    sent: i64,
    refused: i64,
    refused_by: Vec<RefusedView>,
    expired: i64,
    skipped: i64,
    cancelled: i64,
    failed: i64,
    /// Sends whose answer was lost.
    unknown: i64,
    /// As far as the platform reports it.
    delivered: i64,
    undelivered: i64,
    /// Passages in which a link of the step was clicked, on the day of the first click.
    clicked: i64,
    /// Clicks in all, on that day too.
    clicks: i64,
    /// `clicked` of `sent`; absent while nothing was sent.
    click_rate: Option<f64>,
    /// Unfollows within an hour of the step's having been sent.
    left_within_hour: i64,
}

impl From<&Line> for StatisticsView {
    fn from(line: &Line) -> Self {
        let numbers = &line.numbers;
        let refused_by = numbers.refused_by.iter();
        Self {
            sequence: line.sequence.clone(),
            version: line.version.map(|id| id.0),
            step: line.step.clone(),
            account: line.account.clone(),
            language: line.language.clone(),
            day: line.day.map(|day| day.to_string()),
            planned: numbers.planned,
            sent: numbers.sent,
            refused: numbers.refused,
            refused_by: refused_by
                .map(|(code, n)| RefusedView { code: *code, n: *n })
                .collect(),
            expired: numbers.expired,
            skipped: numbers.skipped,
            cancelled: numbers.cancelled,
            failed: numbers.failed,
            unknown: numbers.unknown,
            delivered: numbers.delivered,
            undelivered: numbers.undelivered,
            clicked: numbers.clicked,
            clicks: numbers.clicks,
            click_rate: numbers.click_rate(),
            left_within_hour: numbers.left,
        }
    }
}

/// How often a link was clicked.
#[derive(Clone, Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct LinkView {
    sequence: String,
    version: i64,
    step: String,
    /// Its name, or its position in the message.
    link: String,
    /// Of its message; absent for the default one.
    language: Option<String>,
    /// Where it leads.
    target: String,
    /// In the account's time zone.
    day: Option<String>,
    /// Passages in which it was clicked, on the day of the first click.
    clicked: i64,
    /// Clicks in all, on that day too.
    clicks: i64,
}

impl From<&LinkLine> for LinkView {
    fn from(line: &LinkLine) -> Self {
        Self {
            sequence: line.sequence.clone(),
            version: line.version.0,
            step: line.step.clone(),
            link: line.link.clone(),
            language: line.language.clone(),
            target: line.target.clone(),
            day: line.day.map(|day| day.to_string()),
            clicked: line.clicked,
            clicks: line.clicks,
        }
    }
}

#[derive(ResponseContent)]
enum StatisticsContent {
    Json(Json<Vec<StatisticsView>>),
    #[oai(content_type = "text/csv; charset=utf-8")]
    Csv(Binary<Vec<u8>>),
}

#[derive(ApiResponse)]
enum StatisticsTold {
    #[oai(status = 200)]
    Told(StatisticsContent),
}

#[derive(ResponseContent)]
enum LinksContent {
    Json(Json<Vec<LinkView>>),
    #[oai(content_type = "text/csv; charset=utf-8")]
    Csv(Binary<Vec<u8>>),
}

#[derive(ApiResponse)]
enum LinksTold {
    #[oai(status = 200)]
    Told(LinksContent),
}

#[OpenApi]
impl StatisticsApi {
    /// Counts what became of steps
    ///
    /// Exact as of now. What outcomes were deleted since is still counted.
    #[oai(
        path = "/statistics",
        method = "get",
        tag = "Group::Statistics",
        operation_id = "get_statistics"
    )]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a parameter of the request"
    )]
    async fn statistics(
        &self,
        presented: Presented,
        state: Data<&Arc<ApiState>>,
        /// Only of this sequence.
        sequence: Query<Option<String>>,
        /// Only of this version.
        version: Query<Option<i64>>,
        /// Only of this account, by the operator's name for it.
        account: Query<Option<String>>,
        /// Only of followers of this language.
        language: Query<Option<String>>,
        /// First day, such as `2026-03-01`, in the accounts' time zones.
        from: Query<Option<String>>,
        /// Last day.
        to: Query<Option<String>>,
        /// What is told apart beside sequences: any of `version`, `step`, `account`, `language`, `day`,
        /// with commas between them.
        by: Query<Option<String>>,
        /// `json` or `csv`, before what `Accept` says.
        format: Query<Option<Format>>,
        request: &Request,
    ) -> Result<StatisticsTold, Refusal> {
        presented.caller().may(Scope::Read)?;
        let asked = Asked {
            sequence: sequence.0,
            version: version.0.map(VersionId),
            language: language.0,
            ..asked(&state, account.0, from.0, to.0).await?
        };
        let by = read_by(by.0.as_deref().unwrap_or_default())?;
        let lines = statistics::lines(&state.store, asked, by).await?;
        let lines = lines.ok_or_else(too_many)?;
        let csv = csv::wanted(format.0, request.header("accept"));
        Ok(StatisticsTold::Told(match csv {
            true => StatisticsContent::Csv(Binary(table(&lines))),
            false => StatisticsContent::Json(Json(lines.iter().map(Into::into).collect())),
        }))
    }

    /// Counts the clicks on links
    ///
    /// Links that nobody has clicked are there too, unless days are told apart.
    #[oai(
        path = "/statistics/links",
        method = "get",
        tag = "Group::Statistics",
        operation_id = "get_link_statistics"
    )]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a parameter of the request"
    )]
    async fn links(
        &self,
        presented: Presented,
        state: Data<&Arc<ApiState>>,
        /// Only of this sequence.
        sequence: Query<Option<String>>,
        /// Only of this version.
        version: Query<Option<i64>>,
        /// Only of this account, by the operator's name for it.
        account: Query<Option<String>>,
        /// First day, such as `2026-03-01`, in the accounts' time zones.
        from: Query<Option<String>>,
        /// Last day.
        to: Query<Option<String>>,
        /// `day` tells days apart.
        by: Query<Option<String>>,
        /// `json` or `csv`, before what `Accept` says.
        format: Query<Option<Format>>,
        request: &Request,
    ) -> Result<LinksTold, Refusal> {
        presented.caller().may(Scope::Read)?;
        let asked = Asked {
            sequence: sequence.0,
            version: version.0.map(VersionId),
            ..asked(&state, account.0, from.0, to.0).await?
        };
        let by_day = match by.0.as_deref() {
            None | Some("") => false,
            Some("day") => true,
            Some(_) => return Err(bad("`by` of links is `day`, or left out")),
        };
        let lines = statistics::links(&state.store, asked, by_day).await?;
        let lines = lines.ok_or_else(too_many)?;
        let csv = csv::wanted(format.0, request.header("accept"));
        Ok(LinksTold::Told(match csv {
            true => LinksContent::Csv(Binary(table_of_links(&lines))),
            false => LinksContent::Json(Json(lines.iter().map(Into::into).collect())),
        }))
    }
}

fn bad(what: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadRequest, what)
}

fn too_many() -> Refusal {
    bad("that is too much at once: ask for fewer days or accounts, or tell less apart")
}

async fn asked(
    state: &ApiState,
    account: Option<String>,
    from: Option<String>,
    to: Option<String>,
) -> Result<Asked, Refusal> {
    let account = match account {
        Some(key) => Some(named(state, &key).await?.id),
        None => None,
    };
    let day = |text: Option<String>, otherwise: i64| match text {
        None => Ok(otherwise),
        Some(text) => crate::store::statistics::read_day(&text)
            .ok_or_else(|| bad("a day is written as `2026-03-01`")),
    };
    let days = match (&from, &to) {
        (None, None) => None,
        _ => Some((day(from, i64::MIN)?, day(to, i64::MAX)?)),
    };
    Ok(Asked {
        account,
        days,
        ..Asked::default()
    })
}

fn read_by(words: &str) -> Result<By, Refusal> {
    let mut by = By::default();
    for word in words
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        let place = match word {
            "sequence" => continue,
            "version" => &mut by.version,
            "step" => &mut by.step,
            "account" => &mut by.account,
            "language" => &mut by.language,
            "day" => &mut by.day,
            _ => {
                return Err(bad(
                    "`by` is any of version, step, account, language and day, with commas",
                ));
            }
        };
        *place = true;
    }
    Ok(by)
}

fn number(n: i64) -> Cow<'static, str> {
    Cow::Owned(n.to_string())
}

fn or_empty(text: Option<&String>) -> Cow<'_, str> {
    csv::cell(text.map_or("", String::as_str))
}

fn table(lines: &[Line]) -> Vec<u8> {
    let head = [
        "sequence",
        "version",
        "step",
        "account",
        "language",
        "day",
        "planned",
        "sent",
        "refused",
        "refused_by",
        "expired",
        "skipped",
        "cancelled",
        "failed",
        "unknown",
        "delivered",
        "undelivered",
        "clicked",
        "clicks",
        "click_rate",
        "left_within_hour",
    ];
    let rows = lines.iter().map(|line| {
        let numbers = &line.numbers;
        let refused = numbers
            .refused_by
            .iter()
            .map(|(code, n)| format!("{code}:{n}"));
        let rate = numbers.click_rate().map(|rate| format!("{rate:.4}"));
        vec![
            csv::cell(&line.sequence),
            Cow::Owned(line.version.map_or_else(String::new, |id| id.to_string())),
            or_empty(line.step.as_ref()),
            or_empty(line.account.as_ref()),
            or_empty(line.language.as_ref()),
            Cow::Owned(line.day.map_or_else(String::new, |day| day.to_string())),
            number(numbers.planned),
            number(numbers.sent),
            number(numbers.refused),
            Cow::Owned(csv::cell(&refused.collect::<Vec<_>>().join(" ")).into_owned()),
            number(numbers.expired),
            number(numbers.skipped),
            number(numbers.cancelled),
            number(numbers.failed),
            number(numbers.unknown),
            number(numbers.delivered),
            number(numbers.undelivered),
            number(numbers.clicked),
            number(numbers.clicks),
            Cow::Owned(rate.unwrap_or_default()),
            number(numbers.left),
        ]
    });
    let head = head.map(Cow::Borrowed).to_vec();
    csv::write(std::iter::once(head).chain(rows))
}

fn table_of_links(lines: &[LinkLine]) -> Vec<u8> {
    let head = [
        "sequence", "version", "step", "link", "language", "target", "day", "clicked", "clicks",
    ];
    let rows = lines.iter().map(|line| {
        vec![
            csv::cell(&line.sequence),
            Cow::Owned(line.version.to_string()),
            csv::cell(&line.step),
            csv::cell(&line.link),
            or_empty(line.language.as_ref()),
            csv::cell(&line.target),
            Cow::Owned(line.day.map_or_else(String::new, |day| day.to_string())),
            number(line.clicked),
            number(line.clicks),
        ]
    });
    let head = head.map(Cow::Borrowed).to_vec();
    csv::write(std::iter::once(head).chain(rows))
}
