//! The platform of a simulated world: who follows, what it tells us, what it answers, and what
//! reached the phones.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::journey::answer::{Answer, AnswerClass};
use crate::journey::carrier::Carrier;
use crate::journey::event::{Arrival, Event, Report};
use crate::journey::ids::{AccountId, EnrollmentId};
use crate::simulator::dice::Dice;
use crate::store::work::Send;

/// A callback on its way to us.
#[derive(Clone, Debug)]
pub(super) struct Callback {
    pub(super) account: AccountId,
    pub(super) arrival: Arrival,
    /// How often it was brought to us.
    pub(super) tries: u8,
    /// When it comes again, by true time; `None` while it is not known to be lost.
    pub(super) again_at: Option<i64>,
    /// We said `success`.
    pub(super) answered: bool,
    /// The message that it was answered with is on the phone.
    pub(super) shown: bool,
}

/// A message on a phone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) enrollment: EnrollmentId,
    pub(super) step: u16,
}

/// How often the platform brings one callback.
pub(super) const TRIES: u8 = 3;

#[derive(Debug, Default)]
pub(super) struct Platform {
    /// Who is there, and whether they follow.
    pub(super) people: BTreeMap<(AccountId, String), bool>,
    pub(super) callbacks: Vec<Callback>,
    pub(super) shown: Vec<Shown>,
    /// It refuses and loses nothing any more.
    pub(super) accepts: bool,
    digests: i64,
    references: u64,
}

/// What one call came to.
pub(super) struct Called {
    pub(super) answer: Answer,
    /// The phone shows it.
    pub(super) shown: bool,
}

impl Platform {
    /// Somebody does something; it becomes a callback.
    pub(super) fn acts(&mut self, (account, openid): (AccountId, &str), event: Event, now: i64) {
        match &event {
            Event::Unfollowed => {
                self.people.insert((account, openid.to_owned()), false);
            }
            Event::Followed { .. } => {
                self.people.insert((account, openid.to_owned()), true);
            }
            _ => {}
        }
        self.digests += 1;
        self.callbacks.push(Callback {
            account,
            arrival: Arrival {
                openid: openid.to_owned(),
                // Platforms count seconds.
                created_at: Timestamp::from_seconds(now.div_euclid(1000)),
                digest: self.digests,
                event,
                language: None,
            },
            tries: 0,
            again_at: None,
            answered: false,
            shown: false,
        });
    }

    /// One call: a definite answer, or one that is lost.
    pub(super) fn call(&mut self, send: &Send, now: i64, dice: &mut Dice) -> Called {
        let account = send.key.account;
        let follows = self.people.get(&(account, send.openid.clone())).copied();
        let refused = |class, code| Called {
            answer: Answer {
                code: Some(code),
                ..Answer::without_code(class, format!("refused {}", send.openid))
            },
            shown: false,
        };
        if follows != Some(true) {
            return refused(AnswerClass::Unsubscribed, 43004);
        }
        let odds = if self.accepts { 100 } else { dice.below(100) };
        let lost = || Answer::without_code(AnswerClass::Unknown, "no answer");
        match odds {
            0..=3 => refused(AnswerClass::GrantClosed, 45015),
            4..=6 => refused(AnswerClass::GrantClosed, 45047),
            7..=9 => refused(AnswerClass::NextMinute, 45009),
            10 => refused(AnswerClass::NextDay, 45009),
            11..=14 => refused(AnswerClass::RetrySoon, -1),
            15 => refused(AnswerClass::Dropped, 40008),
            16 => refused(AnswerClass::Muted, 40201),
            17 => refused(AnswerClass::NeedsAttention, 48001),
            18 => refused(AnswerClass::NotBefore(Timestamp(now + 4_000)), 45011),
            // Lost on the way there, or on the way back.
            19..=22 => Called {
                answer: lost(),
                shown: false,
            },
            23..=28 => {
                self.show(send);
                Called {
                    answer: lost(),
                    shown: true,
                }
            }
            _ => {
                self.show(send);
                let mut answer = Answer::without_code(AnswerClass::Accepted, "");
                if send.fare.carrier == Carrier::Template {
                    self.references += 1;
                    answer.reference = Some(self.references.to_string());
                    self.report(send, now);
                }
                Called {
                    answer,
                    shown: true,
                }
            }
        }
    }

    /// The platform tells later what became of a template message.
    fn report(&mut self, send: &Send, now: i64) {
        let report = Report {
            reference: self.references.to_string(),
            delivered: Some(!self.references.is_multiple_of(4)),
            template: None,
            detail: String::new(),
        };
        let to = (send.key.account, send.openid.clone());
        self.acts((to.0, &to.1), Event::Reported(report), now);
    }

    pub(super) fn show(&mut self, send: &Send) {
        self.shown.push(Shown {
            enrollment: send.key.enrollment,
            step: send.step,
        });
    }

    /// Places of callbacks that may come now, in any order: those that were not answered, and
    /// sometimes one that was.
    pub(super) fn open(&self, also_answered: bool) -> Vec<usize> {
        let open = self.callbacks.iter().enumerate().filter(|(_, one)| {
            let comes = !one.answered || also_answered;
            comes && one.tries < TRIES && one.again_at.is_none()
        });
        open.map(|(at, _)| at).collect()
    }

    /// When the next repetition is due, by true time.
    pub(super) fn next_again(&self) -> Option<i64> {
        self.callbacks.iter().filter_map(|one| one.again_at).min()
    }

    /// Everybody who ever followed.
    pub(super) fn known(&self) -> BTreeSet<(AccountId, String)> {
        self.people.keys().cloned().collect()
    }
}
