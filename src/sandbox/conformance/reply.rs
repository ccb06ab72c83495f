//! What a server answered to a push, held against a passive reply: signed, encrypted for the
//! component, addressed back, and with the wanted text.

use crate::sandbox::answer::open;
use crate::sandbox::callback::Recipient;
use crate::sandbox::reply::Reply;

/// Characters of an answer that a verdict repeats.
const EXCERPT_CHARS: usize = 120;

/// Who a reply must be from and to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addressed<'a> {
    pub(super) account: &'a str,
    pub(super) tester: &'a str,
}

/// The beginning of an answer, in one line.
pub(super) fn excerpt(body: &str) -> String {
    let line = body.replace(['\n', '\r'], " ");
    let mut text: String = line.chars().take(EXCERPT_CHARS).collect();
    if line.chars().nth(EXCERPT_CHARS).is_some() {
        text.push('…');
    }
    text
}

/// The text of a passive reply, or what is wrong with the answer.
pub(super) fn text_of(
    to: &Recipient<'_>,
    addressed: Addressed<'_>,
    status: u16,
    body: &str,
) -> Result<String, String> {
    match body {
        _ if status != 200 => return Err(format!("status {status}: {}", excerpt(body))),
        "" => return Err("an empty answer, which shows the tester nothing".to_owned()),
        "success" => return Err("`success`, which shows the tester nothing".to_owned()),
        body if body.trim_start().starts_with('{') => {
            return Err("JSON: the callbacks of a third-party platform are XML".to_owned());
        }
        _ => {}
    }
    let reply = Reply::parse(body).ok_or_else(|| format!("no reply: {}", excerpt(body)))?;
    let encrypted = reply.get("Encrypt");
    let encrypted = encrypted.ok_or("a reply that is not encrypted")?;
    let (reply, _) = open(to, &reply, encrypted).map_err(|wrong| wrong.to_string())?;
    let part = |name: &str| reply.get(name).unwrap_or_default();
    if part("ToUserName") != addressed.tester || part("FromUserName") != addressed.account {
        return Err(format!(
            "a reply to `{}` from `{}`: ToUserName is the tester's openid, FromUserName the \
             account's original id",
            excerpt(part("ToUserName")),
            excerpt(part("FromUserName"))
        ));
    }
    if part("MsgType") != "text" {
        let kind = excerpt(part("MsgType"));
        return Err(format!("a reply with MsgType `{kind}`"));
    }
    let created_at = part("CreateTime");
    if created_at.is_empty() || !created_at.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a reply without a CreateTime in seconds".to_owned());
    }
    Ok(part("Content").to_owned())
}
