//! The journey: how a follower moves along a sequence. Pure: no I/O, no async, no clock.

pub mod event;
pub mod ids;
pub mod message;
pub mod parse;
pub mod plan;
pub mod schema;
pub mod sequence;
pub mod template;
