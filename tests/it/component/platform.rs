//! The platform's side of third-party platforms, as its documents describe it: tickets, codes, tokens,
//! the list of accounts, and customer messages. It remembers every call.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Body, EndpointExt, Request, Route, Server, handler, post};
use serde_json::{Value, json};

use super::{APP_SECRET, COMPONENT};

/// One account as the platform has it.
#[derive(Clone, Debug)]
pub struct Owner {
    pub original_id: String,
    pub refresh_token: String,
    pub permissions: Vec<i64>,
    pub is_mini_program: bool,
    pub authorized_at: i64,
}

/// A customer message that was accepted, and whose token it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub app_id: String,
    pub openid: String,
    pub text: String,
    pub token: String,
}

#[derive(Debug, Default)]
pub struct State {
    pub ticket: String,
    /// Accounts that authorize the component now.
    pub owners: HashMap<String, Owner>,
    /// Authorization codes that can be exchanged once.
    pub codes: HashMap<String, String>,
    /// Codes that are refused, with what.
    pub refused_codes: HashMap<String, i64>,
    /// Answers to come before the right one, for `custom/send`.
    pub send_errors: Vec<i64>,
    /// Tokens that are good, and whose they are.
    tokens: HashMap<String, String>,
    dead: HashSet<String>,
    made: u64,
    pub rotates: bool,
    /// Left out of the list, though it counts them.
    pub unlisted: HashSet<String>,
    /// Left out of the list and of its count.
    pub uncounted: HashSet<String>,
    /// Longest page of the list, if it is shorter than what is asked for.
    pub page_max: Option<usize>,
    /// Codes that the description of an account is refused with.
    pub info_errors: HashMap<String, i64>,
    pub calls: HashMap<String, usize>,
    pub sent: Vec<Sent>,
}

#[derive(Clone, Debug)]
pub struct Platform {
    pub state: Arc<Mutex<State>>,
    pub base: String,
}

impl Platform {
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await;
        let acceptor = acceptor.unwrap();
        let addr = acceptor.local_addr()[0].as_socket_addr().copied().unwrap();
        let routes = Route::new().at("/*path", post(call).data(Arc::clone(&state)));
        tokio::spawn(async move { Server::new_with_acceptor(acceptor).run(routes).await });
        Self {
            state,
            base: format!("http://{addr}"),
        }
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    /// An account authorizes the component; the code that this brings.
    pub fn authorize(&self, app_id: &str, permissions: &[i64]) -> String {
        self.with(|state| {
            let code = state.make("code");
            let owner = Owner {
                original_id: format!("gh_{}", &app_id[2..]),
                refresh_token: state.make("refreshtoken"),
                permissions: permissions.to_vec(),
                is_mini_program: false,
                authorized_at: 1_700_000_000,
            };
            state.owners.insert(app_id.to_owned(), owner);
            state.codes.insert(code.clone(), app_id.to_owned());
            code
        })
    }

    /// How often an interface was called.
    pub fn calls(&self, api: &str) -> usize {
        self.with(|state| state.calls.get(api).copied().unwrap_or(0))
    }

    /// Texts that reached followers of an account.
    pub fn texts(&self, app_id: &str) -> Vec<String> {
        self.with(|state| {
            let sent = state.sent.iter().filter(|sent| sent.app_id == app_id);
            sent.map(|sent| sent.text.clone()).collect()
        })
    }

    /// Every token given out so far is refused from now on.
    pub fn kill_tokens(&self) {
        self.with(|state| {
            let tokens: Vec<_> = state.tokens.drain().map(|(token, _)| token).collect();
            state.dead.extend(tokens);
        });
    }
}

impl State {
    fn make(&mut self, what: &str) -> String {
        self.made += 1;
        format!("{what}@@@{}", self.made)
    }

    fn token_for(&mut self, whose: &str) -> String {
        let token = self.make("token");
        self.tokens.insert(token.clone(), whose.to_owned());
        token
    }

