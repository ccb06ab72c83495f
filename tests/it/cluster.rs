//! The PostgreSQL that tests start for themselves: it does what tests ask of it, and nothing of it
//! is left afterwards, however its owner ends.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use url::Url;

use crate::support::cluster::Cluster;
use crate::support::database::number;
use crate::support::eventually;

const NOTES: &str = "CREATE TABLE notes (n BIGINT NOT NULL)";
const COUNT: &str = "SELECT count(*) FROM notes";

async fn connect(cluster: &Cluster, database: &str) -> DatabaseConnection {
    Database::connect(cluster.url(database)).await.unwrap()
}

async fn run(connection: &DatabaseConnection, sql: &str) {
    connection.execute_unprepared(sql).await.unwrap();
}

#[tokio::test]
async fn every_database_is_new_and_speaks_to_the_orm() {
    let cluster = Cluster::of_this_process();
    for _ in 0..2 {
        let name = cluster.create_database();
        let connection = connect(cluster, &name).await;
        run(&connection, NOTES).await;
        run(&connection, "INSERT INTO notes VALUES (1), (2)").await;
        assert_eq!(number(&connection, COUNT).await, 2);
        let url = cluster.url(&name);
        // Somebody is connected still.
        cluster.drop_database(&name);
        assert!(Database::connect(url).await.is_err());
    }
}

#[tokio::test]
async fn settings_are_taken_over() {
    let cluster = Cluster::plan()
        .durable()
        .set("max_prepared_transactions", "7")
        .set("search_path", "\"$user\", public")
        .start();
    let shown = |name: &str| cluster.psql("postgres", &format!("SHOW {name}"));
    assert_eq!(shown("fsync"), "on");
    assert_eq!(shown("max_prepared_transactions"), "7");
    assert_eq!(shown("search_path"), "\"$user\", public");
    assert_eq!(shown("server_encoding"), "UTF8");
    assert_eq!(shown("lc_collate"), "C");
}

#[tokio::test]
async fn rows_survive_a_restart_and_a_crash() {
    let cluster = Cluster::plan().start();
    let name = cluster.create_database();
    let connection = connect(&cluster, &name).await;
    run(&connection, NOTES).await;
    run(&connection, "INSERT INTO notes VALUES (1)").await;
    cluster.restart();
    // The pool had a connection that is dead by now.
    eventually("it is connected again", || async {
        connection.execute_unprepared(COUNT).await.is_ok()
    })
    .await;
    run(&connection, "INSERT INTO notes VALUES (2)").await;
    cluster.stop_immediate();
    assert!(!listens(&cluster.url(&name)));
    cluster.start();
    assert_eq!(cluster.psql(&name, COUNT), "2");
}

#[tokio::test]
async fn data_can_lie_elsewhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    // The server runs as somebody else where we are root.
    std::fs::set_permissions(elsewhere.path(), Permissions::from_mode(0o711)).unwrap();
    let data = elsewhere.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let cluster = Cluster::plan().data_at(&data).start();
    cluster.psql("postgres", NOTES);
    let process = Path::new("/proc").join(cluster.pid());
    assert!(process.exists());
    cluster.restart();
    assert_eq!(cluster.psql("postgres", COUNT), "0");
    drop(cluster);
    assert!(data.join("PG_VERSION").exists());
}

#[tokio::test]
async fn backends_are_cut_off_and_come_again() {
    let cluster = Cluster::of_this_process();
    let (name, other) = (cluster.create_database(), cluster.create_database());
    let connection = connect(cluster, &name).await;
    let stays = connect(cluster, &other).await;
    let own = "SELECT CAST(pg_backend_pid() AS BIGINT)";
    let (before, stayed) = (number(&connection, own).await, number(&stays, own).await);
    assert_eq!(cluster.terminate_backends(&name), 1);
    eventually("it is connected again", || async {
        connection.execute_unprepared("SELECT 1").await.is_ok()
    })
    .await;
    assert_ne!(number(&connection, own).await, before);
    assert_eq!(number(&stays, own).await, stayed);
    cluster.drop_database(&name);
    cluster.drop_database(&other);
}

#[tokio::test]
async fn a_standby_follows_until_it_is_promoted() {
    let primary = Cluster::plan().start();
    let name = primary.create_database();
    let standby = primary.standby();
    let connection = connect(&primary, &name).await;
    run(&connection, NOTES).await;
    run(&connection, "INSERT INTO notes VALUES (1)").await;
    let copy = connect(&standby, &name).await;
    eventually("the standby has the row", || async {
        let there = "SELECT count(*) FROM pg_tables WHERE tablename = 'notes'";
        number(&copy, there).await == 1 && number(&copy, COUNT).await == 1
    })
    .await;
    let refused = copy.execute_unprepared("INSERT INTO notes VALUES (2)");
    let refused = refused.await.unwrap_err().to_string();
    assert!(refused.contains("read-only"), "{refused}");
    primary.stop_immediate();
    standby.promote();
    run(&copy, "INSERT INTO notes VALUES (2)").await;
    assert_eq!(number(&copy, COUNT).await, 2);
}

/// Whether a server is there for a URL.
fn listens(url: &str) -> bool {
    let port = Url::parse(url).unwrap().port().unwrap();
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[tokio::test]
async fn an_owner_in_order_leaves_nothing() {
    let cluster = Cluster::plan().start();
    let (url, folder) = (cluster.url("postgres"), cluster.folder().to_owned());
    assert!(listens(&url));
    drop(cluster);
    assert!(!listens(&url));
    assert!(!folder.exists());
}

#[tokio::test]
async fn an_owner_that_is_killed_leaves_nothing() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cluster::an_owner", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok);
    let told = { said }.find_map(|line| Some(line.split_once("it is at ")?.1.to_owned()));
    let told = told.unwrap();
    let (url, folder) = told.split_once(' ').unwrap();
    let folder = Path::new(folder);
    assert!(listens(url) && folder.exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("nothing is left", || async {
        !listens(url) && !folder.exists()
    })
    .await;
}

#[test]
#[ignore = "is the process that another test kills"]
#[expect(clippy::print_stdout, reason = "tells that test what to look at")]
fn an_owner() {
    let cluster = Cluster::of_this_process();
    let (url, folder) = (cluster.url("postgres"), cluster.folder().display());
    println!("it is at {url} {folder}");
    std::io::stdin().lines().count();
}
