//! Tables `assets` and `media`: files of messages by content, and what platforms call them.

use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue, ColumnTrait, EntityTrait, QueryFilter};

use crate::clock::Timestamp;
use crate::journey::ids::AccountId;
use crate::store::entity::{asset, media};
use crate::store::{Error, Store};

/// A file of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Lower-case hex over `bytes`.
    pub sha256: String,
    /// File name, for the platform's upload form.
    pub name: String,
    pub mime: String,
    pub bytes: Vec<u8>,
}

/// What a platform calls an uploaded asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub media_id: String,
    /// The platform forgets it, or we stop trusting it, at this instant.
    pub expires_at: Timestamp,
}

/// The file with this content.
pub async fn by_sha256(store: &Store, sha256: &str) -> Result<Option<Asset>, Error> {
    let row = asset::Entity::find_by_id(sha256.to_owned())
        .one(store.read())
        .await?;
    Ok(row.map(|row| Asset {
        sha256: row.sha256,
        name: row.name,
        mime: row.mime,
        bytes: row.bytes,
    }))
}

/// What the platform calls an asset, if it has been uploaded.
pub async fn uploaded(
    store: &Store,
    account: AccountId,
    identity: &str,
    kind: &str,
) -> Result<Option<Uploaded>, Error> {
    let key = (account.0, identity.to_owned(), kind.to_owned());
    let row = media::Entity::find_by_id(key).one(store.read()).await?;
    Ok(row.map(|row| Uploaded {
        media_id: row.media_id,
        expires_at: Timestamp(row.expires_at),
    }))
}

/// Remembers what the platform calls an asset.
pub async fn remember(
    store: &Store,
    account: AccountId,
    identity: String,
    kind: String,
    uploaded: Uploaded,
) -> Result<(), Error> {
    let row = media::ActiveModel {
        account_id: ActiveValue::Set(account.0),
        identity: ActiveValue::Set(identity),
        kind: ActiveValue::Set(kind),
        media_id: ActiveValue::Set(uploaded.media_id),
        expires_at: ActiveValue::Set(uploaded.expires_at.0),
    };
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                let key = [
                    media::Column::AccountId,
                    media::Column::Identity,
                    media::Column::Kind,
                ];
                let same = OnConflict::columns(key)
                    .update_columns([media::Column::MediaId, media::Column::ExpiresAt])
                    .to_owned();
                media::Entity::insert(row)
                    .on_conflict(same)
                    .exec_without_returning(tx)
                    .await?;
                Ok(())
            })
        })
        .await
}

/// Forgets an upload that the platform no longer knows, unless a newer one took its place.
pub async fn forget(
    store: &Store,
    account: AccountId,
    identity: String,
    kind: String,
    media_id: String,
) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                media::Entity::delete_many()
                    .filter(media::Column::AccountId.eq(account.0))
                    .filter(media::Column::Identity.eq(identity))
                    .filter(media::Column::Kind.eq(kind))
                    .filter(media::Column::MediaId.eq(media_id))
                    .exec(tx)
                    .await?;
                Ok(())
            })
        })
        .await
}
