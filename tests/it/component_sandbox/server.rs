//! A third-party platform's server in one file, as its owner would write it from the platform's
//! pages: takes tickets, authorizations and messages, answers the check, and can be told to do each
//! of its duties wrong.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dripwheel::inbound::cipher::Cipher;
use dripwheel::inbound::signature::{sign, verify};
use poem::http::StatusCode;
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Endpoint, Request, Response};
use serde_json::{Value, json};

pub const APP_ID: &str = "wx134c8103faa5a59e";
pub const SECRET: &str = "the-secret-of-the-component";
pub const TOKEN: &str = "AAAAA";
pub const AES_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What the server gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    Nothing,
    /// The ticket's answer is not the bare word.
    LoudTicket,
    /// Authorizations are answered by an empty body.
    SilentAuthorized,
    SuccessForText,
    WrongText,
    PlainReply,
    JsonReply,
    /// To the account, from the tester.
    NotSwapped,
    /// The frame ends with the authorizer's app id.
    AuthorizersTail,
    /// Signed without the token.
    BadSignature,
    SuccessForCode,
    NoExchange,
    /// Exchanges the code and falls silent.
    NoMessage,
    WrongMessage,
    /// Sends with a refreshed token instead of the one the code brought.
    RefreshedToken,
    NoEvent,
    /// Answers the first text too late.
    SlowText,
}

#[derive(Clone)]
pub struct Server {
    mistake: Mistake,
    platform: Arc<Mutex<String>>,
    http: reqwest::Client,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    tickets: Vec<String>,
    events: Vec<Fields>,
    messages: Vec<Message>,
}

/// Elements by name.
pub type Fields = HashMap<String, String>;

/// One push to the message URL.
#[derive(Clone, Debug)]
pub struct Message {
    /// As in the path.
    pub app_id: String,
    pub openid: Option<String>,
    pub fields: Fields,
}

/// The top-level elements of the platform's XML, whose texts hold no markup in these tests.
fn fields(xml: &str) -> Fields {
    let mut found = Fields::new();
    let mut rest = xml.trim().trim_start_matches("<xml>");
    while let Some((name, after)) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        let Some((text, after)) = after.split_once(&format!("</{name}>")) else {
            break;
        };
        let text = text.trim_start_matches("<![CDATA[").trim_end_matches("]]>");
        found.insert(name.to_owned(), text.to_owned());
        rest = after.trim_start();
    }
    found
}

