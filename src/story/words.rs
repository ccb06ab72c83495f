//! A story as text, for `dripwheel explain`: the whole way in the order of time.

use std::fmt::Write;

use crate::story::phrases::{Lang, Phrase, state};
use crate::story::voice::{Voice, plain};
use crate::story::{Moment, Story, What, why};

/// The story in words; ends with a line break.
pub fn words(story: &Story, lang: Lang) -> String {
    let voice = story.voice(lang);
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    head(&mut text, story, &voice).ok();
    text.push('\n');
    let mut past = true;
    for moment in story.moments() {
        if past && !moment.is_past(story.now) {
            past = false;
            now(&mut text, &voice).ok();
        }
        line(&mut text, story, &moment, &voice).ok();
    }
    if past {
        now(&mut text, &voice).ok();
    }
    text
}

fn head(text: &mut String, story: &Story, voice: &Voice) -> std::fmt::Result {
    let follower = &story.follower;
    let lang = voice.lang;
    let following = if follower.following {
        lang.pick("follows", "已关注")
    } else {
        lang.pick("does not follow", "未关注")
    };
    let since = voice.when(follower.followed_at);
    writeln!(
        text,
        "{} {}  {following}, {since}",
        plain(&story.account.key),
        plain(&follower.openid)
    )?;
    if follower.muted {
        writeln!(text, "  {}", voice.say(Phrase::Muted, &[]))?;
    }
    for grant in &story.grants {
        let left = grant.quota.saturating_sub(grant.spent);
        let open = if grant.permits(voice.now) {
            lang.pick("open", "可用")
        } else {
            lang.pick("closed", "不可用")
        };
        writeln!(
            text,
            "  {} {}: {open}, {left}/{}, {} .. {}",
            lang.pick("grant", "许可"),
            grant.kind.word(),
            grant.quota,
            voice.when(grant.opens_at),
            voice.when(grant.closes_at)
        )?;
    }
    if story.account.attention || story.account.paused_until > voice.now {
        let paused = lang.pick("account paused", "公众号暂停");
        writeln!(text, "  {paused}: {}", plain(&story.account.pause_reason))?;
    }
    Ok(())
}

fn line(text: &mut String, story: &Story, moment: &Moment<'_>, voice: &Voice) -> std::fmt::Result {
    let at = voice.when(moment.at);
    match moment.what {
        What::Event(receipt) => writeln!(text, "{at}  <  {}", why::event(receipt, voice)),
        What::Enrolled(passage) => {
            let sequence = passage.sequence();
            let said = voice.say(Phrase::Enrolled, &[("sequence", &sequence)]);
            writeln!(text, "{at}  +  {said}")
        }
        What::Entry(passage, stage, entry) => writeln!(
            text,
            "{at}  >  {}/{}: {} — {}",
            passage.sequence(),
            stage.id,
            state(entry.outcome.word(), voice.lang),
            why::entry(stage, entry, voice)
        ),
        What::Ahead(passage, stage) => writeln!(
            text,
            "{at}  .  {}/{}: {} — {}",
            passage.sequence(),
            stage.id,
            state(stage.state.word(), voice.lang),
            why::step(story, passage, stage, voice)
        ),
    }
}

