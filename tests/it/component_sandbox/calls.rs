//! The component's calls: tickets, tokens, codes, the list, and what authorizer tokens may do.

use std::collections::HashSet;

use dripwheel::sandbox::{Action, Fault, FaultKind, NewAccounts, NewFollowers};
use serde_json::{Value, json};

use super::city::City;
use super::server::{APP_ID, Mistake, SECRET};
use crate::support::eventually;

const AUTHORIZER_TOKEN: &str = "/cgi-bin/component/api_authorizer_token";

fn code(answer: &Value) -> i64 {
    answer["errcode"].as_i64().unwrap_or(0)
}

impl City {
    /// Somebody who follows and wrote.
    async fn follower(&self, account: &str, openid: &str) {
        let new = NewFollowers {
            account: account.to_owned(),
            openid: Some(openid.to_owned()),
            ..NewFollowers::default()
        };
        self.control.add_followers(&new).unwrap();
        for action in [
            Action::Follow { scene: None },
            Action::Text { text: "1".into() },
        ] {
            let pushed = self.control.act(account, openid, action).await.unwrap();
            assert!(pushed.accepted, "{pushed:?}");
        }
    }

    fn calls_of(&self, path: &str) -> u64 {
        self.control.component(APP_ID).unwrap().calls_of(path)
    }
}

#[tokio::test]
async fn tickets_come_by_the_clock_until_the_platform_stops_and_on_demand() {
    let city = City::build(Mistake::Nothing, |settings| {
        settings.components[0].rules.ticket_interval_seconds = 600;
    })
    .await;
    let tickets = || city.server.tickets().len();
    eventually("the first ticket", async || tickets() == 1).await;
    city.pass(599);
    city.pass(1);
    eventually("the second ticket", async || tickets() == 2).await;
    assert!(city.server.tickets()[0].starts_with("ticket@@@"));
    city.control.push_tickets(APP_ID, false).unwrap();
    let wrong = json!({"component_secret": "wrong"});
    let start = "api_start_push_ticket";
    assert_eq!(code(&city.call(start, "", wrong).await), 40125);
    let right = json!({"component_secret": SECRET});
    assert_eq!(code(&city.call(start, "", right).await), 0);
    eventually("the ticket on demand", async || tickets() == 3).await;
    assert!(city.control.component(APP_ID).unwrap().is_pushing_tickets);
}

#[tokio::test]
async fn each_wrong_credential_of_a_component_has_its_code() {
    let city = City::build(Mistake::Nothing, |settings| {
        settings.components[0].rules.component_tokens_per_day = Some(2);
    })
    .await;
    city.control.push_ticket(APP_ID).await.unwrap();
    let ticket = city.server.tickets()[0].clone();
    let ask = async |secret: &str, ticket: &str| {
        let body = json!({"component_appsecret": secret, "component_verify_ticket": ticket});
        code(&city.call("api_component_token", "", body).await)
    };
    assert_eq!(ask("", &ticket).await, 41004);
    assert_eq!(ask("wrong", &ticket).await, 40125);
    assert_eq!(ask(SECRET, "ticket@@@wrong").await, 61006);
    let answer = city.component_token(&ticket).await;
    assert_eq!(answer["expires_in"], 7200);
    let token = answer["component_access_token"].as_str().unwrap();
    assert_eq!(ask(SECRET, &ticket).await, 0);
    assert_eq!(ask(SECRET, &ticket).await, 45009);
    city.control.expire_tickets(APP_ID).unwrap();
    assert_eq!(ask(SECRET, &ticket).await, 61005);

    let create = async |token: &str| {
        let answer = city.call("api_create_preauthcode", token, json!({}));
        code(&answer.await)
    };
    assert_eq!(create("").await, 41001);
    assert_eq!(create("component_x").await, 40001);
    assert_eq!(create(token).await, 40001, "superseded");
    let path = "/cgi-bin/component/api_create_preauthcode?access_token=x";
    let other = json!({"component_appid": "wx0"});
    assert_eq!(code(&city.post(path, other).await), 61011);
    assert_eq!(code(&city.post(path, json!({})).await), 41002);
    // The daily limit ends with its day.
    city.pass(86_400);
    let token = city.token().await;
    assert_eq!(create(&token).await, 0);
    city.pass(7_200);
    assert_eq!(create(&token).await, 42001);
    let own = json!({"grant_type": "client_credential", "appid": APP_ID, "secret": SECRET});
    assert_eq!(code(&city.post("/cgi-bin/stable_token", own).await), 61024);
}

