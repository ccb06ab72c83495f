//! The platform's signature: SHA-1 over the sorted parts of a request.
//!
//! A plain callback signs token, timestamp and nonce; an encrypted one also its `Encrypt`. The
//! former does not cover the body, which is the platform's design and not mended here.
//!
//! Deliberately absent: which parts belong to which mode, and how old a request may be
//! (`inbound::envelope`).

use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

/// Bytes of a SHA-1 digest.
const DIGEST_BYTES: usize = 20;

/// Signs the parts as the platform does: sorted, joined, SHA-1, lower-case hex.
pub fn sign(parts: &[&str]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = String::with_capacity(2 * DIGEST_BYTES);
    for byte in digest(parts) {
        hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
        hex.push(char::from(DIGITS[usize::from(byte & 0x0f)]));
    }
    hex
}

/// Whether `given` is the signature of the parts, in hex of either case.
///
/// The digests are compared in constant time, so that an answer's delay tells nothing about how
/// much of a guess was right.
pub fn verify(parts: &[&str], given: &str) -> bool {
    decode(given).is_some_and(|given| bool::from(digest(parts).ct_eq(&given)))
}

fn digest(parts: &[&str]) -> [u8; DIGEST_BYTES] {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable();
    let mut sha = Sha1::new();
    for part in sorted {
        sha.update(part.as_bytes());
    }
    sha.finalize().into()
}

fn decode(hex: &str) -> Option<[u8; DIGEST_BYTES]> {
    let hex = hex.as_bytes();
    if hex.len() != 2 * DIGEST_BYTES {
        return None;
    }
    let mut digest = [0; DIGEST_BYTES];
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    Some(digest)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [&str; 3] = ["AAAAA", "1714036504", "1514711492"];
    const SIGNATURE: &str = "f464b24fc39322e44b38aa78f5edd27bd1441696";

    #[test]
    fn the_official_handshake_and_plain_vectors_verify() {
        assert_eq!(sign(&PARTS), SIGNATURE);
        assert!(verify(&PARTS, SIGNATURE));
        assert_eq!(
            sign(&["AAAAA", "1714037059", "486452656"]),
            "899cf89e464efb63f54ddac96b0a0a235f53aa78"
        );
    }

    #[test]
    fn the_order_of_the_parts_does_not_matter() {
        assert_eq!(sign(&[PARTS[2], PARTS[0], PARTS[1]]), SIGNATURE);
    }

    #[test]
    fn upper_case_hex_is_the_same_signature() {
        assert!(verify(&PARTS, &SIGNATURE.to_uppercase()));
    }

    #[test]
    fn anything_but_the_forty_right_digits_is_refused() {
        for given in [
            "",
            "f4",
            &SIGNATURE[1..],
            &format!("{SIGNATURE}0"),
            &format!(" {SIGNATURE}"),
            &format!("{SIGNATURE}{SIGNATURE}"),
            &SIGNATURE.replace('f', "g"),
            &"0".repeat(40),
            &"é".repeat(20),
        ] {
            assert!(!verify(&PARTS, given), "{given:?}");
        }
    }

    #[test]
    fn every_single_wrong_digit_is_refused() {
        for at in 0..SIGNATURE.len() {
            let mut digits = SIGNATURE.to_owned().into_bytes();
            digits[at] = if digits[at] == b'0' { b'1' } else { b'0' };
            let given = String::from_utf8(digits).unwrap();
            assert!(!verify(&PARTS, &given), "digit {at}");
        }
    }
}
