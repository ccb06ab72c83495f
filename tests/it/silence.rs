//! A database that vanishes without a word: the connections stay, and nothing comes back any more. That
//! is what is left of a machine that lost its power, or of a firewall that forgot us.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dripwheel::clock::{Clock, ManualClock};
use dripwheel::journey::event::{Arrival, Event};
use dripwheel::store::work::{Armed, Taken};
use dripwheel::store::{Error, Store, StoreSettings, accounts};
use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::support::database::Fresh;
use crate::support::{START, Town, account, minutes, seconds};

/// The way to a database. Whatever was connected when it fell silent stays so.
struct Way {
    addr: SocketAddr,
    /// How often it fell silent.
    silenced: watch::Sender<u32>,
    _connections: JoinSet<()>,
}

impl Way {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (silenced, times) = watch::channel(0);
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut within = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                within.spawn(carry(client, target, times.clone()));
            }
        });
        Self {
            addr,
            silenced,
            _connections: connections,
        }
    }

    fn fall_silent(&self) {
        self.silenced.send_modify(|times| *times += 1);
    }
}

/// Carries what both say, until the way falls silent: then what the client says only.
async fn carry(client: TcpStream, target: SocketAddr, mut silenced: watch::Receiver<u32>) {
    let before = *silenced.borrow_and_update();
    let server = TcpStream::connect(target).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let told = async {
        copy(&mut from_client, &mut to_server).await.ok();
    };
    let answered = async {
        tokio::select! {
            _ = copy(&mut from_server, &mut to_client) => {}
            () = async { drop(silenced.wait_for(|times| *times > before).await) } => {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::join!(told, answered);
}

/// A node behind such a way.
struct Node {
    way: Way,
    store: Arc<Store>,
    /// Somebody must listen.
    _armed: mpsc::Receiver<Armed>,
    database: Fresh,
}

impl Node {
    async fn start() -> Self {
        let database = Fresh::on_server();
        let (user, place) = database.url.rsplit_once('@').unwrap();
        let (server, name) = place.split_once('/').unwrap();
        let way = Way::to(server.parse().unwrap()).await;
        let settings = StoreSettings {
            node: "a".to_owned(),
            lease: minutes(10),
            ..StoreSettings::at(format!("{user}@{}/{name}", way.addr), seconds(2))
        };
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(START));
        let (store, armed) = Store::open(&settings, clock).await.unwrap();
        let main = account("main", &Town::plan());
        accounts::configure(&store, vec![main]).await.unwrap();
        Self {
            way,
            store,
            _armed: armed,
            database,
        }
    }

    async fn follow(&self, who: &str) -> Result<Taken, Error> {
        let arrival = Arrival {
            openid: who.to_owned(),
            created_at: START,
            digest: 1,
            event: Event::Followed { scene: None },
            language: None,
        };
        let main = self.store.knowledge().account_named("main").unwrap();
        let receive = self.store.writer().receive(main.journey.id, arrival);
        let longest = Duration::from_secs(60);
        tokio::time::timeout(longest, receive)
            .await
            .expect("an answer, or that there is none")
    }

    async fn receipts(&self) -> i64 {
        let other = dripwheel::store::open_to_read(&self.database.url)
            .await
            .unwrap();
        crate::support::database::number(&other, "SELECT count(*) FROM receipts").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_database_that_says_nothing_is_told() {
    let node = Node::start().await;
    node.follow("ann").await.unwrap();
    node.way.fall_silent();
    let told = node.follow("bob").await;
    // Where the silence began at the commit, that one is looked up, or made again.
    assert!(matches!(told, Ok(_) | Err(Error::Away)), "{told:?}");
    // Connections that are made now are answered.
    for _ in 0..900 {
        if node.follow("bob").await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(node.receipts().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_nobody_answered_is_looked_up() {
    let node = Node::start().await;
    // The server commits only when this lock is gone, and by then nobody can hear it.
    let keeper = dripwheel::store::open_to_read(&node.database.url);
    let keeper = keeper.await.unwrap();
    node.database
        .tamper(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON receipts
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle();",
        )
        .await;
    let ann = node.follow("ann");
    let silence = async {
        let asked = "SELECT count(*) FROM pg_stat_activity
            WHERE application_name = 'dripwheel writer' AND query = 'COMMIT' AND state = 'active'";
        while crate::support::database::number(&keeper, asked).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        node.way.fall_silent();
    };
    let (taken, ()) = tokio::join!(ann, silence);
    assert!(taken.unwrap().fresh);
    assert_eq!(node.receipts().await, 1);
}
