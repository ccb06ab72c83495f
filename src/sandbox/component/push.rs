//! What the platform tells a component: its ticket, and who authorized it or stopped to.
//!
//! Always encrypted XML with the component's token and key. Tickets come on a clock and once each;
//! an authorization is told again, as messages are, until the answer is the bare `success`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use serde::Serialize;

use super::Component;
use crate::clock::Timestamp;
use crate::inbound::signature::sign;
use crate::sandbox::callback::{self, Attempt, Recipient};
use crate::sandbox::fault::{CALLBACK, FaultKind, Target};
use crate::sandbox::fields::cdata;
use crate::sandbox::settings::{Format, Mode};
use crate::sandbox::{World, lock};

/// Characters of an answer that reports repeat.
const EXCERPT_CHARS: usize = 400;

/// What became of one event.
#[derive(Clone, Debug, Serialize)]
pub struct EventPushed {
    /// `success` came.
    pub accepted: bool,
    pub attempts: Vec<Attempt>,
}

/// What the platform tells a component.
#[derive(Clone, Debug)]
pub(in crate::sandbox) enum Event {
    Ticket(String),
    Authorized {
        app_id: Arc<str>,
        code: Arc<str>,
        code_expires_at: Timestamp,
        pre_auth_code: String,
        /// The account had authorized the component before.
        is_update: bool,
    },
    Unauthorized {
        app_id: Arc<str>,
    },
}

impl Event {
    /// Its `InfoType`.
    fn name(&self) -> &'static str {
        match self {
            Self::Ticket(_) => "component_verify_ticket",
            Self::Authorized {
                is_update: false, ..
            } => "authorized",
            Self::Authorized {
                is_update: true, ..
            } => "updateauthorized",
            Self::Unauthorized { .. } => "unauthorized",
        }
    }

    fn xml(&self, component: &str, now: Timestamp) -> String {
        let rest = match self {
            Self::Ticket(ticket) => {
                format!(
                    "<ComponentVerifyTicket>{}</ComponentVerifyTicket>",
                    cdata(ticket)
                )
            }
            Self::Unauthorized { app_id } => authorizer(app_id),
            Self::Authorized {
                app_id,
                code,
                code_expires_at,
                pre_auth_code,
                ..
            } => format!(
                "{}<AuthorizationCode>{}</AuthorizationCode>\
                 <AuthorizationCodeExpiredTime>{}</AuthorizationCodeExpiredTime>\
                 <PreAuthCode>{}</PreAuthCode>",
                authorizer(app_id),
                cdata(code),
                code_expires_at.seconds(),
                cdata(pre_auth_code)
            ),
        };
        format!(
            "<xml><AppId>{}</AppId><CreateTime>{}</CreateTime><InfoType>{}</InfoType>{rest}</xml>",
            cdata(component),
            now.seconds(),
            cdata(self.name())
        )
    }
}

fn authorizer(app_id: &str) -> String {
    format!("<AuthorizerAppid>{}</AuthorizerAppid>", cdata(app_id))
}

/// A readable body and what its envelope names.
#[derive(Clone, Copy, Debug)]
pub(in crate::sandbox) struct Parcel<'a> {
    /// The element beside `Encrypt`, and its text.
    pub(in crate::sandbox) beside: (&'static str, &'a str),
    pub(in crate::sandbox) xml: &'a str,
    pub(in crate::sandbox) openid: Option<&'a str>,
}

/// Posts a parcel once, encrypted and signed: status and body, or why there is none.
pub(in crate::sandbox) async fn post(
    world: &World,
    to: &Recipient<'_>,
    parcel: &Parcel<'_>,
) -> Result<(u16, String), String> {
    let encrypted = (to.cipher).encrypt(parcel.xml.as_bytes(), 0, callback::salt());
    let openid = parcel.openid.map(|openid| ("openid", openid));
    let (mut url, stamp) = callback::signed_url(world, to, openid.as_slice());
    let token = to.token.expose_secret();
    let signature = sign(&[token, &stamp.timestamp, &stamp.nonce, &encrypted]);
    url.query_pairs_mut()
        .append_pair("encrypt_type", "aes")
        .append_pair("msg_signature", &signature);
    let (name, text) = parcel.beside;
    let body = format!(
        "<xml><{name}>{}</{name}><Encrypt>{}</Encrypt></xml>",
        cdata(text),
        cdata(&encrypted)
    );
    let request = world
        .client
        .post(url)
        .header(reqwest::header::CONTENT_TYPE, "text/xml")
        .body(body);
    callback::answer(request).await
}

