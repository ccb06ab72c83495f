//! Why a step stands where it stands, in a sentence.

use crate::journey::carrier::Carrier;
use crate::journey::outcome::{Outcome, OutcomeEntry};
use crate::store::timeline::Receipt;
use crate::story::codes;
use crate::story::phrases::Phrase;
use crate::story::voice::{Voice, plain};
use crate::story::{Passage, Stage, Standpoint, Story};

/// Later than this after its due instant a sent step is said to be late at all.
const ON_TIME_MS: u128 = 100;

/// Why a step stands where it stands.
pub fn step(story: &Story, passage: &Passage, stage: &Stage, voice: &Voice) -> String {
    match &stage.state {
        Standpoint::Ended(end) => ended(stage, end, voice),
        Standpoint::Sending(since) => voice.say(Phrase::Sending, &[("when", &voice.when(*since))]),
        Standpoint::Held => held(story, passage, stage, voice),
        Standpoint::Due => due(story, passage, voice),
        Standpoint::Planned => planned(passage, stage, voice),
    }
}

fn planned(passage: &Passage, stage: &Stage, voice: &Voice) -> String {
    let when = voice.when(stage.due_at);
    if stage.index != passage.enrollment.step {
        let Some(current) = passage.current() else {
            return voice.say(
                Phrase::WaitsFor,
                &[("when", &when), ("span", &voice.until(stage.due_at))],
            );
        };
        let step = [("step", current.id.as_str()), ("when", when.as_str())];
        return match current.state {
            Standpoint::Held => voice.say(Phrase::BehindHeld, &step),
            _ if stage.due_at <= voice.now => voice.say(Phrase::WaitsBehind, &step),
            _ => voice.say(
                Phrase::WaitsFor,
                &[("when", &when), ("span", &voice.until(stage.due_at))],
            ),
        };
    }
    let wake_at = passage.enrollment.wake_at;
    let (when, span) = (voice.when(wake_at), voice.until(wake_at));
    let n = passage.enrollment.attempt.to_string();
    let due = voice.when(stage.due_at);
    let values = [
        ("when", when.as_str()),
        ("span", &span),
        ("n", &n),
        ("due", &due),
    ];
    let last = stage.history.last();
    match last.map(|entry| entry.outcome) {
        Some(Outcome::Retried) => coded(last, &voice.say(Phrase::RetryAt, &values), voice),
        Some(Outcome::Unknown) => voice.say(Phrase::ResendAt, &values),
        _ if wake_at > stage.due_at => voice.say(Phrase::Moved, &values),
        _ if wake_at < stage.due_at => voice.say(Phrase::PulledForward, &values),
        _ => voice.say(Phrase::WaitsFor, &values),
    }
}

fn due(story: &Story, passage: &Passage, voice: &Voice) -> String {
    let account = &story.account;
    let span = voice.ago(passage.enrollment.wake_at);
    let reason = plain(&account.pause_reason);
    let until = voice.when(account.paused_until);
    let values = [
        ("span", span.as_str()),
        ("reason", &reason),
        ("when", &until),
    ];
    if account.attention {
        voice.say(Phrase::DueAttention, &values)
    } else if account.paused_until > voice.now {
        voice.say(Phrase::DuePaused, &values)
    } else {
        voice.say(Phrase::DueNow, &values)
    }
}

fn held(story: &Story, passage: &Passage, stage: &Stage, voice: &Voice) -> String {
    let last = stage.history.iter().rfind(|e| e.outcome == Outcome::Held);
    let until = passage.enrollment.wake_at;
    let since = last.map_or(stage.due_at, |entry| entry.at);
    let reason = match last {
        Some(entry) if entry.code.is_some() => match story.follower.muted {
            true => voice.say(Phrase::Muted, &[]),
            false => voice.say(Phrase::PlatformClosed, &[]),
        },
        Some(entry) => reason(&entry.detail, voice),
        None => voice.say(Phrase::NoGrant, &[]),
    };
    let said = voice.say(
        Phrase::HeldUntil,
        &[
            ("since", &voice.when(since)),
            ("reason", &reason),
            ("until", &voice.when(until)),
            ("span", &voice.until(until)),
        ],
    );
    let said = coded(last, &said, voice);
    let stop = voice.lang.pick("; ", "；");
    format!("{said}{stop}{}", releases(story, voice))
}

