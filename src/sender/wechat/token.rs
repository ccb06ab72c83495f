//! One access token: had, renewed early, and replaced once when it is refused.
//!
//! At most one request is under way per token; whoever waits for it shares what it brings, token or
//! failure. Deliberately absent: where tokens come from (`source`), and keeping them on disk. A
//! restart asks again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::source::{Granted, Source};
use crate::clock::{Clock, Timestamp};
use crate::sender::platform::{Answer, AnswerClass};

const DOING: &str = "access token";

/// A token this close to its end is not begun with: the call has to arrive too. (A tenth of its
/// life, where that is less.)
const MARGIN: Duration = Duration::from_secs(10);

/// Renewal begins between ten and five minutes before the end, spread over accounts.
const EARLY: Duration = Duration::from_secs(300);
const EARLY_SPREAD_SECONDS: u64 = 300;

/// Pause after a renewal in the background that failed while the old token still serves.
const BACKGROUND_PAUSE: Duration = Duration::from_secs(30);

/// A token, and which of the account's tokens it is.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Token {
    pub value: SecretString,
    generation: u64,
}

/// How an account's token stands; never the token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenState {
    /// Since when there is the one that is used now; `None` when there is none.
    pub had_since: Option<Timestamp>,
    /// From then on it is not used.
    pub ends_at: Option<Timestamp>,
    /// When asking for one failed last, since the last time that it did not, and how.
    pub failed: Option<(Timestamp, String)>,
}

#[derive(Clone, Debug)]
struct Held {
    token: Token,
    since: Timestamp,
    /// From then on a call renews it in the background.
    refresh_at: Timestamp,
    /// From then on it is not used.
    ends_at: Timestamp,
}

/// A token and everything needed to get another.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Tokens(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    held: RwLock<Option<Held>>,
    /// Held while a renewal is under way; inside is how the last one failed, if it did.
    gate: Arc<Mutex<Option<Answer>>>,
    /// When and how the last renewal failed, if it did.
    failed: RwLock<Option<(Timestamp, String)>>,
    /// Renewals that have ended, so that a waiter knows whether one ended while it waited.
    ended: AtomicU64,
}

impl Tokens {
    pub(in crate::sender) fn new(source: Arc<dyn Source>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared {
            source,
            clock,
            held: RwLock::new(None),
            gate: Arc::new(Mutex::new(None)),
            failed: RwLock::default(),
            ended: AtomicU64::new(0),
        }))
    }

    /// Takes a token that came by another way, in the place of the one that is held.
    pub(super) fn keep(&self, granted: Granted) {
        let now = self.0.clock.now();
        self.0.keep(granted, now);
    }

    /// A token that should still be good. Renews it in the background when its end is near: until
    /// then, and for five minutes after, the platform takes the old one too.
    ///
    /// # Errors
    /// The answer to give for the message: nothing of it was sent.
    pub(in crate::sender) async fn current(&self) -> Result<Token, Answer> {
        let now = self.0.clock.now();
        let Some(held) = self.0.held() else {
            return self.obtain(0).await;
        };
        if now >= held.ends_at {
            return self.obtain(held.token.generation).await;
        }
        if now >= held.refresh_at {
            self.renew_in_background();
        }
        Ok(held.token)
    }

    /// A token other than `stale`, which the platform refused. Whoever comes with a token that has
    /// been replaced already is given the newer one without a request.
    ///
    /// # Errors
    /// As `current`.
    pub(in crate::sender) async fn replace(&self, stale: &Token) -> Result<Token, Answer> {
        self.obtain(stale.generation).await
    }

    pub(super) fn state(&self) -> TokenState {
        let failed = self.0.failed.read().unwrap_or_else(PoisonError::into_inner);
        let held = self.0.held();
        TokenState {
            had_since: held.as_ref().map(|held| held.since),
            ends_at: held.map(|held| held.ends_at),
            failed: failed.clone(),
        }
    }

    pub(super) fn app_id(&self) -> &str {
        self.0.source.app_id()
    }

    async fn obtain(&self, stale: u64) -> Result<Token, Answer> {
        let ended = self.0.ended.load(Ordering::SeqCst);
        let gate = Arc::clone(&self.0.gate).lock_owned().await;
        if let Some(token) = self.0.newer_than(stale) {
            return Ok(token);
        }
        let ended_meanwhile = self.0.ended.load(Ordering::SeqCst) != ended;
        if let Some(failure) = gate.as_ref().filter(|_| ended_meanwhile) {
            return Err(failure.clone());
        }
        // A task of its own, so that a caller whose time is up leaves the next ones a token.
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move { shared.renew(gate).await })
            .await
            .unwrap_or_else(|_| {
                let words = format!("{DOING}: renewal was stopped");
                Err(Answer::without_code(AnswerClass::RetrySoon, words))
            })
    }

    fn renew_in_background(&self) {
        let Ok(gate) = Arc::clone(&self.0.gate).try_lock_owned() else {
            return;
        };
        let shared = Arc::clone(&self.0);
        // Between looking and locking, another call may have renewed it.
        if shared
            .held()
            .is_none_or(|held| shared.clock.now() < held.refresh_at)
        {
            return;
        }
        tokio::spawn(async move {
            if let Err(answer) = shared.renew(gate).await {
                tracing::warn!(
                    app_id = shared.source.app_id(),
                    reason = answer.detail,
                    "renew access token early"
                );
            }
        });
    }
}

