//! The story of the program, told by its real parts: store, routes and sockets; only time is ours.

mod api;
mod world;
