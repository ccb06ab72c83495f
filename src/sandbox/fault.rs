//! Faults: what shall go wrong with which calls, how often.
//!
//! Rules are set over the control API. The first rule that matches a call and still has turns is
//! used; a fault whose answer is lost or spoiled lets the platform accept the call first, since
//! that is what makes an outcome unknown. Producing the broken answers is in `spoil`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::random;

/// Rules kept at once.
const RULES_MAX: usize = 1_000;

/// What goes wrong with a call or a callback.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// The answer comes this late, in real milliseconds.
    Delay { ms: u64 },
    /// The answer never comes.
    Hang,
    /// The connection is reset before the body is read; never accepted.
    ResetBefore,
    /// The connection is reset instead of an answer.
    ResetAfter,
    /// An HTTP status such as 500, 502 or 503.
    Status { status: u16 },
    /// Bytes that are no JSON.
    Garbage,
    /// The right answer, cut in the middle while the connection closes.
    Truncated,
    /// A page of HTML with status 200.
    Html,
    /// The right answer under a `Content-Length` that is too short.
    WrongLength,
    /// An endless-looking body; 1 GiB unless told otherwise.
    Huge {
        #[serde(default = "gibibyte")]
        bytes: u64,
    },
    /// The right answer, one byte at a time, this many real milliseconds apart.
    Drip { ms: u64 },
    /// 302 to `location`; to the sandbox's own trap when absent, which counts who follows.
    Redirect { location: Option<String> },
    /// Any error code.
    Errcode { code: i32 },
    /// Every token of the account is refused with this code from now on.
    KillTokens {
        #[serde(default = "not_latest")]
        code: i32,
    },
    /// Template messages, subscription notices and mass sends only: the call is accepted, nobody
    /// receives the message, and the result says this.
    Undelivered {
        #[serde(default = "system_failed")]
        status: String,
        /// `ErrorCode` of a subscription notice.
        #[serde(default = "system_error")]
        code: i32,
    },
    /// Callbacks only: the event is never pushed.
    Drop,
    /// Callbacks only: the answer is taken as lost, so the event is pushed again.
    LoseAnswer,
}

fn gibibyte() -> u64 {
    1 << 30
}

fn system_failed() -> String {
    "failed: system failed".to_owned()
}

fn system_error() -> i32 {
    -1
}

fn not_latest() -> i32 {
    40001
}

impl FaultKind {
    /// The name in rules and records.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Delay { .. } => "delay",
            Self::Hang => "hang",
            Self::ResetBefore => "reset_before",
            Self::ResetAfter => "reset_after",
            Self::Status { .. } => "status",
            Self::Garbage => "garbage",
            Self::Truncated => "truncated",
            Self::Html => "html",
            Self::WrongLength => "wrong_length",
            Self::Huge { .. } => "huge",
            Self::Drip { .. } => "drip",
            Self::Redirect { .. } => "redirect",
            Self::Errcode { .. } => "errcode",
            Self::KillTokens { .. } => "kill_tokens",
            Self::Undelivered { .. } => "undelivered",
            Self::Drop => "drop",
            Self::LoseAnswer => "lose_answer",
        }
    }

    fn accepts_by_default(&self) -> bool {
        !matches!(
            self,
            Self::ResetBefore | Self::Status { .. } | Self::Redirect { .. } | Self::Errcode { .. }
        )
    }
}

/// One rule, as it is set.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Fault {
    /// A path such as `/cgi-bin/message/custom/send`, `callback` for pushes, or `*` for all paths.
    pub api: String,
    /// App id; every account when absent.
    #[serde(default)]
    pub account: Option<String>,
    /// One follower; everybody when absent.
    #[serde(default)]
    pub openid: Option<String>,
    /// Callbacks only: what they tell, such as `follow`, `popup` or `template_result`; anything when
    /// absent.
    #[serde(default)]
    pub event: Option<String>,
    #[serde(flatten)]
    pub kind: FaultKind,
    /// How many calls it hits; without end when absent.
    #[serde(default)]
    pub times: Option<u64>,
    /// Chance per matching call, 0 to 1; always when absent.
    #[serde(default)]
    pub probability: Option<f64>,
    /// Whether the platform carries the call out all the same. By default it does where the answer
    /// is late, lost or spoiled, and does not for a status, a redirect or an error code.
    #[serde(default)]
    pub accepted: Option<bool>,
}

impl Fault {
    /// A rule that hits the next `times` calls of `api`.
    pub fn new(api: &str, kind: FaultKind, times: u64) -> Self {
        Self {
            api: api.to_owned(),
            account: None,
            openid: None,
            event: None,
            kind,
            times: Some(times),
            probability: None,
            accepted: None,
        }
    }

    /// Whether the call is carried out before it is spoiled.
    pub(super) fn is_accepted(&self) -> bool {
        self.kind != FaultKind::ResetBefore
            && self
                .accepted
                .unwrap_or_else(|| self.kind.accepts_by_default())
    }

    fn matches(&self, call: &Target<'_>) -> bool {
        let is_here = match self.api.as_str() {
            "*" => call.api != CALLBACK,
            api => api == call.api,
        };
        is_here
            && self
                .account
                .as_deref()
                .is_none_or(|account| call.account == Some(account))
            && self
                .openid
                .as_deref()
                .is_none_or(|openid| call.openid == Some(openid))
            && self
                .event
                .as_deref()
                .is_none_or(|event| call.event == Some(event))
    }
}

