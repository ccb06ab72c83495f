//! Whatever the platform did not send to this component leaves nothing behind; and the one callback
//! that the platform publishes with all its numbers is taken.

use super::*;

/// Vector E of the platform's page on message encryption.
const E_COMPONENT: &str = "wx134c8103faa5a59e";
const E_ACCOUNT: &str = "wxba5fad812f8e6fb9";
const E_SENT: i64 = 1_715_943_329;
const E_QUERY: &str = "signature=cc0c594499c1634947d5b502f158ee518947db27&timestamp=1715943329&nonce=1590219412&openid=o9AgO5Kd5ggOC-bXrbNODIiE3bGY&encrypt_type=aes&msg_signature=6c12a4205838198b8fa631b3220723bb07f1015c";
const E_SEALED: &str = "D7yzvUNAL930rd28wf21s4hvXhz0L6Uit/p2Di6C5DHyYGpEgdBRnKjBec34JwoQXicwaZC7fOVihW80F4VtsdvE//1vr7oAbqjDv8KenVp+ajKYpJnyQ4zMRhIC+a31fCVOMC03FfzV/QuC94kBP55a+Za3sJgvAn+ZbsNqZI5DkyuzkhQN8OBqCzFhizGmy0xpM0MEA4agpvE+RuNO1rhHTtuJB5yltw1FiYzecSXJ+y/D2r81VkRn2eYjh2ltsoyfbDR7Is6ookXIFxTfyeNyeHxMeT4KN5WpCDmSbTcUYrbBUlkGLJ9n/rU8YOywma6G7aTb7KZKOqCxgfoUlYEZPk4FUL/TK7ShriFDMVCLyjQJ15Ob++agDWtcxhfUfe6HIoIpRW8mKNBQiY/Jd1svvuskA1wLef1RTtzKfMpagSCX/laZINmdnX4zrF6kIaR9P4xQrWXbsTFHTYe0Mg==";

#[tokio::test]
async fn the_platforms_published_callback_is_taken_once() {
    let key = "A".repeat(43);
    let at = Timestamp::from_seconds(E_SENT);
    let server = Server::start_as(E_COMPONENT, "AAAAA", &key, at).await;
    // This account is authorized without the platform, which knows another component only.
    let store = server.app.store();
    let key = (E_COMPONENT, E_ACCOUNT);
    dripwheel::store::authorizers::keep(store, key, &"r".into(), at)
        .await
        .unwrap();
    let like = dripwheel::policy::account::Account {
        quota_reset: Default::default(),
        journey: dripwheel::journey::account::Account {
            id: dripwheel::journey::ids::AccountId(0),
            key: String::new(),
            name: String::new(),
            zone: jiff::tz::TimeZone::UTC,
        },
        profile: dripwheel::policy::profile::named("wechat-48h").unwrap(),
        sends: true,
        passive_reply: false,
        erase_on_unfollow: true,
        track_links: false,
        rate: dripwheel::policy::limiter::Rate {
            per_second: None,
            per_minute: None,
            per_day: None,
        },
        in_flight_max: 1,
    };
    let decision = dripwheel::store::authorizers::Decision {
        component: E_COMPONENT.to_owned(),
        app_id: E_ACCOUNT.to_owned(),
        name: "E".to_owned(),
        original_id: "gh_97417a04a28d".to_owned(),
        permissions: ALL.to_vec(),
        state: dripwheel::store::authorizers::State::Authorized,
        reason: String::new(),
        authorized_at: at,
        moment: store.knowledge().authorizers().moment(),
    };
    dripwheel::store::authorizers::decide(store, decision, &like, at, |_| {})
        .await
        .unwrap();
    let body = outer("ToUserName", "gh_97417a04a28d", E_SEALED);
    for path in [
        format!("callback/{E_ACCOUNT}"),
        format!("callback//{E_ACCOUNT}"),
        format!("callback/%5C{E_ACCOUNT}"),
    ] {
        let url = format!("{}?{E_QUERY}", server.url(&path));
        let answer = server.post(&url, body.clone()).await;
        assert_eq!(answer, (200, "success".to_owned()), "{path}");
        assert_eq!(server.count("SELECT count(*) FROM receipts").await, 1);
    }
    server.app.stop().await;
}

