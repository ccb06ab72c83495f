//! Table `pauses`: accounts that a person keeps from sending, until a person lets them go on. They
//! outlast a restart. Nothing is sent after a pause that was committed before the intent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use sea_orm::DatabaseConnection;

use crate::clock::Timestamp;
use crate::journey::ids::AccountId;
use crate::store::audit_log::{self, Act, Entry};
use crate::store::receipts::cut;
use crate::store::sql::{self, instant, int, text};
use crate::store::{Error, Store, fence};

/// Longest reason that is kept, in bytes.
pub const REASON_BYTES_MAX: usize = 300;

/// A pause by a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    pub reason: String,
    /// Name of the API key, or of who signed in.
    pub by: String,
    pub at: Timestamp,
}

/// Every pause.
pub(super) async fn all(read: &DatabaseConnection) -> Result<HashMap<AccountId, Pause>, Error> {
    let sql = "SELECT account_id, reason, paused_by, paused_at FROM pauses";
    let rows = sql::all(read, sql, []).await?;
    rows.iter()
        .map(|row| {
            let pause = Pause {
                reason: text(row, 1)?,
                by: text(row, 2)?,
                at: instant(row, 3)?,
            };
            Ok((AccountId(int(row, 0)?), pause))
        })
        .collect()
}

/// Keeps an account from sending. A pause that there is already stays as it is; says whether this
/// one is new.
pub async fn pause(store: &Store, account: AccountId, pause: Pause) -> Result<bool, Error> {
    let pause = Pause {
        reason: cut(&pause.reason, REASON_BYTES_MAX).to_owned(),
        ..pause
    };
    let is_new = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_new);
    let knowledge = Arc::clone(store.knowledge());
    let known = pause.clone();
    let written = store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                if knowledge.pause(account).is_some() {
                    return Ok(());
                }
                told.store(true, Ordering::Release);
                // Known before it is committed: the next commit must not write an intent.
                knowledge.change_pauses(|pauses| pauses.insert(account, known.clone()));
                sql::run(
                    tx,
                    "INSERT INTO pauses (account_id, reason, paused_by, paused_at)
                     VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                    [
                        account.0.into(),
                        known.reason.clone().into(),
                        known.by.clone().into(),
                        known.at.0.into(),
                    ],
                )
                .await?;
                let entry = Entry {
                    account,
                    act: Act::Pause,
                    at: known.at,
                    caller: known.by,
                    detail: known.reason,
                };
                audit_log::append(tx, &entry).await?;
                sql::run(tx, fence::OUTDATE, []).await?;
                Ok(())
            })
        })
        .await;
    if let Err(error) = written {
        store.knowledge().change_pauses(|pauses| {
            if is_new.load(Ordering::Acquire) && pauses.get(&account) == Some(&pause) {
                pauses.remove(&account);
            }
        });
        return Err(error);
    }
    if !is_new.load(Ordering::Acquire) {
        return Ok(false);
    }
    tracing::warn!(
        account.id = account.0,
        by = pause.by,
        reason = pause.reason,
        "account paused"
    );
    Ok(true)
}

/// Lets an account go on; says whether it was paused.
pub async fn resume(
    store: &Store,
    account: AccountId,
    by: &str,
    at: Timestamp,
) -> Result<bool, Error> {
    let ended = Arc::new(OnceLock::new());
    let told = Arc::clone(&ended);
    let knowledge = Arc::clone(store.knowledge());
    let caller = by.to_owned();
    let written = store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let Some(pause) = knowledge.pause(account) else {
                    return Ok(());
                };
                let sql = "DELETE FROM pauses WHERE account_id = ?1";
                sql::run(tx, sql, [account.0.into()]).await?;
                let entry = Entry {
                    account,
                    act: Act::Resume,
                    at,
                    caller,
                    detail: String::new(),
                };
                audit_log::append(tx, &entry).await?;
                sql::run(tx, fence::OUTDATE, []).await?;
                // Here, where pauses are made: a later one is not taken for this one.
                knowledge.change_pauses(|pauses| pauses.remove(&account));
                told.set(pause).ok();
                Ok(())
            })
        })
        .await;
    if let Err(error) = written {
        if let Some(pause) = ended.get() {
            store.knowledge().change_pauses(|pauses| {
                pauses.entry(account).or_insert_with(|| pause.clone());
            });
        }
        return Err(error);
    }
    if ended.get().is_none() {
        return Ok(false);
    }
    tracing::warn!(account.id = account.0, by, "account resumed");
    Ok(true)
}
