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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_every_key_and_tells_what_it_is_for() {
        let schema = sequence_schema();
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        assert_eq!(
            schema["required"],
            serde_json::json!(["sequence", "trigger", "steps"])
        );
        assert_eq!(schema["additionalProperties"], false);
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(properties.len(), 19);
        for (key, value) in properties {
            assert!(value["description"].is_string(), "{key}");
        }
        let step = &schema["$defs"]["step"];
        assert_eq!(step["required"], serde_json::json!(["id", "say"]));
        assert_eq!(
            schema["$defs"]["on_unknown"]["enum"],
            serde_json::json!(["resend", "skip"])
        );
        let kinds = schema["$defs"]["message"]["oneOf"].as_array().unwrap();
        assert_eq!(kinds.len(), 8);
    }

    #[test]
    fn no_name_of_our_code_is_in_it() {
        let text = sequence_schema().to_string();
        assert!(!text.contains("Raw"), "{text}");
    }
}
