//! Table `sequence_versions`: what operators published, each content once and for ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue, ColumnTrait, DatabaseConnection, EntityTrait, QueryFilter, QueryOrder};

use crate::clock::Timestamp;
use crate::journey::catalog::{Catalog, Version};
use crate::journey::ids::VersionId;
use crate::journey::parse;
use crate::journey::sequence::Kind;
use crate::store::assets::Asset;
use crate::store::entity::{asset, sequence_version};
use crate::store::{Error, Store, fence, sql};

/// A sequence to be published.
#[derive(Clone, Debug)]
pub struct NewVersion {
    pub sequence: String,
    /// SHA-256 over source and files: what makes two versions the same.
    pub hash: String,
    /// The YAML as written.
    pub source: String,
    /// Every file it names, by path as written, as its SHA-256.
    pub assets: BTreeMap<String, String>,
    pub files: Vec<Asset>,
}

/// A published version as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    pub id: VersionId,
    pub sequence: String,
    pub hash: String,
    pub source: String,
    pub published_at: Timestamp,
    /// New enrollments get it.
    pub live: bool,
}

/// Makes `versions` the live ones. A content that was published before is not stored again; a
/// sequence that is not among them lets nobody new in. Followers inside stay on their version.
pub async fn publish(
    store: &Store,
    versions: Vec<NewVersion>,
    now: Timestamp,
) -> Result<(), Error> {
    store
        .writer()
        .cold(move |tx| {
            Box::pin(async move {
                sequence_version::Entity::update_many()
                    .col_expr(sequence_version::Column::Live, 0.into())
                    .filter(sequence_version::Column::Live.eq(1))
                    .exec(tx)
                    .await?;
                for version in versions {
                    for file in version.files {
                        let row = asset::ActiveModel {
                            sha256: ActiveValue::Set(file.sha256),
                            name: ActiveValue::Set(file.name),
                            mime: ActiveValue::Set(file.mime),
                            bytes: ActiveValue::Set(file.bytes),
                        };
                        let known = OnConflict::column(asset::Column::Sha256)
                            .do_nothing()
                            .to_owned();
                        asset::Entity::insert(row)
                            .on_conflict(known)
                            .exec_without_returning(tx)
                            .await?;
                    }
                    let assets = serde_json::to_string(&version.assets).unwrap_or_default();
                    let row = sequence_version::ActiveModel {
                        id: ActiveValue::NotSet,
                        sequence: ActiveValue::Set(version.sequence),
                        hash: ActiveValue::Set(version.hash),
                        source: ActiveValue::Set(version.source),
                        assets: ActiveValue::Set(assets),
                        published_at: ActiveValue::Set(now.0),
                        live: ActiveValue::Set(1),
                        kind: ActiveValue::Set(Kind::Sequence.number()),
                    };
                    let known = OnConflict::columns([
                        sequence_version::Column::Sequence,
                        sequence_version::Column::Hash,
                    ])
                    .update_column(sequence_version::Column::Live)
                    .to_owned();
                    sequence_version::Entity::insert(row)
                        .on_conflict(known)
                        .exec_without_returning(tx)
                        .await?;
                }
                sql::run(tx, fence::OUTDATE, []).await?;
                Ok(())
            })
        })
        .await?;
    store
        .knowledge()
        .set_catalog(load_catalog(store.read()).await?);
    Ok(())
}

/// Every version of a sequence ever published, oldest first.
pub async fn all(read: &DatabaseConnection) -> Result<Vec<StoredVersion>, Error> {
    let rows = sequence_version::Entity::find()
        .filter(sequence_version::Column::Kind.eq(Kind::Sequence.number()))
        .order_by_asc(sequence_version::Column::Id)
        .all(read)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| StoredVersion {
            id: VersionId(row.id),
            sequence: row.sequence,
            hash: row.hash,
            source: row.source,
            published_at: Timestamp(row.published_at),
            live: row.live != 0,
        })
        .collect())
}

/// The catalog as the rows have it.
///
/// # Errors
/// A stored source that this release cannot read: then nothing may start, since the followers
/// inside that version would be stuck.
pub async fn load_catalog(read: &DatabaseConnection) -> Result<Catalog, Error> {
    let mut catalog = Catalog::default();
    let rows = sequence_version::Entity::find()
        .order_by_asc(sequence_version::Column::Id)
        .all(read)
        .await?;
    for row in rows {
        let unreadable = |what: String| Error::Row {
            table: "sequence_versions",
            what: format!("version {} of `{}`: {what}", row.id, row.sequence),
        };
        let assets: BTreeMap<String, String> =
            serde_json::from_str(&row.assets).map_err(|error| unreadable(error.to_string()))?;
        let mut sequence = parse::parse_stored(&row.source, &assets).map_err(|problems| {
            let first = problems.first().map(|problem| problem.message.clone());
            unreadable(first.unwrap_or_default())
        })?;
        sequence.kind =
            Kind::from_number(row.kind).ok_or_else(|| unreadable(format!("kind {}", row.kind)))?;
        // A broadcast's has one that nobody can write, so that it is no sequence's.
        sequence.name.clone_from(&row.sequence);
        let zone = match &sequence.timezone {
            None => None,
            Some(name) => Some(TimeZone::get(name).map_err(|error| unreadable(error.to_string()))?),
        };
        let version = Version {
            id: VersionId(row.id),
            sequence,
            zone,
        };
        catalog.add(Arc::new(version), row.live != 0);
    }
    Ok(catalog)
}
