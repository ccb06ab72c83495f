//! The platform's published vectors, and that whole callbacks made of them open and seal.
//!
//! A is its sample code's encryption, B the handshake of WeCom, C and D are compat-mode messages;
//! E (a third-party platform, XML) and F (an own account, JSON) are the examples of its 消息推送
//! page, replies included.

use proptest::prelude::*;
use serde_json::json;

use super::cipher::Cipher;
use super::envelope::{Door, Doubt, Mode, Query, Refusal, Reply, TIMESTAMP_WINDOW, open, seal};
use super::signature;
use super::xml::Format;
use crate::clock::Timestamp;
use crate::journey::event::Event;

pub(super) const SPAM_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
pub(super) const SPAM_APP: &str = "wx2c2769f8efd9abc2";
pub(super) const SEALED_A: &str =
    "jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg==";
pub(super) const SEALED_B: &str =
    "P9nAzCzyDtyTWESHep1vC5X9xho/qYX3Zpb4yKa9SKld1DsH3Iyt3tP3zNdtp+4RPcs8TgAE7OaBO+FZXvnaqQ==";
pub(super) const SENT_C: i64 = 1_409_735_669;
pub(super) const SIGNATURE_C: &str = "5d197aaffba7e9b25a30732f161a50dee96bd5fa";
pub(super) const SEALED_C: &str = "hyzAe4OzmOMbd6TvGdIOO6uBmdJoD0Fk53REIHvxYtJlE2B655HuD0m8KUePWB3+LrPXo87wzQ1QLvbeUgmBM4x6F8PGHQHFVAFmOD2LdJF9FrXpbUAh0B5GIItb52sn896wVsMSHGuPE328HnRGBcrS7C41IzDWyWNlZkyyXwon8T332jisa+h6tEDYsVticbSnyU8dKOIbgU6ux5VTjg3yt+WGzjlpKn6NPhRjpA912xMezR4kw6KWwMrCVKSVCZciVGCgavjIQ6X8tCOp3yZbGpy0VxpAe+77TszTfRd5RJSVO/HTnifJpXgCSUdUue1v6h0EIBYYI1BD1DlD+C0CR8e6OewpusjZ4uBl9FyJvnhvQl+q5rv1ixrcpCumEPo5MJSgM9ehVsNPfUM669WuMyVWQLCzpu9GhglF2PE=";
pub(super) const SEALED_D: &str = "mfBCs65c67CeJw22u4VT2TD73q5H06+ocrAIxswCaeZ/d/Lw0msSZFHY0teqgSYiI1zR2gD2DKrB3TIrmX/liNSDrGqS8jSI/WPeKB5VPr7Ezr7gomZAyGCwJSgT1TRFWPfONGJMxuj2nk4faTuspAuVIFQ6SHwZuJBZC7mcJp7Cgr9cUhATQWDbOPaE7ukZBTV2YqyzH+UI2AK+J1S47cE79k1RX8t0hcTz/O0hlK8DGXKnvYv88qKQcI7z4iaajqHfRVZKBNyOODabs+It+ZfM3dWTeFcPgDbGtIEnpt/EDtuuA/zMvtkaKdHdswPnVZQ+xdwbYr3ldGvfT8HlEYEgkgKaThxTFobVlwzu2ZkXCjicbP3xdr15Iq48ObgzPpqYuZ3IEoyggZDKClquk0u0orMck4GTF/XyE8yGzc4=";
const SEALED_E: &str = "D7yzvUNAL930rd28wf21s4hvXhz0L6Uit/p2Di6C5DHyYGpEgdBRnKjBec34JwoQXicwaZC7fOVihW80F4VtsdvE//1vr7oAbqjDv8KenVp+ajKYpJnyQ4zMRhIC+a31fCVOMC03FfzV/QuC94kBP55a+Za3sJgvAn+ZbsNqZI5DkyuzkhQN8OBqCzFhizGmy0xpM0MEA4agpvE+RuNO1rhHTtuJB5yltw1FiYzecSXJ+y/D2r81VkRn2eYjh2ltsoyfbDR7Is6ookXIFxTfyeNyeHxMeT4KN5WpCDmSbTcUYrbBUlkGLJ9n/rU8YOywma6G7aTb7KZKOqCxgfoUlYEZPk4FUL/TK7ShriFDMVCLyjQJ15Ob++agDWtcxhfUfe6HIoIpRW8mKNBQiY/Jd1svvuskA1wLef1RTtzKfMpagSCX/laZINmdnX4zrF6kIaR9P4xQrWXbsTFHTYe0Mg==";
const SEALED_F: &str = "+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04=";

