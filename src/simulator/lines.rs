//! Every table that a commit touches as sorted lines of text: of a database by SQL, of the model by
//! hand, in the same words.

use std::collections::BTreeMap;
use std::fmt::Display;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};

use crate::journey::carrier::Carrier;
use crate::policy::grant::Kind;
use crate::simulator::model::Rows;
use crate::store::enrollments::write_plan;
use crate::store::receipts::cut;

/// Lines by table.
pub(super) type Lines = BTreeMap<&'static str, Vec<String>>;

/// Sums, however many rows they came in.
const SUMS: &str = "(SELECT version_id, day, account_id, step, link, kind, code, language,
    CAST(sum(n) AS BIGINT) AS n FROM statistics_fresh
    GROUP BY version_id, day, account_id, step, link, kind, code, language) AS statistics_fresh";

/// Tables and their columns, in the order of the model's lines.
const TABLES: [(&str, &[&str]); 13] = [
    (
        "followers",
        &[
            "id",
            "account_id",
            "openid",
            "following",
            "muted",
            "followed_at",
            "left_at",
            "last_event_at",
            "last_sent_at",
            "language",
            "scene",
            "tags",
        ],
    ),
    (
        "grants",
        &[
            "follower_id",
            "kind",
            "opens_at",
            "closes_at",
            "quota",
            "spent",
            "opened_by",
        ],
    ),
    ("consents", &["follower_id", "template", "\"left\""]),
    (
        SUMS,
        &[
            "version_id",
            "day",
            "account_id",
            "step",
            "link",
            "kind",
            "code",
            "language",
            "n",
        ],
    ),
    (
        "clicks",
        &[
            "enrollment_id",
            "step",
            "link",
            "account_id",
            "version_id",
            "first_at",
            "last_at",
            "count",
        ],
    ),
    (
        "replies",
        &[
            "enrollment_id",
            "created_at",
            "digest",
            "answers",
            "answered_at",
        ],
    ),
    (
        "receipts",
        &[
            "account_id",
            "follower_id",
            "created_at",
            "digest",
            "kind",
            "detail",
            "taken_at",
        ],
    ),
    (
        "enrollments",
        &[
            "id",
            "account_id",
            "version_id",
            "enrolled_at",
            "plan",
            "step",
            "wake_at",
            "generation",
            "state",
            "attempt",
            "entry",
            "resent",
        ],
    ),
    (
        "timers",
        &[
            "shard",
            "due_at",
            "enrollment_id",
            "account_id",
            "generation",
        ],
    ),
    (
        "deliveries",
        &[
            "shard",
            "account_id",
            "due_at",
            "enrollment_id",
            "generation",
            "state",
            "epoch",
            "intent_at",
            "carrier",
            "grant_kind",
            "fallback",
        ],
    ),
    (
        "outcomes",
        &[
            "enrollment_id",
            "step",
            "entry",
            "account_id",
            "version_id",
            "result",
            "steps",
            "due_at",
            "at",
            "code",
            "detail",
            "carrier",
        ],
    ),
    (
        "awaited_reports",
        &[
            "account_id",
            "reference",
            "enrollment_id",
            "version_id",
            "step",
            "entry",
            "carrier",
            "due_at",
            "sent_at",
        ],
    ),
    (
        "tag_changes",
        &["account_id", "tag", "follower_id", "present", "number"],
    ),
];

/// All rows of a database.
pub(super) async fn of_database(read: &DatabaseConnection) -> Result<Lines, DbErr> {
    let mut lines = Lines::new();
    for (table, columns) in TABLES {
        let columns = columns.iter();
        let columns = columns.map(|name| format!("coalesce(CAST({name} AS TEXT), '-')"));
        let columns = columns.collect::<Vec<_>>().join(" || ' ' || ");
        let sql = format!("SELECT {columns} FROM {table}");
        let statement = Statement::from_string(read.get_database_backend(), sql);
        let rows = read.query_all_raw(statement).await?;
        let texts = rows.iter().map(|row| row.try_get_by_index(0));
        let mut texts: Vec<String> = texts.collect::<Result<_, _>>()?;
        texts.sort_unstable();
        lines.insert(table, texts);
    }
    Ok(lines)
}

fn line(columns: &[&dyn Display]) -> String {
    let texts = columns.iter().map(ToString::to_string);
    texts.collect::<Vec<_>>().join(" ")
}

fn or_none<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn flag(value: bool) -> u8 {
    u8::from(value)
}

