//! Carriers beside the customer message: subscription notices, template messages and mass sends.
//!
//! Template messages and mass sends carry an id of ours by which the platform sends once however
//! often it is asked, so a lost answer is asked for again with the same id; only if that brings
//! nothing either is the outcome unknown. A subscription notice has no such id.
//!
//! Sources: the platform's pages "send template message" (`client_msg_id`, valid for ten minutes),
//! "send subscription notification" (`bizsend`) and "mass send by openid" (`clientmsgid`, 24 hours).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::errcode::{Reaction, Reply, reaction};
use super::wire::hide;
use super::{WechatClient, in_time, used_up};
use crate::journey::message::{Form, Message};
use crate::sender::budget::Interface;
use crate::sender::platform::{Answer, AnswerClass, Cohort};

/// Calls with one id, where the answers of the earlier ones were lost.
const CALLS_MAX: u32 = 3;

impl WechatClient {
    pub(super) async fn template(
        &self,
        openid: &str,
        form: &Form,
        message_id: &str,
    ) -> Result<Answer, Answer> {
        let mut body = form_body(openid, form, "url");
        body.insert("client_msg_id".into(), json!(message_id));
        self.carry(Interface::Template, &Value::Object(body), true)
            .await
    }

    pub(super) async fn notice(&self, openid: &str, form: &Form) -> Result<Answer, Answer> {
        let body = form_body(openid, form, "page");
        self.carry(Interface::SubscriptionNotice, &Value::Object(body), false)
            .await
    }

    pub(super) async fn mass(&self, cohort: &Cohort) -> Result<Answer, Answer> {
        let deadline = Instant::now() + self.attempt_timeout;
        let (kind, content) = match &cohort.message {
            Message::Text(text) => ("text", json!({ "content": text })),
            Message::Image(_) => {
                let ids = in_time(deadline, self.upload(&cohort.message)).await?;
                ("images", json!({ "media_ids": ids }))
            }
            Message::Voice(_) => {
                let ids = in_time(deadline, self.upload(&cohort.message)).await?;
                ("voice", json!({ "media_id": ids.first() }))
            }
            other => {
                let words = format!("a message of the kind {} cannot be mass sent", other.kind());
                return Err(Answer::without_code(AnswerClass::Unsendable, words));
            }
        };
        // The interface takes pictures as a list under another name than their kind.
        let msgtype = if kind == "images" { "image" } else { kind };
        let body = json!({
            "touser": cohort.openids,
            "msgtype": msgtype,
            kind: content,
            "clientmsgid": cohort.message_id,
        });
        self.carry(Interface::MassSend, &body, true).await
    }

    /// One message by one interface. `once` says that the body has an id by which the platform does
    /// it only once.
    async fn carry(
        &self,
        interface: Interface,
        body: &Value,
        once: bool,
    ) -> Result<Answer, Answer> {
        let deadline = Instant::now() + self.attempt_timeout;
        let (path, doing) = (interface.path(), interface.name());
        let ready = self.budgets.take(interface);
        ready.map_err(|until| used_up(interface, until, None))?;
        let body = body.to_string().into_bytes();
        let mut token = in_time(deadline, self.tokens.current()).await?;
        let (mut calls, mut renewed) = (0, false);
        loop {
            calls += 1;
            let written = Arc::new(AtomicBool::new(false));
            let access = Some(&token.value);
            let posted = self
                .wire
                .post(path, access, body.clone(), deadline, &written)
                .await;
            let reply = match posted {
                Ok(reply) => reply,
                Err(_) if once && calls < CALLS_MAX && Instant::now() < deadline => continue,
                Err(silence) => {
                    let left = calls > 1 || written.load(Ordering::SeqCst);
                    return Err(hide(silence.after_message(left, doing), &token.value));
                }
            };
            if !renewed && reply.code.map(reaction) == Some(Reaction::RefreshToken) {
                renewed = true;
                token = in_time(deadline, self.tokens.replace(&token)).await?;
                continue;
            }
            if let Some(until) = self.budgets.answered(interface, reply.code) {
                return Err(used_up(interface, until, reply.code));
            }
            let mut answer = hide(reply.answer(doing), &token.value);
            answer.reference = reference(&reply);
            return Ok(answer);
        }
    }
}

/// The platform's id of what it took, under the name that each interface gives it.
fn reference(reply: &Reply) -> Option<String> {
    let named = ["msgid", "msg_id"];
    let value = named.iter().find_map(|name| reply.fields.get(name))?;
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn form_body(openid: &str, form: &Form, link: &str) -> Map<String, Value> {
    let fields = form.data.iter();
    let data: Map<_, _> = fields
        .map(|(name, value)| (name.clone(), json!({ "value": value })))
        .collect();
    let mut body = Map::new();
    body.insert("touser".into(), json!(openid));
    body.insert("template_id".into(), json!(form.template));
    if let Some(url) = &form.url {
        body.insert(link.into(), json!(url));
    }
    if let Some(page) = &form.mini_program {
        let page = json!({ "appid": page.app_id, "pagepath": page.path });
        body.insert("miniprogram".into(), page);
    }
    body.insert("data".into(), Value::Object(data));
    body
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::journey::message::MiniProgram;

    #[test]
    fn forms_have_the_official_shapes() {
        let form = Form {
            template: "TEMPLATE_ID".into(),
            url: Some("http://weixin.qq.com/download".into()),
            mini_program: Some(MiniProgram {
                app_id: "APPID".into(),
                path: "index?foo=bar".into(),
            }),
            data: BTreeMap::from([("keyword1".to_owned(), "巧克力".to_owned())]),
        };
        let expected = json!({
            "touser": "OPENID",
            "template_id": "TEMPLATE_ID",
            "url": "http://weixin.qq.com/download",
            "miniprogram": { "appid": "APPID", "pagepath": "index?foo=bar" },
            "data": { "keyword1": { "value": "巧克力" } },
        });
        assert_eq!(Value::Object(form_body("OPENID", &form, "url")), expected);
        let notice = Value::Object(form_body("OPENID", &form, "page"));
        assert_eq!(notice["page"], "http://weixin.qq.com/download");
        assert_eq!(notice.get("url"), None);
    }

    #[test]
    fn the_id_of_a_message_is_read_from_either_name() {
        let read = |text: &str| reference(&Reply::parse(text.as_bytes()).unwrap());
        let template = r#"{"errcode":0,"errmsg":"ok","msgid":200228332}"#;
        assert_eq!(read(template).as_deref(), Some("200228332"));
        let mass = r#"{"errcode":0,"errmsg":"send job submission success","msg_id":34182}"#;
        assert_eq!(read(mass).as_deref(), Some("34182"));
        assert_eq!(read(r#"{"errcode":0,"errmsg":"ok"}"#), None);
    }
}