#[tokio::test]
async fn both_names_of_the_tokens_parameter_are_taken() {
    let city = City::new().await;
    let token = city.token().await;
    for name in ["access_token", "component_access_token"] {
        let path = format!("/cgi-bin/component/api_create_preauthcode?{name}={token}");
        let answer = city.post(&path, json!({"component_appid": APP_ID})).await;
        assert_eq!(answer["expires_in"], 1800);
        let made = answer["pre_auth_code"].as_str().unwrap();
        assert!(made.starts_with("preauthcode@@@"), "{made}");
    }
    for n in 1..=11 {
        let answer = city.call("clear_quota", &token, json!({})).await;
        assert_eq!(code(&answer), if n == 11 { 48006 } else { 0 });
    }
}

#[tokio::test]
async fn a_code_brings_tokens_once() {
    let city = City::new().await;
    let token = city.token().await;
    let (account, auth_code) = city.authorizer(&[1, 2]).await;
    let event = city.server.events()[0].clone();
    assert_eq!(event["InfoType"], "authorized");
    assert_eq!(event["AuthorizerAppid"], account);
    assert_eq!(event["AuthorizationCode"], auth_code);
    assert_eq!(event["AuthorizationCodeExpiredTime"], "1700000600");
    let ask = async |auth_code: &str| {
        let body = json!({"authorization_code": auth_code});
        city.call("api_query_auth", &token, body).await
    };
    assert_eq!(code(&ask("queryauthcode@@@x").await), 61009);
    let answer = ask(&auth_code).await;
    let info = &answer["authorization_info"];
    assert_eq!(info["authorizer_appid"], account);
    assert_eq!(info["expires_in"], 7200);
    let sets = json!([{"funcscope_category": {"id": 1}}, {"funcscope_category": {"id": 2}}]);
    assert_eq!(info["func_info"], sets);
    assert_eq!(code(&ask(&auth_code).await), 61010, "used");
    let again = city
        .control
        .authorize(APP_ID, &account, &[1])
        .await
        .unwrap();
    assert_eq!(city.server.events()[1]["InfoType"], "updateauthorized");
    city.pass(600);
    assert_eq!(code(&ask(&again.code).await), 61010, "expired");
}

#[tokio::test]
async fn a_refresh_token_works_until_it_is_superseded_or_taken_back() {
    let city = City::new().await;
    let token = city.token().await;
    let (account, auth_code) = city.authorizer(&[1]).await;
    let (first, refresh_token) = city.exchange(&token, &auth_code).await;
    city.follower(&account, "ann").await;
    assert_eq!(city.send(&first, "ann").await, 0);
    let answer = city.refresh(&token, &account, &refresh_token).await;
    assert_eq!(answer["authorizer_refresh_token"], refresh_token.as_str());
    let second = answer["authorizer_access_token"].as_str().unwrap();
    assert_eq!(city.send(&first, "ann").await, 40001);
    assert_eq!(city.send(second, "ann").await, 0);
    assert_eq!(code(&city.refresh(&token, &account, "x").await), 61023);
    assert_eq!(code(&city.refresh(&token, "wx0", "x").await), 40013);
    // An authorizer's token opens none of the component's calls, nor the other way round.
    assert_eq!(code(&city.refresh(second, &account, "x").await), 61014);
    assert_eq!(city.send(&token, "ann").await, 48001);

    city.control
        .authorize(APP_ID, &account, &[1])
        .await
        .unwrap();
    let stale = city.refresh(&token, &account, &refresh_token).await;
    assert_eq!(code(&stale), 61023, "who authorizes again gets a new one");
    assert_eq!(city.send(second, "ann").await, 0);

    city.control.unauthorize(APP_ID, &account).await.unwrap();
    let event = city.server.events().last().unwrap().clone();
    assert_eq!(event["InfoType"], "unauthorized");
    assert_eq!(event["AuthorizerAppid"], account);
    assert_eq!(city.send(second, "ann").await, 61003);
    let gone = city.refresh(&token, &account, &refresh_token).await;
    assert_eq!(code(&gone), 61003);
    let pushed = city.control.act(&account, "ann", Action::Unfollow).await;
    assert!(pushed.unwrap().dropped, "nobody listens for it any more");
    assert_eq!(
        city.control.authorizer(APP_ID, &account).unwrap().refreshes,
        1
    );
}

