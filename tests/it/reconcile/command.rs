//! `dripwheel sync`, as a person or a script runs it.

use std::process::Output;

use tokio::process::Command;

use super::*;

async fn run(stage: &Stage, arguments: &[&str], key: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dripwheel"));
    command
        .args(["sync", "--server", &stage.address()])
        .args(arguments)
        .env("DRIPWHEEL_API_KEY", key)
        .output()
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn the_command_waits_for_the_end_and_tells_what_came_of_it() {
    let stage = Stage::with(&[WELCOME], "").await;
    stage.follows("ann").await;
    stage.platform.leaves("ann");
    stage.platform.follows("bob", stage.second());
    stage.pass(minutes(1)).await;
    let output = run(&stage, &["main", "--json"], API_KEY).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["state"], &told["found"]),
        (&"completed".into(), &1.into())
    );
    assert_eq!(output.stderr, b"");

    let output = run(&stage, &["main", "--refresh"], API_KEY).await;
    assert!(output.status.success());
    let said = text(&output.stdout);
    assert_eq!(
        said,
        "main: completed; 1 listed, 0 found, 0 gone, 0 passages begun\n"
    );

    stage
        .platform
        .world()
        .refusals
        .push_back(("/cgi-bin/user/get", 48001));
    let output = run(&stage, &["main"], API_KEY).await;
    assert!(!output.status.success());
    assert!(
        text(&output.stdout).contains("48001"),
        "{}",
        text(&output.stdout)
    );
    for (arguments, key, why) in [
        (["none"], API_KEY, "no account has this key"),
        (["main"], "wrong-key-0123456789", "send `Authorization"),
    ] {
        let output = run(&stage, &arguments, key).await;
        assert!(!output.status.success());
        let said = text(&output.stderr);
        assert!(said.contains(why) && !said.contains(key), "{said}");
    }
    stage.end().await;
}
