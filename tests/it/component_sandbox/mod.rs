//! Third-party platforms: the sandbox's side of them, and the platform's check of a server, both
//! over real sockets against a small server that is written from the platform's pages alone.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helper that fails fails its test"
)]

mod authorizing;
mod calls;
mod check;
mod city;
mod command;
mod server;
