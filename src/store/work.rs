//! What can be asked of the writer, and what it answers.

use serde::{Serialize, Serializer};
use std::sync::Arc;
use tokio::sync::oneshot;

use crate::clock::Timestamp;
use crate::journey::answer::Answer;
use crate::journey::carrier::Carrier;
use crate::journey::catalog::Version;
use crate::journey::event::Arrival;
use crate::journey::ids::{AccountId, BroadcastId, EnrollmentId, FollowerId, VersionId};
use crate::journey::link::{Spot, Tracking};
use crate::journey::message::{Message, TEXT_MAX};
use crate::journey::sequence::Step;
use crate::journey::template::{self, Facts, TemplateError};
use crate::policy::fare::Fare;
use crate::policy::fit::Surprise;
use crate::policy::settle::AccountNews;
use crate::store::Error;
use crate::store::clicks::Clicked;
use crate::store::reconcile::{Found, Reconciled};
use crate::store::timers::TimerKey;

/// Names one delivery: the row's key, and the generation that its enrollment must still have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryKey {
    pub account: AccountId,
    pub due_at: Timestamp,
    pub enrollment: EnrollmentId,
    pub generation: u32,
}

impl Serialize for DeliveryKey {
    /// As an array, which SQL takes apart by place: half as long and as costly as names.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (self.account, self.due_at, self.enrollment, self.generation).serialize(to)
    }
}

/// What became of an event.
#[derive(Clone, Debug)]
pub struct Taken {
    /// False when it had been taken in before: then nothing changed.
    pub fresh: bool,
    /// How many passages it began.
    pub enrolled: usize,
    /// The step that answers the event itself; its intent is committed.
    pub passive: Option<Passive>,
}

/// What the answer to an event can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Nothing.
    Nothing,
    /// What it carried when the event came before, and nothing new: we are being stopped.
    Repetition,
    /// A step that is due.
    Step,
}

/// A step that travels as the answer to the follower's own event.
#[derive(Clone, Debug)]
pub enum Passive {
    First(Box<Send>),
    /// The event came again: it is given the same answer.
    Again(Box<Send>),
}

/// What became of a passive reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// Its step has ended.
    Ended,
    /// The platform may still come again; nothing is sure before this instant.
    NotBefore(Timestamp),
}

/// What became of a delivery that was about to be sent.
#[derive(Clone, Debug)]
pub enum Intended {
    /// The intent is committed: send it now and settle its answer, whatever happens.
    Send(Box<Send>),
    /// Not now or not at all; the rows say why.
    NotSent,
}

/// What is needed to send a step.
#[derive(Clone, Debug)]
pub struct Send {
    pub key: DeliveryKey,
    pub openid: String,
    pub version: Arc<Version>,
    /// Index of the step in its version.
    pub step: u16,
    /// Counts the calls for this step, from 1.
    pub attempt: u16,
    pub facts: Facts,
    /// Where clicks on its links are counted, how they lead to us.
    pub tracking: Option<Arc<Tracking>>,
    /// How it travels.
    pub fare: Fare,
    /// Under which its intent is committed.
    pub epoch: i64,
}

impl Send {
    /// The step's own message for a follower of these facts, filled in. Links lead to us where clicks
    /// are counted, unless the text becomes longer by it than the platform takes; the words of a mass
    /// send are one for everybody.
    ///
    /// # Errors
    /// As `template::render`.
    pub fn words(&self, step: &Step, facts: &Facts) -> Result<Message, TemplateError> {
        let tracking = self.tracking.as_ref();
        if let Some(tracking) = tracking.filter(|_| self.fare.carrier != Carrier::MassSend) {
            let spot = Spot {
                enrollment: self.key.enrollment,
                version: self.version.id,
                step: self.step,
                language: &facts.language,
            };
            match template::render(&tracking.tracked(step, &spot), facts) {
                Ok(Message::Text(text)) if text.len() > TEXT_MAX => {}
                Err(TemplateError::TooLong { .. }) => {}
                rendered => return rendered,
            }
        }
        template::render(step.say.to(&facts.language), facts)
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub answer: Answer,
    /// The follower's language, where the attempt learned it.
    pub language: Option<String>,
}

impl From<Answer> for Ended {
    fn from(answer: Answer) -> Self {
        Self {
            answer,
            language: None,
        }
    }
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub news: AccountNews,
    /// The delivery is due again, unchanged.
    pub returned: bool,
    /// The platform refused what the account's profile allows.
    pub surprise: Option<Surprise>,
}

/// A person's doing, by API, console or command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Begin a passage through the live version of a sequence.
    Enroll { sequence: String },
    /// End every unfinished passage, or those through one sequence.
    Cancel { sequence: Option<String> },
    /// Put a tag on the follower, here and on the platform, or take it off.
    Tag { tag: String, present: bool },
    /// Forget the follower, but for a pseudonym.
    Erase,
    /// Note how many subscription notices the follower still allows a template.
    Allow { template: String, left: u16 },
}

