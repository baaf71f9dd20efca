//! What the issuer of this machine publishes and answers: its keys, and a managed identity's endpoint in both forms. Without one,
//! these routes are not there.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
    routing::get,
};
use greenroom_identity::{LocalIssuer, ManagedForm, ManagedRefusal};
use serde_json::Value;

use crate::{
    gateway::Gateway,
    reply::{self, Refused},
};

/// The routes.
pub(crate) fn routes() -> Router<Gateway> {
    Router::new()
        .route("/identity/.well-known/openid-configuration", get(discovery))
        .route("/identity/keys", get(keys))
        .route("/msi/token", get(app_service))
        .route("/metadata/identity/oauth2/token", get(imds))
}

/// The label of these routes in the metrics.
pub(crate) fn route_label(path: &str) -> Option<&'static str> {
    let is_ours = path.starts_with("/identity/") || path == "/msi/token" || path == "/metadata/identity/oauth2/token";
    is_ours.then_some("identity")
}

async fn discovery(State(gateway): State<Gateway>) -> Response {
    published(&gateway, LocalIssuer::discovery)
}

async fn keys(State(gateway): State<Gateway>) -> Response {
    published(&gateway, LocalIssuer::jwks)
}

fn published(gateway: &Gateway, document: impl Fn(&LocalIssuer) -> Value) -> Response {
    match gateway.inner.guard.local() {
        Some(local) => reply::json(StatusCode::OK, &document(local)),
        None => Refused::not_found().reply(""),
    }
}

async fn app_service(State(gateway): State<Gateway>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    token(&gateway, ManagedForm::AppService, &headers, query).await
}

async fn imds(State(gateway): State<Gateway>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    token(&gateway, ManagedForm::Imds, &headers, query).await
}

async fn token(gateway: &Gateway, form: ManagedForm, headers: &HeaderMap, query: Option<String>) -> Response {
    let Some(local) = gateway.inner.guard.local().map(Arc::clone) else { return Refused::not_found().reply("") };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let mut response = match local.managed(form, headers, &query.unwrap_or_default(), now) {
        Ok(minted) => {
            tracing::info!(resource = ?minted.resource, client_id = ?minted.client_id, "a token was given");
            reply::json(StatusCode::OK, &minted.to_json(now))
        }
        Err(refusal) => {
            tracing::info!(status = refusal.status(), "no token was given: {refusal}");
            reply::json(status_of(&refusal), &refusal.to_json())
        }
    };
    // RFC 6749, section 5.1: nobody on the way keeps it.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn status_of(refusal: &ManagedRefusal) -> StatusCode {
    StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST)
}
