//! Callbacks over a real socket: whatever the platform sends is taken in once, and whatever it did
//! not send is refused and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::net::SocketAddr;
use std::sync::Arc;

use dripwheel::app::App;
use dripwheel::clock::{ManualClock, Timestamp};
use dripwheel::config::Config;
use dripwheel::inbound::cipher::Cipher;
use dripwheel::inbound::signature::sign;
use dripwheel::store::receipts::KINDS;
use dripwheel::yaml::render_all;
use reqwest::{Client, Method};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
    folder: TempDir,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
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
database: {{ url: 'sqlite://{folder}/doors.db' }}
sequences: {{ dir: '{folder}' }}
accounts:\n{accounts}",
            folder = folder.path().display(),
            accounts = accounts.concat()
        );
        let config = Config::from_text(&text, "doors", &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{}", render_all(&problems, false)));
        let clock = Arc::new(ManualClock::at(NOW));
        Self {
            app: App::start(&config, clock, None).await.unwrap(),
            client: Client::builder().no_proxy().build().unwrap(),
            folder,
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
        let statement = Statement::from_string(DbBackend::Sqlite, sql);
        let rows = self.app.store().read().query_all_raw(statement).await;
        rows.unwrap()[0].try_get_by_index(0).unwrap()
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
        let statement = Statement::from_string(DbBackend::Sqlite, sql);
        let rows = self.app.store().read().query_all_raw(statement).await;
        let kinds = rows.unwrap().into_iter().map(|row| {
            let kind: i64 = row.try_get_by_index(0).unwrap();
            KINDS[usize::try_from(kind).unwrap() - 1]
        });
        kinds.collect()
    }
}

/// A callback before it is posted, to be spoiled by tests.
#[derive(Clone)]
struct Letter {
    account: &'static str,
    query: Vec<(&'static str, String)>,
    body: String,
}

impl Letter {
    /// Signed for its URL only.
    fn plain(account: &'static str, body: &str) -> Self {
        Self::plain_at(account, body, NOW.seconds())
    }

    fn plain_at(account: &'static str, body: &str, seconds: i64) -> Self {
        let (timestamp, nonce) = (seconds.to_string(), "486452656".to_owned());
        let signature = sign(&[TOKEN, &timestamp, &nonce]);
        Self {
            account,
            query: vec![
                ("signature", signature),
                ("timestamp", timestamp),
                ("nonce", nonce),
            ],
            body: body.to_owned(),
        }
    }

    /// Encrypted and signed.
    fn sealed((account, app_id): (&'static str, &str), inner: &str) -> Self {
        Self::sealed_with(account, app_id, KEY, inner, NOW.seconds())
    }

    fn sealed_with(account: &'static str, app_id: &str, key: &str, inner: &str, at: i64) -> Self {
        let cipher = Cipher::new(app_id, &[key]).unwrap();
        let encrypted = cipher.encrypt(inner.as_bytes(), 0, *b"sixteen bytes ok");
        let body = format!(
            "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\
             <Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"
        );
        Self::plain_at(account, &body, at).signing(&encrypted)
    }

    /// Adds the signature over what is encrypted.
    fn signing(mut self, encrypted: &str) -> Self {
        let (timestamp, nonce) = (self.query[1].1.clone(), self.query[2].1.clone());
        let signature = sign(&[TOKEN, &timestamp, &nonce, encrypted]);
        self.query.push(("encrypt_type", "aes".to_owned()));
        self.query.push(("msg_signature", signature));
        self
    }

    /// The same with another value in the query.
    fn with(mut self, name: &str, value: &str) -> Self {
        let found = self.query.iter_mut().find(|(key, _)| *key == name);
        value.clone_into(&mut found.unwrap().1);
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.query.retain(|(key, _)| *key != name);
        self
    }

    fn target(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.query);
        format!("{}?{}", self.account, query.finish())
    }
}

/// A message of the platform's shape; `rest` comes after what all have.
fn xml(openid: &str, seconds: i64, rest: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\
         <FromUserName><![CDATA[{openid}]]></FromUserName>\
         <CreateTime>{seconds}</CreateTime>{rest}</xml>"
    )
}

const FOLLOW: &str = "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe]]></Event>\
     <EventKey><![CDATA[]]></EventKey>";

