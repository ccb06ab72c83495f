//! Spans of time as people write them: `0s`, `10m`, `23h`, `2d`, `1h30m`.

use std::time::Duration;

/// Units from the longest, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Longest span that is understood: ten years.
const SPAN_MAX: u64 = 3_650 * 86_400_000;

/// Reads a span such as `1h30m`: whole numbers, each with its unit, longest unit first.
///
/// # Errors
/// What is wrong, as a fragment that can follow the text in a message.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("is empty".to_owned());
    }
    let mut total: u64 = 0;
    let mut shortest = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let count: u64 = number
            .parse()
            .map_err(|_| "is not a span of time".to_owned())?;
        if unit.is_empty() {
            return Err(format!("has no unit after {number}"));
        }
        let Some((_, length)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("has the unknown unit `{unit}`"));
        };
        if *length >= shortest {
            return Err("has its units out of order".to_owned());
        }
        shortest = *length;
        total = count
            .checked_mul(*length)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= SPAN_MAX)
            .ok_or_else(|| "is longer than ten years".to_owned())?;
        rest = tail;
    }
    Ok(Duration::from_millis(total))
}

/// Writes a span the way `parse_span` reads it.
pub fn print_span(span: Duration) -> String {
    let mut rest = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, length) in UNITS {
        if rest >= length {
            text.push_str(&format!("{}{name}", rest / length));
            rest %= length;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_the_same() {
        for (text, seconds) in [
            ("0s", 0),
            ("10m", 600),
            ("23h", 82_800),
            ("2d", 172_800),
            ("1h30m", 5_400),
            ("1d2h3m4s", 93_784),
        ] {
            let span = parse_span(text).unwrap();
            assert_eq!(span, Duration::from_secs(seconds));
            assert_eq!(print_span(span), text);
        }
        assert_eq!(parse_span("1500ms").unwrap(), Duration::from_millis(1500));
    }

    #[test]
    fn a_span_that_is_not_one_says_why() {
        for (text, why) in [
            ("", "is empty"),
            ("10", "has no unit after 10"),
            ("soon", "is not a span of time"),
            ("-5m", "is not a span of time"),
            ("1.5h", "has no unit after 1"),
            ("10min", "has the unknown unit `min`"),
            ("30m1h", "has its units out of order"),
            ("1h1h", "has its units out of order"),
            ("99999d", "is longer than ten years"),
            ("99999999999999999999s", "is not a span of time"),
            ("１0s", "is not a span of time"),
        ] {
            assert_eq!(parse_span(text).unwrap_err(), why, "{text}");
        }
    }
}
