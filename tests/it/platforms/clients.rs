//! What the contract does not reach: files, stale tokens, one call for many, and secrets that stay
//! secret, against platforms that say what a test scripts.

use std::sync::Arc;
use std::time::Duration;

use dripwheel::clock::{Clock, ManualClock};
use dripwheel::journey::ids::AccountId;
use dripwheel::journey::message::{Asset, Message};
use dripwheel::sender::line::{LineClient, LineSettings};
use dripwheel::sender::platform::{Answer, AnswerClass, Cohort, Content, Parcel, Platform};
use dripwheel::sender::telegram::{TelegramClient, TelegramSettings};
use dripwheel::sender::wechat::http_client;
use dripwheel::sender::wecom_kf::{WecomKfClient, WecomKfSettings};
use serde_json::Value;

use crate::pair::START;
use crate::wechat_client::MemoryShelf;
use crate::wechat_client::platform::{Asked, Say, ScriptedPlatform};

/// Every secret of these tests has it, so that one search finds any leak.
const CANARY: &str = "C4N4RY";

const BOT_TOKEN: &str = "110201543:C4N4RY_CH1vGWJxfSeofSAs0K5PALDsaw";

/// A PNG by its first bytes.
const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n and so on";

fn shelf() -> Arc<MemoryShelf> {
    let mut shelf = MemoryShelf::default();
    shelf.files.insert("ab".to_owned(), PICTURE.to_vec());
    Arc::new(shelf)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(START))
}

fn http() -> reqwest::Client {
    http_client(Duration::from_secs(5)).unwrap()
}

fn parcel(openid: &str, message: Message) -> Parcel {
    Parcel {
        openid: openid.to_owned(),
        content: Content::Message(message),
        message_id: "65536-0".to_owned(),
    }
}

fn picture() -> Message {
    Message::Image(Asset::File {
        file: "assets/guide.png".into(),
        sha256: "ab".into(),
    })
}

fn text() -> Message {
    Message::Text("你好".into())
}

/// An answer of this class with no secret in it.
fn expect(answer: &Answer, class: AnswerClass) {
    assert_eq!(answer.class, class, "{answer:?}");
    assert!(!format!("{answer:?}").contains(CANARY), "{answer:?}");
}

fn bot(platform: &ScriptedPlatform) -> TelegramClient {
    let settings = TelegramSettings {
        account: AccountId(1),
        bot_token: BOT_TOKEN.into(),
        api_base: platform.base.clone(),
        attempt_timeout: Duration::from_secs(10),
    };
    TelegramClient::new(settings, shelf(), clock(), http())
}

#[tokio::test]
async fn telegram_is_given_a_file_once_and_then_its_id() {
    let platform = ScriptedPlatform::start(|_: &Asked| {
        Say::json(
            r#"{"ok":true,"result":{"message_id":1,
                "photo":[{"file_id":"small"},{"file_id":"big"}]}}"#,
        )
    })
    .await;
    let bot = bot(&platform);
    for _ in 0..2 {
        let answer = bot.send(&parcel("1001", picture())).await;
        expect(&answer, AnswerClass::Accepted);
    }
    let calls = platform.asked(&format!("/bot{BOT_TOKEN}/sendPhoto"));
    assert_eq!(calls.len(), 2);
    assert!(calls[0].head.to_lowercase().contains("multipart/form-data"));
    let uploaded = calls[0]
        .body
        .windows(PICTURE.len())
        .any(|part| part == PICTURE);
    assert!(uploaded, "the file goes with the first message");
    let form = String::from_utf8_lossy(&calls[0].body).into_owned();
    assert!(
        form.contains("name=\"chat_id\"") && form.contains("guide.png"),
        "{form}"
    );
    assert_eq!(calls[1].json()["photo"], "big");
    assert_eq!(calls[1].json()["chat_id"], 1001);
}

#[tokio::test]
async fn telegram_s_lost_answers_show_no_token() {
    let platform = ScriptedPlatform::start(|_: &Asked| Say::Reset).await;
    let answer = bot(&platform).send(&parcel("1001", text())).await;
    expect(&answer, AnswerClass::Unknown);
    platform
        .resets
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let echo = format!(r#"{{"ok":false,"error_code":404,"description":"no /bot{BOT_TOKEN}/"}}"#);
    let platform = ScriptedPlatform::start(move |_: &Asked| Say::Json(echo.clone())).await;
    let answer = bot(&platform).send(&parcel("1001", text())).await;
    expect(&answer, AnswerClass::NeedsAttention);
    let elsewhere = |_: &Asked| Say::status("302 Found", "Location: http://127.0.0.1:9/\r\n", "");
    let platform = ScriptedPlatform::start(elsewhere).await;
    let answer = bot(&platform).send(&parcel("1001", text())).await;
    expect(&answer, AnswerClass::NeedsAttention);
}

#[tokio::test]
async fn telegram_is_asked_nothing_while_it_wants_rest() {
    let platform = ScriptedPlatform::start(|_: &Asked| {
        let said = r#"{"ok":false,"error_code":429,"description":"Too Many Requests",
            "parameters":{"retry_after":7}}"#;
        Say::status("429 Too Many Requests", "", said)
    })
    .await;
    let bot = bot(&platform);
    let until = START.plus(Duration::from_secs(7));
    let told = bot.send(&parcel("1001", text())).await;
    expect(&told, AnswerClass::NotBefore(until));
    assert_eq!(told.code, Some(429));
    let kept = bot.send(&parcel("1002", text())).await;
    expect(&kept, AnswerClass::NotBefore(until));
    assert_eq!(kept.code, None, "nothing was asked");
    assert_eq!(platform.count(&format!("/bot{BOT_TOKEN}/sendMessage")), 1);
}

