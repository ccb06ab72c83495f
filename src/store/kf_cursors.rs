//! Table `kf_cursors`: how far the messages of each account of WeCom's 微信客服 have been read.

use sea_orm::DatabaseConnection;

use crate::journey::ids::AccountId;
use crate::store::sql::{self, text};
use crate::store::{Error, Store};

/// Where an account's messages go on; `None` at the beginning.
pub async fn get(read: &DatabaseConnection, account: AccountId) -> Result<Option<String>, Error> {
    let sql = "SELECT cursor FROM kf_cursors WHERE account_id = ?1";
    let row = sql::first(read, sql, [account.0.into()]).await?;
    row.map(|row| text(&row, 0)).transpose()
}

/// Notes that everything before `cursor` is in storage.
pub async fn keep(store: &Store, account: AccountId, cursor: String) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                sql::run(
                    tx,
                    "INSERT INTO kf_cursors (account_id, cursor) VALUES (?1, ?2)
                     ON CONFLICT (account_id) DO UPDATE SET cursor = excluded.cursor",
                    [account.0.into(), cursor.into()],
                )
                .await?;
                Ok(())
            })
        })
        .await
}
