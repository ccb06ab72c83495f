//! One contract for every platform: the server and a platform over sockets, whichever it is.
//!
//! A case says what must hold; where platforms differ by their own documents (`Kind`), it says how.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod cases;
mod phone;
mod preview;
mod stage;

use stage::Kind;

/// Each case on each platform, as a test of its own.
macro_rules! contract {
    ($($case:ident),* $(,)?) => { $(
        mod $case {
            use super::{Kind, cases};

            #[tokio::test]
            async fn wechat() {
                cases::$case(Kind::Wechat).await;
            }

            #[tokio::test]
            async fn telegram() {
                cases::$case(Kind::Telegram).await;
            }

            #[tokio::test]
            async fn line() {
                cases::$case(Kind::Line).await;
            }

            #[tokio::test]
            async fn webhook() {
                cases::$case(Kind::Webhook).await;
            }

            #[tokio::test]
            async fn wecom_kf() {
                cases::$case(Kind::WecomKf).await;
            }
        }
    )* };
}

contract! {
    a_follow_brings_the_messages,
    after_somebody_left_nothing_comes,
    a_forged_callback_is_refused_and_leaves_nothing,
    an_event_told_again_counts_once,
    a_second_call_under_the_same_key_brings_nothing,
    a_rate_is_waited_for_as_the_platform_says,
    whoever_blocks_the_account_is_sent_nothing_more,
    an_answer_that_never_comes_is_unknown,
    an_answer_that_is_garbage_is_unknown,
    a_refusal_is_a_refusal,
    a_callback_that_is_too_long_is_refused,
}
