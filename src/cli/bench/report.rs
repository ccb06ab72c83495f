//! What a measurement says, and how it is printed.

use std::time::Duration;

use serde::Serialize;

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    pub(super) what: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    /// What was run to get it.
    pub(super) ran: String,
}

impl Figure {
    pub(super) fn new(what: &str, value: f64, unit: &'static str, ran: String) -> Self {
        Self {
            what: what.to_owned(),
            value,
            unit,
            ran,
        }
    }

    /// So many things in so much time.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn rate(what: &str, count: usize, took: Duration, ran: String) -> Self {
        Self::new(what, count as f64 / took.as_secs_f64(), "/s", ran)
    }
}