pub(super) fn door(mode: Mode, token: &str, app_id: &str, key: &str) -> Door {
    Door {
        token: token.into(),
        previous_token: None,
        cipher: Some(Cipher::new(app_id, &[key]).unwrap()),
        mode,
        timestamp_window: TIMESTAMP_WINDOW,
    }
}

pub(super) fn spam_door(mode: Mode) -> Door {
    door(mode, "spamtest", SPAM_APP, SPAM_KEY)
}

pub(super) fn zero_door(app_id: &str) -> Door {
    door(Mode::Safe, "AAAAA", app_id, &"A".repeat(43))
}

pub(super) fn query(pairs: &[(&str, &str)]) -> Query {
    let object: serde_json::Map<_, _> = pairs
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .collect();
    serde_json::from_value(object.into()).unwrap()
}

pub(super) fn aes_query(sent: i64, nonce: &str, signature: &str) -> Query {
    query(&[
        ("timestamp", &sent.to_string()),
        ("nonce", nonce),
        ("encrypt_type", "aes"),
        ("msg_signature", signature),
    ])
}

pub(super) fn query_c() -> Query {
    aes_query(SENT_C, "1320562132", SIGNATURE_C)
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

pub(super) fn sealed_xml(encrypted: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[gh_x]]></ToUserName><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"
    )
}

/// A body for the door of vector C, signed as the platform would.
pub(super) fn signed(encrypted: &str) -> (Query, String) {
    let parts = ["spamtest", &SENT_C.to_string(), "1", encrypted];
    let query = aes_query(SENT_C, "1", &signature::sign(&parts));
    (query, sealed_xml(encrypted))
}

pub(super) fn refusal(door: &Door, query: &Query, body: &str) -> Refusal {
    open(door, query, body.as_bytes(), at(SENT_C)).unwrap_err()
}

#[test]
fn every_published_signature_is_met() {
    for (parts, signature) in [
        (
            vec!["pamtest", "1409304348", "xxxxxx", SEALED_A],
            "82c962d39941aa48552f90ef55aa323dc620cc10",
        ),
        (
            vec!["QDG6eK", "1409659589", "263014780", SEALED_B],
            "5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3",
        ),
        (
            vec!["AAAAA", "1715943329", "1590219412"],
            "cc0c594499c1634947d5b502f158ee518947db27",
        ),
        (
            vec!["AAAAA", "1714112445", "415670741"],
            "6c5c811b55cc85e0e1b54100749188c20beb3f5d",
        ),
    ] {
        assert!(signature::verify(&parts, signature), "{signature}");
    }
}

#[test]
fn both_compat_vectors_open_and_their_plain_half_is_ignored() {
    let query_d = aes_query(
        1_410_349_438,
        "298025754",
        "003fee52ecc56afb46c00b5c7721be87860ce785",
    );
    let vectors = [
        (SEALED_C, SENT_C, query_c()),
        (SEALED_D, 1_410_349_438, query_d),
    ];
    for (sealed, sent, query) in vectors {
        let both = sealed_xml(sealed).replace(
            "<Encrypt>",
            "<FromUserName>forged</FromUserName><MsgType>event</MsgType><Event>CLICK</Event><Encrypt>",
        );
        let door = spam_door(Mode::Compat);
        let opened = open(&door, &query, both.as_bytes(), at(sent)).unwrap();
        assert_eq!((opened.format, opened.key_index), (Format::Xml, Some(0)));
        let arrival = opened.message.arrival;
        assert_ne!(arrival.openid, "forged");
        assert!(
            matches!(arrival.event, Event::MessageReceived { message_kind, .. } if message_kind == "text")
        );
        // It happened a second before it was sent.
        assert!((sent - 1..=sent).contains(&arrival.created_at.seconds()));
    }
}

