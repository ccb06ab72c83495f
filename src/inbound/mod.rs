//! A platform event arrives: verified, decrypted, taken in exactly once, then answered; or a link is
//! followed, and counted.

pub mod answer;
pub mod callback;
pub mod cipher;
pub mod click;
pub mod component;
mod component_check;
mod component_events;
mod component_pages;
mod digest;
pub mod envelope;
mod fields;
pub mod files;
pub mod gate;
mod json;
pub mod line;
pub mod message;
pub mod refusal;
mod reply;
mod report;
pub mod signature;
pub mod spool;
pub mod telegram;
#[cfg(test)]
mod vectors;
pub mod webhook;
pub mod wecom_kf;
pub mod xml;
