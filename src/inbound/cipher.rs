//! The platform's encryption: AES-256-CBC with its own frame and padding.
//!
//! A frame is 16 random bytes, the message's length (u32, big endian), the message and the app id,
//! padded to 32 bytes. The key is 43 characters of base64 and its first 16 bytes are the IV.
//! Source: the platform's 消息加解密 pages, and the vectors in the tests.
//!
//! The frame authenticates nothing: callers verify the signature first (`inbound::envelope`).
//! Deliberately absent: signatures, XML, randomness (the caller brings 16 bytes).

use std::fmt;

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use secrecy::{ExposeSecret, SecretBox};
use thiserror::Error;

/// Longest `Encrypt` value taken, in characters; a callback's body is not longer either.
pub const ENCRYPTED_CHARS_MAX: usize = 64 * 1024;

/// Longest app id taken, in bytes; real ones have 18.
const APP_ID_BYTES_MAX: usize = 64;

const KEY_CHARS: usize = 43;
const KEY_BYTES: usize = 32;
const IV_BYTES: usize = 16;
const RANDOM_BYTES: usize = 16;
const LENGTH_BYTES: usize = 4;

/// The frame is padded to this, which is not AES's own block of 16 bytes.
const PAD_BLOCK: usize = 32;

/// Reads keys whose last character carries bits beyond the 256. The platform generates such keys,
/// and a strict reader refuses them.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a cipher cannot be made from what the operator configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// No key, or more than the current and the previous one.
    #[error("give one EncodingAESKey, or two during a rotation (the current one first)")]
    Count,
    /// A key of another length.
    #[error("an EncodingAESKey has exactly 43 characters: copy it again from the console")]
    Length,
    /// A key with characters outside the alphabet.
    #[error("an EncodingAESKey has letters and digits only: copy it again from the console")]
    Alphabet,
    /// An app id that no account has.
    #[error("give the app id, 1 to 64 bytes")]
    AppId,
}

/// Why a message could not be decrypted. For logs: outside, all of these look the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CipherError {
    /// Longer than `ENCRYPTED_CHARS_MAX`.
    #[error("the encrypted message is too long")]
    Oversized,
    /// Not the base64 of whole blocks.
    #[error("the encrypted message is not base64 of whole blocks")]
    Encoding,
    /// No key leads to a well-formed frame.
    #[error("no configured EncodingAESKey reads the message")]
    Unreadable,
    /// Well-formed, but for another app id.
    #[error("the message was encrypted for another app id")]
    OtherApp,
}

/// A message and which key it was encrypted with.
#[derive(Clone, PartialEq, Eq)]
pub struct Decrypted {
    /// The bytes as the platform wrote them, not trimmed.
    pub message: Vec<u8>,
    /// Index into the keys given to `Cipher::new`; a reply is encrypted with the same key.
    pub key_index: usize,
}

impl fmt::Debug for Decrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decrypted")
            .field("message_bytes", &self.message.len())
            .field("key_index", &self.key_index)
            .finish()
    }
}

type Key = SecretBox<[u8; KEY_BYTES]>;

/// Encrypts and decrypts for one app id. Holds the current key and, during a rotation, the
/// previous one.
pub struct Cipher {
    app_id: String,
    keys: Vec<Key>,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher")
            .field("app_id", &self.app_id)
            .field("keys", &format_args!("{} redacted", self.keys.len()))
            .finish()
    }
}

impl Cipher {
    /// A cipher for `app_id` (of the third-party platform itself where it takes callbacks for
    /// others) with `keys`: the current EncodingAESKey and, during a rotation, the previous one.
    pub fn new(app_id: &str, keys: &[&str]) -> Result<Self, KeyError> {
        if app_id.is_empty() || app_id.len() > APP_ID_BYTES_MAX {
            return Err(KeyError::AppId);
        }
        if keys.is_empty() || keys.len() > 2 {
            return Err(KeyError::Count);
        }
        let keys = keys.iter().map(|key| read_key(key));
        Ok(Self {
            app_id: app_id.to_owned(),
            keys: keys.collect::<Result<_, _>>()?,
        })
    }

