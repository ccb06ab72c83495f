//! Table `accounts`: the configured accounts, and which of them may not send for now.

use std::collections::HashMap;
use std::sync::Arc;

use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue, ColumnTrait, EntityTrait, QueryFilter};

use crate::clock::Timestamp;
use crate::journey::ids::AccountId;
use crate::policy::account::Account;
use crate::store::entity::account;
use crate::store::{Error, Store};

/// An account as configured, before it has an id.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Its `journey.id` is not looked at.
    pub account: Account,
    pub platform: String,
    pub app_id: String,
}

/// An account's standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub id: AccountId,
    pub key: String,
    pub platform: String,
    pub app_id: String,
    /// Nothing is sent before this instant.
    pub paused_until: Timestamp,
    pub pause_reason: String,
    /// A person has to act before anything passes.
    pub attention: bool,
}

impl From<account::Model> for Standing {
    fn from(row: account::Model) -> Self {
        Self {
            id: AccountId(row.id),
            key: row.key,
            platform: row.platform,
            app_id: row.app_id,
            paused_until: Timestamp(row.paused_until),
            pause_reason: row.pause_reason,
            attention: row.attention != 0,
        }
    }
}

/// Makes the configured accounts known, to the rows and to the writer.
pub async fn configure(store: &Store, accounts: Vec<NewAccount>) -> Result<(), Error> {
    let rows: Vec<_> = accounts
        .iter()
        .map(|new| account::ActiveModel {
            id: ActiveValue::NotSet,
            key: ActiveValue::Set(new.account.journey.key.clone()),
            platform: ActiveValue::Set(new.platform.clone()),
            app_id: ActiveValue::Set(new.app_id.clone()),
            paused_until: ActiveValue::Set(0),
            pause_reason: ActiveValue::Set(String::new()),
            attention: ActiveValue::Set(0),
        })
        .collect();
    if !rows.is_empty() {
        store
            .writer()
            .cold(move |tx| {
                Box::pin(async move {
                    // A restart is a person's act: pauses that wait for one end here.
                    let same = OnConflict::column(account::Column::Key)
                        .update_columns([
                            account::Column::Platform,
                            account::Column::AppId,
                            account::Column::PausedUntil,
                            account::Column::PauseReason,
                            account::Column::Attention,
                        ])
                        .to_owned();
                    account::Entity::insert_many(rows)
                        .on_conflict(same)
                        .exec_without_returning(tx)
                        .await?;
                    Ok(())
                })
            })
            .await?;
    }
    let ids: HashMap<_, _> = standings(store.read())
        .await?
        .into_iter()
        .map(|standing| (standing.key, standing.id))
        .collect();
    let mut known = HashMap::new();
    for new in accounts {
        let mut account = new.account;
        let id = ids.get(&account.journey.key).copied();
        account.journey.id =
            id.ok_or_else(|| Error::Unknown(format!("account {}", account.journey.key)))?;
        known.insert(account.journey.id, Arc::new(account));
    }
    store.knowledge().set_accounts(known);
    Ok(())
}

/// Every account there ever was, by key.
pub async fn standings(read: &sea_orm::DatabaseConnection) -> Result<Vec<Standing>, Error> {
    let rows = account::Entity::find().all(read).await?;
    Ok(rows.into_iter().map(Standing::from).collect())
}

/// Keeps an account from sending until `until`. `attention` asks a person to act.
pub async fn pause(
    store: &Store,
    id: AccountId,
    until: Timestamp,
    reason: String,
    attention: bool,
) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                account::Entity::update_many()
                    .col_expr(account::Column::PausedUntil, until.0.into())
                    .col_expr(account::Column::PauseReason, reason.into())
                    .col_expr(account::Column::Attention, i64::from(attention).into())
                    .filter(account::Column::Id.eq(id.0))
                    .exec(tx)
                    .await?;
                Ok(())
            })
        })
        .await
}
