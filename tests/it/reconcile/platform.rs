//! A platform with followers, for tests of reconciliation: what its documents say of the list of
//! followers, of facts in batches and of tags, over real sockets. It can refuse, and stop answering.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use poem::listener::{Acceptor, Listener, TcpListener};
use poem::web::{Data, Query};
use poem::{Body, EndpointExt, Request, Route, Server, get, handler, post};
use serde_json::{Value, json};

/// Somebody as the platform knows them.
#[derive(Clone, Debug)]
pub struct Fan {
    pub openid: String,
    /// Second of the follow; `None` for somebody who has left.
    pub since: Option<i64>,
    pub scene: &'static str,
    pub tags: Vec<i64>,
}

#[derive(Debug, Default)]
pub struct World {
    /// In the order in which they followed.
    pub fans: Vec<Fan>,
    pub tags: BTreeMap<i64, String>,
    /// Openids of one page of the list.
    pub page: usize,
    /// Codes with which coming calls of a path are refused.
    pub refusals: VecDeque<(&'static str, i64)>,
    /// Calls of the list after which it stops answering.
    pub lists_left: Option<usize>,
    /// Openids that no tag can be put on.
    pub untaggable: Vec<String>,
    /// Every call: path, and what was asked.
    pub calls: Vec<(String, Value)>,
}

impl World {
    pub fn fan(&self, openid: &str) -> Option<&Fan> {
        self.fans.iter().find(|fan| fan.openid == openid)
    }

    fn fan_mut(&mut self, openid: &str) -> Option<&mut Fan> {
        self.fans.iter_mut().find(|fan| fan.openid == openid)
    }

