//! Messages as words, for platforms that lack a kind: links, cards and menus in text.
//!
//! Pure. A text may hold links as WeChat writes them, `<a href="…">label</a>`; other platforms have
//! markup of their own, or none.

use crate::journey::message::{MsgMenu, News, Video};

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    Words(&'t str),
    Link { url: &'t str, label: &'t str },
}

/// A text's parts in their order. What only looks like a link stays words.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(found) = text[at..].find("<a ") {
        let start = at + found;
        match link(&text[start..]) {
            Some((piece, length)) => {
                if start > from {
                    pieces.push(Piece::Words(&text[from..start]));
                }
                pieces.push(piece);
                at = start + length;
                from = at;
            }
            None => at = start + "<a ".len(),
        }
    }
    if from < text.len() {
        pieces.push(Piece::Words(&text[from..]));
    }
    pieces
}

/// A link at the beginning of a text, and how long it is.
fn link(text: &str) -> Option<(Piece<'_>, usize)> {
    let (tag, rest) = text.split_once('>')?;
    let (_, value) = tag.split_once("href=")?;
    let quote = value
        .chars()
        .next()
        .filter(|one| matches!(one, '"' | '\''))?;
    let (url, _) = value[1..].split_once(quote)?;
    let (label, _) = rest.split_once("</a>")?;
    let length = tag.len() + 1 + label.len() + "</a>".len();
    Some((Piece::Link { url, label }, length))
}

/// Words only: a link's address stands behind its label.
pub(super) fn plain(text: &str) -> String {
    let parts = pieces(text).into_iter().map(|piece| match piece {
        Piece::Words(words) => words.to_owned(),
        Piece::Link { url, label } if label.trim().is_empty() || label == url => url.to_owned(),
        Piece::Link { url, label } => format!("{label} {url}"),
    });
    parts.collect()
}

/// A text for HTML, its links kept as links.
pub(super) fn html(text: &str) -> String {
    let parts = pieces(text).into_iter().map(|piece| match piece {
        Piece::Words(words) => escaped(words),
        Piece::Link { url, label } => {
            format!("<a href=\"{}\">{}</a>", escaped(url), escaped(label))
        }
    });
    parts.collect()
}

/// Text that HTML shows as it is.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// A card as words: title, description, address.
pub(super) fn news(news: &News) -> String {
    lines(&[&news.title, &news.description, &news.url])
}

/// What stands under a video.
pub(super) fn video(video: &Video) -> String {
    lines(&[&video.title, &video.description])
}

/// A menu's own words, without its choices.
pub(super) fn menu_words(menu: &MsgMenu) -> String {
    lines(&[&plain(&menu.head), &plain(&menu.tail)])
}

/// A menu as words: its choices are a list.
pub(super) fn menu(menu: &MsgMenu) -> String {
    let items = menu.items.iter().map(|item| format!("- {}", item.text));
    let items: Vec<_> = items.collect();
    lines(&[&plain(&menu.head), &items.join("\n"), &plain(&menu.tail)])
}

fn lines(parts: &[&str]) -> String {
    let parts: Vec<_> = parts
        .iter()
        .filter(|part| !part.is_empty())
        .copied()
        .collect();
    parts.join("\n")
}

/// The first characters of a text, with an ellipsis where it was longer.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept = text.chars().take(most.saturating_sub(1));
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_and_what_only_looks_like_one_stays_words() {
        let text = "Hi, <a href=\"https://a.example/?x=1&y=2\">here & now</a>! 1 < 2";
        assert_eq!(
            plain(text),
            "Hi, here & now https://a.example/?x=1&y=2! 1 < 2"
        );
        assert_eq!(
            html(text),
            "Hi, <a href=\"https://a.example/?x=1&amp;y=2\">here &amp; now</a>! 1 &lt; 2"
        );
        let bare = "<a href='https://a.example'></a>";
        assert_eq!(plain(bare), "https://a.example");
        for odd in [
            "<a href=x>y</a>",
            "<a name=\"x\">",
            "<a ",
            "a <a href=\"u\">never closed",
        ] {
            assert_eq!(plain(odd), odd);
            assert_eq!(html(odd), escaped(odd));
        }
    }

    #[test]
    fn a_menu_as_words_lists_its_choices() {
        let of = |id: &str| crate::journey::message::MenuItem {
            id: id.into(),
            text: format!("choice {id}"),
        };
        let shown = menu(&MsgMenu {
            head: "Which?".into(),
            items: vec![of("a"), of("b")],
            tail: String::new(),
        });
        assert_eq!(shown, "Which?\n- choice a\n- choice b");
    }

    #[test]
    fn a_shortened_text_keeps_whole_characters() {
        assert_eq!(shortened("你好吗", 3), "你好吗");
        assert_eq!(shortened("你好吗", 2), "你…");
    }
}
