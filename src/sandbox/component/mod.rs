//! Third-party platforms (第三方平台, "components"): who they are, who authorized them, and what
//! their tokens may do.
//!
//! An account authorizes one component at most; while it does, its callbacks go there. Permission
//! sets, refusals and lives of tokens follow the platform's 第三方平台 pages; what those leave open
//! is in `ComponentRules`. Deliberately absent: IP lists, mini programs' own calls, fast
//! registration.

mod answer;
mod authorize;
mod call;
mod consent;
mod control;
mod held;
mod kept;
mod push;
mod settings;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use secrecy::ExposeSecret;

pub use self::control::{
    AccountsAdded, Act, Authorized, AuthorizerState, ComponentAct, ComponentState, NewAccounts,
};
pub use self::push::EventPushed;
pub use self::settings::{AuthorizerKind, ComponentAccount, ComponentRules, SandboxComponent};

pub(super) use self::answer::{answer, is_api, is_page, page, text};
pub(super) use self::kept::KeptComponents;
pub(super) use self::push::{Parcel, keep_pushing_tickets, post};
pub(super) use self::settings::APP_ID_MARK;

use self::held::Held;
use self::token::AuthorizerTokens;
use super::callback::Recipient;
use super::errcode::Refusal;
use super::settings::{Format, Mode};
use super::{Account, StartError, World, lock, random};
use crate::clock::Timestamp;
use crate::inbound::cipher::Cipher;

/// Begins every token of an authorizer, so that it is told from the others.
const AUTHORIZER_PREFIX: &str = "authorizer_";
/// Begins every component token.
const COMPONENT_PREFIX: &str = "component_";

/// Permission sets that this platform tells apart: 消息管理, 用户管理, 群发与通知, 素材管理.
pub(super) const SETS: [u32; 4] = [1, 2, 7, 11];
/// 小程序客服消息, which lets a mini program's component answer its customers.
pub(super) const MINI_PROGRAM_MESSAGES: u32 = 19;

/// Any one of these sets lets a component call what begins with the path; other calls need none.
const WANTED: [(&str, &[u32]); 8] = [
    ("/cgi-bin/message/custom/", &[1, 6, 19, 100, 101]),
    ("/cgi-bin/message/", &[7]),
    ("/cgi-bin/template/", &[7]),
    ("/wxaapi/newtmpl/", &[7]),
    ("/cgi-bin/user/", &[2]),
    ("/cgi-bin/tags/", &[2]),
    ("/cgi-bin/material/", &[11, 100]),
    ("/cgi-bin/media/", &[1, 3, 8, 9, 11, 19, 30, 31, 100]),
];

/// Every component and everybody's authorization.
#[derive(Debug)]
pub(super) struct Components {
    list: Vec<Component>,
    /// By the account's index.
    authorized: RwLock<BTreeMap<usize, Arc<Authorization>>>,
    tokens: AuthorizerTokens,
    next_serial: AtomicU64,
}

/// One component.
#[derive(Debug)]
pub(super) struct Component {
    index: usize,
    pub(super) settings: SandboxComponent,
    cipher: Cipher,
    event_url: url::Url,
    held: Mutex<Held>,
    /// Verdicts by path and code.
    calls: Mutex<BTreeMap<&'static str, BTreeMap<i32, u64>>>,
    /// `api_authorizer_token` calls that brought a token, by account.
    refreshes: Mutex<HashMap<usize, u64>>,
    /// Pushes of events by `InfoType`: accepted, and not.
    pushes: Mutex<BTreeMap<&'static str, (u64, u64)>>,
    is_pushing_tickets: AtomicBool,
}

/// One account's consent.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    component: usize,
    account: usize,
    /// The same for as long as it was not taken back.
    serial: u64,
    sets: Vec<u32>,
    refresh_token: Arc<str>,
    at: Timestamp,
}

