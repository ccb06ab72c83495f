//! The control handle's part about components: accounts appear, authorize and change their mind,
//! tickets and tokens end, and counters tell what the component called.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::consent::hex;
use super::push::EventPushed;
use super::settings::{AuthorizerKind, ComponentAccount};
use super::{Component, SETS};
use crate::clock::Timestamp;
use crate::sandbox::control::{Control, ControlError};
use crate::sandbox::lock;
use crate::sandbox::settings::Profile;

/// Accounts per request.
const ACCOUNTS_MAX: usize = 10_000;
/// Events on their way at once while many accounts authorize.
const PUSHES_AT_ONCE: usize = 16;

/// Accounts to create under a component.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewAccounts {
    /// For one account only; made up when absent.
    pub app_id: Option<String>,
    /// One when absent.
    pub count: Option<usize>,
    pub name: String,
    pub kind: AuthorizerKind,
    pub profile: Profile,
    /// Authorizes the component with these permission sets at once.
    pub sets: Option<Vec<u32>>,
    /// Does not push `authorized`: the component finds them in the list only.
    pub unannounced: bool,
}

/// Accounts that were created, in order.
#[derive(Clone, Debug, Serialize)]
pub struct AccountsAdded {
    pub app_ids: Vec<Arc<str>>,
    /// `authorized` events that the component took.
    pub accepted: usize,
}

/// What became of a consent.
#[derive(Clone, Debug, Serialize)]
pub struct Authorized {
    /// What `api_query_auth` takes.
    pub code: Arc<str>,
    pub code_expires_at: Timestamp,
    /// Absent when it was not announced.
    pub pushed: Option<EventPushed>,
}

/// A component at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct ComponentState {
    pub app_id: String,
    pub authorizers: usize,
    /// Calls by path and answered code.
    pub calls: BTreeMap<&'static str, BTreeMap<i32, u64>>,
    /// Events by `InfoType`: taken, and not.
    pub pushes: BTreeMap<&'static str, (u64, u64)>,
    pub is_pushing_tickets: bool,
}

impl ComponentState {
    /// Calls of a path, whatever was answered.
    pub fn calls_of(&self, path: &str) -> u64 {
        self.calls
            .get(path)
            .map_or(0, |codes| codes.values().sum::<u64>())
    }
}

/// One account of a component.
#[derive(Clone, Debug, Serialize)]
pub struct AuthorizerState {
    pub app_id: Arc<str>,
    pub is_authorized: bool,
    /// Permission sets granted now.
    pub sets: Vec<u32>,
    /// When it was granted, or changed last.
    pub authorized_at: Option<Timestamp>,
    /// `api_authorizer_token` calls that brought a token.
    pub refreshes: u64,
}

/// One request to the control API about a component.
#[derive(Clone, Debug, Deserialize)]
pub struct ComponentAct {
    /// App id.
    pub component: String,
    #[serde(flatten)]
    pub act: Act,
}

/// What shall happen.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Act {
    PushTicket,
    /// Stops or goes on pushing tickets by the clock.
    PushTickets {
        on: bool,
    },
    ExpireTickets,
    ExpireComponentTokens {
        #[serde(default = "expired")]
        code: i32,
    },
    /// The token storm.
    ExpireAuthorizerTokens {
        #[serde(default = "expired")]
        code: i32,
    },
    AddAccounts(NewAccounts),
    /// A consent, or a changed one.
    Authorize {
        account: String,
        #[serde(default = "all_sets")]
        sets: Vec<u32>,
        #[serde(default)]
        unannounced: bool,
    },
    Unauthorize {
        account: String,
    },
}

fn check_code(code: i32) -> Result<(), ControlError> {
    match code {
        0 => Err(ControlError::Invalid("code 0 is no refusal")),
        _ => Ok(()),
    }
}

fn expired() -> i32 {
    42001
}

fn all_sets() -> Vec<u32> {
    SETS.to_vec()
}

