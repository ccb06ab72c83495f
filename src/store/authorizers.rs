//! Table `authorizers`: the accounts that authorized a third-party platform, and where their
//! callbacks go.
//!
//! Such an account is named by its app id. Its row in `accounts` and what the writer knows of it
//! change here together, one change at a time. Codes and refresh tokens are secrets: they leave
//! this table only as `SecretString`s. Deliberately absent: who is taken in and who may send, which
//! callers decide.

use std::sync::Arc;

use sea_orm::{DatabaseConnection, DatabaseTransaction, QueryResult, Value};
use secrecy::{ExposeSecret, SecretString};

use crate::clock::Timestamp;
use crate::journey::ids::AccountId;
use crate::policy::account::Account;
use crate::store::sql::{self, instant, int, text};
use crate::store::{Error, Store, fence};

/// How an authorization stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Taken back by the account's owner.
    Withdrawn,
    Authorized,
    /// Authorized, but none of our accounts: the reason says why.
    NotServed,
    /// Announced; the code that came with it is not exchanged yet.
    Announced,
}

impl State {
    fn code(self) -> i64 {
        match self {
            Self::Withdrawn => 0,
            Self::Authorized => 1,
            Self::NotServed => 2,
            Self::Announced => 3,
        }
    }

    fn of(code: i64) -> Result<Self, Error> {
        match code {
            0 => Ok(Self::Withdrawn),
            1 => Ok(Self::Authorized),
            2 => Ok(Self::NotServed),
            3 => Ok(Self::Announced),
            _ => Err(Error::Row {
                table: "authorizers",
                what: format!("state {code}"),
            }),
        }
    }

    /// The word for people and tools.
    pub fn word(self) -> &'static str {
        match self {
            Self::Withdrawn => "withdrawn",
            Self::Authorized => "authorized",
            Self::NotServed => "not_served",
            Self::Announced => "announced",
        }
    }
}

/// An authorization, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorizer {
    /// App id of the component.
    pub component: String,
    pub app_id: String,
    /// `None` while it is none of our accounts.
    pub account: Option<AccountId>,
    pub name: String,
    /// `gh_…`; empty while it is not known.
    pub original_id: String,
    pub state: State,
    /// Why it does not send; empty when it does.
    pub reason: String,
    /// Permission sets that its owner granted.
    pub permissions: Vec<i64>,
    /// By the platform's clock, in whole seconds.
    pub authorized_at: Timestamp,
    /// By ours.
    pub changed_at: Timestamp,
}

impl Authorizer {
    /// Whether it may send.
    pub fn sends(&self) -> bool {
        self.state == State::Authorized && self.reason.is_empty()
    }
}

const COLUMNS: &str = "component, app_id, account_id, name, original_id, state, reason,
    permissions, authorized_at, changed_at";

fn authorizer(row: &QueryResult) -> Result<Authorizer, Error> {
    let account = int(row, 2)?;
    Ok(Authorizer {
        component: text(row, 0)?,
        app_id: text(row, 1)?,
        account: (account != 0).then_some(AccountId(account)),
        name: text(row, 3)?,
        original_id: text(row, 4)?,
        state: State::of(int(row, 5)?)?,
        reason: text(row, 6)?,
        permissions: serde_json::from_str(&text(row, 7)?).unwrap_or_default(),
        authorized_at: instant(row, 8)?,
        changed_at: instant(row, 9)?,
    })
}

async fn write(store: &Store, statements: Vec<(&'static str, Vec<Value>)>) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx: &DatabaseTransaction| {
            Box::pin(async move {
                for (sql, values) in statements {
                    sql::run(tx, sql, values).await?;
                }
                Ok(())
            })
        })
        .await
}

/// Keeps the code of an announced authorization until it is exchanged. An announcement older than
/// the account's newest event changes nothing.
pub async fn announce(
    store: &Store,
    (component, app_id): (&str, &str),
    code: &SecretString,
    event_at: Timestamp,
    now: Timestamp,
) -> Result<(), Error> {
    let sql = "INSERT INTO authorizers (component, app_id, state, event_at, changed_at, code)
               VALUES (?1, ?2, 3, ?3, ?4, ?5)
               ON CONFLICT (component, app_id) DO UPDATE SET event_at = ?3, code = ?5,
                   state = CASE WHEN authorizers.state = 0 AND authorizers.account_id = 0 THEN 3
                       ELSE authorizers.state END
               WHERE authorizers.event_at <= ?3";
    let values = vec![
        component.into(),
        app_id.into(),
        event_at.0.into(),
        now.0.into(),
        code.expose_secret().into(),
    ];
    write(store, vec![(sql, values)]).await
}

