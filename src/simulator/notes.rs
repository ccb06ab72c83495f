//! What a world notes beside the rows, from what was asked and answered: the checks hold intents
//! against it.

use crate::clock::Timestamp;
use crate::journey::answer::AnswerClass;
use crate::journey::event::{Arrival, Event};
use crate::journey::ids::{AccountId, FollowerId};
use crate::simulator::model::Rows;
use crate::simulator::wish::Wish;
use crate::simulator::world::World;
use crate::store::batch::Answered;
use crate::store::erasure::Pseudonyms;
use crate::store::work::{Act, Acted};

/// How far ahead of ours a platform's clock is believed, in milliseconds.
const AHEAD_MAX_MS: i64 = 600_000;

/// Whether an event says that its follower was there, or that they left; `None` for neither.
fn leaves(event: &Event) -> Option<bool> {
    match event {
        Event::Unfollowed => Some(true),
        Event::Followed { .. }
        | Event::Scanned { .. }
        | Event::Clicked { .. }
        | Event::MessageReceived { .. } => Some(false),
        Event::ConsentsChanged { .. } | Event::Reported(_) | Event::Other { .. } => None,
    }
}

/// The instant of an event that counts.
fn counted_at(arrival: &Arrival, now: Timestamp) -> Timestamp {
    match arrival.created_at.0 > now.0 + AHEAD_MAX_MS {
        true => now,
        false => arrival.created_at,
    }
}

impl World {
    /// Notes who came, or else who left, by a commit of the instant `now`.
    pub(super) fn note_acts(
        &mut self,
        (wishes, answers): (&[Wish], &[Answered]),
        before: &Rows,
        now: Timestamp,
        leaving: bool,
    ) {
        for (wish, answer) in wishes.iter().zip(answers) {
            let (account, openid, act) = match (wish, answer) {
                (
                    Wish::Receive {
                        account, arrival, ..
                    },
                    Answered::Taken(taken),
                ) if taken.fresh => {
                    let act = leaves(&arrival.event).map(|left| (counted_at(arrival, now), left));
                    (account, &arrival.openid, act)
                }
                (
                    Wish::Act {
                        account,
                        openid,
                        act: Act::Erase,
                    },
                    Answered::Acted(Acted::Erased),
                ) => (account, openid, Some((now, true))),
                _ => continue,
            };
            let id = self.follower(before, *account, openid);
            let act = act.filter(|(_, left)| *left == leaving);
            self.notes.acts.entry(id).or_default().extend(act);
        }
    }

    /// Notes which calls the platform definitely did not take: they leave no gap behind them.
    pub(super) fn note_refusals(&mut self, wishes: &[Wish], before: &Rows) {
        for wish in wishes {
            let Wish::Settle { key, ended } = wish else {
                continue;
            };
            let class = ended.answer.class;
            let taken = matches!(class, AnswerClass::Accepted | AnswerClass::Unknown);
            let place = (key.account, key.due_at, key.enrollment);
            let was = before.deliveries.get(&place).and_then(|row| row.sending);
            let sends = self.notes.sends.get_mut(&key.enrollment.follower());
            if let (false, Some(was), Some(sends)) = (taken, was, sends) {
                sends.retain(|(id, at, _)| (*id, *at) != (key.enrollment, was.at));
            }
        }
    }

    /// Whom a name means, also where a pseudonym has taken its place.
    pub(super) fn follower(&self, before: &Rows, account: AccountId, openid: &str) -> FollowerId {
        let pseudonym = Pseudonyms::default().of(account, openid);
        let names = [openid.to_owned(), pseudonym];
        let mut known = names.into_iter().flat_map(|name| {
            let name = (account, name);
            [before, &self.rows].map(|rows| rows.openids.get(&name).copied())
        });
        known.find_map(|id| id).unwrap_or_default()
    }
}