/// The `api` of pushes.
pub(super) const CALLBACK: &str = "callback";

/// A call that may be hit, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) api: &'a str,
    pub(super) account: Option<&'a str>,
    pub(super) openid: Option<&'a str>,
    /// What a callback tells.
    pub(super) event: Option<&'a str>,
    /// At the door the body has not been read: only resets before it happen there.
    pub(super) is_at_door: bool,
}

/// A rule and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct FaultState {
    #[serde(flatten)]
    pub fault: Fault,
    /// Calls it hit.
    pub hits: u64,
}

/// Every rule, in the order in which they were set.
#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: RwLock<Vec<Rule>>,
    /// So that calls look no further when there is none.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Rule {
    fault: Arc<Fault>,
    hits: AtomicU64,
}

impl Rule {
    /// Takes one turn, if one is left.
    fn hit(&self) -> bool {
        let max = self.fault.times.unwrap_or(u64::MAX);
        let next = |hits: u64| (hits < max).then(|| hits + 1);
        self.hits
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

impl Faults {
    /// Whether any rule exists.
    pub(super) fn exist(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Adds rules; false when they would be too many.
    pub(super) fn add(&self, faults: Vec<Fault>) -> bool {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        if rules.len().saturating_add(faults.len()) > RULES_MAX {
            return false;
        }
        rules.extend(faults.into_iter().map(|fault| Rule {
            fault: Arc::new(fault),
            hits: AtomicU64::new(0),
        }));
        self.count.store(rules.len(), Ordering::Relaxed);
        true
    }

    /// Removes every rule.
    pub(super) fn clear(&self) {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        rules.clear();
        self.count.store(0, Ordering::Relaxed);
    }

    /// Every rule and its hits.
    pub(super) fn list(&self) -> Vec<FaultState> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let state = |rule: &Rule| FaultState {
            fault: (*rule.fault).clone(),
            hits: rule.hits.load(Ordering::Relaxed),
        };
        rules.iter().map(state).collect()
    }

    /// The fault that hits this call, if one does.
    pub(super) fn pick(&self, call: &Target<'_>) -> Option<Arc<Fault>> {
        if !self.exist() {
            return None;
        }
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let mut matching = rules.iter().filter(|rule| {
            let is_for_door =
                rule.fault.kind == FaultKind::ResetBefore && rule.fault.openid.is_none();
            is_for_door == call.is_at_door && rule.fault.matches(call)
        });
        let hit = matching.find(|rule| chance(rule.fault.probability) && rule.hit())?;
        Some(Arc::clone(&hit.fault))
    }
}

fn chance(probability: Option<f64>) -> bool {
    /// Fine enough for any test.
    const SIDES: u32 = 1_000_000;
    probability.is_none_or(|probability| {
        let thrown = u32::try_from(random::below(u64::from(SIDES))).unwrap_or(0);
        f64::from(thrown) < probability * f64::from(SIDES)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEND: &str = "/cgi-bin/message/custom/send";

    fn call<'a>(openid: Option<&'a str>) -> Target<'a> {
        Target {
            api: SEND,
            account: Some("wx1"),
            openid,
            event: None,
            is_at_door: false,
        }
    }

    #[test]
    fn a_rule_hits_as_often_as_it_says_and_only_what_it_names() {
        let faults = Faults::default();
        let mut fault = Fault::new(SEND, FaultKind::Hang, 2);
        fault.openid = Some("ann".into());
        faults.add(vec![fault]);
        assert!(faults.pick(&call(Some("bob"))).is_none());
        assert!(faults.pick(&call(Some("ann"))).is_some());
        assert!(faults.pick(&call(Some("ann"))).is_some());
        assert!(faults.pick(&call(Some("ann"))).is_none());
        assert_eq!(faults.list()[0].hits, 2);
    }

    #[test]
    fn a_rule_with_no_chance_never_hits_and_the_next_one_does() {
        let faults = Faults::default();
        let mut never = Fault::new("*", FaultKind::Hang, 9);
        never.probability = Some(0.0);
        faults.add(vec![never, Fault::new("*", FaultKind::Garbage, 1)]);
        let hit = faults.pick(&call(None)).map(|fault| fault.kind.clone());
        assert_eq!(hit, Some(FaultKind::Garbage));
        let push = Target {
            api: CALLBACK,
            ..call(None)
        };
        assert!(faults.pick(&push).is_none());
    }

    #[test]
    fn rules_are_read_as_operators_write_them() {
        let fault: Fault =
            serde_json::from_str(r#"{"api":"*","kind":"errcode","code":45009,"times":3}"#).unwrap();
        assert_eq!(fault.kind, FaultKind::Errcode { code: 45009 });
        assert!(!fault.is_accepted());
        let huge: Fault = serde_json::from_str(r#"{"api":"*","kind":"huge"}"#).unwrap();
        assert_eq!(huge.kind, FaultKind::Huge { bytes: 1 << 30 });
        assert!(huge.is_accepted());
    }
}
