//! What is not let in: forged, old, too large, too slow, or written to do harm.

use std::net::SocketAddr;

use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::letter::{FOLLOW, Letter, follow, xml};
use super::{COMPAT, KEY, NOW, OTHER_KEY, SAFE, Server};

/// What a stranger may try, knowing one good callback and everything but the secrets.
fn forged(good: &Letter) -> Vec<(&'static str, Letter)> {
    let old = NOW.seconds() - 3_600;
    let eve = follow("oEve");
    let at_door = |account| Letter {
        account,
        ..good.clone()
    };
    let sealed = |app_id, key, at| Letter::sealed_with("safe", app_id, key, &eve, at);
    let mut tampered = good.clone();
    let last = good.body.find("]]></Encrypt>").unwrap() - 1;
    tampered.body.replace_range(last..=last, "A");
    assert_ne!(tampered.body, good.body);
    let signature = &good.query[0].1;
    vec![
        ("a tampered body", tampered),
        ("no signature", good.clone().without("msg_signature")),
        (
            "a wrong signature",
            good.clone().with("msg_signature", &"f".repeat(40)),
        ),
        ("another nonce", good.clone().with("nonce", "1")),
        (
            "the URL's signature",
            good.clone().with("msg_signature", signature),
        ),
        ("an old request", sealed(SAFE.1, KEY, old)),
        ("another app's", sealed(COMPAT.1, KEY, NOW.seconds())),
        ("a strange key", sealed(SAFE.1, OTHER_KEY, NOW.seconds())),
        ("another account's door", at_door("compat")),
        ("no account's door", at_door("nobody")),
        ("plain at a safe door", Letter::plain("safe", &eve)),
        ("plain at a compat door", Letter::plain("compat", &eve)),
        (
            "plain that says aes",
            Letter::plain("safe", &eve).signing(""),
        ),
        ("old and plain", Letter::plain_at("plain", &eve, old)),
        (
            "a wrong plain signature",
            Letter::plain("plain", &eve).with("signature", "0"),
        ),
    ]
}

/// What no platform writes, whoever signed it.
fn malformed(good: &Letter) -> Vec<(&'static str, Letter)> {
    let (nothing, no_query) = (
        Letter {
            body: String::new(),
            ..good.clone()
        },
        Letter {
            query: Vec::new(),
            ..good.clone()
        },
    );
    let soon = follow("oEve").replace("1700000000", "soon");
    vec![
        ("nothing", nothing),
        ("no query", no_query),
        ("no follower", Letter::sealed(SAFE, &follow(""))),
        ("no time", Letter::sealed(SAFE, &soon)),
        ("not XML", Letter::sealed(SAFE, "hello")),
        ("half of it", Letter::sealed(SAFE, &follow("oEve")[..100])),
    ]
}

#[tokio::test]
async fn what_the_platform_did_not_send_is_refused_and_leaves_nothing() {
    let server = Server::start().await;
    let good = Letter::sealed(SAFE, &follow("oEve"));
    for (what, letter) in forged(&good).into_iter().chain(malformed(&good)) {
        let (status, text) = server.post(&letter).await;
        assert!((400..500).contains(&status), "{status} {text} to {what}");
        assert_ne!(text, "success");
        assert_eq!(server.rows().await, 0, "after {what}");
    }
    let twice = format!("{}&nonce=486452656", good.target());
    let (status, _) = server.call(Method::POST, &twice, &good.body).await;
    assert!((400..500).contains(&status), "{status} to two nonces");
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let target = good.target();
        let (status, _) = server.call(method.clone(), &target, &good.body).await;
        assert!((400..500).contains(&status), "{status} to {method}");
    }
    assert_eq!(server.rows().await, 0);
    // It was not for want of a good one.
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
