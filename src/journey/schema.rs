//! The JSON Schema of sequence files, for editors.
//!
//! Made from the very types that `parse` reads, so the two cannot drift apart. It describes the
//! shape only: `dripwheel check` knows more.

use schemars::generate::SchemaSettings;

use crate::journey::parse::raw::RawSequence;

/// The schema, in the 2020-12 dialect.
pub fn sequence_schema() -> serde_json::Value {
    SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<RawSequence>()
        .to_value()
}
