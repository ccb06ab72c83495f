//! How often an account may call: daily and per-minute limits of every API.
//!
//! Months turn at midnight in Beijing, days there too unless the account's rules name another hour.
//! Refused calls of the minute limit do not count toward the day. Limits of one call's content are
//! in `message` and `media`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::errcode::Refusal;
use super::lock;
use super::rules::AccountRules;
use crate::clock::Timestamp;

/// The platform's calls that the sandbox knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Send,
    TemplateSend,
    NoticeSend,
    MassSend,
    MassGet,
    Token,
    StableToken,
    Upload,
    UploadImage,
    UserInfo,
    UserList,
    UserBatch,
    TagCreate,
    TagList,
    Tagging,
    Untagging,
    TagsOf,
    Tagged,
    QuotaGet,
    ClearQuota,
}

/// What an account has to be for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Verified,
    VerifiedService,
}

struct Row {
    api: Api,
    path: &'static str,
    is_post: bool,
    need: Need,
    /// A new account's daily limit (API_Call_Limits of the platform).
    per_day: u64,
    per_minute: Option<u64>,
}

const fn row(api: Api, path: &'static str, need: Need, per_day: u64) -> Row {
    Row {
        api,
        path,
        is_post: true,
        need,
        per_day,
        per_minute: None,
    }
}

const fn get(api: Api, path: &'static str, need: Need, per_day: u64) -> Row {
    Row {
        is_post: false,
        ..row(api, path, need, per_day)
    }
}

/// Stands in where the platform publishes no limit.
const MANY: u64 = 5_000_000;

const APIS: [Row; 20] = {
    use Api::*;
    use Need::*;
    [
        row(Send, "/cgi-bin/message/custom/send", Verified, 500_000),
        row(
            TemplateSend,
            "/cgi-bin/message/template/send",
            VerifiedService,
            100_000,
        ),
        row(
            NoticeSend,
            "/cgi-bin/message/subscribe/bizsend",
            VerifiedService,
            MANY,
        ),
        Row {
            per_minute: Some(60),
            ..row(MassSend, "/cgi-bin/message/mass/send", VerifiedService, 100)
        },
        row(MassGet, "/cgi-bin/message/mass/get", Verified, MANY),
        get(Token, "/cgi-bin/token", Nothing, 2_000),
        Row {
            per_minute: Some(10_000),
            ..row(StableToken, "/cgi-bin/stable_token", Nothing, 500_000)
        },
        row(Upload, "/cgi-bin/media/upload", Nothing, 100_000),
        row(UploadImage, "/cgi-bin/media/uploadimg", Nothing, 100_000),
        get(UserInfo, "/cgi-bin/user/info", Verified, MANY),
        get(UserList, "/cgi-bin/user/get", Verified, 500),
        row(UserBatch, "/cgi-bin/user/info/batchget", Verified, MANY),
        row(TagCreate, "/cgi-bin/tags/create", Verified, 1_000),
        get(TagList, "/cgi-bin/tags/get", Verified, 1_000),
        row(
            Tagging,
            "/cgi-bin/tags/members/batchtagging",
            Verified,
            100_000,
        ),
        row(
            Untagging,
            "/cgi-bin/tags/members/batchuntagging",
            Verified,
            100_000,
        ),
        row(TagsOf, "/cgi-bin/tags/getidlist", Verified, MANY),
        row(Tagged, "/cgi-bin/user/tag/get", Verified, MANY),
        row(QuotaGet, "/cgi-bin/openapi/quota/get", Nothing, MANY),
        row(ClearQuota, "/cgi-bin/clear_quota", Nothing, MANY),
    ]
};

/// Clearing all counters is allowed this often per calendar month.
const CLEARS_MAX: u32 = 10;

impl Api {
    /// The API behind a path.
    pub(super) fn at(path: &str) -> Option<Self> {
        APIS.iter().find(|row| row.path == path).map(|row| row.api)
    }

    fn index(self) -> usize {
        APIS.iter()
            .position(|row| row.api == self)
            .unwrap_or_default()
    }

    /// The path it is called at.
    pub(super) fn path(self) -> &'static str {
        APIS[self.index()].path
    }

    /// Whether it wants a POST.
    pub(super) fn is_post(self) -> bool {
        APIS[self.index()].is_post
    }

    /// Who may call it.
    pub(super) fn need(self) -> Need {
        APIS[self.index()].need
    }
}

/// One interface's quota as it stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct QuotaState {
    pub path: &'static str,
    pub per_day: u64,
    /// Calls counted since the day began.
    pub used: u64,
    pub per_minute: Option<u64>,
    /// Calls counted in this minute.
    pub used_in_minute: u64,
}

/// The counters of one account.
#[derive(Debug)]
pub(super) struct Quotas {
    counts: [Mutex<Count>; APIS.len()],
    /// Month number and clears in it.
    clears: Mutex<(i64, u32)>,
    /// Per day and per minute.
    limits: [(u64, Option<u64>); APIS.len()],
    /// Hour in Beijing.
    day_begins_at: u8,
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
    pub(super) fn new(rules: &AccountRules) -> Self {
        let limit = |row: &Row| {
            let own = rules.quotas.get(row.path).copied().unwrap_or_default();
            (
                own.per_day.unwrap_or(row.per_day),
                own.per_minute.or(row.per_minute),
            )
        };
        Self {
            counts: Default::default(),
            clears: Mutex::default(),
            limits: APIS.each_ref().map(limit),
            day_begins_at: rules.day_begins_at,
        }
    }

