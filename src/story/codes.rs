//! What the platform's error codes mean to a person, for the codes that operators meet.
//!
//! Source: the platform's page of return codes. Deliberately absent: how codes are obeyed, which
//! `sender` decides, and codes whose own words say enough.

use crate::story::phrases::Lang;

#[rustfmt::skip]
const CODES: &[(i64, &str, &str)] = &[
    (-1, "the platform was busy", "系统繁忙"),
    (40001, "the access token or the app secret is not valid", "access_token 或 AppSecret 无效"),
    (40003, "the openid is not one of this account", "openid 不属于该公众号"),
    (40007, "the media id is not valid or has been forgotten", "media_id 无效或已过期"),
    (40013, "the app id is not valid", "AppID 无效"),
    (40125, "the app secret is not valid", "AppSecret 无效"),
    (40164, "this machine's address is not on the account's list", "本机 IP 不在白名单"),
    (42001, "the access token has expired", "access_token 已过期"),
    (43004, "the person does not follow", "对方未关注"),
    (43019, "the account has blacklisted the person", "对方在公众号黑名单中"),
    (45009, "the day's calls are used up", "当日调用次数已用完"),
    (45011, "the minute's calls are used up", "每分钟调用次数已用完"),
    (45015, "the follower's last act is too long ago, or the person unfollowed", "距粉丝上次互动已超时，或已取消关注"),
    (45047, "as many messages were sent as the follower's last act allows", "粉丝上次互动允许的条数已用完"),
    (48001, "the account may not use this interface", "公众号没有该接口权限"),
    (48002, "the follower blocks messages", "粉丝屏蔽了消息"),
    (48004, "the platform has banned this interface for the account", "接口因违规被封禁"),
    (50002, "the account is frozen", "账号被冻结"),
    (50005, "the person does not follow", "对方未关注"),
];

/// What a code means; `None` for codes that are not explained.
pub fn meaning(code: i64, lang: Lang) -> Option<&'static str> {
    let place = CODES
        .binary_search_by_key(&code, |(code, _, _)| *code)
        .ok()?;
    let (_, en, zh) = CODES[place];
    Some(lang.pick(en, zh))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_explained_in_both_languages() {
        assert!(CODES.is_sorted_by(|a, b| a.0 < b.0));
        for (code, en, zh) in CODES {
            assert!(en.is_ascii() && !zh.is_ascii(), "{code}");
            assert_eq!(meaning(*code, Lang::En), Some(*en));
        }
        assert_eq!(meaning(123, Lang::Zh), None);
    }
}
