//! The steps of the check, one after another against one group.
//!
//! A step that fails does not end the check: what comes after is looked at all the same, so that
//! one run tells everything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::groups::{TESTER, TestAccount};
use super::reply::{Addressed, excerpt, text_of};
use super::{ConformanceOptions, ConformanceStep, ConformanceVerdict};
use crate::clock::Timestamp;
use crate::sandbox::carrier::Carrier;
use crate::sandbox::component::{AuthorizerKind, Component, ComponentAccount, Parcel, post};
use crate::sandbox::control::ControlError;
use crate::sandbox::event::{Action, Event, Push};
use crate::sandbox::fields::cdata;
use crate::sandbox::grant::Cause;
use crate::sandbox::record::SentWithBody;
use crate::sandbox::settings::{Format, Profile};
use crate::sandbox::{Account, World};

/// What the platform writes, and what it wants to read.
const TEXT: &str = "TESTCOMPONENT_MSG_TYPE_TEXT";
const EVENT: &str = "LOCATION";
/// Between two looks at what the server did.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Calls looked at after one push.
const CALLS_MAX: usize = 100;

/// A group's check under way.
pub(super) struct Check<'a, F> {
    pub(super) world: &'a Arc<World>,
    pub(super) component: &'a Component,
    pub(super) options: &'a ConformanceOptions,
    pub(super) group: u8,
    pub(super) verdicts: Vec<ConformanceVerdict>,
    pub(super) told: &'a mut F,
}

