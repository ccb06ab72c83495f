//! WeCom's error codes, as far as service messages can meet them. Pure.
//!
//! Source: <https://developer.work.weixin.qq.com/document/path/90313> (全局错误码).

use crate::sender::platform::AnswerClass;

/// What a code asks of the client before, or instead of, telling the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// The answer's class, nothing else to do.
    Settle(AnswerClass),
    /// Renew the access token and send once more.
    RefreshToken,
    /// Forget the media id, upload once more and send once more.
    UploadAgain,
}

impl Reaction {
    /// The class when nothing more can be done about it.
    pub(super) fn class(self) -> AnswerClass {
        match self {
            Self::Settle(class) => class,
            Self::RefreshToken => AnswerClass::TokenStale,
            Self::UploadAgain => AnswerClass::Dropped,
        }
    }
}

/// What to do about a code. One that is not listed was still a refusal, so it is worth another attempt.
pub(super) fn reaction(code: i64) -> Reaction {
    Reaction::Settle(match code {
        // 不合法的access_token; access_token已过期
        40014 | 42001 => return Reaction::RefreshToken,
        // 不合法的media_id参数
        40007 => return Reaction::UploadAgain,
        // 接口调用超过限制
        45009 => AnswerClass::NextMinute,
        // 发送客服消息次数限制; 时间限制; 会话已经结束; the session is with a person
        95001 | 95002 | 95013 | 95018 => AnswerClass::GrantClosed,
        // Secret, corp id, token missing, permissions, address, service account, switches
        40001 | 40013 | 41001 | 48002 | 60011 | 60020 | 95000 | 95004 | 95012 | 95017 => {
            AnswerClass::NeedsAttention
        }
        // Type, size, message kind, body, person, content
        40004 | 40005 | 40006 | 40008 | 40009 | 40011 | 40033 | 40035 | 40058 | 40096 | 44004
        | 45002 | 47001 => AnswerClass::Dropped,
        _ => AnswerClass::RetrySoon,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_that_matter_have_their_class() {
        use AnswerClass::{
            Dropped, GrantClosed, NeedsAttention, NextMinute, RetrySoon, TokenStale,
        };
        for (code, class) in [
            (-1, RetrySoon),
            (45033, RetrySoon),
            (42001, TokenStale),
            (40007, Dropped),
            (45009, NextMinute),
            (95001, GrantClosed),
            (95002, GrantClosed),
            (40001, NeedsAttention),
            (40096, Dropped),
            (99_999, RetrySoon),
        ] {
            assert_eq!(reaction(code).class(), class, "{code}");
        }
    }
}
