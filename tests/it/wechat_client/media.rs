//! Files on their way to the platform: uploaded once, kept, renewed, and refused when unfit.

use dripwheel::journey::message::{Asset, News, Video};
use serde_json::Value;

use super::*;

const UPLOAD: &str = "/cgi-bin/media/upload";
const UPLOAD_PICTURE: &str = "/cgi-bin/media/uploadimg";

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and so on";
const JPG: &[u8] = b"\xff\xd8\xff\xe0 and so on";
const MP4: &[u8] = b"\x00\x00\x00\x18ftypmp42 and so on";

/// A world whose shelf has one file of each type, named by it.
fn world() -> World {
    let files = [("png", PNG), ("jpg", JPG), ("mp4", MP4), ("svg", b"<svg/>")];
    let files = files.map(|(name, bytes)| (name.to_owned(), bytes.to_vec()));
    World {
        shelf: Arc::new(MemoryShelf {
            files: HashMap::from(files),
            ..MemoryShelf::default()
        }),
        ..World::default()
    }
}

fn file(name: &str) -> Asset {
    Asset::File {
        file: format!("assets/a.{name}"),
        sha256: name.to_owned(),
    }
}

fn image() -> Message {
    Message::Image(file("png"))
}

/// A platform that numbers its uploads, takes `good` media ids only, and serves a picture at /a.png.
async fn media_platform(good: impl Fn(&str) -> bool + Send + Sync + 'static) -> ScriptedPlatform {
    let uploads = AtomicUsize::new(0);
    platform(move |asked| match asked.path.as_str() {
        UPLOAD => {
            let n = uploads.fetch_add(1, Ordering::SeqCst) + 1;
            let kind = &asked.query["type"];
            Say::Json(format!(
                r#"{{"type":"{kind}","media_id":"media-{n}","created_at":1700000000}}"#
            ))
        }
        UPLOAD_PICTURE => Say::json(r#"{"url":"http://mmbiz.example/p"}"#),
        "/a.png" => Say::Json(String::from_utf8_lossy(b"GIF89a").into_owned()),
        SEND => {
            let body = asked.json();
            let id = body["image"]["media_id"].as_str();
            if id.is_none_or(&good) {
                Say::json(OK)
            } else {
                Say::errcode(40007)
            }
        }
        _ => Say::status("404 No", "", ""),
    })
    .await
}

fn last_sent(platform: &ScriptedPlatform) -> Value {
    platform.asked(SEND).last().unwrap().json()
}

#[tokio::test]
async fn a_file_is_uploaded_once_however_many_want_it() {
    let platform = media_platform(|_| true).await;
    let client = world().client(&platform.base);
    let sends: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { send(&client, image()).await })
        })
        .collect();
    for sent in sends {
        assert_eq!(sent.await.unwrap().class, AnswerClass::Accepted);
    }
    let uploads = platform.asked(UPLOAD);
    assert_eq!((uploads.len(), platform.count(SEND)), (1, 50));
    assert_eq!(last_sent(&platform)["image"]["media_id"], "media-1");
    assert_eq!(uploads[0].query["type"], "image");
    let body = String::from_utf8_lossy(&uploads[0].body);
    assert!(
        body.contains(r#"name="media"; filename="media.png""#),
        "{body}"
    );
    assert!(body.contains("Content-Type: image/png"), "{body}");
    let holds_the_file = uploads[0].body.windows(PNG.len()).any(|part| part == PNG);
    assert!(holds_the_file);
}

#[tokio::test]
async fn an_upload_outlives_a_restart_until_it_is_old() {
    let platform = media_platform(|_| true).await;
    let world = world();
    for expected in [1, 1] {
        let answer = send(&world.client(&platform.base), image()).await;
        assert_eq!(answer.class, AnswerClass::Accepted);
        assert_eq!(platform.count(UPLOAD), expected);
    }
    let client = world.client(&platform.base);
    for (hours, expected) in [(59, 1), (2, 2), (1, 2)] {
        world.clock.advance(Duration::from_secs(hours * 3_600));
        assert_eq!(send(&client, image()).await.class, AnswerClass::Accepted);
        assert_eq!(platform.count(UPLOAD), expected, "after {hours} more hours");
    }
}

#[tokio::test]
async fn a_lost_media_id_is_uploaded_again_once_for_all() {
    let platform = media_platform(|id| id != "media-1").await;
    let world = world();
    let client = world.client(&platform.base);
    let sends: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { send(&client, image()).await })
        })
        .collect();
    for sent in sends {
        assert_eq!(sent.await.unwrap().class, AnswerClass::Accepted);
    }
    assert_eq!(platform.count(UPLOAD), 2);
    let kept: Vec<_> = world
        .shelf
        .uploads
        .lock()
        .unwrap()
        .values()
        .cloned()
        .collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].media_id, "media-2");
}

#[tokio::test]
async fn a_media_id_that_is_lost_twice_drops_the_message() {
    let platform = media_platform(|_| false).await;
    let answer = send(&world().client(&platform.base), image()).await;
    assert_eq!(answer.class, AnswerClass::Dropped);
    assert_eq!(answer.code, Some(40007));
    assert_eq!((platform.count(UPLOAD), platform.count(SEND)), (2, 2));
}

