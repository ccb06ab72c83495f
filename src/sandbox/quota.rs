//! How often an account may call: daily and per-minute limits of every API.
//!
//! Days and months turn at midnight in Beijing. Refused calls of the minute limit do not count
//! toward the day. Limits of one call's content are in `message` and `media`.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::errcode::Refusal;
use super::lock;
use super::settings::SendQuota;
use crate::clock::Timestamp;

/// The platform's calls that the sandbox knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Send,
    Token,
    StableToken,
    Upload,
    UploadImage,
    UserInfo,
    UserList,
    UserBatch,
    QuotaGet,
    ClearQuota,
}

/// Path, whether it is a POST, and a new account's daily limit (API_Call_Limits of the platform).
const APIS: [(Api, &str, bool, u64); 10] = [
    (Api::Send, "/cgi-bin/message/custom/send", true, 500_000),
    (Api::Token, "/cgi-bin/token", false, 2_000),
    (Api::StableToken, "/cgi-bin/stable_token", true, 500_000),
    (Api::Upload, "/cgi-bin/media/upload", true, 100_000),
    (Api::UploadImage, "/cgi-bin/media/uploadimg", true, 100_000),
    (Api::UserInfo, "/cgi-bin/user/info", false, 5_000_000),
    (Api::UserList, "/cgi-bin/user/get", false, 500),
    (
        Api::UserBatch,
        "/cgi-bin/user/info/batchget",
        true,
        5_000_000,
    ),
    (Api::QuotaGet, "/cgi-bin/openapi/quota/get", true, 5_000_000),
    (Api::ClearQuota, "/cgi-bin/clear_quota", true, 5_000_000),
];

/// Clearing all counters is allowed this often per calendar month.
const CLEARS_MAX: u32 = 10;

impl Api {
    /// The API behind a path.
    pub(super) fn at(path: &str) -> Option<Self> {
        APIS.iter().find(|row| row.1 == path).map(|row| row.0)
    }

    fn row(self) -> usize {
        APIS.iter()
            .position(|row| row.0 == self)
            .unwrap_or_default()
    }

    /// The path it is called at.
    pub(super) fn path(self) -> &'static str {
        APIS[self.row()].1
    }

    /// Whether it wants a POST.
    pub(super) fn is_post(self) -> bool {
        APIS[self.row()].2
    }
}

/// The counters of one account.
#[derive(Debug)]
pub(super) struct Quotas {
    counts: [Mutex<Count>; APIS.len()],
    /// Month number and clears in it.
    clears: Mutex<(i64, u32)>,
    send: SendQuota,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Count {
    day: i64,
    in_day: u64,
    minute: i64,
    in_minute: u64,
}

/// The counters as they outlive a restart, by path.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct KeptQuotas {
    counts: BTreeMap<String, Count>,
    clears: (i64, u32),
}

impl Quotas {
    pub(super) fn new(send: SendQuota) -> Self {
        Self {
            counts: Default::default(),
            clears: Mutex::default(),
            send,
        }
    }

    fn per_day(&self, api: Api) -> u64 {
        match api {
            Api::Send => self.send.per_day,
            api => APIS[api.row()].3,
        }
    }

    fn per_minute(&self, api: Api) -> Option<u64> {
        match api {
            Api::Send => self.send.per_minute,
            Api::StableToken => Some(10_000),
            _ => None,
        }
    }

    /// Counts one call, or refuses it with 45011 or 45009.
    pub(super) fn spend(&self, api: Api, now: Timestamp) -> Result<(), Refusal> {
        let mut count = lock(&self.counts[api.row()]);
        let minute = now.seconds().div_euclid(60);
        if count.minute != minute {
            (count.minute, count.in_minute) = (minute, 0);
        }
        if self
            .per_minute(api)
            .is_some_and(|max| count.in_minute >= max)
        {
            return Err(Refusal::MINUTE_LIMIT);
        }
        if count.day != beijing_day(now) {
            (count.day, count.in_day) = (beijing_day(now), 0);
        }
        if count.in_day >= self.per_day(api) {
            return Err(Refusal::DAILY_LIMIT);
        }
        count.in_minute += 1;
        count.in_day += 1;
        Ok(())
    }

