//! Judging: which carrier takes a step, who goes first, and what waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::journey::event::{Arrival, Event};
use crate::journey::ids::{AccountId, EnrollmentId, FollowerId, VersionId};
use crate::journey::parse::parse_stored;
use crate::policy::limiter::Rate;
use crate::policy::profile::{Profile, Source, named};

fn at(seconds: i64) -> Timestamp {
    Timestamp(1_772_380_800_000 + seconds * 1000)
}

/// One follower in one passage of each sequence, all begun at the start by a follow.
struct World {
    account: Account,
    catalog: Catalog,
    passages: Passages,
    grants: Grants,
    consents: Consents,
}

impl World {
    fn new(profile: &str, sequences: &[&str]) -> Self {
        let mut catalog = Catalog::default();
        let mut enrollments = Vec::new();
        let zone = TimeZone::get("Asia/Shanghai").expect("is known");
        for (text, n) in sequences.iter().zip(1u16..) {
            let sequence = parse_stored(text, &BTreeMap::new()).expect(text);
            let plan = plan::plan(&sequence, at(0), &zone, 0);
            let version = VersionId(i64::from(n));
            let id = EnrollmentId::new(FollowerId(1), n);
            enrollments.push(Enrollment::new(id, version, at(0), plan));
            let version = Version {
                id: version,
                sequence,
                zone: None,
            };
            catalog.add(Arc::new(version), true);
        }
        let arrival = Arrival {
            openid: "ann".into(),
            created_at: at(0),
            digest: 0,
            event: Event::Followed { scene: None },
            language: None,
        };
        let mut follower = Follower::new(FollowerId(1), AccountId(1), &arrival);
        follower.following = true;
        let profile = named(profile).expect("is shipped");
        let mut grants = Grants::default();
        grants.open(&profile, &arrival.event, at(0));
        Self {
            account: Account {
                journey: crate::journey::account::Account {
                    id: AccountId(1),
                    key: "main".into(),
                    name: "Main".into(),
                    zone,
                },
                profile,
                sends: true,
                passive_reply: true,
                rate: Rate::default(),
                erase_on_unfollow: true,
                track_links: false,
                quota_reset: learned::QuotaReset::default(),
                in_flight_max: 1,
            },
            catalog,
            passages: Passages {
                follower,
                enrollments,
            },
            grants,
            consents: Consents::default(),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Profile)) {
        let mut profile = (*self.account.profile).clone();
        change(&mut profile);
        self.account.profile = Arc::new(profile);
    }

    fn judge(&self, index: usize, seconds: i64, passive: bool) -> Verdict {
        let enrollment = &self.passages.enrollments[index];
        let version = self.catalog.version(enrollment.version).expect("is there");
        let case = Case {
            account: &self.account,
            passages: &self.passages,
            index,
            grants: &self.grants,
            consents: &self.consents,
            clicks: &[],
            catalog: &self.catalog,
            version,
            step: &version.sequence.steps[usize::from(enrollment.step)],
            passive,
        };
        judge(&case, at(seconds))
    }
}

fn one(trigger: &str, closed: &str, after: &str, say: &str) -> String {
    format!(
        "sequence: {trigger}\ntrigger: {trigger}\nclosed: {closed}\nsteps:\n\
         \x20 - {{ id: x, after: {after}, say: {say} }}\n"
    )
}

fn text(trigger: &str, after: &str) -> String {
    one(trigger, "hold", after, "{ text: a }")
}

fn carrier(verdict: &Verdict) -> Option<(Carrier, Option<Kind>)> {
    match verdict {
        Verdict::Send(fare) => Some((fare.carrier, fare.grant)),
        _ => None,
    }
}

#[test]
fn a_passive_reply_carries_what_it_can_hold_and_nobody_who_blocks() {
    let menu = "{ msgmenu: { head: a, items: [{ id: a, text: b }] } }";
    for (say, expected) in [
        ("{ text: a }", Carrier::PassiveReply),
        (
            "{ image: 'https://a.example/a.png' }",
            Carrier::PassiveReply,
        ),
        (
            "{ voice: 'https://a.example/a.mp3' }",
            Carrier::PassiveReply,
        ),
        (
            "{ news: { title: a, url: 'https://a.example' } }",
            Carrier::PassiveReply,
        ),
        (menu, Carrier::CustomerMessage),
        ("{ article: abc }", Carrier::CustomerMessage),
    ] {
        let mut world = World::new("wechat-2023", &[&one("follow", "hold", "0s", say)]);
        let sent = carrier(&world.judge(0, 0, true)).expect(say);
        assert_eq!(sent.0, expected, "{say}");
        world.passages.follower.muted = true;
        assert!(
            matches!(world.judge(0, 0, true), Verdict::Hold(..)),
            "{say}"
        );
    }
}