async fn rows(server: &Server) -> i64 {
    server
        .count(
            "SELECT (SELECT count(*) FROM receipts) + (SELECT count(*) FROM followers)
                + (SELECT count(*) FROM authorizers) + (SELECT count(*) FROM components)",
        )
        .await
}

#[tokio::test]
async fn what_the_platform_did_not_send_leaves_nothing_behind() {
    let server = Server::ready().await;
    server.authorize(ONE, ALL).await;
    server.authorize(TWO, ALL).await;
    let before = rows(&server).await;
    let now = server.clock.now();
    let inner = follow(ONE, "o1", now);
    let callback = format!("callback/{ONE}");

    // Encrypted for somebody else: the account itself is not the component.
    for tail in [ONE, "wx00000000000000c1"] {
        let encrypted = server.seal(tail, &inner);
        let body = outer("ToUserName", "gh_x", &encrypted);
        let answer = server.post_signed(&callback, &encrypted, body).await;
        assert_eq!(answer.0, 403, "{tail}");
    }
    let encrypted = server.seal(COMPONENT, &inner);
    let body = outer("ToUserName", "gh_x", &encrypted);
    // One account's callback under another's address.
    let other = format!("callback/{TWO}");
    let answer = server.post_signed(&other, &encrypted, body.clone()).await;
    assert_eq!(answer, (403, "refused".to_owned()));
    // A forged signature, for a known and for an unknown account.
    for app_id in [ONE, "wx9999999999999999"] {
        let url = server.url(&format!("callback/{app_id}"));
        let timestamp = now.seconds();
        let query = format!("timestamp={timestamp}&nonce=1&encrypt_type=aes&msg_signature=0");
        let answer = server.post(&format!("{url}?{query}"), body.clone()).await;
        assert_eq!(answer, (403, "refused".to_owned()), "{app_id}");
    }
    // The component's doors are not own accounts' doors.
    let url = format!("http://{}/callback/{ONE}", server.app.addr());
    assert_eq!(server.post(&url, body.clone()).await.0, 404);
    // Another component.
    let url = format!("http://{}/component/other/{callback}", server.app.addr());
    assert_eq!(server.post(&url, body.clone()).await.0, 404);
    // Plain, oversized, nothing.
    let plain = server.post(&server.url(&callback), inner.clone()).await;
    assert_eq!(plain.0, 403);
    for path in ["events", &*callback] {
        let huge = server.post(&server.url(path), "x".repeat(70_000)).await;
        assert_eq!(huge.0, 413, "{path}");
        assert_eq!(server.post(&server.url(path), String::new()).await.0, 403);
    }
    // A known body is taken once, however often it comes.
    server.push(ONE, &inner).await;
    let taken = rows(&server).await;
    assert_eq!(taken, before + 2, "a receipt and a follower");
    let answer = server.post_signed(&callback, &encrypted, body).await;
    assert_eq!(answer, (200, "success".to_owned()));
    assert_eq!(rows(&server).await, taken);
    server.app.stop().await;
}

