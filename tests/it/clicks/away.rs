//! A reader's way while the database is away: to the page, and the click is kept until it is back.

use std::sync::Arc;

use dripwheel::app::App;
use dripwheel::clock::ManualClock;
use dripwheel::config::Config;
use dripwheel::journey::event::{Arrival, Event};
use dripwheel::journey::ids::{EnrollmentId, VersionId};
use dripwheel::journey::link::token::{Keyring, Link};
use dripwheel::yaml::render_all;
use reqwest::Client;
use reqwest::redirect::Policy;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::OFFER;
use crate::reconcile::START;
use crate::support::cluster::Cluster;
use crate::support::{database, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_sent_on_and_the_click_is_written_when_the_database_is_back() {
    let cluster = Cluster::plan().start();
    let url = cluster.url(&cluster.create_database());
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sequences")).unwrap();
    std::fs::write(folder.path().join("sequences/offer.yaml"), OFFER).unwrap();
    let text = format!(
        "server: {{ listen: '127.0.0.1:0', public_url: 'https://go.example' }}
database: {{ url: '{url}', spool: '{folder}/spool.db' }}
sequences: {{ dir: '{folder}/sequences' }}
accounts:
  - {{ key: main, app_id: wx0000000000000001, app_secret: 0123456789abcdef0123456789abcdef,
      token: clicktoken, mode: plain, api_base: 'http://127.0.0.1:9', track_links: true }}
",
        folder = folder.path().display(),
    );
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let config = Config::from_text(&text, "clicks", &|_| None);
    let config = config.unwrap_or_else(|all| panic!("{}", render_all(&all, false)));
    let clock = Arc::new(ManualClock::at(START));
    let app = App::start(&config, clock, None).await.unwrap();
    let store = Arc::clone(app.store());
    let account = store.knowledge().account_named("main").unwrap().journey.id;
    let arrival = Arrival {
        openid: "ann".to_owned(),
        created_at: START,
        digest: 1,
        event: Event::Followed {
            scene: Some("door".to_owned()),
        },
        language: None,
    };
    store.writer().receive(account, arrival).await.unwrap();
    let enrollment = database::number(store.read(), "SELECT id FROM enrollments").await;
    let version = database::number(store.read(), "SELECT id FROM sequence_versions").await;
    let secret = database::rows(store.read(), "SELECT secret FROM link_keys", []).await;
    let secret: Vec<u8> = secret[0].try_get_by_index(0).unwrap();
    let keys = Keyring::new([(1, secret.as_slice())]);
    let seal = |link| {
        let link = Link {
            enrollment: EnrollmentId(enrollment),
            version: VersionId(version),
            step: 0,
            link,
        };
        keys.seal(&link).unwrap()
    };
    let client = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .build()
        .unwrap();
    let open = async |link| {
        let address = format!("http://{}/c/{}", app.addr(), seal(link));
        let answer = client.get(address).send().await.unwrap();
        assert_eq!(answer.status(), 302);
        answer.headers()["location"].to_str().unwrap().to_owned()
    };
    assert_eq!(open(1).await, "https://shop.example/buy?from=door");
    let count = async || {
        database::number(
            store.read(),
            "SELECT coalesce(sum(count), 0)::BIGINT FROM clicks",
        )
        .await
    };
    eventually("it is written", || async { count().await == 2 }).await;

    cluster.stop_immediate();
    for _ in 0..20 {
        assert_eq!(open(2).await, "https://shop.example/bare");
    }
    // What the address says of the reader is not known now; the page is the same.
    assert_eq!(open(1).await, "https://shop.example/buy?from=nowhere");
    cluster.start();
    eventually("all of them are written, once", || async {
        let sum = "SELECT CAST(coalesce(sum(count), 0) AS BIGINT) FROM clicks";
        let sum = Statement::from_string(DbBackend::Postgres, sum);
        let found = store.read().query_one_raw(sum).await;
        let found = found.ok().flatten();
        found.is_some_and(|row| row.try_get_by_index::<i64>(0) == Ok(2 * 22))
    })
    .await;
    app.stop().await;
}
