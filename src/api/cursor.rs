//! Cursors: where the next page begins, opaque to callers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::api::problem::{Code, Refusal};

/// The cursor for a page that begins below `id`.
pub(super) fn write(id: i64) -> String {
    URL_SAFE_NO_PAD.encode(id.to_be_bytes())
}

/// The id a cursor stands for.
pub(super) fn read(cursor: Option<&str>) -> Result<Option<i64>, Refusal> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let id = bytes
        .and_then(|bytes| bytes.try_into().ok())
        .map(i64::from_be_bytes);
    match id {
        Some(id) => Ok(Some(id)),
        None => Err(foreign()),
    }
}

/// The cursor for a page that begins behind a pair of ids.
pub(super) fn write_pair((one, other): (i64, i64)) -> String {
    URL_SAFE_NO_PAD.encode([one.to_be_bytes(), other.to_be_bytes()].concat())
}

/// The pair of ids a cursor stands for.
pub(super) fn read_pair(cursor: Option<&str>) -> Result<Option<(i64, i64)>, Refusal> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap_or_default();
    let id = |bytes: &[u8]| bytes.try_into().ok().map(i64::from_be_bytes);
    let pair = bytes.split_at_checked(8);
    match pair.and_then(|(one, other)| Some((id(one)?, id(other)?))) {
        Some(pair) => Ok(Some(pair)),
        None => Err(foreign()),
    }
}

/// The cursor for a page that begins behind a name among those of an id.
pub(super) fn write_place(id: i64, name: &str) -> String {
    URL_SAFE_NO_PAD.encode([&id.to_be_bytes()[..], name.as_bytes()].concat())
}

/// The id and the name a cursor stands for.
pub(super) fn read_place(cursor: Option<&str>) -> Result<Option<(i64, String)>, Refusal> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap_or_default();
    let place = bytes.split_at_checked(8).and_then(|(id, name)| {
        let id = id.try_into().ok().map(i64::from_be_bytes)?;
        Some((id, String::from_utf8(name.to_vec()).ok()?))
    });
    place.map(Some).ok_or_else(foreign)
}

fn foreign() -> Refusal {
    Refusal::new(
        Code::BadCursor,
        "the cursor is not one of ours: begin again without it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_id_and_nothing_else_does() {
        for id in [0, 1, i64::MAX, -1] {
            assert_eq!(read(Some(&write(id))).expect("is ours"), Some(id));
            let pair = write_pair((id, 7));
            assert_eq!(read_pair(Some(&pair)).expect("is ours"), Some((id, 7)));
            let place = write_place(id, "Ånn");
            let read_back = read_place(Some(&place)).expect("is ours");
            assert_eq!(read_back, Some((id, "Ånn".to_owned())));
            assert!(read(Some(&pair)).is_err() && read_pair(Some(&write(id))).is_err());
        }
        assert_eq!(read(None).expect("is the first page"), None);
        for foreign in ["", "1", "AAAAAAAAAAA=", "../../etc", "AAAAAAAAAAAA"] {
            assert!(read(Some(foreign)).is_err(), "{foreign}");
        }
    }
}
