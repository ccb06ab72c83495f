//! The authorization page, as a browser uses it, and the control API over HTTP.

use std::collections::HashMap;

use dripwheel::sandbox::NewAccounts;
use serde_json::{Value, json};

use super::city::City;
use super::server::APP_ID;
use crate::support::eventually;

impl City {
    async fn pre_auth_code(&self) -> String {
        let token = self.token().await;
        let answer = self.call("api_create_preauthcode", &token, json!({})).await;
        answer["pre_auth_code"].as_str().unwrap().to_owned()
    }

    async fn account(&self, new: Value) -> String {
        let new: NewAccounts = serde_json::from_value(new).unwrap();
        let added = self.control.add_accounts(APP_ID, &new).await.unwrap();
        added.app_ids[0].to_string()
    }
}

const BACK: &str = "http://127.0.0.1:7/back?shop=1";

#[tokio::test]
async fn a_person_picks_an_account_and_comes_back_with_a_code() {
    let city = City::new().await;
    let account = city.account(json!({"name": "小店 <b>"})).await;
    let mini = city.account(json!({"kind": "mini_program"})).await;
    let pre_auth_code = city.pre_auth_code().await;
    let asked = [
        ("component_appid", APP_ID),
        ("pre_auth_code", pre_auth_code.as_str()),
        ("redirect_uri", BACK),
        ("auth_type", "1"),
    ];
    for path in ["/cgi-bin/componentloginpage", "/wxaopen/safe/bindcomponent"] {
        let page = city.http.get(city.url(path)).query(&asked);
        let page = page.send().await.unwrap();
        assert_eq!(page.status(), 200);
        let csp = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(
            csp.contains("form-action 'self' http://127.0.0.1:7;"),
            "{csp}"
        );
        let html = page.text().await.unwrap();
        assert!(html.contains(&account) && !html.contains(&mini), "{html}");
        assert!(html.contains("小店 &#60;b&#62;"), "{html}");
    }
    let form = [
        &asked[..],
        &[("account", account.as_str()), ("set", "1"), ("set", "7")],
    ]
    .concat();
    let post = |form: Vec<(&str, &str)>| {
        let encoded = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = city.http.post(city.url("/wxaopen/safe/bindcomponent"));
        request.body(encoded).send()
    };
    let answer = post(form.clone()).await.unwrap();
    assert_eq!(answer.status(), 303);
    let back = url::Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
    assert!(back.as_str().starts_with("http://127.0.0.1:7/back?"));
    let query: HashMap<String, String> = back.query_pairs().into_owned().collect();
    assert_eq!(
        (query["shop"].as_str(), query["expires_in"].as_str()),
        ("1", "600")
    );
    eventually("the event", async || !city.server.events().is_empty()).await;
    let event = city.server.events()[0].clone();
    assert_eq!(event["AuthorizationCode"], query["auth_code"]);
    assert_eq!(event["PreAuthCode"], pre_auth_code);
    let state = city.control.authorizer(APP_ID, &account).unwrap();
    assert_eq!(state.sets, [1, 7]);
    let again = post(form).await.unwrap();
    assert_eq!(again.status(), 400, "the pre_auth_code is used up");
}

#[tokio::test]
async fn what_the_page_cannot_offer_is_said() {
    let city = City::new().await;
    let account = city.account(json!({})).await;
    let pre_auth_code = city.pre_auth_code().await;
    let ask = async |query: &[(&str, &str)]| {
        let mut all: HashMap<&str, &str> = HashMap::from([
            ("component_appid", APP_ID),
            ("pre_auth_code", pre_auth_code.as_str()),
            ("redirect_uri", BACK),
        ]);
        all.extend(query.iter().copied());
        let path = city.url("/cgi-bin/componentloginpage");
        let answer = city.http.get(path).query(&all).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for (query, word) in [
        (("component_appid", "wx0"), "component_appid"),
        (("pre_auth_code", "x"), "pre_auth_code"),
        (("redirect_uri", "javascript:1"), "redirect_uri"),
        (("redirect_uri", "http://evil.example/"), "host"),
    ] {
        let (status, told) = ask(&[query]).await;
        assert!(status == 400 && told.contains(word), "{query:?}: {told}");
    }
    let (status, html) = ask(&[("biz_appid", "wx0")]).await;
    assert!(status == 200 && !html.contains(&account), "{html}");
    city.pass(1_800);
    assert_eq!(ask(&[]).await.0, 400, "the pre_auth_code has expired");
}

#[tokio::test]
async fn everything_is_there_over_http() {
    let city = City::new().await;
    let act = async |body: Value| {
        let mut all = json!({"component": APP_ID});
        let members = body.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(members);
        let request = city.http.post(city.url("/sandbox/api/component"));
        let answer = request.json(&all).send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap(),
        )
    };
    let (_, pushed) = act(json!({"do": "push_ticket"})).await;
    assert_eq!(pushed["accepted"], true);
    let (_, added) = act(json!({"do": "add_accounts", "count": 3, "sets": [1]})).await;
    let account = added["app_ids"][0].as_str().unwrap();
    let changed = json!({"do": "authorize", "account": account, "sets": [1, 7]});
    assert_eq!(act(changed).await.1["pushed"]["accepted"], true);
    let quiet = json!({"do": "authorize", "account": account, "unannounced": true});
    assert!(act(quiet).await.1["pushed"].is_null());
    let expired = act(json!({"do": "expire_authorizer_tokens"})).await;
    assert_eq!(expired, (200, json!(0)));
    let gone = json!({"do": "unauthorize", "account": account});
    assert_eq!(act(gone.clone()).await.1["accepted"], true);
    assert_eq!(act(gone).await.0, 400);
    for order in ["expire_tickets", "expire_component_tokens"] {
        assert_eq!(act(json!({"do": order})).await.0, 200);
    }
    assert_eq!(act(json!({"do": "push_tickets", "on": false})).await.0, 200);
    assert_eq!(
        act(json!({"do": "push_ticket", "component": "wx0"}))
            .await
            .0,
        404
    );

    let get = async |path: &str| {
        let answer = city.http.get(city.url(path)).send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    let state = get(&format!("/sandbox/api/component/{APP_ID}")).await;
    assert_eq!(state["authorizers"], 2);
    assert_eq!(state["is_pushing_tickets"], false);
    assert_eq!(state["pushes"]["authorized"], json!([3, 0]));
    assert_eq!(state["pushes"]["updateauthorized"], json!([1, 0]));
    let authorizer = get(&format!("/sandbox/api/component/{APP_ID}/{account}")).await;
    assert_eq!(authorizer["is_authorized"], false);
}
