//! The API over a real socket.

use dripwheel::journey::answer::{Answer, AnswerClass};
use dripwheel::journey::event::Event;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::world::{READ_KEY, WRITE_KEY, World, accepted, seconds};

async fn body(response: Response) -> Value {
    response.json().await.expect("is JSON")
}

async fn get(world: &World, path: &str) -> Value {
    let response = world.api(Method::GET, path, READ_KEY).send().await;
    let response = response.expect("is answered");
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    body(response).await
}

/// Checks that an answer is a problem of this status and code.
async fn check_problem(response: Response, status: u16, code: &str) {
    assert_eq!(response.status().as_u16(), status, "{code}");
    let kind = response.headers()["content-type"].to_str().expect("ASCII");
    assert_eq!(kind, "application/problem+json", "{code}");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert!(response.headers().contains_key("content-security-policy"));
    let problem = body(response).await;
    assert_eq!(problem["code"], code);
    assert_eq!(problem["status"], status);
    for field in ["type", "title", "detail"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()));
    }
}

#[tokio::test]
async fn the_committed_description_is_the_generated_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/dripwheel.json");
    let spec = dripwheel::api::spec();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &spec).expect("write the description");
    }
    let committed = std::fs::read_to_string(path).expect("run with UPDATE=1 once");
    assert!(committed == spec, "run with UPDATE=1 to rewrite {path}");
}

#[tokio::test]
async fn every_operation_wants_a_key_and_its_scope() {
    let world = World::new().await;
    world.follow("ann").await;
    let spec: Value = serde_json::from_str(&dripwheel::api::spec()).expect("is JSON");
    let mut operations = 0;
    for (path, methods) in spec["paths"].as_object().expect("has paths") {
        let path = path
            .replace("{key}", "main")
            .replace("{openid}", "ann")
            .replace("{tag}", "vip")
            .replace("{component}", "pro")
            .replace("{id}", "1")
            .replace("{name}", "welcome");
        for method in methods.as_object().expect("has methods").keys() {
            operations += 1;
            // Whatever the one before has done to her.
            world.clock.advance(seconds(1));
            world.follow("ann").await;
            let method: Method = method.to_uppercase().parse().expect("is a method");
            let send = async |key: Option<&str>| {
                let url = format!("{}/api/v1{path}", world.base);
                let mut request = world.client.request(method.clone(), url);
                if method == Method::POST {
                    let body = match path.rsplit('/').next() {
                        Some("enrollments") => json!({ "sequence": "again" }),
                        Some("broadcasts") => json!({
                            "title": "a test", "accounts": ["main"], "say": { "text": "hello" },
                        }),
                        Some("listed") => json!({ "account": "main", "openids": ["ann"] }),
                        _ => json!({ "reason": "a test" }),
                    };
                    request = request.json(&body);
                }
                if path.contains("/import/") {
                    let table = match path.ends_with("/consents") {
                        true => "openid,template,left\nann,T1,1\n",
                        false => "openid\nann\n",
                    };
                    request = world.client.post(format!("{}/api/v1{path}", world.base));
                    request = request.header("Content-Type", "text/csv").body(table);
                }
                if let Some(key) = key {
                    request = request.header("X-Api-Key", key);
                }
                request.send().await.expect("is answered")
            };
            check_problem(send(None).await, 401, "key_missing_or_wrong").await;
            check_problem(send(Some("wrong")).await, 401, "key_missing_or_wrong").await;
            let done = send(Some(WRITE_KEY)).await.status();
            // How a broadcast stands does not go with every order.
            let not_now = path.starts_with("/broadcasts/1/") && done == 409;
            assert!(done.is_success() || not_now, "{path}: {done}");
            let reader = send(Some(READ_KEY)).await;
            if method == Method::GET {
                assert!(reader.status().is_success(), "{path}");
            } else {
                check_problem(reader, 403, "scope_missing").await;
            }
        }
    }
    assert!(operations >= 9, "only {operations} operations");
}

