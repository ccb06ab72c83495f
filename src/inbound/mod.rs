//! A platform event arrives: verified, decrypted, taken in exactly once, then answered.

pub mod cipher;
pub mod envelope;
mod json;
pub mod message;
pub mod signature;
pub mod xml;
