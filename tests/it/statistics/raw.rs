//! The same numbers a second time, from the rows themselves: nothing of this is shared with what serves
//! them.

use std::collections::BTreeMap;

use dripwheel::store::Store;
use sea_orm::QueryResult;

use crate::reconcile::Stage;
use crate::support::database::rows;

const DAY_MS: i64 = 86_400_000;
/// Beijing, which knows no summer.
const ZONE_MS: i64 = 8 * 3_600_000;
const HOUR_MS: i64 = 3_600_000;

/// Names of the numbers, by what `outcomes.result` says.
const ENDS: [&str; 12] = [
    "",
    "sent",
    "refused",
    "expired",
    "skipped",
    "cancelled",
    "failed",
    "unknown",
    "",
    "",
    "delivered",
    "undelivered",
];

/// Version, step, day and name of a number, each with the number; those of 0 are left out.
pub type Numbers = BTreeMap<(i64, String, String, String), i64>;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Raw {
    numbers: Numbers,
    /// Version, step and name of a link: clicked, and clicks.
    links: BTreeMap<(i64, String, String), (i64, i64)>,
}

fn int(row: &QueryResult, index: usize) -> i64 {
    row.try_get_by_index(index).unwrap()
}

fn day(at: i64) -> String {
    let days = (at + ZONE_MS).div_euclid(DAY_MS);
    let date = chrono::DateTime::from_timestamp_millis(days * DAY_MS).unwrap();
    date.format("%Y-%m-%d").to_string()
}

impl Raw {
    /// Counted from enrollments, outcomes, receipts and clicks.
    pub async fn of(store: &Store) -> Self {
        let mut raw = Self::default();
        let catalog = store.knowledge().catalog();
        let version_of = |id: i64| {
            catalog
                .version(dripwheel::journey::ids::VersionId(id))
                .unwrap()
        };
        let step_of = |version: i64, step: i64| {
            let steps = &version_of(version).sequence.steps;
            steps[usize::try_from(step).unwrap()].id.clone()
        };
        let read = store.read();
        let mut add = |version: i64, step: i64, at: i64, name: &str, n: i64| {
            let key = (version, step_of(version, step), day(at), name.to_owned());
            *raw.numbers.entry(key).or_default() += n;
        };
        for row in rows(read, "SELECT version_id, enrolled_at FROM enrollments", []).await {
            for step in 0..version_of(int(&row, 0)).sequence.steps.len() {
                let step = i64::try_from(step).unwrap();
                add(int(&row, 0), step, int(&row, 1), "planned", 1);
            }
        }
        let outcomes = "SELECT version_id, step, steps, result, coalesce(code, 0), at,
            enrollment_id >> 16 FROM outcomes";
        let mut sent = Vec::new();
        for row in rows(read, outcomes, []).await {
            let (version, step, result, at) =
                (int(&row, 0), int(&row, 1), int(&row, 3), int(&row, 5));
            let name = ENDS[usize::try_from(result).unwrap()];
            if name.is_empty() {
                continue;
            }
            for step in step..step + int(&row, 2).max(1) {
                add(version, step, at, name, 1);
                if name == "refused" {
                    add(version, step, at, &format!("refused {}", int(&row, 4)), 1);
                }
            }
            if name == "sent" {
                sent.push((int(&row, 6), at, version, step));
            }
        }
        let clicks = "SELECT version_id, step, link, first_at, count FROM clicks";
        let mut links = Vec::new();
        for row in rows(read, clicks, []).await {
            let (version, step, link) = (int(&row, 0), int(&row, 1), int(&row, 2));
            if link == 0 {
                add(version, step, int(&row, 3), "clicked", 1);
                add(version, step, int(&row, 3), "clicks", int(&row, 4));
            } else {
                links.push((version, step, link, int(&row, 4)));
            }
        }
        let unfollows = "SELECT follower_id, created_at FROM receipts WHERE kind = 2";
        for row in rows(read, unfollows, []).await {
            let (follower, left_at) = (int(&row, 0), int(&row, 1));
            let before = sent.iter().filter(|(of, at, ..)| {
                *of == follower && *at <= left_at && *at > left_at - HOUR_MS
            });
            if let Some((_, _, version, step)) = before.max_by_key(|(_, at, ..)| *at) {
                add(*version, *step, left_at, "left_within_hour", 1);
            }
        }
        for (version, step, link, count) in links {
            let step = &version_of(version).sequence.steps[usize::try_from(step).unwrap()];
            let link = &step.links[usize::try_from(link - 1).unwrap()];
            let key = (version, step.id.clone(), link.name());
            let (clicked, clicks) = raw.links.entry(key).or_default();
            *clicked += 1;
            *clicks += count;
        }
        raw
    }

    /// As the API has them.
    pub async fn served(stage: &Stage) -> Self {
        let mut served = Self::default();
        let told = stage.get("/statistics?by=version,step,day").await;
        for line in told.as_array().unwrap() {
            let mut add = |name: &str, n: i64| {
                let text = |key: &str| line[key].as_str().unwrap().to_owned();
                let version = line["version"].as_i64().unwrap();
                if n != 0 {
                    let key = (version, text("step"), text("day"), name.to_owned());
                    served.numbers.insert(key, n);
                }
            };
            let others = ["planned", "clicked", "clicks", "left_within_hour"];
            for name in ENDS.iter().chain(&others).filter(|name| !name.is_empty()) {
                add(name, line[*name].as_i64().unwrap());
            }
            for one in line["refused_by"].as_array().unwrap() {
                add(
                    &format!("refused {}", one["code"]),
                    one["n"].as_i64().unwrap(),
                );
            }
        }
        let told = stage.get("/statistics/links").await;
        for line in told.as_array().unwrap() {
            let text = |key: &str| line[key].as_str().unwrap().to_owned();
            let counts = (
                line["clicked"].as_i64().unwrap(),
                line["clicks"].as_i64().unwrap(),
            );
            if counts != (0, 0) {
                let key = (
                    line["version"].as_i64().unwrap(),
                    text("step"),
                    text("link"),
                );
                let (clicked, clicks) = served.links.entry(key).or_default();
                *clicked += counts.0;
                *clicks += counts.1;
            }
        }
        served
    }
}