#[test]
fn a_passive_reply_spends_what_its_profile_says() {
    let mut world = World::new("wechat-2023", &[&text("follow", "0s")]);
    let free = carrier(&world.judge(0, 0, true));
    assert_eq!(free, Some((Carrier::PassiveReply, None)));
    world.change(|profile| {
        let passive = profile.carriers.passive_reply.as_mut();
        passive.expect("has them").spends_grant = true;
    });
    let counted = carrier(&world.judge(0, 0, true));
    assert_eq!(counted, Some((Carrier::PassiveReply, Some(Kind::Message))));
    world.grants = Grants::default();
    assert!(matches!(world.judge(0, 0, true), Verdict::Hold(..)));
}

#[test]
fn nothing_is_sent_within_the_margin_before_the_end() {
    for (seconds, sent) in [(54, true), (55, false), (56, false), (60, false)] {
        let world = World::new("wechat-2023", &[&text("follow", "10s")]);
        let verdict = world.judge(0, seconds, false);
        assert_eq!(carrier(&verdict).is_some(), sent, "{seconds}: {verdict:?}");
    }
}

#[test]
fn nothing_goes_before_its_instant_but_a_step_that_was_pulled_forward() {
    let mut world = World::new("wechat-2023", &[&text("follow", "50s")]);
    let due = at(50);
    assert_eq!(world.judge(0, 49, false), Verdict::Wait(due, "not due yet"));
    world.passages.enrollments[0].wake_at = at(49);
    assert_eq!(world.judge(0, 49, false), Verdict::Wait(due, "not due yet"));
    let called = text("follow", "70s").replace("closed", "last_call: 1m\nclosed");
    let mut world = World::new("wechat-2023", &[&called]);
    world.passages.enrollments[0].wake_at = at(50);
    assert!(carrier(&world.judge(0, 50, false)).is_some());
    assert!(matches!(world.judge(0, 49, false), Verdict::Wait(..)));
    // Too late for the last call: it waits for its own instant, and is not held before it.
    assert_eq!(
        world.judge(0, 56, false),
        Verdict::Wait(at(70), "not due yet")
    );
}

#[test]
fn a_lower_source_leaves_planned_steps_their_messages() {
    let (api, drip) = (text("api", "0s"), text("follow", "30s"));
    let mut world = World::new("wechat-2023", &[&api, &drip]);
    assert!(
        carrier(&world.judge(0, 0, false)).is_some(),
        "three are left for two"
    );
    world.grants.spend(Kind::Message);
    world.grants.spend(Kind::Message);
    let why = "the grant is kept for steps that go first";
    assert!(matches!(world.judge(0, 0, false), Verdict::Hold(_, said) if said == why));
    assert!(
        carrier(&world.judge(1, 30, false)).is_some(),
        "the step that it was kept for"
    );
    // What is planned behind the window's end needs nothing of it.
    world.passages.enrollments[1].plan = vec![at(600)];
    world.passages.enrollments[1].wake_at = at(600);
    assert!(carrier(&world.judge(0, 0, false)).is_some());
    // Who goes first is data.
    world.passages.enrollments[1].plan = vec![at(30)];
    world.passages.enrollments[1].wake_at = at(30);
    world.change(|profile| profile.priority = vec![Source::Operator, Source::Drip]);
    assert!(carrier(&world.judge(0, 0, false)).is_some());
    assert!(matches!(world.judge(1, 30, false), Verdict::Hold(_, said) if said == why));
}

#[test]
fn mass_sends_gather_at_common_instants_while_the_month_lasts() {
    let mass = one("follow", "[mass_send, hold]", "61s", "{ text: a }");
    let mut world = World::new("wechat-2023", &[&mass]);
    let together = Verdict::Wait(at(600), "gathers for a mass send");
    assert_eq!(world.judge(0, 61, false), together);
    world.passages.enrollments[0].wake_at = at(600);
    let sent = Some((Carrier::MassSend, Some(Kind::Mass)));
    // However late its turn comes, it woke together with the others.
    assert_eq!(carrier(&world.judge(0, 607, false)), sent);
    for _ in 0..4 {
        let Verdict::Send(fare) = world.judge(0, 607, false) else {
            panic!("the month lasts");
        };
        fare.take(&mut world.grants, &world.account, at(607));
    }
    assert!(matches!(world.judge(0, 607, false), Verdict::Hold(..)));
}

