//! What outlives a restart of the sandbox, and what becomes of a state file that cannot be read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dripwheel::clock::{Clock, ManualClock};
use dripwheel::sandbox::{
    Action, Control, Mode, NewFollowers, PopupAnswer, Profile, Sandbox, SandboxSettings, StartError,
};
use serde_json::{Value, json};

use super::town::{APP_ID, Got, Plan, SEND, START, Town, account};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n rest";

async fn open(state: &Path) -> Town {
    let plan = Plan {
        profile: Profile::Wechat48h,
        mode: Mode::Plain,
        ..Plan::default()
    };
    Town::build(plan, |settings| settings.state_file = Some(state.into())).await
}

/// Stops the sandbox in order and starts it again at the same moment of its clock.
async fn restart(town: Town, state: &Path) -> Town {
    let now = town.clock.now();
    town.running.stop().await;
    let town = open(state).await;
    town.clock.set(now);
    town
}

fn settings(app_id: &str, state: &Path) -> SandboxSettings {
    let mut account = account(&Plan::default(), ([127, 0, 0, 1], 9).into());
    account.app_id = app_id.to_owned();
    let mut settings = SandboxSettings::new(vec![account]);
    settings.state_file = Some(state.to_owned());
    settings
}

fn follower(control: &Control, openid: &str) -> Value {
    serde_json::to_value(control.follower(APP_ID, openid).unwrap()).unwrap()
}

fn chat(control: &Control, openid: &str) -> Value {
    let lines = control.messages(APP_ID, openid).unwrap();
    let lines = lines.iter().map(|line| serde_json::to_value(line).unwrap());
    lines.collect()
}

fn msg_id(got: &Got) -> u64 {
    let (_, rest) = got.body.split_once("<MsgId>").unwrap();
    rest.split_once('<').unwrap().0.parse().unwrap()
}

#[tokio::test]
async fn followers_grants_and_chats_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("phones.json");
    let town = open(&state).await;
    town.control
        .add_followers(&NewFollowers {
            account: APP_ID.into(),
            openid: Some("bob".into()),
            name: Some("Bob".into()),
            language: Some("en".into()),
            count: None,
        })
        .unwrap();
    town.follower("eve").await;
    town.act("eve", Action::Unfollow).await;
    town.person("ann");
    let scene = "event-7".to_owned();
    town.act("ann", Action::Scan { scene }).await;
    let choice = json!({
        "touser": "ann",
        "msgtype": "msgmenu",
        "msgmenu": {"head_content": "?", "list": [{"id": "1", "content": "好"}]},
    });
    let token = town.token().await;
    assert_eq!(town.send(&token, &choice.to_string()).await, 0);
    town.act(
        "ann",
        Action::Text {
            text: "你好".into(),
        },
    )
    .await;
    assert_eq!(town.text(&token, "ann").await, 0);
    let all = |control: &Control| {
        ["ann", "bob", "eve"].map(|openid| (follower(control, openid), chat(control, openid)))
    };
    let before = all(&town.control);
    assert_eq!(before[0].0["grant"]["left"], 19);
    assert_eq!(before[0].1.as_array().unwrap().len(), 4);
    let newest_id = msg_id(town.server.got().last().unwrap());

    let town = restart(town, &state).await;
    assert_eq!(all(&town.control), before);
    assert_eq!(town.control.state().accounts[0].people, 3);
    assert_eq!(town.control.state().accounts[0].following, 1);
    town.act(
        "ann",
        Action::Text {
            text: "还在吗".into(),
        },
    )
    .await;
    assert!(msg_id(&town.server.got()[0]) > newest_id);
    let lines = chat(&town.control, "ann");
    let numbers: Vec<_> = lines
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["line"].as_u64())
        .collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
}

#[tokio::test]
async fn numbers_and_limits_go_on_and_tokens_begin_anew() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("phones.json");
    let town = open(&state).await;
    town.follower("ann").await;
    let old = town.token().await;
    for _ in 0..3 {
        assert_eq!(town.text(&old, "ann").await, 0);
    }
    let town = restart(town, &state).await;
    assert_eq!(town.text(&old, "ann").await, 40001);
    let token = town.token().await;
    assert_eq!(town.text(&token, "ann").await, 0);
    let sent = town.control.sent(None, None, 0, 9);
    assert_eq!(
        sent.iter().map(|one| one.sent.seq).collect::<Vec<_>>(),
        [4, 5]
    );
    let path = format!("/cgi-bin/openapi/quota/get?access_token={token}");
    let quota = town
        .post(&path, json!({"cgi_path": SEND}).to_string())
        .await;
    assert_eq!(quota["quota"]["used"], 4);
    let made_up = |control: &Control| {
        let new = NewFollowers {
            account: APP_ID.into(),
            ..NewFollowers::default()
        };
        control.add_followers(&new).unwrap().openids[0].to_string()
    };
    let one = made_up(&town.control);
    let town = restart(town, &state).await;
    assert_eq!(one[..7], made_up(&town.control)[..7]);
}

