//! The gate: whole parts of dripwheel against real sockets and databases, in one binary.

mod api;
mod console;
mod sandbox;
mod tidy;
mod wechat_client;
mod world;
