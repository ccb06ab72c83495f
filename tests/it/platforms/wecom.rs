//! What only WeCom's 微信客服 has: the encrypted handshake, and messages that are read, not told.

use dripwheel::inbound::cipher::Cipher;
use dripwheel::inbound::signature::sign;
use dripwheel::sandbox::PlatformAct;

use super::kind::{CORP_ID, Kind};
use super::stage::Stage;
use crate::pair::{AES_KEY, TOKEN};

const SEQUENCE: &str = "sequence: hello
title: Hello
trigger: { message: {} }
reenter: always
steps:
  - { id: one, after: 0s, say: { text: hello } }
";

#[tokio::test]
async fn the_handshake_answers_what_was_encrypted_and_only_under_its_signature() {
    let stage = Stage::start(Kind::WecomKf, None, SEQUENCE).await;
    let cipher = Cipher::new(CORP_ID, &[AES_KEY]).unwrap();
    let echo = cipher.encrypt(b"1616140317555161061", 0, *b"0123456789abcdef");
    let now = stage.now_seconds().to_string();
    let signature = sign(&[TOKEN, &now, "7", &echo]);
    let ask = async |signature: &str, echo: &str| {
        let query = [
            ("msg_signature", signature),
            ("timestamp", &now),
            ("nonce", "7"),
            ("echostr", echo),
        ];
        stage.asks(&query).await
    };
    assert_eq!(
        ask(&signature, &echo).await,
        (200, "1616140317555161061".to_owned())
    );
    assert_eq!(ask(&"0".repeat(40), &echo).await.0, 403);
    let other = cipher.encrypt(b"2", 0, *b"0123456789abcdef");
    assert_eq!(
        ask(&signature, &other).await.0,
        403,
        "signed is another echo"
    );
    stage.stop().await;
}

#[tokio::test]
async fn what_happened_while_the_server_was_down_is_read_when_it_is_back() {
    let mut stage = Stage::start(Kind::WecomKf, None, SEQUENCE).await;
    let (ann, bob) = (stage.person(1), stage.person(2));
    stage.acts(&ann, PlatformAct::Write("hi".into())).await;
    stage.receives(&ann, &["hello"]).await;
    stage.stop_server().await;
    // Of many the later ones stand on further pages.
    for number in 0..250 {
        let words = format!("hi {number}");
        stage.happens_unheard(&ann, PlatformAct::Tap(words));
    }
    stage.happens_unheard(&bob, PlatformAct::Write("hi".into()));
    stage.start_server().await;
    stage.receives(&bob, &["hello"]).await;
    assert_eq!(stage.number("SELECT count(*) FROM receipts").await, 252);
    // The cursor was kept: nothing is read twice.
    let cursor = "SELECT CAST(cursor AS BIGINT) FROM kf_cursors";
    assert_eq!(stage.number(cursor).await, 252);
    stage.stop().await;
}
