//! The sandbox, asked over real sockets as the product asks it.

mod callbacks;
mod calls;
mod faults;
mod town;