/// PostgreSQL has no text with a NUL in it: a name with one is nobody's, and no failure.
#[tokio::test]
async fn a_name_that_no_text_can_hold_is_unknown() {
    let world = World::new().await;
    world.follow("ann").await;
    for (path, code) in [
        ("/accounts/a%00b", "no_such_account"),
        ("/accounts/a%00b/followers/ann/timeline", "no_such_account"),
        ("/unknown-sends?account=a%00b", "no_such_account"),
        ("/accounts/main/followers/a%00b", "no_such_follower"),
        (
            "/accounts/main/followers/a%00b/timeline",
            "no_such_follower",
        ),
        ("/sequences/a%00b/versions", "no_such_sequence"),
    ] {
        let request = world.api(Method::GET, path, WRITE_KEY);
        let response = request.send().await.expect("is answered");
        check_problem(response, 404, code).await;
    }
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let world = World::new().await;
    world.follow("ann").await;
    let api = |method, path: &str| world.api(method, path, WRITE_KEY);
    let enrollments = "/accounts/main/followers/ann/enrollments";
    let big = "x".repeat(70_000);
    let cases = [
        (api(Method::GET, "/nothing"), 404, "no_such_path"),
        (api(Method::GET, "/accounts/none"), 404, "no_such_account"),
        (
            api(Method::GET, "/accounts/main/followers/bob"),
            404,
            "no_such_follower",
        ),
        (
            api(Method::GET, "/accounts/other/followers/ann"),
            404,
            "no_such_follower",
        ),
        (
            api(Method::GET, "/sequences/none/versions"),
            404,
            "no_such_sequence",
        ),
        (api(Method::PUT, "/accounts"), 405, "method_not_allowed"),
        (
            api(Method::GET, "/accounts/main/followers?limit=0"),
            400,
            "bad_request",
        ),
        (
            api(Method::GET, "/accounts/main/followers?limit=201"),
            400,
            "bad_request",
        ),
        (
            api(Method::GET, "/accounts/main/followers?cursor=x"),
            400,
            "bad_cursor",
        ),
        (
            api(Method::POST, enrollments).body(""),
            415,
            "unsupported_media_type",
        ),
        (
            api(Method::POST, enrollments)
                .header("content-type", "application/json")
                .body("{"),
            400,
            "bad_request",
        ),
        (
            api(Method::POST, enrollments).json(&json!({})),
            400,
            "bad_request",
        ),
        (
            api(Method::POST, enrollments).json(&json!({ "sequence": "again", "x": 1 })),
            400,
            "bad_request",
        ),
        (
            api(Method::POST, enrollments).json(&json!({ "sequence": big })),
            413,
            "body_too_large",
        ),
        (
            api(Method::POST, enrollments).json(&json!({ "sequence": "none" })),
            404,
            "no_such_sequence",
        ),
        (
            api(Method::POST, enrollments).json(&json!({ "sequence": "welcome" })),
            409,
            "reenter_not_allowed",
        ),
        (
            api(Method::POST, enrollments)
                .header("Idempotency-Key", "a b")
                .json(&json!({ "sequence": "again" })),
            422,
            "bad_idempotency_key",
        ),
    ];
    for (request, status, code) in cases {
        check_problem(request.send().await.expect("is answered"), status, code).await;
    }
    world.clock.advance(seconds(1));
    world.event("ann", Event::Unfollowed).await;
    let request = api(Method::POST, enrollments).json(&json!({ "sequence": "again" }));
    check_problem(
        request.send().await.expect("is answered"),
        409,
        "not_following",
    )
    .await;
}

