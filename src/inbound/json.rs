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

use super::xml::{Fields, ReadError};

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
