//! Faults: what the caller sees, and what the platform knows to be true all the same.

use std::time::Duration;

use dripwheel::sandbox::{Fault, FaultKind};
use serde_json::{Value, json};

use super::town::{APP_ID, SEND, Town, text};

impl Town {
    fn break_sends(&self, kind: FaultKind) {
        self.control.clear_faults();
        self.control
            .add_faults(vec![Fault::new(SEND, kind, 1)])
            .unwrap();
    }

    async fn raw_send(&self, token: &str) -> reqwest::Result<reqwest::Response> {
        let url = self.url(&format!("{SEND}?access_token={token}"));
        self.http
            .post(url)
            .body(text("ann"))
            .timeout(Duration::from_secs(5))
            .send()
            .await
    }

    /// How many messages are on ann's phone by the platform's own account.
    fn arrived(&self) -> usize {
        let sent = self.control.sent(None, None, 0, 1_000);
        sent.iter().filter(|sent| sent.sent.received).count()
    }
}

async fn town() -> (Town, String) {
    let town = Town::with(super::town::Plan {
        profile: dripwheel::sandbox::Profile::Wechat48h,
        ..super::town::Plan::default()
    })
    .await;
    town.follower("ann").await;
    let token = town.token().await;
    (town, token)
}

#[tokio::test]
async fn resets_differ_in_whether_the_message_arrived() {
    let (town, token) = town().await;
    town.break_sends(FaultKind::ResetBefore);
    assert!(town.raw_send(&token).await.unwrap_err().is_request());
    assert_eq!(
        (town.arrived(), town.control.sent(None, None, 0, 9).len()),
        (0, 0)
    );
    town.break_sends(FaultKind::ResetAfter);
    assert!(town.raw_send(&token).await.unwrap_err().is_request());
    assert_eq!(town.arrived(), 1);
    assert_eq!(
        town.control.sent(None, None, 0, 9)[0].sent.fault,
        Some("reset_after")
    );
    assert_eq!(town.text(&token, "ann").await, 0);
}

#[tokio::test]
async fn spoiled_answers_leave_the_message_received() {
    let (town, token) = town().await;
    for kind in [
        FaultKind::Garbage,
        FaultKind::Html,
        FaultKind::WrongLength,
        FaultKind::Truncated,
    ] {
        let before = town.arrived();
        town.break_sends(kind.clone());
        let answer = town.raw_send(&token).await.unwrap();
        assert_eq!(answer.status(), 200, "{kind:?}");
        assert!(answer.json::<Value>().await.is_err(), "{kind:?}");
        assert_eq!(town.arrived(), before + 1, "{kind:?}");
    }
    town.break_sends(FaultKind::Drip { ms: 1 });
    let answer = town.raw_send(&token).await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["errcode"], 0);
    town.break_sends(FaultKind::Huge { bytes: 3 << 20 });
    let answer = town.raw_send(&token).await.unwrap();
    assert_eq!(answer.bytes().await.unwrap().len(), 3 << 20);
}

#[tokio::test]
async fn a_status_or_a_redirect_means_not_received_unless_told_otherwise() {
    let (town, token) = town().await;
    town.break_sends(FaultKind::Status { status: 503 });
    assert_eq!(town.raw_send(&token).await.unwrap().status(), 503);
    town.break_sends(FaultKind::Redirect { location: None });
    let answer = town.raw_send(&token).await.unwrap();
    assert_eq!(answer.status(), 302);
    assert_eq!(town.arrived(), 0);
    assert_eq!(town.control.state().trapped, 0);
    let trap = answer.headers()["location"].to_str().unwrap().to_owned();
    town.http.get(trap).send().await.unwrap();
    assert_eq!(town.control.state().trapped, 1);
    let mut fault = Fault::new(SEND, FaultKind::Status { status: 502 }, 1);
    fault.accepted = Some(true);
    town.control.add_faults(vec![fault]).unwrap();
    assert_eq!(town.raw_send(&token).await.unwrap().status(), 502);
    assert_eq!(town.arrived(), 1);
}

#[tokio::test]
async fn a_hanging_call_has_been_received_when_its_caller_gives_up() {
    let (town, token) = town().await;
    town.break_sends(FaultKind::Hang);
    let url = town.url(&format!("{SEND}?access_token={token}"));
    let patience = Duration::from_millis(300);
    let answer = town
        .http
        .post(url)
        .body(text("ann"))
        .timeout(patience)
        .send()
        .await;
    assert!(answer.unwrap_err().is_timeout());
    assert_eq!(town.arrived(), 1);
}