impl Shared {
    fn held(&self) -> Option<Held> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    fn with_held<T>(&self, change: impl FnOnce(&mut Option<Held>) -> T) -> T {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut held)
    }

    fn newer_than(&self, stale: u64) -> Option<Token> {
        let held = self.held()?;
        let good = self.clock.now() < held.ends_at;
        (good && held.token.generation > stale).then_some(held.token)
    }

    fn keep(&self, granted: Granted, asked_at: Timestamp) -> Token {
        let Granted { value, lifetime } = granted;
        self.with_held(|held| {
            let last = held.as_ref().map_or(0, |held| held.token.generation);
            let token = Token {
                value,
                generation: last + 1,
            };
            let early = early(self.source.seed(), asked_at);
            *held = Some(Held {
                token: token.clone(),
                since: asked_at,
                refresh_at: asked_at.plus(refresh_after(lifetime, early)),
                ends_at: asked_at.plus(lifetime - MARGIN.min(lifetime / 10)),
            });
            token
        })
    }

    /// Asks for a token and keeps it; the gate opens when this ends.
    async fn renew(&self, mut gate: OwnedMutexGuard<Option<Answer>>) -> Result<Token, Answer> {
        let asked_at = self.clock.now();
        let held = self.held().map(|held| held.token.value);
        let renewed = self.source.ask(held.as_ref()).await;
        let renewed = renewed.map(|granted| self.keep(granted, asked_at));
        if renewed.is_err() {
            let again_at = self.clock.now().plus(BACKGROUND_PAUSE);
            self.with_held(|held| {
                if let Some(held) = held {
                    held.refresh_at = again_at;
                }
            });
        }
        let failure = renewed.as_ref().err();
        let failure = failure.map(|answer| (self.clock.now(), answer.detail.clone()));
        *self.failed.write().unwrap_or_else(PoisonError::into_inner) = failure;
        *gate = renewed.as_ref().err().cloned();
        // Counted before the gate opens, so that those who wait at it see it.
        self.ended.fetch_add(1, Ordering::SeqCst);
        renewed
    }
}

/// How long before its end a token is renewed: 5 to 10 minutes, different for each seed and time.
fn early(seed: i64, asked_at: Timestamp) -> Duration {
    // A multiplicative hash; the jitter needs to be spread, not secret.
    let mixed = (seed ^ asked_at.0).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
    let spread = (mixed.cast_unsigned() >> 32) % EARLY_SPREAD_SECONDS;
    EARLY + Duration::from_secs(spread)
}

