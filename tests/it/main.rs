//! The gate: whole parts of dripwheel against real sockets and databases, in one binary.

mod wechat_client;
