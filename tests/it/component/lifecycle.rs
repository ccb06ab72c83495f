//! An account authorizes, is served, restarts with us, takes its authorization back, and returns.

use super::*;
use dripwheel::store::authorizers;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_owner_authorizes_and_followers_are_served() {
    let server = Server::ready().await;
    let page = server.client.get(server.url("authorize")).send().await;
    let page = page.unwrap();
    assert_eq!(page.status().as_u16(), 200);
    // Without a referrer the platform does not open its page.
    let policy = page.headers()["referrer-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(policy, "strict-origin-when-cross-origin");
    let html = page.text().await.unwrap();
    let back = "redirect_uri=https%3A%2F%2Fdrip.example.com%2Fcomponent%2Fpro%2Fauthorized";
    for part in [
        "https://mp.weixin.qq.com/cgi-bin/componentloginpage?component_appid=wx00000000000000c0",
        "https://open.weixin.qq.com/wxaopen/safe/bindcomponent?action=bindcomponent",
        "pre_auth_code=preauthcode%40%40%40",
        "#wechat_redirect",
        back,
    ] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
    assert!(!html.contains(APP_SECRET) && !html.contains(TOKEN));

    // The owner comes back while the platform tells of it: one code, one exchange.
    let code = server.platform.authorize(ONE, ALL);
    let url = server.url(&format!("authorized?auth_code={code}&expires_in=600"));
    let back = async {
        let answer = server.client.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let pushed = server.push_authorized("authorized", ONE, &code);
    let ((status, html), ()) = tokio::join!(back, pushed);
    assert_eq!(status, 200, "{html}");
    assert!(
        html.contains("授权成功") && html.contains("It worked"),
        "{html}"
    );
    assert!(html.contains(&format!("{ONE} 公众号")), "{html}");
    eventually("the code is forgotten", async || {
        server
            .count("SELECT count(*) FROM authorizers WHERE code <> ''")
            .await
            == 0
    })
    .await;
    assert_eq!(server.platform.calls("component/api_query_auth"), 1);

    server.follow(ONE, "o1").await;
    server.arrived(ONE, "hello", 1).await;
    let sent = server.platform.with(|state| state.sent[0].clone());
    assert_eq!((&*sent.openid, &*sent.app_id), ("o1", ONE));
    // The exchange brought the token; nobody had to ask for another.
    assert_eq!(server.platform.calls("component/api_authorizer_token"), 0);
    server.app.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_tickets_and_accounts() {
    let server = Server::ready().await;
    server.authorize(ONE, ALL).await;
    server.authorize(TWO, ALL).await;
    server.follow(ONE, "o1").await;
    server.arrived(ONE, "hello", 1).await;
    server.push_unauthorized(TWO).await;
    server.platform.with(|state| state.owners.remove(TWO));
    let asked = server.platform.calls("component/api_start_push_ticket");

    let server = server.restart().await;
    assert!(server.standing(TWO).await.attention, "still withdrawn");
    server.pass(HOUR);
    server.arrived(ONE, "later", 1).await;
    server.follow(ONE, "o2").await;
    server.arrived(ONE, "hello", 2).await;
    assert_eq!(server.platform.texts(TWO), [""; 0]);
    // The ticket was kept: nobody had to ask for another.
    assert_eq!(
        server.platform.calls("component/api_start_push_ticket"),
        asked
    );
    server.app.stop().await;
}

#[tokio::test]
async fn a_withdrawn_account_is_silent_at_once_and_goes_on_when_it_returns() {
    let server = Server::ready().await;
    for app_id in [ONE, TWO] {
        server.authorize(app_id, ALL).await;
        server.follow(app_id, "o1").await;
        server.arrived(app_id, "hello", 1).await;
    }
    // The platform still takes what is sent for it: only we can keep silent.
    server.push_unauthorized(ONE).await;
    let standing = server.standing(ONE).await;
    assert!(standing.attention && standing.pause_reason.contains("authorize again"));
    let owner = server.platform.with(|state| state.owners[ONE].clone());
    server.pass(HOUR);
    server.arrived(TWO, "later", 1).await;
    assert_eq!(server.platform.texts(ONE), ["hello"]);
    let id = server.standing(ONE).await.id.0;
    let due = format!("SELECT count(*) FROM deliveries WHERE account_id = {id} AND state = 0");
    eventually("its step stays due", async || server.count(&due).await == 1).await;
    assert_eq!(server.platform.texts(ONE), ["hello"]);
    let key = (COMPONENT, ONE);
    let token = authorizers::refresh_token(server.app.store().read(), key).await;
    assert!(token.unwrap().is_none(), "a withdrawn secret is kept");

    // A repeated event of before changes nothing; a new authorization does.
    let code = server.platform.authorize(ONE, ALL);
    server
        .platform
        .with(|state| state.owners.insert(ONE.to_owned(), owner));
    server.push_authorized("authorized", ONE, &code).await;
    server.arrived(ONE, "later", 1).await;
    assert!(!server.standing(ONE).await.attention);
    assert_eq!(server.platform.texts(TWO), ["hello", "later"]);
    server.app.stop().await;
}

#[tokio::test]
async fn an_old_withdrawal_that_comes_again_ends_nothing() {
    let server = Server::ready().await;
    server.authorize(ONE, ALL).await;
    let rest = format!("<AuthorizerAppid>{ONE}</AuthorizerAppid>");
    let inner = event(COMPONENT, NOW, "unauthorized", &rest);
    let encrypted = server.seal(COMPONENT, &inner);
    let body = outer("AppId", COMPONENT, &encrypted);
    let answer = server.post_signed("events", &encrypted, body.clone()).await;
    assert_eq!(answer.1, "success");
    server.pass(Duration::from_secs(10));
    server.authorize(ONE, ALL).await;
    eventually("it is back", async || !server.standing(ONE).await.attention).await;
    let answer = server.post_signed("events", &encrypted, body).await;
    assert_eq!(answer.1, "success");
    assert!(!server.standing(ONE).await.attention);
    server.follow(ONE, "o1").await;
    server.arrived(ONE, "hello", 1).await;
    server.app.stop().await;
}

#[tokio::test]
async fn without_its_permission_set_an_account_does_not_send_until_it_is_granted() {
    let server = Server::ready().await;
    server.authorize(ONE, &[2, 11]).await;
    let standing = server.standing(ONE).await;
    assert!(standing.attention && standing.pause_reason.contains("消息管理"));
    server.authorize(TWO, ALL).await;
    server.follow(ONE, "o1").await;
    server.follow(TWO, "o1").await;
    server.arrived(TWO, "hello", 1).await;
    assert_eq!(server.platform.texts(ONE), [""; 0]);

    let code = server.platform.authorize(ONE, ALL);
    server.push_authorized("updateauthorized", ONE, &code).await;
    server.arrived(ONE, "hello", 1).await;
    let standing = server.standing(ONE).await;
    assert_eq!((standing.attention, &*standing.pause_reason), (false, ""));

    // And it may be taken away again.
    let code = server.platform.authorize(ONE, &[2]);
    server.push_authorized("updateauthorized", ONE, &code).await;
    eventually("it is noticed", async || {
        server.standing(ONE).await.attention
    })
    .await;
    server.pass(HOUR);
    server.arrived(TWO, "later", 1).await;
    assert_eq!(server.platform.texts(ONE), ["hello"]);
    server.app.stop().await;
}

#[tokio::test]
async fn an_account_that_is_served_no_more_is_silent_at_once() {
    let server = Server::ready().await;
    for app_id in [ONE, TWO] {
        server.authorize(app_id, ALL).await;
        server.follow(app_id, "o1").await;
        server.arrived(app_id, "hello", 1).await;
    }
    let code = server.platform.authorize(ONE, ALL);
    server
        .platform
        .with(|state| state.owners.get_mut(ONE).unwrap().is_mini_program = true);
    server.push_authorized("updateauthorized", ONE, &code).await;
    eventually("it is not served", async || {
        let standing = server.standing(ONE).await;
        standing.pause_reason.contains("mini program")
    })
    .await;
    let directory = server.app.store().knowledge().authorizers();
    eventually("that is known", async || {
        !directory.get(ONE).unwrap().sends()
    })
    .await;
    server.pass(HOUR);
    server.arrived(TWO, "later", 1).await;
    assert_eq!(server.platform.texts(ONE), ["hello"]);
    server.app.stop().await;
}

#[tokio::test]
async fn what_was_missed_is_found_in_the_platforms_list() {
    let server = Server::ready().await;
    server.authorize(ONE, ALL).await;
    let server = {
        // While nobody listens: one comes, one goes, a mini program comes.
        server.platform.authorize(TWO, ALL);
        let mini = "wx000000000000000f";
        server.platform.authorize(mini, &[19]);
        server.platform.with(|state| {
            state.owners.remove(ONE);
            state.owners.get_mut(mini).unwrap().is_mini_program = true;
        });
        server.restart().await
    };
    eventually("the one that came is known", async || {
        server
            .app
            .store()
            .knowledge()
            .authorizers()
            .get(TWO)
            .is_some()
    })
    .await;
    eventually("the one that went is silent", async || {
        server.standing(ONE).await.attention
    })
    .await;
    server.follow(TWO, "o1").await;
    server.arrived(TWO, "hello", 1).await;
    let mini = "wx000000000000000f";
    let row = authorizers::get(server.app.store().read(), COMPONENT, mini).await;
    let row = row.unwrap().unwrap();
    assert!(row.reason.contains("mini program"), "{}", row.reason);
    assert_eq!(row.account, None);
    // Its callbacks are taken, so that its people see no error, and kept nowhere.
    let before = server.count("SELECT count(*) FROM receipts").await;
    let inner = text("gh_000000000000000f", "o9", server.clock.now(), "hello");
    assert_eq!(server.push(mini, &inner).await, (200, "success".to_owned()));
    assert_eq!(server.count("SELECT count(*) FROM receipts").await, before);
    server.app.stop().await;
}

#[tokio::test]
async fn the_api_tells_how_components_and_their_accounts_stand() {
    let server = Server::ready().await;
    server.authorize(ONE, ALL).await;
    server.authorize(TWO, &[2]).await;
    server.push_unauthorized(ONE).await;
    let (status, components) = server.api("components").await;
    assert_eq!(status, 200);
    let one = &components[0];
    assert_eq!(
        (&one["key"], &one["app_id"]),
        (&"pro".into(), &COMPONENT.into())
    );
    assert_eq!(one["ticket_at"], "2023-11-14T22:13:20+00:00");
    assert_eq!(
        (
            &one["accounts"]["authorized"],
            &one["accounts"]["withdrawn"]
        ),
        (&1.into(), &1.into())
    );
    let (_, first) = server.api("components/pro/accounts?limit=1").await;
    let item = &first["items"][0];
    assert_eq!(
        (&item["app_id"], &item["standing"]),
        (&ONE.into(), &"withdrawn".into())
    );
    let next = first["next"].as_str().unwrap();
    let (_, last) = server
        .api(&format!("components/pro/accounts?cursor={next}"))
        .await;
    let item = &last["items"][0];
    assert_eq!(
        (&item["app_id"], &item["sends"]),
        (&TWO.into(), &false.into())
    );
    assert_eq!(item["permissions"], serde_json::json!([2]));
    assert!(item["reason"].as_str().unwrap().contains("消息管理"));
    assert_eq!(last["next"], serde_json::Value::Null);
    let whole = format!("{components}{first}{last}");
    for secret in ["refreshtoken@@@", "ticket@@@", "code@@@", APP_SECRET] {
        assert!(!whole.contains(secret), "{secret} is in {whole}");
    }
    assert_eq!(server.api("components/other/accounts").await.0, 404);
    assert_eq!(server.api("components/pro/accounts?cursor=!").await.0, 400);
    server.app.stop().await;
}

#[tokio::test]
async fn a_new_database_file_is_its_owners_alone() {
    let server = Server::start_on(Fresh::file(), [COMPONENT, TOKEN, KEY], NOW).await;
    let path = server.database.path().unwrap();
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    server.app.stop().await;
}

/// Accounts under one component.
const MANY: usize = 1_000;

#[tokio::test]
async fn a_thousand_accounts_live_through_a_token_storm_and_one_withdrawal() {
    let server = Server::start().await;
    let app_id = |n: usize| format!("wx{n:016}");
    for n in 0..MANY {
        server.platform.authorize(&app_id(n), ALL);
    }
    // They are found in the platform's list as soon as there is a ticket.
    server.push_ticket("ticket@@@1").await;
    let authorized = "SELECT count(*) FROM authorizers WHERE state = 1 AND account_id <> 0";
    eventually("all are taken in", async || {
        server.count(authorized).await == MANY as i64
    })
    .await;
    let directory = server.app.store().knowledge().authorizers();
    eventually("all are known", async || {
        (0..MANY).all(|n| directory.get(&app_id(n)).is_some())
    })
    .await;
    let follow = async |n: usize| server.follow(&app_id(n), "o1").await;
    futures_util::future::join_all((0..MANY).map(follow)).await;
    let sent = |text: &str| {
        server
            .platform
            .with(|state| state.sent.iter().filter(|one| one.text == text).count())
    };
    eventually("all are greeted", async || {
        server.pass(Duration::from_millis(100));
        sent("hello") == MANY
    })
    .await;
    let refreshed = server.platform.calls("component/api_authorizer_token");
    assert_eq!(refreshed, MANY, "a token for each");

    server.push_unauthorized(&app_id(7)).await;
    server.platform.kill_tokens();
    server.pass(HOUR);
    eventually("all others go on", async || {
        server.pass(Duration::from_millis(100));
        sent("later") == MANY - 1
    })
    .await;
    assert_eq!(server.platform.texts(&app_id(7)), ["hello"]);
    // Those that met the dead token of the component itself asked twice, and nobody three times.
    let refreshed = server.platform.calls("component/api_authorizer_token") - MANY;
    assert!((MANY - 1..2 * MANY).contains(&refreshed), "{refreshed}");
    assert_eq!(server.platform.calls("component/api_component_token"), 2);
    server.app.stop().await;
}
