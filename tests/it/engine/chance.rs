//! Thousands of followers who do anything at any time, answers of every kind, crashes: whatever
//! happens, the rows prove themselves and nobody gets a step twice or out of order.

use std::cell::Cell;
use std::collections::HashMap;

use dripwheel::journey::event::Event;
use dripwheel::journey::outcome::Outcome;
use dripwheel::sender::platform::AnswerClass;

use crate::support::{Reply, Town, eventually, seconds};

const SEQUENCES: [&str; 3] = [
    "
sequence: welcome
trigger: follow
exit_on: [ { message: { text: stop } } ]
steps:
  - { id: a, after: 0s, say: { text: w0 } }
  - { id: b, after: 40s, say: { text: w1 } }
  - { id: c, after: 5m, late: { after: 1m, then: shift }, say: { text: w2 } }
  - { id: d, after: 1h, expire_after: 2h, say: { text: w3 } }
",
    "
sequence: menu
trigger: { click: { key: help } }
reenter: always
closed: skip
on_unknown: skip
steps:
  - { id: a, after: 0s, say: { text: m0 } }
  - { id: b, after: 30s, late: { after: 30s, then: skip }, say: { text: m1 } }
",
    "
sequence: words
trigger: { message: { text: \"1\" } }
reenter: after 2m
min_gap: 10s
steps:
  - { id: a, after: 5s, say: { text: x0 } }
  - { id: b, after: 5s, say: { text: x1 } }
  - { id: c, after: 10m, say: { text: x2 } }
",
];

/// SplitMix64: the same seed is the same story, as far as tasks run in the same order.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn event(&mut self) -> Event {
        match self.below(12) {
            0..4 => Event::Followed { scene: None },
            4 => Event::Unfollowed,
            5 | 6 => Event::Clicked { key: "help".into() },
            7 => Event::Other {
                name: "LOCATION".into(),
            },
            8 => Event::Scanned { scene: "s".into() },
            n => Event::MessageReceived {
                message_kind: "text".into(),
                text: ["1", "stop", "hi"][n - 9].into(),
            },
        }
    }

    fn reply(&mut self) -> Reply {
        const CLASSES: [AnswerClass; 9] = [
            AnswerClass::Accepted,
            AnswerClass::RetrySoon,
            AnswerClass::NextMinute,
            AnswerClass::Dropped,
            AnswerClass::Unsendable,
            AnswerClass::Unsubscribed,
            AnswerClass::Muted,
            AnswerClass::GrantClosed,
            AnswerClass::Unknown,
        ];
        match self.below(200) {
            0 => Reply::Panic,
            1 => Reply::Answer(AnswerClass::NeedsAttention),
            n => Reply::Answer(CLASSES[n % CLASSES.len()]),
        }
    }
}

