//! Checks how followers are compared with the platform's list.

use std::time::Duration;

use jiff::civil::Time;

use super::Reconcile;
use super::check::{Check, DEFAULTS, pick, preset};
use super::raw::RawReconcile;
use crate::yaml::At;

/// What turns a time off.
const OFF: &str = "off";

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

impl Check<'_> {
    pub(super) fn reconcile(&mut self, raw: Option<&RawReconcile>) -> Option<Reconcile> {
        let base = preset(DEFAULTS.reconcile.as_ref());
        let given = |one: fn(&RawReconcile) -> Option<&At<String>>| raw.and_then(one);
        let after = pick(
            given(|raw| raw.after_downtime.as_ref()),
            &base.after_downtime,
        );
        let daily = pick(given(|raw| raw.daily_at.as_ref()), &base.daily_at);
        let page = pick(given(|raw| raw.page_pause.as_ref()), &base.page_pause);
        let refresh = pick(given(|raw| raw.refresh_pause.as_ref()), &base.refresh_pause);
        let at_once = raw.and_then(|raw| raw.accounts_at_once.as_ref());
        let at_once = pick(at_once, &base.accounts_at_once);
        let after_downtime = if after.value == OFF {
            Some(None)
        } else {
            self.span(after, Duration::from_secs(1), DAY).map(Some)
        };
        let daily_at = if daily.value == OFF {
            Some(None)
        } else {
            self.time_of_day(daily).map(Some)
        };
        let minute = Duration::from_secs(60);
        let page_pause = self.span(page, Duration::ZERO, minute);
        let refresh_pause = self.span(refresh, Duration::ZERO, minute);
        let accounts_at_once = self.count(at_once, 1, 100);
        Some(Reconcile {
            after_downtime: after_downtime?,
            daily_at: daily_at?,
            page_pause: page_pause?,
            refresh_pause: refresh_pause?,
            accounts_at_once: accounts_at_once?,
        })
    }

    fn time_of_day(&mut self, at: &At<String>) -> Option<Time> {
        let time = || {
            let (hour, minute) = at.value.split_once(':')?;
            let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            let both = digits(hour) && digits(minute);
            both.then_some(())?;
            Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
        };
        let parsed = time().ok_or_else(|| "is no time of day".to_owned());
        let fix = "write hours and minutes in quotes, such as \"04:30\", or `off`";
        self.problems.keep(at, parsed, fix)
    }
}
