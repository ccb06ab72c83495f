//! Every way in which a platform can fail, and what becomes of the message: definite failures are
//! tried again and arrive once, lost answers are marked unknown and sent again once or left alone,
//! and no message arrives twice without an unknown send that says so.
//!
//! One account for each fault, so that what rests one account cannot hide what becomes of another.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::time::Duration;

use dripwheel::journey::outcome::Outcome;
use dripwheel::sandbox::{Action, Fault, FaultKind};

use crate::pair::{Pair, Person, Wishes, app_id, eventually};

const SEND: &str = "/cgi-bin/message/custom/send";
const TOKEN_API: &str = "/cgi-bin/stable_token";
const UPLOAD: &str = "/cgi-bin/media/upload";

const RESEND: &str = "
sequence: resend
trigger: { follow: { scene: resend } }
on_unknown: resend
steps:
  - { id: one, after: 0s, say: { text: one } }
  - { id: two, after: 10m, say: { text: two } }
";

const SKIP: &str = "
sequence: skip
trigger: { follow: { scene: skip } }
on_unknown: skip
steps:
  - { id: one, after: 0s, say: { text: one } }
  - { id: two, after: 10m, say: { text: two } }
";

const PICTURE: &str = "
sequence: picture
trigger: { follow: { scene: picture } }
steps:
  - { id: one, after: 0s, say: { image: assets/guide.png } }
  - { id: two, after: 10m, say: { text: two } }
";

/// One fault and what has to come of it.
struct Case {
    what: &'static str,
    /// The sequence.
    scene: &'static str,
    faults: Vec<Fault>,
    /// The outcomes of the first step, a bar, and those of the second.
    story: &'static str,
    /// The texts that arrive; a picture has none.
    arrives: &'static str,
}

