//! Reads the fields of a callback that is written in JSON, under the bounds of `inbound::xml`.
//!
//! Every scalar becomes text, as in XML, so that one reader of meanings serves both and a callback
//! has one digest in either format. Keys that occur twice are refused, where a map would silently
//! keep the last.
//!
//! Deliberately absent: what the fields mean (`inbound::message`).

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use super::fields::{Fields, ReadError};

/// Reads one JSON object and nothing after it.
pub(super) fn read(body: &str) -> Result<Fields, ReadError> {
    let mut reading = Reading {
        fields: Fields::default(),
        refusal: None,
    };
    let mut source = serde_json::Deserializer::from_str(body);
    let value = Value {
        reading: &mut reading,
        name: "",
        depth: 1,
    };
    let read = value.deserialize(&mut source).and_then(|()| source.end());
    match (read, reading.refusal) {
        (Ok(()), _) => Ok(reading.fields),
        (Err(_), Some(refusal)) => Err(refusal),
        (Err(_), None) => Err(ReadError::Malformed("not well-formed")),
    }
}

struct Reading {
    fields: Fields,
    /// What a bound said; the JSON reader's own error type cannot carry it.
    refusal: Option<ReadError>,
}

/// Reads one value into the fields: the one called `name`, at `depth` (the whole body is at 1).
struct Value<'a> {
    reading: &'a mut Reading,
    name: &'a str,
    depth: usize,
}

impl Value<'_> {
    /// Takes the value in. One that holds others does so with no text, so that its name is taken
    /// and cannot come again.
    fn add<E: Error>(&mut self, text: String) -> Result<(), E> {
        if self.depth == 1 {
            return self.refuse(ReadError::Malformed("not an object"));
        }
        let name = self.name.to_owned();
        match self.reading.fields.add(self.depth, name, text) {
            Ok(()) => Ok(()),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn refuse<E: Error>(&mut self, refusal: ReadError) -> Result<(), E> {
        self.reading.refusal = Some(refusal);
        Err(E::custom(refusal))
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, source: D) -> Result<(), D::Error> {
        match self.reading.fields.enter(self.depth) {
            Ok(()) => source.deserialize_any(self),
            Err(refusal) => self.refuse(refusal),
        }
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.add(text.to_owned())
    }

    fn visit_u64<E: Error>(mut self, number: u64) -> Result<(), E> {
        self.add(number.to_string())
    }

    fn visit_i64<E: Error>(mut self, number: i64) -> Result<(), E> {
        self.add(number.to_string())
    }

    fn visit_f64<E: Error>(mut self, number: f64) -> Result<(), E> {
        self.add(number.to_string())
    }

    fn visit_bool<E: Error>(mut self, truth: bool) -> Result<(), E> {
        self.add(truth.to_string())
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.add(String::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.add(String::new())?;
        loop {
            let item = Value {
                reading: &mut *self.reading,
                name: self.name,
                depth: self.depth + 1,
            };
            if items.next_element_seed(item)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        if self.depth > 1 {
            self.add(String::new())?;
        }
        while let Some(name) = entries.next_key::<String>()? {
            entries.next_value_seed(Value {
                reading: &mut *self.reading,
                name: &name,
                depth: self.depth + 1,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::xml::{BODY_BYTES_MAX, DEPTH_MAX, ELEMENTS_MAX, Format};
    use super::*;

    fn read(body: &str) -> Result<Fields, ReadError> {
        Fields::read(body.as_bytes(), Format::Json)
    }

    #[test]
    fn scalars_become_the_text_that_xml_would_have() {
        let fields = read(
            r#"{"FromUserName":"o\u0041","CreateTime":1714037059,"MsgId":18446744073709551615,
                "Latitude":23.5,"Yes":true,"Nothing":null,"Below":-1,
                "Event":{"List":[{"TemplateId":"T1"},{"TemplateId":"T2"}]}}"#,
        )
        .unwrap();
        for (name, text) in [
            ("FromUserName", "oA"),
            ("CreateTime", "1714037059"),
            ("MsgId", "18446744073709551615"),
            ("Latitude", "23.5"),
            ("Yes", "true"),
            ("Nothing", ""),
            ("Below", "-1"),
            ("Event", ""),
        ] {
            assert_eq!(fields.get(name), Some(text), "{name}");
        }
        assert_eq!(
            (fields.get("TemplateId"), fields.first("TemplateId")),
            (None, Some("T1"))
        );
    }

    #[test]
    fn decisive_keys_occur_once_whatever_they_hold() {
        for body in [
            r#"{"Encrypt":"a","Encrypt":"b"}"#,
            r#"{"FromUserName":"a","FromUserName":"a"}"#,
            r#"{"FromUserName":["a"],"FromUserName":"b"}"#,
            r#"{"FromUserName":{"a":1},"FromUserName":"b"}"#,
            r#"{"FromUserName":null,"FromUserName":"b"}"#,
            r#"{"FromUserName":"a","\u0046romUserName":"b"}"#,
        ] {
            let error = read(body).unwrap_err();
            assert_eq!(
                error,
                ReadError::Malformed("a field occurs twice"),
                "{body}"
            );
        }
    }

    #[test]
    fn depth_count_and_size_are_bounded_at_the_edge() {
        let nested =
            |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth - 1), "}".repeat(depth - 1));
        assert!(read(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(
            read(&nested(DEPTH_MAX + 1)).unwrap_err(),
            ReadError::Malformed("nested too deeply")
        );
        assert!(read(&format!(r#"{{"a":{}"#, "[".repeat(60_000))).is_err());
        let many = |count: usize| format!(r#"{{"a":[{}]}}"#, vec!["1"; count - 2].join(","));
        assert!(read(&many(ELEMENTS_MAX)).is_ok());
        assert_eq!(
            read(&many(ELEMENTS_MAX + 1)).unwrap_err(),
            ReadError::Malformed("too many elements")
        );
        let long = format!(r#"{{"Content":"{}"}}"#, "x".repeat(BODY_BYTES_MAX));
        assert_eq!(read(&long).unwrap_err(), ReadError::Oversized);
    }

    #[test]
    fn what_is_not_one_json_object_is_refused() {
        for body in [
            "",
            "{",
            "[]",
            "1",
            "null",
            r#""a""#,
            "{}{}",
            "{} x",
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\u0000"}"#,
            r#"{"a":NaN}"#,
            r#"{"a":1e999}"#,
            "{'a':1}",
            r#"{"a" 1}"#,
            "{1:2}",
            "// x\n{}",
            r#"["FromUserName"]"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
        assert!(Fields::read(b"{\"a\":\"\xff\"}", Format::Json).is_err());
    }
}