#[tokio::test]
async fn a_stopped_store_is_a_problem_without_inner_detail() {
    let world = World::new().await;
    world.follow("ann").await;
    world.store.close().await;
    let response = world.api(Method::GET, "/accounts", READ_KEY).send().await;
    let problem = response.expect("is answered");
    assert_eq!(problem.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let text = problem.text().await.expect("is text");
    assert!(text.contains("\"code\":\"internal\""), "{text}");
    for inner in ["pool", "sqlx", "SELECT", "database"] {
        assert!(
            !text.to_lowercase().contains(&inner.to_lowercase()),
            "{text}"
        );
    }
    let ready = world.get("/readyz").send().await.expect("is answered");
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    let alive = world.get("/healthz").send().await.expect("is answered");
    assert_eq!(alive.status(), StatusCode::OK);
}

#[tokio::test]
async fn pages_of_followers_hold_everybody_once_newest_first() {
    let world = World::new().await;
    for n in 0..7 {
        world.follow(&format!("f{n}")).await;
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = get(&world, &format!("/accounts/main/followers?limit=3{cursor}")).await;
        for item in page["items"].as_array().expect("is a list") {
            seen.push(item["openid"].as_str().expect("is text").to_owned());
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let expected: Vec<_> = (0..7).rev().map(|n| format!("f{n}")).collect();
    assert_eq!(seen, expected);
    assert_eq!(
        get(&world, "/accounts/other/followers").await["items"],
        json!([])
    );
}

#[tokio::test]
async fn a_timeline_says_what_happened_to_each_step_and_why() {
    let world = World::new().await;
    world.follow("ann").await;
    assert_eq!(world.pass(seconds(1), accepted()).await, 1);
    // Ten minutes later the grant of the follow has long closed.
    assert_eq!(world.pass(seconds(600), accepted()).await, 0);
    let timeline = get(&world, "/accounts/main/followers/ann/timeline").await;
    let steps = &timeline["passages"][0]["steps"];
    assert_eq!(steps[0]["state"], "sent");
    assert_eq!(steps[0]["why"], "sent 1.0 s after it was due");
    assert_eq!(steps[1]["state"], "held");
    let why = steps[1]["why"].as_str().expect("is text");
    assert!(why.contains("because no grant is open; expires"), "{why}");
    assert!(
        why.contains("a message from the follower would release it"),
        "{why}"
    );
    assert_eq!(steps[2]["state"], "planned");
    assert_eq!(steps[2]["why"], "comes after step guide, which is held");
    assert_eq!(timeline["events"][0]["kind"], "followed");
    assert_eq!(timeline["grants"][0]["open"], false);
    assert_eq!(timeline["passages"][0]["state"], "held");
    let chinese = get(&world, "/accounts/main/followers/ann/timeline?lang=zh").await;
    let why = chinese["passages"][0]["steps"][1]["why"].as_str();
    assert!(why.expect("is text").contains("没有可用的发送许可"));

    world.clock.advance(seconds(60));
    world.write("ann", "1").await;
    assert_eq!(world.pass(seconds(1), accepted()).await, 1);
    let timeline = get(&world, "/accounts/main/followers/ann/timeline").await;
    let steps = &timeline["passages"][0]["steps"];
    assert_eq!(steps[1]["state"], "sent");
    let why = steps[1]["why"].as_str().expect("is text");
    assert!(why.ends_with("it had waited for the follower"), "{why}");
    let why = steps[2]["why"].as_str().expect("is text");
    assert!(why.starts_with("waits for 2026-"), "{why}");

    world.clock.advance(seconds(1));
    world.event("ann", Event::Unfollowed).await;
    let timeline = get(&world, "/accounts/main/followers/ann/timeline").await;
    let steps = &timeline["passages"][0]["steps"];
    assert_eq!(steps[2]["why"], "cancelled: the follower unfollowed");
}

#[tokio::test]
async fn an_unfollow_ends_every_step_that_was_left() {
    let world = World::new().await;
    world.follow("ann").await;
    world.clock.advance(seconds(1));
    world.event("ann", Event::Unfollowed).await;
    let timeline = get(&world, "/accounts/main/followers/ann/timeline").await;
    let steps = timeline["passages"][0]["steps"]
        .as_array()
        .expect("is a list");
    assert!(steps.iter().all(|step| step["state"] == "cancelled"));
    // One row ends all three: it is the history of the first.
    assert_eq!(steps[0]["history"][0]["steps"], 3);
    assert_eq!(steps[1]["history"], json!([]));
}

#[tokio::test]
async fn a_lost_answer_is_listed_and_explained() {
    let world = World::new().await;
    world.follow("ann").await;
    let lost = Answer::without_code(AnswerClass::Unknown, "no answer within 8 s");
    assert_eq!(world.pass(seconds(0), lost).await, 1);
    let unknown = get(&world, "/unknown-sends").await;
    assert_eq!(unknown[0]["openid"], "ann");
    assert_eq!(unknown[0]["step"], "hello");
    assert_eq!(unknown[0]["sent_again"], true);
    assert_eq!(get(&world, "/unknown-sends?account=other").await, json!([]));
    let timeline = get(&world, "/accounts/main/followers/ann/timeline").await;
    let why = timeline["passages"][0]["steps"][0]["why"].as_str();
    let why = why.expect("is text");
    assert!(
        why.starts_with("the answer was lost: sent once more"),
        "{why}"
    );
    assert_eq!(world.pass(seconds(3), accepted()).await, 1);
    let timeline = get(&world, "/accounts/main/followers/ann/timeline").await;
    let why = timeline["passages"][0]["steps"][0]["why"].as_str();
    assert!(why.expect("is text").contains("may have arrived twice"));
}

#[tokio::test]
async fn the_platforms_refusal_is_explained_by_its_code() {
    let world = World::new().await;
    world.follow("ann").await;
    let closed = Answer {
        class: AnswerClass::GrantClosed,
        code: Some(45015),
        detail: "response out of time limit".into(),
        reference: None,
    };
    assert_eq!(world.pass(seconds(0), closed).await, 1);
    let timeline = get(&world, "/accounts/main/followers/ann/timeline").await;
    let step = &timeline["passages"][0]["steps"][0];
    assert_eq!(step["state"], "held");
    assert_eq!(step["history"][0]["code"], 45015);
    let why = step["why"].as_str().expect("is text");
    assert!(
        why.contains("45015: the follower's last act is too long ago"),
        "{why}"
    );
}

async fn enroll(world: &World, key: &str, sequence: &str) -> Response {
    let path = "/accounts/main/followers/ann/enrollments";
    let request = world.api(Method::POST, path, WRITE_KEY);
    let request = request.header("Idempotency-Key", key);
    let request = request.json(&json!({ "sequence": sequence }));
    request.send().await.expect("is answered")
}

#[tokio::test]
async fn an_idempotency_key_acts_once_and_answers_the_same() {
    let world = World::new().await;
    world.follow("ann").await;
    let together = futures_util::future::join_all((0..5).map(|_| enroll(&world, "k1", "again")));
    let mut answers = Vec::new();
    for response in together.await {
        assert_eq!(response.status(), StatusCode::CREATED);
        answers.push(body(response).await);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    check_problem(
        enroll(&world, "k1", "welcome").await,
        422,
        "idempotency_key_reused",
    )
    .await;
    assert_eq!(
        enroll(&world, "k2", "again").await.status(),
        StatusCode::CREATED
    );
    let timeline = get(&world, "/accounts/main/followers/ann/timeline").await;
    let passages = timeline["passages"].as_array().expect("is a list");
    let again = passages.iter().filter(|one| one["sequence"] == "again");
    assert_eq!(again.count(), 2);
    // A refusal is an answer too, and is given again.
    for _ in 0..2 {
        check_problem(
            enroll(&world, "k3", "welcome").await,
            409,
            "reenter_not_allowed",
        )
        .await;
    }
}

#[tokio::test]
async fn cancelling_ends_only_what_was_named() {
    let world = World::new().await;
    world.follow("ann").await;
    enroll(&world, "k1", "again").await;
    let cancel = async |query: &str| {
        let path = format!("/accounts/main/followers/ann/enrollments{query}");
        let response = world.api(Method::DELETE, &path, WRITE_KEY).send().await;
        body(response.expect("is answered")).await["cancelled"].clone()
    };
    assert_eq!(cancel("?sequence=again").await, 1);
    assert_eq!(cancel("?sequence=again").await, 0);
    assert_eq!(cancel("").await, 1);
    let timeline = get(&world, "/accounts/main/followers/ann/timeline").await;
    assert_eq!(
        timeline["passages"][0]["steps"][0]["why"],
        "cancelled: by hand"
    );
}

#[tokio::test]
async fn accounts_and_sequences_say_where_they_stand() {
    let world = World::new().await;
    world.follow("ann").await;
    world.follow("bob").await;
    let main = get(&world, "/accounts/main").await;
    assert_eq!(main["profile"], "wechat-2023");
    assert_eq!(main["timezone"], "Asia/Shanghai");
    assert_eq!(main["due"], json!({ "count": 2, "more": false }));
    assert_eq!(
        get(&world, "/accounts").await.as_array().map(Vec::len),
        Some(2)
    );
    let sequences = get(&world, "/sequences").await;
    assert_eq!(sequences[1]["name"], "welcome");
    assert_eq!(sequences[1]["steps"], json!(["hello", "guide", "offer"]));
    assert_eq!(sequences[1]["passages"]["active"], 2);
    assert_eq!(sequences[1]["passages"]["complete"], true);
    let versions = get(&world, "/sequences/welcome/versions").await;
    assert!(
        versions["items"][0]["source"]
            .as_str()
            .is_some_and(|s| s.contains("限时礼包"))
    );
    assert_eq!(versions["items"][0]["live"], true);
}

#[tokio::test]
async fn the_apis_page_runs_only_its_own_scripts() {
    let world = World::new().await;
    let page = world.get("/docs").send().await.expect("is answered");
    assert_eq!(page.status(), StatusCode::OK);
    let policy = page.headers()["content-security-policy"].to_str();
    let policy = policy.expect("is ASCII").to_owned();
    assert!(policy.contains("script-src 'sha256-") && policy.contains("default-src 'none'"));
    assert!(!policy.contains("http"));
}

#[tokio::test]
async fn tools_are_told_that_the_server_is_ready_and_what_is_due() {
    let world = World::new().await;
    let ready = world.get("/readyz").send().await.expect("is answered");
    assert_eq!(ready.status(), StatusCode::OK);
    assert_eq!(body(ready).await["ready"], true);
    let metrics = world.get("/metrics").send().await.expect("is answered");
    let kind = metrics.headers()["content-type"].to_str().expect("ASCII");
    assert!(kind.starts_with("text/plain; version=0.0.4"));
}
