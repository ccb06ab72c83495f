//! Brings alerts to the operator's address: signed, tried again for a day, in order of age.
//!
//! Private addresses are fine: the address is the operator's own. Redirects are not followed, and
//! of an answer only its status is read.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, USER_AGENT};
use tokio_util::sync::CancellationToken;

use crate::alert::AlertSettings;
use crate::clock::{Clock, next_look};
use crate::store::alerts::{self, Outgoing};
use crate::store::{Error, Store};

/// How often it is looked whether something is to be sent.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Longest one try may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Messages of one look.
const BATCH_MAX: u32 = 16;

/// Wait after the first try that failed; it triples, up to the longest one.
const WAIT_FIRST: Duration = Duration::from_secs(5);
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// A message that nobody took for so long is given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(86_400);

const AGENT: &str = concat!("dripwheel/", env!("CARGO_PKG_VERSION"));

/// The way to the operator's address.
pub(super) struct Post {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    settings: AlertSettings,
    http: reqwest::Client,
}

impl Post {
    pub(super) fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        settings: AlertSettings,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .no_proxy()
            .referer(false)
            .build()?;
        Ok(Self {
            store,
            clock,
            settings,
            http,
        })
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = next_look(self.clock.as_ref(), LOOK_EVERY) => {}
            }
            if !self.store.leases().hold_server() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                sent = self.send_due() => if let Err(error) = sent {
                    tracing::warn!(%error, "alerts cannot be read or written");
                }
            }
        }
    }

    async fn send_due(&self) -> Result<(), Error> {
        let due = alerts::due(self.store.read(), self.clock.now(), BATCH_MAX).await?;
        for message in due {
            let Err(why) = self.send(&message).await else {
                metrics::counter!("dripwheel_alerts_total", "result" => "taken").increment(1);
                alerts::delete(&self.store, message.id).await?;
                continue;
            };
            let now = self.clock.now();
            if now.since(message.made_at) >= GIVEN_UP_AFTER {
                metrics::counter!("dripwheel_alerts_total", "result" => "given_up").increment(1);
                tracing::error!(
                    id = message.id,
                    why,
                    body = message.body,
                    "alert given up: nobody took it for a day"
                );
                alerts::delete(&self.store, message.id).await?;
            } else {
                metrics::counter!("dripwheel_alerts_total", "result" => "failed").increment(1);
                tracing::warn!(
                    id = message.id,
                    why,
                    tries = message.tries + 1,
                    "alert not taken"
                );
                let next_at = now.plus(wait(message.tries));
                alerts::postpone(&self.store, message.id, next_at).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, message: &Outgoing) -> Result<(), String> {
        // Of this try: whoever takes it may refuse old ones.
        let timestamp = self.clock.now().seconds();
        let signature = self
            .settings
            .key
            .sign(&message.id, timestamp, &message.body);
        let answer = self
            .http
            .post(self.settings.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT)
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signature)
            .body(message.body.clone())
            .send()
            .await;
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) if answer.status().is_redirection() => Err(format!(
                "HTTP {}, not followed; write the final address into alerts.url",
                answer.status()
            )),
            Ok(answer) => Err(format!("HTTP {}", answer.status())),
            // The address may hold a secret.
            Err(error) => Err(error.without_url().to_string()),
        }
    }
}

/// How long to wait after `tries` earlier tries and one more that failed.
fn wait(tries: u32) -> Duration {
    WAIT_FIRST
        .saturating_mul(3u32.saturating_pow(tries))
        .min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn waits_grow_to_an_hour() {
        let waits: Vec<_> = (0..8).map(|tries| wait(tries).as_secs()).collect();
        assert_eq!(waits, [5, 15, 45, 135, 405, 1215, 3600, 3600]);
        assert_eq!(wait(u32::MAX), WAIT_MAX);
        let (mut at, mut tries) = (Timestamp(0), 0);
        while at.since(Timestamp(0)) < GIVEN_UP_AFTER {
            at = at.plus(wait(tries));
            tries += 1;
        }
        assert!((25..40).contains(&tries), "{tries} in a day");
    }
}
