//! Piston's surface. Its server reads the body of every request first, then checks the content type, then looks for
//! a route, whatever the case of the path: so this is one handler in that order, and not a table of routes.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{
        FromRequestParts, Request, State,
        ws::{Message, WebSocketUpgrade},
    },
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures_util::FutureExt;
use greenroom_identity::{Admitted, Permission, Subject, Target};
use greenroom_wire::piston::{self, ContentType, ErrorBody, Route, Routed};
use tracing::Instrument;

use crate::{
    arm, azure, body, connect, execute,
    gateway::{Gateway, Inner},
    issuer, own,
    packages::{self, Change},
    pools,
    reply::{self, Refused},
};

/// Everything that the gateway answers.
pub fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/healthz", get(own::healthz))
        .route("/readyz", get(own::readyz))
        .route("/metrics", get(own::metrics))
        .route("/openapi.json", get(own::openapi_json))
        .merge(issuer::routes())
        .route("/greenroom/pools", get(pools::list).post(pools::create))
        .route("/greenroom/pools/{name}", get(pools::show).patch(pools::update).delete(pools::delete))
        .route("/greenroom/pools/{name}/sessions", get(pools::sessions).delete(pools::stop))
        .fallback(by_path)
        .layer(middleware::from_fn_with_state(gateway.clone(), around))
        .with_state(gateway)
}

/// A request's id, for the log and the client.
#[derive(Clone)]
struct RequestId(String);

/// What surrounds every request: an id, a span, a count, and a net under a panic.
async fn around(State(gateway): State<Gateway>, mut request: Request, next: Next) -> Response {
    let id = Gateway::new_id().to_string();
    let path = request.uri().path();
    let route = own::route_label(path)
        .or_else(|| issuer::route_label(path))
        .or_else(|| azure::label(request.method().as_str(), path))
        .or_else(|| arm::label(request.method().as_str(), path))
        .unwrap_or_else(|| label(piston::route(path)));
    // Debug formatting escapes control characters: a client cannot write lines of its own into the log.
    let span = tracing::info_span!("request", id, method = %request.method(), path = ?path);
    request.extensions_mut().insert(RequestId(id.clone()));
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let mut response = answered.unwrap_or_else(|_| {
        span.in_scope(|| tracing::error!("a handler panicked"));
        reply::json(
            StatusCode::INTERNAL_SERVER_ERROR,
            &ErrorBody::new(format!("an error of ours; name request {id} when you report it")),
        )
    });
    gateway.inner.metrics.request(route, response.status().as_u16());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

fn label(routed: Routed) -> &'static str {
    match routed.route {
        Some(Route::Root) => "root",
        Some(Route::Execute) => "execute",
        Some(Route::Runtimes) => "runtimes",
        Some(Route::Packages) => "packages",
        Some(Route::Connect) => "connect",
        None => "unknown",
    }
}

/// Azure's paths are told apart by their own rules, which know neither case nor single slashes; what is left is Piston's.
async fn by_path(State(gateway): State<Gateway>, request: Request) -> Response {
    let begun = Instant::now();
    let id = request.extensions().get::<RequestId>().map_or_else(String::new, |id| id.0.clone());
    let (method, path) = (request.method(), request.uri().path());
    let head = method == Method::HEAD;
    let response = if azure::label(method.as_str(), path).is_some() {
        azure::handle(&gateway.inner, request, &id).await
    } else if let Some(call) = arm::Call::parse(method.as_str(), path).transpose() {
        arm::answer(&gateway.inner, call, request).await
    } else {
        answer(&gateway.inner, request, begun).await.unwrap_or_else(|refused| refused.reply(&id))
    };
    if head { without_body(response) } else { response }
}

