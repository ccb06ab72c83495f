//! Tables in and out: followers and consents from CSV, and outcomes to it, over HTTP and by the command.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::process::Stdio;

use reqwest::StatusCode;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::pair::eventually;
use crate::reconcile::{API_KEY, Stage, minutes};

const WELCOME: &str = r#"
sequence: welcome
trigger: follow
closed: [{ subscription_notice: { template: T1, data: { thing1: hi } } }, skip]
steps:
  - { id: hello, after: 0s, say: { text: hello } }
"#;

impl Stage {
    /// Posts a table: status and answer.
    async fn table(&self, what: &str, table: &[u8]) -> (StatusCode, Value) {
        let url = format!("{}/api/v1/accounts/main/import/{what}", self.address());
        let request = self.client.post(url).bearer_auth(API_KEY);
        let request = request
            .header("Content-Type", "text/csv")
            .body(table.to_vec());
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn taken(&self, what: &str, table: &str) -> Value {
        let (status, report) = self.table(what, table.as_bytes()).await;
        assert_eq!(status, StatusCode::OK, "{report}");
        report
    }

    async fn export(&self, query: &str) -> String {
        let url = format!("{}/api/v1/outcomes.csv{query}", self.address());
        let answer = self
            .client
            .get(url)
            .bearer_auth(API_KEY)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
        answer.text().await.unwrap()
    }

    /// `dripwheel import` of a table from standard input: whether it ended well, and what it said.
    async fn import(&self, what: &str, table: &str) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dripwheel"));
        let server = self.address();
        let arguments = [
            "import",
            what,
            "-",
            "--account",
            "main",
            "--server",
            &server,
        ];
        command
            .args(arguments)
            .env("DRIPWHEEL_API_KEY", API_KEY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(table.as_bytes()).await.unwrap();
        drop(stdin);
        let done = child.wait_with_output().await.unwrap();
        (
            done.status.success(),
            String::from_utf8(done.stdout).unwrap(),
        )
    }
}

#[tokio::test]
async fn followers_are_taken_in_once_and_every_refused_row_is_named() {
    let stage = Stage::of(&[WELCOME], "", "passive_reply: false").await;
    stage.follows("known").await;
    stage.told("left", "subscribe", stage.second()).await;
    stage.clock.advance(minutes(1));
    stage.told("left", "unsubscribe", stage.second()).await;
    let table = "\u{feff}OpenID,followed_at,language,scene,tags\r\n\
        ann,2023-11-01T09:00:00+08:00,zh_CN,spring,vip; 新粉\r\n\
        bob,1698800000,,,\r\n\
        known,,en,,gold\r\n\
        left,2023-11-01T00:00:00Z,,,\r\n\
        ,,,,\r\n\
        two words,,,,\r\n\
        cid,yesterday,,,\r\n\
        dan,2030-01-01T00:00:00Z,,,\r\n\
        eve,,\"zh CN\",,\r\n\
        fay,,,\"a\nb\",\r\n\
        ann,,,,\r\n\
        gil,too,many,cells,for,it\r\n";
    for round in 0..3 {
        let report = stage.taken("followers", table).await;
        assert_eq!(
            (&report["rows"], &report["taken"]),
            (&12.into(), &4.into()),
            "{report}"
        );
        // Who is not known is new once; whoever has left stays gone.
        let new = if round == 0 { 2 } else { 0 };
        assert_eq!(report["new"], new, "{report}");
        let refused: Vec<_> = report["refused"].as_array().unwrap().iter().collect();
        let lines: Vec<_> = refused
            .iter()
            .map(|one| one["line"].as_u64().unwrap())
            .collect();
        assert_eq!(lines, [6, 7, 8, 9, 10, 11, 13, 14], "{report}");
        for (one, word) in refused.iter().zip([
            "openid: is empty",
            "openid: has",
            "followed_at: write",
            "followed_at: lies",
            "language:",
            "scene:",
            "is the same as row 1",
            "has 6 cells, not 5",
        ]) {
            assert!(one["reason"].as_str().unwrap().starts_with(word), "{one}");
        }
    }
    let ann = stage.get("/accounts/main/followers/ann").await;
    assert_eq!(ann["following"], true, "{ann}");
    assert_eq!(
        (&ann["language"], &ann["scene"]),
        (&"zh_CN".into(), &"spring".into()),
        "{ann}"
    );
    assert_eq!(ann["tags"], serde_json::json!(["vip", "新粉"]), "{ann}");
    let known = stage.get("/accounts/main/followers/known").await;
    assert_eq!(
        (&known["language"], &known["tags"][0]),
        (&"en".into(), &"gold".into()),
        "{known}"
    );
    let left = stage.get("/accounts/main/followers/left").await;
    assert_eq!(left["following"], false, "{left}");
    // A table is nobody's act: nobody is greeted.
    assert_eq!(stage.number("SELECT count(*) FROM enrollments").await, 2);
    stage.end().await;
}

#[tokio::test]
async fn what_is_no_table_of_ours_is_refused_as_a_whole() {
    let stage = Stage::of(&[WELCOME], "", "passive_reply: false").await;
    let many = format!("openid\n{}", "a\n".repeat(501));
    for (table, word) in [
        (&b"name\nann\n"[..], "the column `name`"),
        (b"language\nzh\n", "there is no column `openid`"),
        (b"openid,openid\na,b\n", "each once"),
        (many.as_bytes(), "at most 500 rows"),
    ] {
        let (status, problem) = stage.table("followers", table).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(word),
            "{problem}"
        );
    }
    let (status, report) = stage.table("followers", b"openid\n\xff\xfe\nann\n").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(report["refused"][0]["reason"], "is not UTF-8", "{report}");
    assert_eq!(report["taken"], 1);
    stage.end().await;
}

