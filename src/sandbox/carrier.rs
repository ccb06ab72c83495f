//! What all ways to write to a follower have in common: who calls, which fault strikes, what is
//! kept of it.
//!
//! What each carrier judges for itself is in `send`, `notice` and `mass`; passive replies are no
//! calls and come in through `callback`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::errcode::{Detailed, Refusal};
use super::fault::{Fault, FaultKind};
use super::quota::Api;
use super::record::Received;
use super::{Account, World};
use crate::clock::Timestamp;

/// Openids and kinds in the record are cut here.
const NAME_BYTES_MAX: usize = 64;

/// How a message reaches a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// `message/custom/send`
    CustomerMessage,
    /// `message/template/send`
    TemplateMessage,
    /// `message/subscribe/bizsend`
    SubscriptionNotice,
    /// `message/mass/send`
    MassSend,
    /// The answer to a callback.
    PassiveReply,
}

/// One call that brings messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming<'a> {
    pub(super) world: &'a Arc<World>,
    /// The account of the token, or why there is none.
    pub(super) account: Result<&'a Account, Refusal>,
    pub(super) body: &'a [u8],
    pub(super) fault: Option<&'a Fault>,
    pub(super) now: Timestamp,
}

impl<'a> Incoming<'a> {
    /// Lets a fault refuse the call, then the account's permissions and limits, then `judge`.
    pub(super) fn judge<T>(
        &self,
        api: Api,
        judge: impl FnOnce(&'a Account) -> Result<T, Detailed>,
    ) -> Result<T, Detailed> {
        if let Some(fault) = self.fault.filter(|fault| !fault.is_accepted()) {
            let refusal = match fault.kind {
                FaultKind::Errcode { code } => Refusal(code),
                // Never judged.
                _ => Refusal(-1),
            };
            return Err(refusal.into());
        }
        let account = self.account?;
        account.admit(api, self.now)?;
        judge(account)
    }

    /// What the caller is told where the truth is `answer`.
    pub(super) fn told(&self, answer: String) -> String {
        match self.fault.map(|fault| &fault.kind) {
            Some(FaultKind::Errcode { code }) => Refusal(*code).body(self.now),
            _ => answer,
        }
    }

    /// The status that a fault gives to the result of an accepted call.
    pub(super) fn undelivered(&self) -> Option<(&'a str, i32)> {
        match self.fault.map(|fault| &fault.kind) {
            Some(FaultKind::Undelivered { status, code }) => Some((status, *code)),
            _ => None,
        }
    }

    /// Enters one message into the record.
    pub(super) fn keep(&self, entry: &Entry<'_>) {
        let account = self.account.ok();
        let kept = self.world.record.keep(Received {
            at: self.now,
            account: account.map_or_else(|| "".into(), |account| Arc::clone(&account.app_id)),
            openid: Arc::clone(&entry.openid),
            carrier: entry.carrier,
            attempt: None,
            msg_id: entry.msg_id,
            msgtype: entry.msgtype,
            errcode: entry.errcode,
            received: entry.received,
            fault: self.fault.map(|fault| fault.kind.name()),
            body: entry.body,
        });
        if let Err(error) = kept {
            tracing::error!(%error, "the sandbox's record file took no line");
        }
        if let Some(account) = account {
            self.world.changed(account.index, &entry.openid);
        }
    }
}

/// What is kept of one message.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) carrier: Carrier,
    pub(super) openid: Arc<str>,
    pub(super) msgtype: &'a str,
    pub(super) msg_id: Option<u64>,
    pub(super) errcode: i32,
    pub(super) received: bool,
    pub(super) body: &'a [u8],
}

/// A name as the record holds it: cut between characters where it is too long.
pub(super) fn short(name: &str) -> &str {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
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