/// Which of the follower's acts would let a held step go, by the account's profile.
fn releases(story: &Story, voice: &Voice) -> String {
    let Some(profile) = &story.profile else {
        return voice.say(Phrase::AnyReleases, &[]);
    };
    let mut words: Vec<&str> = Vec::new();
    for opener in profile.grants.iter().flat_map(|rule| &rule.opened_by) {
        if !words.contains(&opener.word()) {
            words.push(opener.word());
        }
    }
    if profile.grants.is_empty() || story.follower.muted {
        return voice.say(Phrase::AnyReleases, &[]);
    }
    // Who follows cannot follow once more without leaving first, and that would end the passage.
    let named: Vec<_> = words
        .iter()
        .filter_map(|word| match *word {
            "scanned" => Some(Phrase::WordScanned),
            "clicked" => Some(Phrase::WordClicked),
            "message" => Some(Phrase::WordMessage),
            _ => None,
        })
        .map(|phrase| voice.say(phrase, &[]))
        .collect();
    let events = match named.as_slice() {
        [one] => one.clone(),
        [first @ .., last] => {
            let first = first.join(voice.lang.pick(", ", "、"));
            format!("{first}{}{last}", voice.say(Phrase::Or, &[]))
        }
        [] => return voice.say(Phrase::NoneReleases, &[]),
    };
    voice.say(Phrase::Releases, &[("events", &events)])
}

fn ended(stage: &Stage, end: &OutcomeEntry, voice: &Voice) -> String {
    let early = end.at < end.due_at;
    let span = match early {
        true => voice.span(end.due_at.since(end.at)),
        false => voice.span(end.at.since(end.due_at)),
    };
    let before = |outcome| {
        stage
            .history
            .iter()
            .filter(move |e| e.outcome == outcome && e.steps == 0)
    };
    let n = (before(Outcome::Retried).count() + before(Outcome::Unknown).count() + 1).to_string();
    let cause = reason(&end.detail, voice);
    let values = [("span", span.as_str()), ("n", &n), ("reason", &cause)];
    let held = before(Outcome::Held).next();
    let phrase = match end.outcome {
        Outcome::Sent if early => Phrase::SentEarly,
        Outcome::Sent if before(Outcome::Unknown).next().is_some() => Phrase::SentAgain,
        Outcome::Sent if held.is_some() => Phrase::SentHeld,
        Outcome::Sent if before(Outcome::Retried).next().is_some() => Phrase::SentRetried,
        Outcome::Sent if end.at.since(end.due_at).as_millis() < ON_TIME_MS => Phrase::SentOnTime,
        Outcome::Sent => Phrase::SentAfter,
        Outcome::Refused => Phrase::Refused,
        Outcome::Expired => {
            let since = held.map(|entry| voice.when(entry.at));
            return match since {
                Some(since) => voice.say(Phrase::ExpiredHeld, &[("since", &since)]),
                None => voice.say(Phrase::ExpiredLate, &[]),
            };
        }
        Outcome::Skipped => Phrase::Skipped,
        Outcome::Cancelled => Phrase::Cancelled,
        Outcome::Failed if end.code.is_none() && n == "1" => Phrase::Failed,
        Outcome::Failed => Phrase::FailedAfter,
        Outcome::Unknown if before(Outcome::Unknown).next().is_some() => Phrase::UnknownTwice,
        Outcome::Unknown => Phrase::UnknownLeft,
        // These end no step; the rows of a later release may say otherwise.
        Outcome::Retried => Phrase::Retried,
        Outcome::Held => Phrase::Held,
        Outcome::Delivered => Phrase::Delivered,
        Outcome::Undelivered => Phrase::Undelivered,
    };
    let said = voice.say(phrase, &values);
    if end.outcome == Outcome::Sent {
        let said = carried(end, said, voice);
        reported(stage, said, voice)
    } else {
        coded(Some(end), &said, voice)
    }
}

/// Adds how it travelled, where that was not by a customer message.
fn carried(end: &OutcomeEntry, said: String, voice: &Voice) -> String {
    let phrase = match end.carrier {
        None | Some(Carrier::CustomerMessage) => return said,
        Some(Carrier::PassiveReply) => Phrase::ByPassiveReply,
        Some(Carrier::SubscriptionNotice) => Phrase::BySubscriptionNotice,
        Some(Carrier::Template) => Phrase::ByTemplate,
        Some(Carrier::MassSend) => Phrase::ByMassSend,
    };
    let comma = voice.lang.pick(", ", "，");
    format!("{said}{comma}{}", voice.say(phrase, &[]))
}

/// Adds what the platform reported later.
fn reported(stage: &Stage, said: String, voice: &Voice) -> String {
    let mut reports = stage.history.iter().rev();
    let report = reports.find_map(|entry| match entry.outcome {
        Outcome::Delivered => Some(voice.say(Phrase::Delivered, &[])),
        Outcome::Undelivered => Some(detailed(entry, voice.say(Phrase::Undelivered, &[]))),
        _ => None,
    });
    let Some(report) = report else {
        return said;
    };
    let stop = voice.lang.pick("; ", "；");
    format!("{said}{stop}{report}")
}

