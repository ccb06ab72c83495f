//! 全网发布检测: a right server passes in every group, and each mistake of a wrong one is found and
//! named.

use std::time::Duration;

use dripwheel::sandbox::{
    AuthorizerKind, ConformanceOptions, ConformanceReport, ConformanceStep as Step,
};

use super::city::City;
use super::server::{APP_ID, Mistake};

/// The steps that a server with this mistake fails, with what was seen.
async fn check(mistake: Mistake, within: Duration) -> Vec<(Step, String)> {
    let city = City::build(mistake, |settings| {
        if mistake == Mistake::SlowText {
            settings.limits.callback_timeout_ms = 1_000;
        }
    })
    .await;
    let options = ConformanceOptions {
        groups: vec![2],
        mini_programs: false,
        send_within: within,
        ..ConformanceOptions::default()
    };
    let report = city.control.conformance(APP_ID, &options, |_| {}).await;
    let verdicts = report.unwrap().verdicts;
    let failed = verdicts.into_iter().filter(|verdict| !verdict.passed);
    failed.map(|verdict| (verdict.step, verdict.seen)).collect()
}

/// For mistakes after which something is awaited that comes.
const LONG: Duration = Duration::from_secs(30);
/// For mistakes after which nothing comes.
const SHORT: Duration = Duration::from_millis(700);

fn steps(report: &ConformanceReport, kind: Option<AuthorizerKind>) -> Vec<Step> {
    let of_kind = report.verdicts.iter().filter(|one| one.kind == kind);
    of_kind.map(|one| one.step).collect()
}

#[tokio::test]
async fn a_right_server_passes_every_step_of_all_groups_and_does_so_again() {
    let city = City::new().await;
    let options = ConformanceOptions {
        send_within: LONG,
        ..ConformanceOptions::default()
    };
    for _ in 0..2 {
        let mut told = 0;
        let count = |_: &_| told += 1;
        let report = city.control.conformance(APP_ID, &options, count).await;
        let report = report.unwrap();
        let failed: Vec<_> = report.verdicts.iter().filter(|one| !one.passed).collect();
        assert!(report.passed, "{failed:#?}");
        assert_eq!(told, report.verdicts.len());
        assert_eq!(report.verdicts.len(), 5 * 11);
        let [official, mini] = [AuthorizerKind::OfficialAccount, AuthorizerKind::MiniProgram]
            .map(|kind| steps(&report, Some(kind)));
        let by_api = [Step::CodeText, Step::QueryAuth, Step::ApiText];
        assert_eq!(official[..2], [Step::Authorized, Step::TextReply]);
        assert_eq!(official[2..5], by_api);
        assert_eq!(official[5], Step::EventReply);
        assert_eq!(mini[0], Step::Authorized);
        assert_eq!(mini[1..4], by_api);
    }
    // What the platform pushes, to the letter.
    let messages = city.server.messages();
    let first = &messages[0];
    assert_eq!(first.app_id, "wx570bc396a51b8ff8");
    assert_eq!(first.fields["ToUserName"], "gh_3c884a361561");
    assert_eq!(
        first.openid.as_ref(),
        Some(&first.fields["FromUserName"]),
        "the query names the tester"
    );
    assert_eq!(first.fields["Content"], "TESTCOMPONENT_MSG_TYPE_TEXT");
    let code = &messages[1].fields["Content"];
    assert!(
        code.starts_with("QUERY_AUTH_CODE:queryauthcode@@@"),
        "{code}"
    );
    let authorized = &city.server.events()[0];
    assert_eq!(authorized["InfoType"], "authorized");
    assert_eq!(authorized["AuthorizerAppid"], "wx570bc396a51b8ff8");
    let pushed = &authorized["AuthorizationCode"];
    assert_eq!(code.strip_prefix("QUERY_AUTH_CODE:"), Some(pushed.as_str()));
    let messages_to = |app_id: &str| messages.iter().any(|one| one.app_id == app_id);
    assert!(
        messages_to("wx5910277cae6fd970"),
        "mini programs of group 5"
    );
}