#[tokio::test]
async fn any_code_can_be_injected_for_one_follower_over_http() {
    let (town, token) = town().await;
    town.follower("bob").await;
    let rule = json!({"faults": [
        {"api": SEND, "openid": "ann", "kind": "errcode", "code": 45009, "times": 1},
        {"api": SEND, "openid": "ann", "kind": "errcode", "code": -1, "times": 1, "accepted": true},
    ]});
    let url = town.url("/sandbox/api/faults");
    let set = town.http.post(&url).json(&rule).send().await.unwrap();
    assert_eq!(set.status(), 200);
    assert_eq!(town.text(&token, "bob").await, 0);
    assert_eq!(town.text(&token, "ann").await, 45009);
    assert_eq!(town.arrived(), 1);
    assert_eq!(town.text(&token, "ann").await, -1);
    assert_eq!(town.arrived(), 2);
    assert_eq!(town.text(&token, "ann").await, 0);
    town.http.delete(&url).send().await.unwrap();
    assert!(town.control.faults().is_empty());
    let wrong = json!({"faults": [{"api": "/nowhere", "kind": "hang"}]});
    assert_eq!(
        town.http
            .post(&url)
            .json(&wrong)
            .send()
            .await
            .unwrap()
            .status(),
        400
    );
}

#[tokio::test]
async fn killed_tokens_are_refused_until_a_new_one_is_fetched() {
    let (town, token) = town().await;
    town.break_sends(FaultKind::KillTokens { code: 42001 });
    assert_eq!(town.text(&token, "ann").await, 42001);
    assert_eq!(town.text(&token, "ann").await, 42001);
    let next = town.token().await;
    assert_ne!(next, token);
    assert_eq!(town.text(&next, "ann").await, 0);
    let mut fault = Fault::new(
        "/cgi-bin/stable_token",
        FaultKind::Errcode { code: 40164 },
        1,
    );
    fault.account = Some(APP_ID.into());
    town.control.add_faults(vec![fault]).unwrap();
    assert_eq!(town.stable_token(false).await["errcode"], 40164);
}

#[tokio::test]
async fn foreign_pages_reach_neither_the_control_api_nor_the_page() {
    let (town, _) = town().await;
    let url = town.url("/sandbox/api/faults");
    let post = |name: &'static str, value: &'static str| {
        town.http
            .post(&url)
            .json(&json!({"clear": true}))
            .header(name, value)
            .send()
    };
    assert_eq!(
        post("origin", "http://evil.example")
            .await
            .unwrap()
            .status(),
        403
    );
    assert_eq!(
        post("sec-fetch-site", "cross-site").await.unwrap().status(),
        403
    );
    assert_eq!(post("host", "evil.example").await.unwrap().status(), 403);
    let form = town
        .http
        .post(&url)
        .header("content-type", "text/plain")
        .body("{}")
        .send()
        .await;
    assert_eq!(form.unwrap().status(), 415);
}

#[tokio::test]
async fn the_page_escapes_what_it_shows_and_loads_nothing_from_outside() {
    let (town, token) = town().await;
    let nasty = "<img src=x onerror=alert(1)> <a href=\"https://a.example/?a=1&b=2\">go</a> \
                 <a href=\"javascript:alert(2)\">no</a>";
    let body = json!({"touser": "ann", "msgtype": "text", "text": {"content": nasty}});
    assert_eq!(town.send(&token, &body.to_string()).await, 0);
    let url = town.url(&format!("/?account={APP_ID}&follower=ann&lang=en"));
    let answer = town.http.get(url).send().await.unwrap();
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.contains("script-src 'self';"), "{policy}");
    let html = answer.text().await.unwrap();
    assert!(
        html.contains("&#60;img src=x onerror=alert(1)&#62;"),
        "{html}"
    );
    assert!(
        html.contains("href=\"https://a.example/?a=1&#38;b=2\" target=\"_blank\""),
        "{html}"
    );
    assert!(!html.contains("javascript:"));
    let form = "account=wxb11529c136998cb6&follower=ann&lang=en&do=text&value=hello";
    let done = town
        .http
        .post(town.url("/page/do"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .unwrap();
    assert_eq!(done.status(), 303);
    assert!(town.server.got().len() == 2);
}