#[expect(clippy::print_stderr, reason = "a story that fails must name its seed")]
async fn live(seed: u64, people: usize, rounds: usize, profile: &str) {
    eprintln!("seed {seed}");
    let mut chance = Chance(seed);
    let mut town = Town::plan()
        .profile(profile)
        .ring(64)
        .memory(500)
        .in_flight(32, 32)
        .open(&SEQUENCES)
        .await;
    let names: Vec<_> = (0..people).map(|n| format!("f{n}")).collect();
    for round in 0..rounds {
        for who in &names {
            if chance.below(3) == 0 {
                let reply = chance.reply();
                town.line.tell(who, [reply]);
            }
        }
        let crowd: Vec<_> = (0..people / 2)
            .map(|_| {
                let who = &names[chance.below(people)];
                let mut arrival = town.arrival(who, chance.event());
                let ago = seconds([0, 0, 0, 1, 7][chance.below(5)]);
                arrival.created_at = arrival.created_at.minus(ago);
                arrival
            })
            .collect();
        let repeated: Vec<_> = crowd.iter().step_by(7).cloned().collect();
        let all = crowd.into_iter().chain(repeated);
        let all = all.map(|arrival| town.take("main", arrival));
        futures_util::future::join_all(all).await;
        for _ in 0..chance.below(6) {
            let span = [1, 2, 10, 45, 200, 1500][chance.below(6)];
            town.advance(seconds(span));
            // Some of it happens, at whatever pace.
            for _ in 0..chance.below(50) {
                tokio::task::yield_now().await;
            }
        }
        if chance.below(3) == 0 {
            town.restart().await;
        }
        if round % 3 == 0 {
            town.prove().await;
        }
    }
    let unfinished = "SELECT count(*) FROM enrollments WHERE state < 2";
    let calls = Cell::new(0);
    eventually("every passage is over", || async {
        // Time goes on when nothing else does, so that steps are sent rather than expire.
        if calls.replace(town.line.calls().len()) == calls.get() {
            match town.next_due().await {
                Some(due_at) if town.due().await == 0 => town.clock.set(due_at),
                _ => town.advance(seconds(30)),
            }
        }
        town.number(unfinished, []).await == Some(0)
    })
    .await;
    town.quiet().await;
    check(&town, &names).await;
    town.end().await;
}

/// What the platform saw against what the rows say.
async fn check(town: &Town, names: &[String]) {
    let mut accepted: HashMap<&str, usize> = HashMap::new();
    let calls = town.line.calls();
    for call in &calls {
        if call.reply == Reply::Answer(AnswerClass::Accepted) {
            *accepted.entry(&call.openid).or_default() += 1;
        }
    }
    let mut sent_in_all = 0;
    for who in names {
        let history = town.history(who).await;
        let mut sent: HashMap<(i64, i64), usize> = HashMap::new();
        let mut unknown = 0;
        for (passage, step, outcome, _) in history {
            match outcome {
                Outcome::Sent => *sent.entry((passage, step)).or_default() += 1,
                Outcome::Unknown => unknown += 1,
                _ => {}
            }
        }
        assert!(sent.values().all(|times| *times == 1), "{who}: {sent:?}");
        sent_in_all += sent.len();
        let arrived = accepted.get(who.as_str()).copied().unwrap_or(0);
        // What the platform took is sent, or unknown where a crash swallowed the answer.
        assert!(
            sent.len() <= arrived && arrived <= sent.len() + unknown,
            "{who}: {arrived} arrived, {} sent, {unknown} unknown",
            sent.len()
        );
        // Nobody enters `welcome` twice, so its first arrivals are in the order of its steps.
        let mut firsts: Vec<String> = Vec::new();
        for call in town.calls(who) {
            let taken = call.reply == Reply::Answer(AnswerClass::Accepted);
            if taken && call.text.starts_with('w') && !firsts.contains(&call.text) {
                firsts.push(call.text);
            }
        }
        assert!(firsts.is_sorted(), "{who}: {firsts:?}");
    }
    assert!(
        sent_in_all > names.len() / 10,
        "a story with {sent_in_all} sends"
    );
}

/// How many stories: a few in the gate, `DRIPWHEEL_SEEDS` by night.
fn seeds(gate: u64) -> u64 {
    let wanted = std::env::var("DRIPWHEEL_SEEDS").ok();
    wanted.and_then(|count| count.parse().ok()).unwrap_or(gate)
}

#[tokio::test]
async fn whatever_two_thousand_followers_do_the_rows_prove_themselves() {
    live(1, 2000, 4, "wechat-48h").await;
}

#[tokio::test]
async fn whatever_happens_under_the_rules_of_today_the_rows_prove_themselves() {
    for seed in 100..100 + seeds(2) {
        live(seed, 100, 10, "wechat-2023").await;
    }
}

#[tokio::test]
async fn lives_of_a_few_followers_hold_up_through_many_crashes() {
    for seed in 10_000..10_000 + seeds(3) {
        live(seed, 12, 12, "wechat-48h").await;
    }
}
