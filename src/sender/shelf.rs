//! The adapters' shelf, kept in the store: files of messages and what platforms call them.

use std::sync::Arc;

use crate::sender::platform::Call;
use crate::sender::wechat::{MediaKey, Shelf, ShelfError, Uploaded};
use crate::store::{Store, assets};

/// A shelf over the store's rows.
#[derive(Clone, Debug)]
pub struct StoreShelf(pub Arc<Store>);

impl Shelf for StoreShelf {
    fn bytes<'a>(&'a self, sha256: &'a str) -> Call<'a, Result<Option<Vec<u8>>, ShelfError>> {
        Box::pin(async move {
            let asset = assets::by_sha256(&self.0, sha256).await?;
            Ok(asset.map(|asset| asset.bytes))
        })
    }

    fn load<'a>(&'a self, key: &'a MediaKey) -> Call<'a, Result<Option<Uploaded>, ShelfError>> {
        Box::pin(async move {
            let kind = key.kind.name();
            let row = assets::uploaded(&self.0, key.account, &key.identity, kind).await?;
            Ok(row.map(|row| Uploaded {
                media_id: row.media_id,
                expires_at: row.expires_at,
            }))
        })
    }

    fn save<'a>(
        &'a self,
        key: &'a MediaKey,
        uploaded: &'a Uploaded,
    ) -> Call<'a, Result<(), ShelfError>> {
        Box::pin(async move {
            let row = assets::Uploaded {
                media_id: uploaded.media_id.clone(),
                expires_at: uploaded.expires_at,
            };
            let (identity, kind) = (key.identity.clone(), key.kind.name().to_owned());
            assets::remember(&self.0, key.account, identity, kind, row).await?;
            Ok(())
        })
    }

    fn forget<'a>(
        &'a self,
        key: &'a MediaKey,
        media_id: &'a str,
    ) -> Call<'a, Result<(), ShelfError>> {
        Box::pin(async move {
            let (identity, kind) = (key.identity.clone(), key.kind.name().to_owned());
            let media_id = media_id.to_owned();
            assets::forget(&self.0, key.account, identity, kind, media_id).await?;
            Ok(())
        })
    }
}
