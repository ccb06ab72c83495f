//! A follow becomes a conversation: server and platform together, from the first message to the
//! last, over days that pass in a second.

use std::time::Duration;

use dripwheel::sandbox::{Action, Fault, FaultKind, Profile};

use crate::pair::{Pair, START, Wishes};

const TOKEN_API: &str = "/cgi-bin/stable_token";
const UPLOAD: &str = "/cgi-bin/media/upload";
const UPLOAD_PICTURE: &str = "/cgi-bin/media/uploadimg";

const STORY: &str = "
sequence: story
trigger: follow
steps:
  - { id: hello, after: 0s, say: { text: '欢迎关注' } }
  - { id: guide, after: 10m, say: { image: assets/guide.png } }
  - id: offer
    after: 3h
    say:
      news: { title: 限时礼包, description: 今晚截止, url: 'https://example.com/offer', picture: assets/offer.png }
  - id: question
    after: 23h
    say:
      msgmenu:
        head: 你想了解什么？
        items:
          - { id: start, text: 怎么开始 }
          - { id: price, text: 价格 }
        tail: 点一下就能回复
";

const TWO: &str = "
sequence: two
trigger: follow
steps:
  - { id: hello, after: 0s, say: { text: hello } }
  - { id: later, after: 10m, say: { text: later } }
";

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

async fn pair(sequence: &str) -> Pair {
    Pair::start(Wishes {
        sequences: &[sequence],
        ..Wishes::default()
    })
    .await
}

#[tokio::test]
async fn every_step_arrives_in_order_at_its_instant() {
    let pair = pair(STORY).await;
    let person = pair.person(0);
    person.follows().await;
    pair.quiet().await;
    for (steps, after) in [(2, 10 * MINUTE), (3, 3 * HOUR), (4, 23 * HOUR)] {
        pair.at(after - Duration::from_millis(1));
        pair.quiet().await;
        assert_eq!(person.received().len(), steps - 1, "{after:?} are not over");
        pair.at(after);
        pair.quiet().await;
        assert_eq!(person.received().len(), steps, "after {after:?}");
    }

    let received = person.received();
    let instants: Vec<_> = received.iter().map(|(at, _)| at.since(START)).collect();
    assert_eq!(instants, [Duration::ZERO, 10 * MINUTE, 3 * HOUR, 23 * HOUR]);
    let [text, image, news, menu] = [0, 1, 2, 3].map(|index: usize| &received[index].1);
    assert_eq!(text["text"]["content"], "欢迎关注");
    let media_id = image["image"]["media_id"].as_str().unwrap();
    assert_eq!(pair.control().media(media_id).unwrap().mime, "image/png");
    let article = &news["news"]["articles"][0];
    assert_eq!(article["title"], "限时礼包");
    assert_eq!(article["url"], "https://example.com/offer");
    let picture = article["picurl"].as_str().unwrap();
    let shown = reqwest::get(picture).await.unwrap();
    let offer = include_bytes!("../../sequences/assets/offer.png");
    assert_eq!(shown.bytes().await.unwrap(), &offer[..]);
    assert_eq!(menu["msgmenu"]["head_content"], "你想了解什么？");
    assert_eq!(menu["msgmenu"]["list"][1]["content"], "价格");

    let rows = pair.rows("SELECT result FROM outcomes").await;
    let outcomes: Vec<i64> = rows
        .iter()
        .map(|row| row.try_get_by_index(0).unwrap())
        .collect();
    assert_eq!(outcomes, [1, 1, 1, 1]);
    assert_eq!(pair.number("SELECT state FROM enrollments").await, 2);
}

#[tokio::test]
async fn files_are_uploaded_once_for_all_and_again_before_the_platform_forgets_them() {
    let pair = pair(STORY).await;
    pair.count_calls(UPLOAD);
    pair.count_calls(UPLOAD_PICTURE);
    // Three hours apart, so that they do not all ask at once.
    for hours in [0, 3, 59, 61, 62] {
        pair.at(hours * HOUR);
        let person = pair.person(0);
        person.follows().await;
        pair.quiet().await;
        pair.at(hours * HOUR + 10 * MINUTE);
        pair.quiet().await;
        let image = &person.received()[1].1;
        let media_id = image["image"]["media_id"].as_str().unwrap();
        assert!(pair.control().media(media_id).is_some(), "after {hours} h");
        // 60 hours after the upload at 10 minutes, it is not used any more.
        let expected = if hours <= 59 { 1 } else { 2 };
        assert_eq!(pair.calls(UPLOAD), expected, "after {hours} h");
    }
    // The first card was due after three hours, the last one three hours after the last follow.
    assert_eq!(pair.calls(UPLOAD_PICTURE), 1);
    pair.at(65 * HOUR);
    pair.quiet().await;
    assert_eq!(pair.calls(UPLOAD_PICTURE), 2);
    assert_eq!(pair.calls(UPLOAD), 2);
}