#[test]
fn carriers_are_tried_in_order_and_skipped_where_the_profile_has_none() {
    let form = "template: t, data: { thing1: x }";
    let list = format!("[{{ subscription_notice: {{ {form} }} }}, {{ template: {{ {form} }} }}]");
    let mut world = World::new("wechat-2023", &[&one("follow", &list, "2m", "{ text: a }")]);
    assert_eq!(
        carrier(&world.judge(0, 120, false)),
        Some((Carrier::Template, None))
    );
    world.consents.give("t");
    let notice = carrier(&world.judge(0, 120, false));
    assert_eq!(notice, Some((Carrier::SubscriptionNotice, None)));
    world.change(|profile| profile.carriers.subscription_notice = None);
    assert_eq!(
        carrier(&world.judge(0, 120, false)),
        Some((Carrier::Template, None))
    );
    world.change(|profile| profile.carriers.template = None);
    assert!(matches!(world.judge(0, 120, false), Verdict::Hold(..)));
    world.change(|profile| profile.carriers.customer_message = None);
    let none = world.judge(0, 120, false);
    let why = "the account has no customer messages";
    assert!(
        matches!(none, Verdict::Hold(_, said) if said == why),
        "{none:?}"
    );
}

/// How many of the planned steps a ledger carries, each taking what it would take.
fn carried(world: &World, mut grants: Grants, planned: &[Timestamp]) -> usize {
    let spends = planned.iter().filter(|at| {
        let kind = grants.usable(&world.account.profile, **at);
        kind.into_iter().for_each(|kind| grants.spend(kind));
        kind.is_some()
    });
    spends.count()
}

proptest! {
    /// Whatever was opened and spent, a message of a lower source takes nothing that a planned step
    /// of a higher one would have had; and while there is enough for both, it goes.
    #[test]
    fn a_lower_source_never_costs_a_higher_one_its_message(
        mut planned in prop::collection::vec(1i64..200, 1..6),
        events in prop::collection::vec((0u8..3, 0i64..60), 0..4),
        spent in prop::collection::vec(0u16..4, 2),
        beside: bool,
    ) {
        planned.sort_unstable();
        let steps: String = planned
            .iter()
            .enumerate()
            .map(|(n, span)| format!("  - {{ id: s{n}, after: {span}s, say: {{ text: a }} }}\n"))
            .collect();
        let drip = format!("sequence: drip\ntrigger: follow\nmin_gap: 0s\nsteps:\n{steps}");
        let mut world = World::new("wechat-2023", &[&text("api", "0s"), &drip]);
        if beside {
            world.change(|profile| profile.combine = profile::Combine::SideBySide);
        }
        let mut now = 0;
        for (event, pause) in events {
            now += pause;
            let event = match event {
                0 => Event::Followed { scene: None },
                1 => Event::Clicked { key: "k".into() },
                _ => Event::MessageReceived { message_kind: "text".into(), text: "1".into() },
            };
            let profile = Arc::clone(&world.account.profile);
            world.grants.open(&profile, &event, at(now));
        }
        for (kind, count) in [Kind::Act, Kind::Message].into_iter().zip(spent) {
            (0..count).for_each(|_| world.grants.spend(kind));
        }
        let planned: Vec<_> = planned.iter().map(|span| at((*span).max(now))).collect();
        let before = carried(&world, world.grants.clone(), &planned);
        let left: usize = world.grants.0.iter()
            .filter(|one| one.carries(&world.account.profile, at(now)))
            .map(|one| usize::from(one.left()))
            .sum();
        match carrier(&world.judge(0, now, false)) {
            Some((_, Some(kind))) => {
                let mut grants = world.grants.clone();
                prop_assert!(grants.of(kind).is_some_and(|one| one.left() > 0));
                grants.spend(kind);
                prop_assert_eq!(carried(&world, grants, &planned), before);
            }
            _ => prop_assert!(left <= planned.len(), "{left} were left for {}", planned.len()),
        }
    }
}
