//! The page of a sequence: its steps and links as charts, in both languages and without JavaScript.

use super::{Stage, eventually, stage};

impl Stage {
    async fn page(&self, path: &str) -> String {
        let url = format!("{}{path}", self.address());
        let answer = self
            .client
            .get(url)
            .header("Accept-Language", "en")
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.text().await.unwrap()
    }
}

#[tokio::test]
async fn a_sequence_s_page_draws_its_steps_and_the_clicks_of_its_links() {
    let mut stage = stage().await;
    stage.stop().await;
    stage.reconfigure("server: {", "server: { console: open,");
    stage.start().await;
    let empty = stage.page("/sequences/welcome").await;
    assert!(empty.contains("Nothing has happened yet."), "{empty}");
    for openid in ["ann", "bob", "cid", "dan"] {
        stage.follows(openid).await;
    }
    stage.settled().await;
    stage.clicks("ann").await;
    stage.clicks("ann").await;
    eventually("the clicks are written", async || {
        stage
            .number("SELECT coalesce(max(count), 0) FROM clicks")
            .await
            == 2
    })
    .await;
    let page = stage.page("/sequences/welcome").await;
    for part in [
        "<svg class=\"flow\"",
        "<title>hello: planned 4, sent 4 (100 %) · clicked 1 (25 %). </title>",
        "<rect class=\"planned\" x=\"150\" y=\"6\" width=\"430\"",
        "<rect class=\"clicked\" x=\"150\" y=\"17\" width=\"108\"",
        "https://shop.example/zh",
        "<svg class=\"spark clicks\"",
        "<title>2023-11-15: 2</title>",
        "<a href=\"?days=7\">7 days</a>",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert!(
        !page.contains("<script>") && !page.contains(" style="),
        "the policy forbids both"
    );
    let chinese = stage.page("/sequences/welcome?lang=zh&days=0").await;
    for part in ["数据", "点击人数", "<strong>全部</strong>"] {
        assert!(chinese.contains(part), "{part}\n{chinese}");
    }
    // A week later nothing of it is within the week.
    stage.pass(crate::reconcile::minutes(9 * 24 * 60)).await;
    let week = stage.page("/sequences/welcome?days=7").await;
    assert!(!week.contains("sent 4"), "{week}");
    assert!(stage.page("/sequences/welcome").await.contains("sent 4"));
    stage.end().await;
}
