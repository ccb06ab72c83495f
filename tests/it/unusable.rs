//! A PostgreSQL that cannot be used is refused with its remedy, and its password is shown nowhere:
//! asked of the real program, by the commands that an operator runs.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::cluster::Cluster;
use crate::support::database::Fresh;

/// Stands in passwords only.
const CANARY: &str = "canary-8412";

const SEQUENCE: &str = "
sequence: late
trigger: follow
steps: [{ id: hello, after: 1h, say: { text: hello } }]
";

/// A folder with a configuration for this database.
fn configured(url: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sequences")).unwrap();
    std::fs::write(folder.path().join("sequences/late.yaml"), SEQUENCE).unwrap();
    // Without quotes, so that a variable in it counts.
    let config = format!("server: {{ listen: '127.0.0.1:0' }}\ndatabase:\n  url: {url}\n");
    std::fs::write(folder.path().join("dripwheel.yaml"), config).unwrap();
    folder
}

fn dripwheel(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dripwheel"));
    command
        .args(arguments)
        .arg("--config")
        .arg(folder.join("dripwheel.yaml"))
        .env("RUST_LOG", "trace")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    command
}

/// Everything that was printed, without a password in it.
fn printed(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains(CANARY), "{text}");
    text
}

/// The last line of a command that fails.
fn complaint(url: &str, command: &str) -> String {
    let output = dripwheel(configured(url).path(), &[command])
        .output()
        .unwrap();
    assert!(!output.status.success(), "{url}");
    let text = printed(&output);
    text.lines().last().unwrap_or_default().to_owned()
}

/// Somebody with a password that can be looked for.
fn with_canary(cluster: &Cluster, url: &str) -> String {
    let role = format!(
        "DO $$ BEGIN CREATE ROLE canary LOGIN SUPERUSER PASSWORD '{CANARY}';
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    );
    cluster.psql("postgres", &role);
    let place = url.split_once('@').unwrap().1;
    format!("postgres://canary:{CANARY}@{place}")
}

#[test]
fn what_keeps_a_server_from_being_used_is_said_with_its_remedy() {
    let cluster = Cluster::of_this_process();
    let empty = cluster.create_database();
    let url = with_canary(cluster, &cluster.url(&empty));
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    let (front, name) = url.rsplit_once('/').unwrap();
    for (url, says, remedy) in [
        (
            format!("postgres://canary:{CANARY}@{nobody}/drip"),
            "cannot be reached",
            "start it, or correct database.url",
        ),
        (
            url.replace(CANARY, &format!("{CANARY}-wrong")),
            "does not let `canary` in",
            "correct the password",
        ),
        (
            format!("{front}/nowhere"),
            "no database `nowhere`",
            "createdb nowhere",
        ),
        (
            format!("{url}?sslmode=require"),
            "TLS failed",
            "another sslmode",
        ),
        (
            format!("{front}/{name}?sslmode={CANARY}"),
            "database.url",
            "",
        ),
    ] {
        for command in ["serve", "audit"] {
            let complaint = complaint(&url, command);
            let both = complaint.contains(says) && complaint.contains(remedy);
            assert!(both, "{says}: {complaint}");
        }
    }
    let complaint = complaint(&url, "audit");
    assert!(complaint.contains("start `dripwheel serve`"), "{complaint}");
    cluster.drop_database(&empty);
}

#[test]
fn a_standby_is_read_and_not_served_from() {
    let primary = Cluster::plan().start();
    let database = primary.create_database();
    let standby = primary.standby();
    let complaint = complaint(&standby.url(&database), "serve");
    assert!(complaint.contains("read-only standby"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_a_later_version_is_left_alone() {
    for database in [Fresh::file(), Fresh::on_server()] {
        let settings =
            dripwheel::store::StoreSettings::at(database.url.clone(), Default::default());
        let clock = std::sync::Arc::new(dripwheel::clock::SystemClock);
        let (store, _armed) = dripwheel::store::Store::open(&settings, clock)
            .await
            .unwrap();
        store.close().await;
        drop(store);
        let later = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('9999_later', 0)";
        database.tamper(later).await;
        for command in ["serve", "audit"] {
            let complaint = complaint(&database.url, command);
            let both = complaint.contains("9999_later") && complaint.contains("run that version");
            assert!(both, "{complaint}");
        }
    }
}

#[test]
fn a_password_is_shown_nowhere_and_may_stand_in_the_environment() {
    let cluster = Cluster::of_this_process();
    let database = Fresh::on_server();
    let url = with_canary(cluster, &database.url);
    let without = url.replace(&format!(":{CANARY}"), "");
    let passwords = tempfile::tempdir().unwrap();
    let file = passwords.path().join("pgpass");
    std::fs::write(&file, format!("*:*:*:canary:{CANARY}\n")).unwrap();
    let private = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
    std::fs::set_permissions(&file, private).unwrap();
    let variable = url.replace(CANARY, "${DRIPWHEEL_TEST_PASSWORD}");
    for (url, name, value) in [
        (url.as_str(), "NOTHING", ""),
        (&without, "PGPASSWORD", CANARY),
        (&without, "PGPASSFILE", file.to_str().unwrap()),
        (&variable, "DRIPWHEEL_TEST_PASSWORD", CANARY),
    ] {
        let folder = configured(url);
        let serve = dripwheel(folder.path(), &["serve"])
            .env(name, value)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut serve = serve.unwrap();
        // It has begun when there is a spool, and its log is whole when it has ended.
        let begun = std::time::Instant::now();
        while !folder.path().join("dripwheel-spool.db").exists() {
            let patience = begun.elapsed() < std::time::Duration::from_secs(60);
            assert!(patience && serve.try_wait().unwrap().is_none(), "{name}");
            std::thread::yield_now();
        }
        let id = serve.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().unwrap();
        printed(&serve.wait_with_output().unwrap());
        let audit = dripwheel(folder.path(), &["audit"])
            .env(name, value)
            .output();
        let audit = audit.unwrap();
        assert!(audit.status.success(), "{name}: {}", printed(&audit));
        assert!(printed(&audit).contains("audit: clean"), "{name}");
        let explain = &["explain", "main", "nobody"];
        let explain = dripwheel(folder.path(), explain).env(name, value).output();
        assert!(
            printed(&explain.unwrap()).contains("no follower nobody"),
            "{name}"
        );
    }
    // A configuration with a mistake beside the password.
    for config in [
        format!("database: {{ url: '{url}', colour: red }}\n"),
        format!("database: {{ colour: red, url: '{url}' }}\n"),
        format!("database:\n  url: '{url}'\n  keep_outcomes: 1d\n"),
        format!("database:\n  url: '{url}?colour={CANARY}'\n"),
        format!("database:\n  url: 'postgres://a:{CANARY}@[b/c'\n"),
        format!("database:\n  url: ['{url}']\n"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("dripwheel.yaml"), &config).unwrap();
        let output = dripwheel(folder.path(), &["serve"]).output().unwrap();
        assert!(!output.status.success());
        assert!(printed(&output).contains("error:"), "{config}");
    }
}
