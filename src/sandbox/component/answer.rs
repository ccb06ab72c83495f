//! A component's calls over HTTP: reads each, lets faults strike, and answers as the platform would.

use std::sync::Arc;

use poem::http::Method;
use poem::{Request, Response};
use serde_json::Value;

pub(in crate::sandbox) use super::authorize::{is_page, page};
use super::call::{Asked, Call, ComponentApi};
use crate::sandbox::World;
use crate::sandbox::errcode::Refusal;
use crate::sandbox::fault::{FaultKind, Target};
use crate::sandbox::spoil::{json as answer_json, spoil};
use crate::sandbox::wire::Query;

const BODY_BYTES_MAX: usize = 16 * 1024;

/// Whether a path is one of a component's calls.
pub(in crate::sandbox) fn is_api(path: &str) -> bool {
    ComponentApi::at(path).is_some()
}

/// The platform's text for the codes that only third-party platforms meet.
pub(in crate::sandbox) fn text(code: i32) -> Option<&'static str> {
    Some(match code {
        61003 => "component is not authorized by this account",
        61004 => "access clientip is not registered",
        61005 => "component ticket is expired",
        61006 => "component ticket is invalid",
        61007 => "api is unauthorized to component",
        61009 => "code is invalid",
        61010 => "code is expired",
        61011 => "invalid component",
        61014 => "must use component token for component api",
        61016 => "function category of api need be confirmed by component",
        61017 => "function category not authorized",
        61023 => "refresh_token is invalid",
        61024 => "must use api_component_token to get token for component acct",
        61451 => "invalid parameter",
        _ => return None,
    })
}

/// Answers one call under `/cgi-bin/component/`.
pub(in crate::sandbox) async fn answer(world: &Arc<World>, mut request: Request) -> Response {
    let now = world.clock.now();
    let refuse = |refusal: Refusal| answer_json(refusal.body(now));
    let uri = request.uri().clone();
    let Some(api) = ComponentApi::at(uri.path()) else {
        return refuse(Refusal::URL);
    };
    if request.method() != Method::POST {
        return refuse(Refusal::REQUIRE_POST);
    }
    let mut target = Target {
        api: api.path(),
        account: None,
        openid: None,
        event: None,
        is_at_door: true,
    };
    if world.faults.pick(&target).is_some() {
        world.connections.reset(request.remote_addr());
        return spoil(&FaultKind::ResetBefore, String::new(), "").await;
    }
    let body = request.take_body().into_bytes_limit(BODY_BYTES_MAX).await;
    let asked = match body {
        Err(_) => return refuse(Refusal::CONTENT_SIZE),
        Ok(body) if body.is_empty() => return refuse(Refusal::EMPTY_POST),
        Ok(body) => serde_json::from_slice::<Asked>(&body),
    };
    let Ok(asked) = asked else {
        return refuse(Refusal::JSON);
    };
    if asked.component_appid.is_empty() {
        return refuse(Refusal::APP_ID_MISSING);
    }
    let Some(component) = world.components.get(&asked.component_appid) else {
        return refuse(Refusal(61011));
    };
    let query = Query::parse(uri.query().unwrap_or_default());
    let call = Call {
        world,
        component,
        // The old name and the new one.
        token: query
            .get("component_access_token")
            .or_else(|| query.get("access_token")),
        asked: &asked,
        now,
    };
    target.is_at_door = false;
    target.account = Some(match asked.authorizer_appid.as_str() {
        "" => &asked.component_appid,
        authorizer => authorizer,
    });
    let fault = world.faults.pick(&target);
    let kind = fault.as_ref().map(|fault| &fault.kind);
    if let Some(FaultKind::KillTokens { code }) = kind {
        component.kill_tokens(*code);
    }
    let is_carried_out = fault.as_ref().is_none_or(|fault| fault.is_accepted());
    let told = if is_carried_out {
        call.carry_out(api)
    } else {
        Err(Refusal(-1))
    };
    let told = match kind {
        Some(FaultKind::Errcode { code }) => Err(Refusal(*code)),
        _ => told,
    };
    let code = told.as_ref().err().map_or(0, |refusal| refusal.0);
    component.count_call(api.path(), code);
    world.touch();
    let right = told.map_or_else(
        |refusal| refusal.body(now),
        |value: Value| value.to_string(),
    );
    match fault {
        None => answer_json(right),
        Some(fault) => {
            if matches!(fault.kind, FaultKind::ResetBefore | FaultKind::ResetAfter) {
                world.connections.reset(request.remote_addr());
            }
            spoil(&fault.kind, right, &world.trap_url()).await
        }
    }
}
