//! The list of followers, many of them at once, and their tags.

use dripwheel::sandbox::{Action, NewFollowers};
use serde_json::{Value, json};

use super::town::{APP_ID, Plan, Town};

const LIST: &str = "/cgi-bin/user/get";
const TAGGING: &str = "/cgi-bin/tags/members/batchtagging";

impl Town {
    /// Every openid of the list, by pages, and how many pages it took.
    async fn walk(&self, token: &str) -> (Vec<String>, usize) {
        let mut openids = Vec::new();
        let mut next = String::new();
        for pages in 0.. {
            let path = format!("{LIST}?access_token={token}&next_openid={next}");
            let page = self.get(&path).await;
            if page["count"] == 0 {
                assert!(page.get("data").is_none(), "{page}");
                return (openids, pages);
            }
            let found = page["data"]["openid"].as_array().unwrap();
            assert_eq!(page["count"], found.len());
            openids.extend(
                found
                    .iter()
                    .map(|openid| openid.as_str().unwrap().to_owned()),
            );
            next = page["next_openid"].as_str().unwrap().to_owned();
            assert_eq!(openids.last(), Some(&next));
        }
        unreachable!()
    }
}

#[tokio::test]
async fn the_list_is_walked_in_a_stable_order_while_people_come_and_go() {
    let town = Town::with(Plan {
        rules: json!({"page_max": 3}),
        ..Plan::default()
    })
    .await;
    let names: Vec<String> = (0..8).map(|n| format!("p{n}")).collect();
    for name in &names {
        town.follower(name).await;
    }
    let token = town.token().await;
    let (all, pages) = town.walk(&token).await;
    assert_eq!((&all, pages), (&names, 3));
    // The place to go on at may itself have left.
    town.act("p2", Action::Unfollow).await;
    let rest = town
        .get(&format!("{LIST}?access_token={token}&next_openid=p2"))
        .await;
    assert_eq!(rest["data"]["openid"], json!(["p3", "p4", "p5"]));
    assert_eq!(rest["total"], 7);
    let nobody = town
        .get(&format!("{LIST}?access_token={token}&next_openid=x"))
        .await;
    assert_eq!(nobody["errcode"], 40003);
}

#[tokio::test]
async fn the_list_of_a_large_account_has_pages_of_ten_thousand() {
    let town = Town::new().await;
    let burst = json!({"account": APP_ID, "action": "follow", "count": 10_003, "silent": true});
    let (_, report) = town.control_api("burst", burst).await;
    assert_eq!(report["count"], 10_003);
    let token = town.token().await;
    let (all, pages) = town.walk(&token).await;
    assert_eq!((all.len(), pages), (10_003, 2));
}

#[tokio::test]
async fn the_list_may_be_asked_for_five_hundred_times_a_day() {
    let town = Town::new().await;
    town.follower("ann").await;
    let token = town.token().await;
    let path = format!("{LIST}?access_token={token}");
    for _ in 0..500 {
        assert_eq!(town.get(&path).await["count"], 1);
    }
    assert_eq!(town.get(&path).await["errcode"], 45009);
}

#[tokio::test]
async fn a_batch_tells_of_followers_and_of_those_who_left() {
    let town = Town::new().await;
    let new = NewFollowers {
        account: APP_ID.into(),
        openid: Some("ann".into()),
        language: Some("en".into()),
        ..NewFollowers::default()
    };
    town.control.add_followers(&new).unwrap();
    let scene = Some("spring".to_owned());
    town.act("ann", Action::Follow { scene }).await;
    town.follower("bob").await;
    town.act("bob", Action::Unfollow).await;
    let token = town.token().await;
    let path = "/cgi-bin/user/info/batchget";
    let ask = json!({"user_list": [{"openid": "ann", "lang": "en"}, {"openid": "bob"}]});
    let told = town.call(&token, path, ask).await;
    let people = told["user_info_list"].as_array().unwrap();
    assert_eq!(
        people[0],
        json!({
            "subscribe": 1,
            "openid": "ann",
            "language": "en",
            "subscribe_time": 1_700_000_000,
            "remark": "",
            "groupid": 0,
            "tagid_list": [],
            "subscribe_scene": "ADD_SCENE_QR_CODE",
            "qr_scene": 0,
            "qr_scene_str": "spring",
        })
    );
    assert_eq!(people[1], json!({"subscribe": 0, "openid": "bob"}));
    let too_many = vec![json!({"openid": "ann"}); 101];
    let refused = town
        .call(&token, path, json!({"user_list": too_many}))
        .await;
    assert_eq!(refused["errcode"], 40032);
}