fn case(
    what: &'static str,
    (scene, faults): (&'static str, Vec<Fault>),
    story: &'static str,
    arrives: &'static str,
) -> Case {
    Case {
        what,
        scene,
        faults,
        story,
        arrives,
    }
}

/// A fault of the first `times` sends, where unknown sends are repeated.
fn send(kind: FaultKind, times: u64) -> (&'static str, Vec<Fault>) {
    ("resend", vec![Fault::new(SEND, kind, times)])
}

/// The same where they are left alone.
fn skip(kind: FaultKind) -> (&'static str, Vec<Fault>) {
    ("skip", vec![Fault::new(SEND, kind, 1)])
}

fn code(code: i32, times: u64) -> (&'static str, Vec<Fault>) {
    send(FaultKind::Errcode { code }, times)
}

/// The same fault of a call that the platform does not carry out.
fn untaken((scene, mut faults): (&'static str, Vec<Fault>)) -> (&'static str, Vec<Fault>) {
    for fault in &mut faults {
        fault.accepted = Some(false);
    }
    (scene, faults)
}

/// Lost answers: nobody can know whether the message was taken.
fn lost_answers() -> Vec<Case> {
    use FaultKind::*;
    let (again, twice) = ("unknown sent|sent", "one one two");
    let mut cases = vec![
        case(
            "a late answer",
            send(Delay { ms: 20 }, 1),
            "sent|sent",
            "one two",
        ),
        case(
            "too late an answer",
            send(Delay { ms: 3000 }, 1),
            again,
            twice,
        ),
        case("no answer", send(Hang, 1), again, twice),
        case(
            "no answer, not taken",
            untaken(send(Hang, 1)),
            again,
            "one two",
        ),
        case("reset before", send(ResetBefore, 1), again, "one two"),
        case("reset after", send(ResetAfter, 1), again, twice),
        case("garbage", send(Garbage, 1), again, twice),
        case(
            "garbage, not taken",
            untaken(send(Garbage, 1)),
            again,
            "one two",
        ),
        case("half an answer", send(Truncated, 1), again, twice),
        case("a page", send(Html, 1), again, twice),
        case("a wrong length", send(WrongLength, 1), again, twice),
        case("a gigabyte", send(Huge { bytes: 1 << 30 }, 1), again, twice),
        case("drop by drop", send(Drip { ms: 200 }, 1), again, twice),
        case(
            "lost twice",
            send(ResetAfter, 2),
            "unknown unknown|sent",
            twice,
        ),
        case(
            "reset after, skip",
            skip(ResetAfter),
            "unknown|sent",
            "one two",
        ),
        case(
            "no answer, skip",
            untaken(skip(Hang)),
            "unknown|sent",
            "two",
        ),
        case("garbage, skip", skip(Garbage), "unknown|sent", "one two"),
    ];
    for status in [404, 500, 502, 503] {
        cases.push(case(
            "a status",
            send(Status { status }, 1),
            again,
            "one two",
        ));
    }
    let status = Status { status: 503 };
    cases.push(case("a status, skip", skip(status), "unknown|sent", "two"));
    let mut both = send(ResetAfter, 1);
    both.1.push(Fault::new(SEND, Errcode { code: -1 }, 1));
    cases.push(case(
        "lost, then busy",
        both,
        "unknown retried sent|sent",
        twice,
    ));
    cases
}

/// Codes and other definite answers, in classes.
fn definite_answers() -> Vec<Case> {
    use FaultKind::*;
    let once = "one two";
    let given_up = "retried retried retried retried retried retried retried failed|sent";
    let mut cases = vec![
        case("busy", code(-1, 1), "retried sent|sent", once),
        case(
            "busy, skip",
            skip(Errcode { code: -1 }),
            "retried sent|sent",
            once,
        ),
        case(
            "a new code",
            code(99_123, 2),
            "retried retried sent|sent",
            once,
        ),
        case("always busy", code(-1, 8), given_up, "two"),
        case(
            "too many, by status",
            send(Status { status: 429 }, 1),
            "sent|sent",
            once,
        ),
        case("the minute's limit", code(45_011, 1), "sent|sent", once),
        case("the day's limit", code(45_009, 1), "sent|sent", once),
        case("an address not allowed", code(40_164, 1), "sent|sent", once),
        case("not authorized", code(48_001, 2), "sent|sent", once),
        case(
            "elsewhere",
            send(Redirect { location: None }, 1),
            "sent|sent",
            once,
        ),
        case(
            "dead tokens",
            send(KillTokens { code: 40_001 }, 1),
            "sent|sent",
            once,
        ),
        case(
            "expired tokens",
            send(KillTokens { code: 42_001 }, 1),
            "sent|sent",
            once,
        ),
        case("a token refused twice", code(40_001, 2), "sent|sent", once),
        case("a stranger", code(40_003, 1), "refused|sent", "two"),
        case("too long", code(45_002, 1), "refused|sent", "two"),
        case("not following", code(43_004, 1), "refused|cancelled", ""),
    ];
    for refused in [40_001, 40_014, 42_001] {
        cases.push(case("a refused token", code(refused, 1), "sent|sent", once));
    }
    for closed in [45_015, 45_047, 48_002, 43_019] {
        cases.push(case("not now", code(closed, 1), "held sent|sent", once));
    }
    cases
}

/// Faults of other calls: the message itself has not left.
fn before_the_message() -> Vec<Case> {
    use FaultKind::*;
    let token = |kind| ("resend", vec![Fault::new(TOKEN_API, kind, 4)]);
    let upload = |kind| ("picture", vec![Fault::new(UPLOAD, kind, 1)]);
    let callback = |kind, times| ("resend", vec![Fault::new("callback", kind, times)]);
    vec![
        case(
            "no token",
            token(Status { status: 500 }),
            "*sent|sent",
            "one two",
        ),
        case("a broken token", token(Garbage), "*sent|sent", "one two"),
        case("a token that hangs", token(Hang), "*sent|sent", "one two"),
        case(
            "a token that is cut off",
            token(ResetAfter),
            "*sent|sent",
            "one two",
        ),
        case(
            "a busy token",
            token(Errcode { code: -1 }),
            "*sent|sent",
            "one two",
        ),
        case(
            "no upload",
            upload(Status { status: 502 }),
            "*sent|sent",
            " two",
        ),
        case("a cut off upload", upload(ResetAfter), "*sent|sent", " two"),
        case(
            "a busy upload",
            upload(Errcode { code: -1 }),
            "*sent|sent",
            " two",
        ),
        case(
            "a lost success",
            callback(LoseAnswer, 2),
            "sent|sent",
            "one two",
        ),
        case(
            "a late callback",
            callback(Delay { ms: 50 }, 1),
            "sent|sent",
            "one two",
        ),
    ]
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_everything_else_is_certain() {
    matrix(lost_answers()).await;
}

#[tokio::test]
async fn an_answer_with_a_code_means_what_its_class_says() {
    matrix(definite_answers()).await;
}

#[tokio::test]
async fn what_fails_before_the_message_leaves_is_only_later() {
    matrix(before_the_message()).await;
}

/// Lets one person per case follow, plays two days, and looks at what arrived.
async fn matrix(cases: Vec<Case>) {
    let accounts: Vec<_> = (0..cases.len())
        .map(|index| format!("case-{index}"))
        .collect();
    let pair = Pair::start(Wishes {
        sequences: &[RESEND, SKIP, PICTURE],
        accounts,
        settings: "sender: { attempt_timeout: 1s, connect_timeout: 500ms }",
        ..Wishes::default()
    })
    .await;
    let mut people = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let mut faults = case.faults.clone();
        for fault in &mut faults {
            fault.account = Some(app_id(index));
        }
        pair.control().add_faults(faults).unwrap();
        let person = pair.person(index);
        let scene = Some(case.scene.to_owned());
        let pushed = person.tries(Action::Follow { scene }).await;
        // A lost `success` looks to the platform as if it had never come.
        let lost = matches!(case.faults[0].kind, FaultKind::LoseAnswer);
        assert!(pushed.accepted || lost, "{}", case.what);
        people.push(person);
    }
    for _ in 0..320 {
        pass(&pair, Duration::from_secs(4)).await;
    }
    for _ in 0..40 {
        pass(&pair, Duration::from_secs(1800)).await;
    }
    let held = "SELECT a.key FROM enrollments AS e JOIN accounts AS a ON a.id = e.account_id
        WHERE e.state = 1";
    for row in pair.rows(held).await {
        let key: String = row.try_get_by_index(0).unwrap();
        let index: usize = key.strip_prefix("case-").unwrap().parse().unwrap();
        people[index].writes("在吗").await;
    }
    let left = "SELECT count(*) FROM enrollments WHERE state < 2";
    eventually("every passage has ended", async || {
        pass(&pair, Duration::from_secs(4)).await;
        pair.number(left).await == 0
    })
    .await;

    let stories = stories(&pair).await;
    let mut wrong = Vec::new();
    for ((index, case), person) in cases.iter().enumerate().zip(&people) {
        let story = &stories[&index];
        let arrived = person.texts().join(" ");
        let kinds: Vec<_> = case.faults.iter().map(|fault| &fault.kind).collect();
        if !fits(case.story, story) || arrived != case.arrives {
            let (what, wanted, arrives) = (case.what, case.story, case.arrives);
            wrong.push(format!(
                "{what}, {kinds:?}: {story} [{arrived}], not {wanted} [{arrives}]"
            ));
        }
        assert_no_silent_double(person, story);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(pair.control().state().trapped, 0, "a redirect was followed");
    for state in pair.control().faults() {
        assert!(state.hits > 0, "never hit: {:?}", state.fault);
    }
}

/// Lets time pass, and whatever is under way end.
async fn pass(pair: &Pair, span: Duration) {
    pair.clock.advance(span);
    let under_way = "SELECT count(*) FROM deliveries WHERE state = 1";
    eventually("no answer is waited for", async || {
        pair.number(under_way).await == 0
    })
    .await;
}

/// Whether a story is the wanted one; `*` stands for any number of definite failures.
fn fits(wanted: &str, story: &str) -> bool {
    match wanted.strip_prefix('*') {
        None => wanted == story,
        Some(end) => story.replace("retried ", "") == end,
    }
}

/// Every message arrived at most once more than sends of it are unknown.
fn assert_no_silent_double(person: &Person, story: &str) {
    let arrived = person.received().len();
    let explained = story.matches("sent").count() + story.matches("unknown").count();
    assert!(arrived <= explained, "{arrived} arrived, and {story}");
}

/// Outcomes by account: the entries of each step, steps apart by bars.
async fn stories(pair: &Pair) -> BTreeMap<usize, String> {
    let sql = "SELECT a.key, o.step, o.result FROM outcomes AS o
        JOIN accounts AS a ON a.id = o.account_id ORDER BY o.enrollment_id, o.step, o.entry";
    let mut stories: BTreeMap<usize, BTreeMap<i64, Vec<&str>>> = BTreeMap::new();
    for row in pair.rows(sql).await {
        let key: String = row.try_get_by_index(0).unwrap();
        let index = key.strip_prefix("case-").unwrap().parse().unwrap();
        let outcome = Outcome::from_number(row.try_get_by_index(2).unwrap()).unwrap();
        let steps = stories.entry(index).or_default();
        let entries = steps.entry(row.try_get_by_index(1).unwrap()).or_default();
        entries.push(outcome.word());
    }
    let line = |steps: BTreeMap<i64, Vec<&str>>| {
        let steps: Vec<_> = steps.values().map(|entries| entries.join(" ")).collect();
        steps.join("|")
    };
    stories
        .into_iter()
        .map(|(index, steps)| (index, line(steps)))
        .collect()
}

#[tokio::test]
async fn an_event_that_is_never_pushed_leaves_nothing() {
    let pair = Pair::start(Wishes {
        sequences: &[RESEND],
        ..Wishes::default()
    })
    .await;
    let dropped = Fault::new("callback", FaultKind::Drop, 1);
    pair.control().add_faults(vec![dropped]).unwrap();
    let person = pair.person(0);
    let scene = Some("resend".to_owned());
    let pushed = person.tries(Action::Follow { scene }).await;
    assert!(pushed.dropped);
    let rows = "SELECT (SELECT count(*) FROM receipts) + (SELECT count(*) FROM followers)";
    assert_eq!(pair.number(rows).await, 0);
    assert_eq!(person.calls().len(), 0);
}
