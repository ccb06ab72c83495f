//! The gate: whole parts of dripwheel against real sockets and databases, in one binary.

mod api;
mod console;
mod engine;
mod sandbox;
mod support;
mod tidy;
mod wechat_client;
mod world;