fn follow(openid: &str) -> String {
    xml(openid, NOW.seconds(), FOLLOW)
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
    let known = "SELECT group_concat(openid) FROM (SELECT openid FROM followers ORDER BY id)";
    let statement = Statement::from_string(DbBackend::Sqlite, known);
    let rows = server
        .app
        .store()
        .read()
        .query_all_raw(statement)
        .await
        .unwrap();
    let known: String = rows[0].try_get_by_index(0).unwrap();
    assert_eq!(known, "oSafe,oSafeJson,oCompat,oPlain,oPlainJson");
    assert_eq!(server.count("SELECT count(*) FROM enrollments").await, 5);
}

#[tokio::test]
async fn what_the_platform_did_not_send_is_refused_and_leaves_nothing() {
    let server = Server::start().await;
    let good = Letter::sealed(SAFE, &follow("oEve"));
    let old = NOW.seconds() - 3_600;
    let tampered = |from: &str, to: &str| {
        let mut letter = good.clone();
        letter.body = letter.body.replace(from, to);
        assert_ne!(letter.body, good.body);
        letter
    };
    let encrypted_end = good.body.find("]]></Encrypt>").unwrap();
    let last = good.body[..encrypted_end].chars().next_back().unwrap();
    let refused = [
        (
            "a tampered body",
            tampered(&format!("{last}]]></Encrypt>"), "A]]></Encrypt>"),
        ),
        ("no signature", good.clone().without("msg_signature")),
        (
            "a wrong signature",
            good.clone().with("msg_signature", &"f".repeat(40)),
        ),
        ("another nonce", good.clone().with("nonce", "1")),
        ("the signature of the URL alone", {
            let signature = good.query[0].1.clone();
            good.clone().with("msg_signature", &signature)
        }),
        (
            "an old request",
            Letter::sealed_with("safe", SAFE.1, KEY, &follow("oEve"), old),
        ),
        (
            "another app's",
            Letter::sealed_with("safe", COMPAT.1, KEY, &follow("oEve"), NOW.seconds()),
        ),
        (
            "a strange key",
            Letter::sealed_with("safe", SAFE.1, OTHER_KEY, &follow("oEve"), NOW.seconds()),
        ),
        (
            "another account's door",
            Letter {
                account: "compat",
                ..good.clone()
            },
        ),
        (
            "no account's door",
            Letter {
                account: "nobody",
                ..good.clone()
            },
        ),
        (
            "plain text at a safe door",
            Letter::plain("safe", &follow("oEve")),
        ),
        (
            "plain text at a compat door",
            Letter::plain("compat", &follow("oEve")),
        ),
        (
            "plain text that says aes",
            Letter::plain("safe", &follow("oEve")).signing(""),
        ),
        (
            "an old plain request",
            Letter::plain_at("plain", &follow("oEve"), old),
        ),
        (
            "a plain wrong signature",
            Letter::plain("plain", &follow("oEve")).with("signature", "0"),
        ),
        (
            "nothing",
            Letter {
                body: String::new(),
                ..good.clone()
            },
        ),
        (
            "no query",
            Letter {
                query: Vec::new(),
                ..good.clone()
            },
        ),
        ("no follower", Letter::sealed(SAFE, &follow(""))),
        (
            "no time",
            Letter::sealed(SAFE, &follow("oEve").replace("1700000000", "soon")),
        ),
        ("not XML", Letter::sealed(SAFE, "hello")),
        ("half of it", Letter::sealed(SAFE, &follow("oEve")[..100])),
    ];
    for (what, letter) in refused {
        let (status, text) = server.post(&letter).await;
        assert!((400..500).contains(&status), "{status} {text} to {what}");
        assert_ne!(text, "success");
        assert_eq!(server.rows().await, 0, "after {what}");
    }
    let twice = format!("{}&nonce=486452656", good.target());
    let (status, _) = server.call(Method::POST, &twice, &good.body).await;
    assert!(
        (400..500).contains(&status),
        "{status} to a nonce given twice"
    );
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let (status, _) = server
            .call(method.clone(), &good.target(), &good.body)
            .await;
        assert!((400..500).contains(&status), "{status} to {method}");
    }
    assert_eq!(server.rows().await, 0);
    server.accepts(&good).await;
}

#[tokio::test]
async fn a_plain_signature_lets_one_body_in() {
    let server = Server::start().await;
    let first = Letter::plain("plain", &follow("oAnn"));
    server.accepts(&first).await;
    server.accepts(&first).await;
    let second = Letter {
        body: follow("oEve"),
        ..first
    };
    let (status, _) = server.post(&second).await;
    assert_eq!(status, 403);
    assert_eq!(server.count("SELECT count(*) FROM followers").await, 1);
}

