//! `dripwheel broadcast`, as a person or a script runs it.

use std::process::Output;

use tokio::process::Command;

use super::*;

async fn run(stage: &Stage, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dripwheel"))
        .args(["broadcast", "--server", &format!("http://{}", stage.addr)])
        .args(arguments)
        .env("DRIPWHEEL_API_KEY", API_KEY)
        .output()
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_file_becomes_a_broadcast_that_is_started_and_waited_for() {
    let stage = Stage::new().await;
    let people = stage.follow(0, "en", 12).await;
    let file = stage.folder.path().join("sale.yml");
    std::fs::write(
        &file,
        "title: Sale\naccounts: [main]\nsay: { text: \"Sale: {{ account.name }}\" }\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let made = run(&stage, &["create", file, "--json"]).await;
    assert!(made.status.success(), "{}", text(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let id = made["id"].to_string();
    let dry = run(&stage, &["dry-run", &id]).await;
    let said = text(&dry.stdout);
    assert!(
        said.starts_with("12 followers looked at\nwould get it\n"),
        "{said}"
    );
    assert!(said.contains("        12 customer_message"), "{said}");
    let done = run(&stage, &["start", &id]).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    let said = text(&done.stdout);
    assert!(
        said.starts_with(&format!("broadcast {id}, Sale: completed\n")),
        "{said}"
    );
    assert!(said.contains("sent               12"), "{said}");
    assert!(
        stage
            .phones()
            .values()
            .all(|texts| texts == &["Sale: main"])
    );
    let again = run(&stage, &["start", &id]).await;
    assert!(!again.status.success());
    assert!(text(&again.stderr).contains("it is completed"));

    let csv = stage.folder.path().join("people.csv");
    std::fs::write(
        &csv,
        format!("openid,name\n{},Ann\nstranger,Bob\n", people[3]),
    )
    .unwrap();
    let listed = run(
        &stage,
        &["create", file, "--openids", csv.to_str().unwrap(), "--json"],
    )
    .await;
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    assert!(
        text(&listed.stderr).contains("1 of 2 do not follow"),
        "{}",
        text(&listed.stderr)
    );
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["progress"]["total"], 1);
    stage.end().await;
}
