//! Three nodes of the real program on one PostgreSQL, behind one door, with a crowd in front of it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use dripwheel::sandbox::{Control, Running};

use crate::cluster::{Cluster, ClusterPlan};
use crate::crowd::Crowd;
use crate::dice::Dice;
use crate::relay::Relay;
use crate::server::{AES_KEY, APP_SECRET, IN_FLIGHT, Server, TOKEN, free_address};
use crate::verdict::{Verdict, compare, unfinished};
use crate::{account, play, record, seed};

/// How long a node may be silent before others take its accounts.
pub const LEASE: Duration = Duration::from_secs(6);

/// Accounts, so that every node has some.
const ACCOUNTS: usize = 12;

/// People who come in each tenth of a second.
const PEOPLE: usize = 3;

/// How long half of the platform's answers take.
const LATE_MS: u64 = 500;

/// How long a node may take to end after a SIGTERM.
const TERM_PATIENCE: Duration = Duration::from_secs(30);

/// The nodes and everything around them.
pub struct Trio {
    pub cluster: Cluster,
    /// Between the nodes and their database.
    pub way: Relay,
    pub nodes: Vec<Server>,
    pub dice: Dice,
    platform: Running,
    crowd: Crowd,
    _door: Relay,
    folder: tempfile::TempDir,
}

impl Trio {
    /// Three nodes that start at once on an empty database.
    pub async fn start(plan: ClusterPlan) -> Self {
        let cluster = tokio::task::spawn_blocking(|| plan.start()).await.unwrap();
        let name = cluster.create_database();
        let direct = cluster.url(&name);
        let way = Relay::to(vec![address_of(&direct)]).await;
        let database = direct.replace(&address_of(&direct).to_string(), &way.addr.to_string());
        let folder = tempfile::tempdir().unwrap();
        let addresses: Vec<_> = (0..3).map(|_| free_address()).collect();
        let door = Relay::to(addresses.clone()).await;
        let accounts = (0..ACCOUNTS).map(|n| account(&app_id(n), door.addr, &format!("a{n}")));
        let platform = play(accounts.collect(), folder.path(), LATE_MS).await;
        let nodes = addresses.iter().zip(1..);
        let nodes = nodes.map(|(addr, number)| {
            let own = folder.path().join(format!("node-{number}"));
            std::fs::create_dir(&own).unwrap();
            let config = config(*addr, number, &database, platform.addr);
            Server::configured(&own, *addr, &config, database.clone())
        });
        let mut trio = Self {
            cluster,
            way,
            nodes: nodes.collect(),
            dice: Dice(seed()),
            platform,
            crowd: Crowd::default(),
            _door: door,
            folder,
        };
        trio.nodes.iter_mut().for_each(Server::start);
        for node in &mut trio.nodes {
            node.ready().await;
        }
        trio
    }

    fn control(&self) -> Control {
        self.platform.control()
    }

    /// Name of the nodes' database.
    pub fn database(&self) -> String {
        let url = self.nodes[0].database();
        url.rsplit('/').next().unwrap().to_owned()
    }

