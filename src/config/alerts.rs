//! Checks what `alerts` says.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

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
        let secret = self.secret(&raw.secret, &|text| {
            let bytes = text
                .strip_prefix("whsec_")
                .and_then(|bytes| STANDARD.decode(bytes).ok());
            bytes
                .filter(|bytes| (24..=64).contains(&bytes.len()))
                .map(|_| ())
                .ok_or("a signing secret is `whsec_` and the base64 of 24 to 64 bytes")
        });
        let unknown_sends = raw.unknown_sends.as_ref().map(|at| at.value);
        Some(Alerts {
            url: url?,
            secret: secret?,
            unknown_sends: unknown_sends.unwrap_or(UNKNOWN_SENDS),
        })
    }
}
