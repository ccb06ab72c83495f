//! One custom/send call: judged, shown on the phone, recorded; in this order and without waiting.
//!
//! Nothing here suspends, so a caller that hangs up cannot leave a call half done. Reading the body
//! and sending the answer are in `wire`.

use std::sync::Arc;

use super::chat::Author;
use super::errcode::Refusal;
use super::fault::{Fault, FaultKind};
use super::message::{self, Call, Context, Shown};
use super::quota::Api;
use super::record::Received;
use super::{Account, World};
use crate::clock::Timestamp;

/// Openids and kinds in the record are cut here.
const NAME_BYTES_MAX: usize = 64;

/// Judges one call and gives the code to answer with.
pub(super) fn receive(
    world: &World,
    token: Option<&str>,
    body: &[u8],
    fault: Option<&Fault>,
) -> Refusal {
    let now = world.clock.now();
    let call = message::parse(body);
    let (openid, msgtype) = match &call {
        Ok(call) => (
            short(&call.touser).to_owned(),
            short(&call.msgtype).to_owned(),
        ),
        Err(_) => (String::new(), String::new()),
    };
    let account = world
        .caller(token, Api::Send.path(), now)
        .map(|index| &world.accounts[index]);
    let verdict = match (&account, fault) {
        (_, Some(fault)) if !fault.is_accepted() => Err(match fault.kind {
            FaultKind::Errcode { code } => Refusal(code),
            // Never judged.
            _ => Refusal(-1),
        }),
        (Err(refusal), _) => Err(*refusal),
        (Ok(account), _) => judge(world, account, call, now),
    };
    let account = account.ok();
    let received = verdict.is_ok();
    let (known, errcode) = match verdict {
        Err(refusal) => (None, refusal),
        Ok((openid, shown)) => {
            if let Some(account) = account {
                let (index, openid) = (account.index, Arc::clone(&openid));
                world.chats.add(index, openid, Author::Account, shown, now);
            }
            (Some(openid), Refusal(0))
        }
    };
    let told = match fault.map(|fault| &fault.kind) {
        Some(FaultKind::Errcode { code }) => Refusal(*code),
        _ => errcode,
    };
    if let Some(account) = account {
        account.count_verdict(errcode.0);
    }
    let openid = known.unwrap_or_else(|| openid.into());
    let kept = world.record.keep(Received {
        at: now,
        account: account.map_or_else(|| "".into(), |account| Arc::clone(&account.app_id)),
        openid: Arc::clone(&openid),
        msgtype: &msgtype,
        errcode: errcode.0,
        received,
        fault: fault.map(|fault| fault.kind.name()),
        body,
    });
    if let Err(error) = kept {
        tracing::error!(%error, "the sandbox's record file took no line");
    }
    if let Some(account) = account {
        world.changed(account.index, &openid);
    }
    told
}

fn judge(
    world: &World,
    account: &Account,
    call: Result<Call, Refusal>,
    now: Timestamp,
) -> Result<(Arc<str>, Shown), Refusal> {
    account.quotas.spend(Api::Send, now)?;
    let mut call = call?;
    let openid = std::mem::take(&mut call.touser);
    let context = Context {
        account: account.index,
        shelf: &world.shelf,
        now,
    };
    let shown = call.into_shown(context)?;
    Ok((account.followers.spend(&openid, now)?, shown))
}

fn short(name: &str) -> &str {
    name.get(..NAME_BYTES_MAX).unwrap_or_else(|| {
        let end = name
            .char_indices()
            .map(|(at, _)| at)
            .take_while(|at| *at <= NAME_BYTES_MAX);
        if name.len() <= NAME_BYTES_MAX {
            name
        } else {
            &name[..end.last().unwrap_or(0)]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(short("abc"), "abc");
        assert_eq!(short(&"x".repeat(65)).len(), 64);
        assert_eq!(short(&"长".repeat(30)), "长".repeat(21));
    }
}
