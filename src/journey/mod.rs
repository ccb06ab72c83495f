//! The journey: how a follower moves along a sequence. Pure: no I/O, no async, no clock.

pub mod account;
pub mod answer;
pub mod carrier;
pub mod catalog;
pub mod enrollment;
pub mod event;
pub mod follower;
pub mod ids;
pub mod link;
pub mod message;
pub mod outcome;
pub mod parse;
pub mod plan;
pub mod receive;
pub mod schema;
pub mod sequence;
pub mod template;
