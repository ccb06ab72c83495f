//! The sentences of a story, in English and Chinese, side by side.
//!
//! One `match` holds both, so that neither language can lack a sentence; a test holds that both
//! have the same gaps. Deliberately absent: which sentence fits (`why`).

/// A language of pages and explanations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lang {
    #[default]
    En,
    Zh,
}

impl Lang {
    /// The language a tag such as `zh_CN` or `en` begins with.
    pub fn of_tag(tag: &str) -> Option<Self> {
        let first = tag.trim().split(['-', '_', ';']).next().unwrap_or_default();
        match first.to_ascii_lowercase().as_str() {
            "zh" => Some(Self::Zh),
            "en" => Some(Self::En),
            _ => None,
        }
    }

    /// The tag for `lang` attributes.
    pub fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh-CN",
        }
    }

    /// The one of two texts that is in this language.
    pub fn pick<'a>(self, en: &'a str, zh: &'a str) -> &'a str {
        match self {
            Self::En => en,
            Self::Zh => zh,
        }
    }
}

/// The word for a state or an outcome, which `word` functions name in English.
pub fn state(word: &'static str, lang: Lang) -> &'static str {
    let zh = match word {
        "planned" => "计划中",
        "due" => "已到期",
        "sending" => "发送中",
        "held" => "暂留",
        "delivered" => "已送达",
        "undelivered" => "未送达",
        "sent" => "已发送",
        "refused" => "被拒绝",
        "expired" => "已过期",
        "skipped" => "已跳过",
        "cancelled" => "已取消",
        "failed" => "失败",
        "unknown" => "未知",
        "retried" => "重试",
        "active" => "进行中",
        "completed" => "已完成",
        other => other,
    };
    lang.pick(word, zh)
}

macro_rules! phrases {
    ($($name:ident: $en:literal, $zh:literal;)*) => {
        /// One sentence; `{name}` in it stands for a value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Phrase { $($name),* }

        impl Phrase {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            fn both(self) -> (&'static str, &'static str) {
                match self { $(Self::$name => ($en, $zh)),* }
            }
        }
    };
}

phrases! {
    WaitsFor: "waits for {when}, in {span}", "等待 {when}，{span}后";
    WaitsBehind: "due {when}, after step {step}", "计划 {when}，排在步骤 {step} 之后";
    BehindHeld: "comes after step {step}, which is held", "排在步骤 {step} 之后，而该步骤被暂留";
    Moved: "moved to {when}, in {span}: a gap between messages, quiet hours, or a mass send with others", "推迟到 {when}，{span}后：消息间隔、免打扰时段或与他人合并群发";
    PulledForward: "planned for {due}, pulled forward to {when}, in {span}: its grant would be closed by then", "计划 {due}，提前到 {when}，{span}后：届时发送许可将已关闭";
    DueNow: "due for {span}: waits for its turn", "已到期 {span}：等待轮到它发送";
    DuePaused: "due for {span}: the account is paused until {when} ({reason})", "已到期 {span}：公众号暂停发送至 {when}（{reason}）";
    DueAttention: "due for {span}: nothing of this account passes until a person acts ({reason})", "已到期 {span}：该公众号需要人工处理后才能发送（{reason}）";
    Sending: "being sent since {when}: its answer is not in yet", "自 {when} 起正在发送：平台尚未应答";
    RetryAt: "attempt {n} failed; tried again {when}, in {span}", "第 {n} 次尝试失败；将于 {when} 重试，{span}后";
    ResendAt: "the answer was lost: sent once more {when}, in {span}", "应答丢失：将于 {when} 再发一次，{span}后";
    HeldUntil: "held since {since} because {reason}; expires {until}, in {span}", "自 {since} 起暂留，因为{reason}；{until} 过期，{span}后";
    Releases: "{events} from the follower would release it", "粉丝的{events}会使其继续";
    AnyReleases: "any act of the follower would release it", "粉丝的任何互动都会使其继续";
    NoneReleases: "the account's rules open no grant", "该公众号的规则不授予任何发送许可";
    SentAfter: "sent {span} after it was due", "到期后 {span}发出";
    SentOnTime: "sent on time", "准时发出";
    SentEarly: "sent {span} before it was due: its grant would have been closed by then", "比计划提前{span}发出：届时发送许可将已关闭";
    ByPassiveReply: "as the answer to the follower's own event", "作为对粉丝事件的被动回复";
    BySubscriptionNotice: "as a subscription notice", "以订阅通知发出";
    ByTemplate: "as a template message", "以模板消息发出";
    ByMassSend: "with a mass send", "以群发发出";
    SentHeld: "sent {span} after it was due: it had waited for the follower", "到期后 {span}发出：此前在等待粉丝互动";
    SentRetried: "sent {span} after it was due, at attempt {n}", "到期后 {span}发出，第 {n} 次尝试成功";
    SentAgain: "sent {span} after it was due; an earlier answer was lost, so it may have arrived twice", "到期后 {span}发出；之前一次应答丢失，可能送达两次";
    Refused: "refused by the platform", "被平台拒绝";
    ExpiredHeld: "expired: held from {since} until its deadline, and no grant was opened", "已过期：自 {since} 暂留到期限，期间没有获得许可";
    ExpiredLate: "expired: due too long ago when its turn came", "已过期：轮到它时早已超过期限";
    Skipped: "left out: {reason}", "已跳过：{reason}";
    Cancelled: "cancelled: {reason}", "已取消：{reason}";
    CancelledRest: "{n} steps cancelled: {reason}", "已取消 {n} 个步骤：{reason}";
    FailedAfter: "given up after {n} attempts", "尝试 {n} 次后放弃";
    Failed: "given up: {reason}", "已放弃：{reason}";
    UnknownAgain: "the answer was lost: sent again once", "应答丢失：再发一次";
    UnknownTwice: "the answer was lost again after it was sent once more: it may or may not have arrived", "再发一次后应答再次丢失：可能送达，也可能没有";
    UnknownLeft: "the answer was lost: it may or may not have arrived, and the sequence says not to send it again", "应答丢失：可能送达，也可能没有；按序列设置不再重发";
    Retried: "an attempt failed for certain: another follows", "一次尝试确定失败：将重试";
    Delivered: "the platform reports that it arrived", "平台报告已送达";
    Undelivered: "the platform reports that it did not arrive", "平台报告未送达";
    Held: "held: {reason}", "暂留：{reason}";
    WithCode: "{what} — {code}: {meaning}", "{what} — {code}：{meaning}";
    WithPlainCode: "{what} — code {code}", "{what} — 错误码 {code}";
    Enrolled: "enrolled in {sequence}", "进入序列 {sequence}";
    FinishedCompleted: "every step has ended", "所有步骤已结束";
    FinishedCancelled: "ended early", "提前结束";
    NoGrant: "no grant is open", "没有可用的发送许可";
    GrantKept: "the messages that are left are kept for steps that go first", "剩余的发送次数留给优先的步骤";
    NoCarrier: "the account's rules have no customer messages", "该公众号的规则不含客服消息";
    Muted: "the follower blocks messages", "粉丝屏蔽了消息";
    PlatformClosed: "the platform grants no message now", "平台目前不允许发送";
    Followed: "followed", "关注";
    Unfollowed: "unfollowed", "取消关注";
    Found: "found in the platform's list: followed then, and we were not told", "在平台列表中发现：当时已关注，但未收到通知";
    Missed: "missing from the platform's list: unfollowed, and we were not told", "平台列表中已不存在：已取消关注，但未收到通知";
    Scanned: "scanned a QR code", "扫描二维码";
    Clicked: "clicked the menu", "点击菜单";
    Message: "wrote a message", "发来消息";
    Consents: "allowed or refused subscription notices", "同意或拒绝订阅通知";
    Report: "the platform's report on a message", "平台的消息报告";
    Other: "another event", "其他事件";
    WordFollowed: "a follow", "关注";
    WordScanned: "a scan", "扫码";
    WordClicked: "a menu click", "菜单点击";
    WordMessage: "a message", "消息";
    Or: " or ", "或";
    ByUnfollow: "the follower unfollowed", "粉丝取消关注";
    ByReconciliation: "the platform's list has the follower no more", "平台列表中已没有该粉丝";
    ByErasure: "what was known of the person was erased", "该用户的信息已删除";
    ByHand: "by hand", "人工取消";
    ByReentry: "the follower entered the sequence again", "粉丝重新进入序列";
    ByNotFollowing: "the person does not follow", "对方未关注";
    ByPlatform: "the platform says that the person does not follow", "平台表示对方未关注";
    ByExit: "the sequence ends with this event: {event}", "序列在此事件后结束：{event}";
    QuietHours: "quiet hours", "免打扰时段";
    WhenFalse: "its condition is false", "条件不成立";
    LateBy: "it came {span} late", "迟到 {span}";
    ClosedSkip: "no grant was open, and the sequence says to skip", "没有可用许可，按序列设置跳过";
}

impl Phrase {
    /// The sentence with its values put in. A gap without a value stays as it is, so that a
    /// mistake shows.
    pub fn say(self, lang: Lang, values: &[(&str, &str)]) -> String {
        let (en, zh) = self.both();
        let mut rest = lang.pick(en, zh);
        let mut said = String::with_capacity(rest.len() + 32);
        // One pass, so that braces inside a value are never taken for a gap.
        while let Some((before, behind)) = rest.split_once('{') {
            said.push_str(before);
            let Some((name, after)) = behind.split_once('}') else {
                break;
            };
            match values.iter().find(|(gap, _)| *gap == name) {
                Some((_, value)) => said.push_str(value),
                None => {
                    said.push('{');
                    said.push_str(name);
                    said.push('}');
                }
            }
            rest = after;
        }
        said.push_str(rest);
        said
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::journey::enrollment::State;
    use crate::journey::outcome::Outcome;

    fn gaps(text: &str) -> BTreeSet<&str> {
        let parts = text.split('{').skip(1);
        parts.filter_map(|part| part.split('}').next()).collect()
    }

    #[test]
    fn both_languages_say_every_sentence_with_the_same_gaps() {
        for phrase in Phrase::ALL {
            let (en, zh) = phrase.both();
            assert!(!en.is_empty() && !zh.is_empty(), "{phrase:?}");
            assert_eq!(gaps(en), gaps(zh), "{phrase:?}");
            assert!(!zh.is_ascii(), "{phrase:?} is not in Chinese");
        }
    }

    #[test]
    fn braces_inside_a_value_are_not_a_gap() {
        let values = [("reason", "{span}"), ("span", "never")];
        assert_eq!(Phrase::Skipped.say(Lang::En, &values), "left out: {span}");
    }

    #[test]
    fn every_state_and_outcome_has_a_chinese_word() {
        let outcomes = Outcome::ALL.map(Outcome::word);
        let states = State::ALL.map(State::word);
        let points = ["planned", "due", "sending"];
        for word in outcomes.iter().chain(&states).chain(&points) {
            assert_eq!(state(word, Lang::En), *word);
            assert!(!state(word, Lang::Zh).is_ascii(), "{word}");
        }
    }

    #[test]
    fn a_language_is_known_by_the_beginning_of_its_tag() {
        for (tag, lang) in [
            ("zh_CN", Some(Lang::Zh)),
            ("zh-Hant;q=0.8", Some(Lang::Zh)),
            ("EN", Some(Lang::En)),
            ("fr", None),
            ("", None),
        ] {
            assert_eq!(Lang::of_tag(tag), lang, "{tag}");
        }
    }
}
