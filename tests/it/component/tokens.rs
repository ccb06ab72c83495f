//! Tickets and tokens: waited for, shared by whoever needs them, and recovered when they are lost.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn hundreds_of_refused_sends_cost_one_refresh_per_account() {
    let server = Server::ready().await;
    let accounts = [ONE, TWO];
    for app_id in accounts {
        server.authorize(app_id, ALL).await;
        let follows = (0..150).map(|n| {
            let openid = format!("o{n}");
            let server = &server;
            async move { server.follow(app_id, &openid).await }
        });
        futures_util::future::join_all(follows).await;
        server.arrived(app_id, "hello", 150).await;
    }
    server.platform.kill_tokens();
    server.pass(HOUR);
    for app_id in accounts {
        eventually("all are sent", async || {
            // Limits are by time, and time stands still unless somebody moves it.
            server.pass(Duration::from_secs(1));
            let texts = server.platform.texts(app_id);
            texts.iter().filter(|one| *one == "later").count() == 150
        })
        .await;
    }
    // One for each account, and those that found the component's own token dead as well: of both
    // accounts, or of the first alone when the second comes after the new one.
    let calls = server.platform.calls("component/api_authorizer_token");
    assert!((3..=4).contains(&calls), "{calls} calls");
    let successes = server.platform.with(|state| {
        let later = state.sent.iter().filter(|sent| sent.text == "later");
        let tokens = later.map(|sent| sent.token.clone());
        tokens.collect::<std::collections::HashSet<_>>().len()
    });
    assert_eq!(successes, 2, "one new token for each account");
    server.app.stop().await;
}

#[tokio::test]
async fn a_lost_refresh_token_is_recovered_and_a_dead_one_asks_for_a_person() {
    let server = Server::ready().await;
    for app_id in [ONE, TWO] {
        server.authorize(app_id, ALL).await;
        server.follow(app_id, "o1").await;
        server.arrived(app_id, "hello", 1).await;
    }
    // As after a restored backup: what our row says was replaced long ago.
    server.platform.kill_tokens();
    server.platform.with(|state| {
        let owner = state.owners.get_mut(ONE).unwrap();
        owner.refresh_token = "refreshtoken@@@other".to_owned();
        state.owners.remove(TWO);
    });
    server.pass(HOUR);
    server.arrived(ONE, "later", 1).await;
    let kept = "SELECT count(*) FROM authorizers WHERE refresh_token = 'refreshtoken@@@other'";
    assert_eq!(server.count(kept).await, 1);
    // The platform's list settles what a refusal only hints at.
    eventually("the other is let go", async || {
        // Who meets a token that is being fetched for somebody else asks again later.
        server.pass(Duration::from_secs(1));
        let standing = server.standing(TWO).await;
        standing.pause_reason.contains("lists it no more")
    })
    .await;
    let standing = server.standing(TWO).await;
    assert!(standing.attention);
    assert!(
        !standing.pause_reason.contains("refreshtoken@@@"),
        "{standing:?}"
    );
    assert_eq!(server.platform.texts(TWO), ["hello"]);
    server.app.stop().await;
}

#[tokio::test]
async fn a_refresh_token_that_changes_each_time_is_in_its_row_before_it_is_used() {
    let server = Server::ready().await;
    server.platform.with(|state| state.rotates = true);
    server.authorize(ONE, ALL).await;
    for round in 1..=3 {
        server.platform.kill_tokens();
        server.follow(ONE, &format!("o{round}")).await;
        server.arrived(ONE, "hello", round).await;
        let current = server
            .platform
            .with(|state| state.owners[ONE].refresh_token.clone());
        let sql = format!("SELECT count(*) FROM authorizers WHERE refresh_token = '{current}'");
        assert_eq!(server.count(&sql).await, 1, "round {round}");
    }
    server.app.stop().await;
}

#[tokio::test]
async fn without_a_ticket_it_is_asked_for_once_and_everything_waits() {
    let server = Server::start().await;
    let asked = || server.platform.calls("component/api_start_push_ticket");
    eventually("a ticket is asked for", async || asked() == 1).await;
    let code = server.platform.authorize(ONE, ALL);
    server.push_authorized("authorized", ONE, &code).await;
    let page = server
        .client
        .get(server.url("authorize"))
        .send()
        .await
        .unwrap();
    assert_eq!(page.status().as_u16(), 502);
    assert_eq!(asked(), 1);
    // The announcement waited for the ticket.
    server.push_ticket("ticket@@@1").await;
    eventually("the account is known", async || {
        server
            .app
            .store()
            .knowledge()
            .authorizers()
            .get(ONE)
            .is_some()
    })
    .await;
    // The platform refuses this ticket; the next one mends it.
    server
        .platform
        .with(|state| state.ticket = "ticket@@@other".to_owned());
    server.platform.kill_tokens();
    server.follow(ONE, "o1").await;
    eventually("the next ticket is asked for", async || asked() == 2).await;
    server.push_ticket("ticket@@@2").await;
    // The account rests to the next minute, counted from when its refusal was heard.
    eventually("the step goes with the next ticket", async || {
        server.pass(Duration::from_secs(61));
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.platform.texts(ONE) == ["hello"]
    })
    .await;
    server.app.stop().await;
}