/// App ids with codes that wait to be exchanged.
pub async fn announced(
    read: &DatabaseConnection,
    component: &str,
) -> Result<Vec<(String, SecretString)>, Error> {
    let sql = "SELECT app_id, code FROM authorizers WHERE component = ?1 AND code <> ''";
    let rows = sql::all(read, sql, [component.into()]).await?;
    let code = |row: &QueryResult| Ok((text(row, 0)?, SecretString::from(text(row, 1)?)));
    rows.iter().map(code).collect()
}

/// Forgets a code, which can be exchanged once only. What was announced with it and brought nothing
/// is no authorization.
pub async fn forget_code(
    store: &Store,
    (component, app_id): (&str, &str),
    code: &SecretString,
) -> Result<(), Error> {
    let sql = "UPDATE authorizers SET code = '', state = CASE state WHEN 3 THEN 0 ELSE state END
               WHERE component = ?1 AND app_id = ?2 AND code = ?3";
    let values = vec![component.into(), app_id.into(), code.expose_secret().into()];
    write(store, vec![(sql, values)]).await
}

/// Makes an authorization's refresh token durable, before anything is done with what came with it.
pub async fn keep(
    store: &Store,
    (component, app_id): (&str, &str),
    refresh_token: &SecretString,
    now: Timestamp,
) -> Result<(), Error> {
    let sql = "INSERT INTO authorizers (component, app_id, state, changed_at, refresh_token)
               VALUES (?1, ?2, 3, ?3, ?4)
               ON CONFLICT (component, app_id) DO UPDATE SET refresh_token = ?4";
    let values = vec![
        component.into(),
        app_id.into(),
        now.0.into(),
        refresh_token.expose_secret().into(),
    ];
    write(store, vec![(sql, values)]).await
}

/// The refresh token of an authorization.
pub async fn refresh_token(
    read: &DatabaseConnection,
    (component, app_id): (&str, &str),
) -> Result<Option<SecretString>, Error> {
    let sql = "SELECT refresh_token FROM authorizers
               WHERE component = ?1 AND app_id = ?2 AND refresh_token <> ''";
    let row = sql::first(read, sql, [component.into(), app_id.into()]).await?;
    row.map(|row| Ok(SecretString::from(text(&row, 0)?)))
        .transpose()
}

/// Keeps the refresh token that came for `used`, unless another one has come meanwhile.
pub async fn keep_next(
    store: &Store,
    (component, app_id): (&str, &str),
    used: &SecretString,
    next: &SecretString,
) -> Result<(), Error> {
    let sql = "UPDATE authorizers SET refresh_token = ?4
               WHERE component = ?1 AND app_id = ?2 AND refresh_token = ?3";
    let values = vec![
        component.into(),
        app_id.into(),
        used.expose_secret().into(),
        next.expose_secret().into(),
    ];
    write(store, vec![(sql, values)]).await
}

/// How many authorizations of a component stand how.
pub async fn tally(read: &DatabaseConnection, component: &str) -> Result<Vec<(State, i64)>, Error> {
    let sql = "SELECT state, count(*) FROM authorizers WHERE component = ?1 GROUP BY state";
    let rows = sql::all(read, sql, [component.into()]).await?;
    let one = |row: &QueryResult| Ok((State::of(int(row, 0)?)?, int(row, 1)?));
    rows.iter().map(one).collect()
}

/// What becomes of an authorization, decided by the caller.
#[derive(Clone, Debug)]
pub struct Decision {
    pub component: String,
    pub app_id: String,
    pub name: String,
    pub original_id: String,
    pub permissions: Vec<i64>,
    /// `Authorized` makes it an account of ours, `NotServed` does not.
    pub state: State,
    /// Why it does not send; empty when it does.
    pub reason: String,
    pub authorized_at: Timestamp,
    /// `Directory::moment` from before the platform was asked.
    pub moment: u64,
}

