//! Questions to the platform that bring nothing to a follower: quotas, followers, tags.
//!
//! A token that the platform refuses is replaced once. Asking twice harms nobody, so a lost answer
//! is only a reason to ask again later, which is left to the caller.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::errcode::{Reaction, reaction};
use super::wire::{ANSWER_BYTES_MAX, exchange, hide};
use super::{WechatClient, in_time, used_up};
use crate::sender::budget::Interface;
use crate::sender::platform::{Answer, AnswerClass};

/// What is asked: an interface by its path, which begins with a slash.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    Get {
        path: &'a str,
        /// Beside the access token.
        query: &'a [(&'a str, &'a str)],
    },
    Post {
        path: &'a str,
        body: &'a Value,
    },
}

impl<'a> Question<'a> {
    fn path(self) -> &'a str {
        match self {
            Self::Get { path, .. } | Self::Post { path, .. } => path,
        }
    }
}

/// What the platform says, when its code is 0 or it gives none.
pub type Asked = Value;

impl WechatClient {
    /// Asks, and answers what the platform says.
    ///
    /// An interface that has no calls left is not asked: the error says until when.
    ///
    /// # Errors
    /// The platform's refusal with its code, or why there is no answer. Nothing in it is secret.
    pub async fn ask(&self, question: Question<'_>) -> Result<Asked, Answer> {
        self.ask_within(question, ANSWER_BYTES_MAX).await
    }

    /// As `ask`, for a question whose answer may be so many bytes long.
    ///
    /// # Errors
    /// As `ask`.
    pub async fn ask_within(
        &self,
        question: Question<'_>,
        bytes_max: usize,
    ) -> Result<Asked, Answer> {
        let deadline = Instant::now() + self.attempt_timeout;
        let mut token = in_time(deadline, self.tokens.current()).await?;
        let interface = Interface::of_path(question.path());
        if let Some(interface) = interface {
            let ready = self.budgets.take(interface);
            ready.map_err(|until| used_up(interface, until, None))?;
        }
        let mut renewed = false;
        loop {
            let written = Arc::new(AtomicBool::new(false));
            let asked = match question {
                Question::Get { path, query } => {
                    let access = ("access_token", token.value.expose_secret());
                    let query = [&[access], query].concat();
                    self.wire
                        .get_within(path, &query, deadline, bytes_max)
                        .await
                }
                Question::Post { path, body } => {
                    let body = body.to_string().into_bytes();
                    let access = Some(&token.value);
                    let post = self.wire.posted(path, access, body, &written);
                    exchange(post, deadline, bytes_max).await
                }
            };
            let doing = question.path();
            let reply = asked.map_err(|silence| hide(silence.harmless(doing), &token.value))?;
            if let Some(interface) = interface {
                self.budgets.answered(interface, reply.code);
            }
            match reply.code {
                None | Some(0) => return Ok(reply.fields),
                Some(code) if !renewed && reaction(code) == Reaction::RefreshToken => {
                    renewed = true;
                    let another = timeout_at(deadline, self.tokens.replace(&token)).await;
                    token = another.unwrap_or_else(|_| {
                        let words = "time was up before there was a new token";
                        Err(Answer::without_code(AnswerClass::RetrySoon, words))
                    })?;
                }
                Some(_) => return Err(hide(reply.answer(doing), &token.value)),
            }
        }
    }
}
