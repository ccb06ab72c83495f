//! The console over a real socket, as a browser would use it.

use dripwheel::clock::Clock;
use dripwheel::journey::answer::{Answer, AnswerClass};
use dripwheel::journey::event::Event;
use dripwheel::store::{self, versions};
use dripwheel::story::{self, Known, Lang, words};
use futures_util::StreamExt;
use reqwest::{RequestBuilder, Response, StatusCode};

use crate::world::{READ_KEY, WRITE_KEY, World, accepted, seconds};

/// Somebody who has signed in.
struct Browser<'a> {
    world: &'a World,
    cookie: String,
}

impl<'a> Browser<'a> {
    async fn sign_in(world: &'a World, key: &str) -> Self {
        let response = login(world, key, "/").send().await.expect("is answered");
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        let cookie = response.headers()["set-cookie"].to_str().expect("ASCII");
        for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        Self { world, cookie }
    }

    async fn get(&self, path: &str) -> Response {
        let request = self.world.get(path).header("Cookie", &self.cookie);
        request.send().await.expect("is answered")
    }

    async fn page(&self, path: &str) -> String {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.text().await.expect("is text")
    }

    fn post(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let url = format!("{}{path}", self.world.base);
        let request = self.world.client.post(url).header("Cookie", &self.cookie);
        form(request, fields)
    }

    async fn token(&self) -> String {
        token_of(&self.page("/").await)
    }
}

fn token_of(page: &str) -> String {
    let (_, behind) = page
        .split_once("name=\"token\" value=\"")
        .expect("has a form");
    let (token, _) = behind.split_once('"').expect("is quoted");
    token.to_owned()
}

fn form(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields);
    request
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(body.finish())
}

fn login(world: &World, key: &str, next: &str) -> RequestBuilder {
    let url = format!("{}/login?next={next}", world.base);
    form(world.client.post(url), &[("key", key)])
}

const ANN: &str = "/accounts/main/followers/ann";

#[tokio::test]
async fn nothing_is_shown_before_a_key_is_given() {
    let world = World::new().await;
    world.follow("ann").await;
    for path in [
        "/",
        ANN,
        "/accounts/main/followers",
        "/sequences/welcome",
        "/search?openid=ann",
        "/events",
        "/nothing",
    ] {
        let response = world.get(path).send().await.expect("is answered");
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{path}");
        let to = response.headers()["location"].to_str().expect("ASCII");
        assert!(to.starts_with("/login?next=%2F"), "{to}");
    }
    let response = login(&world, "not-a-key-0123456789", "/").send().await;
    let response = response.expect("is answered");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(!response.headers().contains_key("set-cookie"));
    let foreign = login(&world, READ_KEY, "//evil.example").send().await;
    assert_eq!(foreign.expect("is answered").headers()["location"], "/");
    let back = login(&world, READ_KEY, ANN).send().await;
    assert_eq!(back.expect("is answered").headers()["location"], ANN);
}

