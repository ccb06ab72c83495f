//! Entities of the tables that are read and written a row at a time; columns only.

pub(super) mod account {
    use sea_orm::entity::prelude::*;

    /// Table `accounts`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "accounts")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        #[sea_orm(unique)]
        pub key: String,
        pub platform: String,
        pub app_id: String,
        pub paused_until: i64,
        pub pause_reason: String,
        pub attention: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod sequence_version {
    use sea_orm::entity::prelude::*;

    /// Table `sequence_versions`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "sequence_versions")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub sequence: String,
        pub hash: String,
        pub source: String,
        pub assets: String,
        pub published_at: i64,
        pub live: i64,
        pub kind: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod asset {
    use sea_orm::entity::prelude::*;

    /// Table `assets`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "assets")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub sha256: String,
        pub name: String,
        pub mime: String,
        pub bytes: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod media {
    use sea_orm::entity::prelude::*;

    /// Table `media`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "media")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub account_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub identity: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub kind: String,
        pub media_id: String,
        pub expires_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