    fn day(&self, now: Timestamp) -> i64 {
        let late = Duration::from_secs(u64::from(self.day_begins_at) * 3600);
        beijing_day(now.minus(late))
    }

    /// Counts one call, or refuses it with 45011 or 45009.
    pub(super) fn spend(&self, api: Api, now: Timestamp) -> Result<(), Refusal> {
        let (per_day, per_minute) = self.limits[api.index()];
        let mut count = lock(&self.counts[api.index()]);
        let minute = now.seconds().div_euclid(60);
        if count.minute != minute {
            (count.minute, count.in_minute) = (minute, 0);
        }
        if per_minute.is_some_and(|max| count.in_minute >= max) {
            return Err(Refusal::MINUTE_LIMIT);
        }
        let day = self.day(now);
        if count.day != day {
            (count.day, count.in_day) = (day, 0);
        }
        if count.in_day >= per_day {
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
        let state = self.state(api, now);
        let remain = state.per_day.saturating_sub(state.used);
        let mut report = json!({
            "errcode": 0,
            "errmsg": "ok",
            "quota": {"daily_limit": state.per_day, "used": state.used, "remain": remain},
        });
        if let Some(max) = state.per_minute {
            report["rate_limit"] = json!({"call_count": max, "refresh_second": 60});
        }
        Ok(report)
    }

    fn state(&self, api: Api, now: Timestamp) -> QuotaState {
        let count = *lock(&self.counts[api.index()]);
        let (per_day, per_minute) = self.limits[api.index()];
        let if_now = |is_now, count| if is_now { count } else { 0 };
        QuotaState {
            path: api.path(),
            per_day,
            used: if_now(count.day == self.day(now), count.in_day),
            per_minute,
            used_in_minute: if_now(
                count.minute == now.seconds().div_euclid(60),
                count.in_minute,
            ),
        }
    }

    /// Every interface's quota, and how often all were cleared in this month.
    pub(super) fn states(&self, now: Timestamp) -> (Vec<QuotaState>, u32) {
        let (month, clears) = *lock(&self.clears);
        let states = APIS.iter().map(|row| self.state(row.api, now));
        let clears = if month == beijing_month(now) {
            clears
        } else {
            0
        };
        (states.collect(), clears)
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
                .map(|(row, count)| (row.path.to_owned(), *lock(count)))
                .collect(),
            clears: *lock(&self.clears),
        }
    }

    /// Goes on from the counters of before a restart.
    pub(super) fn restore(&self, kept: &KeptQuotas) {
        for (row, count) in APIS.iter().zip(&self.counts) {
            *lock(count) = kept.counts.get(row.path).copied().unwrap_or_default();
        }
        *lock(&self.clears) = kept.clears;
    }
}

/// Number of the calendar day in Beijing.
pub(super) fn beijing_day(now: Timestamp) -> i64 {
    (now.seconds().saturating_add(8 * 3600)).div_euclid(86_400)
}

/// Number of the calendar month in Beijing.
pub(super) fn beijing_month(now: Timestamp) -> i64 {
    use chrono::Datelike;
    let there = Timestamp(now.0.saturating_add(8 * 3_600_000)).to_chrono();
    i64::from(there.year()) * 12 + i64::from(there.month0())
}

#[cfg(test)]
mod tests {
    use super::super::rules::CallQuota;
    use super::*;

    /// 2023-11-15 00:00:00 in Beijing.
    const MIDNIGHT: Timestamp = Timestamp(1_699_977_600_000);

    fn quotas(per_day: u64, per_minute: Option<u64>) -> Quotas {
        let quota = CallQuota {
            per_day: Some(per_day),
            per_minute,
        };
        Quotas::new(&AccountRules {
            quotas: [(Api::Send.path().to_owned(), quota)].into(),
            ..AccountRules::default()
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
    fn the_day_begins_at_the_hour_that_the_rules_name() {
        let quotas = Quotas {
            day_begins_at: 8,
            ..quotas(1, None)
        };
        let hours = |hours: u64| MIDNIGHT.plus(Duration::from_secs(hours * 3600));
        quotas.spend(Api::Send, MIDNIGHT).unwrap();
        let early = hours(8).minus(Duration::from_secs(1));
        assert_eq!(quotas.spend(Api::Send, early), Err(Refusal::DAILY_LIMIT));
        assert_eq!(quotas.spend(Api::Send, hours(8)), Ok(()));
    }

    #[test]
    fn every_call_has_its_own_limits() {
        let quotas = Quotas::new(&AccountRules::default());
        for _ in 0..60 {
            quotas.spend(Api::MassSend, MIDNIGHT).unwrap();
        }
        let refused = quotas.spend(Api::MassSend, MIDNIGHT);
        assert_eq!(refused, Err(Refusal::MINUTE_LIMIT));
        assert_eq!(quotas.spend(Api::Send, MIDNIGHT), Ok(()));
        let (states, _) = quotas.states(MIDNIGHT);
        let used: Vec<_> = states.iter().filter(|state| state.used > 0).collect();
        assert_eq!(used.len(), 2);
        assert_eq!((used[1].path, used[1].used), (Api::MassSend.path(), 60));
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
