//! WeChat over HTTP.
