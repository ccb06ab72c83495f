//! Links of messages that lead to us first: over real sockets, from what a follower received to the
//! page, and to what is known of the click afterwards.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod away;
mod forged;

use reqwest::{Method, StatusCode, header};

use crate::pair::eventually;
use crate::reconcile::{Stage, minutes};

const OFFER: &str = r#"
sequence: offer
trigger: follow
reenter: always
exit_on: ["clicked('hello.stop')"]
min_gap: 0s
steps:
  - id: hello
    after: 0s
    say: { text: '看<a href="https://shop.example/buy?from={{ follower.scene | default("nowhere") }}" link="buy">这里</a> https://shop.example/bare <a href="https://shop.example/stop" link="stop">x</a> <a href="https://shop.example/plain" track="no">y</a>' }
  - id: remind
    after: 1h
    when: "not clicked('hello.buy')"
    say: { text: "you have not looked yet" }
  - id: thanks
    after: 2h
    when: "clicked('hello.buy') or clicked('hello.2')"
    say: { text: "you have looked" }
"#;

const KINDS: &str = r#"
sequence: kinds
trigger: follow
min_gap: 0s
steps:
  - id: card
    after: 0s
    say: { news: { title: t, url: "https://shop.example/card", link: card } }
  - id: menu
    after: 0s
    say: { msgmenu: { head: "https://shop.example/head", items: [{ id: "1", text: one }], tail: bye } }
  - id: plain
    after: 0s
    say: { news: { title: t, url: "https://shop.example/uncounted", track: false } }
"#;

const TELEPHONE: &str = "Mozilla/5.0 (iPhone) MicroMessenger/8.0.50";

/// A server that the world reaches, which counts clicks.
async fn stage(sequences: &[&str], account: &str) -> Stage {
    let account = format!("passive_reply: false, track_links: true, {account}");
    let mut stage = Stage::of(sequences, "", &account).await;
    stage.stop().await;
    stage.reconfigure(
        "server: { listen",
        "server: { public_url: 'https://go.example/x', listen",
    );
    stage.start().await;
    stage
}

impl Stage {
    /// Asks for a link as a browser does: status, and where it leads.
    async fn open(
        &self,
        token: &str,
        agent: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, String) {
        let url = format!("{}/c/{token}", self.address());
        let mut request = self.client.get(url).header(header::USER_AGENT, agent);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let says = |name: header::HeaderName| {
            let value = answer.headers().get(name);
            value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(says(header::CACHE_CONTROL), "no-store");
        if answer.status() == StatusCode::FOUND {
            assert_eq!(says(header::REFERRER_POLICY), "no-referrer");
        }
        (answer.status(), says(header::LOCATION))
    }

    async fn click(&self, token: &str) -> String {
        let (status, to) = self.open(token, TELEPHONE, &[]).await;
        assert_eq!(status, StatusCode::FOUND);
        to
    }

    /// The first text that somebody received.
    async fn first_text(&self, openid: &str) -> String {
        eventually("there is a text", async || {
            !self.platform.texts(openid).is_empty()
        })
        .await;
        self.platform.texts(openid).remove(0)
    }

    /// How often each link was clicked, as `step.link:count`.
    async fn counts(&self) -> Vec<String> {
        let sql = "SELECT CAST(step || '.' || link || ':' || count AS TEXT) FROM clicks
            ORDER BY enrollment_id, step, link";
        let rows = crate::support::database::rows(self.store().read(), sql, []).await;
        rows.iter()
            .map(|row| row.try_get_by_index(0).unwrap())
            .collect()
    }
}

/// The tokens in a text.
fn tokens(text: &str) -> Vec<String> {
    let parts = text.split("https://go.example/x/c/").skip(1);
    parts.map(|part| part.chars().take(36).collect()).collect()
}

#[tokio::test]
async fn a_link_leads_to_its_page_and_every_click_of_a_person_counts() {
    let stage = stage(&[OFFER], "").await;
    stage.follows("ann").await;
    let text = stage.first_text("ann").await;
    let sealed = tokens(&text);
    let [buy, bare, stop] = &sealed[..] else {
        panic!("{text}");
    };
    assert_eq!(
        text,
        format!(
            "看<a href=\"https://go.example/x/c/{buy}\">这里</a> https://go.example/x/c/{bare} \
             <a href=\"https://go.example/x/c/{stop}\">x</a> \
             <a href=\"https://shop.example/plain\">y</a>"
        )
    );
    assert!(!text.contains("ann") && buy != bare);

    // Who only looks ahead is sent on and not counted.
    for (agent, headers) in [
        ("TelegramBot (like TwitterBot)", &[][..]),
        (TELEPHONE, &[("Sec-Purpose", "prefetch;prerender")][..]),
        (TELEPHONE, &[("Purpose", "prefetch")][..]),
    ] {
        let (status, to) = stage.open(bare, agent, headers).await;
        assert_eq!(
            (status, &*to),
            (StatusCode::FOUND, "https://shop.example/bare")
        );
    }
    let url = format!("{}/c/{bare}", stage.address());
    let head = stage.client.head(&url).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::FOUND);
    let post = stage.client.post(&url).send().await.unwrap();
    assert!(post.status().is_client_error(), "{}", post.status());
    assert!(stage.counts().await.is_empty());

    assert_eq!(
        stage.click(buy).await,
        "https://shop.example/buy?from=nowhere"
    );
    assert_eq!(
        stage.click(buy).await,
        "https://shop.example/buy?from=nowhere"
    );
    assert_eq!(stage.click(bare).await, "https://shop.example/bare");
    // Who asks for another page by way of us is sent to ours.
    let query = format!("{bare}?url=https://evil.example&to=//evil.example");
    assert_eq!(stage.click(&query).await, "https://shop.example/bare");
    eventually("all are written", async || {
        stage.counts().await == ["0.0:4", "0.1:2", "0.2:2"]
    })
    .await;
    stage.end().await;
}

