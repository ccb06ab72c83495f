//! The fields of a callback's body, written as XML with CDATA or as JSON.
//!
//! Shapes are those of the platform's samples; which fields an event has is in `event` and `result`.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Fields in their order.
pub(super) type Fields = Vec<(&'static str, Field)>;

/// What one field holds.
#[derive(Clone, Debug)]
pub(super) enum Field {
    Text(String),
    Number(i64),
    Group(Fields),
    /// Entries that are each called `List`. JSON leaves out the name around them, and a single one
    /// is an object there instead of an array of one (both as the platform's JSON pushes have it).
    List(Vec<Fields>),
}

impl Field {
    /// A field of text.
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// A number that is counted without a sign.
    pub(super) fn number(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// The elements of `fields`, without one around them.
pub(super) fn xml(fields: &Fields) -> String {
    let mut xml = String::with_capacity(512);
    for (name, field) in fields {
        // Writing into a String cannot fail.
        let _ = match field {
            Field::Text(text) => write!(xml, "<{name}>{}</{name}>", cdata(text)),
            Field::Number(number) => write!(xml, "<{name}>{number}</{name}>"),
            Field::Group(fields) => write!(xml, "<{name}>{}</{name}>", self::xml(fields)),
            Field::List(entries) => {
                let entry = |fields: &Fields| format!("<List>{}</List>", self::xml(fields));
                let entries: String = entries.iter().map(entry).collect();
                write!(xml, "<{name}>{entries}</{name}>")
            }
        };
    }
    xml
}

/// The members of `fields`.
pub(super) fn json(fields: &Fields) -> Map<String, Value> {
    let mut members = Map::new();
    for (name, field) in fields {
        let (name, value) = match field {
            Field::Text(text) => (*name, Value::from(text.as_str())),
            Field::Number(number) => (*name, Value::from(*number)),
            Field::Group(fields) => (*name, Value::Object(json(fields))),
            Field::List(entries) => {
                let mut entries = entries.iter().map(|fields| Value::Object(json(fields)));
                let value = match entries.len() {
                    1 => entries.next().unwrap_or_default(),
                    _ => entries.collect(),
                };
                ("List", value)
            }
        };
        members.insert(name.to_owned(), value);
    }
    members
}

/// Text as CDATA; an end mark inside is split over two sections.
pub(super) fn cdata(text: &str) -> String {
    format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_one_and_of_two_have_the_platforms_shapes() {
        let entry = |id: &str| vec![("TemplateId", Field::text(id)), ("Scene", Field::Number(2))];
        let one = vec![("Outer", Field::List(vec![entry("a")]))];
        let two = vec![("Outer", Field::List(vec![entry("a"), entry("b")]))];
        assert_eq!(
            xml(&two),
            "<Outer><List><TemplateId><![CDATA[a]]></TemplateId><Scene>2</Scene></List>\
             <List><TemplateId><![CDATA[b]]></TemplateId><Scene>2</Scene></List></Outer>"
        );
        assert_eq!(json(&one)["List"]["TemplateId"], "a");
        assert_eq!(json(&two)["List"][1]["TemplateId"], "b");
    }
}
