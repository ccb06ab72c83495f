//! The gate: whole parts of dripwheel against real sockets and databases, in one binary.

mod callbacks;
mod commits;
mod faults;
mod follow_story;
mod pair;
mod tidy;
mod wechat_client;
