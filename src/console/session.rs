//! Sessions: who is signed in, known to the browser only by a random name.
//!
//! The name is 32 random bytes in an `HttpOnly`, `SameSite=Strict` cookie; only its hash is kept, in a
//! row, so that every node knows it. A session ends after 12 hours, with a sign-out, or when its key
//! is taken back.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use poem::web::cookie::{Cookie, CookieJar, SameSite};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::clock::{Clock, SystemClock};
use crate::console::{Access, Visitor};
use crate::store::{Store, sessions};

const SESSION_LASTS: Duration = Duration::from_secs(12 * 3600);

/// Who sits in front of a page.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) visitor: Visitor,
    /// Every form carries it; another site cannot know it.
    pub(super) token: String,
    /// Whether there is a session that can be ended.
    pub(super) signed_in: bool,
}

impl Seat {
    /// Whether a form carries this seat's token.
    pub(super) fn sent(&self, token: &str) -> bool {
        token.as_bytes().ct_eq(self.token.as_bytes()).into()
    }
}

/// The sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    store: Arc<Store>,
    access: Access,
    tls: bool,
    /// Everybody's, in an open console.
    open: Option<Seat>,
}

impl Sessions {
    pub(super) fn new(store: Arc<Store>, access: Access, tls: bool) -> Self {
        let open = match &access {
            Access::Keys(_) => None,
            // Without randomness there is no token, and without a token no form is obeyed.
            Access::Open => random().map(|token| Seat {
                visitor: Visitor {
                    name: String::new(),
                    write: true,
                },
                token,
                signed_in: false,
            }),
        };
        Self {
            store,
            access,
            tls,
            open,
        }
    }

    /// Whether everybody may come in.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.access, Access::Open)
    }

    /// Whoever sent these cookies.
    pub(super) async fn seat(&self, jar: &CookieJar) -> Option<Seat> {
        let Access::Keys(keys) = &self.access else {
            return self.open.clone();
        };
        let cookie = jar.get(self.cookie_name())?;
        let name = cookie.value_str();
        let mark = sessions::mark(self.store.read(), &id(name), SystemClock.now()).await;
        let mark = mark.unwrap_or_else(|error| {
            tracing::error!(%error, "sessions cannot be read");
            None
        });
        Some(Seat {
            visitor: keys.marked(&mark?)?,
            token: form_token(name),
            signed_in: true,
        })
    }

    /// Begins a session for whoever presents this key; false when it is nobody's.
    pub(super) async fn sign_in(&self, key: &str, jar: &CookieJar) -> bool {
        let Access::Keys(keys) = &self.access else {
            return true;
        };
        let (Some((_, mark)), Some(name)) = (keys.admit(key), random()) else {
            return false;
        };
        self.sign_out(jar).await;
        let ends_at = SystemClock.now().plus(SESSION_LASTS);
        if let Err(error) = sessions::begin(&self.store, id(&name), mark, ends_at).await {
            tracing::error!(%error, "a session was not begun");
            return false;
        }
        jar.add(self.cookie(&name));
        true
    }

    /// Ends the session of whoever sent these cookies.
    pub(super) async fn sign_out(&self, jar: &CookieJar) {
        if let Some(cookie) = jar.get(self.cookie_name()) {
            let ended = sessions::end(&self.store, id(cookie.value_str())).await;
            if let Err(error) = ended {
                tracing::error!(%error, "a session was not ended: it ends by itself");
            }
        }
        let mut gone = self.cookie("");
        gone.make_removal();
        jar.add(gone);
    }

    /// A cookie for the chosen language.
    pub(super) fn language_cookie(&self, tag: &str) -> Cookie {
        let mut cookie = Cookie::new_with_str("dripwheel_lang", tag);
        cookie.set_path("/");
        cookie.set_same_site(SameSite::Lax);
        cookie.set_http_only(true);
        cookie.set_secure(self.tls);
        cookie.set_max_age(Duration::from_secs(365 * 86_400));
        cookie
    }

    /// Browsers take a `__Host-` cookie only by TLS, from this very host.
    fn cookie_name(&self) -> &'static str {
        if self.tls {
            "__Host-dripwheel"
        } else {
            "dripwheel"
        }
    }

    fn cookie(&self, value: &str) -> Cookie {
        let mut cookie = Cookie::new_with_str(self.cookie_name(), value);
        cookie.set_path("/");
        cookie.set_http_only(true);
        cookie.set_same_site(SameSite::Strict);
        cookie.set_secure(self.tls);
        cookie.set_max_age(SESSION_LASTS);
        cookie
    }
}

/// What a session is kept under.
fn id(name: &str) -> String {
    let hash = Sha256::digest(name.as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the forms of a session carry: only whoever knows its name can tell it.
fn form_token(name: &str) -> String {
    let hash = Sha256::new().chain_update("form ").chain_update(name);
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

fn random() -> Option<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}
