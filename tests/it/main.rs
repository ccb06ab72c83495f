//! The gate: whole parts of dripwheel against real sockets and databases, in one binary.

mod sandbox;
mod tidy;
mod wechat_client;