#[tokio::test]
async fn parts_that_are_not_selected_are_not_checked() {
    let city = City::new().await;
    let mut options = ConformanceOptions {
        groups: vec![3],
        official_accounts: false,
        ..ConformanceOptions::default()
    };
    let report = city.control.conformance(APP_ID, &options, |_| {}).await;
    assert_eq!(
        steps(&report.unwrap(), Some(AuthorizerKind::OfficialAccount)),
        []
    );
    options.mini_programs = false;
    let report = city.control.conformance(APP_ID, &options, |_| {}).await;
    let report = report.unwrap();
    assert_eq!(steps(&report, None), [Step::Ticket]);
    assert_eq!(report.verdicts.len(), 1);
    options.groups = vec![6];
    assert!(
        city.control
            .conformance(APP_ID, &options, |_| {})
            .await
            .is_err()
    );
}

#[tokio::test]
async fn each_mistake_in_an_answer_is_found_and_named() {
    let mistakes = [
        (Mistake::LoudTicket, vec![Step::Ticket], "Success!"),
        (
            Mistake::SilentAuthorized,
            vec![Step::Authorized],
            "status 200",
        ),
        (Mistake::SuccessForText, vec![Step::TextReply], "success"),
        (Mistake::WrongText, vec![Step::TextReply], "TEXT callback"),
        (Mistake::SuccessForCode, vec![Step::CodeText], "success"),
        (Mistake::NoEvent, vec![Step::EventReply], "success"),
    ];
    for (mistake, wanted, word) in mistakes {
        let failed = check(mistake, LONG).await;
        let found: Vec<Step> = failed.iter().map(|(step, _)| *step).collect();
        assert_eq!(found, wanted, "{mistake:?}: {failed:?}");
        assert!(failed[0].1.contains(word), "{mistake:?}: {failed:?}");
    }
}

#[tokio::test]
async fn each_mistake_in_a_replys_envelope_is_found_and_named() {
    let mistakes = [
        (Mistake::PlainReply, "not encrypted"),
        (Mistake::JsonReply, "XML"),
        (Mistake::NotSwapped, "ToUserName"),
        (Mistake::AuthorizersTail, "another app id"),
        (Mistake::BadSignature, "signature"),
    ];
    for (mistake, word) in mistakes {
        let failed = check(mistake, LONG).await;
        let found: Vec<Step> = failed.iter().map(|(step, _)| *step).collect();
        let wanted = [Step::TextReply, Step::EventReply];
        assert_eq!(found, wanted, "{mistake:?}: {failed:?}");
        assert!(failed[0].1.contains(word), "{mistake:?}: {failed:?}");
    }
}

#[tokio::test]
async fn each_mistake_after_the_answer_is_found_and_named() {
    let mistakes = [
        (
            Mistake::NoExchange,
            vec![Step::QueryAuth, Step::ApiText],
            "no call",
        ),
        (Mistake::NoMessage, vec![Step::ApiText], "no message"),
        (Mistake::WrongMessage, vec![Step::ApiText], "from_api"),
        (
            Mistake::RefreshedToken,
            vec![Step::ApiText],
            "another origin",
        ),
    ];
    for (mistake, wanted, word) in mistakes {
        let failed = check(mistake, SHORT).await;
        let found: Vec<Step> = failed.iter().map(|(step, _)| *step).collect();
        assert_eq!(found, wanted, "{mistake:?}: {failed:?}");
        assert!(failed[0].1.contains(word), "{mistake:?}: {failed:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_late_or_away_fails() {
    let failed = check(Mistake::SlowText, LONG).await;
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].0, Step::TextReply);
    let away = City::build(Mistake::Nothing, |settings| {
        settings.components[0].event_url = "http://127.0.0.1:9/events".to_owned();
        settings.components[0].message_url = "http://127.0.0.1:9/$APPID$".to_owned();
    })
    .await;
    let options = ConformanceOptions {
        groups: vec![1],
        send_within: SHORT,
        ..ConformanceOptions::default()
    };
    let report = away.control.conformance(APP_ID, &options, |_| {}).await;
    let report = report.unwrap();
    assert!(!report.passed);
    assert!(report.verdicts.iter().all(|verdict| !verdict.passed));
}
