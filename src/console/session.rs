//! Sessions: who is signed in, kept here and known to the browser only by a random name.
//!
//! The name is 32 random bytes in an `HttpOnly`, `SameSite=Strict` cookie; only its hash is kept.
//! A session ends after 12 hours, with a sign-out, or with a restart.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::sync::Cache;
use poem::web::cookie::{Cookie, CookieJar, SameSite};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::console::{Access, Visitor};

const SESSION_LASTS: Duration = Duration::from_secs(12 * 3600);
const SESSIONS_MAX: u64 = 10_000;

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
    access: Access,
    tls: bool,
    /// By the hash of the cookie's value.
    seats: Cache<[u8; 32], Seat>,
    /// Everybody's, in an open console.
    open: Option<Seat>,
}

impl Sessions {
    pub(super) fn new(access: Access, tls: bool) -> Self {
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
        let seats = Cache::builder()
            .max_capacity(SESSIONS_MAX)
            .time_to_live(SESSION_LASTS)
            .build();
        Self {
            access,
            tls,
            seats,
            open,
        }
    }

    /// Whether everybody may come in.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.access, Access::Open)
    }

    /// Whoever sent these cookies.
    pub(super) fn seat(&self, jar: &CookieJar) -> Option<Seat> {
        if self.is_open() {
            return self.open.clone();
        }
        let cookie = jar.get(self.cookie_name())?;
        self.seats.get(&hash(cookie.value_str()))
    }

    /// Begins a session for whoever presents this key; false when it is nobody's.
    pub(super) fn sign_in(&self, key: &str, jar: &CookieJar) -> bool {
        let Access::Keys(admit) = &self.access else {
            return true;
        };
        let (Some(visitor), Some(id), Some(token)) = (admit(key), random(), random()) else {
            return false;
        };
        self.sign_out(jar);
        let seat = Seat {
            visitor,
            token,
            signed_in: true,
        };
        self.seats.insert(hash(&id), seat);
        jar.add(self.cookie(&id));
        true
    }

    /// Ends the session of whoever sent these cookies.
    pub(super) fn sign_out(&self, jar: &CookieJar) {
        if let Some(cookie) = jar.get(self.cookie_name()) {
            self.seats.invalidate(&hash(cookie.value_str()));
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

fn hash(value: &str) -> [u8; 32] {
    Sha256::digest(value.as_bytes()).into()
}

fn random() -> Option<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}
