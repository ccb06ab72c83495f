//! Checks what a node says of itself.

use std::time::Duration;

use super::check::{Check, DEFAULTS, pick, preset};
use super::raw::RawNode;
use super::{Database, Node, Sender};

/// Longest name, in characters.
const NAME_MAX: usize = 128;

/// Bounds of a lease. A shorter one would end with every hiccup of the database; after a crash the
/// accounts of a longer one would wait too long for another node.
const LEASE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(300));

impl Check<'_> {
    pub(super) fn node(
        &mut self,
        raw: Option<&RawNode>,
        database: Option<&Database>,
        sender: Option<&Sender>,
    ) -> Option<Node> {
        let base = preset(DEFAULTS.node.as_ref());
        let name = match raw.and_then(|raw| raw.name.as_ref()) {
            Some(at) => Some(self.text(at, "a name", NAME_MAX)?),
            None => None,
        };
        let given = raw.and_then(|raw| raw.lease.as_ref());
        let lease = self.span(pick(given, &base.lease), LEASE.0, LEASE.1)?;
        let least = sender.map_or(Duration::ZERO, |sender| 2 * sender.attempt_timeout);
        let shared = database.is_some_and(|one| !one.url.starts_with("sqlite://"));
        if let Some(given) = given.filter(|_| shared && lease < least) {
            self.problems.note_with(
                given.place,
                "a lease has to last at least twice as long as an attempt to send",
                "make `node.lease` longer, or `sender.attempt_timeout` shorter",
            );
        }
        let lease = lease.max(least);
        Some(Node { name, lease })
    }
}
