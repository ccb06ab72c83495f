//! The engine, from an event taken in to the platform's answer: journeys, policy, wheel, sender and
//! store together, over a real database, with a scripted platform and a clock that is moved by hand.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod answers;
mod chance;
mod clocks;
mod fairness;
mod grants;
mod journeys;
mod measures;
mod order_of_events;
mod restarts;
mod times;
mod turning;
mod versions;

/// Three steps after a follow.
const WELCOME: &str = "
sequence: welcome
trigger: follow
steps:
  - { id: hello, after: 0s, say: { text: hello } }
  - { id: guide, after: 10m, say: { text: guide } }
  - { id: offer, after: 23h, say: { text: offer } }
";

/// One step, a minute after a follow.
const ONE: &str = "
sequence: one
trigger: follow
steps:
  - { id: hello, after: 1m, say: { text: hello } }
";

/// A sequence after a follow: more settings, and texts with when they are due.
fn sequence(settings: &str, steps: &[(&str, &str)]) -> String {
    let mut text = format!("sequence: welcome\ntrigger: follow\n{settings}\nsteps:\n");
    for (index, (after, say)) in steps.iter().enumerate() {
        let line = format!("  - {{ id: s{index}, after: {after}, say: {{ text: {say} }} }}\n");
        text.push_str(&line);
    }
    text
}
