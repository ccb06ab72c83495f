//! Third-party platforms where two nodes share a database: what one of them learns the other knows, and
//! a token is fetched by one of them.

use super::*;

/// Another node of a server, in the same time and with the same platform.
async fn beside(server: &Server) -> App {
    let parts = [&*server.component, &*server.token, &*server.key];
    let mut config = config(&server.platform, &server.folder, &server.database, parts);
    config.node.name = Some("other".to_owned());
    let app = App::start(&config, Arc::clone(&server.clock) as _, None).await;
    app.unwrap()
}

async fn two() -> (Server, App) {
    let parts = [COMPONENT, TOKEN, KEY];
    let server = Server::start_on(Fresh::on_server(), parts, NOW).await;
    let other = beside(&server).await;
    server.push_ticket("ticket@@@1").await;
    (server, other)
}

#[tokio::test]
async fn who_authorizes_by_one_node_is_served_by_both_and_who_leaves_by_none() {
    let (server, other) = two().await;
    server.authorize(ONE, ALL).await;
    let known = || other.store().knowledge().authorizers().get(ONE);
    eventually("the other node knows the account", async || {
        let account = other.store().knowledge().account_named(ONE);
        known().is_some_and(|known| known.sends()) && account.is_some_and(|one| one.sends)
    })
    .await;
    // Whichever of the two has the account's shard sends for it.
    server.follow(ONE, "o1").await;
    server.arrived(ONE, "hello", 1).await;

    server.push_unauthorized(ONE).await;
    eventually("the other node knows that it left", async || {
        let account = other.store().knowledge().account_named(ONE);
        known().is_some_and(|known| !known.sends()) && account.is_some_and(|one| !one.sends)
    })
    .await;
    let kept = "SELECT count(*) FROM access_tokens WHERE name LIKE '%/%'";
    assert_eq!(server.count(kept).await, 0, "its token went with it");
    other.stop().await;
    server.app.stop().await;
}

#[tokio::test]
async fn nodes_that_need_a_token_at_once_fetch_it_once() {
    let (server, other) = two().await;
    let page = |app: &App| {
        let url = format!("http://{}/component/pro/authorize", app.addr());
        let asked = server.client.get(url).send();
        async { asked.await.unwrap().status().as_u16() }
    };
    let asked = (0..20).map(|n| page(if n % 2 == 0 { &server.app } else { &other }));
    let statuses = futures_util::future::join_all(asked).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(server.platform.calls("component/api_component_token"), 1);
    other.stop().await;
    server.app.stop().await;
}
