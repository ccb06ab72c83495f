//! The story: one follower's whole way, and why each step stands where it stands.
//!
//! `load` reads the rows of one moment and joins them with the sequences; `why` turns what it finds
//! into sentences, and `words` into a text for terminals. Works with or without a running server.
//! Deliberately absent: any decision; a story only explains what journey and policy decided.

pub mod codes;
pub mod health;
pub mod phrases;
pub mod statistics;
pub mod voice;
pub mod why;
pub mod words;

use std::sync::Arc;

use jiff::tz::TimeZone;
use sea_orm::DatabaseConnection;

use crate::clock::Timestamp;
use crate::journey::catalog::{Catalog, Version};
use crate::journey::enrollment::{Enrollment, State};
use crate::journey::follower::Follower;
use crate::journey::outcome::{Outcome, OutcomeEntry};
use crate::policy::account::Account;
use crate::policy::grant::Grant;
use crate::policy::profile::Profile;
use crate::store::accounts::Standing;
use crate::store::timeline::{self, InHand, Receipt, Rows};
use crate::store::{Error, Store};

pub use phrases::Lang;
pub use voice::Voice;

/// What is known besides the rows.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub catalog: &'a Catalog,
    /// As configured; without it instants are told in UTC and no grant rule is named.
    pub account: Option<&'a Account>,
}

/// One follower's whole way.
#[derive(Clone, Debug)]
pub struct Story {
    pub account: Standing,
    /// The account's.
    pub zone: TimeZone,
    pub profile: Option<Arc<Profile>>,
    pub follower: Follower,
    pub grants: Vec<Grant>,
    /// Oldest first.
    pub receipts: Vec<Receipt>,
    /// Oldest first.
    pub passages: Vec<Passage>,
    /// The moment that is told of.
    pub now: Timestamp,
}

/// One passage with its steps.
#[derive(Clone, Debug)]
pub struct Passage {
    pub enrollment: Enrollment,
    /// `None` when the version is not known any more.
    pub version: Option<Arc<Version>>,
    pub in_hand: Option<InHand>,
    pub steps: Vec<Stage>,
}

/// One step of a passage.
#[derive(Clone, Debug)]
pub struct Stage {
    pub index: u16,
    /// As in the sequence; its number from 1 when the version is not known.
    pub id: String,
    /// Kind of the message; empty when the version is not known.
    pub kind: &'static str,
    /// As planned.
    pub due_at: Timestamp,
    pub state: Standpoint,
    /// Its entries, oldest first.
    pub history: Vec<OutcomeEntry>,
}

/// Where a step stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standpoint {
    /// Its instant is to come, or steps before it have not ended.
    Planned,
    /// Its instant has passed and it is neither sent nor held.
    Due,
    /// The intent was committed at this instant, and no answer is in.
    Sending(Timestamp),
    Held,
    /// By this entry, which may end several steps.
    Ended(OutcomeEntry),
}

impl Standpoint {
    /// The word that API and pages use.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Due => "due",
            Self::Sending(_) => "sending",
            Self::Held => "held",
            Self::Ended(entry) => entry.outcome.word(),
        }
    }

    /// How the step ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Ended(entry) => Some(entry.outcome),
            Self::Planned | Self::Due | Self::Sending(_) | Self::Held => None,
        }
    }
}

/// Reads a follower's story; `None` when account or follower is unknown.
pub async fn load(
    read: &DatabaseConnection,
    known: Known<'_>,
    account_key: &str,
    openid: &str,
    now: Timestamp,
) -> Result<Option<Story>, Error> {
    let rows = timeline::of(read, account_key, openid).await?;
    Ok(rows.map(|rows| Story::of(rows, known, now)))
}

/// Reads a follower's story with what a running store knows.
pub async fn load_live(
    store: &Store,
    account_key: &str,
    openid: &str,
    now: Timestamp,
) -> Result<Option<Story>, Error> {
    let catalog = store.knowledge().catalog();
    let account = store.knowledge().account_named(account_key);
    let known = Known {
        catalog: &catalog,
        account: account.as_deref(),
    };
    load(store.read(), known, account_key, openid, now).await
}

impl Story {
    /// Joins rows with sequences.
    pub fn of(rows: Rows, known: Known<'_>, now: Timestamp) -> Self {
        let passages = rows
            .enrollments
            .into_iter()
            .map(|enrollment| {
                let mine = rows.entries.iter();
                let entries: Vec<_> = mine
                    .filter(|entry| entry.enrollment == enrollment.id)
                    .cloned()
                    .collect();
                let in_hand = rows.in_hand.get(&enrollment.id).copied();
                let version = known.catalog.version(enrollment.version).cloned();
                Passage::of(enrollment, version, in_hand, &entries, now)
            })
            .collect();
        Self {
            account: rows.account,
            zone: known
                .account
                .map_or(TimeZone::UTC, |account| account.journey.zone.clone()),
            profile: known.account.map(|account| Arc::clone(&account.profile)),
            follower: rows.follower,
            grants: rows.grants,
            receipts: rows.receipts,
            passages,
            now,
        }
    }

