//! Sessions as resources: looked at, listed, stopped. None of this makes one.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use greenroom_pool::{Identifier, SessionView};
use greenroom_wire::azure::{self, AzureError, Instant, SessionInfo};

use super::{Asked, json, refused::Refused, session_id};
use crate::reply;

/// `GET /session`.
pub(super) async fn get(asked: &Asked) -> Result<Response, Refused> {
    let (identifier, found) = find(asked).await?;
    let found = found.ok_or_else(|| AzureError::SessionNotFound(identifier.as_str().to_owned()))?;
    Ok(json(StatusCode::OK, info(asked, &found).body()))
}

/// `DELETE /session`: 204, also where there is none.
pub(super) async fn delete(asked: &Asked) -> Result<Response, Refused> {
    stop(asked, &asked.identifier()?).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `GET /listSessions`.
pub(super) async fn list(asked: &Asked) -> Result<Response, Refused> {
    let (skip, all) = (asked.query.skip()?, all(asked).await?);
    Ok(json(StatusCode::OK, azure::sessions::body(&all, skip, |skip| next(asked, "listSessions", skip))))
}

/// `POST /.management/getSession`.
pub(super) async fn manage_get(asked: &Asked) -> Result<Response, Refused> {
    let (identifier, found) = find(asked).await?;
    let found = found.ok_or_else(|| AzureError::NoSession(identifier.as_str().to_owned()))?;
    Ok(json(StatusCode::OK, info(asked, &found).managed_body()))
}

/// `POST /.management/listSessions`.
pub(super) async fn manage_list(asked: &Asked) -> Result<Response, Refused> {
    let (skip, all) = (asked.query.skip()?, all(asked).await?);
    Ok(json(StatusCode::OK, azure::sessions::managed_body(&all, skip, |skip| next(asked, ".management/listSessions", skip))))
}

/// `POST /.management/stopSession`.
pub(super) async fn manage_stop(asked: &Asked) -> Result<Response, Refused> {
    let identifier = asked.identifier()?;
    if !stop(asked, &identifier).await? {
        return Err(AzureError::NothingToStop(identifier.as_str().to_owned()).into());
    }
    let mut response = azure::stopped(identifier.as_str(), &asked.pool.name).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

async fn find(asked: &Asked) -> Result<(Identifier, Option<SessionView>), Refused> {
    let identifier = asked.identifier()?;
    let found = asked.gateway.pools.session(&asked.pool.name, &identifier).await;
    Ok((identifier, found.map_err(|error| Refused::of_pools(error, &asked.address))?))
}

async fn all(asked: &Asked) -> Result<Vec<SessionInfo>, Refused> {
    let views = asked.gateway.pools.sessions(&asked.pool.name).await.map_err(|error| Refused::of_pools(error, &asked.address))?;
    Ok(views.iter().map(|view| info(asked, view)).collect())
}

async fn stop(asked: &Asked, identifier: &Identifier) -> Result<bool, Refused> {
    asked.gateway.pools.stop(&asked.pool.name, identifier).await.map_err(|error| Refused::of_pools(error, &asked.address))
}

fn info(asked: &Asked, view: &SessionView) -> SessionInfo {
    SessionInfo {
        identifier: view.identifier.as_str().to_owned(),
        created_at: Instant::from_unix_ms(view.created_unix_ms),
        last_accessed_at: Instant::from_unix_ms(view.last_accessed_unix_ms),
        expires_at: Instant::from_unix_ms(view.expires_unix_ms),
        etag: session_id(&asked.pool.name, &view.identifier, view.created_unix_ms),
    }
}

fn next(asked: &Asked, path: &str, skip: usize) -> String {
    format!("{}/{path}?api-version={}&skip={skip}", asked.base(), asked.version.as_str())
}
