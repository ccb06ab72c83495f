//! Whom a broadcast is for: conditions that a follower meets at the instant at which it starts. Pure;
//! whether somebody is inside a sequence is asked of the rows (`freeze`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::journey::follower::Follower;
use crate::journey::sequence::Pattern;

/// Conditions that all have to hold; none at all is everybody who follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Audience {
    /// Followers that were named one by one, and no others.
    #[serde(skip_serializing_if = "is_false")]
    pub listed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Of the latest QR code; `*` stands for any run of characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scene: Option<String>,
    /// A tag such as `zh_CN`, or its first part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The present stay began at this instant or later, and before the other one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub followed_from: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub followed_before: Option<Timestamp>,
    /// Inside this sequence: a step is still planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_sequence: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_in_sequence: Option<String>,
    /// Acted so recently, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_within: Option<u64>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Audience {
    /// As stored.
    pub fn read(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// To be stored.
    pub fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether a follower belongs to it by what is known of the person, at the instant `at`. Who came
    /// later does not.
    pub fn fits(&self, follower: &Follower, at: Timestamp) -> bool {
        let has = |wanted: &str| follower.tags.iter().any(|tag| tag == wanted);
        let reads = |wanted: &str| {
            let language = follower.language.as_deref().unwrap_or_default();
            let short = language.split(['_', '-']).next().unwrap_or(language);
            wanted == language || wanted == short
        };
        let came = |wanted: &str| {
            let scene = follower.scene.as_deref().unwrap_or_default();
            Pattern(wanted.to_owned()).matches(scene)
        };
        let acted = |seconds: u64| follower.last_event_at >= at.minus(Duration::from_secs(seconds));
        follower.following
            && follower.followed_at <= at
            && self.tag.as_deref().is_none_or(has)
            && self.language.as_deref().is_none_or(reads)
            && self.scene.as_deref().is_none_or(came)
            && self
                .followed_from
                .is_none_or(|from| follower.followed_at >= from)
            && self
                .followed_before
                .is_none_or(|end| follower.followed_at < end)
            && self.active_within.is_none_or(acted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::ids::{AccountId, FollowerId};

    const DAY: i64 = 86_400_000;

    fn follower() -> Follower {
        Follower {
            id: FollowerId(1),
            account: AccountId(1),
            openid: "ann".into(),
            following: true,
            muted: false,
            followed_at: Timestamp(10 * DAY),
            left_at: Timestamp::default(),
            last_event_at: Timestamp(12 * DAY),
            last_sent_at: Timestamp::default(),
            language: Some("zh_CN".into()),
            scene: Some("spring-shop".into()),
            tags: vec!["vip".into(), "beijing".into()],
        }
    }

    fn audience(json: &str) -> Audience {
        let audience = Audience::read(json).expect("is an audience");
        assert_eq!(
            Audience::read(&audience.write()).ok(),
            Some(audience.clone())
        );
        audience
    }

    #[test]
    fn every_condition_has_to_hold() {
        let at = Timestamp(13 * DAY);
        let (day10, day11) = (10 * DAY, 11 * DAY);
        for (json, fits) in [
            ("{}".to_owned(), true),
            (r#"{"tag":"vip"}"#.to_owned(), true),
            (r#"{"tag":"VIP"}"#.to_owned(), false),
            (r#"{"tag":"vip","language":"en"}"#.to_owned(), false),
            (r#"{"language":"zh"}"#.to_owned(), true),
            (r#"{"language":"zh_CN"}"#.to_owned(), true),
            (r#"{"language":"zh_TW"}"#.to_owned(), false),
            (r#"{"scene":"spring-*"}"#.to_owned(), true),
            (r#"{"scene":"autumn-*"}"#.to_owned(), false),
            (
                format!(r#"{{"followed_from":{day10},"followed_before":{day11}}}"#),
                true,
            ),
            (format!(r#"{{"followed_before":{day10}}}"#), false),
            (format!(r#"{{"followed_from":{day11}}}"#), false),
            (r#"{"active_within":172800}"#.to_owned(), true),
            (r#"{"active_within":3600}"#.to_owned(), false),
        ] {
            assert_eq!(audience(&json).fits(&follower(), at), fits, "{json}");
        }
    }

    #[test]
    fn only_who_follows_when_it_starts_belongs_to_it() {
        let everybody = Audience::default();
        let mut left = follower();
        left.following = false;
        assert!(!everybody.fits(&left, Timestamp(13 * DAY)));
        assert!(!everybody.fits(&follower(), Timestamp(9 * DAY)));
        assert!(everybody.fits(&follower(), Timestamp(10 * DAY)));
    }
}