#[tokio::test]
async fn a_body_is_bounded_in_size_and_time() {
    let server = Server::start().await;
    let padding = format!("<Content>{}</Content>", "x".repeat(70_000));
    let large = Letter::plain(
        "plain",
        &xml("oEve", NOW.seconds(), &format!("{FOLLOW}{padding}")),
    );
    assert_eq!(server.post(&large).await.0, 413);
    let sealed = Letter::sealed(SAFE, &large.body);
    assert_eq!(server.post(&sealed).await.0, 413);

    // Without a length nobody knows before that it will be too much.
    let target = Letter::plain("plain", "").target();
    let (mut reading, mut writing) =
        connect(server.app.addr(), &target, "Transfer-Encoding: chunked").await;
    let endless = tokio::spawn(async move {
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        while writing.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    assert_eq!(status(&mut reading).await, 413);
    endless.abort();

    // Three bytes of a hundred, and no more.
    let (mut reading, mut writing) =
        connect(server.app.addr(), &target, "Content-Length: 100").await;
    writing.write_all(b"<xm").await.unwrap();
    assert_eq!(status(&mut reading).await, 408);
    assert_eq!(server.rows().await, 0);
}

async fn connect(
    addr: SocketAddr,
    target: &str,
    header: &str,
) -> (
    tokio::net::tcp::OwnedReadHalf,
    tokio::net::tcp::OwnedWriteHalf,
) {
    let (reading, mut writing) = TcpStream::connect(addr).await.unwrap().into_split();
    let head = format!("POST /callback/{target} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n");
    writing.write_all(head.as_bytes()).await.unwrap();
    (reading, writing)
}

async fn status(reading: &mut tokio::net::tcp::OwnedReadHalf) -> u16 {
    let mut line = [0; 12];
    reading.read_exact(&mut line).await.unwrap();
    let line = String::from_utf8_lossy(&line);
    line.strip_prefix("HTTP/1.1 ").unwrap().parse().unwrap()
}

/// Resident memory of this process, in bytes.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn entities_and_deep_nests_are_refused_before_they_cost_anything() {
    let server = Server::start().await;
    // Each entity is ten of the one before: expanded, 10 GB.
    let mut laughs = "<!DOCTYPE xml [<!ENTITY a0 \"ha\">".to_owned();
    for n in 1..=10 {
        let ten = format!("&a{};", n - 1).repeat(10);
        laughs.push_str(&format!("<!ENTITY a{n} \"{ten}\">"));
    }
    laughs.push_str("]>");
    laughs.push_str(&xml(
        "oEve",
        NOW.seconds(),
        &format!("{FOLLOW}<Content>&a10;</Content>"),
    ));
    // One large entity, many times: 300 MB without any depth.
    let large = format!(
        "<!DOCTYPE xml [<!ENTITY a \"{}\">]>{}",
        "x".repeat(10_000),
        xml(
            "oEve",
            NOW.seconds(),
            &format!("<Content>{}</Content>", "&a;".repeat(10_000))
        )
    );
    let outside = "<!DOCTYPE xml [<!ENTITY a SYSTEM \"file:///etc/hostname\">]>".to_owned()
        + &xml("&a;", NOW.seconds(), FOLLOW);
    let deep = format!("{}{}", "<a>".repeat(8_000), "</a>".repeat(8_000));
    let wide = xml("oEve", NOW.seconds(), &"<a/>".repeat(12_000));
    let deep_json = format!("{{\"a\":{}", "[".repeat(20_000));
    let before = memory();
    for _ in 0..20 {
        for body in [&laughs, &large, &outside, &deep, &wide, &deep_json] {
            let (plain, _) = server.post(&Letter::plain("plain", body)).await;
            assert_eq!(plain, 400, "{body:.80}");
            let sealed = Letter::sealed(SAFE, body);
            let expected = if sealed.body.len() > 65_536 { 413 } else { 400 };
            assert_eq!(server.post(&sealed).await.0, expected, "{body:.80}");
        }
    }
    let grown = memory().saturating_sub(before);
    // Other tests of this process run at the same time; an expanded entity is far more.
    assert!(grown < 200 << 20, "{grown} bytes");
    assert_eq!(server.rows().await, 0);
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
    assert_eq!(server.kinds().await, ["other"; 4]);
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
    assert!(server.folder.path().join("doors.db").exists());
}
