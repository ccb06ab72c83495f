//! Randomness: names that the platform makes up (tokens, openids, nonces).
//!
//! Taken from the operating system, so that a guessed token stays a guess.

/// 64 characters, so that six random bits choose one without bias.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Random bytes; all zero only where the system has no randomness at all, which no supported one
/// lacks.
pub(super) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

fn fill(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        tracing::error!(%error, "the system gave no randomness");
    }
}

/// `length` random characters that need no escaping in a URL.
pub(super) fn text(length: usize) -> String {
    let mut bytes = vec![0; length];
    fill(&mut bytes);
    bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte & 63)]))
        .collect()
}

/// A random number below `end`, near enough to uniform for a nonce or a dice.
pub(super) fn below(end: u64) -> u64 {
    u64::from_le_bytes(bytes()) % end.max(1)
}
