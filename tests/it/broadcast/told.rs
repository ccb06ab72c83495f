//! One broadcast from its making to its end: who gets it, what they get, and what is said of it.

use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn everybody_gets_it_once_in_the_own_language() {
    let stage = Stage::new().await;
    let chinese = stage.follow(0, "zh_CN", 620).await;
    let english = stage.follow(0, "en", 100).await;
    let id = stage
        .create(json!({
            "title": "Spring sale", "accounts": ["main"],
            "say": { "zh_CN": { "text": "春季特卖" }, "default": { "text": "Spring sale" } },
        }))
        .await;
    assert_eq!(stage.broadcast(id).await["state"], "not_started");
    assert_eq!(stage.order(id, "start").await["state"], "sending");
    let seen = stage.reaches(id, "completed").await;
    assert_eq!(
        seen["progress"],
        json!({
            "frozen": true, "total": 720, "planned": 0, "sending": 0,
            "sent": 720, "failed": 0, "skipped": 0, "unknown": 0,
        })
    );
    let phones = stage.phones();
    assert_eq!(phones.len(), 720);
    for (people, text) in [(&chinese, "春季特卖"), (&english, "Spring sale")] {
        for one in people {
            assert_eq!(phones[one], [text], "{one}");
        }
    }
    let sent: BTreeSet<_> = stage.recipients(id, "sent").await.into_keys().collect();
    let all: BTreeSet<_> = chinese.into_iter().chain(english).collect();
    assert_eq!(sent, all);
    // It is no sequence: nothing that lists those knows of it.
    assert_eq!(stage.get("/sequences").await, json!([]));
    stage.end().await;
}

#[tokio::test]
async fn the_audience_is_who_meets_every_condition_when_it_starts() {
    const WELCOME: &str = "sequence: welcome\ntrigger: { follow: { scene: shop } }\nsteps:\n  \
        - { id: a, after: 1h, say: { text: a } }\n";
    let stage = Stage::with(&[WELCOME], &["main"], "").await;
    let people = stage.follow(0, "zh_CN", 4).await;
    let [plain, tagged, scanned, late] = &people[..] else {
        panic!("{people:?}");
    };
    let path = format!("/accounts/main/followers/{tagged}/tags/vip");
    assert_eq!(stage.ask(Method::PUT, &path, None).await.0, StatusCode::OK);
    stage.acts(late, Action::Unfollow).await;
    stage.acts(scanned, Action::Unfollow).await;
    stage.pass(Duration::from_secs(100));
    let scene = Some("shop".to_owned());
    stage.acts(scanned, Action::Follow { scene }).await;
    stage.pass(Duration::from_secs(100));
    for (audience, expected) in [
        (json!({}), vec![plain, tagged, scanned]),
        (json!({ "tag": "vip" }), vec![tagged]),
        (json!({ "scene": "sh*" }), vec![scanned]),
        (json!({ "in_sequence": "welcome" }), vec![scanned]),
        (json!({ "not_in_sequence": "welcome" }), vec![plain, tagged]),
        (json!({ "active_within": "150s" }), vec![scanned]),
        (json!({ "tag": "vip", "language": "en" }), vec![]),
    ] {
        let body = json!({
            "title": "some", "accounts": ["main"], "audience": audience,
            "say": { "text": "hello" },
        });
        let id = stage.create(body).await;
        stage.order(id, "start").await;
        stage.reaches(id, "completed").await;
        let sent: Vec<_> = stage.recipients(id, "sent").await.into_keys().collect();
        let mut expected: Vec<_> = expected.into_iter().cloned().collect();
        expected.sort();
        assert_eq!(sent, expected, "{audience}");
        // Two messages to one follower are two seconds apart.
        stage.pass(Duration::from_secs(5));
    }
    // Whoever comes when it has begun does not get it.
    let before = stage.phones().len();
    stage.acts(late, Action::Follow { scene: None }).await;
    assert_eq!(stage.phones().len(), before);
    stage.end().await;
}