#[tokio::test]
async fn a_rotating_refresh_token_must_be_stored() {
    let city = City::build(Mistake::Nothing, |settings| {
        settings.components[0].rules.refresh_token_rotates = true;
        settings.components[0].rules.overlap_seconds = 300;
    })
    .await;
    let token = city.token().await;
    let (account, auth_code) = city.authorizer(&[1]).await;
    let (first, refresh_token) = city.exchange(&token, &auth_code).await;
    let answer = city.refresh(&token, &account, &refresh_token).await;
    let next = answer["authorizer_refresh_token"].as_str().unwrap();
    assert_ne!(next, refresh_token);
    assert_eq!(
        code(&city.refresh(&token, &account, &refresh_token).await),
        61023
    );
    assert_eq!(code(&city.refresh(&token, &account, next).await), 0);
    city.follower(&account, "ann").await;
    assert_eq!(city.send(&first, "ann").await, 0, "within the overlap");
    city.pass(300);
    assert_eq!(city.send(&first, "ann").await, 40001);
}

#[tokio::test]
async fn tokens_do_what_was_granted_and_no_more() {
    for (refused, sets) in [(61007, [2, 7]), (48001, [2, 11])] {
        let city = City::build(Mistake::Nothing, |settings| {
            settings.components[0].rules.missing_set_code = refused;
        })
        .await;
        let token = city.token().await;
        let (account, auth_code) = city.authorizer(&sets).await;
        let (access, _) = city.exchange(&token, &auth_code).await;
        city.follower(&account, "ann").await;
        assert_eq!(city.send(&access, "ann").await, i64::from(refused));
        let users = city.url(&format!("/cgi-bin/user/get?access_token={access}"));
        let answer = city.http.get(users).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["data"]["openid"], json!(["ann"]));
        let template = json!({"touser": "ann", "template_id": "t", "data": {"k": {"value": "v"}}});
        let path = format!("/cgi-bin/message/template/send?access_token={access}");
        let is_granted = sets.contains(&7);
        let wanted = if is_granted { 0 } else { i64::from(refused) };
        assert_eq!(code(&city.post(&path, template).await), wanted);
        // More is granted: the token that is there may do more at once.
        let more = city.control.authorize(APP_ID, &account, &[1, 2]);
        more.await.unwrap();
        assert_eq!(city.send(&access, "ann").await, 0);
        let state = city.control.authorizer(APP_ID, &account).unwrap();
        assert_eq!(state.sets, [1, 2]);
    }
}