impl Component {
    pub(super) fn start_pushing_tickets(&self) {
        self.is_pushing_tickets.store(true, Ordering::Relaxed);
    }

    pub(super) fn kill_tokens(&self, code: i32) {
        lock(&self.held).kill_tokens(code);
    }

    /// How often a code was exchanged.
    pub(in crate::sandbox) fn uses_of(&self, code: &str) -> u64 {
        lock(&self.held).uses_of(code)
    }

    /// Lets a code be exchanged more than once.
    pub(in crate::sandbox) fn free_code(&self, code: &str) {
        lock(&self.held).free_code(code);
    }
}

impl Control {
    pub(in crate::sandbox) fn component_of(
        &self,
        app_id: &str,
    ) -> Result<&Component, ControlError> {
        let found = self.world().components.get(app_id);
        found.ok_or(ControlError::NoComponent)
    }

    /// Carries out one request of the HTTP control API.
    pub async fn act_on_component(&self, asked: ComponentAct) -> Result<Value, ControlError> {
        let component = asked.component.as_str();
        let told = match asked.act {
            Act::PushTicket => json!(self.push_ticket(component).await?),
            Act::PushTickets { on } => json!(self.push_tickets(component, on)?),
            Act::ExpireTickets => json!(self.expire_tickets(component)?),
            Act::ExpireComponentTokens { code } => {
                json!(self.expire_component_tokens(component, code)?)
            }
            Act::ExpireAuthorizerTokens { code } => {
                json!(self.expire_authorizer_tokens(component, code)?)
            }
            Act::AddAccounts(new) => json!(self.add_accounts(component, &new).await?),
            Act::Authorize {
                account,
                sets,
                unannounced: false,
            } => json!(self.authorize(component, &account, &sets).await?),
            Act::Authorize { account, sets, .. } => {
                json!(self.authorize_unannounced(component, &account, &sets)?)
            }
            Act::Unauthorize { account } => json!(self.unauthorize(component, &account).await?),
        };
        Ok(told)
    }

    /// Pushes a new ticket now.
    pub async fn push_ticket(&self, component: &str) -> Result<EventPushed, ControlError> {
        let component = self.component_of(component)?;
        Ok(component.push_ticket(self.world()).await)
    }

    /// Stops or goes on pushing tickets by the clock, as an outage of the platform would.
    pub fn push_tickets(&self, component: &str, on: bool) -> Result<(), ControlError> {
        let component = self.component_of(component)?;
        component.is_pushing_tickets.store(on, Ordering::Relaxed);
        Ok(())
    }

    /// Ends every ticket: 61005 until a new one is pushed.
    pub fn expire_tickets(&self, component: &str) -> Result<(), ControlError> {
        let now = self.world().clock.now();
        lock(&self.component_of(component)?.held).expire_tickets(now);
        Ok(())
    }

    /// Lets every component token be refused with `code` from now on (42001, 40001).
    pub fn expire_component_tokens(&self, component: &str, code: i32) -> Result<(), ControlError> {
        check_code(code)?;
        self.component_of(component)?.kill_tokens(code);
        Ok(())
    }

    /// Lets every authorizer token of the component be refused with `code` from now on: the token
    /// storm. How many that are.
    pub fn expire_authorizer_tokens(
        &self,
        component: &str,
        code: i32,
    ) -> Result<usize, ControlError> {
        check_code(code)?;
        let index = self.component_of(component)?.index;
        let tokens = &self.world().components.tokens;
        Ok(tokens.kill(code, |token| token.component == index))
    }