#[tokio::test]
async fn who_leaves_before_the_turn_comes_gets_nothing_and_is_told_of() {
    let stage = Stage::with(&[], &["main"], "rate: { per_second: 5 }").await;
    let people = stage.follow(0, "en", 40).await;
    let id = stage.create_text("hello").await;
    stage.order(id, "start").await;
    eventually("the first five are sent", async || {
        stage.phones().len() >= 5
    })
    .await;
    let phones = stage.phones();
    let waiting = people.iter().filter(|one| !phones.contains_key(*one));
    let left: Vec<_> = waiting.take(20).cloned().collect();
    for one in &left {
        stage.acts(one, Action::Unfollow).await;
    }
    let more = stage.follow(0, "en", 3).await;
    for _ in 0..20 {
        stage.pass(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seen = stage.reaches(id, "completed").await;
    let progress = &seen["progress"];
    assert_eq!(
        (&progress["total"], &progress["skipped"]),
        (&40.into(), &20.into())
    );
    assert_eq!(progress["sent"], 20);
    let skipped = stage.recipients(id, "skipped").await;
    let phones = stage.phones();
    for one in &left {
        assert!(
            !skipped[one].is_empty() && !phones.contains_key(one),
            "{one}"
        );
    }
    assert!(more.iter().all(|one| !phones.contains_key(one)));
    stage.end().await;
}

#[tokio::test]
async fn named_followers_get_it_and_strangers_are_told_by_name() {
    let stage = Stage::with(&[], &["main", "other"], "").await;
    let people = stage.follow(0, "en", 3).await;
    let body = json!({
        "title": "named", "accounts": ["main"], "audience": { "listed": true },
        "say": { "text": "for you" },
    });
    let id = stage.create(body).await;
    let path = format!("/broadcasts/{id}/listed");
    let listed =
        json!({ "account": "main", "openids": [people[0], "nobody", people[2], people[0]] });
    let (status, told) = stage.ask(Method::POST, &path, Some(listed)).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    assert_eq!(told, json!({ "added": 2, "strangers": ["nobody"] }));
    let elsewhere = json!({ "account": "other", "openids": [people[1]] });
    let (status, _) = stage.ask(Method::POST, &path, Some(elsewhere)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    stage.order(id, "start").await;
    let seen = stage.reaches(id, "completed").await;
    assert_eq!(seen["progress"]["sent"], 2);
    let phones = stage.phones();
    assert_eq!(phones.keys().collect::<Vec<_>>().len(), 2);
    assert!(!phones.contains_key(&people[1]));
    let late = json!({ "account": "main", "openids": [people[1]] });
    let (status, _) = stage.ask(Method::POST, &path, Some(late)).await;
    assert_eq!(status, StatusCode::CONFLICT, "it has begun");
    stage.end().await;
}

#[tokio::test]
async fn a_mass_send_takes_everybody_in_one_call_and_leaves_nobody_alone() {
    let stage = Stage::with(&[], &["main", "small"], "").await;
    stage.follow(0, "en", 700).await;
    stage.follow(1, "en", 2).await;
    let calls = || {
        let faults = stage.control().faults();
        faults.iter().map(|state| state.hits).sum::<u64>()
    };
    let counted = dripwheel::sandbox::Fault {
        times: None,
        ..dripwheel::sandbox::Fault::new(
            "/cgi-bin/message/mass/send",
            dripwheel::sandbox::FaultKind::Delay { ms: 0 },
            1,
        )
    };
    stage.control().add_faults(vec![counted]).unwrap();
    let body = json!({
        "title": "all", "accounts": ["main", "small"], "by": "mass_send",
        "say": { "text": "to all" },
    });
    let id = stage.create(body).await;
    stage.order(id, "start").await;
    eventually("everybody is admitted", async || {
        stage
            .number("SELECT count(*) FROM recipients WHERE number >= 0")
            .await
            == 702
    })
    .await;
    stage.pass(Duration::from_secs(3));
    let seen = stage.reaches(id, "completed").await;
    assert_eq!(seen["progress"]["sent"], 702, "{seen}");
    assert_eq!(calls(), 2, "one for each account");
    assert!(stage.phones().values().all(|texts| texts == &["to all"]));
    stage.end().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_before_anything_is_stored() {
    let stage = Stage::new().await;
    let good = json!({ "title": "t", "accounts": ["main"], "say": { "text": "x" } });
    for (key, value, word) in [
        ("accounts", json!(["nobody"]), "no account has the key"),
        ("accounts", json!([]), "accounts"),
        ("title", json!(""), "title"),
        ("say", json!({ "txt": "x" }), "txt"),
        ("say", json!({ "text": "{{ nothing.known }}" }), "nothing"),
        ("say", json!({ "image": "here.png" }), "URL"),
        ("closed", json!("later"), "later"),
        ("per_second", json!(0), "per_second"),
        ("spread", json!("soon"), "spread"),
        ("start_at", json!("2001-01-01T00:00:00Z"), "past"),
        ("cron", json!("0 9 * * *"), "timezone"),
        ("unheard_of", json!(1), "unheard_of"),
    ] {
        let mut body = good.clone();
        body[key] = value;
        let (status, told) = stage.ask(Method::POST, "/broadcasts", Some(body)).await;
        let detail = told["detail"].as_str().unwrap_or_default();
        assert!(status.is_client_error(), "{key}: {status} {told}");
        assert!(detail.contains(word), "{key}: {detail}");
    }
    let none = stage.get("/broadcasts").await;
    assert_eq!(none["items"], json!([]));
    for order in ["interrupt", "resume", "retry"] {
        let id = stage.create(good.clone()).await;
        let path = format!("/broadcasts/{id}/{order}");
        let (status, told) = stage.ask(Method::POST, &path, None).await;
        assert_eq!(status, StatusCode::CONFLICT, "{order}: {told}");
    }
    let (status, _) = stage.ask(Method::POST, "/broadcasts/999/start", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    stage.end().await;
}
