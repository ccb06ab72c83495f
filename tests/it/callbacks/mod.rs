//! Callbacks over a real socket: whatever the platform sends is taken in once, and whatever it did
//! not send is refused and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod letter;
mod refused;

use std::sync::Arc;

use dripwheel::app::App;
use dripwheel::clock::{ManualClock, Timestamp};
use dripwheel::config::Config;
use dripwheel::inbound::signature::sign;
use dripwheel::store::{self, receipts::KINDS};
use dripwheel::yaml::render_all;
use reqwest::{Client, Method};
use tempfile::TempDir;

use crate::support::database::{self, Fresh};
use letter::{FOLLOW, Letter, follow, xml};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const TOKEN: &str = "doortoken";
const KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
const OLD_KEY: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefg";
const OTHER_KEY: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";

/// Account keys and app ids, by how their callbacks are protected.
const SAFE: (&str, &str) = ("safe", "wx0000000000000001");
const COMPAT: (&str, &str) = ("compat", "wx0000000000000002");
const PLAIN: (&str, &str) = ("plain", "wx0000000000000003");

/// Nothing is due while these tests run: there is no platform to send to.
const SEQUENCE: &str = "
sequence: late
trigger: follow
steps: [{ id: hello, after: 1h, say: { text: hello } }]
";

/// A server with three accounts and an old key in each.
struct Server {
    app: App,
    client: Client,
    database: Fresh,
    _folder: TempDir,
}

impl Server {
    async fn start() -> Self {
        let (folder, database) = (tempfile::tempdir().unwrap(), Fresh::new());
        std::fs::write(folder.path().join("late.yaml"), SEQUENCE).unwrap();
        let accounts = [(SAFE, "safe"), (COMPAT, "compat"), (PLAIN, "plain")];
        let accounts = accounts.map(|((key, app_id), mode)| {
            format!(
                "  - {{ key: {key}, app_id: {app_id}, app_secret: 0123456789abcdef0123456789abcdef,
      token: {TOKEN}, encoding_aes_key: {KEY}, encoding_aes_key_previous: {OLD_KEY},
      mode: {mode}, api_base: 'http://127.0.0.1:9' }}\n"
            )
        });
        let text = format!(
            "server: {{ listen: '127.0.0.1:0' }}
database: {{ url: '{database}' }}
sequences: {{ dir: '{folder}' }}
accounts:\n{accounts}",
            database = database.url,
            folder = folder.path().display(),
            accounts = accounts.concat()
        );
        let config = Config::from_text(&text, "doors", &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{}", render_all(&problems, false)));
        let clock = Arc::new(ManualClock::at(NOW));
        Self {
            app: App::start(&config, clock, None).await.unwrap(),
            client: Client::builder().no_proxy().build().unwrap(),
            database,
            _folder: folder,
        }
    }

    fn url(&self, path_and_query: &str) -> String {
        format!("http://{}/callback/{path_and_query}", self.app.addr())
    }

    async fn call(&self, method: Method, path_and_query: &str, body: &str) -> (u16, String) {
        let request = self.client.request(method, self.url(path_and_query));
        let answer = request.body(body.to_owned()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn post(&self, letter: &Letter) -> (u16, String) {
        self.call(Method::POST, &letter.target(), &letter.body)
            .await
    }

    async fn accepts(&self, letter: &Letter) {
        let answer = self.post(letter).await;
        assert_eq!(answer, (200, "success".to_owned()), "{}", letter.body);
    }

    async fn count(&self, sql: &str) -> i64 {
        database::number(self.app.store().read(), sql).await
    }

    /// Receipts, followers, grants and enrollments together.
    async fn rows(&self) -> i64 {
        self.count(
            "SELECT (SELECT count(*) FROM receipts) + (SELECT count(*) FROM followers)
                + (SELECT count(*) FROM grants) + (SELECT count(*) FROM enrollments)",
        )
        .await
    }

    /// The receipts' kinds, in words.
    async fn kinds(&self) -> Vec<&'static str> {
        let sql = "SELECT kind FROM receipts ORDER BY created_at";
        let rows = database::rows(self.app.store().read(), sql, []).await;
        let kinds = rows.into_iter().map(|row| {
            let kind: i64 = row.try_get_by_index(0).unwrap();
            KINDS[usize::try_from(kind).unwrap() - 1]
        });
        kinds.collect()
    }
}

