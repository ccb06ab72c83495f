//! How instants, spans and foreign text are written for a person: by language and time zone.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::clock::{Timestamp, millis};
use crate::story::phrases::{Lang, Phrase};

/// A language, a zone and a moment to speak from.
#[derive(Clone, Debug)]
pub struct Voice {
    pub lang: Lang,
    pub zone: TimeZone,
    pub now: Timestamp,
}

impl Voice {
    /// A sentence.
    pub fn say(&self, phrase: Phrase, values: &[(&str, &str)]) -> String {
        phrase.say(self.lang, values)
    }

    /// The instant in the voice's zone, to the second: `2026-11-20 18:05:07`.
    pub fn when(&self, at: Timestamp) -> String {
        match jiff::Timestamp::from_millisecond(at.0) {
            Ok(instant) => instant
                .to_zoned(self.zone.clone())
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string(),
            // Beyond the calendar's years: the number is all there is to say.
            Err(_) => at.0.to_string(),
        }
    }

    /// How long it is from now until `at`; zero when that has passed.
    pub fn until(&self, at: Timestamp) -> String {
        self.span(at.since(self.now))
    }

    /// How long ago `at` was; zero when it is yet to come.
    pub fn ago(&self, at: Timestamp) -> String {
        self.span(self.now.since(at))
    }

    /// A span to two units: `0.4 s`, `12 s`, `5 min 3 s`, `3 h 20 min`, `2 d 4 h`.
    pub fn span(&self, span: Duration) -> String {
        let [day, hour, minute, second] = match self.lang {
            Lang::En => ["d", "h", "min", "s"],
            Lang::Zh => ["天", "小时", "分钟", "秒"],
        };
        let ms = millis(span);
        let seconds = ms / 1000;
        let two = |large: i64, unit, small: i64, part| {
            if small == 0 {
                format!("{large} {unit}")
            } else {
                format!("{large} {unit} {small} {part}")
            }
        };
        match seconds {
            0..10 => format!("{}.{} {second}", seconds, ms % 1000 / 100),
            10..60 => format!("{seconds} {second}"),
            60..3600 => two(seconds / 60, minute, seconds % 60, second),
            3600..86_400 => two(seconds / 3600, hour, seconds % 3600 / 60, minute),
            _ => two(seconds / 86_400, day, seconds % 86_400 / 3600, hour),
        }
    }
}

/// The instant in UTC, for where the zone's own time stands beside it.
pub fn utc(at: Timestamp) -> String {
    at.to_string()
}

/// Text that somebody else wrote, safe for terminals and honest on pages: control characters and
/// those that turn the direction of writing or cannot be seen are shown by their number.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let unseen = matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
            | '\u{feff}' | '\u{061c}' | '\u{00ad}');
        if c == '\n' || c == '\t' {
            shown.push(' ');
        } else if c.is_control() || unseen {
            shown.push_str(&format!("<U+{:04X}>", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(lang: Lang) -> Voice {
        Voice {
            lang,
            zone: TimeZone::get("Asia/Shanghai").expect("is bundled"),
            now: Timestamp(0),
        }
    }

    #[test]
    fn spans_are_written_to_two_units() {
        for (ms, en, zh) in [
            (0, "0.0 s", "0.0 秒"),
            (430, "0.4 s", "0.4 秒"),
            (12_900, "12 s", "12 秒"),
            (303_000, "5 min 3 s", "5 分钟 3 秒"),
            (12_000_000, "3 h 20 min", "3 小时 20 分钟"),
            (187_200_000, "2 d 4 h", "2 天 4 小时"),
            (3_600_000, "1 h", "1 小时"),
        ] {
            let span = Duration::from_millis(ms);
            assert_eq!(voice(Lang::En).span(span), en);
            assert_eq!(voice(Lang::Zh).span(span), zh);
        }
    }

    #[test]
    fn instants_are_written_in_the_zone_and_never_panic() {
        assert_eq!(voice(Lang::En).when(Timestamp(0)), "1970-01-01 08:00:00");
        for at in [i64::MIN, i64::MAX] {
            assert!(!voice(Lang::Zh).when(Timestamp(at)).is_empty());
        }
    }

    #[test]
    fn text_of_others_cannot_move_the_cursor_or_turn_the_line() {
        assert_eq!(plain("a\u{1b}[2Jb\u{202e}c\n"), "a<U+001B>[2Jb<U+202E>c ");
        assert_eq!(plain("你好 😀"), "你好 😀");
    }
}