    /// A voice for this story.
    pub fn voice(&self, lang: Lang) -> Voice {
        Voice {
            lang,
            zone: self.zone.clone(),
            now: self.now,
        }
    }

    /// Everything that happened and everything that is planned, in the order of time.
    pub fn moments(&self) -> Vec<Moment<'_>> {
        let mut moments: Vec<_> = self
            .receipts
            .iter()
            .map(|receipt| Moment {
                at: receipt.created_at,
                what: What::Event(receipt),
            })
            .collect();
        for passage in &self.passages {
            moments.push(Moment {
                at: passage.enrollment.enrolled_at,
                what: What::Enrolled(passage),
            });
            for stage in &passage.steps {
                let entries = stage.history.iter().map(|entry| Moment {
                    at: entry.at,
                    what: What::Entry(passage, stage, entry),
                });
                moments.extend(entries);
                if stage.state.outcome().is_none() {
                    moments.push(Moment {
                        at: passage.expected_at(stage, self.now),
                        what: What::Ahead(passage, stage),
                    });
                }
            }
        }
        // Stable: what was written in one instant keeps its order.
        moments.sort_by_key(|moment| (moment.at, matches!(moment.what, What::Ahead(..))));
        moments
    }
}

/// One thing in a story's time.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    pub at: Timestamp,
    pub what: What<'a>,
}

impl Moment<'_> {
    /// Whether it has happened by `now`.
    pub fn is_past(&self, now: Timestamp) -> bool {
        self.at <= now && !matches!(self.what, What::Ahead(..))
    }
}

/// What a moment is.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    Event(&'a Receipt),
    Enrolled(&'a Passage),
    Entry(&'a Passage, &'a Stage, &'a OutcomeEntry),
    /// A step that has not ended.
    Ahead(&'a Passage, &'a Stage),
}

impl Passage {
    fn of(
        enrollment: Enrollment,
        version: Option<Arc<Version>>,
        in_hand: Option<InHand>,
        entries: &[OutcomeEntry],
        now: Timestamp,
    ) -> Self {
        let steps = enrollment.plan.iter().zip(0u16..).map(|(due_at, index)| {
            let step = version
                .as_ref()
                .and_then(|version| version.sequence.steps.get(usize::from(index)));
            Stage {
                index,
                id: step.map_or_else(|| (index + 1).to_string(), |step| step.id.clone()),
                kind: step.map_or("", |step| step.say.default.kind()),
                due_at: *due_at,
                state: standpoint(&enrollment, in_hand, entries, index, now),
                history: entries
                    .iter()
                    .filter(|entry| entry.step == index)
                    .cloned()
                    .collect(),
            }
        });
        let steps = steps.collect();
        Self {
            enrollment,
            version,
            in_hand,
            steps,
        }
    }

    /// Name of the sequence; its version's number when that is not known any more.
    pub fn sequence(&self) -> String {
        match &self.version {
            Some(version) => version.sequence.name.clone(),
            None => format!("#{}", self.enrollment.version),
        }
    }

    /// Title of the sequence, for people.
    pub fn title(&self) -> String {
        match &self.version {
            Some(version) => version.sequence.title.clone(),
            None => self.sequence(),
        }
    }

    /// The step that is next, or being sent.
    pub fn current(&self) -> Option<&Stage> {
        self.steps.get(usize::from(self.enrollment.step))
    }

    /// When something is expected to happen to a step that has not ended: at once, if it is not
    /// merely planned.
    fn expected_at(&self, stage: &Stage, now: Timestamp) -> Timestamp {
        let at = match stage.state {
            Standpoint::Planned if stage.index == self.enrollment.step => self.enrollment.wake_at,
            Standpoint::Planned => stage.due_at,
            Standpoint::Due | Standpoint::Sending(_) | Standpoint::Held | Standpoint::Ended(_) => {
                now
            }
        };
        at.max(now)
    }
}

fn standpoint(
    enrollment: &Enrollment,
    in_hand: Option<InHand>,
    entries: &[OutcomeEntry],
    index: u16,
    now: Timestamp,
) -> Standpoint {
    let ends = entries.iter().find(|entry| {
        let behind = entry.step.saturating_add(entry.steps);
        entry.step <= index && index < behind
    });
    if let Some(entry) = ends {
        return Standpoint::Ended(entry.clone());
    }
    if index != enrollment.step {
        return Standpoint::Planned;
    }
    match (in_hand, enrollment.state) {
        (Some(delivery), _) if delivery.sending => Standpoint::Sending(delivery.intent_at),
        (_, State::Held) => Standpoint::Held,
        _ if enrollment.wake_at <= now => Standpoint::Due,
        _ => Standpoint::Planned,
    }
}
