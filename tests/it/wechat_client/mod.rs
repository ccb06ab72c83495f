//! The WeChat client over real sockets: every way an attempt can end, and what it is called.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod media;
pub mod platform;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dripwheel::clock::{ManualClock, Timestamp};
use dripwheel::journey::ids::AccountId;
use dripwheel::journey::message::Message;
use dripwheel::sender::platform::{Answer, AnswerClass, Call, Content, Parcel, Platform};
use dripwheel::sender::wechat::{
    MediaKey, Shelf, ShelfError, Uploaded, WechatClient, WechatSettings, http_client,
};
use secrecy::SecretString;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use url::Url;

use platform::{Asked, Say, ScriptedPlatform};

const TOKEN: &str = "/cgi-bin/stable_token";
const SEND: &str = "/cgi-bin/message/custom/send";
const USER_INFO: &str = "/cgi-bin/user/info";
const OK: &str = r#"{"errcode":0,"errmsg":"ok"}"#;

/// Every token and secret of these tests has it, so that one search finds any leak.
const CANARY: &str = "C4N4RY";

/// A shelf that lives as long as its test.
#[derive(Debug, Default)]
pub struct MemoryShelf {
    pub files: HashMap<String, Vec<u8>>,
    uploads: Mutex<HashMap<MediaKey, Uploaded>>,
}

impl Shelf for MemoryShelf {
    fn bytes<'a>(&'a self, sha256: &'a str) -> Call<'a, Result<Option<Vec<u8>>, ShelfError>> {
        Box::pin(async move { Ok(self.files.get(sha256).cloned()) })
    }

    fn load<'a>(&'a self, key: &'a MediaKey) -> Call<'a, Result<Option<Uploaded>, ShelfError>> {
        Box::pin(async move { Ok(self.uploads.lock().unwrap().get(key).cloned()) })
    }

    fn save<'a>(
        &'a self,
        key: &'a MediaKey,
        uploaded: &'a Uploaded,
    ) -> Call<'a, Result<(), ShelfError>> {
        Box::pin(async move {
            let mut uploads = self.uploads.lock().unwrap();
            uploads.insert(key.clone(), uploaded.clone());
            Ok(())
        })
    }

    fn forget<'a>(
        &'a self,
        key: &'a MediaKey,
        media_id: &'a str,
    ) -> Call<'a, Result<(), ShelfError>> {
        Box::pin(async move {
            let mut uploads = self.uploads.lock().unwrap();
            if uploads.get(key).is_some_and(|up| up.media_id == media_id) {
                uploads.remove(key);
            }
            Ok(())
        })
    }
}

/// What a test may want another way than usual.
struct World {
    shelf: Arc<MemoryShelf>,
    clock: Arc<ManualClock>,
    attempt_timeout: Duration,
    allow_private_media: bool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            shelf: Arc::default(),
            clock: Arc::new(ManualClock::at(Timestamp(1_700_000_000_000))),
            attempt_timeout: Duration::from_secs(8),
            allow_private_media: false,
        }
    }
}

impl World {
    fn client(&self, api_base: &Url) -> WechatClient {
        let settings = WechatSettings {
            account: AccountId(7),
            app_id: "wx7".into(),
            app_secret: SecretString::from(format!("secret-{CANARY}")),
            api_base: api_base.clone(),
            attempt_timeout: self.attempt_timeout,
            connect_timeout: Duration::from_secs(2),
            allow_private_media: self.allow_private_media,
        };
        let http = http_client(Duration::from_secs(2)).unwrap();
        let shelf = Arc::clone(&self.shelf) as Arc<dyn Shelf>;
        WechatClient::new(settings, shelf, Arc::clone(&self.clock) as _, http)
    }
}