#[tokio::test]
async fn tags_are_made_put_on_taken_off_and_lost_with_the_follower() {
    let town = Town::with(Plan {
        rules: json!({"page_max": 1}),
        ..Plan::default()
    })
    .await;
    for openid in ["ann", "bob"] {
        town.follower(openid).await;
    }
    let token = town.token().await;
    let call = |path: &'static str, body: Value| town.call(&token, path, body);
    let made = call("/cgi-bin/tags/create", json!({"tag": {"name": "vip"}})).await;
    let vip = made["tag"]["id"].as_u64().unwrap();
    let again = call("/cgi-bin/tags/create", json!({"tag": {"name": "vip"}})).await;
    assert_eq!(again["errcode"], 45157);
    let both = json!({"openid_list": ["ann", "bob"], "tagid": vip});
    for _ in 0..2 {
        assert_eq!(call(TAGGING, both.clone()).await["errcode"], 0);
    }
    let tags = town
        .get(&format!("/cgi-bin/tags/get?access_token={token}"))
        .await;
    assert_eq!(
        tags,
        json!({"tags": [{"id": vip, "name": "vip", "count": 2}]})
    );
    let of_ann = format!("/cgi-bin/user/info?access_token={token}&openid=ann");
    assert_eq!(town.get(&of_ann).await["tagid_list"], json!([vip]));
    let page = |next: &'static str| {
        call(
            "/cgi-bin/user/tag/get",
            json!({"tagid": vip, "next_openid": next}),
        )
    };
    let first = page("").await;
    assert_eq!(
        (&first["count"], &first["next_openid"]),
        (&json!(1), &json!("ann"))
    );
    assert_eq!(page("ann").await["data"]["openid"], json!(["bob"]));
    assert_eq!(page("bob").await["count"], 0);

    let off = json!({"openid_list": ["ann"], "tagid": vip});
    call("/cgi-bin/tags/members/batchuntagging", off).await;
    assert_eq!(town.get(&of_ann).await["tagid_list"], json!([]));
    town.act("bob", Action::Unfollow).await;
    town.act("bob", Action::Follow { scene: None }).await;
    let left = call("/cgi-bin/tags/getidlist", json!({"openid": "bob"})).await;
    assert_eq!(left, json!({"tagid_list": []}));
}

#[tokio::test]
async fn each_refusal_of_a_tag_has_its_code() {
    let town = Town::new().await;
    town.follower("ann").await;
    town.person("eve");
    let token = town.token().await;
    let mut ids = Vec::new();
    for n in 0..21 {
        let body = json!({"tag": {"name": format!("tag {n}")}});
        let made = town.call(&token, "/cgi-bin/tags/create", body).await;
        ids.push(made["tag"]["id"].as_u64().unwrap());
    }
    let mark = |openids: Vec<&'static str>, id: u64| {
        let body = json!({"openid_list": openids, "tagid": id});
        let (town, token) = (&town, &token);
        async move { town.call(token, TAGGING, body).await["errcode"].as_i64() }
    };
    for id in &ids[..20] {
        assert_eq!(mark(vec!["ann"], *id).await, Some(0));
    }
    assert_eq!(mark(vec!["ann"], ids[20]).await, Some(45059));
    assert_eq!(mark(vec!["ann"], ids[0]).await, Some(0));
    assert_eq!(mark(vec!["ann"], 7).await, Some(45159));
    assert_eq!(mark(vec!["ann"; 51], ids[0]).await, Some(40032));
    assert_eq!(mark(vec!["ann", "eve"], ids[0]).await, Some(40003));
    let long = json!({"tag": {"name": "x".repeat(31)}});
    let long = town.call(&token, "/cgi-bin/tags/create", long).await;
    assert_eq!(long["errcode"], 45158);
}