#[tokio::test]
async fn callbacks_go_to_the_message_url_with_the_accounts_app_id() {
    let city = City::new().await;
    let (account, _) = city.authorizer(&[1]).await;
    city.follower(&account, "ann").await;
    let messages = city.server.messages();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0].app_id, account);
    assert_eq!(messages[0].openid.as_deref(), Some("ann"));
    assert_eq!(messages[0].fields["Event"], "subscribe");
    assert_eq!(messages[1].fields["Content"], "1");
    let gh = &messages[0].fields["ToUserName"];
    assert!(gh.starts_with("gh_"), "{gh}");
    // A passive reply is read with the component's key, and shown.
    let asked = Action::Text {
        text: "TESTCOMPONENT_MSG_TYPE_TEXT".into(),
    };
    let pushed = city.control.act(&account, "ann", asked).await.unwrap();
    assert!(pushed.accepted && pushed.reply.is_some(), "{pushed:?}");
}

#[tokio::test]
async fn a_thousand_accounts_appear_in_one_call_and_in_pages_of_the_list() {
    let city = City::new().await;
    let token = city.token().await;
    let new = NewAccounts {
        count: Some(1_000),
        sets: Some(vec![1, 2, 7, 11]),
        ..NewAccounts::default()
    };
    let added = city.control.add_accounts(APP_ID, &new).await.unwrap();
    assert_eq!((added.app_ids.len(), added.accepted), (1_000, 1_000));
    assert_eq!(city.server.events().len(), 1_000);
    let mut listed = HashSet::new();
    for offset in [0, 400, 800, 1200] {
        let body = json!({"offset": offset, "count": 400});
        let answer = city.call("api_get_authorizer_list", &token, body).await;
        assert_eq!(answer["total_count"], 1_000);
        for one in answer["list"].as_array().unwrap() {
            assert_eq!(one["auth_time"], 1_700_000_000);
            listed.insert(one["authorizer_appid"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(listed.len(), 1_000);
    let body = json!({"offset": 0, "count": 501});
    let refused = city.call("api_get_authorizer_list", &token, body).await;
    assert_eq!(code(&refused), 61451);

    // The list's refresh token brings a token: the way back after a loss.
    let body = json!({"offset": 7, "count": 1});
    let answer = city.call("api_get_authorizer_list", &token, body).await;
    let one = &answer["list"][0];
    let account = one["authorizer_appid"].as_str().unwrap();
    let refreshed = city.refresh(&token, account, one["refresh_token"].as_str().unwrap());
    assert_eq!(code(&refreshed.await), 0);
    assert_eq!(city.calls_of(AUTHORIZER_TOKEN), 1);
}

#[tokio::test]
async fn a_token_storm_is_provoked_and_counted() {
    let city = City::new().await;
    let token = city.token().await;
    let (account, auth_code) = city.authorizer(&[1]).await;
    let (access, refresh_token) = city.exchange(&token, &auth_code).await;
    city.follower(&account, "ann").await;
    assert_eq!(city.control.expire_authorizer_tokens(APP_ID, 42001), Ok(1));
    assert_eq!(city.send(&access, "ann").await, 42001);
    city.control.expire_component_tokens(APP_ID, 42001).unwrap();
    let refused = city.refresh(&token, &account, &refresh_token).await;
    assert_eq!(code(&refused), 42001);
    let token = city.token().await;
    let answer = city.refresh(&token, &account, &refresh_token).await;
    let access = answer["authorizer_access_token"].as_str().unwrap();
    assert_eq!(city.send(access, "ann").await, 0);
    let calls = city.control.component(APP_ID).unwrap().calls;
    assert_eq!(calls[AUTHORIZER_TOKEN][&0], 1);
    assert_eq!(calls[AUTHORIZER_TOKEN][&42001], 1);
}

#[tokio::test]
async fn faults_strike_a_components_calls_as_all_others() {
    let city = City::new().await;
    let token = city.token().await;
    let (account, auth_code) = city.authorizer(&[1]).await;
    let (access, refresh_token) = city.exchange(&token, &auth_code).await;
    let denied = Fault::new(AUTHORIZER_TOKEN, FaultKind::Errcode { code: 61004 }, 1);
    let mut storm = Fault::new(
        "/cgi-bin/message/custom/send",
        FaultKind::KillTokens { code: 42001 },
        1,
    );
    storm.account = Some(account.clone());
    city.control.add_faults(vec![denied, storm]).unwrap();
    let answer = city.refresh(&token, &account, &refresh_token).await;
    assert_eq!(code(&answer), 61004);
    let text = answer["errmsg"].as_str().unwrap();
    assert!(
        text.starts_with("access clientip is not registered"),
        "{text}"
    );
    assert_eq!(city.send(&access, "ann").await, 42001);
    assert_eq!(
        code(&city.refresh(&token, &account, &refresh_token).await),
        0
    );
}

#[tokio::test]
async fn an_account_is_described_to_its_component() {
    let city = City::new().await;
    let token = city.token().await;
    let (account, _) = city.authorizer(&[1]).await;
    let mini: NewAccounts =
        serde_json::from_value(json!({"kind": "mini_program", "sets": [19], "name": "小店"}))
            .unwrap();
    let mini = city.control.add_accounts(APP_ID, &mini).await.unwrap();
    for (app_id, is_mini) in [(account.as_str(), false), (&*mini.app_ids[0], true)] {
        let body = json!({"authorizer_appid": app_id});
        let answer = city.call("api_get_authorizer_info", &token, body).await;
        let info = &answer["authorizer_info"];
        assert!(info["user_name"].as_str().unwrap().starts_with("gh_"));
        assert_eq!(info["MiniProgramInfo"].is_object(), is_mini);
        assert_eq!(answer["authorization_info"]["authorizer_appid"], app_id);
        let set = &answer["authorization_info"]["func_info"][0]["funcscope_category"]["id"];
        assert_eq!(set, if is_mini { 19 } else { 1 });
    }
}

#[tokio::test]
async fn an_authorization_is_told_again_until_it_is_taken() {
    let city = City::new().await;
    let mut lost = Fault::new("callback", FaultKind::LoseAnswer, 1);
    lost.account = Some(APP_ID.to_owned());
    city.control.add_faults(vec![lost]).unwrap();
    // A ticket comes by the clock and leaves the fault alone.
    city.control.push_ticket(APP_ID).await.unwrap();
    let (account, auth_code) = city.authorizer(&[1]).await;
    let codes: Vec<_> = (city.server.events().iter())
        .map(|event| event["AuthorizationCode"].clone())
        .collect();
    assert_eq!(codes, [auth_code.clone(), auth_code]);
    let dropped = Fault::new("callback", FaultKind::Drop, 1);
    city.control.add_faults(vec![dropped]).unwrap();
    let pushed = city.control.unauthorize(APP_ID, &account).await.unwrap();
    assert!(!pushed.accepted && pushed.attempts.is_empty());
    assert_eq!(city.server.events().len(), 2);
}

#[tokio::test]
async fn accounts_and_consents_outlive_a_restart_of_the_platform() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    let open = || {
        City::build(Mistake::Nothing, |settings| {
            settings.state_file = Some(state.clone())
        })
    };
    let city = open().await;
    let token = city.token().await;
    let (account, auth_code) = city.authorizer(&[1]).await;
    let (gone, _) = city.authorizer(&[1]).await;
    city.control.unauthorize(APP_ID, &gone).await.unwrap();
    let (access, refresh_token) = city.exchange(&token, &auth_code).await;
    city.follower(&account, "ann").await;
    city.running.stop().await;

    let city = open().await;
    assert_eq!(city.send(&access, "ann").await, 40001);
    let token = city.token().await;
    let answer = city.refresh(&token, &account, &refresh_token).await;
    let access = answer["authorizer_access_token"].as_str().unwrap();
    assert_eq!(city.send(access, "ann").await, 0);
    let asked = Action::Text { text: "2".into() };
    city.control.act(&account, "ann", asked).await.unwrap();
    assert_eq!(city.server.messages()[0].app_id, account);
    let state = city.control.authorizer(APP_ID, &gone).unwrap();
    assert!(!state.is_authorized);
}