impl Server {
    /// A server on a free port, which calls the platform that `at` names later.
    pub async fn listen(mistake: Mistake) -> (Self, SocketAddr) {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let server = Self {
            mistake,
            platform: Arc::default(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            held: Arc::default(),
        };
        let acceptor = TcpListener::bind("127.0.0.1:0")
            .into_acceptor()
            .await
            .unwrap();
        let addr = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        tokio::spawn(poem::Server::new_with_acceptor(acceptor).run(server.clone()));
        (server, addr)
    }

    pub fn call_platform_at(&self, addr: SocketAddr) {
        *self.platform.lock().unwrap() = format!("http://{addr}");
    }

    pub fn tickets(&self) -> Vec<String> {
        self.held.lock().unwrap().tickets.clone()
    }

    /// Authorization events, oldest first.
    pub fn events(&self) -> Vec<Fields> {
        self.held.lock().unwrap().events.clone()
    }

    pub fn messages(&self) -> Vec<Message> {
        self.held.lock().unwrap().messages.clone()
    }

    async fn ask(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/cgi-bin/{path}", self.platform.lock().unwrap());
        let answer = self.http.post(url).body(body.to_string()).send().await;
        answer.unwrap().json().await.unwrap()
    }

    async fn component_token(&self) -> String {
        let body = json!({
            "component_appid": APP_ID,
            "component_appsecret": SECRET,
            "component_verify_ticket": self.tickets().last().unwrap(),
        });
        let answer = self.ask("component/api_component_token", body).await;
        answer["component_access_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Third step of the check: exchange the code and answer by the API.
    async fn answer_by_api(self, openid: String, code: String) {
        if self.mistake == Mistake::NoExchange {
            return;
        }
        let component_token = self.component_token().await;
        let path = format!("component/api_query_auth?component_access_token={component_token}");
        let body = json!({"component_appid": APP_ID, "authorization_code": code});
        let answer = self.ask(&path, body).await;
        let info = &answer["authorization_info"];
        let mut token = info["authorizer_access_token"].as_str().unwrap().to_owned();
        if self.mistake == Mistake::RefreshedToken {
            let path = format!("component/api_authorizer_token?access_token={component_token}");
            let body = json!({
                "component_appid": APP_ID,
                "authorizer_appid": info["authorizer_appid"],
                "authorizer_refresh_token": info["authorizer_refresh_token"],
            });
            let answer = self.ask(&path, body).await;
            token = answer["authorizer_access_token"]
                .as_str()
                .unwrap()
                .to_owned();
        }
        let content = match self.mistake {
            Mistake::NoMessage => return,
            Mistake::WrongMessage => format!("{code}from_api"),
            _ => format!("{code}_from_api"),
        };
        let path = format!("message/custom/send?access_token={token}");
        let body = json!({"touser": openid, "msgtype": "text", "text": {"content": content}});
        self.ask(&path, body).await;
    }

    fn reply(&self, app_id: &str, fields: &Fields, content: &str) -> String {
        let (to, from) = match self.mistake {
            Mistake::NotSwapped => ("ToUserName", "FromUserName"),
            _ => ("FromUserName", "ToUserName"),
        };
        let (to, from) = (&fields[to], &fields[from]);
        if self.mistake == Mistake::JsonReply {
            return json!({"ToUserName": to, "FromUserName": from, "MsgType": "text"}).to_string();
        }
        let xml = format!(
            "<xml><ToUserName><![CDATA[{to}]]></ToUserName>\
             <FromUserName><![CDATA[{from}]]></FromUserName><CreateTime>1700000000</CreateTime>\
             <MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{content}]]></Content></xml>"
        );
        if self.mistake == Mistake::PlainReply {
            return xml;
        }
        let tail = match self.mistake {
            Mistake::AuthorizersTail => app_id,
            _ => APP_ID,
        };
        let cipher = Cipher::new(tail, &[AES_KEY]).unwrap();
        let encrypted = cipher.encrypt(xml.as_bytes(), 0, *b"999951349e8ee746");
        let (timestamp, nonce) = ("1713424427", "415670741");
        let token = match self.mistake {
            Mistake::BadSignature => "",
            _ => TOKEN,
        };
        let signature = sign(&[token, timestamp, nonce, &encrypted]);
        format!(
            "<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt>\
             <MsgSignature><![CDATA[{signature}]]></MsgSignature>\
             <TimeStamp>{timestamp}</TimeStamp><Nonce><![CDATA[{nonce}]]></Nonce></xml>"
        )
    }

    fn take_event(&self, fields: Fields) -> &'static str {
        let mut held = self.held.lock().unwrap();
        if fields["InfoType"] == "component_verify_ticket" {
            held.tickets.push(fields["ComponentVerifyTicket"].clone());
            return match self.mistake {
                Mistake::LoudTicket => "Success!",
                _ => "success",
            };
        }
        held.events.push(fields);
        match self.mistake {
            Mistake::SilentAuthorized => "",
            _ => "success",
        }
    }

    async fn take_message(&self, message: Message) -> String {
        let fields = &message.fields;
        self.held.lock().unwrap().messages.push(message.clone());
        let reply = |content: &str| self.reply(&message.app_id, fields, content);
        let content = fields.get("Content").map_or("", String::as_str);
        if let Some(code) = content.strip_prefix("QUERY_AUTH_CODE:") {
            let openid = fields["FromUserName"].clone();
            tokio::spawn(self.clone().answer_by_api(openid, code.to_owned()));
            return match self.mistake {
                Mistake::SuccessForCode => "success".to_owned(),
                _ => String::new(),
            };
        }
        if content == "TESTCOMPONENT_MSG_TYPE_TEXT" {
            return match self.mistake {
                Mistake::SuccessForText => "success".to_owned(),
                Mistake::WrongText => reply("TESTCOMPONENT_MSG_TYPE_TEXT callback"),
                Mistake::SlowText => {
                    tokio::time::sleep(Duration::from_secs(30)).await;
                    reply("too late")
                }
                _ => reply("TESTCOMPONENT_MSG_TYPE_TEXT_callback"),
            };
        }
        match fields.get("Event").map(String::as_str) {
            Some("LOCATION") if self.mistake != Mistake::NoEvent => reply("LOCATIONfrom_callback"),
            _ => "success".to_owned(),
        }
    }
}

impl Endpoint for Server {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default();
        let query: HashMap<String, String> = url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let outer = fields(&request.take_body().into_string().await?);
        let part = |name: &str| query.get(name).map_or("", String::as_str);
        let signed = [TOKEN, part("timestamp"), part("nonce"), &outer["Encrypt"]];
        let is_right = part("encrypt_type") == "aes"
            && verify(&signed, part("msg_signature"))
            && verify(&signed[..3], part("signature"));
        if !is_right {
            return Ok(StatusCode::FORBIDDEN.into());
        }
        let cipher = Cipher::new(APP_ID, &[AES_KEY]).unwrap();
        let opened = cipher.decrypt(&outer["Encrypt"]).unwrap().message;
        let inner = fields(&String::from_utf8(opened).unwrap());
        let body = match path.trim_matches('/').split('/').collect::<Vec<_>>()[..] {
            ["events"] => {
                assert_eq!(outer["AppId"], APP_ID, "the envelope names the component");
                self.take_event(inner).to_owned()
            }
            ["wx", app_id, "callback"] => {
                assert_eq!(outer["ToUserName"], inner["ToUserName"]);
                let message = Message {
                    app_id: app_id.to_owned(),
                    openid: query.get("openid").cloned(),
                    fields: inner,
                };
                self.take_message(message).await
            }
            _ => return Ok(StatusCode::NOT_FOUND.into()),
        };
        Ok(Response::builder().body(body))
    }
}
