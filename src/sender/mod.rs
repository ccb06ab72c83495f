//! A due step is sent, once, within limits.

pub mod platform;
pub mod wechat;
