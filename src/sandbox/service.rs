//! Which door a request goes through: the platform's calls, the control API, or the page.
//!
//! One `match` instead of a router, since custom/send has to be cheap.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::{Endpoint, Request, Response, Result};

use super::{World, component, guard, page, routes, wire};

/// Everything behind the sandbox's port.
#[derive(Clone, Debug)]
pub(super) struct Service {
    world: Arc<World>,
}

impl Service {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self { world }
    }
}

impl Endpoint for Service {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let path = request.uri().path();
        if component::is_api(path) {
            return Ok(component::answer(&self.world, request).await);
        }
        if path.starts_with("/cgi-bin/") && !component::is_page(path) {
            return Ok(wire::answer(&self.world, request).await);
        }
        if let Err(reason) = guard::check(self.world.addr, &request) {
            let refusal = Response::builder()
                .status(StatusCode::FORBIDDEN)
                .body(reason);
            return Ok(guard::protect(refusal));
        }
        let response = if path.starts_with("/sandbox/") {
            routes::answer(&self.world, request).await
        } else if component::is_page(path) {
            component::page(&self.world, request).await
        } else if path == "/" || path.starts_with("/page/") {
            page::answer(&self.world, request).await
        } else {
            StatusCode::NOT_FOUND.into()
        };
        Ok(guard::protect(response))
    }
}
