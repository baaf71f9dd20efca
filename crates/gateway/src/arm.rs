//! Azure's control plane: `Microsoft.App/sessionPools` of the Azure Resource Manager, over the pools.
//!
//! `address.rs` of the gateway (the server as the client sees it) → `wire/arm` (what is asked for) → `control.rs` (the pools) with `record.rs` (what
//! is kept of a pool beside its specification) and `operations.rs` (what goes on after its answer).

mod control;
mod operations;
mod record;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use greenroom_identity::{Admitted, Permission, Refusal, Subject, Target};
use greenroom_pool::PoolKind;
use greenroom_runtimes::Catalogue;
pub(crate) use greenroom_wire::arm::Call;
use greenroom_wire::arm::{self, ApiVersion, ArmError, Offer};

pub(crate) use self::control::{Caller, Context, ControlPlane};
use crate::{
    address::{Scheme, base},
    body,
    gateway::{Inner, to_its_end},
    pools,
    reply::say_refused,
};

/// Longest body of a call, bytes. A pool's is a few hundred.
const BODY_BYTES: u64 = 1 << 20;

/// The label in the metrics of a path that is the control plane's.
pub(crate) fn label(method: &str, path: &str) -> Option<&'static str> {
    match Call::parse(method, path) {
        Ok(None) => None,
        Ok(Some(_)) | Err(_) => Some("arm"),
    }
}

/// What the sessions of the server can be: what the languages that are installed allow, and the host.
pub(crate) fn offered(catalogue: Catalogue, no_network: Option<String>) -> control::Offered {
    Box::new(move || {
        let kinds = [PoolKind::PythonLts, PoolKind::NodeLts, PoolKind::Shell];
        let installed = kinds.into_iter().filter(|&kind| pools::missing(&catalogue, kind).is_none());
        Offer { container_types: installed.map(record::container_type).collect(), no_network: no_network.clone() }
    })
}

/// Answers a call. `call` is what [`Call::parse`] made of the request.
pub(crate) async fn answer(gateway: &Arc<Inner>, call: Result<Call, ArmError>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match call {
        Ok(call) => called(gateway, call, parts, body).await,
        Err(error) => reply(arm::Response::refused(&error)),
    }
}

async fn called(gateway: &Arc<Inner>, call: Call, parts: Parts, body: Body) -> Response {
    // Before the body is read: who may not ask has none of our memory.
    let admitted = match admit(gateway, &call, &parts).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refused(&refusal, &call, parts.uri.path()),
    };
    let read = body::read(body, &parts.headers, BODY_BYTES, gateway.config.body_timeout, &gateway.bodies).await;
    let (bytes, _held) = match read {
        Ok(read) => read,
        Err(unreadable) => return self::unreadable(&unreadable),
    };
    let inner = Arc::clone(gateway);
    let answered = to_its_end(&gateway.tasks, async move {
        let scheme = parts.extensions.get::<Scheme>().copied().unwrap_or(Scheme::Http);
        let context = Context {
            base: &base(scheme, &parts.uri, &parts.headers),
            version: &ApiVersion::of_query(parts.uri.query()),
            caller: &admitted.as_ref().map_or_else(Caller::unknown, |admitted| Caller::of(&admitted.subject)),
            sees: &|pool| admitted.as_ref().is_some_and(|admitted| admitted.may(Permission::Manage, Target::Pool(pool))),
            gone: &|pool| inner.azure.forget(pool),
        };
        inner.control.answer(call, &bytes, &context).await
    });
    reply(answered.await.unwrap_or_else(|error| arm::Response::refused(&error)))
}

/// Who may see and change what. `None`: whoever asks may.
async fn admit(gateway: &Inner, call: &Call, parts: &Parts) -> Result<Option<Admitted>, Refusal> {
    let target = match call {
        // `az` asks for it before it has a token.
        Call::CloudMetadata => return Ok(None),
        // A pool that is not there yet is the server's matter.
        Call::PutPool(id) if !gateway.control.has(&id.name) => Target::Server,
        call => call.pool().map_or(Target::SomePool, |id| Target::Pool(&id.name)),
    };
    match gateway.guard.check(&parts.headers, Permission::Manage, target).await {
        // Who is known may log in, though to no pool.
        Err(Refusal::Forbidden { .. }) if call.action().is_none() => Ok(None),
        checked => checked.map(Some),
    }
}

impl Caller {
    fn unknown() -> Self {
        Self { name: "anonymous".to_owned(), kind: "User" }
    }

    fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Anonymous => Self::unknown(),
            Subject::Key { name, .. } => Self { name: name.clone(), kind: "Key" },
            Subject::Principal { id, .. } => Self { name: id.clone(), kind: "Application" },
        }
    }
}

/// A refusal of the guard in ARM's words.
fn refused(refusal: &Refusal, call: &Call, path: &str) -> Response {
    let mut response = match refusal {
        Refusal::Forbidden { subject, .. } => reply(arm::Response::refused(&ArmError::Authorization {
            client: subject.clone(),
            action: call.action().unwrap_or("Microsoft.Resources/subscriptions/read"),
            scope: path.to_owned(),
        })),
        refusal if refusal.status() == 401 => reply(arm::Response::refused(&ArmError::Authentication(refusal.said()))),
        refusal => {
            let body = serde_json::json!({"error": {"code": refusal.code(), "message": refusal.said()}});
            reply(arm::Response { status: refusal.status(), headers: Vec::new(), body: Some(body) })
        }
    };
    say_refused(refusal, response.headers_mut());
    response
}

fn reply(answer: arm::Response) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        // What a client chose of it was checked when it was read; a value that cannot be sent is left out.
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    if let Some(body) = answer.body {
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        *response.body_mut() = Body::from(body.to_string());
    }
    response
}

/// What is wrong with a body that cannot be read at all, in the envelope that clients of the control plane read.
fn unreadable(unreadable: &body::Unreadable) -> Response {
    let status = unreadable.status();
    let code = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
        StatusCode::REQUEST_TIMEOUT => "RequestTimeout",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "UnsupportedMediaType",
        _ => "BadRequest",
    };
    let body = serde_json::json!({"error": {"code": code, "message": unreadable.to_string()}});
    let mut response = reply(arm::Response { status: status.as_u16(), headers: Vec::new(), body: Some(body) });
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, body::BUSY_RETRY_S.into());
    }
    if unreadable.ends_connection() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The time as resources have it: RFC 3339, UTC, seven digits after the point.
fn now() -> String {
    format!("{:.7}", jiff::Timestamp::now())
}
