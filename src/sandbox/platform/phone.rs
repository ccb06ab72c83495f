//! The phone of a played platform: one page without scripts on which a person follows, writes, taps,
//! leaves, and sees what came.
//!
//! Works by forms and reloads. What is shown is what the platform was given; pictures and films are
//! named, not drawn.

use std::fmt::Write;
use std::sync::Arc;

use poem::http::{Method, StatusCode, header};
use poem::{Request, Response};
use serde::Deserialize;
use serde_json::Value;

use super::{PlatformAct, Protocol, Town, acts, received};
use crate::sandbox::guard;
use crate::sandbox::lock;

/// Largest form.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// Characters of a person's name.
const NAME_MAX: usize = 64;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:30rem;margin:2rem auto;\
padding:0 1rem;background:#f3f4f6;color:#111}main{background:#fff;border-radius:1rem;padding:1rem;\
box-shadow:0 1px 4px #0002}ol{list-style:none;padding:0}li{background:#e8f0fe;border-radius:.75rem;\
padding:.5rem .75rem;margin:.5rem 0;overflow-wrap:anywhere}li small{color:#555}form{display:flex;\
gap:.5rem;margin:.5rem 0;flex-wrap:wrap}input{flex:1;font:inherit;padding:.4rem}button{font:inherit;\
padding:.4rem .8rem}";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    person: String,
    /// `follow`, `unfollow`, `write` or `tap`.
    act: String,
    text: String,
}

/// Whether a request is the phone's and not the platform's.
pub(super) fn is_phone(request: &Request) -> bool {
    match request.uri().path() {
        // Messages may be posted there.
        "/" => request.method() == Method::GET,
        path => path == "/phone" || path == "/phone.css",
    }
}

/// Answers one request of the page.
pub(super) async fn answer(
    town: &Arc<Town>,
    protocol: &Arc<dyn Protocol>,
    mut request: Request,
) -> Response {
    if let Err(reason) = guard::check(town.addr, &request) {
        return guard::protect(
            Response::builder()
                .status(StatusCode::FORBIDDEN)
                .body(reason),
        );
    }
    let path = request.uri().path().to_owned();
    let response = match (request.method().clone(), path.as_str()) {
        (Method::GET, "/phone.css") => Response::builder().content_type("text/css").body(STYLE),
        (Method::GET, "/") => {
            let asked: Asked = request.params().unwrap_or_default();
            let page = page(town, protocol.as_ref(), &asked.person);
            Response::builder()
                .content_type("text/html; charset=utf-8")
                .body(page)
        }
        (Method::POST, "/phone") => {
            let form = request.take_body().into_bytes_limit(FORM_BYTES_MAX).await;
            let form = form.ok().and_then(|form| read(&form));
            match form {
                Some((person, act)) => {
                    acts(town, protocol, &person, act).await;
                    let query: String =
                        url::form_urlencoded::byte_serialize(person.as_bytes()).collect();
                    let back = format!("/?person={query}");
                    Response::builder()
                        .status(StatusCode::SEE_OTHER)
                        .header(header::LOCATION, back)
                        .finish()
                }
                None => StatusCode::BAD_REQUEST.into(),
            }
        }
        _ => StatusCode::NOT_FOUND.into(),
    };
    guard::protect(response)
}

/// Who does what, by the form.
fn read(form: &[u8]) -> Option<(String, PlatformAct)> {
    let mut asked = Asked::default();
    for (name, value) in url::form_urlencoded::parse(form) {
        match name.as_ref() {
            "person" => asked.person = value.into_owned(),
            "act" => asked.act = value.into_owned(),
            "text" => asked.text = value.into_owned(),
            _ => {}
        }
    }
    let act = match asked.act.as_str() {
        "follow" => PlatformAct::Follow,
        "unfollow" => PlatformAct::Unfollow,
        "write" if !asked.text.is_empty() => PlatformAct::Write(asked.text),
        "tap" if !asked.text.is_empty() => PlatformAct::Tap(asked.text),
        _ => return None,
    };
    let person = asked.person.trim();
    let named = !person.is_empty()
        && person.len() <= NAME_MAX
        && person.bytes().all(|byte| byte.is_ascii_graphic());
    named.then(|| (person.to_owned(), act))
}