#[tokio::test]
async fn consents_are_what_the_table_says_however_often_it_comes() {
    let stage = Stage::of(&[WELCOME], "", "passive_reply: false").await;
    stage.follows("ann").await;
    let table = "openid,template,left\nann,T1,3\nann,T2,0\nnobody,T1,1\nann,T3,lots\n";
    for _ in 0..2 {
        let report = stage.taken("consents", table).await;
        assert_eq!(report["taken"], 2, "{report}");
        let refused = report["refused"].as_array().unwrap();
        let lines: Vec<_> = refused
            .iter()
            .map(|one| one["line"].as_u64().unwrap())
            .collect();
        assert_eq!(lines, [4, 5], "{report}");
    }
    let left = "SELECT \"left\" FROM consents WHERE template = 'T1'";
    assert_eq!(stage.number(left).await, 3);
    stage.end().await;
}

#[tokio::test]
async fn the_command_cuts_a_file_into_parts_and_names_its_lines() {
    let stage = Stage::of(&[WELCOME], "", "passive_reply: false").await;
    let mut table = "openid,tags\n".to_owned();
    for number in 0..1_300 {
        match number {
            700 => table.push_str("bad openid,\n"),
            _ => table.push_str(&format!("fan-{number},a;b\n")),
        }
    }
    let (well, said) = stage.import("followers", &table).await;
    assert!(!well, "a row was refused");
    assert!(said.starts_with("line 702: openid: has"), "{said}");
    assert!(
        said.contains("1300 rows of followers, 1299 taken in (1299 new), 1 refused"),
        "{said}"
    );
    let (_, again) = stage.import("followers", &table).await;
    assert!(again.contains("1299 taken in (0 new)"), "{again}");
    assert_eq!(stage.number("SELECT count(*) FROM followers").await, 1_299);
    stage.end().await;
}

#[tokio::test]
async fn outcomes_come_out_as_they_are_and_no_cell_is_a_formula() {
    let stage = Stage::of(
        &[WELCOME],
        "",
        "passive_reply: false, erase_on_unfollow: false",
    )
    .await;
    for openid in ["=cmd()", "@ann", "bob"] {
        stage.follows(openid).await;
    }
    eventually("everybody is greeted", async || {
        stage
            .number("SELECT count(*) FROM outcomes WHERE result = 1")
            .await
            == 3
    })
    .await;
    let table = stage.export("").await;
    let mut rows = csv::Reader::from_reader(table.as_bytes());
    let head = rows.headers().unwrap().clone();
    let column = |name: &str| head.iter().position(|one| one == name).unwrap();
    let rows: Vec<_> = rows.records().map(Result::unwrap).collect();
    let openids: Vec<_> = rows.iter().map(|row| &row[column("openid")]).collect();
    assert_eq!(openids, ["'=cmd()", "'@ann", "bob"]);
    for row in &rows {
        let cells =
            ["account", "sequence", "step", "outcome", "carrier"].map(|name| &row[column(name)]);
        assert_eq!(
            cells,
            ["main", "welcome", "hello", "sent", "customer_message"]
        );
        assert!(row[column("at")].starts_with("2023-11-1"), "{row:?}");
    }
    let count = async |query: &str| stage.export(query).await.lines().count() - 1;
    assert_eq!(
        count("?account=main&from=2023-11-14&to=2023-11-14").await,
        3
    );
    assert_eq!(count("?to=2023-11-13").await, 0);
    assert_eq!(count("?version=77").await, 0);
    stage.end().await;
}

#[tokio::test]
async fn an_export_is_told_page_by_page_to_its_end() {
    let mut stage = Stage::of(&[WELCOME], "", "passive_reply: false").await;
    let account = stage.number("SELECT id FROM accounts").await;
    let version = stage.number("SELECT id FROM sequence_versions").await;
    // More than two pages, in a statement that both databases know.
    let fill = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12345)
         INSERT INTO outcomes (enrollment_id, step, entry, account_id, version_id, result, steps,
             due_at, at) SELECT i * 65536, i % 3, 0, {account}, {version}, 4, 1, 0, 0 FROM n"
    );
    let wrote = stage.store().writer().cold(move |tx| {
        Box::pin(async move {
            sea_orm::ConnectionTrait::execute_unprepared(tx, &fill)
                .await
                .map(drop)?;
            Ok(())
        })
    });
    wrote.await.unwrap();
    let table = stage.export("").await;
    let mut enrollments: Vec<u64> = csv::Reader::from_reader(table.as_bytes())
        .records()
        .map(|row| row.unwrap()[3].parse().unwrap())
        .collect();
    assert_eq!(enrollments.len(), 12_345);
    assert!(enrollments.is_sorted());
    enrollments.dedup();
    assert_eq!(enrollments.len(), 12_345, "each once");
    stage.stop().await;
}
