//! Checks what `alerts` says.

use super::Alerts;
use super::check::Check;
use super::raw::RawAlerts;

/// Unknown sends of one account in 24 hours that are no alert yet.
const UNKNOWN_SENDS: u32 = 10;

impl Check<'_> {
    pub(super) fn alerts(&mut self, raw: &RawAlerts) -> Option<Alerts> {
        let url = url::Url::parse(&raw.url.value).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if url.is_none() {
            // It may hold a secret.
            self.problems.note_hidden(
                raw.url.place,
                "this is no web address",
                "write one such as https://alerts.example.com/dripwheel",
            );
        }
        let secret = self.signing_secret(&raw.secret);
        let unknown_sends = raw.unknown_sends.as_ref().map(|at| at.value);
        Some(Alerts {
            url: url?,
            secret: secret?,
            unknown_sends: unknown_sends.unwrap_or(UNKNOWN_SENDS),
        })
    }
}