#[tokio::test]
async fn a_video_has_two_uploads_and_a_card_s_picture_becomes_a_url() {
    let platform = media_platform(|_| true).await;
    let client = world().client(&platform.base);
    let video = Message::Video(Video {
        file: file("mp4"),
        thumb: file("jpg"),
        title: "t".into(),
        description: "d".into(),
    });
    assert_eq!(send(&client, video).await.class, AnswerClass::Accepted);
    assert_eq!(last_sent(&platform)["video"]["media_id"], "media-1");
    assert_eq!(last_sent(&platform)["video"]["thumb_media_id"], "media-2");
    let kinds = platform.asked(UPLOAD);
    let kinds: Vec<_> = kinds.iter().map(|up| up.query["type"].as_str()).collect();
    assert_eq!(kinds, ["video", "thumb"]);

    let news = Message::News(News {
        title: "t".into(),
        description: "d".into(),
        url: "https://example.com".into(),
        picture: Some(file("jpg")),
    });
    assert_eq!(send(&client, news).await.class, AnswerClass::Accepted);
    assert_eq!(platform.count(UPLOAD_PICTURE), 1);
    let article = &last_sent(&platform)["news"]["articles"][0];
    assert_eq!(article["picurl"], "http://mmbiz.example/p");
}

#[tokio::test]
async fn a_file_of_a_url_is_fetched_only_where_the_settings_allow() {
    let platform = media_platform(|_| true).await;
    let url = format!("{}a.png?key={CANARY}", platform.base);
    let message = Message::Image(Asset::Url { url });

    let answer = send(&world().client(&platform.base), message.clone()).await;
    assert_eq!(answer.class, AnswerClass::Dropped, "{answer:?}");
    assert_eq!((platform.count("/a.png"), platform.count(SEND)), (0, 0));

    let open = World {
        allow_private_media: true,
        ..world()
    };
    let client = open.client(&platform.base);
    for _ in 0..2 {
        let answer = send(&client, message.clone()).await;
        assert_eq!(answer.class, AnswerClass::Accepted, "{answer:?}");
    }
    assert_eq!((platform.count("/a.png"), platform.count(UPLOAD)), (1, 1));
    // The type comes from the bytes, not from the name.
    let body = platform.asked(UPLOAD).remove(0).body;
    assert!(String::from_utf8_lossy(&body).contains("image/gif"));
}

#[tokio::test]
async fn an_unfit_or_missing_file_drops_the_message_and_says_why() {
    let platform = media_platform(|_| true).await;
    let client = world().client(&platform.base);
    for (asset, why) in [
        (file("svg"), "assets/a.svg: image must be PNG, JPG or GIF"),
        (file("mp4"), "not mp4"),
        (file("gone"), "assets/a.gone is not in the store"),
        (file(""), "was never read"),
    ] {
        let answer = send(&client, Message::Image(asset)).await;
        assert_eq!(answer.class, AnswerClass::Dropped);
        assert!(answer.detail.contains(why), "{answer:?}");
    }
    assert_eq!((platform.count(UPLOAD), platform.count(SEND)), (0, 0));
}

#[tokio::test]
async fn an_upload_that_fails_is_definite_for_the_message() {
    for (say, class) in [
        (Say::Reset, AnswerClass::RetrySoon),
        (Say::json("<html>"), AnswerClass::RetrySoon),
        (Say::json("{}"), AnswerClass::RetrySoon),
        (Say::status("502 Bad", "", ""), AnswerClass::RetrySoon),
        (Say::status("404 No", "", ""), AnswerClass::NeedsAttention),
        (Say::errcode(-1), AnswerClass::RetrySoon),
        (Say::errcode(40009), AnswerClass::Dropped),
        (Say::errcode(40001), AnswerClass::TokenStale),
    ] {
        let platform = platform(move |_| say.clone()).await;
        let answer = send(&world().client(&platform.base), image()).await;
        assert_eq!(answer.class, class, "{answer:?}");
        assert_eq!(platform.count(SEND), 0);
    }
}

#[tokio::test]
async fn a_used_up_upload_quota_keeps_nothing_else_from_being_sent() {
    let platform = platform(|asked| match asked.path.as_str() {
        UPLOAD => Say::errcode(45009),
        _ => Say::json(OK),
    })
    .await;
    let client = world().client(&platform.base);
    for code in [Some(45009), None, None] {
        let answer = send(&client, image()).await;
        assert!(
            matches!(answer.class, AnswerClass::NotBefore(_)),
            "{answer:?}"
        );
        // What rests is known, so the platform is asked once.
        assert_eq!(answer.code, code);
        let text = Message::Text("hello".into());
        assert_eq!(send(&client, text).await.class, AnswerClass::Accepted);
    }
    assert_eq!((platform.count(UPLOAD), platform.count(SEND)), (1, 3));
}

#[tokio::test]
async fn an_upload_goes_on_when_its_attempt_s_time_is_up() {
    let arrived = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&arrived);
    let platform = platform(move |asked| match asked.path.as_str() {
        UPLOAD => Say::Together(Arc::clone(&gate), r#"{"media_id":"m"}"#.into()),
        _ => Say::json(OK),
    })
    .await;
    let world = World {
        attempt_timeout: Duration::from_millis(300),
        ..world()
    };
    let client = world.client(&platform.base);
    let answer = send(&client, image()).await;
    assert_eq!(answer.class, AnswerClass::RetrySoon, "{answer:?}");
    arrived.wait().await;
    while send(&client, image()).await.class != AnswerClass::Accepted {}
    assert_eq!((platform.count(UPLOAD), platform.count(SEND)), (1, 1));
}
