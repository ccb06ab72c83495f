//! Taking followers and consents in from tables, with a report of every row that is refused.
//!
//! One request is so many rows; `dripwheel import` cuts a file into requests. What is taken in twice is
//! as if it had been once. Nobody is enrolled by it: a table tells what was, not what somebody just did.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::{Binary, Json};
use poem_openapi::{ApiRequest, Object, OpenApi};

use crate::api::accounts::named;
use crate::api::keys::Presented;
use crate::api::problem::{Code, Refusal};
use crate::api::{ApiState, Group};
use crate::clock::Timestamp;
use crate::config::Scope;
use crate::store::reconcile::{Found, Listed};
use crate::store::work::{Act, Acted};

/// Rows of one request.
const ROWS_MAX: usize = 500;

/// Longest openid and template id in bytes; the platform's have 28 and 43.
const NAME_MAX: usize = 128;
/// Longest scene, in bytes: the platform's own limit.
const SCENE_MAX: usize = 64;
/// Tags of one follower, and the longest in characters: the platform's own limits.
const TAGS_MAX: usize = 20;
const TAG_CHARS_MAX: usize = 30;
/// Most notices that a follower can have allowed a template.
const LEFT_MAX: u16 = 1_000;

/// Followers of Official Accounts began with 2012.
const FIRST: Timestamp = Timestamp(1_325_347_200_000);
/// How far ahead of ours another system's clock may be.
const AHEAD_MAX: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct ImportApi;

#[derive(ApiRequest)]
enum Table {
    /// CSV with a line of column names, UTF-8.
    #[oai(content_type = "text/csv")]
    Csv(Binary<Vec<u8>>),
}

/// A row that was not taken in.
#[derive(Clone, Debug, Object)]
struct RefusedRow {
    /// Counted from 1, without the line of names.
    row: u32,
    /// Of this request's table.
    line: u64,
    reason: String,
}

/// What became of a table.
#[derive(Clone, Debug, Default, Object)]
struct ImportReport {
    rows: u32,
    /// Rows that are in force now, changed or not.
    taken: u32,
    /// Followers who were not known before.
    new: u32,
    refused: Vec<RefusedRow>,
}

#[OpenApi]
impl ImportApi {
    /// Takes followers in from a table of at most 500 rows
    ///
    /// Columns: `openid`, and as there are `followed_at` (RFC 3339, or seconds since 1970), `language`,
    /// `scene`, `tags` (with `;` between them). Whoever is known already gets language and tags from the
    /// row, where it has them; whoever has left since stays gone. Nobody is enrolled.
    #[oai(
        path = "/accounts/:key/import/followers",
        method = "post",
        tag = "Group::Followers",
        operation_id = "import_followers"
    )]
    async fn followers(
        &self,
        presented: Presented,
        state: Data<&Arc<ApiState>>,
        /// The operator's name for the account.
        key: Path<String>,
        body: Table,
    ) -> Result<Json<ImportReport>, Refusal> {
        presented.caller().may(Scope::Write)?;
        let account = named(&state, &key.0).await?.id;
        let Table::Csv(bytes) = body;
        let now = state.clock.now();
        let columns = ["openid", "followed_at", "language", "scene", "tags"];
        let read = read(&bytes.0, &columns, 1, |cell| follower(cell, now))?;
        let mut report = read.report;
        report.taken = u32::try_from(read.rows.len()).unwrap_or(u32::MAX);
        let found = read.rows.into_iter().map(|(_, one)| one).collect();
        let done = state.store.writer().reconcile(account, found).await?;
        report.new = done.found;
        Ok(Json(report))
    }

    /// Takes consents in from a table of at most 500 rows
    ///
    /// Columns: `openid`, `template`, and `left`, how many subscription notices the follower still
    /// allows. Of followers who are not known nothing is taken in.
    #[oai(
        path = "/accounts/:key/import/consents",
        method = "post",
        tag = "Group::Followers",
        operation_id = "import_consents"
    )]
    async fn consents(
        &self,
        presented: Presented,
        state: Data<&Arc<ApiState>>,
        /// The operator's name for the account.
        key: Path<String>,
        body: Table,
    ) -> Result<Json<ImportReport>, Refusal> {
        presented.caller().may(Scope::Write)?;
        let account = named(&state, &key.0).await?.id;
        let Table::Csv(bytes) = body;
        let read = read(&bytes.0, &["openid", "template", "left"], 3, consent)?;
        let mut report = read.report;
        let writer = state.store.writer();
        // Together: the writer makes one commit of those that wait for it.
        let acts = read
            .rows
            .into_iter()
            .map(|(place, (openid, act))| async move {
                (place, writer.act(account, openid, act).await)
            });
        for ((row, line), acted) in futures_util::future::join_all(acts).await {
            match acted? {
                Acted::Allowed => report.taken += 1,
                _ => report.refused.push(RefusedRow {
                    row,
                    line,
                    reason: "the account knows nobody by this openid".to_owned(),
                }),
            }
        }
        report.refused.sort_by_key(|one| one.row);
        Ok(Json(report))
    }
}

/// Number and line of a row.
type Place = (u32, u64);

/// What was read of a table.
struct Read<T> {
    rows: Vec<(Place, T)>,
    report: ImportReport,
}

/// A cell by the name of its column; empty where there is none.
type Cells<'a> = &'a dyn Fn(&str) -> &'a str;