/// Puts a decision into effect; `like` is what every account of the component is like. `ready` hears
/// the id of an account before anything is sent for it. Nothing happens when the authorization was
/// taken back meanwhile: then the answer is `None`.
pub async fn decide(
    store: &Store,
    decision: Decision,
    like: &Account,
    now: Timestamp,
    ready: impl FnOnce(AccountId),
) -> Result<Option<Arc<Authorizer>>, Error> {
    let directory = store.knowledge().authorizers();
    let _change = directory.change.lock().await;
    let (component, app_id) = (decision.component.as_str(), decision.app_id.as_str());
    if directory.withdrawn_since(component, app_id, decision.moment) {
        return Ok(None);
    }
    let permissions = serde_json::to_string(&decision.permissions).unwrap_or_default();
    let values = vec![
        component.into(),
        app_id.into(),
        decision.state.code().into(),
        decision.reason.clone().into(),
        decision.name.clone().into(),
        decision.original_id.clone().into(),
        permissions.into(),
        decision.authorized_at.0.into(),
        now.0.into(),
    ];
    let mut statements = vec![(
        "UPDATE authorizers SET state = ?3, reason = ?4, name = ?5, original_id = ?6,
            permissions = ?7, authorized_at = ?8, changed_at = ?9
         WHERE component = ?1 AND app_id = ?2",
        values,
    )];
    // Only what is served by this very component can be silenced by it.
    let here = directory.get(app_id);
    let here = here.is_some_and(|known| known.component == component);
    let ends = here && decision.state == State::NotServed;
    if ends {
        statements.push((
            "UPDATE accounts SET pause_reason = ?2, attention = 1 WHERE key = ?1",
            vec![app_id.into(), decision.reason.clone().into()],
        ));
    }
    if decision.state == State::Authorized {
        statements.push(account_row(app_id, &decision.reason));
        statements.push((
            "UPDATE authorizers SET account_id = (SELECT id FROM accounts WHERE key = ?2)
             WHERE component = ?1 AND app_id = ?2",
            vec![component.into(), app_id.into()],
        ));
    }
    statements.push((fence::OUTDATE, Vec::new()));
    write(store, statements).await?;
    directory.mark(component, app_id, false);
    let row = get(store.read(), component, app_id).await?;
    let row = row.ok_or_else(|| Error::Unknown(format!("authorization of {app_id}")))?;
    if let Some(account) = row.account.filter(|_| row.state == State::Authorized) {
        ready(account);
        let known = account_of(&row, account, like);
        store.knowledge().change_accounts(|accounts| {
            accounts.insert(account, Arc::new(known));
        });
        directory.put(row.clone());
    } else if ends {
        silence(store, row.clone());
    }
    Ok(Some(Arc::new(row)))
}

/// The account's own row: a reason not to send asks for a person.
fn account_row(app_id: &str, reason: &str) -> (&'static str, Vec<Value>) {
    let sql = "INSERT INTO accounts (key, platform, app_id, paused_until, pause_reason, attention)
               VALUES (?1, 'wechat', ?1, 0, ?2, ?3)
               ON CONFLICT (key) DO UPDATE SET platform = 'wechat', app_id = ?1,
                   paused_until = 0, pause_reason = ?2, attention = ?3";
    let attention = i64::from(!reason.is_empty());
    (sql, vec![app_id.into(), reason.into(), attention.into()])
}

fn account_of(row: &Authorizer, id: AccountId, like: &Account) -> Account {
    let mut account = like.clone();
    account.journey.id = id;
    account.journey.key.clone_from(&row.app_id);
    account.journey.name = if row.name.is_empty() {
        row.app_id.clone()
    } else {
        row.name.clone()
    };
    account.sends = row.sends();
    account
}

