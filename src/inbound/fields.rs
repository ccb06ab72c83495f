//! The fields of one callback, whichever way it was written, and the bounds that they are held to.

use std::fmt;

use thiserror::Error;

/// Longest body read, in bytes, encrypted or not.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting, the outermost element included. The platform's own reach 5.
pub const DEPTH_MAX: usize = 8;
/// Most elements (or JSON values) in one body.
pub const ELEMENTS_MAX: usize = 200;

/// Top-level names that something is decided on; each may occur once.
pub(super) const DECISIVE: [&str; 14] = [
    "AppId",
    "Content",
    "CreateTime",
    "Encrypt",
    "Event",
    "EventKey",
    "FromUserName",
    "InfoType",
    "MsgID",
    "MsgId",
    "MsgType",
    "OpenID",
    "ToUserName",
    "bizmsgmenuid",
];

/// How a body is written. Own accounts choose; third-party platforms get XML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Xml,
    Json,
}

impl Format {
    /// The format of `body`, by its first character.
    pub fn of(body: &[u8]) -> Result<Self, ReadError> {
        match body.trim_ascii_start().first() {
            Some(b'<') => Ok(Self::Xml),
            Some(b'{') => Ok(Self::Json),
            _ => Err(ReadError::Malformed("neither XML nor JSON")),
        }
    }
}

/// Why a body is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Longer than `BODY_BYTES_MAX`.
    #[error("the body is longer than 64 KiB")]
    Oversized,
    /// Not what the platform writes; says what is wrong, never what it contains.
    #[error("the body is malformed: {0}")]
    Malformed(&'static str),
}

/// The fields of one callback in their order: those at the top, and those inside others.
#[derive(Default)]
pub struct Fields {
    top: Vec<(String, String)>,
    inner: Vec<(String, String)>,
    /// Elements met so far, with or without text of their own.
    elements: usize,
}

impl fmt::Debug for Fields {
    /// Shows the names only: texts are what followers wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.top.iter().map(|(name, _)| name);
        f.debug_set().entries(names).finish()
    }
}

impl Fields {
    /// The text of a top-level field. The first one, where a name that decides nothing repeats.
    pub fn get(&self, name: &str) -> Option<&str> {
        find(&self.top, name)
    }

    /// The text of the first field of this name at any depth, the top first.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.get(name).or_else(|| find(&self.inner, name))
    }

    /// The inner fields in groups that each begin with a field of this name: the items of a list.
    pub(super) fn records(&self, first: &str) -> Vec<Record<'_>> {
        let mut records: Vec<Record<'_>> = Vec::new();
        for field in &self.inner {
            if field.0 == first {
                records.push(Record(Vec::new()));
            }
            if let Some(record) = records.last_mut() {
                record.0.push(field);
            }
        }
        records
    }

    /// Counts one more element at `depth`, where the outermost one is at 1.
    pub(super) fn enter(&mut self, depth: usize) -> Result<(), ReadError> {
        self.elements += 1;
        if depth > DEPTH_MAX {
            return Err(ReadError::Malformed("nested too deeply"));
        }
        if self.elements > ELEMENTS_MAX {
            return Err(ReadError::Malformed("too many elements"));
        }
        Ok(())
    }

    /// Takes in a field whose element is at `depth`.
    pub(super) fn add(
        &mut self,
        depth: usize,
        name: String,
        text: String,
    ) -> Result<(), ReadError> {
        if text.contains('\0') {
            return Err(ReadError::Malformed("NUL character"));
        }
        if depth > 2 {
            self.inner.push((name, text));
        } else if DECISIVE.contains(&name.as_str()) && self.get(&name).is_some() {
            return Err(ReadError::Malformed("a field occurs twice"));
        } else {
            self.top.push((name, text));
        }
        Ok(())
    }
}

/// One item of a list.
pub(super) struct Record<'f>(Vec<&'f (String, String)>);

impl<'f> Record<'f> {
    /// The text of the item's first field of this name.
    pub(super) fn get(&self, name: &str) -> Option<&'f str> {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map(|(_, text)| text.as_str())
    }
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(field, _)| field == name);
    found.map(|(_, text)| text.as_str())
}