#[tokio::test]
async fn the_handshake_is_answered_with_its_echo() {
    let server = Server::start().await;
    let mut good = Letter::plain("safe", "");
    good.query
        .push(("echostr", "8651467890123456789".to_owned()));
    let get = async |letter: &Letter| server.call(Method::GET, &letter.target(), "").await;
    for account in ["safe", "compat", "plain"] {
        let letter = Letter {
            account,
            ..good.clone()
        };
        assert_eq!(get(&letter).await, (200, "8651467890123456789".to_owned()));
    }
    let wrong = [
        good.clone().with("signature", &"0".repeat(40)),
        good.clone().with("nonce", "1"),
        good.clone().with("echostr", "<script>"),
        good.clone().without("timestamp"),
        Letter {
            account: "nobody",
            ..good.clone()
        },
        Letter {
            query: Vec::new(),
            ..good
        },
    ];
    for letter in wrong {
        let (status, text) = get(&letter).await;
        assert!(
            (400..500).contains(&status),
            "{status} to {}",
            letter.target()
        );
        assert!(!text.contains("script"), "{text}");
    }
    assert_eq!(server.rows().await, 0);
}

#[tokio::test]
async fn every_mode_takes_its_own_callbacks_in() {
    let server = Server::start().await;
    let json = |openid: &str| {
        serde_json::json!({
            "ToUserName": "gh_1", "FromUserName": openid, "CreateTime": NOW.seconds(),
            "MsgType": "event", "Event": "subscribe", "EventKey": "",
        })
        .to_string()
    };
    server
        .accepts(&Letter::sealed(SAFE, &follow("oSafe")))
        .await;
    server
        .accepts(&Letter::sealed(SAFE, &json("oSafeJson")))
        .await;
    // Compat: the readable copy is signed by nobody, so it is not what counts.
    let mut compat = Letter::sealed(COMPAT, &follow("oCompat"));
    let fake = xml("oFake", NOW.seconds(), FOLLOW);
    let encrypted = &compat.body[compat.body.find("<Encrypt>").unwrap()..];
    compat.body = fake.replace("</xml>", encrypted);
    server.accepts(&compat).await;
    let second = |letter: Letter, nonce: &str| {
        let timestamp = NOW.seconds().to_string();
        letter
            .with("signature", &sign(&[TOKEN, &timestamp, nonce]))
            .with("nonce", nonce)
    };
    server
        .accepts(&Letter::plain("plain", &follow("oPlain")))
        .await;
    server
        .accepts(&second(Letter::plain("plain", &json("oPlainJson")), "7"))
        .await;
    let known = "SELECT openid FROM followers ORDER BY id";
    let rows = database::rows(server.app.store().read(), known, []).await;
    let known: Vec<String> = rows
        .iter()
        .map(|row| row.try_get_by_index(0).unwrap())
        .collect();
    assert_eq!(
        known,
        ["oSafe", "oSafeJson", "oCompat", "oPlain", "oPlainJson"]
    );
    assert_eq!(server.count("SELECT count(*) FROM enrollments").await, 5);
}

#[tokio::test]
async fn unknown_events_are_kept_and_answered() {
    let server = Server::start().await;
    let event = |name: &str, rest: &str| {
        format!("<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[{name}]]></Event>{rest}")
    };
    let unknown = [
        event(
            "VIEW",
            "<EventKey><![CDATA[https://example.com]]></EventKey>",
        ),
        event(
            "TEMPLATESENDJOBFINISH",
            "<MsgID>200163836</MsgID><Status>success</Status>",
        ),
        event(
            "some_event_of_next_year",
            "<Deep><Er><Still>1</Still></Er></Deep>",
        ),
        "<MsgType><![CDATA[hologram]]></MsgType><MsgId>1</MsgId>".to_owned(),
    ];
    for (index, rest) in (0..).zip(&unknown) {
        let seconds = NOW.seconds() - 100 + index;
        server
            .accepts(&Letter::sealed(SAFE, &xml("oAnn", seconds, rest)))
            .await;
    }
    let kinds = ["other", "report", "other", "other"];
    assert_eq!(server.kinds().await, kinds);
    assert_eq!(server.count("SELECT count(*) FROM enrollments").await, 0);
    // The platform's own doings are about no follower.
    let finished = event("MASSSENDJOBFINISH", "<MsgID>1000001625</MsgID>");
    let finished = xml("mphelper", NOW.seconds(), &finished);
    server.accepts(&Letter::sealed(SAFE, &finished)).await;
    let nobodys = "SELECT count(*) FROM receipts WHERE follower_id = 0";
    assert_eq!(server.count(nobodys).await, 1);
    assert_eq!(server.count("SELECT count(*) FROM followers").await, 1);
}

