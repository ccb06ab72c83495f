//! Signatures by the specification "Standard Webhooks": `v1` is HMAC-SHA256 over
//! `id.timestamp.body`. Alerts are signed so, and what goes to and comes from accounts of the platform
//! `webhook`. Pure; the age of a message is the receiver's own affair.
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// Lengths of a secret that the specification allows, in bytes.
const BYTES_MIN: usize = 24;
const BYTES_MAX: usize = 64;

/// Signatures of one header that are looked at; two serve while a secret changes.
const SIGNATURES_MAX: usize = 8;

/// The secret that both sides know.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// Reads a secret as both sides write it: `whsec_` and the base64 of 24 to 64 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
        if !(BYTES_MIN..=BYTES_MAX).contains(&bytes.len()) {
            return None;
        }
        Hmac::new_from_slice(&bytes).ok().map(Self)
    }

    /// The value of the header `webhook-signature`. `timestamp` is in seconds since 1970.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mac = self.mac(id, &timestamp.to_string(), body.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// Whether one of the signatures in `header`, which are divided by spaces, is ours; compared in
    /// constant time. `timestamp` is the header's text.
    pub fn verify(&self, id: &str, timestamp: &str, body: &[u8], header: &str) -> bool {
        let mac = self.mac(id, timestamp, body);
        let given = header.split(' ').take(SIGNATURES_MAX);
        let given = given.filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
        given.fold(false, |ours, given| {
            ours | mac.clone().verify_slice(&given).is_ok()
        })
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_s_own_example_is_signed_as_it_says() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = key.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(!format!("{key:?}").contains("Mf"));
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let body = br#"{"test": 2432232314}"#;
        let verified = |header: &str| key.verify(id, "1614265330", body, header);
        assert!(verified(&signed));
        assert!(verified(&format!("v1a,AAAA v1,AAAA {signed}")));
        for header in [
            "",
            "v1,",
            "v1,AAAA",
            &signed[3..],
            &signed.replace("v1", "v2"),
        ] {
            assert!(!verified(header), "{header}");
        }
        assert!(!key.verify("msg", "1614265330", body, &signed));
        assert!(!key.verify(id, "1614265331", body, &signed));
        assert!(!key.verify(id, "1614265330", b"{}", &signed));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for text in [
            "",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS*",
        ] {
            assert!(SigningKey::parse(text).is_none(), "{text}");
        }
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        assert!(SigningKey::parse(&long).is_none());
    }
}