impl<F: FnMut(&ConformanceVerdict)> Check<'_, F> {
    fn conclude(
        &mut self,
        step: ConformanceStep,
        account: Option<&TestAccount>,
        expected: &str,
        seen: Result<String, String>,
        elapsed: Duration,
    ) {
        let verdict = ConformanceVerdict {
            group: self.group,
            step,
            account: account.map(|account| account.app_id),
            kind: account.map(|account| account.kind),
            passed: seen.is_ok(),
            expected: expected.to_owned(),
            seen: seen.unwrap_or_else(|seen| seen),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        };
        (self.told)(&verdict);
        self.verdicts.push(verdict);
    }

    /// Step 1: a ticket, answered `success`.
    pub(super) async fn ticket(&mut self) {
        let started = Instant::now();
        let pushed = self.component.push_ticket(self.world).await;
        let seen = bare_success(pushed.attempts.last());
        let expected = "the bare string `success` within 5 s";
        let elapsed = started.elapsed();
        self.conclude(ConformanceStep::Ticket, None, expected, seen, elapsed);
    }

    /// Steps 2 and 3 against an official account, step 4 against a mini program.
    pub(super) async fn account(&mut self, test: &TestAccount) -> Result<(), ControlError> {
        let world: &World = self.world;
        let account = test_account(world, test)?;
        // Authorized first, as at the platform, whose text step speaks for an authorized account.
        let code = self.authorized(test, account).await?;
        if test.kind == AuthorizerKind::OfficialAccount {
            self.passive(test, account, ConformanceStep::TextReply)
                .await;
        }
        self.by_api(test, account, &code).await;
        if test.kind == AuthorizerKind::OfficialAccount && self.options.legacy {
            self.passive(test, account, ConformanceStep::EventReply)
                .await;
        }
        Ok(())
    }

    /// The test account authorizes the component anew; the code that it brings.
    async fn authorized(
        &mut self,
        test: &TestAccount,
        account: &Account,
    ) -> Result<Arc<str>, ControlError> {
        let world = self.world;
        // Of an earlier run, if there was one; nobody is told.
        world.take_back(self.component, account).ok();
        let (event, code, _) = world.consent(self.component, account, test.sets(), "")?;
        // Some servers exchange it when they hear of it and again when the tester writes it. The
        // check is passed that way as well, so each exchange is answered.
        self.component.free_code(&code);
        let started = Instant::now();
        let pushed = self.component.push_up_to(world, &event, 1).await;
        self.conclude(
            ConformanceStep::Authorized,
            Some(test),
            "the bare string `success` within 5 s",
            bare_success(pushed.attempts.last()),
            started.elapsed(),
        );
        Ok(code)
    }

    /// Pushes a body to the message URL once.
    async fn push(
        &self,
        test: &TestAccount,
        xml: &str,
    ) -> (Result<(u16, String), String>, Duration) {
        let started = Instant::now();
        let Some(to) = self.component.message_recipient(test.app_id) else {
            return (Err("the message URL is none".to_owned()), started.elapsed());
        };
        let parcel = Parcel {
            beside: ("ToUserName", test.original_id),
            xml,
            openid: Some(TESTER),
        };
        let answer = post(self.world, &to, &parcel).await;
        (answer, started.elapsed())
    }

    /// A text or an event that must be answered by a passive reply.
    async fn passive(&mut self, test: &TestAccount, account: &Account, step: ConformanceStep) {
        let (xml, wanted) = if step == ConformanceStep::EventReply {
            (
                location_xml(test, self.world.clock.now()),
                format!("{EVENT}from_callback"),
            )
        } else {
            (
                self.text_xml(test, account, TEXT),
                format!("{TEXT}_callback"),
            )
        };
        let (answer, elapsed) = self.push(test, &xml).await;
        let addressed = Addressed {
            account: test.original_id,
            tester: TESTER,
        };
        let to = self.component.message_recipient(test.app_id);
        let seen = match (answer, to) {
            (Ok((status, body)), Some(to)) => {
                text_of(&to, addressed, status, &body).and_then(|text| {
                    if text == wanted {
                        Ok(format!("`{text}`"))
                    } else {
                        Err(format!("a reply that says `{}`", excerpt(&text)))
                    }
                })
            }
            (Err(error), _) => Err(error),
            (Ok(_), None) => Err("the message URL is none".to_owned()),
        };
        let expected = format!("an encrypted passive reply `{wanted}` within 5 s");
        self.conclude(step, Some(test), &expected, seen, elapsed);
    }

    /// The tester writes the code; the server answers nothing, exchanges it, and answers by the API.
    async fn by_api(&mut self, test: &TestAccount, account: &Account, code: &str) {
        let world = self.world;
        let before = world.record.last_seq();
        let xml = self.text_xml(test, account, &format!("QUERY_AUTH_CODE:{code}"));
        let (answer, elapsed) = self.push(test, &xml).await;
        let seen = match answer {
            Err(error) => Err(error),
            Ok((200, body)) if body.is_empty() => Ok("an empty string".to_owned()),
            Ok((status, body)) => Err(format!("status {status}: `{}`", excerpt(&body))),
        };
        let expected = "status 200 and an empty string within 5 s";
        self.conclude(
            ConformanceStep::CodeText,
            Some(test),
            expected,
            seen,
            elapsed,
        );

        let started = Instant::now();
        let give_up_at = started + self.options.send_within;
        while self.component.uses_of(code) == 0 && Instant::now() < give_up_at {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let seen = match self.component.uses_of(code) {
            0 => Err("no call that brought a token".to_owned()),
            uses => Ok(format!("exchanged {uses}×")),
        };
        self.conclude(
            ConformanceStep::QueryAuth,
            Some(test),
            "api_query_auth with the code from the text",
            seen,
            started.elapsed(),
        );

        let wanted = format!("{code}_from_api");
        let mut seen = self.judge_sent(test, account, code, before);
        while seen.is_err() && Instant::now() < give_up_at {
            tokio::time::sleep(LOOK_AGAIN).await;
            seen = self.judge_sent(test, account, code, before);
        }
        self.conclude(
            ConformanceStep::ApiText,
            Some(test),
            &format!("custom/send of `{wanted}` to the tester, with the token of that answer"),
            seen,
            started.elapsed(),
        );
    }

    /// Whether the wanted message is among the calls after `before`.
    fn judge_sent(
        &self,
        test: &TestAccount,
        account: &Account,
        code: &str,
        before: u64,
    ) -> Result<String, String> {
        let calls = self.world.record.after(before, CALLS_MAX, |sent| {
            // A token that is not taken names no account, and another openid no tester.
            let is_here = *sent.account == *test.app_id || *sent.openid == *TESTER;
            is_here && sent.carrier == Carrier::CustomerMessage
        });
        let wanted = format!("{code}_from_api");
        let mut wrong = None;
        for call in &calls {
            let text = content_of(call);
            if text.as_deref() != Some(&wanted) || *call.sent.openid != *TESTER {
                let text = text.unwrap_or_default();
                let openid = excerpt(&call.sent.openid);
                wrong = Some(format!("a message `{}` to `{openid}`", excerpt(&text)));
            } else if call.sent.errcode != 0 {
                let code = call.sent.errcode;
                wrong = Some(format!("the right message, refused with errcode {code}"));
            } else if self.world.sends_by_code(account.index, code).0 == 0 {
                wrong = Some("the right message, with a token of another origin".to_owned());
            } else {
                return Ok("the message, with the token of that answer".to_owned());
            }
        }
        Err(wrong.unwrap_or_else(|| "no message".to_owned()))
    }

    /// A text of the tester; what a written message allows is open before it is pushed.
    fn text_xml(&self, test: &TestAccount, account: &Account, text: &str) -> String {
        let at = Timestamp::from_seconds(self.world.clock.now().seconds());
        let rule = account.grant_rule();
        account.followers.allow(TESTER, rule, Cause::Message, at);
        let event = Event::Acted(Action::Text {
            text: text.to_owned(),
        });
        let push = Push {
            original_id: test.original_id,
            openid: TESTER,
            at,
            event: &event,
            msg_id: account.msg_id(),
            picture_url: "",
            media_id: "",
        };
        push.body(Format::Xml)
    }
}

