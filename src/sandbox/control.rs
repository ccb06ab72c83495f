//! The control handle: lets people appear and act, sets faults, and tells what really happened.
//!
//! The HTTP control API (`routes`) and the page are thin layers over it; tests and the demo use it
//! in process. What followers do is in `act`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::callback::{self, Attempt};
use super::chat::ChatLine;
use super::fault::{CALLBACK, Fault, FaultKind, FaultState};
use super::followers::Follower;
use super::media::Media;
use super::quota::{Api, QuotaState};
use super::record::SentWithBody;
use super::settings::{Format, Mode};
use super::{Account, World, component, lock, random};
use crate::clock::Timestamp;

/// People per request.
const FOLLOWERS_MAX: usize = 1_000_000;
/// Openids that an answer names.
const OPENIDS_NAMED_MAX: usize = 10_000;
/// Lines of one chat.
const CHAT_LINES_MAX: usize = 100;

/// Why the sandbox did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ControlError {
    #[error("no account has this app id")]
    NoAccount,
    #[error("no component has this app id")]
    NoComponent,
    #[error("nobody has this openid: add a follower first")]
    NoFollower,
    #[error("this openid is taken, or the sandbox is full")]
    NotAdded,
    #[error("they follow already")]
    AlreadyFollowing,
    #[error("they do not follow: let them follow first")]
    NotFollowing,
    #[error("no such picture: upload it first")]
    NoPicture,
    #[error("{0}")]
    Invalid(&'static str),
}

/// People to add. They do not follow yet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewFollowers {
    /// App id.
    pub account: String,
    /// For one person only; made up when absent.
    pub openid: Option<String>,
    /// `zh_CN` when absent.
    pub language: Option<String>,
    pub name: Option<String>,
    /// One when absent.
    pub count: Option<usize>,
}

/// People that were added.
#[derive(Clone, Debug, Serialize)]
pub struct FollowersAdded {
    pub count: usize,
    /// Of at most the first 10,000.
    pub openids: Vec<Arc<str>>,
}

/// The platform at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct SandboxState {
    pub now: Timestamp,
    pub accounts: Vec<AccountState>,
    pub faults: Vec<FaultState>,
    /// Callers that followed a redirect fault.
    pub trapped: u64,
}

/// One account at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct AccountState {
    pub app_id: Arc<str>,
    pub name: String,
    pub profile: &'static str,
    pub mode: Mode,
    pub format: Format,
    /// Everybody who exists.
    pub people: usize,
    pub following: u64,
    /// Verdicts of custom/send by code.
    pub verdicts: BTreeMap<i32, u64>,
    /// Every interface's quota and how much of it is used.
    pub quotas: Vec<QuotaState>,
    /// How often `clear_quota` was called in this month.
    pub clears: u32,
}

/// Operates a sandbox; cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    world: Arc<World>,
}

impl Control {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    pub(super) fn world(&self) -> &Arc<World> {
        &self.world
    }

    pub(super) fn account(&self, app_id: &str) -> Result<&Account, ControlError> {
        self.world.account(app_id).ok_or(ControlError::NoAccount)
    }

    /// Adds people who do not follow yet.
    pub fn add_followers(&self, new: &NewFollowers) -> Result<FollowersAdded, ControlError> {
        let account = self.account(&new.account)?;
        let count = new.count.unwrap_or(1);
        if count == 0 || count > FOLLOWERS_MAX {
            return Err(ControlError::Invalid("count must be 1 to 1000000"));
        }
        if new.openid.is_some() && count != 1 {
            return Err(ControlError::Invalid(
                "an openid names one person: leave out count",
            ));
        }
        let openid = new.openid.as_deref();
        if openid.is_some_and(|openid| openid.is_empty() || openid.len() > 64) {
            return Err(ControlError::Invalid("an openid has 1 to 64 bytes"));
        }
        let language = new.language.as_deref().unwrap_or("zh_CN");
        let name = new.name.as_deref().unwrap_or_default();
        if language.len() > 16 || name.len() > 128 {
            return Err(ControlError::Invalid("name or language is too long"));
        }
        let mut openids = Vec::with_capacity(count.min(OPENIDS_NAMED_MAX));
        for _ in 0..count {
            let made_up = || format!("{}{}", account.openid_prefix, random::text(21));
            let openid = openid.map_or_else(made_up, ToOwned::to_owned);
            let added = account.followers.add(&openid, name, language);
            let added = added.ok_or(ControlError::NotAdded)?;
            self.world.touch();
            if openids.len() < OPENIDS_NAMED_MAX {
                openids.push(added);
            }
        }
        Ok(FollowersAdded { count, openids })
    }

    /// Lets a follower shut out everything that the account sends, or let it in again. The platform
    /// tells nobody.
    pub fn mute(&self, app_id: &str, openid: &str, muted: bool) -> Result<(), ControlError> {
        let followers = &self.account(app_id)?.followers;
        let changed = followers.with(openid, |follower| follower.muted = muted);
        changed.ok_or(ControlError::NoFollower)?;
        self.world.touch();
        Ok(())
    }