    /// People come for so long, to all accounts.
    pub async fn crowd_for(&mut self, span: Duration) {
        let until = tokio::time::Instant::now() + span;
        while tokio::time::Instant::now() < until {
            let number = usize::try_from(self.dice.below(ACCOUNTS as u64)).unwrap();
            let control = self.control();
            self.crowd
                .join(&control, &mut self.dice, &app_id(number), (PEOPLE, 400));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// SIGKILL and a new start; people come meanwhile.
    pub async fn kill(&mut self, node: usize) {
        self.nodes[node].kill().await;
        self.crowd_for(Duration::from_millis(700)).await;
        self.nodes[node].start();
        self.crowd_for(Duration::from_millis(300)).await;
        self.nodes[node].ready().await;
    }

    /// SIGSTOP until others have taken all that it had, and SIGCONT.
    pub async fn freeze(&mut self, node: usize) {
        self.nodes[node].signal("STOP").await;
        let name = format!("node-{}", node + 1);
        let patience = tokio::time::Instant::now() + 10 * LEASE;
        loop {
            self.crowd_for(Duration::from_millis(500)).await;
            let (nodes, _) = self.nodes[node].ask("nodes").await;
            let frozen = nodes.as_array().into_iter().flatten();
            let mut frozen = frozen.filter(|one| one["name"] == name.as_str());
            if frozen.any(|one| one["shards"] == 0 && one["standing"] == "gone") {
                break;
            }
            let in_time = tokio::time::Instant::now() < patience;
            assert!(in_time, "nobody took over: {nodes}\n{}", self.logs());
        }
        self.nodes[node].signal("CONT").await;
    }

    /// SIGTERM and a new start, people coming all the while.
    pub async fn replace(&mut self, node: usize) {
        let mut leaving = self.nodes.remove(node);
        let ending = tokio::spawn(async move {
            let ended = leaving.terminate(TERM_PATIENCE).await;
            (leaving, ended)
        });
        while !ending.is_finished() {
            self.crowd_for(Duration::from_millis(100)).await;
        }
        let (left, ended) = ending.await.unwrap();
        let code = ended.map(|status| status.code());
        assert_eq!(code, Some(Some(0)), "{ended:?}\n{}", left.log_end());
        self.nodes.insert(node, left);
        self.nodes[node].start();
        self.crowd_for(Duration::from_millis(500)).await;
        self.nodes[node].ready().await;
    }

    /// Waits until nothing is left to do, and holds what the platform saw against the rows.
    pub async fn verdict(&mut self) -> Verdict {
        let crowd = std::mem::take(&mut self.crowd);
        let people = crowd.everybody().await;
        let database = self.nodes[0].database().to_owned();
        let mut waiting = 0;
        for _ in 0..900 {
            waiting = unfinished(&database).await;
            if waiting == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(waiting, 0, "rows still wait\n{}", self.logs());
        self.nodes[0].audit().await;
        // Each fault can leave what one node had under way, and a frozen one meets it twice.
        let bound = 1_000 * IN_FLIGHT;
        let record = record(self.folder.path());
        let verdict = compare(&people, &record, &database, bound).await;
        print(&verdict);
        for node in &self.nodes {
            let complaints = node.complaints();
            let panics = complaints.iter().filter(|line| line.contains("panicked"));
            assert_eq!(panics.collect::<Vec<_>>(), [&""; 0]);
        }
        verdict
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        self.nodes.iter().fold(String::new(), |mut text, node| {
            writeln!(text, "{}", node.log_end()).unwrap();
            text
        })
    }
}

fn print(verdict: &Verdict) {
    let late = |percent: usize| {
        let all = &verdict.late_ms;
        let at = (all.len() * percent / 100).min(all.len().saturating_sub(1));
        all.get(at).copied().unwrap_or_default()
    };
    println!("followers                 {:>8}", verdict.people);
    println!("events acknowledged       {:>8}", verdict.acked);
    println!("events not acknowledged   {:>8}", verdict.refused);
    println!("messages received         {:>8}", verdict.received);
    println!("lost                      {:>8}", verdict.lost);
    println!("lost, ended as unknown    {:>8}", verdict.lost_as_unknown);
    println!("doubles, explained        {:>8}", verdict.doubles);
    println!("silent doubles            {:>8}", verdict.silent_doubles);
    println!("stale writes              {:>8}", verdict.stale);
    println!("unknown sends             {:>8}", verdict.unknown);
    println!(
        "late by, p50 p90 p99      {:>8} {:>8} {:>8} ms",
        late(50),
        late(90),
        late(99)
    );
}

fn app_id(number: usize) -> String {
    format!("wx{number:016x}")
}

/// Where the server of a database listens.
pub fn address_of(url: &str) -> SocketAddr {
    let authority = url.rsplit_once('@').unwrap().1;
    authority.split('/').next().unwrap().parse().unwrap()
}

fn config(addr: SocketAddr, number: usize, database: &str, platform: SocketAddr) -> String {
    let lease = LEASE.as_secs();
    let mut text = format!(
        "server: {{ listen: {addr} }}
database: {{ url: '{database}' }}
node: {{ name: node-{number}, lease: {lease}s }}
sequences: {{ dir: sequences }}
account_defaults:
  api_base: http://{platform}
  # The verdict looks people up by name, those who left too.
  erase_on_unfollow: false
  rate: {{ per_second: 10000, per_minute: 600000, per_day: 100000000 }}
wheel: {{ lead: 300ms, sweep_every: 5s }}
sender: {{ in_flight: {IN_FLIGHT}, attempt_timeout: 3s, connect_timeout: 1s }}
accounts:
"
    );
    for number in 0..ACCOUNTS {
        let app_id = app_id(number);
        writeln!(
            text,
            "  - {{ key: a{number}, app_id: {app_id}, app_secret: {APP_SECRET}, token: {TOKEN}, \
             encoding_aes_key: {AES_KEY} }}"
        )
        .unwrap();
    }
    text
}