    /// What `openapi/quota/get` says of a path. Without a minute limit it names none, since the
    /// platform publishes no number to stand in.
    pub(super) fn report(&self, path: &str, now: Timestamp) -> Result<Value, Refusal> {
        let api = Api::at(path).ok_or(Refusal::CGI_PATH)?;
        let count = *lock(&self.counts[api.row()]);
        let used = if count.day == beijing_day(now) {
            count.in_day
        } else {
            0
        };
        let limit = self.per_day(api);
        let mut report = json!({
            "errcode": 0,
            "errmsg": "ok",
            "quota": {"daily_limit": limit, "used": used, "remain": limit.saturating_sub(used)},
        });
        if let Some(max) = self.per_minute(api) {
            report["rate_limit"] = json!({"call_count": max, "refresh_second": 60});
        }
        Ok(report)
    }

    /// Zeroes every counter; 48006 after the tenth time in a month.
    pub(super) fn clear(&self, now: Timestamp) -> Result<(), Refusal> {
        let mut clears = lock(&self.clears);
        if clears.0 != beijing_month(now) {
            *clears = (beijing_month(now), 0);
        }
        if clears.1 >= CLEARS_MAX {
            return Err(Refusal::CLEARS_SPENT);
        }
        clears.1 += 1;
        for count in &self.counts {
            *lock(count) = Count::default();
        }
        Ok(())
    }

    /// All counters.
    pub(super) fn kept(&self) -> KeptQuotas {
        let counts = APIS.iter().zip(&self.counts);
        KeptQuotas {
            counts: counts
                .map(|(row, count)| (row.1.to_owned(), *lock(count)))
                .collect(),
            clears: *lock(&self.clears),
        }
    }

    /// Goes on from the counters of before a restart.
    pub(super) fn restore(&self, kept: &KeptQuotas) {
        for (row, count) in APIS.iter().zip(&self.counts) {
            *lock(count) = kept.counts.get(row.1).copied().unwrap_or_default();
        }
        *lock(&self.clears) = kept.clears;
    }
}

/// Number of the calendar day in Beijing.
pub(super) fn beijing_day(now: Timestamp) -> i64 {
    (now.seconds().saturating_add(8 * 3600)).div_euclid(86_400)
}

fn beijing_month(now: Timestamp) -> i64 {
    use chrono::Datelike;
    let there = Timestamp(now.0.saturating_add(8 * 3_600_000)).to_chrono();
    i64::from(there.year()) * 12 + i64::from(there.month0())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 2023-11-15 00:00:00 in Beijing.
    const MIDNIGHT: Timestamp = Timestamp(1_699_977_600_000);

    fn quotas(per_day: u64, per_minute: Option<u64>) -> Quotas {
        Quotas::new(SendQuota {
            per_day,
            per_minute,
        })
    }

    #[test]
    fn the_daily_limit_ends_at_midnight_in_beijing() {
        let quotas = quotas(2, None);
        let before = MIDNIGHT.minus(Duration::from_secs(1));
        quotas.spend(Api::Send, before).unwrap();
        quotas.spend(Api::Send, before).unwrap();
        assert_eq!(quotas.spend(Api::Send, before), Err(Refusal::DAILY_LIMIT));
        assert_eq!(quotas.spend(Api::Send, MIDNIGHT), Ok(()));
    }

    #[test]
    fn the_minute_limit_ends_with_its_minute() {
        let quotas = quotas(100, Some(1));
        quotas.spend(Api::Send, MIDNIGHT).unwrap();
        let later = MIDNIGHT.plus(Duration::from_secs(59));
        assert_eq!(quotas.spend(Api::Send, later), Err(Refusal::MINUTE_LIMIT));
        assert_eq!(
            quotas.spend(Api::Send, MIDNIGHT.plus(Duration::from_secs(60))),
            Ok(())
        );
        let report = quotas.report(Api::Send.path(), later).unwrap();
        assert_eq!(report["quota"]["used"], 2);
        assert_eq!(report["rate_limit"]["call_count"], 1);
    }

    #[test]
    fn ten_clears_a_month_and_no_more() {
        let quotas = quotas(1, None);
        for _ in 0..10 {
            quotas.spend(Api::Send, MIDNIGHT).unwrap();
            quotas.clear(MIDNIGHT).unwrap();
        }
        assert_eq!(quotas.clear(MIDNIGHT), Err(Refusal::CLEARS_SPENT));
        assert_eq!(
            quotas.clear(MIDNIGHT.plus(Duration::from_secs(31 * 86_400))),
            Ok(())
        );
    }

    #[test]
    fn an_unknown_path_has_no_quota() {
        assert_eq!(
            quotas(1, None).report("/x", MIDNIGHT),
            Err(Refusal::CGI_PATH)
        );
    }
}
