//! What only Telegram has: the answer to a callback may be a call.

use serde_json::{Value, json};

use super::kind::{Kind, SECRET_TOKEN};
use super::stage::Stage;

const SEQUENCE: &str = "sequence: more
title: More
trigger: { click: { key: more } }
steps:
  - { id: one, after: 0s, say: { text: hello } }
";

#[tokio::test]
async fn a_tap_is_answered_so_that_the_button_rests_and_counts_once() {
    let stage = Stage::start(Kind::Telegram, None, SEQUENCE).await;
    let update = json!({ "update_id": 5, "callback_query": {
        "id": "4382bfdwdsb323b2d9", "data": "more", "from": { "id": 1001, "language_code": "en" },
        "message": { "date": stage.now_seconds(), "chat": { "id": 1001, "type": "private" } },
    } });
    for _ in 0..2 {
        let head = ("x-telegram-bot-api-secret-token", SECRET_TOKEN);
        let (kind, said) = stage.tells(head, &update).await;
        assert_eq!(kind, "application/json");
        let call: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(call["method"], "answerCallbackQuery");
        assert_eq!(call["callback_query_id"], "4382bfdwdsb323b2d9");
    }
    assert_eq!(stage.number("SELECT count(*) FROM receipts").await, 1);
    assert_eq!(stage.number("SELECT count(*) FROM enrollments").await, 1);
    stage.stop().await;
}
