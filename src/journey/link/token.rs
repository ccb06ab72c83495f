//! What stands in the address of a tracked link: which passage, step and link it is, sealed.
//!
//! A token is made from its content alone, so that the same message said twice is the same message, and
//! nothing is kept of what was sent. It is sealed with a synthetic IV (Rogaway and Shrimpton, 2006): the
//! first twelve bytes of an HMAC over the content prove it, and are what the rest is encrypted with. So
//! it says nothing to whoever sees it, and whoever changes or invents one is found out, but for a chance
//! of one in 2^96.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::journey::ids::{EnrollmentId, VersionId};

/// Letters of a token: 27 bytes without a bit to spare, so that no two tokens are the same bytes.
pub const TOKEN_CHARS: usize = 36;

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;

const PROOF: usize = 12;
const CONTENT: usize = 14;

/// What a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    pub enrollment: EnrollmentId,
    pub version: VersionId,
    /// Index of the step in its version.
    pub step: u16,
    /// Number of the link in its step, from 1.
    pub link: u16,
}

impl Link {
    /// `None` when a number is larger than there is room for.
    fn to_bytes(self) -> Option<[u8; CONTENT]> {
        let mut bytes = [0; CONTENT];
        bytes[..8].copy_from_slice(&self.enrollment.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&u32::try_from(self.version.0).ok()?.to_be_bytes());
        bytes[12] = u8::try_from(self.step).ok()?;
        bytes[13] = u8::try_from(self.link).ok()?;
        Some(bytes)
    }

    fn from_bytes(bytes: &[u8; CONTENT]) -> Self {
        let (mut enrollment, mut version) = ([0; 8], [0; 4]);
        enrollment.copy_from_slice(&bytes[..8]);
        version.copy_from_slice(&bytes[8..12]);
        Self {
            enrollment: EnrollmentId(i64::from_be_bytes(enrollment)),
            version: VersionId(i64::from(u32::from_be_bytes(version))),
            step: u16::from(bytes[12]),
            link: u16::from(bytes[13]),
        }
    }
}

/// One key of an installation.
#[derive(Clone)]
struct Key {
    id: u8,
    proving: Hmac<Sha256>,
    hiding: Hmac<Sha256>,
}

impl Key {
    fn new(id: u8, secret: &[u8]) -> Self {
        let keyed = |what: &str| {
            let key = hmac(&Self::mac(secret), &[what.as_bytes()]);
            Self::mac(&key)
        };
        Self {
            id,
            proving: keyed("dripwheel link proof"),
            hiding: keyed("dripwheel link content"),
        }
    }

    fn mac(key: &[u8]) -> Hmac<Sha256> {
        Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
    }

    fn proof(&self, content: &[u8; CONTENT]) -> [u8; PROOF] {
        let whole = hmac(&self.proving, &[&[self.id], content]);
        let mut proof = [0; PROOF];
        proof.copy_from_slice(&whole[..PROOF]);
        proof
    }

    /// Hides the content, or brings it to light again.
    fn turn(&self, proof: &[u8; PROOF], content: &mut [u8; CONTENT]) {
        let stream = hmac(&self.hiding, &[proof]);
        content.iter_mut().zip(stream).for_each(|(a, b)| *a ^= b);
    }
}

fn hmac(keyed: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut keyed = keyed.clone();
    parts.iter().for_each(|part| keyed.update(part));
    keyed.finalize().into_bytes().into()
}

/// The keys of an installation: the newest seals, all of them open.
#[derive(Clone, Default)]
pub struct Keyring {
    /// Newest first.
    keys: Vec<Key>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.keys.iter().map(|key| key.id);
        f.debug_list().entries(ids).finish()
    }
}