#[tokio::test]
async fn consent_tags_and_names_of_messages_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("phones.json");
    let town = open(&state).await;
    for openid in ["ann", "bob"] {
        town.follower(openid).await;
    }
    let token = town.token().await;
    let answers = ["lesson", "news"].map(|id| PopupAnswer {
        template_id: id.to_owned(),
        accept: true,
    });
    let answers = answers.to_vec();
    town.act("ann", Action::Popup { answers, scene: 2 }).await;
    town.control.mute(APP_ID, "bob", true).unwrap();
    let notice = |id: &str| json!({"touser": "ann", "template_id": id, "data": {}});
    let bizsend = "/cgi-bin/message/subscribe/bizsend";
    assert_eq!(
        town.call(&token, bizsend, notice("news")).await["errcode"],
        0
    );
    let mut order = notice("order");
    order["client_msg_id"] = "MSG_1".into();
    let template = "/cgi-bin/message/template/send";
    let first = town.call(&token, template, order.clone()).await;
    let mass = |id: &str| {
        json!({
            "touser": ["ann", "bob"],
            "msgtype": "text",
            "text": {"content": id},
            "clientmsgid": id,
        })
    };
    let send = "/cgi-bin/message/mass/send";
    let mut sent = Value::Null;
    for n in 1..=4 {
        sent = town.call(&token, send, mass(&format!("m{n}"))).await;
    }
    let tag = json!({"tag": {"name": "vip"}});
    let tag = town.call(&token, "/cgi-bin/tags/create", tag).await["tag"]["id"].clone();
    let marks = json!({"openid_list": ["ann"], "tagid": tag});
    town.call(&token, "/cgi-bin/tags/members/batchtagging", marks)
        .await;

    let town = restart(town, &state).await;
    let token = town.token().await;
    let again = town.call(&token, template, order).await;
    assert_eq!(again["msgid"], first["msgid"]);
    town.pass(61);
    let again = town.call(&token, send, mass("m4")).await;
    assert_eq!(again["errcode"], 45065);
    assert_eq!(again["msg_id"], sent["msg_id"]);
    // No result can be on its way any more.
    let get = "/cgi-bin/message/mass/get";
    let told = town
        .call(&token, get, json!({"msg_id": sent["msg_id"]}))
        .await;
    assert_eq!(told["msg_status"], "SEND_SUCCESS");
    assert_eq!(town.call(&token, send, mass("m5")).await["errcode"], 0);
    assert!(town.received("ann").is_empty(), "four a month");
    assert_eq!(
        town.call(&token, bizsend, notice("news")).await["errcode"],
        43101
    );
    assert_eq!(
        town.call(&token, bizsend, notice("lesson")).await["errcode"],
        0
    );
    assert!(town.control.follower(APP_ID, "bob").unwrap().muted);
    let ann = format!("/cgi-bin/user/info?access_token={token}&openid=ann");
    assert_eq!(town.get(&ann).await["tagid_list"], json!([tag]));
}

#[tokio::test]
async fn a_state_file_from_before_these_things_is_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("phones.json");
    let town = open(&state).await;
    town.follower("ann").await;
    town.running.stop().await;
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    let account = kept["accounts"][0].as_object_mut().unwrap();
    for name in ["notices", "mass", "tags"] {
        assert!(account.remove(name).is_some(), "{name}");
    }
    let ann = account["followers"][0][1].as_object_mut().unwrap();
    for name in ["consents", "muted", "mass"] {
        assert!(ann.remove(name).is_some(), "{name}");
    }
    std::fs::write(&state, kept.to_string()).unwrap();
    let town = open(&state).await;
    let token = town.token().await;
    assert_eq!(town.text(&token, "ann").await, 0);
}

#[tokio::test]
async fn an_uploaded_picture_outlives_a_restart_until_its_three_days_are_over() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("phones.json");
    let media = folder.path().join("phones.json.media");
    let town = open(&state).await;
    town.follower("ann").await;
    let token = town.token().await;
    let path = format!("/cgi-bin/media/upload?access_token={token}&type=image");
    let uploaded = town.upload(&path, PNG).await;
    let id = uploaded["media_id"].as_str().unwrap().to_owned();
    let body = json!({"touser": "ann", "msgtype": "image", "image": {"media_id": id}}).to_string();

    let town = restart(town, &state).await;
    assert_eq!(std::fs::read(media.join(&id)).unwrap(), PNG);
    let token = town.token().await;
    assert_eq!(town.send(&token, &body).await, 0);
    let file = town.url(&format!("/sandbox/media/{id}"));
    let file = town.http.get(file).send().await.unwrap();
    assert_eq!(file.headers()["content-type"], "image/png");
    assert_eq!(file.bytes().await.unwrap(), PNG);

    town.pass(3 * 86_400);
    town.act("ann", Action::Text { text: "hi".into() }).await;
    let town = restart(town, &state).await;
    let token = town.token().await;
    assert_eq!(town.send(&token, &body).await, 40007);
    assert!(!media.join(&id).exists());
}

