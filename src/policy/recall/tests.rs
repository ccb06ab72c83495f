//! When steps are pulled forward and put back, at edges and by chance.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::journey::event::{Arrival, Event};
use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, EnrollmentId, FollowerId, VersionId};
use crate::journey::parse::parse_stored;
use crate::policy::limiter::Rate;
use crate::policy::profile::named;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// 2026-03-02, 00:00 in Shanghai.
const START: i64 = 1_772_380_800_000;

fn at(millis: i64) -> Timestamp {
    Timestamp(START + millis)
}

fn written() -> Event {
    Event::MessageReceived {
        message_kind: "text".into(),
        text: "1".into(),
    }
}

/// A follower with one passage, its first step behind it.
struct World {
    account: Account,
    catalog: Catalog,
    passages: Passages,
    grants: Grants,
}

impl World {
    fn new(settings: &str, second: &str, enrolled: i64) -> Self {
        let text = format!(
            "sequence: a\ntrigger: follow\nhorizon: 9d\n{settings}\nsteps:\n\
             \x20 - {{ id: x, after: 0s, say: {{ text: a }} }}\n\
             \x20 - {{ id: y, {second}, say: {{ text: a }} }}\n"
        );
        let sequence = parse_stored(&text, &BTreeMap::new()).expect(&text);
        let zone = TimeZone::get("Asia/Shanghai").expect("is known");
        let version = Arc::new(Version {
            id: VersionId(1),
            sequence,
            zone: None,
        });
        let mut catalog = Catalog::default();
        catalog.add(Arc::clone(&version), true);
        let arrival = Arrival {
            openid: "ann".into(),
            created_at: at(enrolled),
            digest: 0,
            event: Event::Followed { scene: None },
            language: None,
        };
        let id = EnrollmentId::new(FollowerId(1), 0);
        let plan = plan::plan(&version.sequence, at(enrolled), &zone, seed(id));
        let mut enrollment = Enrollment::new(id, VersionId(1), at(enrolled), plan);
        enrollment.step = 1;
        enrollment.wake_at = enrollment.due_at();
        let mut follower = Follower::new(FollowerId(1), AccountId(1), &arrival);
        follower.following = true;
        Self {
            account: Account {
                journey: crate::journey::account::Account {
                    id: AccountId(1),
                    key: "main".into(),
                    name: "Main".into(),
                    zone,
                },
                profile: named("wechat-2023").expect("is shipped"),
                sends: true,
                passive_reply: false,
                rate: Rate::default(),
                erase_on_unfollow: true,
                track_links: false,
                quota_reset: crate::policy::learned::QuotaReset::default(),
                in_flight_max: 1,
            },
            catalog,
            passages: Passages {
                follower,
                enrollments: vec![enrollment],
            },
            grants: Grants::default(),
        }
    }

    fn event(&mut self, event: &Event, millis: i64) {
        let at = at(millis);
        self.grants.open(&self.account.profile, event, at);
        self.recall(millis);
    }

    fn recall(&mut self, millis: i64) {
        let (account, catalog) = (&self.account, &self.catalog);
        recall(
            &mut self.passages,
            &self.grants,
            account,
            catalog,
            at(millis),
        );
    }

    fn step(&self) -> &Enrollment {
        &self.passages.enrollments[0]
    }

    /// When the step wakes, from the start.
    fn wakes(&self) -> i64 {
        self.step().wake_at.0 - START
    }
}

#[test]
fn a_last_call_comes_at_the_last_legal_instant_and_goes_back_when_it_may_wait() {
    let mut world = World::new("last_call: 2h", "after: 49h", 0);
    world.event(&written(), 0);
    // 48 h less two minutes of margin and five seconds of lead.
    assert_eq!(world.wakes(), 48 * HOUR - 2 * MINUTE - 5_000);
    let generation = world.step().generation;
    world.recall(HOUR);
    assert_eq!(world.step().generation, generation, "nothing has changed");
    world.event(&written(), 2 * HOUR);
    assert_eq!(world.wakes(), 49 * HOUR);
    // The platform takes the grant away: what is planned stays planned.
    world.grants.close(at(2 * HOUR), at(3 * HOUR));
    world.recall(3 * HOUR);
    assert_eq!(world.wakes(), 49 * HOUR);
}

#[test]
fn without_a_last_call_or_beyond_it_a_step_stays_where_it_is() {
    for (settings, second) in [("", "after: 49h"), ("last_call: 1h", "after: 49h30m")] {
        let mut world = World::new(settings, second, 0);
        world.event(&written(), 0);
        assert_eq!(world.step().wake_at, world.step().due_at());
        assert_eq!(world.step().generation, 0);
    }
}

#[test]
fn an_hour_or_more_with_no_message_left_pulls_nothing() {
    let mut world = World::new("last_call: 2h", "after: 49h", 0);
    world.event(&written(), 0);
    (0..5).for_each(|_| world.grants.spend(Kind::Message));
    world.recall(MINUTE);
    assert_eq!(world.wakes(), 49 * HOUR);
}

