//! API keys: who is calling, and what they may do.
//!
//! Only hashes are kept. A presented key is hashed and compared with every key in constant time, so
//! that the time of an answer says nothing about how much of a key was right.

use std::sync::Arc;

use poem::Request;
use poem_openapi::SecurityScheme;
use poem_openapi::auth::{ApiKey as HeaderKey, Bearer};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::api::ApiState;
use crate::api::problem::{Code, Refusal};
use crate::config::{ApiKey, Scope};

/// The keys there are.
#[derive(Debug, Default)]
pub struct Keyring {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    hash: [u8; 32],
    caller: Caller,
}

/// Who presented a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The operator's name for the key.
    pub name: String,
    pub read: bool,
    pub write: bool,
}

impl Keyring {
    pub fn new(keys: &[ApiKey]) -> Self {
        let keys = keys.iter().map(|key| Key {
            hash: hash(key.secret.expose_secret()),
            caller: Caller {
                name: key.name.clone(),
                read: key.scopes.contains(&Scope::Read),
                write: key.scopes.contains(&Scope::Write),
            },
        });
        Self {
            keys: keys.collect(),
        }
    }

    /// Whose key this is; `None` for nobody's.
    pub fn admit(&self, presented: &str) -> Option<&Caller> {
        let presented = hash(presented);
        let mut found = u32::MAX;
        for (key, index) in self.keys.iter().zip(0u32..) {
            let same: Choice = key.hash.ct_eq(&presented);
            found.conditional_assign(&index, same);
        }
        let found = usize::try_from(found).ok()?;
        self.keys.get(found).map(|key| &key.caller)
    }
}

impl Keyring {
    /// What a session remembers of a key instead of the key.
    pub fn mark(presented: &str) -> String {
        mark(&hash(presented))
    }

    /// Whose key has this mark; `None` once it is nobody's any more.
    pub fn marked(&self, wanted: &str) -> Option<&Caller> {
        let is_its = |key: &&Key| mark(&key.hash) == wanted;
        self.keys.iter().find(is_its).map(|key| &key.caller)
    }
}

/// Nothing can be signed in with by whoever reads it: it is a hash of the hash.
fn mark(hash: &[u8; 32]) -> String {
    let mark = Sha256::new().chain_update("session ").chain_update(hash);
    let mark = mark.finalize();
    mark.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

impl Caller {
    /// Refuses a caller whose key lacks a scope.
    pub(super) fn may(&self, scope: Scope) -> Result<(), Refusal> {
        let (granted, word) = match scope {
            Scope::Read => (self.read, "read"),
            Scope::Write => (self.write, "write"),
        };
        if granted {
            return Ok(());
        }
        let detail = format!("this key lacks the scope `{word}`");
        Err(Refusal::new(Code::ScopeMissing, detail))
    }
}

/// `Authorization: Bearer <key>`.
#[derive(SecurityScheme)]
#[oai(ty = "bearer", rename = "bearer", checker = "by_bearer")]
pub(super) struct ByBearer(Caller);

/// `X-Api-Key: <key>`.
#[derive(SecurityScheme)]
#[oai(
    ty = "api_key",
    rename = "api_key",
    key_in = "header",
    key_name = "X-Api-Key",
    checker = "by_header"
)]
pub(super) struct ByHeader(Caller);

/// Either way to present a key.
#[derive(SecurityScheme)]
pub(super) enum Presented {
    Bearer(ByBearer),
    Header(ByHeader),
}

impl Presented {
    pub(super) fn caller(&self) -> &Caller {
        match self {
            Self::Bearer(ByBearer(caller)) | Self::Header(ByHeader(caller)) => caller,
        }
    }
}

async fn by_bearer(request: &Request, presented: Bearer) -> Option<Caller> {
    admit(request, &presented.token)
}

async fn by_header(request: &Request, presented: HeaderKey) -> Option<Caller> {
    admit(request, &presented.key)
}

fn admit(request: &Request, presented: &str) -> Option<Caller> {
    let state = request.data::<Arc<ApiState>>()?;
    state.keys.admit(presented).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, secret: &str, scopes: &[Scope]) -> ApiKey {
        ApiKey {
            name: name.into(),
            secret: secret.into(),
            scopes: scopes.to_vec(),
        }
    }

    #[test]
    fn only_a_whole_key_admits_and_only_its_own_name() {
        let ring = Keyring::new(&[
            key("reader", "first-secret-0123", &[Scope::Read]),
            key("writer", "second-secret-0123", &[Scope::Read, Scope::Write]),
        ]);
        let who = |secret| ring.admit(secret).map(|caller| caller.name.as_str());
        assert_eq!(who("first-secret-0123"), Some("reader"));
        assert_eq!(who("second-secret-0123"), Some("writer"));
        for wrong in ["", "first-secret-012", "first-secret-01234", "reader"] {
            assert_eq!(who(wrong), None, "{wrong}");
        }
        assert_eq!(Keyring::default().admit(""), None);
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let ring = Keyring::new(&[key("reader", "first-secret-0123", &[Scope::Read])]);
        assert!(!format!("{ring:?}").contains("first-secret"));
    }
}
