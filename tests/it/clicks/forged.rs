//! Tokens that nobody was given: whatever is invented or changed leads nowhere.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{OFFER, stage, tokens};

/// How many are tried.
const TRIED: usize = 100_000;

/// Requests that are written before their answers are read.
const AT_ONCE: usize = 200;

/// What can become of a token in somebody's hands.
fn forged(token: &str, other: &str) -> impl Strategy<Value = String> + use<> {
    let bytes = |token: &str| URL_SAFE_NO_PAD.decode(token).unwrap();
    let (token, whole) = (token.to_owned(), token.to_owned());
    let (sealed, spliced) = (bytes(&token), bytes(other));
    prop_oneof![
        // One letter is another one.
        (0..36usize, "[A-Za-z0-9_-]").prop_map(move |(at, to)| {
            let mut token = token.clone();
            token.replace_range(at..=at, &to);
            token
        }),
        // Bits are turned.
        prop::collection::vec((0..27usize, 1..=255u8), 1..4).prop_map({
            let sealed = sealed.clone();
            move |turns| {
                let mut sealed = sealed.clone();
                turns.iter().for_each(|(at, bits)| sealed[*at] ^= bits);
                URL_SAFE_NO_PAD.encode(sealed)
            }
        }),
        // The beginning of one, the end of another.
        (1..27usize).prop_map(move |cut| {
            let mut both = sealed[..cut].to_vec();
            both.extend_from_slice(&spliced[cut..]);
            URL_SAFE_NO_PAD.encode(both)
        }),
        // Too short, too long, or twice.
        (0..36usize).prop_map({
            let whole = whole.clone();
            move |length| whole[..length].to_owned()
        }),
        "[A-Za-z0-9_-]{1,8}".prop_map(move |more| format!("{whole}{more}")),
        // Out of thin air.
        prop::array::uniform27(any::<u8>()).prop_map(|bytes| URL_SAFE_NO_PAD.encode(bytes)),
        "[A-Za-z0-9_.~%-]{1,40}",
    ]
}

/// The status lines of so many answers.
async fn statuses(stream: &mut TcpStream, count: usize) -> HashMap<String, usize> {
    let (mut read, mut found) = (Vec::new(), HashMap::new());
    for _ in 0..count {
        let (head, length) = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8(read.drain(..end + 4).collect()).unwrap();
                let length = head.to_ascii_lowercase();
                let length = length
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length:"));
                let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
                break (head, length);
            }
            assert!(stream.read_buf(&mut read).await.unwrap() > 0, "it hung up");
        };
        assert!(!head.to_ascii_lowercase().contains("location:"), "{head}");
        while read.len() < length {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0, "it hung up");
        }
        let body = String::from_utf8(read.drain(..length).collect()).unwrap();
        let first = head.lines().next().unwrap();
        *found.entry(format!("{first}: {body}")).or_default() += 1;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_anywhere_by_a_token_that_we_have_not_made() {
    let stage = stage(&[OFFER], "").await;
    for openid in ["ann", "bob"] {
        stage.follows(openid).await;
    }
    let ann = tokens(&stage.first_text("ann").await);
    let bob = tokens(&stage.first_text("bob").await);
    let mut made = [ann.clone(), bob.clone()].concat();
    made.sort_unstable();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = forged(&ann[0], &bob[1]);
    let address = stage.address();
    let address = address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut left, mut found) = (TRIED, HashMap::new());
    while left > 0 {
        let mut asked = String::new();
        let mut count = 0;
        while count < AT_ONCE.min(left) {
            let token = strategy.new_tree(&mut runner).unwrap().current();
            if made.binary_search(&token).is_err() {
                asked.push_str(&format!(
                    "GET /c/{token} HTTP/1.1\r\nHost: a.example\r\n\r\n"
                ));
                count += 1;
            }
        }
        stream.write_all(asked.as_bytes()).await.unwrap();
        for (answer, times) in statuses(&mut stream, count).await {
            *found.entry(answer).or_insert(0) += times;
        }
        left -= count;
    }
    // A percent sign that stands for nothing is refused before it comes to us.
    let (nowhere, others): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|(answer, _)| answer == "HTTP/1.1 404 Not Found: not found");
    let others: usize = others
        .iter()
        .map(|(answer, times)| {
            assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
            times
        })
        .sum();
    assert_eq!(nowhere[0].1 + others, TRIED);
    assert!(nowhere[0].1 > TRIED / 2, "{}", nowhere[0].1);
    assert!(stage.counts().await.is_empty());
    assert_eq!(stage.click(&ann[1]).await, "https://shop.example/bare");
    stage.end().await;
}
