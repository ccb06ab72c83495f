//! What differs between official accounts, and what the platform's documents leave open.
//!
//! Each field's default is what the documents say or, where they say nothing, what is most likely;
//! a test or an operator plays the other reading by setting it. The rules themselves are enforced
//! where they bite: `quota`, `grant`, `notice`, `mass`, `users`, `callback`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::errcode::Refusal;
use super::quota::{Api, Need};

/// Openids per page of `user/get` by the platform's page on the follower list.
const PAGE_MAX: usize = 10_000;

/// How the platform treats one account.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountRules {
    pub kind: AccountKind,
    /// 微信认证. Without it most interfaces answer 48001 and only passive replies are left.
    pub verified: bool,
    /// Limits of calls by path, such as `/cgi-bin/message/custom/send`.
    pub quotas: BTreeMap<String, CallQuota>,
    /// Hour in Beijing, 0 to 23, at which daily quotas begin anew. The documents name none.
    pub day_begins_at: u8,
    /// What a new grant makes of one that is still open.
    pub stacking: Stacking,
    /// Whether a send is still taken in the very second in which 60 s or 48 h are over.
    pub last_instant_counts: bool,
    /// Bytes of UTF-8 in one text, 45002 beyond. Accounts found this limit; no document names one.
    pub text_bytes_max: usize,
    /// Whether a passive reply takes one message from the grant. No document says that it does.
    pub passive_reply_spends: bool,
    /// Mass messages that one follower may receive in a calendar month; those beyond are filtered.
    pub mass_per_month: u32,
    /// A `clientmsgid` that is tried again sooner is refused with 45066, later with 45065. The
    /// platform asks to wait a minute; 0 answers 45065 at once, as accounts report as well.
    pub mass_again_after_seconds: u64,
    /// Openids per page of `user/get` and `user/tag/get`.
    pub page_max: usize,
    /// The account's templates. When there is none, every id that is not empty is taken.
    pub templates: Vec<Template>,
}

impl Default for AccountRules {
    fn default() -> Self {
        Self {
            kind: AccountKind::Service,
            verified: true,
            quotas: BTreeMap::new(),
            day_begins_at: 0,
            stacking: Stacking::Max,
            last_instant_counts: false,
            text_bytes_max: 2048,
            passive_reply_spends: false,
            mass_per_month: 4,
            mass_again_after_seconds: 60,
            page_max: PAGE_MAX,
            templates: Vec::new(),
        }
    }
}

/// Which kind of official account it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    /// 订阅号: no template messages, no subscription notices, no mass sends by openid.
    Subscription,
    /// 服务号
    Service,
}

/// How a new grant and an open one combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stacking {
    /// The larger rest and the later end, as the platform documents for mini programs.
    Max,
    /// The new one alone, even where it is shorter.
    Replace,
    /// Both rests together until the later end.
    Add,
}

/// Limits of one call; what is absent is as the platform publishes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallQuota {
    /// 45009 beyond it, until the day is over.
    pub per_day: Option<u64>,
    /// 45011 beyond it, until the next minute.
    pub per_minute: Option<u64>,
}

/// A template of the account's own list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub id: String,
    /// Shown on the phone.
    #[serde(default)]
    pub title: String,
    pub kind: TemplateKind,
    /// Names that `data` must give a value to: 47003 without; none are asked for when empty.
    #[serde(default)]
    pub keys: Vec<String>,
}

/// Which call a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateKind {
    /// `message/template/send`
    Message,
    /// `message/subscribe/bizsend`
    Subscription,
}

impl AccountRules {
    /// What makes these rules unusable, if anything does.
    pub(super) fn problem(&self) -> Option<String> {
        if let Some(path) = self.quotas.keys().find(|path| Api::at(path).is_none()) {
            return Some(format!(
                "quotas names {path}, which the sandbox does not play"
            ));
        }
        if self.day_begins_at > 23 {
            return Some("day_begins_at must be 0 to 23".to_owned());
        }
        if self.page_max == 0 || self.page_max > PAGE_MAX {
            return Some(format!("page_max must be 1 to {PAGE_MAX}"));
        }
        None
    }

    /// 48001 where accounts of this kind may not call an interface (the platform's page on
    /// permissions of interfaces).
    pub(super) fn permit(&self, api: Api) -> Result<(), Refusal> {
        let is_permitted = match api.need() {
            Need::Nothing => true,
            Need::Verified => self.verified,
            Need::VerifiedService => self.verified && self.kind == AccountKind::Service,
        };
        is_permitted.then_some(()).ok_or(Refusal::UNAUTHORIZED)
    }

    /// The template behind an id, `None` where the account has no list; 40037 for an id that is
    /// not in it, or there for another call.
    pub(super) fn template(
        &self,
        id: &str,
        kind: TemplateKind,
    ) -> Result<Option<&Template>, Refusal> {
        if id.is_empty() {
            return Err(Refusal::TEMPLATE_ID);
        }
        if self.templates.is_empty() {
            return Ok(None);
        }
        let mut all = self.templates.iter();
        let found = all.find(|template| template.id == id && template.kind == kind);
        found.map(Some).ok_or(Refusal::TEMPLATE_ID)
    }
}