    fn refusal(&mut self, path: &str) -> Option<i64> {
        let at = self
            .refusals
            .iter()
            .position(|(refused, _)| *refused == path)?;
        self.refusals.remove(at).map(|(_, code)| code)
    }
}

/// A handle to the platform; it ends with its test's runtime.
#[derive(Clone, Debug)]
pub struct Platform {
    pub base: String,
    world: Arc<Mutex<World>>,
}

impl Platform {
    pub async fn start() -> Self {
        let world = Arc::new(Mutex::new(World {
            page: 10_000,
            ..World::default()
        }));
        let routes = Route::new()
            .at("/cgi-bin/stable_token", post(token))
            .at("/cgi-bin/message/custom/send", post(send))
            .at("/cgi-bin/user/info", get(info))
            .at("/cgi-bin/user/get", get(list))
            .at("/cgi-bin/user/info/batchget", post(facts))
            .at("/cgi-bin/tags/get", get(tags))
            .at("/cgi-bin/tags/create", post(create_tag))
            .at("/cgi-bin/tags/members/batchtagging", post(tagging))
            .at("/cgi-bin/tags/members/batchuntagging", post(tagging))
            .data(Arc::clone(&world));
        let acceptor = TcpListener::bind("127.0.0.1:0")
            .into_acceptor()
            .await
            .unwrap();
        let addr = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        tokio::spawn(async move { Server::new_with_acceptor(acceptor).run(routes).await });
        Self {
            base: format!("http://{addr}"),
            world,
        }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Somebody follows at this second, again or for the first time.
    pub fn follows(&self, openid: &str, since: i64) {
        let mut world = self.world();
        world.fans.retain(|fan| fan.openid != openid);
        world.fans.push(Fan {
            openid: openid.to_owned(),
            since: Some(since),
            scene: "",
            tags: Vec::new(),
        });
    }

    pub fn leaves(&self, openid: &str) {
        self.world().fan_mut(openid).unwrap().since = None;
    }

    /// What was asked of a path.
    pub fn asked(&self, path: &str) -> Vec<Value> {
        let world = self.world();
        let calls = world.calls.iter().filter(|(asked, _)| asked == path);
        calls.map(|(_, what)| what.clone()).collect()
    }

    /// Texts that were sent to somebody.
    pub fn texts(&self, openid: &str) -> Vec<String> {
        let sent = self.asked("/cgi-bin/message/custom/send").into_iter();
        let sent = sent.filter(|sent| sent["touser"] == openid);
        sent.map(|sent| sent["text"]["content"].as_str().unwrap().to_owned())
            .collect()
    }
}

type State<'a> = Data<&'a Arc<Mutex<World>>>;

fn noted(state: &Mutex<World>, path: &str, what: &Value) -> Option<String> {
    let mut world = state.lock().unwrap();
    world.calls.push((path.to_owned(), what.clone()));
    let code = world.refusal(path)?;
    Some(json!({"errcode": code, "errmsg": "refused rid: 1-2"}).to_string())
}

#[handler]
fn token() -> String {
    json!({"access_token": "T", "expires_in": 7200}).to_string()
}

#[handler]
async fn send(state: State<'_>, body: Body) -> String {
    let body: Value = body.into_json().await.unwrap();
    noted(&state, "/cgi-bin/message/custom/send", &body)
        .unwrap_or_else(|| json!({"errcode": 0, "errmsg": "ok"}).to_string())
}

#[handler]
async fn info(state: State<'_>, Query(query): Query<BTreeMap<String, String>>) -> String {
    let world = state.lock().unwrap();
    describe(world.fan(&query["openid"]), &query["openid"]).to_string()
}

#[handler]
async fn list(state: State<'_>, Query(query): Query<BTreeMap<String, String>>) -> String {
    let next = query.get("next_openid").cloned().unwrap_or_default();
    if let Some(refusal) = noted(&state, "/cgi-bin/user/get", &json!(next)) {
        return refusal;
    }
    let silent = {
        let mut world = state.lock().unwrap();
        match &mut world.lists_left {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    };
    if silent {
        std::future::pending::<()>().await;
    }
    let world = state.lock().unwrap();
    let following: Vec<_> = world
        .fans
        .iter()
        .filter(|fan| fan.since.is_some())
        .collect();
    let from = match following.iter().position(|fan| fan.openid == next) {
        Some(at) => at + 1,
        None if next.is_empty() => 0,
        None => return json!({"errcode": 40003, "errmsg": "invalid openid"}).to_string(),
    };
    let page: Vec<_> = following[from..].iter().take(world.page).collect();
    let total = following.len();
    let Some(last) = page.last() else {
        return json!({"total": total, "count": 0, "next_openid": ""}).to_string();
    };
    let openids: Vec<_> = page.iter().map(|fan| &fan.openid).collect();
    json!({
        "total": total,
        "count": page.len(),
        "data": {"openid": openids},
        "next_openid": last.openid,
    })
    .to_string()
}

fn describe(fan: Option<&Fan>, openid: &str) -> Value {
    let Some((fan, since)) = fan.and_then(|fan| Some((fan, fan.since?))) else {
        return json!({"subscribe": 0, "openid": openid});
    };
    json!({
        "subscribe": 1, "openid": openid, "language": "zh_CN", "subscribe_time": since,
        "remark": "", "groupid": 0, "tagid_list": fan.tags,
        "subscribe_scene": "ADD_SCENE_QR_CODE", "qr_scene": 0, "qr_scene_str": fan.scene,
    })
}

#[handler]
async fn facts(state: State<'_>, body: Body) -> String {
    let body: Value = body.into_json().await.unwrap();
    if let Some(refusal) = noted(&state, "/cgi-bin/user/info/batchget", &body) {
        return refusal;
    }
    let world = state.lock().unwrap();
    let asked = body["user_list"].as_array().unwrap();
    assert!((1..=100).contains(&asked.len()), "{}", asked.len());
    let openids: Vec<_> = asked
        .iter()
        .map(|one| one["openid"].as_str().unwrap())
        .collect();
    if openids.iter().any(|one| one.starts_with("alien")) {
        return json!({"errcode": 40003, "errmsg": "invalid openid"}).to_string();
    }
    let wanted: HashSet<_> = openids.iter().copied().collect();
    let fans = world
        .fans
        .iter()
        .filter(|fan| wanted.contains(&*fan.openid));
    let fans: BTreeMap<_, _> = fans.map(|fan| (&*fan.openid, fan)).collect();
    let people = openids
        .iter()
        .map(|one| describe(fans.get(one).copied(), one));
    json!({"user_info_list": people.collect::<Vec<_>>()}).to_string()
}

#[handler]
async fn tags(state: State<'_>) -> String {
    if let Some(refusal) = noted(&state, "/cgi-bin/tags/get", &Value::Null) {
        return refusal;
    }
    let world = state.lock().unwrap();
    let tags = world
        .tags
        .iter()
        .map(|(id, name)| json!({"id": id, "name": name, "count": 0}));
    json!({"tags": tags.collect::<Vec<_>>()}).to_string()
}

#[handler]
async fn create_tag(state: State<'_>, body: Body) -> String {
    let body: Value = body.into_json().await.unwrap();
    if let Some(refusal) = noted(&state, "/cgi-bin/tags/create", &body) {
        return refusal;
    }
    let mut world = state.lock().unwrap();
    let name = body["tag"]["name"].as_str().unwrap().to_owned();
    if world.tags.values().any(|known| *known == name) {
        return json!({"errcode": 45157, "errmsg": "invalid tag name"}).to_string();
    }
    let id = 100 + i64::try_from(world.tags.len()).unwrap();
    world.tags.insert(id, name.clone());
    json!({"tag": {"id": id, "name": name}}).to_string()
}

#[handler]
async fn tagging(state: State<'_>, request: &Request, body: Body) -> String {
    let path = request.original_uri().path().to_owned();
    let body: Value = body.into_json().await.unwrap();
    if let Some(refusal) = noted(&state, &path, &body) {
        return refusal;
    }
    let mut world = state.lock().unwrap();
    let tag = body["tagid"].as_i64().unwrap();
    if !world.tags.contains_key(&tag) {
        return json!({"errcode": 45159, "errmsg": "invalid tag id"}).to_string();
    }
    let openids = body["openid_list"].as_array().unwrap();
    assert!((1..=50).contains(&openids.len()), "{}", openids.len());
    let openids: Vec<_> = openids
        .iter()
        .map(|one| one.as_str().unwrap().to_owned())
        .collect();
    if openids.iter().any(|one| world.untaggable.contains(one)) {
        return json!({"errcode": 45059, "errmsg": "too many tags on one user"}).to_string();
    }
    for openid in openids {
        let fan = world.fan_mut(&openid).unwrap();
        fan.tags.retain(|one| *one != tag);
        if path.ends_with("batchtagging") {
            fan.tags.push(tag);
        }
    }
    json!({"errcode": 0, "errmsg": "ok"}).to_string()
}
