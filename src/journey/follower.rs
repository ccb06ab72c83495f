//! A follower: what we know of the person, as far as sequences need it.

use crate::clock::Timestamp;
use crate::journey::event::{Arrival, Event};
use crate::journey::ids::{AccountId, FollowerId};

/// A person who follows, or followed, an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    pub id: FollowerId,
    pub account: AccountId,
    /// The platform's id of the person, unique within the account.
    pub openid: String,
    pub following: bool,
    /// The platform said that messages are blocked; cleared by the person's next event.
    pub muted: bool,
    /// When the present stay began: the follow, or the first act that shows it was missed.
    pub followed_at: Timestamp,
    /// Latest unfollow by the platform's clock; zero for never.
    pub left_at: Timestamp,
    /// Latest act of the person by the platform's clock, so that an older one that comes late is
    /// recognized.
    pub last_event_at: Timestamp,
    /// Latest intent, for `min_gap`; zero for never.
    pub last_sent_at: Timestamp,
    pub language: Option<String>,
    /// Of the latest QR code.
    pub scene: Option<String>,
    pub tags: Vec<String>,
}

impl Follower {
    /// Somebody whose first event has just arrived. Whoever writes to us follows us, even if the
    /// follow itself was missed.
    pub fn new(id: FollowerId, account: AccountId, arrival: &Arrival) -> Self {
        Self {
            id,
            account,
            openid: arrival.openid.clone(),
            following: false,
            muted: false,
            followed_at: arrival.created_at,
            left_at: Timestamp::default(),
            last_event_at: Timestamp(i64::MIN),
            last_sent_at: Timestamp::default(),
            language: arrival.language.clone(),
            scene: None,
            tags: Vec::new(),
        }
    }

    /// Takes in what an event of the instant `at` says about the person. False when it must change
    /// nothing: an unfollow that a later act overtook, or an act that an unfollow overtook.
    ///
    /// An act that another act overtook counts: whoever wrote before their follow reached us still
    /// followed. Platforms count seconds; in a tie an unfollow wins, since sending to somebody who
    /// left is the worse mistake, and the person's next act corrects it.
    pub fn observe(&mut self, arrival: &Arrival, at: Timestamp) -> bool {
        let overtaken = match &arrival.event {
            Event::Other { .. } | Event::Reported(_) | Event::ConsentsChanged { .. } => {
                return true;
            }
            Event::Unfollowed => at < self.last_event_at,
            _ if !self.following => at <= self.last_event_at,
            _ => self.left_at != Timestamp::default() && at <= self.left_at,
        };
        if overtaken {
            return false;
        }
        let newest = at >= self.last_event_at;
        self.last_event_at = self.last_event_at.max(at);
        if newest && arrival.language.is_some() {
            self.language.clone_from(&arrival.language);
        }
        match &arrival.event {
            Event::Unfollowed => {
                self.following = false;
                self.left_at = at;
            }
            Event::Followed { scene } => {
                self.here(at);
                self.followed_at = self.followed_at.min(at);
                if newest && scene.is_some() {
                    self.scene.clone_from(scene);
                }
            }
            Event::Scanned { scene } => {
                self.here(at);
                if newest {
                    self.scene = Some(scene.clone());
                }
            }
            Event::Clicked { .. } | Event::MessageReceived { .. } => self.here(at),
            Event::Other { .. } | Event::Reported(_) | Event::ConsentsChanged { .. } => {}
        }
        true
    }

    /// Only a follower can scan, click or write, and only one who does not block us.
    fn here(&mut self, at: Timestamp) {
        if !self.following {
            self.followed_at = at;
        }
        self.following = true;
        self.muted = false;
    }
}
