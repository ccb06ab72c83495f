//! `dripwheel conformance`, the real command against the small server.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use super::server::{AES_KEY, APP_ID, Mistake, SECRET, Server, TOKEN};

/// A port that was free a moment ago, for the platform that the server must know beforehand.
fn free_port() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

async fn run(mistake: Mistake, more: &[&str]) -> (bool, String) {
    let (server, addr) = Server::listen(mistake).await;
    let platform = free_port();
    server.call_platform_at(platform);
    let output = Command::new(env!("CARGO_BIN_EXE_dripwheel"))
        .args(["conformance", "--listen", &platform.to_string()])
        .args(more)
        .env_remove("DRIPWHEEL_CONFIG")
        .env("DRIPWHEEL_COMPONENT_APP_ID", APP_ID)
        .env("DRIPWHEEL_COMPONENT_SECRET", SECRET)
        .env("DRIPWHEEL_COMPONENT_TOKEN", TOKEN)
        .env("DRIPWHEEL_COMPONENT_AES_KEY", AES_KEY)
        .env(
            "DRIPWHEEL_COMPONENT_EVENT_URL",
            format!("http://{addr}/events"),
        )
        .env(
            "DRIPWHEEL_COMPONENT_MESSAGE_URL",
            format!("http://{addr}/wx/$APPID$/callback"),
        )
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    for secret in [SECRET, AES_KEY] {
        assert!(!told.contains(secret) && !errors.contains(secret));
    }
    (output.status.success(), format!("{told}{errors}"))
}

#[tokio::test]
async fn a_right_server_passes_and_the_table_says_so() {
    let (is_passed, told) = run(Mistake::Nothing, &["--send-within", "30"]).await;
    assert!(is_passed, "{told}");
    assert_eq!(told.matches(" pass ").count(), 55, "{told}");
    assert!(told.contains("All 55 steps pass."), "{told}");
    assert!(told.contains("wx8e1097c5bc82cde9"), "{told}");
}

#[tokio::test]
async fn a_wrong_server_fails_with_what_was_expected_and_seen() {
    let picked = ["--group", "4", "--no-mini-programs", "--send-within", "30"];
    let (is_passed, told) = run(Mistake::AuthorizersTail, &picked).await;
    assert!(!is_passed, "{told}");
    assert!(told.contains("2 of 7 steps fail."), "{told}");
    assert!(
        told.contains("expected an encrypted passive reply"),
        "{told}"
    );
    assert!(told.contains("another app id"), "{told}");
}

#[tokio::test]
async fn json_is_one_object() {
    let picked = ["--group", "1", "--json", "--send-within", "30"];
    let (is_passed, told) = run(Mistake::NoEvent, &picked).await;
    assert!(!is_passed, "{told}");
    let end = told.rfind('}').unwrap();
    let start = told.find('{').unwrap();
    let report: Value = serde_json::from_str(&told[start..=end]).unwrap();
    assert_eq!(report["passed"], false);
    let verdicts = report["verdicts"].as_array().unwrap();
    assert_eq!(verdicts.len(), 11);
    let failed: Vec<_> = verdicts
        .iter()
        .filter(|one| one["passed"] == false)
        .collect();
    assert_eq!(failed.len(), 1, "{told}");
    assert_eq!(failed[0]["step"], "event_reply");
    assert_eq!(failed[0]["account"], "wx570bc396a51b8ff8");
}