#[test]
fn a_night_that_would_outlive_the_grant_is_forestalled() {
    let night = "quiet_hours: { from: \"23:00\", to: \"08:00\" }";
    // Due at 02:00 of the third day, so moved to 08:00; the grant ends at 04:00.
    let mut world = World::new(night, "after: 50h", 0);
    assert_eq!(world.wakes(), 56 * HOUR);
    world.event(&written(), 4 * HOUR);
    assert_eq!(world.wakes(), 47 * HOUR - 5_000);
    // Somebody who writes on the last evening can wait for the morning.
    world.event(&written(), 30 * HOUR);
    assert_eq!(world.wakes(), 56 * HOUR);
}

#[test]
fn a_night_that_the_grant_outlives_is_waited_for() {
    let night = "quiet_hours: { from: \"23:00\", to: \"08:00\" }";
    let mut world = World::new(night, "after: 50h", 0);
    world.event(&written(), 9 * HOUR);
    assert_eq!(world.wakes(), 56 * HOUR);
    // The night has begun already: nobody is woken up for it.
    let mut late = World::new(night, "after: 50h", 0);
    late.event(&written(), HOUR);
    late.passages.enrollments[0].wake_at = at(56 * HOUR);
    late.recall(47 * HOUR + 1);
    assert_eq!(late.wakes(), 56 * HOUR);
}

#[test]
fn a_last_call_that_falls_into_the_night_comes_before_it() {
    let settings = "last_call: 12h\nquiet_hours: { from: \"23:00\", to: \"08:00\" }";
    let mut world = World::new(settings, "after: 57h", 0);
    world.event(&written(), 4 * HOUR);
    assert_eq!(world.wakes(), 47 * HOUR - 5_000);
}

#[test]
fn who_waits_for_something_else_is_left_alone() {
    let mut world = World::new("last_call: 2h", "after: 49h", 0);
    world.passages.enrollments[0].entry = 1;
    world.event(&written(), 0);
    assert_eq!(world.wakes(), 49 * HOUR, "a repeated step");
    let mut muted = World::new("last_call: 2h", "after: 49h", 0);
    muted.passages.follower.muted = true;
    muted.event(&written(), 0);
    assert_eq!(muted.wakes(), 49 * HOUR, "somebody who blocks us");
    let mut later = World::new("last_call: 2h", "after: 49h", 0);
    later.passages.enrollments[0].wake_at = at(50 * HOUR);
    later.event(&written(), 0);
    assert_eq!(later.wakes(), 50 * HOUR, "a step behind a gap");
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(written()),
        Just(Event::Clicked { key: "k".into() }),
        Just(Event::Unfollowed),
    ]
}

proptest! {
    /// Whatever happens in whatever order, a step that is pulled forward goes not before now, not in
    /// quiet hours, not on a closed grant, no earlier than the sequence allows unless a night moved
    /// it; and once it can wait it is back at its plan.
    #[test]
    fn a_pulled_step_is_legal_and_comes_back(
        due in 1i64..200,
        enrolled in 0i64..1440,
        night in (0u16..1440, 1u16..1440),
        call in 0u64..3000,
        quiet: bool,
        steps in prop::collection::vec((events(), 1i64..1200), 1..12),
    ) {
        let clock = |minute: u16| format!("\"{:02}:{:02}\"", minute / 60, minute % 60);
        let to = (night.0 + night.1) % 1440;
        let hours = format!("quiet_hours: {{ from: {}, to: {} }}\n", clock(night.0), clock(to));
        let settings = format!("last_call: {call}m\n{}", if quiet { hours.as_str() } else { "" });
        let mut world = World::new(&settings, &format!("after: {due}h"), enrolled * MINUTE);
        let planned = world.step().due_at();
        let version = Arc::clone(world.catalog.version(VersionId(1)).expect("is there"));
        let (sequence, profile) = (&version.sequence, Arc::clone(&world.account.profile));
        let zone = world.account.journey.zone.clone();
        let mut now = enrolled * MINUTE;
        for (event, pause) in steps {
            now += pause * MINUTE;
            if at(now) >= world.step().wake_at {
                break;
            }
            world.event(&event, now);
            let wakes = world.step().wake_at;
            prop_assert!(wakes <= planned);
            if wakes == planned {
                continue;
            }
            prop_assert!(wakes >= at(now));
            prop_assert!(plan::quiet_until(sequence, &zone, wakes).is_none());
            prop_assert!(world.grants.usable(&profile, wakes).is_some());
            prop_assert!(world.grants.usable(&profile, planned).is_none());
            let early = planned.since(wakes);
            let wanted = plan::wanted_at(
                sequence, &sequence.steps[1], world.step().enrolled_at, &zone, seed(world.step().id),
            );
            let by_night = plan::quiet_span(sequence, &zone, wanted)
                .is_some_and(|(_, to)| to == planned);
            prop_assert!(early <= sequence.last_call || by_night);
            let waking = Waking {
                profile: &profile,
                grants: &world.grants,
                sequence,
                zone: &zone,
                enrollment: world.step(),
            };
            // Between now and then nothing changes, and then it may go.
            prop_assert_eq!(waking.wake_at(wakes), wakes);
            prop_assert!(may_go_early(waking, wakes) && !may_go_early(waking, wakes.minus(LEAD)));
        }
    }
}
