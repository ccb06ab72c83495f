//! The one step of the platform's check before 全网发布 that needs its API: a code written by the
//! tester is exchanged, and answered by a customer message with the token that it brought.
//!
//! Source: the platform's page 全网发布接入检测说明 (releases instructions).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Authorization, Registrar};
use crate::sender::platform::Answer;
use crate::sender::wechat::SEND;
use crate::sender::wechat::wire::hide;

/// `user limited` and `code is invalid`: the check's own weakness, then the code that came with the
/// announcement works.
const CODE_REFUSED: [i64; 2] = [50002, 61009];

/// System errors, which the check is known for.
const SYSTEM_ERRORS: [i64; 2] = [-1, -1000];
const TRIES: u32 = 3;

/// How long the announcement's code is waited for.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a tester wrote to a test account.
#[derive(Clone, Debug)]
pub struct CheckQuestion {
    pub app_id: String,
    pub openid: String,
    /// What followed `QUERY_AUTH_CODE:`.
    pub code: SecretString,
}

impl Registrar {
    /// Answers by the API. What goes wrong is logged: nobody waits for it but the check.
    pub async fn answer_check(&self, question: &CheckQuestion) {
        match self.try_answer(question).await {
            Ok(()) => tracing::info!(authorizer = question.app_id, "the check was answered"),
            Err(answer) => tracing::warn!(
                authorizer = question.app_id,
                reason = answer.detail,
                "the check was not answered"
            ),
        }
    }

    async fn try_answer(&self, question: &CheckQuestion) -> Result<(), Answer> {
        let authorization = self.authorization(question).await?;
        let component = &self.component.0;
        let body = json!({
            "touser": question.openid,
            "msgtype": "text",
            "text": { "content": format!("{}_from_api", question.code.expose_secret()) },
        });
        let body = body.to_string().into_bytes();
        let token = &authorization.token.value;
        let mut tries = 0;
        loop {
            tries += 1;
            let deadline = Instant::now() + component.settings.attempt_timeout;
            let written = Arc::new(AtomicBool::new(false));
            let posted = component
                .wire
                .post(SEND, Some(token), body.clone(), deadline, &written);
            let reply = posted
                .await
                .map_err(|silence| hide(silence.harmless("check"), token))?;
            match reply.code {
                Some(0) => return Ok(()),
                Some(code) if SYSTEM_ERRORS.contains(&code) && tries < TRIES => {
                    sleep(Duration::from_secs(1 << (tries - 1))).await;
                }
                _ => return Err(hide(hide(reply.answer("check"), token), &question.code)),
            }
        }
    }

    /// What the written code brings; where the platform refuses it, what the announced one brings.
    async fn authorization(&self, question: &CheckQuestion) -> Result<Authorization, Answer> {
        let give_up_at = Instant::now() + ANNOUNCED_WITHIN;
        let mut code = question.code.clone();
        let mut tried = Vec::new();
        loop {
            let refused = match self.component.query_auth(code.expose_secret()).await {
                Err(answer) if answer.code.is_some_and(|code| CODE_REFUSED.contains(&code)) => {
                    answer
                }
                asked => return asked,
            };
            tried.push(code);
            code = loop {
                let announced = self.test_codes.get(&question.app_id);
                let is_new = |code: &SecretString| {
                    let same = |old: &SecretString| old.expose_secret() == code.expose_secret();
                    !tried.iter().any(same)
                };
                if let Some(code) = announced.filter(is_new) {
                    break code;
                }
                if Instant::now() >= give_up_at {
                    return Err(refused);
                }
                sleep(LOOK_AGAIN).await;
            };
        }
    }
}