/// Sends one message and looks for leaks on the way.
async fn send(client: &WechatClient, message: Message) -> Answer {
    let openid = "oFollower".to_owned();
    let parcel = Parcel {
        openid,
        content: Content::Message(message),
        message_id: "1-0".into(),
    };
    let answer = client.send(&parcel).await;
    let shown = format!("{answer:?} {client:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    answer
}

async fn send_text(client: &WechatClient) -> Answer {
    send(client, Message::Text("你好".into())).await
}

/// The `n`th token of the account, from 1.
fn token(n: usize) -> String {
    format!(r#"{{"access_token":"token-{CANARY}-{n}","expires_in":7200}}"#)
}

/// A platform that always gives the same token and answers everything else by `script`.
async fn platform(script: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> ScriptedPlatform {
    ScriptedPlatform::start(move |asked| match asked.path.as_str() {
        TOKEN => Say::Json(token(1)),
        _ => script(asked),
    })
    .await
}

/// A platform whose tokens are all different and of which only the `good`th is taken.
async fn choosy_platform(good: usize) -> ScriptedPlatform {
    let given = AtomicUsize::new(0);
    ScriptedPlatform::start(move |asked| match asked.path.as_str() {
        TOKEN => Say::Json(token(given.fetch_add(1, Ordering::SeqCst) + 1)),
        _ if asked.query["access_token"] == format!("token-{CANARY}-{good}") => Say::json(OK),
        _ => Say::errcode(42001),
    })
    .await
}

#[tokio::test]
async fn a_text_goes_out_in_one_exact_request() {
    let platform = platform(|_| Say::json(OK)).await;
    let client = World::default().client(&platform.base);
    for _ in 0..2 {
        let answer = send_text(&client).await;
        assert_eq!(answer.class, AnswerClass::Accepted);
        assert_eq!(answer.code, Some(0));
    }
    let sent = platform.asked(SEND);
    assert_eq!(sent.len(), 2);
    let body = r#"{"touser":"oFollower","msgtype":"text","text":{"content":"你好"}}"#;
    assert_eq!(sent[0].body, body.as_bytes());
    assert_eq!(sent[0].query["access_token"], format!("token-{CANARY}-1"));
    let head = sent[0].head.to_lowercase();
    assert!(head.starts_with("post "));
    assert!(head.contains("content-type: application/json"));
    assert!(head.contains("user-agent: dripwheel/"));
    assert!(!head.contains("transfer-encoding"), "{head}");
    assert!(!head.contains("accept-encoding"), "{head}");

    let asked = platform.asked(TOKEN);
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].json(),
        serde_json::json!({
            "grant_type": "client_credential",
            "appid": "wx7",
            "secret": format!("secret-{CANARY}"),
            "force_refresh": false,
        })
    );
}

#[tokio::test]
async fn an_answer_without_a_code_that_was_read_is_unknown() {
    let cut_short = "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"errcode\":0";
    let huge = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{}";
    for (what, say) in [
        ("reset", Say::Reset),
        ("closed", Say::Raw(Vec::new())),
        ("cut short", Say::Raw(cut_short.into())),
        ("huge", Say::Raw(huge.into())),
        ("endless", Say::Endless),
        ("not HTTP", Say::Raw(b"\x16\x03\x01 what?".to_vec())),
        ("HTML", Say::json("<html><body>login</body></html>")),
        ("empty", Say::json("")),
        ("no code", Say::json("{}")),
        ("huge code", Say::json(r#"{"errcode":1e400}"#)),
        ("a list", Say::json("[0]")),
        ("500", Say::status("500 Oops", "", "")),
        ("502", Say::status("502 Bad", "", "<html>")),
        ("503 with a code", Say::status("503 Busy", "", OK)),
        ("404", Say::status("404 No", "", "<html>")),
    ] {
        let platform = platform(move |_| say.clone()).await;
        let answer = send_text(&World::default().client(&platform.base)).await;
        assert_eq!(answer.class, AnswerClass::Unknown, "{what}: {answer:?}");
        assert_eq!(platform.count(SEND), 1, "{what}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_unknown() {
    for say in [Say::Hang, Say::Drip] {
        let platform = platform(move |_| say.clone()).await;
        let world = World {
            attempt_timeout: Duration::from_millis(500),
            ..World::default()
        };
        let answer = send_text(&world.client(&platform.base)).await;
        assert_eq!(answer.class, AnswerClass::Unknown, "{answer:?}");
        assert_eq!(platform.count(SEND), 1);
    }
}

#[tokio::test]
async fn a_failure_before_the_message_left_is_definite() {
    // Nobody listens.
    let nobody: Url = "http://127.0.0.1:1".parse().unwrap();
    let answer = send_text(&World::default().client(&nobody)).await;
    assert_eq!(answer.class, AnswerClass::RetrySoon, "{answer:?}");

    // Nobody listens any more when the message's turn comes.
    let leaving = ScriptedPlatform::start(|_| Say::LastWords(token(1))).await;
    let answer = send_text(&World::default().client(&leaving.base)).await;
    assert_eq!(answer.class, AnswerClass::RetrySoon, "{answer:?}");
    assert!(answer.detail.starts_with("custom/send"), "{answer:?}");

    // The other side does not speak TLS.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secure = format!("https://{}", plain.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            stream.write_all(b"HTTP/1.1 400 Plain\r\n\r\n").await.ok();
        }
    });
    let answer = send_text(&World::default().client(&secure.parse().unwrap())).await;
    assert_eq!(answer.class, AnswerClass::RetrySoon, "{answer:?}");

    let hurried = World {
        attempt_timeout: Duration::from_millis(300),
        ..World::default()
    };

    // The token does not come in time.
    let mute = ScriptedPlatform::start(|_| Say::Hang).await;
    let answer = send_text(&hurried.client(&mute.base)).await;
    assert_eq!(answer.class, AnswerClass::RetrySoon, "{answer:?}");
    assert_eq!(mute.count(SEND), 0);
}

#[tokio::test]
async fn a_connection_reset_as_it_stands_is_never_called_taken_or_refused() {
    let platform = ScriptedPlatform::start(|_| {
        Say::status("200 OK", "", &token(1)) // Closes, so that the send needs a connection of its own.
    })
    .await;
    let client = World::default().client(&platform.base);
    assert_eq!(client.subscribed("oFollower").await, None);
    platform.resets.store(true, Ordering::SeqCst);
    let answer = send_text(&client).await;
    // Whether the body had begun to leave when the reset came is up to the kernel.
    assert!(
        matches!(answer.class, AnswerClass::RetrySoon | AnswerClass::Unknown),
        "{answer:?}"
    );
    assert_eq!(platform.count(SEND), 0);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_stops_the_account() {
    for status in ["301 Moved", "302 Found", "307 Away", "308 Away"] {
        let platform = platform(move |_| Say::status(status, "Location: /stolen\r\n", "")).await;
        let answer = send_text(&World::default().client(&platform.base)).await;
        assert_eq!(answer.class, AnswerClass::NeedsAttention, "{answer:?}");
        assert_eq!((platform.count(SEND), platform.count("/stolen")), (1, 0));
    }
    let platform = ScriptedPlatform::start(|_| {
        Say::status("302 Found", "Location: /stolen\r\n", "") // The secret must not travel on.
    })
    .await;
    let answer = send_text(&World::default().client(&platform.base)).await;
    assert_eq!(answer.class, AnswerClass::NeedsAttention, "{answer:?}");
    assert_eq!(platform.count("/stolen"), 0);
}

#[tokio::test]
async fn codes_are_classed_as_numbers_and_as_strings() {
    for (code, class) in [
        (-1, AnswerClass::RetrySoon),
        (40003, AnswerClass::Dropped),
        (43004, AnswerClass::Unsubscribed),
        (45009, AnswerClass::NextDay),
        (45011, AnswerClass::NextMinute),
        (45047, AnswerClass::GrantClosed),
        (48002, AnswerClass::Muted),
        (48001, AnswerClass::NeedsAttention),
        (77777, AnswerClass::RetrySoon),
    ] {
        for body in [
            format!(r#"{{"errcode":{code},"errmsg":"words token-{CANARY}-1 rid: 6-7"}}"#),
            format!(r#"{{"errcode":"{code}","errmsg":"words rid: 6-7"}}"#),
        ] {
            let platform = platform(move |_| Say::Json(body.clone())).await;
            let answer = send_text(&World::default().client(&platform.base)).await;
            assert_eq!((answer.class, answer.code), (class, Some(code)));
            assert!(answer.detail.contains("rid: 6-7"), "{answer:?}");
            assert_eq!(platform.count(SEND), 1);
        }
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_the_message_sent_once_more() {
    let platform = choosy_platform(2).await;
    let client = World::default().client(&platform.base);
    assert_eq!(send_text(&client).await.class, AnswerClass::Accepted);
    assert_eq!((platform.count(TOKEN), platform.count(SEND)), (2, 2));

    let platform = choosy_platform(99).await;
    let client = World::default().client(&platform.base);
    let answer = send_text(&client).await;
    assert_eq!(answer.class, AnswerClass::TokenStale);
    assert_eq!(answer.code, Some(42001));
    assert_eq!((platform.count(TOKEN), platform.count(SEND)), (2, 2));
}

#[tokio::test]
async fn a_storm_of_refused_tokens_renews_it_once() {
    const SENDS: usize = 250;
    let all_sent = Arc::new(Barrier::new(SENDS));
    let given = AtomicUsize::new(0);
    let platform = ScriptedPlatform::start(move |asked| match asked.path.as_str() {
        TOKEN => Say::Json(token(given.fetch_add(1, Ordering::SeqCst) + 1)),
        _ if asked.query["access_token"] == format!("token-{CANARY}-1") => {
            let refused = r#"{"errcode":42001,"errmsg":"access_token expired"}"#.to_owned();
            Say::Together(Arc::clone(&all_sent), refused)
        }
        _ => Say::json(OK),
    })
    .await;
    let client = World::default().client(&platform.base);
    let storm: Vec<_> = (0..SENDS)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { send_text(&client).await })
        })
        .collect();
    for sent in storm {
        assert_eq!(sent.await.unwrap().class, AnswerClass::Accepted);
    }
    assert_eq!(platform.count(SEND), 2 * SENDS);
    assert_eq!(platform.count(TOKEN), 2);
}

#[tokio::test]
async fn a_refused_secret_or_address_needs_a_person() {
    for code in [40125, 40013, 40164, 40001, 89503] {
        let platform = ScriptedPlatform::start(move |_| Say::errcode(code)).await;
        let answer = send_text(&World::default().client(&platform.base)).await;
        assert_eq!(answer.class, AnswerClass::NeedsAttention, "{answer:?}");
        assert_eq!(answer.code, Some(code));
        assert_eq!((platform.count(TOKEN), platform.count(SEND)), (1, 0));
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_had_is_asked_for_twice_and_costs_nothing() {
    for say in [
        Say::Reset,
        Say::json("<html>"),
        Say::status("502 Bad", "", ""),
    ] {
        let platform = ScriptedPlatform::start(move |_| say.clone()).await;
        let answer = send_text(&World::default().client(&platform.base)).await;
        assert_eq!(answer.class, AnswerClass::RetrySoon, "{answer:?}");
        assert_eq!((platform.count(TOKEN), platform.count(SEND)), (2, 0));
    }
}

#[tokio::test]
async fn a_closed_window_is_told_from_an_unfollow() {
    for (info, class) in [
        (
            Say::json(r#"{"subscribe":0,"openid":"o"}"#),
            AnswerClass::Unsubscribed,
        ),
        (
            Say::json(r#"{"subscribe":1,"openid":"o"}"#),
            AnswerClass::GrantClosed,
        ),
        (Say::errcode(40003), AnswerClass::GrantClosed),
        (Say::json("<html>"), AnswerClass::GrantClosed),
        (Say::Reset, AnswerClass::GrantClosed),
        (Say::Hang, AnswerClass::GrantClosed),
    ] {
        let platform = platform(move |asked| match asked.path.as_str() {
            USER_INFO => info.clone(),
            _ => Say::errcode(45015),
        })
        .await;
        let world = World {
            attempt_timeout: Duration::from_millis(800),
            ..World::default()
        };
        let answer = send_text(&world.client(&platform.base)).await;
        assert_eq!((answer.class, answer.code), (class, Some(45015)));
        let asked = platform.asked(USER_INFO);
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].query["openid"], "oFollower");
        assert_eq!(platform.count(SEND), 1);
    }
}
