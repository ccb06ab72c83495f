//! Table `audit_log`: what people did to accounts, by API, console or command.

use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::clock::Timestamp;
use crate::journey::ids::AccountId;
use crate::store::receipts::cut;
use crate::store::sql::{self, instant, int, text};
use crate::store::{Error, Store};

/// Longest detail that is kept, in bytes.
const DETAIL_BYTES_MAX: usize = 300;

/// What was done. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Act {
    Pause = 1,
    Resume = 2,
    /// The platform was asked to clear the account's quotas, and did or may have.
    ClearQuota = 3,
    /// The platform refused to clear them.
    ClearQuotaRefused = 4,
}

impl Act {
    const ALL: [Self; 4] = [
        Self::Pause,
        Self::Resume,
        Self::ClearQuota,
        Self::ClearQuotaRefused,
    ];

    /// The word that API and pages use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::ClearQuota => "clear_quota",
            Self::ClearQuotaRefused => "clear_quota_refused",
        }
    }
}

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub account: AccountId,
    pub act: Act,
    pub at: Timestamp,
    /// Name of the API key, or of who signed in.
    pub caller: String,
    pub detail: String,
}

pub(super) async fn append(tx: &DatabaseTransaction, entry: &Entry) -> Result<(), Error> {
    sql::run(
        tx,
        "INSERT INTO audit_log (account_id, act, at, caller, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
        [
            entry.account.0.into(),
            i64::from(entry.act as u8).into(),
            entry.at.0.into(),
            entry.caller.clone().into(),
            cut(&entry.detail, DETAIL_BYTES_MAX).to_owned().into(),
        ],
    )
    .await?;
    Ok(())
}

/// Writes an act down.
pub async fn note(store: &Store, entry: Entry) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| Box::pin(async move { append(tx, &entry).await }))
        .await
}

/// An account's acts from an instant on, newest first, at most `limit`.
pub async fn since(
    read: &DatabaseConnection,
    account: AccountId,
    from: Timestamp,
    limit: u32,
) -> Result<Vec<Entry>, Error> {
    let rows = sql::all(
        read,
        "SELECT act, at, caller, detail FROM audit_log
         WHERE account_id = ?1 AND at >= ?2 ORDER BY at DESC, id DESC LIMIT ?3",
        [account.0.into(), from.0.into(), i64::from(limit).into()],
    )
    .await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        let number = int(row, 0)?;
        let act = Act::ALL
            .into_iter()
            .find(|act| i64::from(*act as u8) == number);
        let Some(act) = act else { continue };
        entries.push(Entry {
            account,
            act,
            at: instant(row, 1)?,
            caller: text(row, 2)?,
            detail: text(row, 3)?,
        });
    }
    Ok(entries)
}

/// The accounts whose quotas were cleared for certain after an act, and the number of the latest act;
/// without a number, only that.
pub async fn clears_after(
    read: &DatabaseConnection,
    number: Option<i64>,
) -> Result<(Vec<AccountId>, i64), Error> {
    let Some(after) = number else {
        let row = sql::first(read, "SELECT coalesce(max(id), 0) FROM audit_log", []).await?;
        return Ok((Vec::new(), row.map_or(Ok(0), |row| int(&row, 0))?));
    };
    let rows = sql::all(
        read,
        "SELECT id, account_id, act, detail FROM audit_log WHERE id > ?1 ORDER BY id LIMIT 1000",
        [after.into()],
    )
    .await?;
    let (mut cleared, mut latest) = (Vec::new(), after);
    for row in &rows {
        latest = int(row, 0)?;
        if int(row, 2)? == i64::from(Act::ClearQuota as u8) && text(row, 3)?.is_empty() {
            cleared.push(AccountId(int(row, 1)?));
        }
    }
    Ok((cleared, latest))
}