impl Components {
    pub(super) fn new(settings: Vec<SandboxComponent>) -> Result<Self, StartError> {
        let mut list: Vec<Component> = Vec::new();
        for (index, settings) in settings.into_iter().enumerate() {
            if list
                .iter()
                .any(|other| other.settings.app_id == settings.app_id)
            {
                return Err(StartError::SameAppId(settings.app_id));
            }
            list.push(Component::new(index, settings)?);
        }
        Ok(Self {
            list,
            authorized: RwLock::default(),
            tokens: AuthorizerTokens::default(),
            next_serial: AtomicU64::new(1),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Component> {
        self.list.iter()
    }

    pub(super) fn get(&self, app_id: &str) -> Option<&Component> {
        self.list
            .iter()
            .find(|component| component.settings.app_id == app_id)
    }

    fn authorization(&self, account: usize) -> Option<Arc<Authorization>> {
        let authorized = self
            .authorized
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        authorized.get(&account).cloned()
    }

    /// The consents to one component, in the order of the accounts.
    fn authorizations(&self, component: &Component) -> Vec<Arc<Authorization>> {
        let authorized = self
            .authorized
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let of_component = authorized
            .values()
            .filter(|one| one.component == component.index);
        of_component.cloned().collect()
    }

    /// Who takes the account's callbacks, when a component does.
    pub(super) fn recipient(&self, account: &Account) -> Option<Recipient<'_>> {
        let authorization = self.authorization(account.index)?;
        let component = &self.list[authorization.component];
        Some(Recipient {
            url: component.message_url(&account.app_id)?,
            token: &component.settings.token,
            cipher: &component.cipher,
            mode: Mode::Safe,
            format: Format::Xml,
        })
    }

    /// The account that an authorizer's token speaks for at `path`.
    ///
    /// 40001 and 42001 for the token, `gone_code` when the authorization was taken back, and
    /// `missing_set_code` when it does not cover the path.
    fn check(&self, token: &str, path: &str, now: Timestamp) -> Result<usize, Refusal> {
        let found = self.tokens.get(token).ok_or(Refusal::TOKEN_NOT_LATEST)?;
        let rules = &self.list[found.component].settings.rules;
        let authorization = self
            .authorization(found.account)
            .filter(|one| one.component == found.component)
            .ok_or(Refusal(rules.gone_code))?;
        if authorization.serial != found.serial {
            return Err(Refusal::TOKEN_NOT_LATEST);
        }
        found.check(now)?;
        let wanted = WANTED.iter().find(|(prefix, _)| path.starts_with(prefix));
        let is_covered =
            wanted.is_none_or(|(_, any)| authorization.sets.iter().any(|set| any.contains(set)));
        if !is_covered {
            return Err(Refusal(rules.missing_set_code));
        }
        found.count(path);
        Ok(found.account)
    }
}

impl Component {
    fn new(index: usize, settings: SandboxComponent) -> Result<Self, StartError> {
        let key = settings.encoding_aes_key.expose_secret();
        let cipher = Cipher::new(&settings.app_id, &[key]).map_err(|source| StartError::Key {
            app_id: settings.app_id.clone(),
            source,
        })?;
        let wrong = || StartError::ComponentUrl(settings.app_id.clone());
        let event_url = web_url(&settings.event_url).ok_or_else(wrong)?;
        let has_mark = settings.message_url.contains(APP_ID_MARK);
        let component = Self {
            index,
            cipher,
            event_url,
            held: Mutex::default(),
            calls: Mutex::default(),
            refreshes: Mutex::default(),
            pushes: Mutex::default(),
            is_pushing_tickets: AtomicBool::new(true),
            settings,
        };
        match component.message_url("wx") {
            Some(_) if has_mark => Ok(component),
            _ => Err(StartError::ComponentUrl(component.settings.app_id)),
        }
    }

    fn message_url(&self, app_id: &str) -> Option<url::Url> {
        web_url(&self.settings.message_url.replace(APP_ID_MARK, app_id))
    }

    fn count_call(&self, path: &'static str, code: i32) {
        *lock(&self.calls)
            .entry(path)
            .or_default()
            .entry(code)
            .or_default() += 1;
    }
}

fn web_url(text: &str) -> Option<url::Url> {
    url::Url::parse(text)
        .ok()
        .filter(|url| ["http", "https"].contains(&url.scheme()))
}

impl World {
    /// The account that a token speaks for at `path`, whether it is the account's own or a
    /// component's.
    pub(super) fn caller(
        &self,
        token: Option<&str>,
        path: &str,
        now: Timestamp,
    ) -> Result<usize, Refusal> {
        match token {
            Some(token) if token.starts_with(AUTHORIZER_PREFIX) => {
                self.components.check(token, path, now)
            }
            // It opens the component's own calls only.
            Some(token) if token.starts_with(COMPONENT_PREFIX) => Err(Refusal(48001)),
            token => self.tokens.check(token, now),
        }
    }

    /// Lets every token that speaks for the account be refused with `code` from now on.
    pub(super) fn kill_tokens(&self, account: usize, code: i32) {
        self.tokens.kill(account, code);
        self.components
            .tokens
            .kill(code, |token| token.account == account);
    }

    fn next_serial(&self) -> u64 {
        self.components.next_serial.fetch_add(1, Ordering::Relaxed)
    }
}

/// `kind@@@` and a random rest, as the platform writes tickets and codes.
fn made_up(kind: &str, length: usize) -> String {
    format!("{kind}@@@{}", random::text(length))
}
