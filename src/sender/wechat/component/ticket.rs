//! The component's own token, had for the verify ticket that the platform pushes every ten minutes.
//!
//! A ticket that is missing or refused is asked for once (`api_start_push_ticket`), and again when
//! ten minutes have brought none; whoever needs the token waits for the next minute meanwhile.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::time::Instant;

use super::{ComponentSettings, not_stored};
use crate::clock::Timestamp;
use crate::sender::platform::{Answer, AnswerClass};
use crate::sender::wechat::source::{Asking, Granted, Source, ask, granted, refusal};
use crate::sender::wechat::wire::{Wire, hide};
use crate::store::{Store, components};

const TOKEN: &str = "/cgi-bin/component/api_component_token";
const START_PUSH: &str = "/cgi-bin/component/api_start_push_ticket";
const DOING: &str = "component token";

/// `component ticket is expired` and `component ticket is invalid`.
const TICKET_REFUSED: [i64; 2] = [61005, 61006];

/// The platform pushes a ticket so often: before that it is not asked again.
const ASK_AGAIN: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct TicketToken {
    settings: Arc<ComponentSettings>,
    wire: Wire,
    store: Arc<Store>,
    /// For want of which ticket a push was asked for, and when.
    asked: std::sync::Mutex<Option<(Timestamp, Instant)>>,
}

impl TicketToken {
    pub(super) fn new(settings: Arc<ComponentSettings>, wire: Wire, store: Arc<Store>) -> Self {
        Self {
            settings,
            wire,
            store,
            asked: std::sync::Mutex::new(None),
        }
    }

    async fn obtain(&self) -> Result<Granted, Answer> {
        let ticket = components::ticket(self.store.read(), &self.settings.app_id).await;
        let Some(ticket) = ticket.map_err(|error| not_stored(&error))? else {
            self.ask_for_ticket(Timestamp(0)).await;
            let words = format!("{DOING}: the platform has pushed no verify ticket yet");
            return Err(Answer::without_code(AnswerClass::NextMinute, words));
        };
        let body = json!({
            "component_appid": self.settings.app_id,
            "component_appsecret": self.settings.app_secret.expose_secret(),
            "component_verify_ticket": ticket.value.expose_secret(),
        });
        let asked = ask(
            &self.wire,
            (TOKEN, DOING),
            &body,
            self.settings.attempt_timeout,
        );
        let reply = asked.await.map_err(|answer| hide(answer, &ticket.value))?;
        let refused = reply.code.filter(|code| TICKET_REFUSED.contains(code));
        if refused.is_some() {
            self.ask_for_ticket(ticket.pushed_at).await;
            let answer = reply.answer_as(AnswerClass::NextMinute, DOING);
            return Err(hide(answer, &ticket.value));
        }
        let granted = granted(&reply, "component_access_token", DOING);
        granted.map_err(|answer| hide(answer, &ticket.value))
    }

    /// Asks the platform to push a ticket, once for each that failed.
    async fn ask_for_ticket(&self, failed: Timestamp) {
        {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if asked.is_some_and(|(of, at)| of == failed && now.duration_since(at) < ASK_AGAIN) {
                return;
            }
            *asked = Some((failed, now));
        }
        let body = json!({
            "component_appid": self.settings.app_id,
            "component_secret": self.settings.app_secret.expose_secret(),
        });
        let timeout = self.settings.attempt_timeout;
        let reply = ask(
            &self.wire,
            (START_PUSH, "start pushing tickets"),
            &body,
            timeout,
        )
        .await;
        let refused = match reply {
            Ok(reply) => match reply.code.filter(|code| *code != 0) {
                None => return,
                Some(code) => reply.answer_as(refusal(code), "start pushing tickets"),
            },
            Err(answer) => answer,
        };
        let refused = hide(refused, &self.settings.app_secret);
        tracing::warn!(
            component = self.settings.app_id,
            reason = refused.detail,
            "the platform was asked for a verify ticket and refused"
        );
    }
}

impl Source for TicketToken {
    fn ask<'a>(&'a self, _: Option<&'a SecretString>) -> Asking<'a> {
        Box::pin(async {
            let obtained = self.obtain().await;
            obtained.map_err(|failure| hide(failure, &self.settings.app_secret))
        })
    }

    fn app_id(&self) -> &str {
        &self.settings.app_id
    }

    fn seed(&self) -> i64 {
        let bytes = self.settings.app_id.bytes();
        bytes.fold(0, |seed, byte| seed.wrapping_mul(31) ^ i64::from(byte))
    }
}