#[tokio::test]
async fn a_picture_that_was_removed_or_cut_counts_as_expired() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("phones.json");
    let town = open(&state).await;
    town.follower("ann").await;
    town.act("ann", Action::Image { media_id: None }).await;
    town.act("ann", Action::Image { media_id: None }).await;
    let lines = chat(&town.control, "ann");
    let ids = [1, 2].map(|n| lines[n]["shown"]["media_id"].as_str().unwrap().to_owned());
    town.running.stop().await;
    let media = folder.path().join("phones.json.media");
    std::fs::remove_file(media.join(&ids[0])).unwrap();
    std::fs::write(media.join(&ids[1]), &PNG[..9]).unwrap();
    let town = open(&state).await;
    for id in ids {
        assert!(town.control.media(&id).is_none());
    }
    assert_eq!(chat(&town.control, "ann"), lines);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_in_the_file_a_second_later_without_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("phones.json");
    let clock = Arc::new(ManualClock::at(START));
    let killed = Sandbox::start(settings(APP_ID, &state), clock.clone())
        .await
        .unwrap();
    let new = NewFollowers {
        account: APP_ID.into(),
        openid: Some("ann".into()),
        ..NewFollowers::default()
    };
    killed.control().add_followers(&new).unwrap();
    // Virtual time, which does not pass while a file is being written.
    tokio::time::sleep(Duration::from_millis(1_001)).await;
    let next = Sandbox::start(settings(APP_ID, &state), clock)
        .await
        .unwrap();
    assert!(next.control().follower(APP_ID, "ann").is_ok());
}

#[tokio::test]
async fn an_account_that_the_settings_leave_out_is_there_again_once_they_name_it() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("phones.json");
    let town = open(&state).await;
    town.follower("ann").await;
    town.act("ann", Action::Image { media_id: None }).await;
    let before = (follower(&town.control, "ann"), chat(&town.control, "ann"));
    town.running.stop().await;

    let clock = Arc::new(ManualClock::at(START));
    let other = Sandbox::start(settings("wx0000000000000001", &state), clock)
        .await
        .unwrap();
    let new = NewFollowers {
        account: "wx0000000000000001".into(),
        ..NewFollowers::default()
    };
    other.control().add_followers(&new).unwrap();
    assert!(other.control().follower(APP_ID, "ann").is_err());
    other.stop().await;

    let town = open(&state).await;
    let after = (follower(&town.control, "ann"), chat(&town.control, "ann"));
    assert_eq!(after, before);
    let id = before.1[1]["shown"]["media_id"].as_str().unwrap();
    assert!(town.control.media(id).is_some());
}

#[tokio::test]
async fn a_damaged_state_file_stops_the_start_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("phones.json");
    let town = open(&state).await;
    town.follower("ann").await;
    town.act("ann", Action::Image { media_id: None }).await;
    town.text(&town.token().await, "ann").await;
    town.running.stop().await;
    let whole = std::fs::read_to_string(&state).unwrap();
    let id =
        serde_json::from_str::<Value>(&whole).unwrap()["accounts"][0]["media"][0]["id"].clone();
    let id = id.as_str().unwrap();
    let damages = [
        whole[..whole.len() / 2].to_owned(),
        String::new(),
        "[]".to_owned(),
        whole.replace(r#""version":1"#, r#""version":2"#),
        whole.replace(r#""line":1"#, r#""line":"one""#),
        // No name leads out of the folder.
        whole.replace(id, &format!("../{}", &id[3..])),
    ];
    for damaged in damages {
        assert_ne!(damaged, whole);
        std::fs::write(&state, &damaged).unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let started = Sandbox::start(settings(APP_ID, &state), clock).await;
        let Err(StartError::State(error)) = started else {
            panic!("started with {damaged:.60}");
        };
        let told = error.to_string();
        assert!(
            told.contains("phones.json") && told.contains("remove it"),
            "{told}"
        );
        assert_eq!(
            std::fs::read_to_string(&state).unwrap(),
            damaged,
            "left as it was"
        );
    }
    std::fs::write(&state, whole).unwrap();
    open(&state).await;
}
