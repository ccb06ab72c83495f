//! What the platform's list of accounts is believed, and how often it is read.

use super::*;
use dripwheel::store::authorizers;

const LIST: &str = "component/api_get_authorizer_list";
const INFO: &str = "component/api_get_authorizer_info";

/// A server whose two accounts are served, restarted after `change`.
async fn restarted(change: impl FnOnce(&mut platform::State)) -> Server {
    let server = Server::ready().await;
    for app_id in [ONE, TWO] {
        server.authorize(app_id, ALL).await;
    }
    server.platform.with(|state| {
        state.calls.clear();
        change(state);
    });
    server.restart().await
}

/// It is authorized, and its refresh token is there.
async fn is_served(server: &Server, app_id: &str) -> bool {
    let key = (COMPONENT, app_id);
    let token = authorizers::refresh_token(server.app.store().read(), key).await;
    token.unwrap().is_some() && !server.standing(app_id).await.attention
}

#[tokio::test]
async fn a_list_that_gives_fewer_than_it_counts_ends_nothing() {
    let server = restarted(|state| {
        state.unlisted.insert(ONE.to_owned());
        state.info_errors.insert(ONE.to_owned(), 61003);
    })
    .await;
    eventually("the list is read", async || {
        server.platform.calls(LIST) >= 2
    })
    .await;
    // It is believed once it is whole.
    server.platform.with(|state| {
        state.unlisted.clear();
        state.owners.remove(TWO);
    });
    assert!(is_served(&server, ONE).await);
    eventually("whoever is gone is let go", async || {
        server.pass(Duration::from_secs(600));
        !is_served(&server, TWO).await
    })
    .await;
    assert!(is_served(&server, ONE).await);
    server.app.stop().await;
}

#[tokio::test]
async fn short_pages_are_read_to_the_end() {
    let three = "wx0000000000000003";
    let server = restarted(|state| state.page_max = Some(1)).await;
    server.platform.authorize(three, ALL);
    eventually("the last one is found", async || {
        server.pass(Duration::from_secs(3600));
        let known = server.app.store().knowledge().authorizers().get(three);
        known.is_some()
    })
    .await;
    assert!(is_served(&server, ONE).await && is_served(&server, TWO).await);
    server.app.stop().await;
}

#[tokio::test]
async fn who_is_missing_in_the_list_is_asked_about_before_it_is_let_go() {
    let server = restarted(|state| {
        state.uncounted.insert(ONE.to_owned());
    })
    .await;
    eventually("it is asked about", async || {
        server.platform.calls(INFO) >= 1
    })
    .await;
    // Neither its description nor a failure ends it.
    server
        .platform
        .with(|state| state.info_errors.insert(ONE.to_owned(), -1));
    eventually("it is asked about again", async || {
        server.pass(Duration::from_secs(3600));
        server.platform.calls(INFO) >= 2
    })
    .await;
    server.follow(ONE, "o1").await;
    server.arrived(ONE, "hello", 1).await;
    assert!(is_served(&server, ONE).await);
    server
        .platform
        .with(|state| state.info_errors.insert(ONE.to_owned(), 61003));
    eventually("it is let go", async || {
        server.pass(Duration::from_secs(600));
        !is_served(&server, ONE).await
    })
    .await;
    server.app.stop().await;
}
