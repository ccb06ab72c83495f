//! Template messages and subscription notices: one follower, one template, values for its names.
//!
//! Shapes and rules are those of the platform's pages on `message/template/send` (client_msg_id:
//! the same one to the same openid goes out once in ten minutes) and on `message/subscribe/bizsend`
//! (one consent is one message, without a time limit). Both answer before the message is delivered;
//! `result` tells later what became of it.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Account;
use super::carrier::{Carrier, Entry, Incoming, short};
use super::chat::Author;
use super::errcode::{Detailed, OK, Refusal};
use super::message::{self, Shown};
use super::quota::Api;
use super::result::{Outcome, announce};
use super::rules::TemplateKind;

/// How long a `client_msg_id` holds.
pub(super) const CLIENT_ID_LIFE: Duration = Duration::from_secs(600);

/// What both bodies have in common.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Call {
    touser: String,
    template_id: String,
    /// Of a template message.
    url: String,
    /// Of a subscription notice.
    page: String,
    client_msg_id: String,
    data: Value,
}

/// A call that was accepted.
struct Accepted {
    openid: Arc<str>,
    msg_id: u64,
    /// Whether the message is on the phone; not where a fault, the follower, or an earlier call
    /// with the same name was in the way.
    received: bool,
}

/// `message/template/send`
pub(super) fn receive_template(incoming: &Incoming<'_>) -> String {
    let accepted = receive(incoming, Api::TemplateSend, template);
    let answer = match accepted {
        Err(refusal) => refusal.body(incoming.now),
        Ok(accepted) => json!({"errcode": 0, "errmsg": "ok", "msgid": accepted.msg_id}).to_string(),
    };
    incoming.told(answer)
}

/// `message/subscribe/bizsend`
pub(super) fn receive_notice(incoming: &Incoming<'_>) -> String {
    let answer = match receive(incoming, Api::NoticeSend, notice) {
        Err(refusal) => refusal.body(incoming.now),
        Ok(_) => OK.to_owned(),
    };
    incoming.told(answer)
}

fn receive(
    incoming: &Incoming<'_>,
    api: Api,
    judge: impl FnOnce(&Incoming<'_>, &Account, &Call) -> Result<Accepted, Detailed>,
) -> Result<Accepted, Detailed> {
    let call = message::json::<Call>(incoming.body);
    let openid = call.as_ref().ok();
    let openid = openid.map(|call| short(&call.touser).to_owned());
    let verdict = incoming.judge(api, |account| judge(incoming, account, &call?));
    let (carrier, msgtype) = match api {
        Api::NoticeSend => (Carrier::SubscriptionNotice, "subscription"),
        _ => (Carrier::TemplateMessage, "template"),
    };
    incoming.keep(&Entry {
        carrier,
        openid: match &verdict {
            Ok(accepted) => Arc::clone(&accepted.openid),
            Err(_) => openid.unwrap_or_default().into(),
        },
        msgtype,
        msg_id: verdict.as_ref().ok().map(|accepted| accepted.msg_id),
        errcode: verdict.as_ref().err().map_or(0, |error| error.refusal.0),
        received: verdict.as_ref().is_ok_and(|accepted| accepted.received),
        body: incoming.body,
    });
    verdict
}

fn template(incoming: &Incoming<'_>, account: &Account, call: &Call) -> Result<Accepted, Detailed> {
    let shown = fill(account, call, TemplateKind::Message)?;
    let (openid, follower) = account.followers.get(&call.touser).ok_or(Refusal::OPENID)?;
    if !follower.following {
        return Err(Refusal::REQUIRE_FOLLOW.into());
    }
    let msg_id = account.msg_id();
    if !call.client_msg_id.is_empty() {
        // Its length is not limited, so what is remembered of it is.
        let name = Sha256::digest(format!("{openid} {}", call.client_msg_id));
        let name = name
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        if let Err(seen) = account.notices.take(&name, msg_id, incoming.now) {
            return Ok(Accepted {
                openid,
                msg_id: seen.msg_id,
                received: false,
            });
        }
    }
    let status = match incoming.undelivered() {
        Some((status, _)) => status,
        None if follower.muted => "failed:user block",
        None => "success",
    };
    let received = status == "success";
    if received {
        let (index, openid) = (account.index, Arc::clone(&openid));
        let chats = &incoming.world.chats;
        chats.add(index, openid, Author::TemplateMessage, shown, incoming.now);
    }
    let outcome = Outcome::Template {
        msg_id,
        status: status.to_owned(),
    };
    announce(incoming.world, account.index, Arc::clone(&openid), outcome);
    Ok(Accepted {
        openid,
        msg_id,
        received,
    })
}

fn notice(incoming: &Incoming<'_>, account: &Account, call: &Call) -> Result<Accepted, Detailed> {
    let shown = fill(account, call, TemplateKind::Subscription)?;
    let followers = &account.followers;
    let openid = followers.spend_consent(&call.touser, &call.template_id)?;
    let msg_id = account.msg_id();
    let (status, code) = incoming.undelivered().unwrap_or(("success", 0));
    let received = code == 0;
    if received {
        let (index, openid) = (account.index, Arc::clone(&openid));
        let chats = &incoming.world.chats;
        chats.add(
            index,
            openid,
            Author::SubscriptionNotice,
            shown,
            incoming.now,
        );
    }
    let outcome = Outcome::Notice {
        msg_id,
        template_id: call.template_id.clone(),
        code,
        status: status.to_owned(),
    };
    announce(incoming.world, account.index, Arc::clone(&openid), outcome);
    Ok(Accepted {
        openid,
        msg_id,
        received,
    })
}

/// The template with its values: 40037 for an unknown one, 47003 where a value is missing.
fn fill(account: &Account, call: &Call, kind: TemplateKind) -> Result<Shown, Detailed> {
    let template = account.settings.rules.template(&call.template_id, kind)?;
    let invalid = |member: &str| Detailed {
        detail: format!("data{member} is empty or no object"),
        ..Refusal::TEMPLATE_DATA.into()
    };
    let nothing = Map::new();
    let data = match &call.data {
        Value::Object(data) => data,
        // A template may have no names at all.
        Value::Null => &nothing,
        _ => return Err(invalid("")),
    };
    let mut rows = Vec::with_capacity(data.len());
    for (name, value) in data {
        let value = match &value["value"] {
            Value::String(text) if !text.is_empty() => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(invalid(&format!(".{}.value", short(name)))),
        };
        rows.push((name.clone(), value));
    }
    let keys = template.map(|template| template.keys.as_slice());
    let mut keys = keys.unwrap_or_default().iter();
    if let Some(missing) = keys.find(|key| !data.contains_key(*key)) {
        return Err(invalid(&format!(".{missing}.value")));
    }
    let url = match kind {
        TemplateKind::Message => &call.url,
        TemplateKind::Subscription => &call.page,
    };
    Ok(Shown::Template {
        template_id: call.template_id.clone(),
        title: template.map_or_else(String::new, |template| template.title.clone()),
        rows,
        url: url.clone(),
    })
}