    /// The GET by which the platform checks a callback URL.
    pub async fn handshake(&self, app_id: &str) -> Result<Attempt, ControlError> {
        Ok(callback::handshake(&self.world, self.account(app_id)?).await)
    }

    /// Adds faults to those already set; all or none.
    pub fn add_faults(&self, faults: Vec<Fault>) -> Result<(), ControlError> {
        for fault in &faults {
            check_fault(fault)?;
        }
        if self.world.faults.add(faults) {
            Ok(())
        } else {
            Err(ControlError::Invalid("too many faults: clear some"))
        }
    }

    /// Every fault and how often it hit.
    pub fn faults(&self) -> Vec<FaultState> {
        self.world.faults.list()
    }

    /// Removes every fault.
    pub fn clear_faults(&self) {
        self.world.faults.clear();
    }

    /// Up to `max` messages after number `after`, in order; of one account or follower
    /// when named.
    pub fn sent(
        &self,
        app_id: Option<&str>,
        openid: Option<&str>,
        after: u64,
        max: usize,
    ) -> Vec<SentWithBody> {
        self.world.record.after(after, max, |sent| {
            app_id.is_none_or(|app_id| *app_id == *sent.account)
                && openid.is_none_or(|openid| *openid == *sent.openid)
        })
    }

    /// The newest lines on one phone, oldest first.
    pub fn messages(&self, app_id: &str, openid: &str) -> Result<Vec<Arc<ChatLine>>, ControlError> {
        let account = self.account(app_id)?;
        self.follower(app_id, openid)?;
        Ok(self.world.chats.of(account.index, openid, CHAT_LINES_MAX))
    }

    /// The openids of at most `max` followers, in the order in which they began to follow.
    pub fn openids(&self, app_id: &str, max: usize) -> Result<Vec<Arc<str>>, ControlError> {
        let account = self.account(app_id)?;
        Ok(account.followers.page(None, max).unwrap_or_default())
    }

    /// One follower as they are now.
    pub fn follower(&self, app_id: &str, openid: &str) -> Result<Follower, ControlError> {
        let found = self.account(app_id)?.followers.get(openid);
        found
            .map(|(_, follower)| follower)
            .ok_or(ControlError::NoFollower)
    }

    /// Openids of the first `max` followers.
    pub(super) fn following(
        &self,
        app_id: &str,
        max: usize,
    ) -> Result<Vec<Arc<str>>, ControlError> {
        Ok(self
            .account(app_id)?
            .followers
            .page(None, max)
            .unwrap_or_default())
    }

    /// A file that is still kept.
    pub fn media(&self, id: &str) -> Option<Arc<Media>> {
        self.world.shelf.get(id, self.world.clock.now())
    }

    /// The platform at a glance.
    pub fn state(&self) -> SandboxState {
        let now = self.world.clock.now();
        let account = |account: &Account| {
            let (people, following) = account.followers.counts();
            let (quotas, clears) = account.quotas.states(now);
            AccountState {
                app_id: Arc::clone(&account.app_id),
                name: account.settings.name.clone(),
                profile: account.settings.profile.name(),
                mode: account.settings.mode,
                format: account.settings.format,
                people,
                following,
                verdicts: lock(&account.verdicts).clone(),
                quotas,
                clears,
            }
        };
        SandboxState {
            now,
            accounts: self.world.accounts.iter().map(account).collect(),
            faults: self.faults(),
            trapped: self.world.trapped.load(Ordering::Relaxed),
        }
    }
}

fn check_fault(fault: &Fault) -> Result<(), ControlError> {
    let for_callback = match &fault.kind {
        FaultKind::Drop | FaultKind::LoseAnswer => Some(true),
        FaultKind::Delay { .. } => None,
        _ => Some(false),
    };
    if fault.event.is_some() && fault.api != CALLBACK {
        return Err(ControlError::Invalid("only callbacks tell events"));
    }
    let has_result = [Api::TemplateSend, Api::NoticeSend, Api::MassSend]
        .iter()
        .any(|api| api.path() == fault.api);
    if matches!(fault.kind, FaultKind::Undelivered { .. }) && !has_result {
        return Err(ControlError::Invalid(
            "undelivered is for message/template/send, subscribe/bizsend and mass/send",
        ));
    }
    if for_callback.is_some_and(|wanted| wanted != (fault.api == CALLBACK)) {
        return Err(ControlError::Invalid(
            "callbacks know the faults drop, lose_answer and delay; calls know all others",
        ));
    }
    if fault.api != CALLBACK
        && fault.api != "*"
        && Api::at(&fault.api).is_none()
        && !component::is_api(&fault.api)
    {
        return Err(ControlError::Invalid(
            "api must be a known path, `*` or `callback`",
        ));
    }
    if fault
        .probability
        .is_some_and(|probability| !(0.0..=1.0).contains(&probability))
    {
        return Err(ControlError::Invalid("probability must be 0 to 1"));
    }
    match fault.kind {
        FaultKind::Status { status } if !(400..600).contains(&status) => {
            Err(ControlError::Invalid("status must be 400 to 599"))
        }
        FaultKind::Errcode { code: 0 } | FaultKind::KillTokens { code: 0 } => {
            Err(ControlError::Invalid("code 0 is no fault"))
        }
        _ => Ok(()),
    }
}