#[tokio::test]
async fn every_kind_of_message_is_a_message() {
    let server = Server::start().await;
    let media = "<MediaId><![CDATA[m]]></MediaId>";
    let kinds = [
        ("text", "<Content><![CDATA[你好]]></Content>".to_owned()),
        (
            "image",
            format!("<PicUrl><![CDATA[http://p]]></PicUrl>{media}"),
        ),
        ("voice", format!("{media}<Format><![CDATA[amr]]></Format>")),
        (
            "video",
            format!("{media}<ThumbMediaId><![CDATA[t]]></ThumbMediaId>"),
        ),
        (
            "shortvideo",
            format!("{media}<ThumbMediaId><![CDATA[t]]></ThumbMediaId>"),
        ),
        (
            "location",
            "<Location_X>23.1</Location_X><Location_Y>113.3</Location_Y>".to_owned(),
        ),
        (
            "link",
            "<Title><![CDATA[t]]></Title><Url><![CDATA[http://u]]></Url>".to_owned(),
        ),
    ];
    for (index, (kind, rest)) in (0..).zip(&kinds) {
        let rest = format!("<MsgType><![CDATA[{kind}]]></MsgType>{rest}<MsgId>{index}</MsgId>");
        server
            .accepts(&Letter::sealed(SAFE, &xml("oAnn", NOW.seconds(), &rest)))
            .await;
    }
    assert_eq!(server.kinds().await, ["message"; 7]);
    let tap = "<MsgType>text</MsgType><Content>好</Content><MsgId>9</MsgId>\
               <bizmsgmenuid>101</bizmsgmenuid>";
    server
        .accepts(&Letter::sealed(SAFE, &xml("oAnn", NOW.seconds() + 1, tap)))
        .await;
    assert_eq!(server.kinds().await[7], "clicked");
    // Whoever writes is there, though we never heard of the follow.
    assert_eq!(server.count("SELECT following FROM followers").await, 1);
}

#[tokio::test]
async fn a_callback_that_comes_fifty_times_at_once_is_taken_in_once() {
    let server = Server::start().await;
    let letter = Letter::sealed(SAFE, &follow("oAnn"));
    let posts = (0..50).map(|_| server.post(&letter));
    for answer in futures_util::future::join_all(posts).await {
        assert_eq!(answer, (200, "success".to_owned()));
    }
    for table in ["receipts", "followers", "enrollments", "grants"] {
        let sql = format!("SELECT count(*) FROM {table}");
        assert_eq!(server.count(&sql).await, 1, "{table}");
    }
}

#[tokio::test]
async fn the_previous_key_opens_while_the_platform_changes_to_the_new_one() {
    let server = Server::start().await;
    let at = NOW.seconds();
    server
        .accepts(&Letter::sealed_with(
            "safe",
            SAFE.1,
            OLD_KEY,
            &follow("oOld"),
            at,
        ))
        .await;
    server
        .accepts(&Letter::sealed_with(
            "safe",
            SAFE.1,
            KEY,
            &follow("oNew"),
            at,
        ))
        .await;
    assert_eq!(server.count("SELECT count(*) FROM followers").await, 2);
}

#[tokio::test]
async fn while_nothing_can_be_stored_the_platform_is_asked_to_come_again() {
    let server = Server::start().await;
    server.app.store().close().await;
    for letter in [
        Letter::sealed(SAFE, &follow("oAnn")),
        Letter::plain("plain", &follow("oAnn")),
    ] {
        assert_eq!(server.post(&letter).await.0, 503);
    }
    let forged = Letter::sealed(SAFE, &follow("oAnn")).with("nonce", "1");
    assert_eq!(
        server.post(&forged).await.0,
        403,
        "a stranger learns nothing of it"
    );
    let read = store::open_to_read(&server.database.url).await.unwrap();
    let receipts = "SELECT count(*) FROM receipts";
    assert_eq!(database::number(&read, receipts).await, 0);
}