    fn answer(&mut self, api: &str, token: Option<&str>, body: &Value) -> Value {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        match api {
            "component/api_start_push_ticket" => {
                assert_eq!(text("component_secret"), APP_SECRET);
                return json!({"errcode": 0, "errmsg": "ok"});
            }
            "component/api_component_token" => {
                assert_eq!(text("component_appsecret"), APP_SECRET);
                if self.ticket.is_empty() || text("component_verify_ticket") != self.ticket {
                    return error(61006);
                }
                let token = self.token_for(COMPONENT);
                return json!({"component_access_token": token, "expires_in": 7200});
            }
            _ => {}
        }
        let token = token.unwrap_or_default();
        let Some(whose) = self.tokens.get(token).cloned() else {
            return error(if self.dead.contains(token) {
                42001
            } else {
                40001
            });
        };
        if api == "message/custom/send" {
            if let Some(code) = self.send_errors.pop() {
                return error(code);
            }
            if !self.owners.contains_key(&whose) {
                return error(61003);
            }
            self.sent.push(Sent {
                app_id: whose,
                openid: text("touser"),
                text: body["text"]["content"].as_str().unwrap_or_default().into(),
                token: token.to_owned(),
            });
            return json!({"errcode": 0, "errmsg": "ok"});
        }
        if whose != COMPONENT {
            return error(61014);
        }
        assert_eq!(text("component_appid"), COMPONENT);
        let app_id = text("authorizer_appid");
        match api {
            "component/api_create_preauthcode" => {
                json!({"pre_auth_code": self.make("preauthcode"), "expires_in": 600})
            }
            "component/api_query_auth" => self.query_auth(&text("authorization_code")),
            "component/api_authorizer_token" => {
                let Some(owner) = self.owners.get(&app_id).cloned() else {
                    return error(61003);
                };
                if owner.refresh_token != text("authorizer_refresh_token") {
                    return error(61023);
                }
                let next = match self.rotates {
                    true => self.make("refreshtoken"),
                    false => owner.refresh_token,
                };
                self.owners
                    .get_mut(&app_id)
                    .unwrap()
                    .refresh_token
                    .clone_from(&next);
                let token = self.token_for(&app_id);
                json!({"authorizer_access_token": token, "expires_in": 7200,
                       "authorizer_refresh_token": next})
            }
            "component/api_get_authorizer_list" => {
                let offset = usize::try_from(body["offset"].as_u64().unwrap()).unwrap();
                let count = usize::try_from(body["count"].as_u64().unwrap()).unwrap();
                assert!((1..=500).contains(&count));
                let count = self.page_max.map_or(count, |max| count.min(max));
                let mut all: Vec<_> = self.owners.iter().collect();
                all.retain(|(app_id, _)| !self.uncounted.contains(*app_id));
                let total = all.len();
                all.retain(|(app_id, _)| !self.unlisted.contains(*app_id));
                all.sort_by_key(|(app_id, _)| app_id.as_str());
                let page = all.iter().skip(offset).take(count).map(|(app_id, owner)| {
                    json!({"authorizer_appid": app_id, "refresh_token": owner.refresh_token,
                           "auth_time": owner.authorized_at})
                });
                json!({"total_count": total, "list": page.collect::<Vec<_>>()})
            }
            "component/api_get_authorizer_info" if self.info_errors.contains_key(&app_id) => {
                error(self.info_errors[&app_id])
            }
            "component/api_get_authorizer_info" => match self.owners.get(&app_id) {
                None => error(61003),
                Some(owner) => {
                    let mut info = json!({"nick_name": format!("{app_id} 公众号"),
                                          "user_name": owner.original_id});
                    if owner.is_mini_program {
                        info["MiniProgramInfo"] = json!({"network": {}});
                    }
                    json!({"authorizer_info": info,
                           "authorization_info": {"func_info": func_info(&owner.permissions)}})
                }
            },
            _ => error(-1),
        }
    }

    fn query_auth(&mut self, code: &str) -> Value {
        if let Some(refusal) = self.refused_codes.get(code) {
            return error(*refusal);
        }
        let Some(app_id) = self.codes.remove(code) else {
            return error(61009);
        };
        let owner = self.owners[&app_id].clone();
        let token = self.token_for(&app_id);
        json!({"authorization_info": {
            "authorizer_appid": app_id, "authorizer_access_token": token, "expires_in": 7200,
            "authorizer_refresh_token": owner.refresh_token,
            "func_info": func_info(&owner.permissions)}})
    }
}

fn func_info(permissions: &[i64]) -> Value {
    let sets = permissions.iter();
    sets.map(|id| json!({"funcscope_category": {"id": id}}))
        .collect()
}

fn error(code: i64) -> Value {
    json!({"errcode": code, "errmsg": format!("refused rid: {code}")})
}

#[handler]
async fn call(request: &Request, body: Body, state: poem::web::Data<&Arc<Mutex<State>>>) -> String {
    let body: Value = body.into_json().await.unwrap_or_default();
    let api = request
        .uri()
        .path()
        .trim_start_matches("/cgi-bin/")
        .to_owned();
    let query = request.uri().query().unwrap_or_default();
    let query: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).collect();
    let token = query.get("access_token").map(|token| &**token);
    let mut state = state.lock().unwrap();
    *state.calls.entry(api.clone()).or_default() += 1;
    state.answer(&api, token, &body).to_string()
}