/// All rows of the model.
pub(super) fn of_model(rows: &Rows) -> Lines {
    let mut lines = Lines::new();
    lines.insert("followers", followers(rows));
    let grants = rows.grants.iter().map(|((follower, kind), one)| {
        let (opens_at, closes_at) = (one.opens_at.0, one.closes_at.0);
        let opened_by = one.opened_by.number();
        line(&[
            follower, kind, &opens_at, &closes_at, &one.quota, &one.spent, &opened_by,
        ])
    });
    lines.insert("grants", grants.collect());
    let consents = rows.consents.iter();
    let consents = consents.map(|((follower, template), left)| line(&[follower, template, left]));
    lines.insert("consents", consents.collect());
    let clicks = rows.clicks.values().map(|(account, version, one)| {
        let (first_at, last_at) = (one.first_at.0, one.last_at.0);
        line(&[
            &one.enrollment,
            &one.step,
            &one.link,
            account,
            version,
            &first_at,
            &last_at,
            &one.count,
        ])
    });
    lines.insert("clicks", clicks.collect());
    lines.insert(SUMS, sums(rows));
    let replies = rows.replies.values().map(|one| {
        let (created_at, answered_at) = (one.created_at.0, one.answered_at.0);
        line(&[
            &one.enrollment,
            &created_at,
            &one.digest,
            &one.answers,
            &answered_at,
        ])
    });
    lines.insert("replies", replies.collect());
    let receipts = rows
        .receipts
        .iter()
        .map(|((account, follower, created_at, digest), row)| {
            let detail = or_none(row.detail.as_ref());
            let (kind, taken_at) = (row.kind, row.taken_at.0);
            line(&[
                account,
                follower,
                &created_at.0,
                digest,
                &kind,
                &detail,
                &taken_at,
            ])
        });
    lines.insert("receipts", receipts.collect());
    lines.insert("enrollments", enrollments(rows));
    let timers = rows.timers.iter().map(|(key, row)| {
        let shard = rows.sharding.shard(row.account);
        line(&[
            &shard,
            &key.due_at.0,
            &key.enrollment,
            &row.account,
            &row.generation,
        ])
    });
    lines.insert("timers", timers.collect());
    lines.insert("deliveries", deliveries(rows));
    lines.insert("outcomes", outcomes(rows));
    let awaited = rows.awaited.values().map(|one| {
        let (carrier, due_at, sent_at) = (one.carrier.number(), one.due_at.0, one.sent_at.0);
        let (step, entry) = (one.step, one.entry);
        line(&[
            &one.account,
            &one.reference,
            &one.enrollment,
            &one.version,
            &step,
            &entry,
            &carrier,
            &due_at,
            &sent_at,
        ])
    });
    lines.insert("awaited_reports", awaited.collect());
    let tags = rows.tag_changes.iter();
    let tags = tags.map(|((account, tag, follower), (present, number))| {
        line(&[account, tag, follower, &flag(*present), number])
    });
    lines.insert("tag_changes", tags.collect());
    lines.values_mut().for_each(|all| all.sort_unstable());
    lines
}

fn sums(rows: &Rows) -> Vec<String> {
    let sums = rows.sums.iter().map(|(sum, n)| {
        line(&[
            &sum.version,
            &sum.day,
            &sum.account,
            &sum.step,
            &sum.link,
            &sum.kind,
            &sum.code,
            &sum.language,
            n,
        ])
    });
    sums.collect()
}

fn followers(rows: &Rows) -> Vec<String> {
    let all = rows.followers.values().map(|one| {
        let tags = match one.tags.is_empty() {
            true => "-".to_owned(),
            false => serde_json::to_string(&one.tags).unwrap_or_default(),
        };
        line(&[
            &one.id,
            &one.account,
            &one.openid,
            &flag(one.following),
            &flag(one.muted),
            &one.followed_at.0,
            &one.left_at.0,
            &one.last_event_at.0,
            &one.last_sent_at.0,
            &or_none(one.language.as_ref()),
            &or_none(one.scene.as_ref()),
            &tags,
        ])
    });
    all.collect()
}

fn enrollments(rows: &Rows) -> Vec<String> {
    let all = rows.enrollments.values().map(|(account, one)| {
        line(&[
            &one.id,
            account,
            &one.version,
            &one.enrolled_at.0,
            &write_plan(&one.plan, one.enrolled_at),
            &one.step,
            &one.wake_at.0,
            &one.generation,
            &one.state.number(),
            &one.attempt,
            &one.entry,
            &flag(one.resent),
        ])
    });
    all.collect()
}

fn deliveries(rows: &Rows) -> Vec<String> {
    let all = rows
        .deliveries
        .iter()
        .map(|((account, due_at, enrollment), row)| {
            let shard = rows.sharding.shard(*account);
            let fare = row.sending.map(|sending| sending.fare);
            let carrier = fare.map_or(Carrier::CustomerMessage, |fare| fare.carrier);
            let grant = fare.and_then(|fare| fare.grant).map_or(0, Kind::number);
            let fallback = fare.and_then(|fare| fare.fallback);
            line(&[
                &shard,
                account,
                &due_at.0,
                enrollment,
                &row.generation,
                &flag(row.sending.is_some()),
                &row.sending.map_or(0, |sending| sending.epoch),
                &row.sending.map_or(0, |sending| sending.at.0),
                &carrier.number(),
                &grant,
                &fallback.map_or(0, |at| i64::from(at) + 1),
            ])
        });
    all.collect()
}

fn outcomes(rows: &Rows) -> Vec<String> {
    let all = rows.outcomes.values().map(|(account, version, entry)| {
        let detail = cut(&entry.detail, 300);
        line(&[
            &entry.enrollment,
            &entry.step,
            &entry.entry,
            account,
            version,
            &entry.outcome.number(),
            &entry.steps,
            &entry.due_at.0,
            &entry.at.0,
            &or_none(entry.code),
            &or_none(Some(detail).filter(|detail| !detail.is_empty())),
            &or_none(entry.carrier.map(Carrier::number)),
        ])
    });
    all.collect()
}
