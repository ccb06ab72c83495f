//! The sandbox, asked over real sockets as the product asks it.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helper that fails fails its test"
)]

mod callbacks;
mod calls;
mod faults;
mod limits;
mod mass;
mod notices;
mod outage;
mod people;
mod replies;
mod restart;
mod town;
