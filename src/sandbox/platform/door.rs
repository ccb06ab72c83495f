//! The port of a played platform: reads a call, breaks it where a fault says so, and keeps record.

use std::sync::Arc;

use poem::http::{HeaderMap, StatusCode};
use poem::web::Multipart;
use poem::{Body, Endpoint, FromRequest, Request, RequestBody, Response, Result};
use serde_json::{Map, Value, json};

use super::{Answered, Asked, Call, Protocol, SEND, Town, phone};
use crate::sandbox::fault::{FaultKind, Target};
use crate::sandbox::lock;
use crate::sandbox::spoil::spoil;

/// Largest call that is read.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Everything behind the port.
#[derive(Clone, Debug)]
pub(super) struct Service {
    town: Arc<Town>,
    protocol: Arc<dyn Protocol>,
}

impl Service {
    pub(super) fn new(town: Arc<Town>, protocol: Arc<dyn Protocol>) -> Self {
        Self { town, protocol }
    }
}

impl Endpoint for Service {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let caller = request.remote_addr().clone();
        let path = request.uri().path().to_owned();
        if phone::is_phone(&request) {
            return Ok(phone::answer(&self.town, &self.protocol, request).await);
        }
        let api = self.protocol.api(&path);
        let mut target = Target {
            api,
            account: None,
            openid: None,
            event: None,
            is_at_door: true,
        };
        if self.town.faults.pick(&target).is_some() {
            self.town.connections.reset(&caller);
            return Ok(StatusCode::NO_CONTENT.into());
        }
        let heads = request.headers().clone();
        let body = request.take_body();
        let Some(body) = read(&request, &heads, body).await else {
            return Ok(StatusCode::PAYLOAD_TOO_LARGE.into());
        };
        let query = request.uri().query().unwrap_or("").to_owned();
        let call = Call {
            path: &path,
            query: &query,
            heads: &heads,
            body: &body,
        };
        target.is_at_door = false;
        let fault = self.town.faults.pick(&target);
        let answered = match &fault {
            Some(fault) if !fault.is_accepted() => match fault.kind {
                FaultKind::Errcode { code } => self.protocol.refuse(code),
                _ => Answered::new(200, json!({})),
            },
            _ => self.protocol.answer(&self.town, &call),
        };
        if api == SEND {
            let asked = Asked {
                at: self.town.now(),
                status: answered.status,
                key: key(&call),
                body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            };
            lock(&self.town.asked).push(asked);
        }
        match &fault {
            None => Ok(respond(&answered)),
            Some(fault) => {
                if fault.kind == FaultKind::ResetAfter {
                    self.town.connections.reset(&caller);
                }
                match fault.kind {
                    FaultKind::Errcode { .. } => Ok(respond(&answered)),
                    _ => Ok(spoil(&fault.kind, answered.body.to_string(), "/trap").await),
                }
            }
        }
    }
}

/// A call's body as JSON bytes; a form's texts become an object, its files their lengths.
async fn read(request: &Request, heads: &HeaderMap, body: Body) -> Option<Vec<u8>> {
    let kind = heads
        .get("content-type")
        .and_then(|kind| kind.to_str().ok());
    if !kind.unwrap_or("").starts_with("multipart/") {
        return body
            .into_bytes_limit(BODY_BYTES_MAX)
            .await
            .ok()
            .map(Into::into);
    }
    let mut body = RequestBody::new(body);
    let mut form = Multipart::from_request(request, &mut body).await.ok()?;
    let mut fields = Map::new();
    while let Ok(Some(field)) = form.next_field().await {
        let name = field.name().unwrap_or("").to_owned();
        let is_file = field.file_name().is_some();
        let bytes = field.bytes().await.ok()?;
        let value = match is_file {
            true => json!({ "uploaded_bytes": bytes.len() }),
            false => json!(String::from_utf8_lossy(&bytes)),
        };
        fields.insert(name, value);
    }
    Some(Value::Object(fields).to_string().into_bytes())
}

/// What would make a second call of the same known.
fn key(call: &Call<'_>) -> Option<String> {
    let heads = ["x-line-retry-key", "webhook-id"];
    let given = heads.iter().map(|name| call.head(name));
    let mut given = given.filter(|key| !key.is_empty()).map(str::to_owned);
    given.next()
}

fn respond(answered: &Answered) -> Response {
    let status = StatusCode::from_u16(answered.status).unwrap_or(StatusCode::OK);
    let mut response = Response::builder()
        .status(status)
        .content_type("application/json");
    for (name, value) in &answered.heads {
        response = response.header(*name, value);
    }
    response.body(answered.body.to_string())
}