#[tokio::test]
async fn an_expired_token_is_renewed_and_the_follower_notices_nothing() {
    let pair = pair(STORY).await;
    pair.count_calls(TOKEN_API);
    let person = pair.person(0);
    person.follows().await;
    pair.quiet().await;
    pair.at(10 * MINUTE);
    pair.quiet().await;
    assert_eq!(pair.calls(TOKEN_API), 1);
    pair.at(3 * HOUR);
    pair.quiet().await;
    assert_eq!(pair.calls(TOKEN_API), 2);
    pair.at(23 * HOUR);
    pair.quiet().await;
    assert_eq!(pair.calls(TOKEN_API), 3);
    let errcodes: Vec<_> = person
        .calls()
        .iter()
        .map(|call| call.sent.errcode)
        .collect();
    assert_eq!(errcodes, [0, 0, 0, 0]);
}

#[tokio::test]
async fn nothing_is_sent_after_an_unfollow() {
    let pair = pair(STORY).await;
    let person = pair.person(0);
    person.follows().await;
    pair.quiet().await;
    pair.at(MINUTE);
    person.acts(Action::Unfollow).await;
    for after in [10 * MINUTE, 3 * HOUR, 23 * HOUR, 100 * HOUR] {
        pair.at(after);
        pair.quiet().await;
    }
    assert_eq!(person.calls().len(), 1, "not even tried");
    let cancelled = "SELECT CAST(sum(steps) AS BIGINT) FROM outcomes WHERE result = 5";
    assert_eq!(pair.number(cancelled).await, 3);
}

#[tokio::test]
async fn a_step_that_the_platform_does_not_grant_waits_for_a_message() {
    // The server believes in 48 hours, the platform grants a minute.
    let pair = Pair::start(Wishes {
        sequences: &[TWO],
        platform_profile: Profile::Wechat2023,
        ..Wishes::default()
    })
    .await;
    let person = pair.person(0);
    person.follows().await;
    pair.quiet().await;
    pair.at(10 * MINUTE);
    pair.quiet().await;
    let errcodes: Vec<_> = person
        .calls()
        .iter()
        .map(|call| call.sent.errcode)
        .collect();
    assert_eq!(errcodes, [0, 45015]);
    assert_eq!(pair.number("SELECT state FROM enrollments").await, 1);
    let held = "SELECT count(*) FROM outcomes WHERE step = 1 AND result = 9 AND code = 45015";
    assert_eq!(pair.number(held).await, 1);
    assert_eq!(pair.number("SELECT following FROM followers").await, 1);

    pair.at(5 * HOUR);
    pair.quiet().await;
    assert_eq!(person.texts(), ["hello"]);
    person.writes("在吗").await;
    pair.quiet().await;
    assert_eq!(person.texts(), ["hello", "later"]);
    let (at, _) = person.received()[1];
    assert_eq!(at, START.plus(5 * HOUR));
    assert_eq!(pair.number("SELECT state FROM enrollments").await, 2);
}

#[tokio::test]
async fn somebody_who_left_without_our_hearing_of_it_is_believed_gone_when_the_platform_says_so() {
    let pair = pair(TWO).await;
    let person = pair.person(0);
    person.follows().await;
    pair.quiet().await;
    let unheard = Fault::new("callback", FaultKind::Drop, 1);
    pair.control().add_faults(vec![unheard]).unwrap();
    assert!(person.tries(Action::Unfollow).await.dropped);
    pair.at(10 * MINUTE);
    pair.quiet().await;
    assert_eq!(person.texts(), ["hello"]);
    assert_eq!(pair.number("SELECT following FROM followers").await, 0);
    let refused = "SELECT count(*) FROM outcomes WHERE step = 1 AND result = 2 AND code = 45015";
    assert_eq!(pair.number(refused).await, 1);
}
