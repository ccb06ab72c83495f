//! The real process, killed with events in its spool.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use dripwheel::clock::{Clock, SystemClock};
use dripwheel::store;

use super::stage::{FOLLOW, SEQUENCE, UNFOLLOW, accounts, client, letter};
use crate::support::cluster::Cluster;
use crate::support::{database, eventually};

/// Killed when it is dropped, so that a failed test leaves none behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing_of_what_was_answered() {
    let cluster = Cluster::plan().start();
    let url = cluster.url(&cluster.create_database());
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    std::fs::create_dir(folder.path().join("sequences")).unwrap();
    std::fs::write(folder.path().join("sequences/late.yaml"), SEQUENCE).unwrap();
    let accounts = accounts();
    let config = format!(
        "server: {{ listen: '{addr}' }}\ndatabase: {{ url: '{url}' }}\naccounts:\n{accounts}"
    );
    let path = folder.path().join("dripwheel.yaml");
    std::fs::write(&path, config).unwrap();
    let client = client();
    let ready = async || {
        let answer = client
            .get(format!("http://{addr}/readyz"))
            .send()
            .await
            .ok()?;
        answer.json::<serde_json::Value>().await.ok()
    };
    let serve = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dripwheel"));
        command.arg("serve").arg("--config").arg(&path);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Running(command.spawn().unwrap())
    };
    let mut nonce = 0;
    let mut post = async |openid: &str, rest: &str| {
        nonce += 1;
        let at = SystemClock.now().seconds();
        let (target, body) = letter("main", openid, rest, at, nonce);
        let post = client
            .post(format!("http://{addr}/callback/{target}"))
            .body(body);
        post.send().await.unwrap().status().as_u16()
    };

    let server = serve();
    eventually("it listens", || async { ready().await.is_some() }).await;
    cluster.stop_immediate();
    for number in 0..20 {
        assert_eq!(post(&format!("o{number}"), FOLLOW).await, 200);
    }
    assert_eq!(post("o0", UNFOLLOW).await, 200);
    drop(server);
    assert!(
        folder.path().join("dripwheel-spool.db").exists(),
        "beside the configuration"
    );

    cluster.start();
    let server = serve();
    // Killed again, at whatever point of handing over it is.
    eventually("it listens again", || async { ready().await.is_some() }).await;
    drop(server);
    let server = serve();
    eventually("everything is handed over", || async {
        ready()
            .await
            .is_some_and(|told| told["spool"]["events"] == 0)
    })
    .await;
    drop(server);
    let read = store::open_to_read(&url).await.unwrap();
    for (rows, sql) in [
        (20, "SELECT count(*) FROM enrollments"),
        (21, "SELECT count(*) FROM receipts"),
        (19, "SELECT count(*) FROM followers WHERE following = 1"),
    ] {
        assert_eq!(database::number(&read, sql).await, rows, "{sql}");
    }
}
