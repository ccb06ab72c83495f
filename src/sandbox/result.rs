//! What became of a message that the platform took in earlier: events that no follower caused.
//!
//! The platform accepts template messages, subscription notices and mass sends at once and pushes
//! their results later; shapes are those of its samples. Each push is a callback like any other.

use std::sync::Arc;

use super::callback;
use super::event::Event;
use super::fields::{Field, Fields};
use super::{Account, World};
use crate::clock::Timestamp;

/// One result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Template {
        msg_id: u64,
        /// `success`, `failed:user block` or `failed: system failed`.
        status: String,
    },
    Notice {
        msg_id: u64,
        template_id: String,
        /// 0 for success.
        code: i32,
        status: String,
    },
    Mass {
        msg_id: u64,
        /// `send success`, `send fail` or `err(number)`.
        status: String,
        counts: MassCounts,
    },
}

/// Followers of a mass send, as the platform counts them: `filtered` is how many are left after
/// filtering, so that it equals `sent` and `failed` together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MassCounts {
    pub(super) total: u64,
    pub(super) filtered: u64,
    pub(super) sent: u64,
    pub(super) failed: u64,
}

impl Outcome {
    /// What logs and faults call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Template { .. } => "template_result",
            Self::Notice { .. } => "notice_result",
            Self::Mass { .. } => "mass_result",
        }
    }

    /// `MsgType` and what follows it.
    pub(super) fn fields(&self) -> Fields {
        let text = Field::text;
        let mut fields = vec![("MsgType", text("event"))];
        match self {
            Self::Template { msg_id, status } => fields.extend([
                ("Event", text("TEMPLATESENDJOBFINISH")),
                ("MsgID", Field::number(*msg_id)),
                ("Status", text(status)),
            ]),
            Self::Notice {
                msg_id,
                template_id,
                code,
                status,
            } => {
                let entry = vec![
                    ("TemplateId", text(template_id)),
                    ("MsgID", Field::number(*msg_id)),
                    ("ErrorCode", Field::Number(i64::from(*code))),
                    ("ErrorStatus", text(status)),
                ];
                fields.extend([
                    ("Event", text("subscribe_msg_sent_event")),
                    ("SubscribeMsgSentEvent", Field::List(vec![entry])),
                ]);
            }
            Self::Mass {
                msg_id,
                status,
                counts,
            } => {
                let checked = vec![
                    ("Count", Field::Number(0)),
                    ("ResultList", Field::Group(Vec::new())),
                    ("CheckState", Field::Number(1)),
                ];
                let articles = vec![
                    ("Count", Field::Number(0)),
                    ("ResultList", Field::Group(Vec::new())),
                ];
                fields.extend([
                    ("Event", text("MASSSENDJOBFINISH")),
                    ("MsgID", Field::number(*msg_id)),
                    ("Status", text(status)),
                    ("TotalCount", Field::number(counts.total)),
                    ("FilterCount", Field::number(counts.filtered)),
                    ("SentCount", Field::number(counts.sent)),
                    ("ErrorCount", Field::number(counts.failed)),
                    ("CopyrightCheckResult", Field::Group(checked)),
                    ("ArticleUrlResult", Field::Group(articles)),
                ]);
            }
        }
        fields
    }
}

/// Who mass results come from: the account's sender, who is no follower.
pub(super) fn mass_sender(account: &Account) -> Arc<str> {
    format!("{}MassSender00000000000", account.openid_prefix).into()
}

/// Pushes a result in a while. A sandbox that stops before keeps it to itself.
pub(super) fn announce(world: &Arc<World>, account: usize, openid: Arc<str>, outcome: Outcome) {
    let world = Arc::clone(world);
    tokio::spawn(async move {
        tokio::select! {
            () = world.closed.cancelled() => {}
            () = tell(&world, account, openid, outcome) => {}
        }
    });
}

async fn tell(world: &World, account: usize, openid: Arc<str>, outcome: Outcome) {
    tokio::time::sleep(world.limits.result_delay()).await;
    let account = &world.accounts[account];
    if let Outcome::Mass { msg_id, .. } = &outcome {
        account.mass.finish(*msg_id);
    }
    let at = Timestamp::from_seconds(world.clock.now().seconds());
    callback::push(world, account, &openid, &Event::Ended(outcome), at).await;
    world.changed(account.index, &openid);
}
