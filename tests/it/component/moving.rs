//! An owner who leaves one third-party platform of a server for another one is served by that.

use super::*;
use dripwheel::store::authorizers::{self, Decision, State};
use dripwheel::store::{Store, StoreSettings};

const OTHER: &str = "wx00000000000000c1";

/// Another component of the same server that has served `app_id`; its owner takes that back.
async fn served_elsewhere(server: &Server, app_id: &str) {
    let store = server.app.store();
    let now = server.clock.now();
    let like = store.knowledge().accounts();
    let like = like.values().next().unwrap();
    let key = (OTHER, app_id);
    authorizers::keep(store, key, &"r".into(), now)
        .await
        .unwrap();
    let decision = Decision {
        component: OTHER.to_owned(),
        app_id: app_id.to_owned(),
        name: String::new(),
        original_id: String::new(),
        permissions: ALL.to_vec(),
        state: State::Authorized,
        reason: String::new(),
        authorized_at: now,
        moment: store.knowledge().authorizers().moment(),
    };
    authorizers::decide(store, decision, like, now, |_| {})
        .await
        .unwrap();
}

async fn leave(server: &Server, app_id: &str) {
    let (store, now) = (server.app.store(), server.clock.now());
    let left = authorizers::withdraw(store, (OTHER, app_id), Some(now), "left", now).await;
    assert!(left.unwrap());
}

#[tokio::test]
async fn an_owner_who_changes_platforms_is_served_by_the_new_one() {
    let server = Server::ready().await;
    server.authorize(TWO, ALL).await;
    served_elsewhere(&server, ONE).await;
    leave(&server, ONE).await;
    server.authorize(ONE, ALL).await;
    eventually("the new platform has it", async || {
        let known = server.app.store().knowledge().authorizers().get(ONE);
        known.unwrap().component == COMPONENT
    })
    .await;
    server.follow(ONE, "o1").await;
    server.arrived(ONE, "hello", 1).await;

    // What the old platform tells again does not silence it.
    leave(&server, ONE).await;
    assert!(!server.standing(ONE).await.attention);
    server.pass(Duration::from_secs(3600));
    server.arrived(ONE, "later", 1).await;

    // After a start the platform that serves it has it, whichever comes first.
    let like = server.app.store().knowledge().accounts();
    let like = like.values().next().unwrap();
    server.app.stop().await;
    for order in [[OTHER, COMPONENT], [COMPONENT, OTHER]] {
        let settings = StoreSettings::at(server.database.url.clone(), Duration::ZERO);
        let opened = Store::open(&settings, Arc::clone(&server.clock) as _).await;
        let (store, _armed) = opened.unwrap();
        for component in order {
            authorizers::load(&store, component, like, |_| false)
                .await
                .unwrap();
        }
        let known = store.knowledge().authorizers().get(ONE).unwrap();
        assert_eq!(known.component, COMPONENT);
        let account = store.knowledge().account(known.account.unwrap()).unwrap();
        assert!(account.sends);
        store.close().await;
    }
}

#[tokio::test]
async fn an_owner_who_authorizes_before_leaving_is_served_after_it() {
    let server = Server::ready().await;
    server.authorize(TWO, ALL).await;
    served_elsewhere(&server, ONE).await;
    let code = server.platform.authorize(ONE, ALL);
    server.push_authorized("authorized", ONE, &code).await;
    let not_served = format!(
        "SELECT count(*) FROM authorizers
         WHERE component = '{COMPONENT}' AND app_id = '{ONE}' AND state = 2"
    );
    eventually("it is not served twice", async || {
        server.count(&not_served).await == 1
    })
    .await;
    leave(&server, ONE).await;
    let inner = follow(ONE, "o1", server.clock.now());
    assert_eq!(server.push(ONE, &inner).await.0, 503);
    eventually("it is taken in", async || {
        server.push(ONE, &inner).await == (200, "success".to_owned())
    })
    .await;
    server.arrived(ONE, "hello", 1).await;
    server.app.stop().await;
}