    /// Decrypts the base64 of `Encrypt`, trying the keys in order.
    pub fn decrypt(&self, encrypted: &str) -> Result<Decrypted, CipherError> {
        if encrypted.len() > ENCRYPTED_CHARS_MAX {
            return Err(CipherError::Oversized);
        }
        let sealed = STANDARD
            .decode(encrypted)
            .map_err(|_| CipherError::Encoding)?;
        if sealed.is_empty() || sealed.len() % PAD_BLOCK != 0 {
            return Err(CipherError::Encoding);
        }
        let mut error = CipherError::Unreadable;
        for (key_index, key) in self.keys.iter().enumerate() {
            match self.unframe(&decrypt_blocks(key, sealed.clone())?) {
                Ok(message) => {
                    let message = message.to_vec();
                    return Ok(Decrypted { message, key_index });
                }
                // A key that reads the frame is the right one, so its finding is the one to tell.
                Err(CipherError::OtherApp) => error = CipherError::OtherApp,
                Err(_) => {}
            }
        }
        Err(error)
    }

    /// Whose callbacks it encrypts.
    pub(super) fn app_id(&self) -> &str {
        &self.app_id
    }

    /// Encrypts `message` with the key at `key_index`, as base64.
    ///
    /// An index that no key has means the current key: the reply's key may have been retired while
    /// the reply was written.
    pub fn encrypt(&self, message: &[u8], key_index: usize, random: [u8; RANDOM_BYTES]) -> String {
        let length = u32::try_from(message.len()).expect("a message is far shorter than 4 GiB");
        let plain = RANDOM_BYTES + LENGTH_BYTES + message.len() + self.app_id.len();
        let pad = PAD_BLOCK - plain % PAD_BLOCK;
        let mut frame = Vec::with_capacity(plain + pad);
        frame.extend_from_slice(&random);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(message);
        frame.extend_from_slice(self.app_id.as_bytes());
        frame.resize(plain + pad, u8::try_from(pad).expect("a pad is 1 to 32"));

        let key = self.keys.get(key_index).unwrap_or(&self.keys[0]);
        let (key, iv) = key_and_iv(key);
        let filled = frame.len();
        let sealed = cbc::Encryptor::<Aes256>::new(key.into(), iv.into())
            .encrypt_padded::<NoPadding>(&mut frame, filled)
            .expect("the frame is padded to whole blocks");
        STANDARD.encode(sealed)
    }

    /// The message within a decrypted frame: pad, length and app id must fit to the byte.
    fn unframe<'a>(&self, frame: &'a [u8]) -> Result<&'a [u8], CipherError> {
        let plain = unpad(frame).ok_or(CipherError::Unreadable)?;
        let rest = plain.get(RANDOM_BYTES..).ok_or(CipherError::Unreadable)?;
        let (length, rest) = rest
            .split_first_chunk::<LENGTH_BYTES>()
            .ok_or(CipherError::Unreadable)?;
        let length = usize::try_from(u32::from_be_bytes(*length));
        let (message, app_id) = length
            .ok()
            .and_then(|length| rest.split_at_checked(length))
            .ok_or(CipherError::Unreadable)?;
        if app_id == self.app_id.as_bytes() {
            Ok(message)
        } else {
            Err(CipherError::OtherApp)
        }
    }
}

fn read_key(key: &str) -> Result<Key, KeyError> {
    if key.len() != KEY_CHARS {
        return Err(KeyError::Length);
    }
    let mut bytes = Box::new([0; KEY_BYTES]);
    match KEY_BASE64.decode_slice_unchecked(key, bytes.as_mut_slice()) {
        Ok(KEY_BYTES) => Ok(SecretBox::new(bytes)),
        _ => Err(KeyError::Alphabet),
    }
}

fn key_and_iv(key: &Key) -> (&[u8; KEY_BYTES], &[u8; IV_BYTES]) {
    let key = key.expose_secret();
    let iv = key.first_chunk().expect("a key is longer than an IV");
    (key, iv)
}

fn decrypt_blocks(key: &Key, mut sealed: Vec<u8>) -> Result<Vec<u8>, CipherError> {
    let (key, iv) = key_and_iv(key);
    let frame = cbc::Decryptor::<Aes256>::new(key.into(), iv.into())
        .decrypt_padded::<NoPadding>(&mut sealed)
        .map_err(|_| CipherError::Encoding)?
        .len();
    sealed.truncate(frame);
    Ok(sealed)
}

