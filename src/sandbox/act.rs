//! What followers do: the platform changes first, then the account is told.
//!
//! An act that is not told is what an account misses while the platform cannot reach it.

use std::sync::Arc;

use super::callback::{self, Pushed};
use super::chat::Author;
use super::control::{Control, ControlError};
use super::event::{Action, Event, PopupAnswer};
use super::followers::Follower;
use super::media::MediaKind;
use super::message::Shown;
use super::rules::TemplateKind;
use super::{Account, page};
use crate::clock::Timestamp;

/// Bytes of anything a follower writes or taps.
const WRITTEN_BYTES_MAX: usize = 8 * 1024;
/// Templates in one window; the platform's page allows five in an article.
const POPUP_TEMPLATES_MAX: usize = 5;
/// Notices of one template that a follower agreed to ahead.
const CONSENTS_MAX: u32 = 1_000;
/// Templates that one follower agreed to.
const CONSENTED_TEMPLATES_MAX: usize = 100;

impl Control {
    /// Lets a follower do something and pushes it to the account; returns when the account has
    /// answered or the platform has given up.
    pub async fn act(
        &self,
        app_id: &str,
        openid: &str,
        action: Action,
    ) -> Result<Pushed, ControlError> {
        let world = self.world();
        let account = self.account(app_id)?;
        let at = self.instant();
        let (openid, action) = self.change(account, openid, action, at)?;
        let has_left = action == Action::Unfollow;
        let pushed = callback::push(world, account, &openid, &Event::Acted(action), at).await;
        // Whoever left sees no complaint.
        if !pushed.accepted && !pushed.dropped && !has_left {
            let (index, openid) = (account.index, Arc::clone(&openid));
            let now = world.clock.now();
            let shown = Shown::Unavailable;
            world.chats.add(index, openid, Author::Phone, shown, now);
        }
        world.changed(account.index, &openid);
        Ok(pushed)
    }

    /// Lets a follower do something of which the account hears nothing, as while the platform
    /// cannot reach it.
    pub fn act_silently(
        &self,
        app_id: &str,
        openid: &str,
        action: Action,
    ) -> Result<(), ControlError> {
        let account = self.account(app_id)?;
        self.change(account, openid, action, self.instant())?;
        Ok(())
    }

    /// Now as it is sent, in whole seconds, which is also what grants count from.
    fn instant(&self) -> Timestamp {
        Timestamp::from_seconds(self.world().clock.now().seconds())
    }

    /// What an act changes on the platform, before anybody is told.
    fn change(
        &self,
        account: &Account,
        openid: &str,
        action: Action,
        at: Timestamp,
    ) -> Result<(Arc<str>, Action), ControlError> {
        let (openid, follower) = account
            .followers
            .get(openid)
            .ok_or(ControlError::NoFollower)?;
        let action = self.complete(account, &follower, action)?;
        let rule = account.grant_rule();
        match &action {
            Action::Follow { scene } => {
                if !account
                    .followers
                    .follow(&openid, rule, scene.as_deref(), at)
                {
                    return Err(ControlError::AlreadyFollowing);
                }
            }
            Action::Unfollow => {
                if !account.followers.unfollow(&openid) {
                    return Err(ControlError::NotFollowing);
                }
                account.tags.clear(follower.ordinal);
            }
            _ if !follower.following => return Err(ControlError::NotFollowing),
            Action::Popup { answers, .. } => agree(account, &openid, answers)?,
            Action::Withdraw { template_ids } => {
                account.followers.with(&openid, |follower| {
                    for id in template_ids {
                        follower.consents.remove(id.as_str());
                    }
                });
            }
            other => {
                if let Some(cause) = other.cause() {
                    account.followers.allow(&openid, rule, cause, at);
                }
            }
        }
        let (author, shown) = match &action {
            Action::Text { text } | Action::Tap { text, .. } => (
                Author::Follower,
                Shown::Text {
                    content: text.clone(),
                },
            ),
            Action::Image { media_id } => {
                let media_id = media_id.clone().unwrap_or_default();
                (Author::Follower, Shown::Image { media_id })
            }
            action => (
                Author::Phone,
                Shown::Did {
                    action: action.clone(),
                },
            ),
        };
        self.world()
            .chats
            .add(account.index, Arc::clone(&openid), author, shown, at);
        self.world().changed(account.index, &openid);
        Ok((openid, action))
    }