/// What one entry of a step's history says.
pub fn entry(stage: &Stage, entry: &OutcomeEntry, voice: &Voice) -> String {
    let cause = reason(&entry.detail, voice);
    let n = entry.steps.to_string();
    let values = [("reason", cause.as_str()), ("n", &n)];
    match entry.outcome {
        Outcome::Retried => {
            let said = coded(Some(entry), &voice.say(Phrase::Retried, &[]), voice);
            detailed(entry, said)
        }
        Outcome::Unknown if entry.steps == 0 => {
            detailed(entry, voice.say(Phrase::UnknownAgain, &[]))
        }
        Outcome::Held if entry.code.is_some() => {
            let cause = voice.say(Phrase::PlatformClosed, &[]);
            let said = voice.say(Phrase::Held, &[("reason", &cause)]);
            coded(Some(entry), &said, voice)
        }
        Outcome::Held => voice.say(Phrase::Held, &values),
        Outcome::Cancelled if entry.steps > 1 => voice.say(Phrase::CancelledRest, &values),
        Outcome::Delivered => voice.say(Phrase::Delivered, &[]),
        Outcome::Undelivered => detailed(entry, voice.say(Phrase::Undelivered, &[])),
        Outcome::Unknown | Outcome::Refused | Outcome::Failed => {
            detailed(entry, ended(stage, entry, voice))
        }
        Outcome::Sent | Outcome::Expired | Outcome::Skipped | Outcome::Cancelled => {
            ended(stage, entry, voice)
        }
    }
}

/// What an event was, with what distinguishes it.
pub fn event(receipt: &Receipt, voice: &Voice) -> String {
    let said = voice.say(event_phrase(receipt.kind), &[]);
    match receipt
        .detail
        .as_deref()
        .filter(|detail| !detail.is_empty())
    {
        Some(detail) => format!("{said}{}{}", voice.lang.pick(": ", "："), plain(detail)),
        None => said,
    }
}

fn event_phrase(kind: &str) -> Phrase {
    match kind {
        "followed" => Phrase::Followed,
        "unfollowed" => Phrase::Unfollowed,
        "found" => Phrase::Found,
        "missed" => Phrase::Missed,
        "scanned" => Phrase::Scanned,
        "clicked" => Phrase::Clicked,
        "message" => Phrase::Message,
        "consents" => Phrase::Consents,
        "report" => Phrase::Report,
        _ => Phrase::Other,
    }
}

/// Why an entry was written, short: the code's meaning, or the reason in the voice's language.
pub fn cause(entry: &OutcomeEntry, voice: &Voice) -> String {
    let said = reason(&entry.detail, voice);
    match entry
        .code
        .map(|code| (code, codes::meaning(code, voice.lang)))
    {
        Some((code, Some(meaning))) => format!("{code}{}{meaning}", voice.lang.pick(": ", "：")),
        Some((code, None)) => format!("{code} {said}"),
        None => said,
    }
}

/// Adds what the platform's code means.
fn coded(entry: Option<&OutcomeEntry>, said: &str, voice: &Voice) -> String {
    let Some(code) = entry.and_then(|entry| entry.code) else {
        return said.to_owned();
    };
    let number = code.to_string();
    match codes::meaning(code, voice.lang) {
        Some(meaning) => voice.say(
            Phrase::WithCode,
            &[("what", said), ("code", &number), ("meaning", meaning)],
        ),
        None => voice.say(Phrase::WithPlainCode, &[("what", said), ("code", &number)]),
    }
}

fn detailed(entry: &OutcomeEntry, said: String) -> String {
    if entry.detail.is_empty() {
        said
    } else {
        format!("{said} ({})", plain(&entry.detail))
    }
}

/// A reason that journey or policy wrote down, in the voice's language. What is not one of theirs,
/// such as the platform's own words, stays as it is.
fn reason(detail: &str, voice: &Voice) -> String {
    let phrase = match detail {
        "unfollowed" => Phrase::ByUnfollow,
        "reconciled" => Phrase::ByReconciliation,
        "erased" => Phrase::ByErasure,
        "cancelled by hand" => Phrase::ByHand,
        "entered again" => Phrase::ByReentry,
        "not following" => Phrase::ByNotFollowing,
        "the platform says: not following" => Phrase::ByPlatform,
        "no grant is open" => Phrase::NoGrant,
        "the follower blocks messages" => Phrase::Muted,
        "the grant is kept for steps that go first" => Phrase::GrantKept,
        "the account has no customer messages" => Phrase::NoCarrier,
        "quiet hours" => Phrase::QuietHours,
        "when: is false" => Phrase::WhenFalse,
        _ => {
            if let Some(word) = detail.strip_prefix("exit_on: ") {
                let event = voice.say(event_phrase(word), &[]);
                return voice.say(Phrase::ByExit, &[("event", &event)]);
            }
            let late = detail
                .strip_prefix("late by ")
                .and_then(|span| span.strip_suffix(" s"));
            if let Some(seconds) = late.and_then(|seconds| seconds.parse().ok()) {
                let span = voice.span(std::time::Duration::from_secs(seconds));
                return voice.say(Phrase::LateBy, &[("span", &span)]);
            }
            if detail.starts_with("closed: skip") {
                return voice.say(Phrase::ClosedSkip, &[]);
            }
            return plain(detail);
        }
    };
    voice.say(phrase, &[])
}
