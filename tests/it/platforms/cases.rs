//! What must hold on every platform.

use std::time::Duration;

use dripwheel::journey::outcome::Outcome;
use dripwheel::sandbox::{FaultKind, PlatformAct};

use super::stage::{Kind, Stage};

const SEQUENCE: &str = "sequence: hello
title: Hello
trigger: { follow: {} }
steps:
  - { id: one, after: 0s, say: { text: hello } }
  - { id: two, after: 10m, say: { text: later } }
";

/// One step, left alone when its answer is lost.
const ONCE: &str = "sequence: hello
title: Hello
trigger: { follow: {} }
on_unknown: skip
steps:
  - { id: one, after: 0s, say: { text: hello } }
";

/// The same, sent once more.
const AGAIN: &str = "sequence: hello
title: Hello
trigger: { follow: {} }
steps:
  - { id: one, after: 0s, say: { text: hello } }
";

const TEN_MINUTES: Duration = Duration::from_secs(600);

pub async fn a_follow_brings_the_messages(kind: Kind) {
    let stage = Stage::start(kind, None, SEQUENCE).await;
    let ann = stage.person(1);
    stage.joins(&ann).await;
    stage.receives(&ann, &["hello"]).await;
    stage.at(TEN_MINUTES);
    stage.receives(&ann, &["hello", "later"]).await;
    assert_eq!(stage.outcomes().await, [Outcome::Sent, Outcome::Sent]);
    stage.stop().await;
}

pub async fn after_somebody_left_nothing_comes(kind: Kind) {
    let stage = Stage::start(kind, None, SEQUENCE).await;
    let ann = stage.person(1);
    stage.joins(&ann).await;
    stage.receives(&ann, &["hello"]).await;
    stage.at(Duration::from_secs(60));
    stage.acts(&ann, PlatformAct::Unfollow).await;
    let outcomes = stage.outcomes().await;
    stage.at(TEN_MINUTES * 2);
    stage.quiet().await;
    assert_eq!(stage.texts(&ann), ["hello"]);
    // WeCom tells nobody that a customer wants no more; the message is taken and reaches nobody.
    if kind == Kind::WecomKf {
        assert_eq!(outcomes, [Outcome::Sent, Outcome::Sent]);
    } else {
        assert_eq!(outcomes, [Outcome::Sent, Outcome::Cancelled]);
        assert_eq!(stage.calls(), 1);
    }
    stage.stop().await;
}

pub async fn a_forged_callback_is_refused_and_leaves_nothing(kind: Kind) {
    let stage = Stage::start(kind, None, SEQUENCE).await;
    let ann = stage.person(1);
    assert_eq!(stage.forges(&ann).await, 403);
    for body in ["", "{}", "<xml/>", "\u{0}"] {
        assert_eq!(stage.posts("", body.to_owned()).await, 403, "{body:?}");
    }
    for table in ["receipts", "followers"] {
        let sql = format!("SELECT count(*) FROM {table}");
        assert_eq!(stage.number(&sql).await, 0, "{table}");
    }
    stage.stop().await;
}

pub async fn an_event_told_again_counts_once(kind: Kind) {
    let stage = Stage::start(kind, None, SEQUENCE).await;
    let ann = stage.person(1);
    let events = stage.joins_twice_told(&ann).await;
    stage.receives(&ann, &["hello"]).await;
    stage.quiet().await;
    let receipts = stage.number("SELECT count(*) FROM receipts").await;
    assert_eq!(receipts, events);
    assert_eq!(stage.number("SELECT count(*) FROM enrollments").await, 1);
    assert_eq!(stage.calls(), 1);
    stage.stop().await;
}

pub async fn a_second_call_under_the_same_key_brings_nothing(kind: Kind) {
    let stage = Stage::start(kind, None, AGAIN).await;
    let ann = stage.person(1);
    // The platform takes the message, and the answer is lost.
    stage.breaks_next(FaultKind::ResetAfter);
    stage.joins(&ann).await;
    assert_eq!(stage.outcomes().await, [Outcome::Unknown, Outcome::Sent]);
    assert_eq!(stage.calls(), 2);
    let arrived = stage.texts(&ann).len();
    // Without a key the platform cannot know, and the unknown says so.
    assert_eq!(arrived, if kind.has_keys() { 1 } else { 2 });
    stage.stop().await;
}