impl Component {
    /// The event URL with what signs and encrypts.
    pub(in crate::sandbox) fn event_recipient(&self) -> Recipient<'_> {
        Recipient {
            url: self.event_url.clone(),
            token: &self.settings.token,
            cipher: &self.cipher,
            mode: Mode::Safe,
            format: Format::Xml,
        }
    }

    /// The message URL of an account, whether or not it authorized the component.
    pub(in crate::sandbox) fn message_recipient(&self, app_id: &str) -> Option<Recipient<'_>> {
        Some(Recipient {
            url: self.message_url(app_id)?,
            ..self.event_recipient()
        })
    }

    /// Makes a new ticket and pushes it once.
    pub(in crate::sandbox) async fn push_ticket(&self, world: &World) -> EventPushed {
        let ticket = lock(&self.held).new_ticket(world.clock.now());
        self.push_up_to(world, &Event::Ticket(ticket), 1).await
    }

    /// Pushes an event until it is taken or the platform gives up.
    pub(super) async fn push_event(&self, world: &World, event: &Event) -> EventPushed {
        let attempts_max = world.limits.callback_attempts_max.max(1);
        self.push_up_to(world, event, attempts_max).await
    }

    /// Pushes an event up to `attempts_max` times.
    pub(in crate::sandbox) async fn push_up_to(
        &self,
        world: &World,
        event: &Event,
        attempts_max: u32,
    ) -> EventPushed {
        let app_id = self.settings.app_id.as_str();
        let xml = event.xml(app_id, world.clock.now());
        let parcel = Parcel {
            beside: ("AppId", app_id),
            xml: &xml,
            openid: None,
        };
        let is_ticket = matches!(event, Event::Ticket(_));
        let mut pushed = EventPushed {
            accepted: false,
            attempts: Vec::new(),
        };
        for attempt in 1..=attempts_max {
            // A ticket comes by the clock: it must not use up a fault that waits for something else.
            let fault = (!is_ticket).then(|| {
                world.faults.pick(&Target {
                    api: CALLBACK,
                    account: Some(app_id),
                    openid: None,
                    event: Some(event.name()),
                    is_at_door: false,
                })
            });
            let fault = fault.flatten();
            let kind = fault.as_ref().map(|fault| &fault.kind);
            if kind == Some(&FaultKind::Drop) {
                break;
            }
            if let Some(FaultKind::Delay { ms }) = kind {
                tokio::time::sleep(Duration::from_millis(*ms)).await;
            }
            let started = Instant::now();
            let answer = post(world, &self.event_recipient(), &parcel).await;
            let mut told = judge(answer);
            if kind == Some(&FaultKind::LoseAnswer) {
                told.error = Some("the answer was lost on its way (fault)".to_owned());
            }
            told.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            pushed.accepted = told.error.is_none();
            pushed.attempts.push(told);
            if pushed.accepted {
                break;
            }
            if attempt < attempts_max {
                let spacing = world.limits.callback_spacing();
                tokio::time::sleep(spacing.saturating_sub(started.elapsed())).await;
            }
        }
        let mut counts = lock(&self.pushes);
        let (accepted, refused) = counts.entry(event.name()).or_default();
        *if pushed.accepted { accepted } else { refused } += 1;
        pushed
    }
}

fn judge(answer: Result<(u16, String), String>) -> Attempt {
    match answer {
        Err(error) => Attempt {
            status: None,
            answer: String::new(),
            error: Some(error),
            elapsed_ms: 0,
        },
        Ok((status, body)) => Attempt {
            status: Some(status),
            answer: body.chars().take(EXCERPT_CHARS).collect(),
            error: (status != 200 || body != "success")
                .then(|| "the answer is not the bare `success`".to_owned()),
            elapsed_ms: 0,
        },
    }
}

/// Lets every component have its ticket at once and then by the clock, until the sandbox closes.
pub(in crate::sandbox) fn keep_pushing_tickets(world: &Arc<World>) {
    for component in world.components.iter() {
        let interval = component.settings.rules.ticket_interval_seconds;
        if interval > 0 {
            let (world, index) = (Arc::clone(world), component.index);
            tokio::spawn(async move {
                let closed = world.closed.clone();
                let pushing = push_by_the_clock(&world, index, Duration::from_secs(interval));
                closed.run_until_cancelled(pushing).await;
            });
        }
    }
}

async fn push_by_the_clock(world: &World, index: usize, interval: Duration) {
    let component = &world.components.list[index];
    loop {
        let next = world.clock.now().plus(interval);
        if component.is_pushing_tickets.load(Ordering::Relaxed) {
            let pushed = component.push_ticket(world).await;
            if !pushed.accepted {
                let app_id = &component.settings.app_id;
                let last = pushed.attempts.last();
                let why = last.and_then(|attempt| attempt.error.as_deref());
                tracing::warn!(%app_id, why, "the component's server did not take its ticket");
            }
        }
        while world.clock.now() < next {
            world.clock.sleep_until(next).await;
        }
    }
}