/// The verdict on an event's answer.
fn bare_success(attempt: Option<&crate::sandbox::Attempt>) -> Result<String, String> {
    let attempt = attempt.ok_or("it was not pushed")?;
    let status = (attempt.status).map_or_else(String::new, |status| format!("status {status}: "));
    match &attempt.error {
        None => Ok("`success`".to_owned()),
        Some(_) if attempt.status.is_some() => {
            Err(format!("{status}`{}`", excerpt(&attempt.answer)))
        }
        Some(error) => Err(error.clone()),
    }
}

/// The test account, with a tester who follows it.
fn test_account<'w>(world: &'w World, test: &TestAccount) -> Result<&'w Account, ControlError> {
    let account = match world.account(test.app_id) {
        Some(account) => account,
        None => world.add_account(&ComponentAccount {
            app_id: test.app_id.to_owned(),
            original_id: Some(test.original_id.to_owned()),
            name: "全网发布检测".to_owned(),
            kind: test.kind,
            profile: Profile::Wechat2023,
        })?,
    };
    // Both are no news when the account was checked before.
    account.followers.add(TESTER, "tester", "zh_CN");
    let (rule, now) = (account.grant_rule(), world.clock.now());
    account.followers.follow(TESTER, rule, None, now);
    Ok(account)
}

fn location_xml(test: &TestAccount, at: Timestamp) -> String {
    format!(
        "<xml><ToUserName>{}</ToUserName><FromUserName>{}</FromUserName>\
         <CreateTime>{}</CreateTime><MsgType>{}</MsgType><Event>{}</Event>\
         <Latitude>23.137466</Latitude><Longitude>113.352425</Longitude>\
         <Precision>119.385040</Precision></xml>",
        cdata(test.original_id),
        cdata(TESTER),
        at.seconds(),
        cdata("event"),
        cdata(EVENT)
    )
}

/// The text of a custom/send call.
fn content_of(call: &SentWithBody) -> Option<String> {
    let body: Value = serde_json::from_str(call.body.as_deref()?).ok()?;
    let is_text = body["msgtype"] == "text";
    let content = body["text"]["content"].as_str()?;
    is_text.then(|| content.to_owned())
}
