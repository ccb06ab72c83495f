//! The phone of a played platform, as a browser without scripts uses it.

use std::sync::Arc;

use dripwheel::clock::ManualClock;
use dripwheel::sandbox::{PlatformSandbox, PlatformSettings, Played};
use reqwest::{Client, StatusCode, redirect};
use serde_json::json;

use crate::pair::START;

const BOT_TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";

#[tokio::test]
async fn somebody_follows_and_reads_what_came_and_another_site_cannot() {
    let played = Played::Telegram {
        bot_token: BOT_TOKEN.into(),
        secret_token: "a-secret-token-of-ours".into(),
    };
    // Nobody listens: the platform goes on without.
    let mut settings = PlatformSettings::new(played, "http://127.0.0.1:9/callback/world".into());
    settings.callback_attempts = 1;
    let clock = Arc::new(ManualClock::at(START));
    let sandbox = PlatformSandbox::start(settings, clock).await.unwrap();
    let base = format!("http://{}", sandbox.addr);
    let client = Client::builder().redirect(redirect::Policy::none());
    let client = client.no_proxy().build().unwrap();
    let form = |text: &'static str| {
        let post = client.post(format!("{base}/phone")).body(text);
        post.header("content-type", "application/x-www-form-urlencoded")
    };
    let follow = "person=1001&act=follow";
    let foreign = form(follow).header("origin", "https://evil.example");
    assert_eq!(
        foreign.send().await.unwrap().status(),
        StatusCode::FORBIDDEN
    );
    let came = form(follow).send().await.unwrap();
    assert_eq!(came.status(), StatusCode::SEE_OTHER);
    assert_eq!(came.headers()["location"], "/?person=1001");
    for bad in [
        "",
        "person=&act=follow",
        "person=1&act=fly",
        "person=1&act=write&text=",
    ] {
        assert_eq!(
            form(bad).send().await.unwrap().status(),
            StatusCode::BAD_REQUEST,
            "{bad}"
        );
    }

    let body = json!({ "chat_id": 1001, "text": "<b>5 < 6</b>", "reply_markup": {
        "inline_keyboard": [[{ "text": "More", "callback_data": "more" }]],
    } });
    let call = client
        .post(format!("{base}/bot{BOT_TOKEN}/sendMessage"))
        .json(&body);
    assert!(call.send().await.unwrap().status().is_success());
    let page = client
        .get(format!("{base}/?person=1001"))
        .send()
        .await
        .unwrap();
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    let page = page.text().await.unwrap();
    assert!(
        page.contains("&lt;b&gt;5 &lt; 6&lt;/b&gt;") && !page.contains("<b>"),
        "{page}"
    );
    assert!(
        page.contains("value=\"more\"") && page.contains(">More</button>"),
        "{page}"
    );
    sandbox.stop().await;
}
