//! The journey: how a follower moves along a sequence. Pure: no I/O, no async, no clock.

pub mod answer;
pub mod event;
pub mod ids;
pub mod message;
pub mod outcome;
pub mod parse;
pub mod plan;
pub mod sequence;
pub mod template;
