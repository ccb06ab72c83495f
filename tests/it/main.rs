//! The gate: whole parts of dripwheel against real sockets and databases, in one binary.

mod tidy;
mod wechat_client;