/// How long after asking a token is renewed. In its last five minutes the platform gives a new one;
/// asked before, it gives the same with the rest of its life, which is then halved until it does.
fn refresh_after(lifetime: Duration, early: Duration) -> Duration {
    lifetime.saturating_sub(early).max(lifetime / 2)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::WechatSettings;
    use super::super::source::StableToken;
    use super::super::wire::Wire;
    use super::*;
    use crate::clock::ManualClock;
    use crate::journey::ids::AccountId;

    #[test]
    fn renewal_is_early_and_never_at_once() {
        for account in 0..1_000 {
            let early = early(account, Timestamp(1_700_000_000_000 + account * 77));
            assert!((300..600).contains(&early.as_secs()));
            let after = refresh_after(Duration::from_secs(7_200), early);
            assert!((6_600..=6_900).contains(&after.as_secs()));
        }
        for seconds in [1, 60, 299, 600] {
            let lifetime = Duration::from_secs(seconds);
            let after = refresh_after(lifetime, Duration::from_secs(599));
            assert_eq!(after, lifetime / 2);
        }
    }

    /// Answers every request with the next of `answers`, the last one again and again, and counts.
    async fn platform(
        answers: &'static [&'static str],
    ) -> (Tokens, Arc<AtomicU64>, Arc<ManualClock>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api_base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"}") {
                    assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
                }
                assert!(String::from_utf8_lossy(&request).contains("\"force_refresh\":false"));
                let at = usize::try_from(count.fetch_add(1, Ordering::SeqCst)).unwrap();
                let body = answers[at.min(answers.len() - 1)];
                let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
                let answer = format!("{head} {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.ok();
            }
        });
        let settings = Arc::new(WechatSettings {
            account: AccountId(1),
            app_id: "wx1".into(),
            app_secret: SecretString::from("S3CRET"),
            api_base: api_base.parse().unwrap(),
            attempt_timeout: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(2),
            allow_private_media: false,
        });
        let http = super::super::http_client(Duration::from_secs(2)).unwrap();
        let wire = Wire::new(http, settings.api_base.clone());
        let clock = Arc::new(ManualClock::at(Timestamp(0)));
        let source = Arc::new(StableToken { settings, wire });
        let tokens = Tokens::new(source, Arc::clone(&clock) as _);
        (tokens, asked, clock)
    }

    const A_AND_B: &[&str] = &[
        r#"{"access_token":"A","expires_in":7200}"#,
        r#"{"access_token":"B","expires_in":7200}"#,
    ];

    fn shown(token: Result<Token, Answer>) -> String {
        token.unwrap().value.expose_secret().to_owned()
    }

    #[tokio::test]
    async fn a_thousand_refused_tokens_are_replaced_by_one_request() {
        let (tokens, asked, _) = platform(A_AND_B).await;
        let stale = tokens.current().await.unwrap();
        let storm: Vec<_> = (0..1_000)
            .map(|_| {
                let (tokens, stale) = (tokens.clone(), stale.clone());
                tokio::spawn(async move { tokens.replace(&stale).await })
            })
            .collect();
        for replaced in storm {
            assert_eq!(shown(replaced.await.unwrap()), "B");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_thousand_waiters_share_one_failure_and_its_words_hide_the_secret() {
        let refused = &[r#"{"errcode":40125,"errmsg":"invalid appsecret S3CRET rid: 1"}"#];
        let (tokens, asked, _) = platform(refused).await;
        let storm: Vec<_> = (0..1_000)
            .map(|_| {
                let tokens = tokens.clone();
                tokio::spawn(async move { tokens.current().await })
            })
            .collect();
        for failed in storm {
            let answer = failed.await.unwrap().unwrap_err();
            assert_eq!(answer.class, AnswerClass::NeedsAttention);
            assert_eq!(answer.code, Some(40125));
            assert!(!answer.detail.contains("S3CRET"), "{}", answer.detail);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // Sharing ends with those who waited: the next one asks for itself.
        tokens.current().await.unwrap_err();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        assert!(!format!("{tokens:?}").contains("S3CRET"));
    }

    #[tokio::test]
    async fn near_its_end_the_old_token_serves_while_the_new_one_is_fetched() {
        let (tokens, asked, clock) = platform(A_AND_B).await;
        assert_eq!(shown(tokens.current().await), "A");
        clock.advance(Duration::from_secs(6_500));
        assert_eq!(shown(tokens.current().await), "A");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        clock.advance(Duration::from_secs(450));
        assert_eq!(shown(tokens.current().await), "A");
        // The renewal holds the gate from before `current` returned until it has ended.
        drop(tokens.0.gate.lock().await);
        assert_eq!(shown(tokens.current().await), "B");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn an_early_renewal_that_fails_leaves_the_old_token_and_pauses() {
        const ANSWERS: &[&str] = &[A_AND_B[0], r#"{"errcode":-1,"errmsg":"system error"}"#];
        let (tokens, asked, clock) = platform(ANSWERS).await;
        tokens.current().await.unwrap();
        clock.advance(Duration::from_secs(6_950));
        for _ in 0..3 {
            assert_eq!(shown(tokens.current().await), "A");
            drop(tokens.0.gate.lock().await);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        clock.advance(BACKGROUND_PAUSE);
        assert_eq!(shown(tokens.current().await), "A");
        drop(tokens.0.gate.lock().await);
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        // At its end it serves no longer.
        clock.advance(Duration::from_secs(300));
        assert_eq!(tokens.current().await.unwrap_err().code, Some(-1));
    }

    #[test]
    fn the_spread_is_a_spread() {
        let distinct: std::collections::BTreeSet<_> =
            (0..1_000).map(|id| early(id, Timestamp(0))).collect();
        assert!(distinct.len() > 200, "{}", distinct.len());
    }
}
