//! Alerts: what needs a person is told once, signed, to an address of the operator's, until it is
//! over.
//!
//! An alert and its message are written in one commit and survive a restart; a message is tried for
//! a day and then given up with a line in the log. Nothing here is waited for by whatever sends.
//! The form is that of "Standard Webhooks": `{"type", "timestamp", "data"}` and three headers.

mod post;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::clock::{Clock, Timestamp};
use crate::sender::quota::Quotas;
use crate::sign::SigningKey;
use crate::store::alerts::{self, Outgoing};
use crate::store::{Error, Store};

use post::Post;
use watch::Watch;

/// Where alerts go, and from when on.
#[derive(Clone, Debug)]
pub struct AlertSettings {
    pub url: Url,
    pub key: SigningKey,
    /// More unknown sends of one account in 24 hours are an alert.
    pub unknown_sends: u32,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    NeedsAttention,
    Recovered,
    Unauthorized,
    Authorized,
    QuotaHigh,
    QuotaUsedUp,
    UnknownSends,
    ProfileDoesNotFit,
    StartedWithUnknownSends,
    Test,
}

impl Kind {
    /// The `type` of its messages.
    fn word(self) -> &'static str {
        match self {
            Self::NeedsAttention => "account.needs_attention",
            Self::Recovered => "account.recovered",
            Self::Unauthorized => "authorization.withdrawn",
            Self::Authorized => "authorization.restored",
            Self::QuotaHigh => "quota.high",
            Self::QuotaUsedUp => "quota.used_up",
            Self::UnknownSends => "sends.unknown",
            Self::ProfileDoesNotFit => "profile.does_not_fit",
            Self::StartedWithUnknownSends => "server.started_with_unknown_sends",
            Self::Test => "alerts.test",
        }
    }
}

/// The alerts of a server.
#[derive(Debug)]
pub struct Alerts {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    settings: AlertSettings,
}

impl Alerts {
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, settings: AlertSettings) -> Self {
        Self {
            store,
            clock,
            settings,
        }
    }

    /// Watches accounts and sends what is to be told, until `stop`. What is left then is sent after
    /// the next start.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn run(
        &self,
        quotas: Arc<Quotas>,
        stop: CancellationToken,
    ) -> Result<impl Future<Output = ()> + Send + 'static, reqwest::Error> {
        let post = Post::new(
            Arc::clone(&self.store),
            Arc::clone(&self.clock),
            self.settings.clone(),
        )?;
        let watch = Watch::new(
            Arc::clone(&self.store),
            Arc::clone(&self.clock),
            quotas,
            self.settings.unknown_sends,
        );
        Ok(async move {
            tokio::join!(watch.run(stop.clone()), post.run(stop));
        })
    }

    /// Tells that a start found sends whose answer nobody had read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn started_with_unknown_sends(&self, sends: usize) -> Result<(), Error> {
        let data = json!({
            "sends": sends,
            "what_to_do": "the last run ended before the answers were read: look at the unknown \
                sends, which may or may not have arrived",
        });
        self.tell(Kind::StartedWithUnknownSends, &data).await?;
        Ok(())
    }

    /// Sends a message that says nothing, to try the way; says its id.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn test(&self, by: &str) -> Result<String, Error> {
        self.tell(Kind::Test, &json!({ "asked_by": by })).await
    }

    async fn tell(&self, kind: Kind, data: &Value) -> Result<String, Error> {
        let message = message(kind, data, self.clock.now());
        let id = message.id.clone();
        alerts::send(&self.store, message).await?;
        Ok(id)
    }
}

fn message(kind: Kind, data: &Value, at: Timestamp) -> Outgoing {
    let body = json!({ "type": kind.word(), "timestamp": at.to_string(), "data": data });
    Outgoing {
        id: fresh_id(at),
        body: body.to_string(),
        made_at: at,
        tries: 0,
    }
}

/// An id that no other message has.
fn fresh_id(at: Timestamp) -> String {
    use std::fmt::Write;
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Ids need to differ and nothing else.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        bytes[..8].copy_from_slice(&at.0.to_be_bytes());
        bytes[8..].copy_from_slice(&count.to_be_bytes());
    }
    bytes.iter().fold(String::from("msg_"), |mut id, byte| {
        write!(id, "{byte:02x}").ok();
        id
    })
}
