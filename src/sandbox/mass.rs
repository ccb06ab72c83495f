//! Mass sends to a list of followers, and what the platform tells of them afterwards.
//!
//! Rules are those of the platform's page on mass messages: 2 to 10,000 openids a call, a
//! `clientmsgid` that holds 24 hours, four messages for one follower in a calendar month, results by
//! MASSSENDJOBFINISH and `mass/get`. Only what needs no article is played: mpnews and mpvideo name
//! media that cannot be made here.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Account;
use super::carrier::{Carrier, Entry, Incoming, short};
use super::chat::Author;
use super::errcode::{Detailed, Refusal};
use super::followers::MassFate;
use super::lock;
use super::message::{self, Call, Context, Shown};
use super::once::{KeptName, Once, Seen};
use super::quota::{Api, beijing_month};
use super::result::{MassCounts, Outcome, announce, mass_sender};
use crate::clock::Timestamp;

const OPENIDS_MIN: usize = 2;
const OPENIDS_MAX: usize = 10_000;
const CLIENT_ID_BYTES_MAX: usize = 64;
const CLIENT_ID_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Pictures in one message; the platform's page names no number.
const IMAGES_MAX: usize = 20;
/// Mass sends that `mass/get` still knows.
const SENDS_MAX: usize = 10_000;
/// A message without its openids, as bounded as that of any other carrier.
const CONTENT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a refused body that the record keeps.
const REFUSED_BYTES_MAX: usize = 4 * 1024;

/// The mass sends of one account.
#[derive(Debug)]
pub(super) struct Mass {
    names: Once,
    sends: Mutex<BTreeMap<u64, Send>>,
}

/// One accepted mass send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Send {
    failed: bool,
    /// Its result has been pushed.
    finished: bool,
}

/// What outlives a restart.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct KeptMass {
    names: Vec<KeptName>,
    sends: BTreeMap<u64, Send>,
}

impl Mass {
    pub(super) fn new() -> Self {
        Self {
            names: Once::new(CLIENT_ID_LIFE),
            sends: Mutex::default(),
        }
    }

    /// The result of a mass send is on its way.
    pub(super) fn finish(&self, msg_id: u64) {
        if let Some(send) = lock(&self.sends).get_mut(&msg_id) {
            send.finished = true;
        }
    }

    fn add(&self, msg_id: u64, failed: bool) {
        let mut sends = lock(&self.sends);
        let finished = false;
        sends.insert(msg_id, Send { failed, finished });
        if sends.len() > SENDS_MAX {
            sends.pop_first();
        }
    }

    pub(super) fn kept(&self) -> KeptMass {
        KeptMass {
            names: self.names.kept(),
            sends: lock(&self.sends).clone(),
        }
    }

    /// Goes on from before a restart, when no result is on its way any more.
    pub(super) fn restore(&self, kept: KeptMass) {
        self.names.restore(kept.names);
        let mut sends = lock(&self.sends);
        sends.extend(kept.sends);
        for send in sends.values_mut() {
            send.finished = true;
        }
    }
}

/// A call as it was read.
struct Wanted {
    openids: Vec<String>,
    client_id: Option<String>,
    /// All but the openids: what one follower is sent.
    content: Vec<u8>,
    message: Map<String, Value>,
}

/// What came of a call that was accepted.
struct Accepted {
    msg_id: u64,
    /// Everybody in the list, and whether it is on their phone.
    fates: Vec<(Arc<str>, bool)>,
    msgtype: String,
    content: Vec<u8>,
}

/// `message/mass/send`
pub(super) fn receive(incoming: &Incoming<'_>) -> String {
    let entry = Entry {
        carrier: Carrier::MassSend,
        openid: "".into(),
        msgtype: "",
        msg_id: None,
        errcode: 0,
        received: false,
        body: &incoming.body[..incoming.body.len().min(REFUSED_BYTES_MAX)],
    };
    let verdict = incoming.judge(Api::MassSend, |account| send(incoming, account));
    let answer = match verdict {
        Err(refusal) => {
            let errcode = refusal.refusal.0;
            incoming.keep(&Entry { errcode, ..entry });
            refusal.body(incoming.now)
        }
        Ok(accepted) => {
            for (openid, received) in accepted.fates {
                incoming.keep(&Entry {
                    openid,
                    received,
                    msgtype: &accepted.msgtype,
                    msg_id: Some(accepted.msg_id),
                    body: &accepted.content,
                    ..entry
                });
            }
            json!({
                "errcode": 0,
                "errmsg": "send job submission success",
                "msg_id": accepted.msg_id,
            })
            .to_string()
        }
    };
    incoming.told(answer)
}