fn now(text: &mut String, voice: &Voice) -> std::fmt::Result {
    let word = voice.lang.pick("now", "现在");
    writeln!(text, "{}  -- {word} --", voice.when(voice.now))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::Timestamp;
    use crate::journey::catalog::{Catalog, Version};
    use crate::journey::enrollment::{Enrollment, Entry};
    use crate::journey::event::{Arrival, Event};
    use crate::journey::follower::Follower;
    use crate::journey::ids::{AccountId, EnrollmentId, FollowerId, VersionId};
    use crate::journey::outcome::{Outcome, OutcomeEntry};
    use crate::journey::parse;
    use crate::store::accounts::Standing;
    use crate::store::timeline::{InHand, Receipt, Rows};
    use crate::story::{Known, Standpoint};

    const SOURCE: &str = "
sequence: welcome
trigger: { follow: {} }
on_unknown: resend
steps:
  - { id: one, after: 0s, say: { text: a } }
  - { id: two, after: 1h, say: { text: b } }
  - { id: three, after: 2h, say: { text: c } }
";

    fn catalog() -> Catalog {
        let sequence = parse::parse_stored(SOURCE, &BTreeMap::new()).expect("is valid");
        let version = Version {
            id: VersionId(1),
            sequence,
            zone: None,
        };
        let mut catalog = Catalog::default();
        catalog.add(Arc::new(version), true);
        catalog
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp(minutes * 60_000)
    }

    fn enrollment() -> Enrollment {
        let plan = [0, 60, 120].map(at).to_vec();
        Enrollment::new(
            EnrollmentId::new(FollowerId(1), 0),
            VersionId(1),
            at(0),
            plan,
        )
    }

    /// Tells the story of one passage at `now`.
    fn told(enrollment: Enrollment, entries: Vec<OutcomeEntry>, now: Timestamp) -> Story {
        let arrival = Arrival {
            openid: "ann".into(),
            created_at: at(0),
            digest: 1,
            event: Event::Followed { scene: None },
            language: None,
        };
        let mut in_hand = HashMap::new();
        if enrollment.in_flight {
            let sending = InHand {
                sending: true,
                intent_at: now,
            };
            in_hand.insert(enrollment.id, sending);
        }
        let rows = Rows {
            account: Standing {
                id: AccountId(1),
                key: "main".into(),
                platform: "wechat".into(),
                app_id: "wx".into(),
                paused_until: Timestamp(0),
                pause_reason: String::new(),
                attention: false,
            },
            follower: Follower::new(FollowerId(1), AccountId(1), &arrival),
            grants: Vec::new(),
            receipts: vec![Receipt {
                created_at: at(0),
                taken_at: at(0),
                kind: "followed",
                detail: Some("\u{1b}[31mred".into()),
            }],
            enrollments: vec![enrollment],
            entries,
            in_hand,
        };
        let known = Known {
            catalog: &catalog(),
            account: None,
        };
        Story::of(rows, known, now)
    }

    fn states(story: &Story) -> Vec<&'static str> {
        let steps = story.passages[0].steps.iter();
        steps.map(|stage| stage.state.word()).collect()
    }

    #[test]
    fn one_row_that_cancels_the_rest_ends_each_of_its_steps() {
        let mut one = enrollment();
        let entries = vec![
            one.end_step(Entry::new(Outcome::Sent, at(0), ""), at(0)),
            one.cancel(at(5), "unfollowed").expect("was unfinished"),
        ];
        let story = told(one, entries, at(6));
        assert_eq!(states(&story), ["sent", "cancelled", "cancelled"]);
        let text = words(&story, Lang::En);
        assert!(
            text.contains("2 steps cancelled: the follower unfollowed"),
            "{text}"
        );
        assert!(text.ends_with("-- now --\n"), "{text}");
    }

    #[test]
    fn a_step_that_was_being_sent_when_the_rest_was_cancelled_is_still_being_sent() {
        let mut one = enrollment();
        one.in_flight = true;
        let entries = one.cancel(at(1), "unfollowed").into_iter().collect();
        one.in_flight = true;
        let story = told(one, entries, at(1));
        assert_eq!(states(&story), ["sending", "cancelled", "cancelled"]);
    }

    #[test]
    fn what_is_planned_stands_behind_now_and_what_is_held_at_now() {
        let mut one = enrollment();
        let sent = Entry::new(Outcome::Sent, at(0).plus(Duration::from_millis(400)), "");
        let mut entries = vec![one.end_step(sent, at(0))];
        let held = Entry::new(Outcome::Held, at(60), "no grant is open");
        entries.push(one.hold(held, at(3000)));
        let story = told(one, entries, at(70));
        assert_eq!(states(&story), ["sent", "held", "planned"]);
        let text = words(&story, Lang::En);
        let place = |part: &str| {
            text.find(part)
                .unwrap_or_else(|| panic!("{part} in {text}"))
        };
        let order = [
            "welcome/one: sent — sent 0.4 s after it was due",
            "welcome/two: held — held: no grant is open",
            "-- now --",
            "welcome/two: held — held since 1970-01-01 01:00:00 because no grant is open; expires",
            "welcome/three: planned — comes after step two, which is held",
        ];
        assert!(order.map(place).is_sorted(), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        let chinese = words(&story, Lang::Zh);
        assert!(
            chinese.contains("没有可用的发送许可") && chinese.contains("现在"),
            "{chinese}"
        );
    }

    #[test]
    fn a_send_that_was_repeated_says_so_whatever_came_of_it() {
        let mut one = enrollment();
        let lost = |minute| Entry::new(Outcome::Unknown, at(minute), "no answer within 8 s");
        let mut entries = vec![one.go_on(lost(0), at(1))];
        let story = told(one.clone(), entries.clone(), at(0));
        let why = why::step(
            &story,
            &story.passages[0],
            &story.passages[0].steps[0],
            &story.voice(Lang::En),
        );
        assert!(
            why.starts_with("the answer was lost: sent once more"),
            "{why}"
        );
        entries.push(one.end_step(lost(1), at(1)));
        let story = told(one, entries, at(2));
        let stage = &story.passages[0].steps[0];
        assert!(matches!(&stage.state, Standpoint::Ended(end) if end.entry == 1));
        let why = why::step(&story, &story.passages[0], stage, &story.voice(Lang::En));
        assert!(why.contains("may or may not have arrived"), "{why}");
    }

    #[test]
    fn a_version_that_is_not_known_any_more_is_told_by_numbers() {
        let mut one = enrollment();
        one.version = VersionId(9);
        let text = words(&told(one, Vec::new(), at(0)), Lang::En);
        assert!(text.contains("#9/1") && text.contains("#9/3"), "{text}");
    }
}
