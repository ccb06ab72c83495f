//! Tables as CSV, for programs that show tables.
//!
//! Such a program runs a cell that begins like a formula: whatever comes from people gets a quote before
//! it (OWASP, "CSV Injection"), and reads as the text that it is.

use std::borrow::Cow;

/// A cell that no program takes for a formula.
pub(super) fn cell(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        return Cow::Owned(format!("'{text}"));
    }
    Cow::Borrowed(text)
}

/// Rows as CSV with the line ends that the format has (RFC 4180).
pub(super) fn write<'a>(rows: impl IntoIterator<Item = Vec<Cow<'a, str>>>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    for row in rows {
        let cells = row.iter().map(|text| text.as_bytes());
        // A Vec takes whatever is written to it, and rows of one table are as long as each other.
        if let Err(error) = writer.write_record(cells) {
            tracing::error!(%error, "a row was not written");
        }
    }
    writer.into_inner().unwrap_or_default()
}

/// Whether a caller wants CSV: asked for by name, or preferred to JSON.
pub(super) fn wanted(format: Option<Format>, accept: Option<&str>) -> bool {
    match format {
        Some(format) => format == Format::Csv,
        None => accept.is_some_and(|accept| {
            let first = accept.split(',').next().unwrap_or_default();
            first.trim().starts_with("text/csv")
        }),
    }
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, poem_openapi::Enum)]
#[oai(rename_all = "lowercase")]
pub(super) enum Format {
    Json,
    Csv,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_begins_a_formula() {
        for text in ["=1+1", "+1", "-1", "@x", "\tx", "\r=x"] {
            let written = write([vec![cell(text), cell("plain")]]);
            let read = csv::ReaderBuilder::new()
                .has_headers(false)
                .from_reader(&written[..]);
            let row = read
                .into_records()
                .next()
                .expect("is a row")
                .expect("is CSV");
            assert_eq!(&row[0], format!("'{text}"));
            assert_eq!(&row[1], "plain");
        }
    }

    #[test]
    fn what_has_signs_of_the_format_in_it_stays_one_cell() {
        let text = "a,\"b\"\r\nc";
        let written = write([vec![cell(text)], vec![cell("你好")]]);
        assert_eq!(written, "\"a,\"\"b\"\"\r\nc\"\r\n你好\r\n".as_bytes());
    }

    #[test]
    fn csv_is_for_those_who_ask_for_it() {
        assert!(wanted(None, Some("text/csv, */*")));
        assert!(wanted(Some(Format::Csv), Some("application/json")));
        assert!(!wanted(Some(Format::Json), Some("text/csv")));
        assert!(!wanted(None, Some("*/*")) && !wanted(None, None));
    }
}