fn send(incoming: &Incoming<'_>, account: &Account) -> Result<Accepted, Detailed> {
    let wanted = read(incoming.body)?;
    let rules = &account.settings.rules;
    let shown = show(incoming, account, &wanted.message)?;
    let is_known = |openid: &String| account.followers.get(openid).is_some();
    if !wanted.openids.iter().all(is_known) {
        return Err(Refusal::OPENID_LIST.into());
    }
    let msg_id = account.msg_id();
    if let Err(seen) = account
        .mass
        .names
        .take(&wanted.name(), msg_id, incoming.now)
    {
        let wait = Duration::from_secs(rules.mass_again_after_seconds);
        return Err(again(seen, wait, incoming.now));
    }
    let undelivered = incoming.undelivered();
    let arrives = undelivered.is_none();
    let (month, max) = (beijing_month(incoming.now), rules.mass_per_month);
    let mut counts = MassCounts::default();
    let mut fates = Vec::with_capacity(wanted.openids.len());
    for openid in &wanted.openids {
        let fate = account.followers.take_mass(openid, month, max, arrives);
        counts.total += u64::from(!matches!(fate, MassFate::Left | MassFate::Stranger));
        let MassFate::Received(openid) = fate else {
            fates.push((openid.as_str().into(), false));
            continue;
        };
        counts.filtered += 1;
        counts.sent += u64::from(arrives);
        counts.failed += u64::from(!arrives);
        for shown in shown.iter().filter(|_| arrives) {
            let (openid, shown) = (Arc::clone(&openid), shown.clone());
            let chats = &incoming.world.chats;
            chats.add(account.index, openid, Author::MassSend, shown, incoming.now);
        }
        fates.push((openid, arrives));
    }
    account.mass.add(msg_id, !arrives);
    let status = undelivered.map_or("send success", |(status, _)| status);
    let outcome = Outcome::Mass {
        msg_id,
        status: status.to_owned(),
        counts,
    };
    announce(incoming.world, account.index, mass_sender(account), outcome);
    let msgtype = wanted.message.get("msgtype").and_then(Value::as_str);
    Ok(Accepted {
        msg_id,
        fates,
        msgtype: short(msgtype.unwrap_or_default()).to_owned(),
        content: wanted.content,
    })
}

/// Reads a body and checks what needs no look at anybody.
fn read(body: &[u8]) -> Result<Wanted, Refusal> {
    let mut message: Map<String, Value> = message::json(body)?;
    let openids = match message.remove("touser") {
        Some(Value::Array(openids)) => openids,
        _ => return Err(Refusal::OPENID_LIST),
    };
    if openids.len() > OPENIDS_MAX {
        return Err(Refusal::OPENID_LIST_SIZE);
    }
    let mut seen = HashSet::new();
    let mut people = Vec::with_capacity(openids.len());
    for openid in openids {
        let Value::String(openid) = openid else {
            return Err(Refusal::OPENID_LIST);
        };
        if seen.insert(openid.clone()) {
            people.push(openid);
        }
    }
    // Naming somebody twice does not make two.
    if people.len() < OPENIDS_MIN {
        return Err(Refusal::TOO_FEW_OPENIDS);
    }
    let client_id = match message.remove("clientmsgid") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) if id.is_empty() => None,
        Some(Value::String(id)) if id.len() <= CLIENT_ID_BYTES_MAX => Some(id),
        Some(Value::String(_)) => return Err(Refusal::CLIENT_ID_SIZE),
        Some(_) => return Err(Refusal::JSON),
    };
    let content = serde_json::to_vec(&message).map_err(|_| Refusal::JSON)?;
    // It is remembered for each of its receivers.
    if content.len() > CONTENT_BYTES_MAX {
        return Err(Refusal::CONTENT_SIZE);
    }
    Ok(Wanted {
        openids: people,
        client_id,
        content,
        message,
    })
}

impl Wanted {
    /// The caller's name for it; without one the platform makes one of range and content.
    fn name(&self) -> String {
        if let Some(id) = &self.client_id {
            return format!("id {id}");
        }
        let mut hash = Sha256::new();
        for openid in &self.openids {
            hash.update(openid);
            hash.update([0]);
        }
        hash.update(&self.content);
        let digest = hash.finalize();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("content {hex}")
    }
}

/// What the phones will show: one line, or one for each of several pictures.
fn show(
    incoming: &Incoming<'_>,
    account: &Account,
    message: &Map<String, Value>,
) -> Result<Vec<Shown>, Refusal> {
    let context = Context {
        account: account.index,
        shelf: &incoming.world.shelf,
        now: incoming.now,
        text_bytes_max: account.settings.rules.text_bytes_max,
    };
    let one = |message: Value| {
        let call: Call = serde_json::from_value(message).map_err(|_| Refusal::JSON)?;
        call.into_shown(context)
    };
    let msgtype = message.get("msgtype").and_then(Value::as_str);
    match msgtype.unwrap_or_default() {
        "text" | "voice" | "image" | "wxcard" => Ok(vec![one(Value::Object(message.clone()))?]),
        "images" => {
            let ids = message
                .get("images")
                .and_then(|images| images["media_ids"].as_array());
            let ids = ids.filter(|ids| !ids.is_empty() && ids.len() <= IMAGES_MAX);
            let ids = ids.ok_or(Refusal::MEDIA_ID)?.iter();
            ids.map(|id| one(json!({"msgtype": "image", "image": {"media_id": id}})))
                .collect()
        }
        "mpnews" | "mpvideo" => Err(Refusal::MEDIA_ID),
        _ => Err(Refusal::MESSAGE_TYPE),
    }
}

/// 45066 for a name that comes back at once, 45065 with the message it has for one that waited.
fn again(seen: Seen, wait: Duration, now: Timestamp) -> Detailed {
    if now < seen.asked_at.plus(wait) {
        return Refusal::SAME_CLIENT_ID_SOON.into();
    }
    Detailed {
        msg_id: Some(seen.msg_id),
        ..Refusal::SAME_CLIENT_ID.into()
    }
}

/// `message/mass/get`: 40059 for a message that this account did not send.
pub(super) fn state(account: &Account, body: &[u8]) -> Result<String, Refusal> {
    let body: Value = message::json(body)?;
    let msg_id = match &body["msg_id"] {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    };
    let msg_id = msg_id.ok_or(Refusal::MASS_MSG_ID)?;
    let sends = lock(&account.mass.sends);
    let status = match sends.get(&msg_id).ok_or(Refusal::MASS_MSG_ID)? {
        Send {
            finished: false, ..
        } => "SENDING",
        Send { failed: true, .. } => "SEND_FAIL",
        Send { failed: false, .. } => "SEND_SUCCESS",
    };
    Ok(json!({"msg_id": msg_id, "msg_status": status}).to_string())
}
