//! Carriers: the ways in which a platform brings a message to a follower.

/// A way to send. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Carrier {
    /// 客服消息: a call of its own, spends a grant.
    CustomerMessage = 1,
    /// 被动回复: the answer to the follower's own event, within five seconds.
    PassiveReply = 2,
    /// 订阅通知: spends one consent that the follower gave to a template.
    SubscriptionNotice = 3,
    /// 模板消息: for service notices, on a template that the platform approved.
    Template = 4,
    /// 群发: one call for many followers.
    MassSend = 5,
}

impl Carrier {
    pub const ALL: [Self; 5] = [
        Self::CustomerMessage,
        Self::PassiveReply,
        Self::SubscriptionNotice,
        Self::Template,
        Self::MassSend,
    ];

    /// The number it is stored under.
    pub fn number(self) -> i64 {
        i64::from(self as u8)
    }

    /// The carrier stored under `number`.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }

    /// The word that YAML, tables, API and pages use.
    pub fn word(self) -> &'static str {
        match self {
            Self::CustomerMessage => "customer_message",
            Self::PassiveReply => "passive_reply",
            Self::SubscriptionNotice => "subscription_notice",
            Self::Template => "template",
            Self::MassSend => "mass_send",
        }
    }

    /// The carrier of that name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }
}
