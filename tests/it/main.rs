//! The gate: whole parts of dripwheel against real sockets and databases, in one binary.

mod alerts;
mod api;
mod callbacks;
mod carriers;
mod cluster;
mod commits;
mod component;
mod component_sandbox;
mod console;
mod engine;
mod faults;
mod follow_story;
mod health;
mod limits;
mod own_platform;
mod pair;
mod passive;
mod reconcile;
mod sandbox;
mod simulator;
mod support;
mod tidy;
mod wechat_client;
mod world;
