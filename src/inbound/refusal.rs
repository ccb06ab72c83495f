//! Why a callback is not let in: one face for the caller, the reason for our own log.
//!
//! A wrong signature, an old request and a ciphertext that does not open look the same outside, so
//! that nobody learns by trying which of them it was.

use thiserror::Error;

use super::cipher::CipherError;
use super::xml::ReadError;

/// A callback is not let in. The text is for the caller and tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not proven to come from the platform, or not meant for this account.
    #[error("forbidden")]
    Forbidden(Doubt),
    /// Not written as the platform writes.
    #[error("malformed")]
    Malformed(ReadError),
    /// Longer than 64 KiB.
    #[error("too large")]
    TooLarge,
}

/// What a callback failed at. For logs and counters only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Doubt {
    #[error("the timestamp is missing or not a number of seconds")]
    Timestamp,
    #[error("the timestamp is too far from now: check the clocks, or it is an old request again")]
    Age,
    #[error("the signature is missing or wrong: check the token")]
    Signature,
    #[error(
        "the callback is not encrypted: set the console to safe mode, or this account to plain"
    )]
    NotEncrypted,
    #[error("the callback is encrypted, but the account has no EncodingAESKey")]
    NoCipher,
    #[error("the callback is about another account than the one its URL names")]
    OtherAccount,
    #[error("the callback is about another third-party platform")]
    OtherComponent,
    #[error("the account takes no callback by this method")]
    Method,
    #[error(transparent)]
    Cipher(#[from] CipherError),
}

impl Refusal {
    /// The HTTP status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            Self::Forbidden(_) => 403,
            Self::Malformed(_) => 400,
            Self::TooLarge => 413,
        }
    }

    /// What exactly was wrong, for our own log; never for the caller.
    pub fn reason(&self) -> String {
        match self {
            Self::Forbidden(doubt) => doubt.to_string(),
            Self::Malformed(error) => error.to_string(),
            Self::TooLarge => ReadError::Oversized.to_string(),
        }
    }
}

impl From<Doubt> for Refusal {
    fn from(doubt: Doubt) -> Self {
        Self::Forbidden(doubt)
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Oversized => Self::TooLarge,
            ReadError::Malformed(_) => Self::Malformed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_doubt_looks_the_same_outside_and_has_its_reason_inside() {
        let doubts = [
            Doubt::Timestamp,
            Doubt::Age,
            Doubt::Signature,
            Doubt::NotEncrypted,
            Doubt::NoCipher,
            Doubt::OtherAccount,
            Doubt::OtherComponent,
            Doubt::Method,
            CipherError::Oversized.into(),
            CipherError::Encoding.into(),
            CipherError::Unreadable.into(),
            CipherError::OtherApp.into(),
        ];
        let mut reasons = std::collections::HashSet::new();
        for refusal in doubts.map(Refusal::from) {
            assert_eq!(
                (refusal.status(), refusal.to_string().as_str()),
                (403, "forbidden")
            );
            assert!(std::error::Error::source(&refusal).is_none());
            assert!(reasons.insert(refusal.reason()));
        }
    }

    #[test]
    fn malformed_and_oversized_bodies_have_their_own_status() {
        let malformed = Refusal::from(ReadError::Malformed("a comment"));
        assert_eq!(
            (malformed.status(), malformed.to_string().as_str()),
            (400, "malformed")
        );
        assert!(malformed.reason().contains("a comment"));
        let oversized = Refusal::from(ReadError::Oversized);
        assert_eq!(
            (oversized.status(), oversized.to_string().as_str()),
            (413, "too large")
        );
    }
}
