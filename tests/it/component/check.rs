//! The platform's check before 全网发布, for every group of its test accounts.

use super::*;
use dripwheel::inbound::component::TEST_ACCOUNTS;

const TESTER: &str = "ozy4qt5QUADNXORxCVipKMV9dss0";

/// What an encrypted passive reply says, once its signature is verified.
fn opened(server: &Server, body: &str) -> String {
    let part = |name: &str| {
        let after = body.split(&format!("<{name}>")).nth(1).unwrap();
        let value = after.split(&format!("</{name}>")).next().unwrap();
        let value = value.strip_prefix("<![CDATA[").unwrap_or(value);
        value.strip_suffix("]]>").unwrap_or(value).to_owned()
    };
    let encrypted = part("Encrypt");
    let signature = sign(&[
        &server.token,
        &part("TimeStamp"),
        &part("Nonce"),
        &encrypted,
    ]);
    assert_eq!(part("MsgSignature"), signature);
    assert_eq!(part("Nonce"), NONCE);
    let cipher = Cipher::new(&server.component, &[&server.key]).unwrap();
    String::from_utf8(cipher.decrypt(&encrypted).unwrap().message).unwrap()
}

#[tokio::test]
async fn every_group_of_test_accounts_is_answered_exactly_and_leaves_nothing() {
    let server = Server::ready().await;
    for (number, test) in TEST_ACCOUNTS.iter().enumerate() {
        let (app_id, to) = (test.app_id, test.original_id);
        let code = server.platform.authorize(app_id, ALL);
        server.push_authorized("authorized", app_id, &code).await;

        let now = server.clock.now();
        let asked = text(to, TESTER, now, "TESTCOMPONENT_MSG_TYPE_TEXT");
        let (status, answer) = server.push(app_id, &asked).await;
        assert_eq!(status, 200);
        let reply = opened(&server, &answer);
        for part in [
            format!("<ToUserName><![CDATA[{TESTER}]]></ToUserName>"),
            format!("<FromUserName><![CDATA[{to}]]></FromUserName>"),
            "<MsgType><![CDATA[text]]></MsgType>".to_owned(),
            "<Content><![CDATA[TESTCOMPONENT_MSG_TYPE_TEXT_callback]]></Content>".to_owned(),
        ] {
            assert!(reply.contains(&part), "{part} is not in {reply}");
        }

        let event = "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[LOCATION]]></Event>";
        let (_, answer) = server.push(app_id, &message(to, TESTER, now, event)).await;
        let reply = opened(&server, &answer);
        assert!(
            reply.contains("<![CDATA[LOCATIONfrom_callback]]>"),
            "{reply}"
        );

        // Asked three times, as the platform does; answered once by the API.
        let asked = text(to, TESTER, now, &format!("QUERY_AUTH_CODE:{code}"));
        for _ in 0..3 {
            assert_eq!(server.push(app_id, &asked).await, (200, String::new()));
        }
        server.arrived(app_id, &format!("{code}_from_api"), 1).await;
        assert_eq!(
            server.platform.calls("component/api_query_auth"),
            number + 1
        );

        // Whatever else comes is taken and forgotten.
        let (status, answer) = server.push(app_id, &text(to, TESTER, now, "hello")).await;
        assert_eq!((status, answer.as_str()), (200, "success"));
    }
    let sent = server.platform.with(|state| state.sent.len());
    assert_eq!(sent, TEST_ACCOUNTS.len());
    for table in [
        "accounts",
        "authorizers",
        "followers",
        "receipts",
        "enrollments",
    ] {
        let sql = format!("SELECT count(*) FROM {table}");
        assert_eq!(server.count(&sql).await, 0, "{table}");
    }
    server.app.stop().await;
}

#[tokio::test]
async fn the_checks_own_weakness_is_met() {
    let server = Server::ready().await;
    let test = TEST_ACCOUNTS[0];
    for (round, refusal) in [50002, 61009].into_iter().enumerate() {
        let announced = server.platform.authorize(test.app_id, ALL);
        let written = format!("written@@@{round}");
        server.platform.with(|state| {
            state.refused_codes.insert(written.clone(), refusal);
            state.send_errors.push(-1000);
        });
        let asked = text(
            test.original_id,
            TESTER,
            server.clock.now(),
            &format!("QUERY_AUTH_CODE:{written}"),
        );
        // The announcement may come after the question.
        assert_eq!(server.push(test.app_id, &asked).await, (200, String::new()));
        let at = server.platform.calls("component/api_query_auth");
        eventually("the code was tried", async || {
            server.platform.calls("component/api_query_auth") >= at.max(1)
        })
        .await;
        server
            .push_authorized("authorized", test.app_id, &announced)
            .await;
        let text = format!("{written}_from_api");
        server.arrived(test.app_id, &text, 1).await;
    }
    server.app.stop().await;
}

#[tokio::test]
async fn nobody_elses_text_is_answered_that_way() {
    let server = Server::ready().await;
    server.authorize(ONE, ALL).await;
    let original_id = format!("gh_{}", &ONE[2..]);
    for content in ["TESTCOMPONENT_MSG_TYPE_TEXT", "QUERY_AUTH_CODE:x"] {
        let asked = text(&original_id, "o1", server.clock.now(), content);
        let answer = server.push(ONE, &asked).await;
        assert_eq!(answer, (200, "success".to_owned()), "{content}");
        server.pass(Duration::from_secs(1));
    }
    assert_eq!(server.count("SELECT count(*) FROM receipts").await, 2);
    assert_eq!(server.platform.calls("component/api_query_auth"), 1);
    server.app.stop().await;
}