#[tokio::test]
async fn forged_events_change_nothing() {
    let server = Server::ready().await;
    server.authorize(ONE, ALL).await;
    let now = server.clock.now();
    let ticket = "<ComponentVerifyTicket>ticket@@@forged</ComponentVerifyTicket>";
    let gone = format!("<AuthorizerAppid>{ONE}</AuthorizerAppid>");
    let before = rows(&server).await;
    for (kind, rest) in [("component_verify_ticket", ticket), ("unauthorized", &gone)] {
        // For another component, in every place where that can be written.
        for (tail, inside, outside) in [
            ("wx00000000000000c1", COMPONENT, COMPONENT),
            (COMPONENT, "wx00000000000000c1", COMPONENT),
            (COMPONENT, COMPONENT, "wx00000000000000c1"),
        ] {
            let encrypted = server.seal(tail, &event(inside, now, kind, rest));
            let body = outer("AppId", outside, &encrypted);
            let answer = server.post_signed("events", &encrypted, body).await;
            assert_eq!(answer.0, 403, "{kind} {tail} {inside} {outside}");
        }
        // Signed by nobody.
        let encrypted = server.seal(COMPONENT, &event(COMPONENT, now, kind, rest));
        let body = outer("AppId", COMPONENT, &encrypted);
        let url = format!(
            "{}?timestamp={}&nonce=1&encrypt_type=aes&msg_signature={}",
            server.url("events"),
            now.seconds(),
            sign(&["othertoken", &now.seconds().to_string(), "1", &encrypted])
        );
        assert_eq!(server.post(&url, body).await.0, 403);
        // Without what it is about.
        assert_eq!(server.push_event(kind, "").await.0, 400);
    }
    assert_eq!(server.push_event("", "").await.0, 400);
    let other = server.push_event("notify_third_fasteregister", "").await;
    assert_eq!(other, (200, "success".to_owned()));
    let forged = "SELECT count(*) FROM components WHERE ticket LIKE '%forged'";
    assert_eq!(server.count(forged).await, 0);
    assert_eq!(rows(&server).await, before);
    assert!(!server.standing(ONE).await.attention);
    // An older ticket that comes late is not the newest.
    server.pass(Duration::from_secs(60));
    server.push_ticket("ticket@@@2").await;
    let old = event(COMPONENT, now, "component_verify_ticket", ticket);
    let encrypted = server.seal(COMPONENT, &old);
    let body = outer("AppId", COMPONENT, &encrypted);
    assert_eq!(server.post_signed("events", &encrypted, body).await.0, 200);
    assert_eq!(server.count(forged).await, 0);
    server.app.stop().await;
}

#[tokio::test]
async fn a_callback_of_an_account_that_was_missed_comes_again() {
    let server = Server::ready().await;
    server.authorize(ONE, ALL).await;
    // It authorized, and the event was lost.
    server.platform.authorize(TWO, ALL);
    let inner = follow(TWO, "o1", server.clock.now());
    let answer = server.push(TWO, &inner).await;
    assert_eq!(answer.0, 503);
    eventually("it is found", async || {
        server.push(TWO, &inner).await == (200, "success".to_owned())
    })
    .await;
    server.arrived(TWO, "hello", 1).await;
    server.app.stop().await;
}

#[tokio::test]
async fn callbacks_of_an_account_whose_code_failed_are_not_lost() {
    let server = Server::ready().await;
    // Announced with a code that is none, and in the list a little later.
    server.push_authorized("authorized", TWO, "made-up").await;
    let failed = format!(
        "SELECT count(*) FROM authorizers WHERE app_id = '{TWO}' AND state = 0 AND code = ''"
    );
    eventually("the code is given up", async || {
        server.count(&failed).await == 1
    })
    .await;
    let inner = follow(TWO, "o1", server.clock.now());
    assert_eq!(server.push(TWO, &inner).await.0, 503);
    let code = server.platform.authorize(TWO, ALL);
    server.push_authorized("authorized", TWO, &code).await;
    eventually("it is taken in", async || {
        server.push(TWO, &inner).await == (200, "success".to_owned())
    })
    .await;
    server.arrived(TWO, "hello", 1).await;
    server.app.stop().await;
}

#[tokio::test]
async fn a_code_that_brings_nothing_says_so() {
    let server = Server::ready().await;
    for (query, status) in [
        ("", 400),
        ("?auth_code=", 400),
        ("?auth_code=%E4%B8%AD", 400),
        ("?auth_code=made-up", 502),
    ] {
        let url = server.url(&format!("authorized{query}"));
        let answer = server.client.get(url).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{query}");
        let html = answer.text().await.unwrap();
        assert!(!html.contains("made-up"), "{html}");
    }
    let unknown = format!("http://{}/component/other/authorize", server.app.addr());
    let answer = server.client.get(unknown).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 404);
    server.app.stop().await;
}

#[tokio::test]
async fn the_page_costs_the_platform_so_many_calls_a_minute_and_no_more() {
    let server = Server::ready().await;
    let mut refused = 0;
    for _ in 0..130 {
        let page = server.client.get(server.url("authorize")).send().await;
        match page.unwrap().status().as_u16() {
            200 => {}
            429 => refused += 1,
            other => panic!("status {other}"),
        }
    }
    assert!(refused > 0);
    let codes = server.platform.calls("component/api_create_preauthcode");
    assert_eq!(codes + refused, 130);
    server.app.stop().await;
}
