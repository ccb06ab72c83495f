//! What a person has to do about each code that stops an account: data, in English and Chinese.
//!
//! Sources: the platform's page "return codes" and the places of its console that it names.

/// What to do about a code that needs a person; `None` for a code that needs nobody.
pub fn advice(code: i64) -> Option<(&'static str, &'static str)> {
    let found = ADVICE.iter().find(|(codes, ..)| codes.contains(&code));
    found.map(|(_, en, zh)| (*en, *zh))
}

/// Codes, and what to do about them.
#[rustfmt::skip]
const ADVICE: &[(&[i64], &str, &str)] = &[
    (&[40001, 40125, 41004],
     "The app secret is wrong: copy it anew from the platform's console into `app_secret` and restart.",
     "AppSecret 不正确：请从公众平台重新复制到 `app_secret` 并重启。"),
    (&[40002, 40013, 41002],
     "The app id is wrong: compare `app_id` with the platform's console.",
     "AppID 不正确：请与公众平台核对 `app_id`。"),
    (&[40164, 45035, 61004],
     "This server's address is not on the account's IP list: add the address that the message names, in the platform's console.",
     "服务器 IP 不在白名单：请在公众平台把提示中的 IP 加入白名单。"),
    (&[42007],
     "The account's password was changed and its tokens are void: authorize the account again.",
     "公众号修改了密码，令牌失效：请重新授权。"),
    (&[48001, 61007],
     "The account may not use this interface: verify the account, or have it grant the permission.",
     "公众号没有该接口权限：请完成认证，或重新授权相应权限集。"),
    (&[48003],
     "The administrator has to accept the agreement on mass sending in the platform's console.",
     "请管理员在公众平台同意群发协议。"),
    (&[48004],
     "The platform has forbidden the interface for a violation: read its notice in the platform's console, and do not try on.",
     "接口因违规被封禁：请查看公众平台通知，不要继续重试。"),
    (&[50002],
     "The account is limited or frozen: log in to the platform's console and follow its notice.",
     "账号受限或冻结：请登录公众平台按通知处理。"),
    (&[53500],
     "The account may not publish: read the platform's notice.",
     "账号被禁止发布：请查看公众平台通知。"),
    (&[61003, 61011, 61023],
     "The account's authorization is gone: have its owner authorize it again.",
     "授权已失效：请账号所有者重新授权。"),
    (&[61016, 61017],
     "A set of permissions is not granted or not confirmed: have the owner authorize it anew.",
     "权限集未授权或未确认：请重新授权。"),
    (&[61014, 61024, 41001, 43002, 43003],
     "The platform does not understand our call: report this as a bug, with the log's line.",
     "平台不接受该调用：请附日志报告缺陷。"),
    (&[87009],
     "The platform refuses the call's signature: check whether the account wants signed calls.",
     "签名无效：请检查账号是否开启了 API 签名。"),
    (&[89501, 89503],
     "The administrator has to confirm this server's address: the platform has sent a request to confirm it.",
     "请管理员确认服务器 IP（平台已发送确认请求）。"),
    (&[89506, 89507],
     "The administrator has refused this server's address: ask for it, and wait an hour or a day before trying again.",
     "管理员拒绝了服务器 IP：请联系管理员，一小时或一天后再试。"),
    (&[45009],
     "The day's calls are used up: they are counted anew at the reset hour, or clear the quotas.",
     "当日调用次数用尽：等到重置时间，或清零额度。"),
];

#[cfg(test)]
mod tests {
    use super::super::codes::TABLE;
    use super::super::errcode::Reaction;
    use super::*;
    use crate::sender::platform::AnswerClass;

    #[test]
    fn whoever_is_asked_to_act_is_told_what_to_do() {
        for (code, reaction, words) in TABLE {
            if *reaction == Reaction::Settle(AnswerClass::NeedsAttention) {
                assert!(advice(*code).is_some(), "{code} {words} has no advice");
            }
        }
        let mut codes: Vec<_> = ADVICE.iter().flat_map(|(codes, ..)| codes.iter()).collect();
        let all = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all, "a code has one advice");
    }
}
