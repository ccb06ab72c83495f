//! The gate: whole parts of dripwheel against real sockets and databases, in one binary.

mod engine;
mod support;
mod wechat_client;