#[test]
fn the_component_vector_opens_and_its_reply_is_sealed_to_the_byte() {
    let door = zero_door("wx134c8103faa5a59e");
    let query = aes_query(
        1_715_943_329,
        "1590219412",
        "6c12a4205838198b8fa631b3220723bb07f1015c",
    );
    let opened = open(
        &door,
        &query,
        sealed_xml(SEALED_E).as_bytes(),
        at(1_715_943_329),
    )
    .unwrap();
    assert_eq!(
        opened.message.arrival.event,
        Event::Other {
            name: "debug_demo".into()
        }
    );
    assert_eq!(opened.message.to_user_name, "gh_97417a04a28d");
    let reply = Reply {
        text: "<xml><demo_resp>[CDATA[good luck]]</demo_resp></xml>",
        sent_at: at(1_713_424_427),
        nonce: "415670741",
        random: *b"999951349e8ee746",
    };
    assert_eq!(
        seal(&door, opened.key_index, opened.format, &reply),
        "<xml>\n<Encrypt><![CDATA[hE8R6mGXHkJJjU72KxzKUd1GEkKJaEZq7vRL8XgK3o+00k8JGq6+pZJUIlTSyhsX+bxIBQ72g3GyvDdIZcr6+3HAZbSvPT9t/o11MI7d6WELwqrGd7jMnV0zv3Zc9Nq7]]></Encrypt>\n<MsgSignature><![CDATA[03e0812039325c2712ef5f0f980fd14c70d6e307]]></MsgSignature>\n<TimeStamp>1713424427</TimeStamp>\n<Nonce><![CDATA[415670741]]></Nonce>\n</xml>"
    );
}

#[test]
fn the_json_vector_opens_and_its_reply_is_sealed_alike() {
    let door = zero_door("wxba5fad812f8e6fb9");
    let query = aes_query(
        1_714_112_445,
        "415670741",
        "046e02f8204d34f8ba5fa3b1db94908f3df2e9b3",
    );
    let body = json!({"ToUserName": "gh_97417a04a28d", "Encrypt": SEALED_F}).to_string();
    let opened = open(&door, &query, body.as_bytes(), at(1_714_112_445)).unwrap();
    assert_eq!((opened.format, opened.key_index), (Format::Json, Some(0)));
    assert_eq!(
        opened.message.arrival.openid,
        "o9AgO5Kd5ggOC-bXrbNODIiE3bGY"
    );
    let reply = Reply {
        text: r#"{"demo_resp":"good luck"}"#,
        sent_at: at(1_713_424_427),
        nonce: "415670741",
        random: *b"707722b803182950",
    };
    let sealed = seal(&door, opened.key_index, opened.format, &reply);
    let expected = json!({
        "Encrypt": "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==",
        "MsgSignature": "1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1",
        "TimeStamp": 1_713_424_427,
        "Nonce": "415670741",
    });
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&sealed).unwrap(),
        expected
    );
}

#[test]
fn a_signed_message_that_does_not_open_is_refused_like_a_wrong_signature() {
    let wrong = refusal(
        &spam_door(Mode::Safe),
        &aes_query(SENT_C, "1", "0"),
        &sealed_xml(SEALED_C),
    );
    let other_app = Cipher::new("wx0000000000000000", &[SPAM_KEY]).unwrap();
    for encrypted in [
        other_app.encrypt(b"<xml/>", 0, [1; 16]),
        SEALED_D[..SEALED_D.len() - 64].to_owned(),
        SEALED_C[4..].to_owned(),
        "AAAA".to_owned(),
        "!".to_owned(),
    ] {
        let (query, body) = signed(&encrypted);
        let refusal = refusal(&spam_door(Mode::Safe), &query, &body);
        assert!(
            matches!(refusal, Refusal::Forbidden(Doubt::Cipher(_))),
            "{refusal:?}"
        );
        assert_eq!(
            (refusal.status(), refusal.to_string()),
            (wrong.status(), wrong.to_string())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_500))]

    #[test]
    fn a_mutated_ciphertext_is_always_refused_for_its_signature(
        at_byte in 0..SEALED_C.len(), other in "[A-Za-z0-9+/=]", cut in 0_usize..3
    ) {
        let mut sealed = SEALED_C.to_owned();
        sealed.replace_range(at_byte..=at_byte, &other);
        sealed.truncate(sealed.len() - cut * 4);
        prop_assume!(sealed != SEALED_C);
        let refusal = refusal(&spam_door(Mode::Safe), &query_c(), &sealed_xml(&sealed));
        prop_assert_eq!(refusal, Doubt::Signature.into());
    }

    #[test]
    fn arbitrary_bodies_never_panic(
        body in prop::collection::vec(any::<u8>(), 0..300), start in "(<xml>|\\{\"Encrypt\":)?"
    ) {
        let body = [start.as_bytes(), &body].concat();
        for mode in [Mode::Safe, Mode::Compat] {
            prop_assert!(open(&spam_door(mode), &query_c(), &body, at(SENT_C)).is_err());
        }
    }
}