async fn answer(gateway: &Arc<Inner>, request: Request, begun: Instant) -> Result<Response, Refused> {
    let (mut parts, body) = request.into_parts();
    let routed = piston::route(parts.uri.path());
    let upgrade = parts.headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if upgrade && parts.method == Method::GET {
        return match routed.route {
            Some(Route::Connect) => {
                let admitted = gateway.guard.check(&parts.headers, Permission::Execute, Target::Server).await?;
                Ok(upgraded(gateway, admitted, &mut parts).await)
            }
            _ => Ok(turned_away(&mut parts).await),
        };
    }
    // Before the body is read: who may not ask has none of our memory.
    let config = &gateway.config;
    let admitted = match routed.route.and_then(|route| needed(route, &parts.method)) {
        Some(permission) => match gateway.guard.check(&parts.headers, permission, Target::Server).await {
            Ok(admitted) => Some(admitted),
            Err(refusal) => {
                // Read on without being kept: closed at once, the connection would be reset under the answer.
                body::discard_beside(body, &parts.headers, config.body_bytes, config.body_timeout);
                return Err(refusal.into());
            }
        },
        None => None,
    };
    let subject = admitted.as_ref().map_or(&Subject::Anonymous, |admitted| &admitted.subject);
    let content_type = ContentType::of(parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()));
    let (bytes, _held) = body::read(body, &parts.headers, config.body_bytes, config.body_timeout, &gateway.bodies).await?;
    let body = content_type.read(&bytes).map_err(body::Unreadable::from)?;
    drop(bytes);
    if piston::must_be_json(parts.method.as_str(), routed, &content_type) {
        return Err(Refused::Status(StatusCode::UNSUPPORTED_MEDIA_TYPE, piston::REQUIRES_JSON.to_owned()));
    }
    let Some(route) = routed.route else { return Err(Refused::not_found()) };
    match (route, parts.method.as_str()) {
        (route, "OPTIONS") => route.allow().map(options).ok_or_else(Refused::not_found),
        (Route::Root, "GET" | "HEAD") => {
            let bytes = serde_json::to_vec(&ErrorBody::new(piston::ROOT_MESSAGE)).unwrap_or_default();
            let etag = piston::etag(&bytes);
            Ok(reply::tagged(bytes.into(), &etag, &parts.headers))
        }
        (Route::Runtimes, "GET" | "HEAD") => {
            let (bytes, etag) = gateway.listing();
            Ok(reply::tagged(bytes, &etag, &parts.headers))
        }
        (Route::Packages, "GET" | "HEAD") => {
            let bytes = Bytes::from(serde_json::to_vec(&packages::list(gateway)).unwrap_or_default());
            let etag = piston::etag(&bytes);
            Ok(reply::tagged(bytes, &etag, &parts.headers))
        }
        (Route::Packages, "POST") => packages::change(Arc::clone(gateway), body, Change::Install).await,
        (Route::Packages, "DELETE") => packages::change(Arc::clone(gateway), body, Change::Remove).await,
        (Route::Execute, "POST") => execute::execute(gateway, subject, body, begun).await,
        _ => Err(Refused::not_found()),
    }
}

/// What a route of Piston's asks of the caller. Its greeting, and what it does not have, ask nothing.
fn needed(route: Route, method: &Method) -> Option<Permission> {
    match route {
        Route::Root => None,
        Route::Packages if *method == Method::POST || *method == Method::DELETE => Some(Permission::Manage),
        Route::Execute | Route::Runtimes | Route::Packages | Route::Connect => Some(Permission::Execute),
    }
}

/// Takes the connection over, with the first sub-protocol that the client offers (Piston's server takes any).
async fn upgraded(gateway: &Arc<Inner>, admitted: Admitted, parts: &mut axum::http::request::Parts) -> Response {
    let offered = parts.headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    let first = offered.and_then(|all| all.split(',').next()).map(|name| name.trim().to_owned());
    match WebSocketUpgrade::from_request_parts(parts, &()).await {
        Ok(upgrade) => {
            let limit = gateway.config.websocket_message_bytes;
            let gateway = Arc::clone(gateway);
            let span = tracing::Span::current();
            // The connection's own task ends with the upgrade: from here on this token keeps a drain waiting.
            let counted = gateway.tasks.token();
            upgrade.protocols(first).max_message_size(limit).max_frame_size(limit).on_upgrade(move |socket| async move {
                connect::serve(gateway, admitted.subject.clone(), socket).instrument(span).await;
                drop((counted, admitted));
            })
        }
        Err(rejection) => rejection.into_response(),
    }
}

/// Piston takes an upgrade on any path, and closes at once, without a code, where nothing is.
async fn turned_away(parts: &mut axum::http::request::Parts) -> Response {
    match WebSocketUpgrade::from_request_parts(parts, &()).await {
        Ok(upgrade) => upgrade.on_upgrade(|mut socket| async move {
            if let Err(error) = socket.send(Message::Close(None)).await {
                tracing::debug!(%error, "a socket to nowhere was gone before it was closed");
            }
        }),
        Err(rejection) => rejection.into_response(),
    }
}

/// Express' answer: what is allowed, in the header and as HTML.
fn options(allow: &'static str) -> Response {
    let mut response = allow.into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// The headers of a GET, its length too, without its body.
fn without_body(response: Response) -> Response {
    use axum::body::{Body, HttpBody};
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Response::from_parts(parts, Body::empty())
}