fn page(town: &Town, protocol: &dyn Protocol, person: &str) -> String {
    let mut html = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Phone</title>\
         <link rel=\"stylesheet\" href=\"/phone.css\"></head><body>",
    );
    let word = escaped(protocol.word());
    let name = escaped(person);
    write!(html, "<h1>{word}</h1><nav>").ok();
    let names: Vec<String> = lock(&town.people).keys().take(100).cloned().collect();
    for other in names {
        let query: String = url::form_urlencoded::byte_serialize(other.as_bytes()).collect();
        write!(
            html,
            "<a href=\"/?person={query}\">{}</a> ",
            escaped(&other)
        )
        .ok();
    }
    html.push_str("</nav><main>");
    let example = escaped(protocol.example());
    write!(
        html,
        "<form><input name=\"person\" value=\"{name}\" placeholder=\"{example}\" \
         aria-label=\"Person\"><button>Take the phone</button></form>"
    )
    .ok();
    if !person.is_empty() {
        for (act, label) in [("follow", "Follow"), ("unfollow", "Leave")] {
            write!(
                html,
                "<form method=\"post\" action=\"/phone\"><input type=\"hidden\" name=\"person\" \
                 value=\"{name}\"><button name=\"act\" value=\"{act}\">{label}</button></form>"
            )
            .ok();
        }
        html.push_str("<ol>");
        for one in received(town, person) {
            let at = one.at;
            let text = escaped(&words(&one.message));
            write!(html, "<li><small>{at}</small><br>{text}</li>").ok();
            for (id, label) in choices(&one.message) {
                let (id, label) = (escaped(&id), escaped(&label));
                write!(
                    html,
                    "<form method=\"post\" action=\"/phone\"><input type=\"hidden\" \
                     name=\"person\" value=\"{name}\"><input type=\"hidden\" name=\"text\" \
                     value=\"{id}\"><button name=\"act\" value=\"tap\">{label}</button></form>"
                )
                .ok();
            }
        }
        write!(
            html,
            "</ol><form method=\"post\" action=\"/phone\"><input type=\"hidden\" name=\"person\" \
             value=\"{name}\"><input name=\"text\" aria-label=\"Message\">\
             <button name=\"act\" value=\"write\">Send</button></form>"
        )
        .ok();
    }
    html.push_str("</main></body></html>");
    html
}

/// What a person reads of a message: every text in it that is for people.
fn words(message: &Value) -> String {
    const SPOKEN: [&str; 8] = [
        "text",
        "caption",
        "content",
        "title",
        "description",
        "desc",
        "head_content",
        "altText",
    ];
    let mut found = Vec::new();
    collect(message, &SPOKEN, &mut found);
    if found.is_empty() {
        return message.to_string();
    }
    found.join("\n")
}

fn collect(value: &Value, names: &[&str], found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    // A choice has a button of its own.
                    _ if ["reply_markup", "quickReply", "list", "items"]
                        .contains(&name.as_str()) => {}
                    Value::String(text) if names.contains(&name.as_str()) => {
                        found.push(text.clone())
                    }
                    other => collect(other, names, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|one| collect(one, names, found)),
        _ => {}
    }
}

/// The choices of a message: what a tap tells, and what stands on the button.
fn choices(message: &Value) -> Vec<(String, String)> {
    let pairs = [
        (
            "/reply_markup/inline_keyboard",
            "/0/callback_data",
            "/0/text",
        ),
        ("/quickReply/items", "/action/data", "/action/label"),
        ("/msgmenu/list", "/click/id", "/click/content"),
        ("/msgmenu/items", "/id", "/text"),
    ];
    let lists = pairs.iter().filter_map(|(list, id, label)| {
        let list = message.pointer(list)?.as_array()?;
        let text = |one: &Value, at: &str| one.pointer(at)?.as_str().map(str::to_owned);
        let choices = list
            .iter()
            .filter_map(move |one| Some((text(one, id)?, text(one, label)?)));
        Some(choices.collect::<Vec<_>>())
    });
    lists.flatten().collect()
}

/// Text that HTML shows as it is.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}