/// Reads a table, whose first columns are needed; what `row` refuses is reported.
fn read<T>(
    bytes: &[u8],
    columns: &[&str],
    needed: usize,
    row: impl Fn(Cells<'_>) -> Result<T, String>,
) -> Result<Read<T>, Refusal> {
    let bad = |what: String| Refusal::new(Code::BadRequest, what);
    // Programs that show tables begin a file with a mark of its encoding.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    // The other half of a line's end is trimmed: so lines are counted right.
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .terminator(csv::Terminator::Any(b'\n'))
        .trim(csv::Trim::All)
        .from_reader(bytes);
    let allowed = columns.join(", ");
    let head = reader
        .byte_headers()
        .map_err(|error| bad(format!("this is no CSV: {error}")))?;
    let head: Vec<String> = head
        .iter()
        .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
        .collect();
    for (at, name) in head.iter().enumerate() {
        if !columns.contains(&name.as_str()) || head[..at].contains(name) {
            let cut: String = name.chars().take(40).collect();
            return Err(bad(format!(
                "the column `{cut}`: there are {allowed}, each once"
            )));
        }
    }
    for name in &columns[..needed] {
        if !head.iter().any(|known| known == name) {
            return Err(bad(format!(
                "there is no column `{name}`: the first line names columns"
            )));
        }
    }
    let mut read = Read {
        rows: Vec::new(),
        report: ImportReport::default(),
    };
    let mut seen: HashMap<String, u32> = HashMap::new();
    for (number, record) in (1..).zip(reader.byte_records()) {
        if usize::try_from(number).unwrap_or(usize::MAX) > ROWS_MAX {
            return Err(bad(format!(
                "a request has at most {ROWS_MAX} rows: make several of it"
            )));
        }
        read.report.rows = number;
        let record = record.map_err(|error| bad(format!("row {number}: {error}")))?;
        let line = record.position().map_or(0, csv::Position::line);
        let taken = text_of(&record).and_then(|cells| {
            if cells.len() != head.len() {
                return Err(format!("has {} cells, not {}", cells.len(), head.len()));
            }
            let cell = |name: &str| {
                let at = head.iter().position(|known| known == name);
                at.map_or("", |at| cells[at])
            };
            let first: Vec<_> = columns[..needed.min(2)]
                .iter()
                .map(|name| cell(name))
                .collect();
            if let Some(before) = seen.insert(first.join("\n"), number) {
                return Err(format!("is the same as row {before}"));
            }
            row(&cell)
        });
        match taken {
            Ok(taken) => read.rows.push(((number, line), taken)),
            Err(reason) => read.report.refused.push(RefusedRow {
                row: number,
                line,
                reason,
            }),
        }
    }
    Ok(read)
}

fn text_of(record: &csv::ByteRecord) -> Result<Vec<&str>, String> {
    let cells = record.iter().map(std::str::from_utf8);
    let cells: Result<Vec<_>, _> = cells.collect();
    cells.map_err(|_| "is not UTF-8".to_owned())
}

fn openid(cell: Cells<'_>) -> Result<String, String> {
    let openid = cell("openid");
    let fits = openid.len() <= NAME_MAX && openid.bytes().all(|b| b.is_ascii_graphic());
    match (openid.is_empty(), fits) {
        (true, _) => Err("openid: is empty".to_owned()),
        (_, false) => Err(format!(
            "openid: has 1 to {NAME_MAX} visible letters, no spaces"
        )),
        _ => Ok(openid.to_owned()),
    }
}

fn follower(cell: Cells<'_>, now: Timestamp) -> Result<Found, String> {
    let openid = openid(cell)?;
    let since = match cell("followed_at") {
        "" => now,
        text => instant(text).ok_or("followed_at: write it as 2026-03-01T09:00:00+08:00")?,
    };
    if !(FIRST..=now.plus(AHEAD_MAX)).contains(&since) {
        return Err("followed_at: lies before 2012 or ahead".to_owned());
    }
    let language = cell("language");
    let tag = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if language.len() > 16 || !language.bytes().all(tag) {
        return Err("language: write a tag such as zh_CN".to_owned());
    }
    let scene = cell("scene");
    if scene.len() > SCENE_MAX || scene.contains(char::is_control) {
        return Err(format!("scene: has at most {SCENE_MAX} bytes on one line"));
    }
    let given = cell("tags");
    let tags = given.split([';', '；']).map(str::trim);
    let tags: Vec<_> = tags
        .filter(|tag| !tag.is_empty())
        .map(str::to_owned)
        .collect();
    let long = |tag: &String| tag.chars().count() > TAG_CHARS_MAX || tag.contains(char::is_control);
    if tags.len() > TAGS_MAX || tags.iter().any(long) {
        return Err(format!(
            "tags: at most {TAGS_MAX}, each of at most {TAG_CHARS_MAX} characters"
        ));
    }
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(Found {
        openid,
        standing: Listed::Follows {
            since,
            scene: known(scene),
            language: known(language),
            tags: known(given).map(|_| tags),
            enrolls: false,
        },
    })
}

fn consent(cell: Cells<'_>) -> Result<(String, Act), String> {
    let openid = openid(cell)?;
    let template = cell("template");
    if !(1..=NAME_MAX).contains(&template.len()) || !template.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err("template: write the id that the platform's console shows".to_owned());
    }
    let left = cell("left")
        .parse::<u16>()
        .ok()
        .filter(|left| *left <= LEFT_MAX);
    let left = left.ok_or_else(|| format!("left: write a number from 0 to {LEFT_MAX}"))?;
    let template = template.to_owned();
    Ok((openid, Act::Allow { template, left }))
}

fn instant(text: &str) -> Option<Timestamp> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(Timestamp::from_seconds);
    }
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp(at.as_millisecond()))
}