pub async fn a_rate_is_waited_for_as_the_platform_says(kind: Kind) {
    let stage = Stage::start(kind, Some(1), AGAIN).await;
    let (ann, bob) = (stage.person(1), stage.person(2));
    stage.joins(&ann).await;
    stage.receives(&ann, &["hello"]).await;
    stage.joins(&bob).await;
    let refused = "the second call was refused";
    crate::pair::eventually(refused, async || stage.calls() == 2).await;
    stage.nothing_in_hand().await;
    let pause = kind.rate_pause();
    stage.at(pause - Duration::from_millis(200));
    // Time passes in small steps, so that whoever would wake too early does.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        stage.clock.advance(Duration::from_millis(5));
    }
    assert_eq!((stage.calls(), stage.texts(&bob).len()), (2, 0));
    stage.at(pause + Duration::from_millis(1));
    let outcomes = stage.outcomes().await;
    assert_eq!(stage.texts(&bob), ["hello"]);
    assert_eq!(outcomes.last(), Some(&Outcome::Sent));
    assert_eq!(stage.calls(), 3);
    stage.stop().await;
}

pub async fn whoever_blocks_the_account_is_sent_nothing_more(kind: Kind) {
    let stage = Stage::start(kind, None, SEQUENCE).await;
    let ann = stage.person(1);
    stage.joins(&ann).await;
    stage.receives(&ann, &["hello"]).await;
    stage.blocks_silently(&ann);
    stage.at(TEN_MINUTES);
    let outcomes = stage.outcomes().await;
    assert_eq!(stage.texts(&ann), ["hello"]);
    if kind.tells_of_blocks() {
        assert_eq!(outcomes, [Outcome::Sent, Outcome::Refused]);
        let following = "SELECT count(*) FROM followers WHERE following = 1";
        assert_eq!(stage.number(following).await, 0);
    } else {
        assert_eq!(outcomes, [Outcome::Sent, Outcome::Sent]);
    }
    stage.stop().await;
}

pub async fn an_answer_that_never_comes_is_unknown(kind: Kind) {
    let stage = Stage::start(kind, None, ONCE).await;
    let ann = stage.person(1);
    stage.breaks_next(FaultKind::Hang);
    stage.joins(&ann).await;
    assert_eq!(stage.outcomes().await, [Outcome::Unknown]);
    assert_eq!((stage.calls(), stage.texts(&ann).len()), (1, 1));
    stage.stop().await;
}

pub async fn an_answer_that_is_garbage_is_unknown(kind: Kind) {
    let stage = Stage::start(kind, None, ONCE).await;
    let ann = stage.person(1);
    stage.breaks_next(match kind {
        // Of a webhook's answer the status is what counts; so the answer breaks off instead.
        Kind::Webhook => FaultKind::Truncated,
        _ => FaultKind::Garbage,
    });
    stage.joins(&ann).await;
    assert_eq!(stage.outcomes().await, [Outcome::Unknown]);
    stage.stop().await;
}

pub async fn a_refusal_is_a_refusal(kind: Kind) {
    let stage = Stage::start(kind, None, SEQUENCE).await;
    let ann = stage.person(1);
    stage.breaks_next(FaultKind::Errcode {
        code: kind.refusal(),
    });
    stage.joins(&ann).await;
    stage.quiet().await;
    assert_eq!(stage.told().await, [Outcome::Refused]);
    stage.at(TEN_MINUTES);
    stage.receives(&ann, &["later"]).await;
    stage.stop().await;
}

pub async fn a_callback_that_is_too_long_is_refused(kind: Kind) {
    let stage = Stage::start(kind, None, SEQUENCE).await;
    let long = " ".repeat(2 * 1024 * 1024);
    assert_eq!(stage.posts("", long).await, 413);
    assert_eq!(stage.number("SELECT count(*) FROM receipts").await, 0);
    stage.stop().await;
}
