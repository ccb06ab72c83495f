//! dripwheel: a follow becomes a conversation, on time and inside the platform's rules.
//!
//! The stages are folders, and their alphabetical order is the way of the data; `ARCHITECTURE.md`
//! walks one follow through them.

pub mod alert;
pub mod api;
pub mod app;
pub mod broadcast;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod inbound;
pub mod journey;
pub mod listener;
pub mod policy;
pub mod reconcile;
pub mod sandbox;
pub mod scheduler;
pub mod sender;
pub mod sign;
pub mod simulator;
pub mod store;
pub mod story;
pub mod yaml;
