//! One custom/send call: judged, shown on the phone, recorded; in this order and without waiting.
//!
//! Nothing here suspends, so a caller that hangs up cannot leave a call half done. Reading the body
//! and sending the answer are in `wire`.

use std::sync::Arc;

use super::Account;
use super::carrier::{Carrier, Entry, Incoming, short};
use super::chat::Author;
use super::errcode::{OK, Refusal};
use super::message::{self, Call, Context, Shown};
use super::quota::Api;

/// Judges one call and gives the answer.
pub(super) fn receive(incoming: &Incoming<'_>) -> String {
    let call = message::json::<Call>(incoming.body);
    let (openid, msgtype) = match &call {
        Ok(call) => (
            short(&call.touser).to_owned(),
            short(&call.msgtype).to_owned(),
        ),
        Err(_) => (String::new(), String::new()),
    };
    let verdict = incoming.judge(Api::Send, |account| {
        let (openid, shown) = judge(incoming, account, call)?;
        let known = Arc::clone(&openid);
        let now = incoming.now;
        let chats = &incoming.world.chats;
        chats.add(account.index, openid, Author::Account, shown, now);
        Ok(known)
    });
    let (openid, errcode, answer) = match &verdict {
        Ok(known) => (Arc::clone(known), 0, OK.to_owned()),
        Err(refusal) => (openid.into(), refusal.refusal.0, refusal.body(incoming.now)),
    };
    if let Ok(account) = incoming.account {
        account.count_verdict(errcode);
    }
    incoming.keep(&Entry {
        carrier: Carrier::CustomerMessage,
        openid,
        msgtype: &msgtype,
        msg_id: None,
        errcode,
        received: verdict.is_ok(),
        body: incoming.body,
    });
    incoming.told(answer)
}

fn judge(
    incoming: &Incoming<'_>,
    account: &Account,
    call: Result<Call, Refusal>,
) -> Result<(Arc<str>, Shown), Refusal> {
    let mut call = call?;
    let openid = std::mem::take(&mut call.touser);
    let context = Context {
        account: account.index,
        shelf: &incoming.world.shelf,
        now: incoming.now,
        text_bytes_max: account.settings.rules.text_bytes_max,
    };
    let shown = call.into_shown(context)?;
    Ok((account.followers.spend(&openid, incoming.now)?, shown))
}
