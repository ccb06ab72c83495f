//! A platform event arrives: verified, decrypted, taken in exactly once, then answered.

pub mod callback;
pub mod cipher;
pub mod component;
mod component_check;
mod component_events;
mod component_pages;
pub mod envelope;
mod json;
pub mod message;
pub mod refusal;
pub mod signature;
#[cfg(test)]
mod vectors;
pub mod xml;