impl Keyring {
    /// Keys by id, newest first.
    pub fn new<'a>(keys: impl IntoIterator<Item = (u8, &'a [u8])>) -> Self {
        let keys = keys.into_iter().map(|(id, secret)| Key::new(id, secret));
        Self {
            keys: keys.collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The token of a link; `None` without a key, and for numbers beyond all reason.
    pub fn seal(&self, link: &Link) -> Option<String> {
        let key = self.keys.first()?;
        let mut content = link.to_bytes()?;
        let proof = key.proof(&content);
        key.turn(&proof, &mut content);
        let mut bytes = vec![key.id];
        bytes.extend_from_slice(&proof);
        bytes.extend_from_slice(&content);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The link of a token; `None` for one that we have not made. Takes as long for each.
    pub fn open(&self, token: &str) -> Option<Link> {
        let mut bytes = [0; 1 + PROOF + CONTENT];
        let decoded = token.len() == TOKEN_CHARS
            && URL_SAFE_NO_PAD
                .decode_slice(token, &mut bytes)
                .is_ok_and(|length| length == bytes.len());
        let (mut proof, mut content) = ([0; PROOF], [0; CONTENT]);
        proof.copy_from_slice(&bytes[1..=PROOF]);
        content.copy_from_slice(&bytes[1 + PROOF..]);
        let (mut opened, mut ours) = ([0; CONTENT], Choice::from(0));
        for key in &self.keys {
            let mut tried = content;
            key.turn(&proof, &mut tried);
            let fits = key.proof(&tried).ct_eq(&proof) & key.id.ct_eq(&bytes[0]);
            for (to, from) in opened.iter_mut().zip(&tried) {
                to.conditional_assign(from, fits);
            }
            ours |= fits;
        }
        let ours = bool::from(ours & Choice::from(u8::from(decoded)));
        ours.then(|| Link::from_bytes(&opened))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring() -> Keyring {
        Keyring::new([(7, &[1; 32][..]), (6, &[2; 32][..])])
    }

    fn any_link() -> impl Strategy<Value = Link> {
        (0..i64::MAX, any::<u32>(), any::<u8>(), any::<u8>()).prop_map(|(e, v, step, link)| Link {
            enrollment: EnrollmentId(e),
            version: VersionId(i64::from(v)),
            step: u16::from(step),
            link: u16::from(link),
        })
    }

    proptest! {
        #[test]
        fn a_token_leads_back_to_its_link_and_is_always_the_same(link in any_link()) {
            let token = ring().seal(&link).expect("there is room");
            prop_assert_eq!(token.len(), TOKEN_CHARS);
            prop_assert_eq!(ring().open(&token), Some(link));
            prop_assert_eq!(ring().seal(&link), Some(token));
        }

        /// Whatever one changes of a token, it is none any more.
        #[test]
        fn a_changed_token_is_nobodys(link in any_link(), at in 0..TOKEN_CHARS, to in "[!-~]") {
            let token = ring().seal(&link).expect("there is room");
            let mut changed = token.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != token);
            prop_assert_eq!(ring().open(&changed), None);
        }

        #[test]
        fn an_invented_token_is_nobodys(token in "[A-Za-z0-9_-]{30,40}|\\PC{0,60}") {
            prop_assert_eq!(ring().open(&token), None);
        }

        /// The bytes of two links have nothing to do with each other.
        #[test]
        fn a_token_does_not_show_what_is_in_it(link in any_link()) {
            let next = Link { link: (link.link + 1) % 256, ..link };
            let bytes = |link: &Link| {
                let token = ring().seal(link).expect("there is room");
                URL_SAFE_NO_PAD.decode(token).expect("is base64")
            };
            let (one, other) = (bytes(&link), bytes(&next));
            let same = one.iter().zip(&other).skip(1).filter(|(a, b)| a == b).count();
            prop_assert!(same < 8, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_new_key_seals_and_the_old_ones_still_open() {
        let link = Link {
            enrollment: EnrollmentId(65_537),
            version: VersionId(3),
            step: 0,
            link: 1,
        };
        let old = Keyring::new([(6, &[2; 32][..])]);
        let token = old.seal(&link).expect("there is room");
        assert_eq!(ring().open(&token), Some(link));
        assert_ne!(ring().seal(&link), Some(token.clone()));
        let without = Keyring::new([(7, &[1; 32][..])]);
        assert_eq!(without.open(&token), None, "its key is gone");
        let other = Keyring::new([(6, &[3; 32][..])]);
        assert_eq!(other.open(&token), None, "another installation's key");
        assert_eq!(Keyring::default().seal(&link), None);
        assert_eq!(Keyring::default().open(&token), None);
    }

    #[test]
    fn numbers_beyond_all_reason_have_no_token() {
        let link = |version, step| Link {
            enrollment: EnrollmentId(1),
            version: VersionId(version),
            step,
            link: 1,
        };
        assert_eq!(ring().seal(&link(i64::from(u32::MAX) + 1, 0)), None);
        assert_eq!(ring().seal(&link(1, 256)), None);
    }
}
