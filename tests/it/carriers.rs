//! Steps that no grant carries any more travel by other carriers, and the platform's later reports
//! end up in their history.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::Duration;

use dripwheel::journey::carrier;
use dripwheel::sandbox::{Action, Carrier, Fault, FaultKind, PopupAnswer, Profile};
use dripwheel::store::audit::audit;
use dripwheel::store::overview;

use crate::pair::{Pair, Person, Wishes, eventually};

const MASS: &str = "/cgi-bin/message/mass/send";

const MINUTE: Duration = Duration::from_secs(60);

const NOTICE: &str = "
sequence: welcome
trigger: follow
steps:
  - id: offer
    after: 10m
    say: { text: offer }
    closed:
      - subscription_notice:
          template: NOTICE1
          url: https://example.com/offer
          data: { thing1: '{{ account.name }}' }
";

const TEMPLATE: &str = "
sequence: welcome
trigger: follow
steps:
  - id: offer
    after: 10m
    say: { text: offer }
    closed: [{ template: { template: TEMPLATE1, data: { keyword1: order } } }]
";

async fn start(sequence: &str, people: usize) -> (Pair, Vec<Person>) {
    let pair = Pair::start(Wishes {
        sequences: &[sequence],
        server_profile: "wechat-2023",
        platform_profile: Profile::Wechat2023,
        ..Wishes::default()
    })
    .await;
    let people = (0..people).map(|_| pair.person(0)).collect();
    (pair, people)
}

/// The history of all steps: outcome and carrier.
async fn history(pair: &Pair) -> Vec<(i64, Option<i64>)> {
    let sql = "SELECT result, carrier FROM outcomes ORDER BY enrollment_id, step, entry";
    let rows = pair.rows(sql).await;
    rows.iter()
        .map(|row| {
            let result = row.try_get_by_index(0).unwrap();
            (result, row.try_get_by_index(1).unwrap())
        })
        .collect()
}

const SENT: i64 = 1;
const HELD: i64 = 9;
const DELIVERED: i64 = 10;
const UNDELIVERED: i64 = 11;
const BY_NOTICE: Option<i64> = Some(3);
const BY_TEMPLATE: Option<i64> = Some(4);

fn carriers(person: &Person) -> Vec<Carrier> {
    let calls = person.calls().into_iter().filter(|call| call.sent.received);
    calls.map(|call| call.sent.carrier).collect()
}

fn disturb(pair: &Pair, api: &str, kind: FaultKind, times: u64) {
    let fault = Fault::new(api, kind, times);
    pair.control().add_faults(vec![fault]).unwrap();
}

async fn allow(person: &Person, template: &str) {
    let answers = vec![PopupAnswer {
        template_id: template.to_owned(),
        accept: true,
    }];
    person.acts(Action::Popup { answers, scene: 2 }).await;
}

async fn becomes(pair: &Pair, expected: &[(i64, Option<i64>)]) {
    let mut last = Vec::new();
    let what = format!("the history is {expected:?}");
    eventually(&what, async || {
        last = history(pair).await;
        last == expected
    })
    .await;
}

async fn assert_clean(pair: &Pair) {
    let store = pair.app.store();
    let found = audit(store.read(), &store.knowledge().catalog()).await;
    let found = found.unwrap();
    assert!(found.is_clean(), "{:#?}", found.checks);
}

#[tokio::test]
async fn a_consent_carries_one_step_as_a_notice_and_the_report_is_noted() {
    let (pair, people) = start(NOTICE, 1).await;
    let ann = &people[0];
    ann.follows().await;
    allow(ann, "NOTICE1").await;
    pair.at(10 * MINUTE);
    becomes(&pair, &[(SENT, BY_NOTICE), (DELIVERED, BY_NOTICE)]).await;
    assert_eq!(carriers(ann), [Carrier::SubscriptionNotice]);
    assert_eq!(pair.number("SELECT \"left\" FROM consents").await, 0);
    assert_eq!(pair.number("SELECT count(*) FROM awaited_reports").await, 0);
    assert_clean(&pair).await;
    // What the overview shows of it is what the history says.
    let latest = overview::latest(pair.app.store().read(), 10).await.unwrap();
    let latest = latest.iter().map(|one| one.entry.carrier);
    let notice = Some(carrier::Carrier::SubscriptionNotice);
    assert_eq!(latest.collect::<Vec<_>>(), [notice; 2]);
}

#[tokio::test]
async fn without_consent_a_step_is_held_until_it_is_given() {
    let (pair, people) = start(NOTICE, 1).await;
    let ann = &people[0];
    ann.follows().await;
    pair.at(10 * MINUTE);
    becomes(&pair, &[(HELD, None)]).await;
    pair.at(20 * MINUTE);
    allow(ann, "NOTICE1").await;
    becomes(
        &pair,
        &[(HELD, None), (SENT, BY_NOTICE), (DELIVERED, BY_NOTICE)],
    )
    .await;
}

#[tokio::test]
async fn a_consent_that_the_platform_does_not_know_is_forgotten() {
    let (pair, people) = start(NOTICE, 1).await;
    let ann = &people[0];
    ann.follows().await;
    allow(ann, "NOTICE1").await;
    disturb(
        &pair,
        "/cgi-bin/message/subscribe/bizsend",
        FaultKind::Errcode { code: 43_101 },
        100,
    );
    pair.at(10 * MINUTE);
    becomes(&pair, &[(HELD, BY_NOTICE)]).await;
    assert_eq!(pair.number("SELECT \"left\" FROM consents").await, 0);
}

