//! Text of a message cut into plain pieces and links.
//!
//! The platform's clients show `<a href="http…">` inside a text as a link and everything else as
//! it is. Only http and https links are links here; the label of any other stays as plain text.

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Plain(String),
    Link { url: String, label: String },
}

/// Cuts a text. Never fails: what is not a whole link is plain.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("<a") {
        plain.push_str(&rest[..start]);
        rest = &rest[start..];
        let Some((href, label, after)) = anchor(rest) else {
            // Not an anchor: the two characters are plain, and the search goes on behind them.
            plain.push_str(&rest[..2]);
            rest = &rest[2..];
            continue;
        };
        match href.filter(|href| is_web(href)) {
            Some(url) => {
                if !plain.is_empty() {
                    pieces.push(Piece::Plain(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Link {
                    url: url.to_owned(),
                    label: label.to_owned(),
                });
            }
            None => plain.push_str(label),
        }
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Plain(plain));
    }
    pieces
}

/// The link's address, its label, and what follows it.
fn anchor(text: &str) -> Option<(Option<&str>, &str, &str)> {
    let inside = text.strip_prefix("<a")?;
    if !inside.starts_with([' ', '\t', '\n', '>']) {
        return None;
    }
    let (attributes, after) = inside.split_once('>')?;
    let (label, after) = after.split_once("</a>")?;
    // The space keeps `data-href` from being taken for it.
    let href = attributes.split_once(" href=").and_then(|(_, value)| {
        let quote = value
            .chars()
            .next()
            .filter(|quote| ['"', '\''].contains(quote))?;
        value[1..].split_once(quote).map(|(href, _)| href)
    });
    Some((href, label, after))
}

/// Whether an address is an absolute http or https URL.
pub(super) fn is_web(address: &str) -> bool {
    url::Url::parse(address).is_ok_and(|url| ["http", "https"].contains(&url.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, wanted: &[(&str, Option<&str>)]) {
        let found = pieces(text);
        let found: Vec<_> = found
            .iter()
            .map(|piece| match piece {
                Piece::Plain(text) => (text.as_str(), None),
                Piece::Link { url, label } => (label.as_str(), Some(url.as_str())),
            })
            .collect();
        assert_eq!(found, wanted, "{text}");
    }

    #[test]
    fn web_links_are_links_and_all_else_is_plain() {
        let link = "看 <a href=\"https://a.example/?x=1&y=2\">这里</a>！";
        check(
            link,
            &[
                ("看 ", None),
                ("这里", Some("https://a.example/?x=1&y=2")),
                ("！", None),
            ],
        );
        check(
            "<a href='http://b.example'>b</a>",
            &[("b", Some("http://b.example"))],
        );
        check("<a href=\"javascript:alert(1)\">x</a>", &[("x", None)]);
        check("<a href=\"//evil\">x</a>", &[("x", None)]);
        check("<a data-href=\"http://e.example\">x</a>", &[("x", None)]);
        check(
            "<a data-miniprogram-appid=\"wx\">mini</a>!",
            &[("mini!", None)],
        );
    }

    #[test]
    fn broken_markup_is_shown_as_it_is() {
        for text in [
            "<a",
            "<a href=\"http://x\">open",
            "<abbr>x</abbr>",
            "a < b <b>c</b>",
            "",
        ] {
            let wanted = if text.is_empty() {
                vec![]
            } else {
                vec![(text, None)]
            };
            check(text, &wanted);
        }
    }
}