    /// Checks an action and fills in what it leaves open.
    fn complete(
        &self,
        account: &Account,
        follower: &Follower,
        action: Action,
    ) -> Result<Action, ControlError> {
        let written: Vec<&str> = match &action {
            Action::Text { text } | Action::Tap { text, .. } => vec![text],
            Action::Click { key } => vec![key],
            Action::Scan { scene } | Action::Follow { scene: Some(scene) } => vec![scene],
            Action::Follow { scene: None } | Action::Unfollow | Action::Image { .. } => vec![],
            Action::Popup { answers, .. } => {
                let ids = answers.iter().map(|answer| answer.template_id.as_str());
                bounded(ids.collect())?
            }
            Action::Withdraw { template_ids } => {
                bounded(template_ids.iter().map(String::as_str).collect())?
            }
        };
        let is_short = |text: &&str| !text.is_empty() && text.len() <= WRITTEN_BYTES_MAX;
        if !written.iter().all(is_short) {
            return Err(ControlError::Invalid("write 1 to 8192 bytes"));
        }
        // Controls have no form in XML 1.0, so no phone can send them.
        let is_control = |character: char| character.is_control() && !"\n\r\t".contains(character);
        if written.iter().any(|text| text.chars().any(is_control)) {
            return Err(ControlError::Invalid("control characters cannot be sent"));
        }
        match action {
            Action::Scan { scene } if !follower.following => {
                Ok(Action::Follow { scene: Some(scene) })
            }
            Action::Image { media_id } if follower.following => {
                let now = self.world().clock.now();
                let media_id = match media_id {
                    Some(id) if self.world().shelf.get(&id, now).is_some() => id,
                    Some(_) => return Err(ControlError::NoPicture),
                    None => self
                        .world()
                        .shelf
                        .upload(account.index, MediaKind::Image, page::picture(), now)
                        .map_err(|_| ControlError::Invalid("the sandbox holds too many files"))?,
                };
                Ok(Action::Image {
                    media_id: Some(media_id),
                })
            }
            action => Ok(action),
        }
    }
}

/// Whether so many templates can be named at once.
fn bounded(ids: Vec<&str>) -> Result<Vec<&str>, ControlError> {
    if ids.is_empty() || ids.len() > POPUP_TEMPLATES_MAX {
        return Err(ControlError::Invalid("name 1 to 5 templates"));
    }
    Ok(ids)
}

/// Enters what a follower agreed to: each consent is good for one notice. A refusal takes back none
/// that was given before, since it answers only this window.
fn agree(account: &Account, openid: &str, answers: &[PopupAnswer]) -> Result<(), ControlError> {
    for answer in answers {
        let rules = &account.settings.rules;
        if rules
            .template(&answer.template_id, TemplateKind::Subscription)
            .is_err()
        {
            return Err(ControlError::Invalid(
                "the account has no such subscription",
            ));
        }
    }
    let agreed = account.followers.with(openid, |follower| {
        for answer in answers.iter().filter(|answer| answer.accept) {
            let is_new = !follower.consents.contains_key(answer.template_id.as_str());
            if is_new && follower.consents.len() >= CONSENTED_TEMPLATES_MAX {
                return Err(ControlError::Invalid("they agreed to too many templates"));
            }
            let id = answer.template_id.as_str().into();
            let left: &mut u32 = follower.consents.entry(id).or_default();
            *left = (*left + 1).min(CONSENTS_MAX);
        }
        Ok(())
    });
    agreed.unwrap_or(Err(ControlError::NoFollower))
}