/// What became of a person's doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acted {
    Enrolled(EnrollmentId),
    /// The sequence's `reenter` rule does not allow it.
    NotAllowed,
    /// How many passages were ended.
    Cancelled(usize),
    /// The follower's tags as they are now.
    Tagged(Vec<String>),
    Erased,
    Allowed,
    NoSuchFollower,
    NoSuchSequence,
    /// The person does not follow.
    NotFollowing,
}

/// What became of recipients that were to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// False when the broadcast was not sending any more: then nothing changed.
    pub sending: bool,
    /// How many have an enrollment now that had none.
    pub recipients: usize,
}

/// What a commit armed, for the wheel and the sender to know without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Armed {
    pub timers: Vec<TimerKey>,
    pub due: Vec<DeliveryKey>,
}

impl Armed {
    pub(super) fn is_empty(&self) -> bool {
        self.timers.is_empty() && self.due.is_empty()
    }
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A request to the writer.
#[derive(Debug)]
pub(crate) enum Work {
    Receive {
        account: AccountId,
        arrival: Box<Arrival>,
        /// What its answer can carry.
        offer: Offer,
        reply: Reply<Taken>,
    },
    Act {
        account: AccountId,
        openid: String,
        act: Act,
        reply: Reply<Acted>,
    },
    Reconcile {
        account: AccountId,
        found: Vec<Found>,
        reply: Reply<Reconciled>,
    },
    /// Makes enrollments of a broadcast's recipients.
    Admit {
        broadcast: BroadcastId,
        account: AccountId,
        version: VersionId,
        /// When their message is due: at once, where it is not later.
        due_at: Option<Timestamp>,
        followers: Vec<FollowerId>,
        reply: Reply<Admitted>,
    },
    Settle {
        key: DeliveryKey,
        ended: Box<Ended>,
        reply: Reply<Settled>,
    },
    Confirm {
        key: DeliveryKey,
        reply: Reply<Confirmed>,
    },
    Intend {
        keys: Vec<DeliveryKey>,
        /// Leaves those alone that would travel by another carrier.
        only: Option<Carrier>,
        reply: Reply<Vec<Intended>>,
    },
    Promote {
        keys: Vec<TimerKey>,
        reply: Reply<usize>,
    },
    Click {
        clicked: Clicked,
        reply: Reply<bool>,
    },
}

impl Work {
    /// Order within a commit, lowest first. Events come before intents, so that nothing is sent
    /// after an unfollow that was taken in with it; answers before intents, so that steps keep
    /// their order.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Receive { .. }
            | Self::Act { .. }
            | Self::Reconcile { .. }
            | Self::Click { .. }
            | Self::Admit { .. } => 0,
            Self::Settle { .. } | Self::Confirm { .. } => 1,
            Self::Intend { .. } => 2,
            Self::Promote { .. } => 3,
        }
    }

    /// How many rows it touches, roughly: what a commit is bounded by.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Receive { .. }
            | Self::Act { .. }
            | Self::Settle { .. }
            | Self::Confirm { .. }
            | Self::Click { .. } => 1,
            Self::Reconcile { found, .. } => found.len(),
            Self::Admit { followers, .. } => followers.len(),
            Self::Intend { keys, .. } => keys.len(),
            Self::Promote { keys, .. } => keys.len() / 4,
        }
    }

    /// How many people it may make known who were not, at most.
    pub(super) fn newcomers(&self) -> usize {
        match self {
            Self::Receive { .. } => 1,
            Self::Reconcile { found, .. } => found.len(),
            _ => 0,
        }
    }

    /// Tells the caller that nothing was written.
    pub(super) fn fail(self, error: Error) {
        match self {
            Self::Receive { reply, .. } => drop(reply.send(Err(error))),
            Self::Act { reply, .. } => drop(reply.send(Err(error))),
            Self::Reconcile { reply, .. } => drop(reply.send(Err(error))),
            Self::Admit { reply, .. } => drop(reply.send(Err(error))),
            Self::Settle { reply, .. } => drop(reply.send(Err(error))),
            Self::Confirm { reply, .. } => drop(reply.send(Err(error))),
            Self::Intend { reply, .. } => drop(reply.send(Err(error))),
            Self::Promote { reply, .. } => drop(reply.send(Err(error))),
            Self::Click { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}
