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
        None => Err(Refusal::new(
            Code::BadCursor,
            "the cursor is not one of ours: begin again without it",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_id_and_nothing_else_does() {
        for id in [0, 1, i64::MAX, -1] {
            assert_eq!(read(Some(&write(id))).expect("is ours"), Some(id));
        }
        assert_eq!(read(None).expect("is the first page"), None);
        for foreign in ["", "1", "AAAAAAAAAAA=", "../../etc", "AAAAAAAAAAAA"] {
            assert!(read(Some(foreign)).is_err(), "{foreign}");
        }
    }
}