#[tokio::test]
async fn what_was_clicked_decides_what_follows() {
    let stage = stage(&[OFFER], "").await;
    for openid in ["ann", "bob", "cid"] {
        stage.follows(openid).await;
    }
    let ann = tokens(&stage.first_text("ann").await);
    let cid = tokens(&stage.first_text("cid").await);
    stage.first_text("bob").await;
    stage.click(&ann[1]).await;
    stage.click(&cid[2]).await;
    eventually("both are written", async || stage.counts().await.len() == 4).await;
    stage.pass(minutes(61)).await;
    let reminded = "you have not looked yet";
    // The second link is not the first: ann is reminded all the same.
    eventually("those are reminded who have not clicked", async || {
        stage.platform.texts("ann").last().unwrap() == reminded
            && stage.platform.texts("bob").last().unwrap() == reminded
    })
    .await;
    stage.pass(minutes(60)).await;
    eventually("who has clicked is thanked", async || {
        stage.platform.texts("ann").last().unwrap() == "you have looked"
    })
    .await;
    eventually("bob's step is skipped", async || {
        stage.enrollments("bob").await[0]["state"] == "completed"
    })
    .await;
    assert_eq!(stage.platform.texts("bob").len(), 2);
    // The passage of whoever clicked the way out has ended.
    let left = &stage.enrollments("cid").await[0];
    assert_eq!(left["state"], "cancelled", "{left}");
    assert!(left.to_string().contains("clicked hello.stop"), "{left}");
    assert_eq!(stage.platform.texts("cid").len(), 1);
    stage.end().await;
}

#[tokio::test]
async fn cards_and_menus_lead_to_us_too() {
    let stage = stage(&[KINDS], "").await;
    stage.follows("ann").await;
    eventually("all three are sent", async || {
        stage.platform.asked("/cgi-bin/message/custom/send").len() == 3
    })
    .await;
    let sent = stage.platform.asked("/cgi-bin/message/custom/send");
    let card = tokens(sent[0]["news"]["articles"][0]["url"].as_str().unwrap());
    let menu = tokens(sent[1]["msgmenu"]["head_content"].as_str().unwrap());
    assert_eq!(stage.click(&card[0]).await, "https://shop.example/card");
    assert_eq!(stage.click(&menu[0]).await, "https://shop.example/head");
    let plain = &sent[2]["news"]["articles"][0]["url"];
    assert_eq!(plain, "https://shop.example/uncounted");
    stage.end().await;
}

#[tokio::test]
async fn without_an_address_of_ours_links_are_as_they_were_written() {
    let stage = Stage::of(&[OFFER], "", "passive_reply: false, track_links: true").await;
    stage.follows("ann").await;
    let text = stage.first_text("ann").await;
    assert!(
        text.contains("<a href=\"https://shop.example/buy?from=nowhere\">这里"),
        "{text}"
    );
    assert!(!text.contains("/c/") && !text.contains("link="), "{text}");
    stage.end().await;
}

#[tokio::test]
async fn who_is_forgotten_is_not_counted_and_finds_the_page_all_the_same() {
    let stage = stage(&[OFFER], "erase_on_unfollow: true").await;
    stage.follows("ann").await;
    let sealed = tokens(&stage.first_text("ann").await);
    stage.click(&sealed[1]).await;
    eventually("it is written", async || stage.counts().await.len() == 2).await;
    stage.clock.advance(minutes(1));
    stage.unfollows("ann").await;
    assert!(stage.counts().await.is_empty(), "what we knew is gone");
    assert_eq!(stage.click(&sealed[1]).await, "https://shop.example/bare");
    assert_eq!(
        stage.click(&sealed[0]).await,
        "https://shop.example/buy?from=nowhere"
    );
    assert!(stage.counts().await.is_empty());
    stage.end().await;
}

#[tokio::test]
async fn a_new_key_seals_and_a_forgotten_one_opens_nothing() {
    let mut stage = stage(&[OFFER], "").await;
    stage.follows("ann").await;
    let before = tokens(&stage.first_text("ann").await);
    let (status, keys) = stage.ask(Method::POST, "/link-keys").await;
    assert_eq!(status, StatusCode::OK, "{keys}");
    assert_eq!(
        (&keys[0]["id"], &keys[0]["seals"]),
        (&2.into(), &true.into())
    );
    assert_eq!(
        (&keys[1]["id"], &keys[1]["seals"]),
        (&1.into(), &false.into())
    );
    stage.follows("bob").await;
    let after = tokens(&stage.first_text("bob").await);
    assert_eq!(stage.click(&before[1]).await, "https://shop.example/bare");
    assert_eq!(stage.click(&after[1]).await, "https://shop.example/bare");
    // After a start too.
    stage.stop().await;
    stage.start().await;
    assert_eq!(stage.click(&before[1]).await, "https://shop.example/bare");

    let (status, _) = stage.ask(Method::DELETE, "/link-keys/7").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, keys) = stage.ask(Method::DELETE, "/link-keys/1").await;
    assert_eq!(
        (status, keys.as_array().unwrap().len()),
        (StatusCode::OK, 1)
    );
    let (status, to) = stage.open(&before[1], TELEPHONE, &[]).await;
    assert_eq!((status, &*to), (StatusCode::NOT_FOUND, ""));
    assert_eq!(stage.click(&after[1]).await, "https://shop.example/bare");
    let (status, _) = stage.ask(Method::DELETE, "/link-keys/2").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "the last one stays");
    stage.end().await;
}