#[tokio::test]
async fn a_session_ends_with_the_sign_out_and_cannot_be_chosen_by_the_visitor() {
    let world = World::new().await;
    let chosen = login(&world, WRITE_KEY, "/").header("Cookie", "dripwheel=chosen");
    let response = chosen.send().await.expect("is answered");
    let cookies = response.headers().get_all("set-cookie");
    assert!(
        cookies
            .iter()
            .all(|one| !one.to_str().expect("ASCII").contains("chosen"))
    );
    let browser = Browser::sign_in(&world, WRITE_KEY).await;
    let token = browser.token().await;
    let wrong = browser.post("/logout", &[("token", "x")]).send().await;
    assert_eq!(wrong.expect("is answered").status(), StatusCode::FORBIDDEN);
    assert_eq!(browser.get("/").await.status(), StatusCode::OK);
    let out = browser.post("/logout", &[("token", &token)]).send().await;
    assert_eq!(out.expect("is answered").status(), StatusCode::SEE_OTHER);
    assert_eq!(browser.get("/").await.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_person_enrolls_and_cancels_by_form() {
    let world = World::new().await;
    world.follow("ann").await;
    let browser = Browser::sign_in(&world, WRITE_KEY).await;
    let token = browser.token().await;
    let send = async |act: &str, fields: &[(&str, &str)]| {
        let mut fields = fields.to_vec();
        fields.push(("token", &token));
        let path = format!("{ANN}/{act}");
        let response = browser.post(&path, &fields).send().await;
        let response = response.expect("is answered");
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        let to = response.headers()["location"].to_str().expect("ASCII");
        browser.page(to).await
    };
    let page = send("enroll", &[("sequence", "again")]).await;
    assert!(page.contains("Enrolled.") && page.contains("Again"));
    let page = send("enroll", &[("sequence", "welcome")]).await;
    assert!(page.contains("does not allow another passage"));
    let page = send("enroll", &[("sequence", "none")]).await;
    assert!(page.contains("No live sequence of this name"));
    let page = send("cancel", &[("sequence", "again")]).await;
    assert!(page.contains("Cancelled.") && page.contains("cancelled: by hand"));
    let page = send("cancel", &[]).await;
    assert!(page.contains("Cancelled."));
    let page = send("cancel", &[]).await;
    assert!(page.contains("nothing to cancel"));
}

#[tokio::test]
async fn forms_of_other_sites_and_of_readers_are_not_obeyed() {
    let world = World::new().await;
    world.follow("ann").await;
    let writer = Browser::sign_in(&world, WRITE_KEY).await;
    let reader = Browser::sign_in(&world, READ_KEY).await;
    let (writers, readers) = (writer.token().await, reader.token().await);
    assert_ne!(writers, readers);
    assert!(!reader.page(ANN).await.contains("/cancel"));
    let cancel = format!("{ANN}/cancel");
    let attempts = [
        writer.post(&cancel, &[]),
        writer.post(&cancel, &[("token", &readers)]),
        reader.post(&cancel, &[("token", &readers)]),
        writer
            .post(&cancel, &[("token", &writers)])
            .header("Sec-Fetch-Site", "cross-site"),
        writer
            .post(&cancel, &[("token", &writers)])
            .header("Origin", "http://evil.example"),
        writer
            .post(&cancel, &[("token", &writers)])
            .header("Origin", "null"),
        login(&world, WRITE_KEY, "/").header("Sec-Fetch-Site", "cross-site"),
    ];
    for attempt in attempts {
        let response = attempt.send().await.expect("is answered");
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }
    assert!(writer.page(ANN).await.contains("pill active"));
    let large = "x".repeat(10_000);
    let response = writer.post(&cancel, &[("token", &large)]).send().await;
    assert!(response.expect("is answered").status().is_client_error());
}

#[tokio::test]
async fn an_open_console_answers_only_to_names_of_this_machine() {
    let world = World::open().await;
    let open = world.get("/").send().await.expect("is answered");
    assert_eq!(open.status(), StatusCode::OK);
    let rebound = world.get("/").header("Host", "evil.example").send().await;
    let rebound = rebound.expect("is answered");
    assert_eq!(rebound.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn every_page_has_its_headers_and_what_others_wrote_is_escaped() {
    let world = World::new().await;
    let evil = "<script>alert(1)</script>\"'&";
    world.follow(evil).await;
    world.clock.advance(seconds(1));
    world
        .write(evil, "<img src=x onerror=alert(2)>\u{202e}")
        .await;
    world.clock.advance(seconds(1));
    let scene = Some("<svg onload=alert(3)>".to_owned());
    world.event("bob", Event::Followed { scene }).await;
    let refused = Answer {
        class: AnswerClass::Dropped,
        code: Some(40003),
        detail: "<b>invalid</b> openid".into(),
        reference: None,
    };
    assert_eq!(world.pass(seconds(5), refused).await, 2);
    let browser = Browser::sign_in(&world, WRITE_KEY).await;
    let path: String = url::form_urlencoded::byte_serialize(evil.as_bytes()).collect();
    let paths = [
        "/".to_owned(),
        "/accounts/main/followers".to_owned(),
        format!("/accounts/main/followers/{path}"),
        "/accounts/main/followers/bob".to_owned(),
        "/sequences/welcome".to_owned(),
        format!("/search?openid={path}%20x"),
        "/nothing".to_owned(),
        "/?lang=zh".to_owned(),
    ];
    for path in paths {
        let response = browser.get(&path).await;
        let headers = response.headers().clone();
        let policy = headers["content-security-policy"].to_str().expect("ASCII");
        assert!(
            policy.contains("script-src 'self'") && !policy.contains("unsafe"),
            "{path}"
        );
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["cache-control"], "no-store", "{path}");
        let page = response.text().await.expect("is text");
        for raw in [
            "<script>alert",
            "<img",
            "<svg onload",
            "<b>",
            "\u{202e}",
            " style=",
            "onclick",
        ] {
            assert!(!page.contains(raw), "{raw} on {path}");
        }
        for elsewhere in ["http://", "https://", "//cdn"] {
            assert!(!page.contains(elsewhere), "{elsewhere} on {path}");
        }
    }
    let page = browser.page("/accounts/main/followers/bob").await;
    assert!(page.contains("40003: the openid is not one of this account"));
}

#[tokio::test]
async fn pages_speak_the_visitors_language() {
    let world = World::new().await;
    world.follow("ann").await;
    let browser = Browser::sign_in(&world, READ_KEY).await;
    assert!(browser.page("/").await.contains("<html lang=\"en\">"));
    let request = world.get(ANN).header("Cookie", &browser.cookie);
    let accepting = request
        .header("Accept-Language", "zh-CN,zh;q=0.9,en;q=0.8")
        .send()
        .await;
    let page = accepting
        .expect("is answered")
        .text()
        .await
        .expect("is text");
    assert!(page.contains("<html lang=\"zh-CN\">") && page.contains("时间线"));
    let chosen = browser.get("/?lang=zh").await;
    let cookie = chosen.headers()["set-cookie"].to_str().expect("ASCII");
    assert!(cookie.starts_with("dripwheel_lang=zh-CN"), "{cookie}");
}

#[tokio::test]
async fn the_story_is_told_in_the_accounts_own_time() {
    let world = World::new().await;
    world.follow("ann").await;
    assert_eq!(world.pass(seconds(0), accepted()).await, 1);
    let browser = Browser::sign_in(&world, READ_KEY).await;
    let page = browser.page(ANN).await;
    assert!(page.contains("title=\"2026-11-20T04:00:00.000Z\">2026-11-20 12:00:00</time>"));
    assert!(page.contains("waits for 2026-11-20 12:10:00, in 10 min"));
    assert!(page.contains("sent on time"));
    let list = browser.page("/accounts/main/followers").await;
    assert!(list.contains("href=\"/accounts/main/followers/ann\""));
    let found = browser.get("/search?openid=ann").await;
    assert_eq!(found.headers()["location"], ANN);
    assert_eq!(
        browser.get("/search?openid=bob").await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_page_is_told_when_something_about_it_changed() {
    let world = World::new().await;
    world.follow("ann").await;
    let browser = Browser::sign_in(&world, READ_KEY).await;
    let response = browser.get("/events?account=main&openid=ann").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    let mut next = async || {
        let chunk = stream.next().await.expect("goes on").expect("is read");
        String::from_utf8(chunk.to_vec()).expect("is text")
    };
    assert!(next().await.starts_with("retry:"));
    world.clock.advance(seconds(1));
    world.write("ann", "hello").await;
    assert_eq!(next().await, "data: changed\n\n");
}

#[tokio::test]
async fn a_story_is_told_from_the_rows_alone_when_no_server_runs() {
    let world = World::new().await;
    world.follow("ann").await;
    assert_eq!(world.pass(seconds(1), accepted()).await, 1);
    world.store.close().await;
    let read = store::open_to_read(&world.database.url)
        .await
        .expect("can be read");
    let catalog = versions::load_catalog(&read).await.expect("can be read");
    let known = Known {
        catalog: &catalog,
        account: None,
    };
    let tell = async |openid| story::load(&read, known, "main", openid, world.clock.now()).await;
    let told = tell("ann").await.expect("can be read").expect("is known");
    let text = words::words(&told, Lang::En);
    assert!(
        text.contains("welcome/hello: sent — sent 1.0 s after it was due"),
        "{text}"
    );
    assert!(
        text.contains("welcome/offer: planned — waits for 2026-11-21 03:00:00"),
        "{text}"
    );
    assert!(tell("bob").await.expect("can be read").is_none());
}