fn friend(platform: &ScriptedPlatform) -> LineClient {
    let settings = LineSettings {
        account: AccountId(1),
        channel_id: "1".into(),
        channel_access_token: "C4N4RY-token".into(),
        api_base: platform.base.clone(),
        files_base: Some("https://drip.example/files".into()),
        attempt_timeout: Duration::from_secs(10),
    };
    LineClient::new(settings, clock(), http())
}

fn head(asked: &Asked, name: &str) -> String {
    let mut lines = asked.head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

#[tokio::test]
async fn line_takes_one_call_for_many_and_a_second_one_as_the_first() {
    const MULTICAST: &str = "/v2/bot/message/multicast";
    let platform = ScriptedPlatform::start(|asked: &Asked| match asked.path.as_str() {
        MULTICAST if asked.query.is_empty() => Say::status(
            "409 Conflict",
            "x-line-accepted-request-id: 1\r\n",
            r#"{"message":"The retry key is already accepted"}"#,
        ),
        _ => Say::json("{}"),
    })
    .await;
    let friend = friend(&platform);
    let cohort = Cohort {
        openids: vec!["U1".into(), "U2".into()],
        message: picture(),
        message_id: "0123456789abcdef".into(),
    };
    for _ in 0..2 {
        expect(&friend.send_to_many(&cohort).await, AnswerClass::Accepted);
    }
    let calls = platform.asked(MULTICAST);
    assert_eq!(calls[0].json()["to"], serde_json::json!(["U1", "U2"]));
    let shown = &calls[0].json()["messages"][0];
    assert_eq!(shown["originalContentUrl"], "https://drip.example/files/ab");
    let key = head(&calls[0], "x-line-retry-key");
    assert_eq!(
        (key.len(), &key),
        (36, &head(&calls[1], "x-line-retry-key"))
    );
    assert_eq!(head(&calls[0], "authorization"), "Bearer C4N4RY-token");
    expect(
        &friend.send(&parcel("U1", text())).await,
        AnswerClass::Accepted,
    );
    let pushed = &platform.asked("/v2/bot/message/push")[0];
    assert_ne!(head(pushed, "x-line-retry-key"), key);
}

#[tokio::test]
async fn line_tells_the_language_of_a_friend() {
    let platform = ScriptedPlatform::start(|asked: &Asked| match asked.path.as_str() {
        "/v2/bot/profile/U1" => Say::json(r#"{"userId":"U1","language":"zh-Hant"}"#),
        _ => Say::status(
            "404 Not Found",
            "",
            r#"{"message":"Not found","language":"en"}"#,
        ),
    })
    .await;
    let friend = friend(&platform);
    assert_eq!(friend.language("U1").await.as_deref(), Some("zh_TW"));
    assert_eq!(friend.language("U2").await, None);
}

#[tokio::test]
async fn wecom_s_stale_token_is_replaced_once_and_a_lost_medium_uploaded_again() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    const SEND: &str = "/cgi-bin/kf/send_msg";
    const UPLOAD: &str = "/cgi-bin/media/upload";
    let (tokens, media) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let platform = ScriptedPlatform::start(move |asked: &Asked| {
        let token = asked.query.get("access_token").cloned().unwrap_or_default();
        match asked.path.as_str() {
            "/cgi-bin/gettoken" => {
                assert_eq!(asked.query["corpid"], "ww1");
                let number = tokens.fetch_add(1, Ordering::SeqCst);
                Say::Json(format!(
                    r#"{{"errcode":0,"access_token":"{CANARY}{number}","expires_in":7200}}"#
                ))
            }
            _ if token == "C4N4RY0" => Say::errcode(42001),
            UPLOAD => {
                let number = media.fetch_add(1, Ordering::SeqCst);
                Say::Json(format!(r#"{{"errcode":0,"media_id":"m{number}"}}"#))
            }
            SEND if asked.json()["image"]["media_id"] == "m0" => Say::errcode(40007),
            _ => Say::json(r#"{"errcode":0,"errmsg":"ok","msgid":"65536-0"}"#),
        }
    })
    .await;
    let settings = WecomKfSettings {
        account: AccountId(1),
        corp_id: "ww1".into(),
        corp_secret: "C4N4RY-secret".into(),
        open_kfid: "wk1".into(),
        api_base: platform.base.clone(),
        attempt_timeout: Duration::from_secs(10),
    };
    let client = WecomKfClient::new(settings, shelf(), clock(), http());
    let answer = client.send(&parcel("wm1", text())).await;
    expect(&answer, AnswerClass::Accepted);
    let sent: Vec<Value> = platform.asked(SEND).iter().map(Asked::json).collect();
    assert_eq!(sent.len(), 2, "once with the stale token");
    assert_eq!(
        (&sent[1]["msgid"], &sent[1]["open_kfid"]),
        (&"65536-0".into(), &"wk1".into())
    );

    let answer = client.send(&parcel("wm1", picture())).await;
    expect(&answer, AnswerClass::Accepted);
    assert_eq!(platform.count(UPLOAD), 2);
    assert_eq!(
        platform.asked(SEND).last().unwrap().json()["image"]["media_id"],
        "m1"
    );
}