#[tokio::test]
async fn a_template_message_needs_no_grant_and_its_failure_is_noted() {
    let (pair, people) = start(TEMPLATE, 2).await;
    let (ann, bob) = (&people[0], &people[1]);
    ann.follows().await;
    bob.follows().await;
    pair.control().mute(&bob.app_id, &bob.openid, true).unwrap();
    pair.at(10 * MINUTE);
    let sent_and_reported = [
        (SENT, BY_TEMPLATE),
        (DELIVERED, BY_TEMPLATE),
        (SENT, BY_TEMPLATE),
        (UNDELIVERED, BY_TEMPLATE),
    ];
    becomes(&pair, &sent_and_reported).await;
    assert_eq!(carriers(ann), [Carrier::TemplateMessage]);
    assert_clean(&pair).await;
}

#[tokio::test]
async fn a_template_message_whose_answer_was_lost_is_sent_once() {
    let (pair, people) = start(TEMPLATE, 1).await;
    let ann = &people[0];
    ann.follows().await;
    disturb(
        &pair,
        "/cgi-bin/message/template/send",
        FaultKind::ResetAfter,
        1,
    );
    pair.at(10 * MINUTE);
    becomes(&pair, &[(SENT, BY_TEMPLATE), (DELIVERED, BY_TEMPLATE)]).await;
    assert_eq!(carriers(ann), [Carrier::TemplateMessage]);
}

#[tokio::test]
async fn what_one_interface_refuses_leaves_the_account_at_work() {
    let (pair, people) = start(TEMPLATE, 1).await;
    let ann = &people[0];
    ann.follows().await;
    disturb(
        &pair,
        "/cgi-bin/message/template/send",
        FaultKind::Errcode { code: 48_001 },
        100,
    );
    pair.at(10 * MINUTE);
    becomes(&pair, &[(HELD, BY_TEMPLATE)]).await;
    assert_eq!(pair.number("SELECT attention FROM accounts").await, 0);
    // The follower's own message opens a grant: the step travels by it.
    ann.writes("1").await;
    becomes(&pair, &[(HELD, BY_TEMPLATE), (SENT, Some(1))]).await;
}

#[tokio::test]
async fn everybody_who_came_to_a_step_gets_it_in_one_mass_send() {
    let (pair, people) = start(
        "
sequence: welcome
trigger: follow
steps: [{ id: offer, after: 10m, say: { text: offer }, closed: [mass_send] }]
",
        5,
    )
    .await;
    for person in &people {
        person.follows().await;
    }
    pair.at(10 * MINUTE);
    // Gathered until a common instant, at most some minutes later.
    for minutes in 11..=25 {
        pair.at(minutes * MINUTE);
        pair.quiet().await;
    }
    let sent = vec![(SENT, Some(5)); 5];
    becomes(&pair, &sent).await;
    for person in &people {
        assert_eq!(carriers(person), [Carrier::MassSend]);
    }
    assert_eq!(
        pair.number("SELECT count(*) FROM grants WHERE kind = 3")
            .await,
        5
    );
    assert_clean(&pair).await;
}

#[tokio::test]
async fn an_account_under_the_wrong_profile_is_told_which_one_fits() {
    let pair = Pair::start(Wishes {
        sequences: &["
sequence: welcome
trigger: follow
steps: [{ id: offer, after: 10m, say: { text: offer } }]
"],
        server_profile: "wechat-48h",
        platform_profile: Profile::Wechat2023,
        ..Wishes::default()
    })
    .await;
    let people: Vec<_> = (0..6).map(|_| pair.person(0)).collect();
    for person in &people {
        person.follows().await;
    }
    pair.at(10 * MINUTE);
    eventually("all are refused", async || history(&pair).await.len() == 6).await;
    let store = pair.app.store();
    let now = dripwheel::clock::Clock::now(pair.clock.as_ref());
    let health = dripwheel::story::health::load(store, None, "main", now).await;
    let health = health.unwrap().unwrap();
    assert_eq!(health.better_profile, Some("wechat-2023"));
    assert_eq!(health.word(), "profile_does_not_fit");
}

#[tokio::test]
async fn mass_sends_of_two_accounts_at_one_instant_stay_apart() {
    let pair = Pair::start(Wishes {
        sequences: &["
sequence: welcome
trigger: follow
steps: [{ id: offer, after: 10m, say: { text: offer }, closed: [mass_send] }]
"],
        accounts: vec!["main".to_owned(), "second".to_owned()],
        server_profile: "wechat-2023",
        platform_profile: Profile::Wechat2023,
        ..Wishes::default()
    })
    .await;
    pair.count_calls(MASS);
    let people: Vec<_> = (0..6).map(|n| pair.person(n % 2)).collect();
    for person in &people {
        person.follows().await;
    }
    for minutes in 10..=25 {
        pair.at(minutes * MINUTE);
        pair.quiet().await;
    }
    becomes(&pair, &[(SENT, Some(5)); 6]).await;
    for person in &people {
        assert_eq!(carriers(person), [Carrier::MassSend]);
    }
    let mass = |path: &str| pair.calls(path);
    assert_eq!(
        mass("/cgi-bin/message/mass/send"),
        2,
        "one call for each account"
    );
    assert_clean(&pair).await;
}
