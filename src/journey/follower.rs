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
    pub followed_at: Timestamp,
    /// Latest event by the platform's clock, so that an older one that comes late is recognized.
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
            last_event_at: Timestamp(i64::MIN),
            last_sent_at: Timestamp::default(),
            language: arrival.language.clone(),
            scene: None,
            tags: Vec::new(),
        }
    }

    /// Takes in what an event says about the person. False when a later event has already been
    /// seen: then it must change nothing, as an unfollow that was overtaken by a new follow.
    pub fn observe(&mut self, arrival: &Arrival) -> bool {
        let overtaken = arrival.created_at < self.last_event_at;
        // Platforms count seconds. In a tie an unfollow wins: sending to somebody who left is the
        // worse mistake, and the person's next act corrects it.
        let lost_tie = arrival.created_at == self.last_event_at && !self.following;
        if overtaken || lost_tie {
            return false;
        }
        self.last_event_at = arrival.created_at;
        if arrival.language.is_some() {
            self.language.clone_from(&arrival.language);
        }
        match &arrival.event {
            Event::Followed { scene } => {
                self.following = true;
                self.muted = false;
                self.followed_at = arrival.created_at;
                if scene.is_some() {
                    self.scene.clone_from(scene);
                }
            }
            Event::Unfollowed => self.following = false,
            Event::Scanned { scene } => {
                self.here();
                self.scene = Some(scene.clone());
            }
            Event::Clicked { .. } | Event::MessageReceived { .. } => self.here(),
            Event::Other { .. } => {}
        }
        true
    }

    /// Only a follower can scan, click or write, and only one who does not block us.
    fn here(&mut self) {
        self.following = true;
        self.muted = false;
    }
}