    /// Creates accounts without a server of their own and, when asked, lets them authorize the
    /// component; returns when every `authorized` event is answered or given up.
    pub async fn add_accounts(
        &self,
        component: &str,
        new: &NewAccounts,
    ) -> Result<AccountsAdded, ControlError> {
        let component = self.component_of(component)?;
        let count = new.count.unwrap_or(1);
        if count == 0 || count > ACCOUNTS_MAX {
            return Err(ControlError::Invalid("count must be 1 to 10000"));
        }
        if new.app_id.is_some() && count != 1 {
            return Err(ControlError::Invalid(
                "an app id names one account: leave out count",
            ));
        }
        let mut app_ids = Vec::with_capacity(count);
        let mut events = Vec::new();
        for _ in 0..count {
            let made = ComponentAccount {
                app_id: new
                    .app_id
                    .clone()
                    .unwrap_or_else(|| format!("wx{}", hex(16))),
                original_id: None,
                name: new.name.clone(),
                kind: new.kind,
                profile: new.profile,
            };
            let account = self.world().add_account(&made)?;
            app_ids.push(Arc::clone(&account.app_id));
            if let Some(sets) = &new.sets {
                let (event, ..) = self.world().consent(component, account, sets, "")?;
                events.push(event);
            }
        }
        if new.unannounced {
            events.clear();
        }
        let pushes = events.into_iter().map(|event| async move {
            let pushed = component.push_event(self.world(), &event).await;
            usize::from(pushed.accepted)
        });
        let pushes = stream::iter(pushes).buffer_unordered(PUSHES_AT_ONCE);
        let accepted = pushes.fold(0, async |sum, one| sum + one).await;
        Ok(AccountsAdded { app_ids, accepted })
    }

    /// Lets an account grant the component exactly these permission sets, and pushes `authorized`,
    /// or `updateauthorized` when it had granted some before.
    pub async fn authorize(
        &self,
        component: &str,
        account: &str,
        sets: &[u32],
    ) -> Result<Authorized, ControlError> {
        let (component, account) = (self.component_of(component)?, self.account(account)?);
        let (event, code, end) = self.world().consent(component, account, sets, "")?;
        Ok(Authorized {
            code,
            code_expires_at: end,
            pushed: Some(component.push_event(self.world(), &event).await),
        })
    }

    /// As `authorize`, but nobody is told: the component finds the account in its list only.
    pub fn authorize_unannounced(
        &self,
        component: &str,
        account: &str,
        sets: &[u32],
    ) -> Result<Authorized, ControlError> {
        let (component, account) = (self.component_of(component)?, self.account(account)?);
        let (_, code, code_expires_at) = self.world().consent(component, account, sets, "")?;
        Ok(Authorized {
            code,
            code_expires_at,
            pushed: None,
        })
    }

    /// Takes an account's consent back and pushes `unauthorized`.
    pub async fn unauthorize(
        &self,
        component: &str,
        account: &str,
    ) -> Result<EventPushed, ControlError> {
        let (component, account) = (self.component_of(component)?, self.account(account)?);
        let event = self.world().take_back(component, account)?;
        Ok(component.push_event(self.world(), &event).await)
    }

    /// A component at a glance: its counters above all.
    pub fn component(&self, component: &str) -> Result<ComponentState, ControlError> {
        let component = self.component_of(component)?;
        Ok(ComponentState {
            app_id: component.settings.app_id.clone(),
            authorizers: self.world().components.authorizations(component).len(),
            calls: lock(&component.calls).clone(),
            pushes: lock(&component.pushes).clone(),
            is_pushing_tickets: component.is_pushing_tickets.load(Ordering::Relaxed),
        })
    }

    /// One account as a component sees it.
    pub fn authorizer(
        &self,
        component: &str,
        account: &str,
    ) -> Result<AuthorizerState, ControlError> {
        let (component, account) = (self.component_of(component)?, self.account(account)?);
        let found = self.world().components.authorization(account.index);
        let found = found.filter(|one| one.component == component.index);
        let refreshes = lock(&component.refreshes);
        Ok(AuthorizerState {
            app_id: Arc::clone(&account.app_id),
            is_authorized: found.is_some(),
            sets: (found.as_ref()).map_or_else(Vec::new, |one| one.sets.clone()),
            authorized_at: found.map(|one| one.at),
            refreshes: refreshes.get(&account.index).copied().unwrap_or(0),
        })
    }
}