/// Ends an authorization: rows first, then nothing more is handed to the sender. An event older than
/// the account's newest one (`event_at`, by the platform's clock) changes nothing; without an event
/// it ends whatever there is. Answers whether it has ended.
pub async fn withdraw(
    store: &Store,
    (component, app_id): (&str, &str),
    event_at: Option<Timestamp>,
    reason: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let directory = store.knowledge().authorizers();
    let _change = directory.change.lock().await;
    let at = event_at.map_or(i64::MAX, |at| at.0);
    // The account may send by another platform's authorization meanwhile, which stays.
    let elsewhere = directory.get(app_id);
    let elsewhere = elsewhere.is_some_and(|known| known.component != component);
    let statements = vec![
        (
            "UPDATE accounts SET pause_reason = ?4, attention = 1
             WHERE id = (SELECT account_id FROM authorizers
                WHERE component = ?1 AND app_id = ?2 AND event_at <= ?3) AND NOT ?5",
            vec![
                component.into(),
                app_id.into(),
                at.into(),
                reason.into(),
                elsewhere.into(),
            ],
        ),
        (
            "UPDATE authorizers SET state = 0, reason = ?4, refresh_token = '', code = '',
                changed_at = ?5, event_at = CASE ?3 WHEN 9223372036854775807 THEN event_at ELSE ?3 END
             WHERE component = ?1 AND app_id = ?2 AND event_at <= ?3",
            vec![
                component.into(),
                app_id.into(),
                at.into(),
                reason.into(),
                now.0.into(),
            ],
        ),
        (fence::OUTDATE, Vec::new()),
    ];
    write(store, statements).await?;
    let Some(row) = get(store.read(), component, app_id).await? else {
        return Ok(false);
    };
    if row.state != State::Withdrawn {
        return Ok(false);
    }
    directory.mark(component, app_id, true);
    if !elsewhere {
        silence(store, row);
    }
    Ok(true)
}

/// Hands nothing more of an account to the sender.
fn silence(store: &Store, row: Authorizer) {
    let Some(id) = row.account else { return };
    store.knowledge().change_accounts(|accounts| {
        if let Some(known) = accounts.get_mut(&id) {
            Arc::make_mut(known).sends = false;
        }
    });
    store.knowledge().authorizers().put(row);
}

/// Makes a component's accounts known after a start, as they stood before it. `like` is what each
/// is like; those in `others` belong to somebody else by now and are left out.
pub async fn load(
    store: &Store,
    component: &str,
    like: &Account,
    is_other: impl Fn(&str) -> bool,
) -> Result<Vec<Arc<Authorizer>>, Error> {
    let directory = store.knowledge().authorizers();
    let _change = directory.change.lock().await;
    let mut loaded = Vec::new();
    for row in all(store.read(), component).await? {
        let ours = row.account.is_some() && row.state != State::NotServed;
        let free = directory.get(&row.app_id).is_none_or(|known| {
            // Its owner went from that platform to this one.
            let left = known.component != component && known.state == State::Withdrawn;
            left && row.state == State::Authorized
        });
        if ours && free && !is_other(&row.app_id) {
            loaded.push(row);
        }
    }
    let rows = loaded
        .iter()
        .map(|row| account_row(&row.app_id, &row.reason));
    write(store, rows.collect()).await?;
    store.knowledge().change_accounts(|accounts| {
        for row in &loaded {
            if let Some(id) = row.account {
                accounts.insert(id, Arc::new(account_of(row, id, like)));
            }
        }
    });
    for row in &loaded {
        directory.put(row.clone());
    }
    Ok(loaded.into_iter().map(Arc::new).collect())
}

/// One authorization.
pub async fn get(
    read: &DatabaseConnection,
    component: &str,
    app_id: &str,
) -> Result<Option<Authorizer>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM authorizers WHERE component = ?1 AND app_id = ?2");
    let row = sql::first(read, &sql, [component.into(), app_id.into()]).await?;
    row.as_ref().map(authorizer).transpose()
}

/// Every authorization of a component there ever was, by app id.
pub async fn all(read: &DatabaseConnection, component: &str) -> Result<Vec<Authorizer>, Error> {
    page(read, component, "", i64::MAX).await
}

/// Authorizations of a component after an app id.
pub async fn page(
    read: &DatabaseConnection,
    component: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<Authorizer>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM authorizers WHERE component = ?1 AND app_id > ?2
         ORDER BY app_id LIMIT ?3"
    );
    let values = [component.into(), after.into(), limit.into()];
    let rows = sql::all(read, &sql, values).await?;
    rows.iter().map(authorizer).collect()
}

/// Every authorization that belongs to an account of ours.
pub(super) async fn served(connection: &DatabaseConnection) -> Result<Vec<Authorizer>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM authorizers WHERE account_id <> 0");
    let rows = sql::all(connection, &sql, []).await?;
    rows.iter().map(authorizer).collect()
}