/// Strips a pad of 1 to 32 bytes, each of which says how many they are.
fn unpad(frame: &[u8]) -> Option<&[u8]> {
    let pad = usize::from(*frame.last()?);
    if !(1..=PAD_BLOCK).contains(&pad) {
        return None;
    }
    let (plain, padding) = frame.split_at_checked(frame.len().checked_sub(pad)?)?;
    let uniform = padding.iter().all(|byte| usize::from(*byte) == pad);
    uniform.then_some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::vectors::{
        SEALED_A as SEALED, SEALED_B, SEALED_C, SEALED_D, SPAM_APP, SPAM_KEY as KEY,
    };
    use super::*;

    const OTHER_KEY: &str = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C";
    const APP: &str = "wxb11529c136998cb6";

    fn cipher(app_id: &str, keys: &[&str]) -> Cipher {
        Cipher::new(app_id, keys).expect("a good key")
    }

    /// Encrypts a frame that a test built by hand, whatever its pad and length say.
    fn seal_frame(mut frame: Vec<u8>) -> String {
        let key = read_key(KEY).unwrap();
        let (key, iv) = key_and_iv(&key);
        let filled = frame.len();
        let sealed = cbc::Encryptor::<Aes256>::new(key.into(), iv.into())
            .encrypt_padded::<NoPadding>(&mut frame, filled)
            .unwrap();
        STANDARD.encode(sealed)
    }

    /// A frame whose length field, tail and pad are as given; `pad` 0 stands for none.
    fn frame(length: u32, message_and_app: &str, pad: u8) -> Vec<u8> {
        let mut frame = b"0123456789abcdef".to_vec();
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(message_and_app.as_bytes());
        frame.resize(frame.len() + usize::from(pad), pad);
        frame
    }

    #[test]
    fn the_official_encryption_vector_is_met_in_both_directions() {
        let cipher = cipher(APP, &[KEY]);
        let message = "我是中文abcd123".as_bytes();
        assert_eq!(cipher.encrypt(message, 0, *b"aaaabbbbccccdddd"), SEALED);
        assert_eq!(cipher.decrypt(SEALED).unwrap().message, message);
    }

    #[test]
    fn the_encrypted_echostr_of_wecom_decrypts() {
        let opened = cipher("wx5823bf96d3bd56c7", &[OTHER_KEY]).decrypt(SEALED_B);
        assert_eq!(opened.unwrap().message, b"1616140317555161061");
    }

    #[test]
    fn both_compat_mode_vectors_decrypt_to_their_text_messages() {
        let cipher = cipher(SPAM_APP, &[KEY]);
        for (sealed, id) in [
            (SEALED_C, "6054768590064713728"),
            (SEALED_D, "6057404712141979648"),
        ] {
            let message = String::from_utf8(cipher.decrypt(sealed).unwrap().message).unwrap();
            assert!(
                message.contains("<MsgType><![CDATA[text]]></MsgType>\n"),
                "{message}"
            );
            assert!(
                message.contains(&format!("<MsgId>{id}</MsgId>")),
                "{message}"
            );
        }
    }

    #[test]
    fn every_length_and_so_every_pad_survives_the_round_trip() {
        let cipher = cipher(APP, &[KEY]);
        let mut pads = [false; PAD_BLOCK + 1];
        for length in 0..=256_usize {
            let message = vec![b'm'; length];
            let sealed = cipher.encrypt(&message, 0, [7; 16]);
            assert_eq!(STANDARD.decode(&sealed).unwrap().len() % PAD_BLOCK, 0);
            assert_eq!(cipher.decrypt(&sealed).unwrap().message, message);
            pads[PAD_BLOCK - (RANDOM_BYTES + LENGTH_BYTES + length + APP.len()) % PAD_BLOCK] = true;
        }
        assert!(pads[1..].iter().all(|seen| *seen));
    }

    #[test]
    fn the_previous_key_still_reads_and_its_reply_uses_it() {
        let sealed = cipher(APP, &[KEY]).encrypt(b"old", 0, [1; 16]);
        let rotating = cipher(APP, &[OTHER_KEY, KEY]);
        let opened = rotating.decrypt(&sealed).unwrap();
        assert_eq!(
            (opened.message.as_slice(), opened.key_index),
            (&b"old"[..], 1)
        );
        assert_eq!(rotating.encrypt(b"old", opened.key_index, [1; 16]), sealed);

        let retired = cipher(APP, &[OTHER_KEY]);
        assert_eq!(retired.decrypt(&sealed), Err(CipherError::Unreadable));
        assert_eq!(
            retired.encrypt(b"x", 1, [1; 16]),
            retired.encrypt(b"x", 0, [1; 16])
        );
    }

    #[test]
    fn a_message_for_another_app_is_refused() {
        let sealed = cipher(SPAM_APP, &[KEY]).encrypt(b"hello", 0, [1; 16]);
        assert_eq!(
            cipher(APP, &[KEY]).decrypt(&sealed),
            Err(CipherError::OtherApp)
        );
        let rotating = cipher(APP, &[KEY, OTHER_KEY]);
        assert_eq!(rotating.decrypt(&sealed), Err(CipherError::OtherApp));
    }

    #[test]
    fn frames_that_do_not_fit_to_the_byte_are_refused() {
        let tail = format!("hi{APP}");
        let pad = 24_u8;
        assert_eq!((20 + tail.len() + usize::from(pad)) % PAD_BLOCK, 0);
        let whole = frame(2, &tail, pad);
        let cipher = cipher(APP, &[KEY]);
        assert_eq!(cipher.decrypt(&seal_frame(whole)).unwrap().message, b"hi");

        for length in [0, 1, 3, 20, 21, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            let sealed = seal_frame(frame(length, &tail, pad));
            assert!(cipher.decrypt(&sealed).is_err(), "length {length}");
        }
        let trailing = seal_frame(frame(2, &format!("{tail}!"), pad - 1));
        assert_eq!(cipher.decrypt(&trailing), Err(CipherError::OtherApp));
    }

    #[test]
    fn pads_of_zero_beyond_thirty_two_or_uneven_are_refused() {
        let cipher = cipher(APP, &[KEY]);
        let tail = format!("hi{APP}");
        for last in [0_u8, 1, 23, 25, 32, 33, 64, 255] {
            let mut frame = frame(2, &tail, 24);
            *frame.last_mut().unwrap() = last;
            assert!(cipher.decrypt(&seal_frame(frame)).is_err(), "pad {last}");
        }
        let mut uneven = frame(2, &tail, 24);
        let at = uneven.len() - 24;
        uneven[at] = 0;
        assert!(cipher.decrypt(&seal_frame(uneven)).is_err());
        assert!(cipher.decrypt(&seal_frame(vec![32; 32])).is_err());
        assert!(cipher.decrypt(&seal_frame(vec![1; 32])).is_err());
    }

    #[test]
    fn keys_are_checked_when_the_cipher_is_made() {
        let with = |app_id, keys: &[&str]| Cipher::new(app_id, keys).unwrap_err();
        assert_eq!(with(APP, &[]), KeyError::Count);
        assert_eq!(with(APP, &[KEY, KEY, KEY]), KeyError::Count);
        assert_eq!(with(APP, &[&KEY[1..]]), KeyError::Length);
        assert_eq!(with(APP, &[KEY, &format!("{KEY}=")]), KeyError::Length);
        assert_eq!(with(APP, &[&KEY.replace('a', "-")]), KeyError::Alphabet);
        assert_eq!(with(APP, &[&"=".repeat(43)]), KeyError::Alphabet);
        assert_eq!(with("", &[KEY]), KeyError::AppId);
        assert_eq!(with(&"w".repeat(65), &[KEY]), KeyError::AppId);
    }

    #[test]
    fn neither_keys_nor_messages_show_in_debug_output() {
        let cipher = cipher(APP, &[KEY]);
        let shown = format!("{cipher:?} {:?}", cipher.decrypt(SEALED).unwrap());
        assert!(!shown.contains(KEY) && !shown.contains("abcd123") && shown.contains("redacted"));
    }

    #[test]
    fn what_is_not_base64_of_whole_blocks_is_refused_early() {
        let cipher = cipher(APP, &[KEY]);
        let long = "A".repeat(ENCRYPTED_CHARS_MAX + 1);
        assert_eq!(cipher.decrypt(&long), Err(CipherError::Oversized));
        let half = STANDARD.encode([0; 16]);
        for sealed in [
            "",
            "A",
            "====",
            "中文",
            half.as_str(),
            &SEALED[1..],
            &format!("{SEALED}\n"),
        ] {
            assert_eq!(
                cipher.decrypt(sealed),
                Err(CipherError::Encoding),
                "{sealed}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        /// CBC without authentication lets some changes of the random bytes and of the message
        /// through; only the signature stops those. No other change is read, and nothing panics.
        #[test]
        fn a_mutated_ciphertext_never_panics_nor_opens_for_another_app(
            at in 0_usize..384, flip in 1_u8..=255, cut in 0_usize..4
        ) {
            let cipher = cipher(SPAM_APP, &[KEY, OTHER_KEY]);
            let mut sealed = STANDARD.decode(SEALED_C).unwrap();
            let at = at % sealed.len();
            sealed[at] ^= flip;
            sealed.truncate(sealed.len() - cut * 16);
            let opened = cipher.decrypt(&STANDARD.encode(&sealed));
            // The last two blocks hold the end of the app id and the pad.
            if cut > 0 || at >= sealed.len() - 32 {
                prop_assert!(opened.is_err());
            }
        }

        #[test]
        fn arbitrary_text_never_panics(sealed in "[A-Za-z0-9+/=]{0,200}|\\PC{0,100}") {
            prop_assert!(cipher(APP, &[KEY, OTHER_KEY]).decrypt(&sealed).is_err());
        }
    }
}
