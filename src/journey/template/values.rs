//! What templates can see, and the filters they can use.

use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;
use minijinja::value::{Object, ObjectRepr};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, context};

use crate::clock::Timestamp;

/// How a value is printed.
pub(super) type Printer = fn(&mut Output<'_>, &mut State<'_, '_>, &Value) -> Result<(), Error>;

/// What may be printed, or asked, about one delivery. Plain data, and nothing else is visible.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The follower's language tag; empty when it is not known.
    pub language: String,
    /// Scene of the QR code that led to the follow.
    pub scene: Option<String>,
    pub tags: Vec<String>,
    pub followed_at: Timestamp,
    pub account_key: String,
    pub account_name: String,
    pub sequence_name: String,
    pub step_id: String,
    pub now: Timestamp,
    /// Zone in which instants are printed.
    pub zone: TimeZone,
    /// Links of this passage that were clicked: by step, name and position, as `clicked` names them.
    pub clicked: Vec<String>,
}

impl Facts {
    pub(super) fn context(&self) -> Value {
        let moment = |at: Timestamp| {
            Value::from_object(Moment {
                at,
                zone: self.zone.clone(),
            })
        };
        context! {
            follower => context! {
                language => self.language.as_str(),
                scene => self.scene.as_deref().unwrap_or(""),
                tags => self.tags.clone(),
                followed_at => moment(self.followed_at),
            },
            account => context! { key => self.account_key.as_str(), name => self.account_name.as_str() },
            sequence => context! { name => self.sequence_name.as_str() },
            step => context! { id => self.step_id.as_str() },
            now => moment(self.now),
            // The grammar lets nobody print it: for `clicked` alone.
            clicked_links => self.clicked.clone(),
        }
    }
}

/// An instant as templates see it: printed as local date and time.
#[derive(Debug)]
struct Moment {
    at: Timestamp,
    zone: TimeZone,
}

impl Moment {
    fn print(&self, format: &str) -> Option<String> {
        let instant = jiff::Timestamp::from_millisecond(self.at.0).ok()?;
        jiff::fmt::strtime::format(format, &instant.to_zoned(self.zone.clone())).ok()
    }
}

impl Object for Moment {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print("%Y-%m-%d %H:%M").ok_or(fmt::Error)?)
    }
}

/// Adds every filter that `grammar` allows.
pub(super) fn add_filters(environment: &mut Environment<'static>) {
    environment.add_filter("default", |value: &Value, other: &str| {
        let text = value.to_string();
        if text.is_empty() {
            other.to_owned()
        } else {
            text
        }
    });
    environment.add_function("clicked", |state: &State<'_, '_>, name: &str| {
        let clicked = state.lookup("clicked_links");
        let mut clicked = clicked.into_iter().flat_map(|all| all.try_iter()).flatten();
        clicked.any(|one| one.as_str() == Some(name))
    });
    environment.add_filter("upper", |text: &str| text.to_uppercase());
    environment.add_filter("lower", |text: &str| text.to_lowercase());
    environment.add_filter("trim", |text: &str| text.trim().to_owned());
    environment.add_filter("truncate", |text: &str, most: usize| {
        text.chars().take(most).collect::<String>()
    });
    environment.add_filter("date", |value: &Value, format: &str| {
        value
            .downcast_object_ref::<Moment>()
            .and_then(|moment| moment.print(format))
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "not a date"))
    });
}

/// Prints a value as it is.
pub(super) fn print(
    out: &mut Output<'_>,
    _: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    out.write_str(&value.to_string()).map_err(Error::from)
}

/// Prints a value so that it stays one part of a link, whatever is in it.
pub(super) fn print_encoded(
    out: &mut Output<'_>,
    _: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    for byte in value.to_string().bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            write!(out, "{}", char::from(byte)).map_err(Error::from)?;
        } else {
            write!(out, "%{byte:02X}").map_err(Error::from)?;
        }
    }
    Ok(())
}
