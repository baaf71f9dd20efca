//! Our own routes for pools: what `greenroom pool` talks to. A pool can do more than Azure's control plane knows: short
//! cooldowns, `OnContainerExit`, limits, warm modules. It is the same pool that is seen there.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::Response,
};
use greenroom_identity::{Permission, Target};
use greenroom_pool::{
    Identifier, Network, PoolError, PoolKind, PoolPatch, PoolSpec, Rules, SessionState, SessionView, Snapshot, UsageFilter,
    UsageSum,
};
use greenroom_runtimes::Catalogue;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    address::{Scheme, base},
    body,
    gateway::{Gateway, Inner, to_its_end},
    reply::{self, Refused},
};

/// Longest body, bytes. A pool's is a few hundred.
const BODY_BYTES: u64 = 1 << 20;

/// A pool as it is shown.
#[derive(serde::Serialize)]
struct View<'a> {
    #[serde(flatten)]
    spec: &'a PoolSpec,
    /// The base of its data plane: clients append paths to it.
    endpoint: String,
    /// What it is doing.
    now: Snapshot,
    /// What its sessions used, of this server and those before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageSum>,
}

/// Which sessions are summed up.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Period {
    from_unix_ms: Option<u64>,
    until_unix_ms: Option<u64>,
}

/// A session as its pool's manager sees it.
#[derive(serde::Serialize)]
struct Session {
    identifier: String,
    state: SessionState,
    created_at: String,
    last_accessed_at: String,
    expires_at: String,
    busy_ms: u64,
    idle_ms: u64,
}

/// Which session.
#[derive(Deserialize)]
pub(crate) struct Named {
    identifier: String,
}

#[utoipa::path(get, path = "/greenroom/pools", responses(
    (status = 200, content_type = "application/json", description = "All pools that the caller manages, and what each is doing"),
))]
pub(crate) async fn list(State(gateway): State<Gateway>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    respond(async {
        let inner = &gateway.inner;
        let admitted = inner.guard.check(&parts.headers, Permission::Manage, Target::SomePool).await?;
        let mut views = Vec::new();
        for spec in inner.pools.list() {
            if !admitted.may(Permission::Manage, Target::Pool(&spec.name)) {
                continue;
            }
            match inner.pools.snapshot(&spec.name).await {
                Ok(now) => views.push(view(&spec, now, None, &parts)),
                // It was deleted meanwhile.
                Err(PoolError::NotFound { .. } | PoolError::Closed) => {}
                Err(error) => return Err(refused(error)),
            }
        }
        Ok(reply::json(StatusCode::OK, &serde_json::json!({"pools": views})))
    })
    .await
}

#[utoipa::path(post, path = "/greenroom/pools", responses(
    (status = 201, content_type = "application/json", description = "The pool was made; its sessions are being made"),
    (status = 400, description = "It cannot be: the message says which field is wrong"),
    (status = 409, description = "There is a pool of that name already"),
))]
pub(crate) async fn create(State(gateway): State<Gateway>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    respond(async {
        let inner = &gateway.inner;
        inner.guard.check(&parts.headers, Permission::Manage, Target::Server).await?;
        let spec: PoolSpec = read(inner, &parts, body).await?;
        check_network(inner, Some(spec.network))?;
        if let Some(language) = missing(&inner.catalogue, spec.kind) {
            let message = format!(
                "kind: sessions of {kind} need {language}, which is not installed; install it (greenroom runtimes install {language}), and start the server again",
                kind = spec.kind.as_str()
            );
            return Err(Refused::Status(StatusCode::BAD_REQUEST, message));
        }
        let name = spec.name.clone();
        inner.pools.create(spec, &Rules::OWN).await.map_err(refused)?;
        shown(inner, &name, &parts, StatusCode::CREATED).await
    })
    .await
}

#[utoipa::path(get, path = "/greenroom/pools/{name}", responses(
    (status = 200, content_type = "application/json", description = "A pool, what it is doing (`now`), and what its sessions used (`usage`)"),
    (status = 404, description = "There is no such pool"),
), params(
    ("from_unix_ms" = Option<u64>, Query, description = "Sum up sessions that began at this time or later, milliseconds since 1970 UTC"),
    ("until_unix_ms" = Option<u64>, Query, description = "Sum up sessions that began before this time"),
))]
pub(crate) async fn show(State(gateway): State<Gateway>, Path(name): Path<String>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    respond(async {
        let inner = &gateway.inner;
        may_manage(inner, &name, &parts.headers).await?;
        let period = Query::<Period>::try_from_uri(&parts.uri)
            .map_err(|error| Refused::Status(StatusCode::BAD_REQUEST, error.body_text()))?
            .0;
        let filter =
            UsageFilter { pool: Some(name.clone()), from_unix_ms: period.from_unix_ms, until_unix_ms: period.until_unix_ms };
        let sums = inner.pools.store().usage_sums(filter).await.map_err(|error| refused(error.into()))?;
        let usage = sums.into_iter().next().unwrap_or_else(|| UsageSum { pool: name.clone(), ..UsageSum::default() });
        let (spec, now) = current(inner, &name).await?;
        Ok(reply::json(StatusCode::OK, &view(&spec, now, Some(usage), &parts)))
    })
    .await
}

#[utoipa::path(patch, path = "/greenroom/pools/{name}", responses(
    (status = 200, content_type = "application/json", description = "The pool was changed; sessions in use go on"),
    (status = 400, description = "It cannot be: the message says which field is wrong"),
    (status = 404, description = "There is no such pool"),
))]
pub(crate) async fn update(State(gateway): State<Gateway>, Path(name): Path<String>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    respond(async {
        let inner = &gateway.inner;
        may_manage(inner, &name, &parts.headers).await?;
        let patch: PoolPatch = read(inner, &parts, body).await?;
        check_network(inner, patch.network)?;
        inner.pools.update(&name, patch, &Rules::OWN).await.map_err(refused)?;
        shown(inner, &name, &parts, StatusCode::OK).await
    })
    .await
}

#[utoipa::path(delete, path = "/greenroom/pools/{name}", responses(
    (status = 204, description = "Nothing is left of the pool and its sessions"),
    (status = 404, description = "There is no such pool"),
))]
pub(crate) async fn delete(State(gateway): State<Gateway>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    respond(async {
        may_manage(&gateway.inner, &name, &headers).await?;
        let inner = Arc::clone(&gateway.inner);
        let deleted = to_its_end(&gateway.inner.tasks, async move {
            inner.control.remove(&name, &|pool| inner.azure.forget(pool)).await?.await;
            Ok(())
        });
        deleted.await.map_err(refused)?;
        Ok(reply::empty(StatusCode::NO_CONTENT))
    })
    .await
}

#[utoipa::path(get, path = "/greenroom/pools/{name}/sessions", responses(
    (status = 200, content_type = "application/json", description = "The pool's sessions that belong to an identifier, the oldest first"),
    (status = 404, description = "There is no such pool"),
))]
pub(crate) async fn sessions(State(gateway): State<Gateway>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    respond(async {
        may_manage(&gateway.inner, &name, &headers).await?;
        let sessions: Vec<_> = gateway.inner.pools.sessions(&name).await.map_err(refused)?.iter().map(Session::of).collect();
        Ok(reply::json(StatusCode::OK, &serde_json::json!({"sessions": sessions})))
    })
    .await
}

#[utoipa::path(delete, path = "/greenroom/pools/{name}/sessions", params(("identifier" = String, Query, description = "Whose session")), responses(
    (status = 204, description = "The session was ended"),
    (status = 404, description = "There is no such pool, or no such session"),
))]
pub(crate) async fn stop(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    Query(Named { identifier }): Query<Named>,
    headers: HeaderMap,
) -> Response {
    respond(async {
        may_manage(&gateway.inner, &name, &headers).await?;
        let named = Identifier::new(&identifier).map_err(|error| Refused::Status(StatusCode::BAD_REQUEST, error.to_string()))?;
        if gateway.inner.pools.stop(&name, &named).await.map_err(refused)? {
            return Ok(reply::empty(StatusCode::NO_CONTENT));
        }
        Err(Refused::Status(StatusCode::NOT_FOUND, format!("there is no session {identifier:?} in pool {name:?}")))
    })
    .await
}

/// The language that sessions of this kind need, where it is not installed.
pub(crate) fn missing(catalogue: &Catalogue, kind: PoolKind) -> Option<&'static str> {
    let language = match kind {
        PoolKind::PythonLts => "python",
        PoolKind::NodeLts => "javascript",
        PoolKind::Shell => "bash",
    };
    catalogue.resolve(language, "*").is_none().then_some(language)
}

async fn respond(answer: impl Future<Output = Result<Response, Refused>>) -> Response {
    answer.await.unwrap_or_else(|refused| refused.reply(""))
}

fn refused(error: PoolError) -> Refused {
    let status = match &error {
        PoolError::NotFound { .. } => StatusCode::NOT_FOUND,
        PoolError::Exists { .. } => StatusCode::CONFLICT,
        PoolError::Kind { .. } | PoolError::Spec(_) => StatusCode::BAD_REQUEST,
        PoolError::Closed => StatusCode::SERVICE_UNAVAILABLE,
        PoolError::Store(error) => {
            tracing::error!(%error, "the store of the pools");
            return Refused::Status(StatusCode::INTERNAL_SERVER_ERROR, "an error of ours: the log says which".to_owned());
        }
    };
    Refused::Status(status, error.to_string())
}

async fn may_manage(gateway: &Inner, name: &str, headers: &HeaderMap) -> Result<(), Refused> {
    gateway.guard.check(headers, Permission::Manage, Target::Pool(name)).await?;
    Ok(())
}

/// The body as JSON.
async fn read<T: serde::de::DeserializeOwned>(gateway: &Inner, parts: &Parts, body: Body) -> Result<T, Refused> {
    let (bytes, _held) = body::read(body, &parts.headers, BODY_BYTES, gateway.config.body_timeout, &gateway.bodies).await?;
    let value = serde_json::from_slice(&bytes);
    value.map_err(|error| Refused::Status(StatusCode::BAD_REQUEST, format!("the request body: {error}")))
}

/// Not every machine can give sessions a network.
fn check_network(gateway: &Inner, network: Option<Network>) -> Result<(), Refused> {
    let (Some(Network::Enabled), Some(reason)) = (network, &gateway.local.host().no_network) else { return Ok(()) };
    let message = format!("network: the sessions of this server have no network ({reason}): it must be Disabled");
    Err(Refused::Status(StatusCode::BAD_REQUEST, message))
}

async fn shown(gateway: &Inner, name: &str, parts: &Parts, status: StatusCode) -> Result<Response, Refused> {
    let (spec, now) = current(gateway, name).await?;
    Ok(reply::json(status, &view(&spec, now, None, parts)))
}

async fn current(gateway: &Inner, name: &str) -> Result<(Arc<PoolSpec>, Snapshot), Refused> {
    let not_found = || refused(PoolError::NotFound { name: name.to_owned() });
    let spec = gateway.pools.get(name).ok_or_else(not_found)?;
    let now = gateway.pools.snapshot(name).await.map_err(refused)?;
    Ok((spec, now))
}

fn view(spec: &PoolSpec, now: Snapshot, usage: Option<UsageSum>, parts: &Parts) -> Value {
    let scheme = parts.extensions.get::<Scheme>().copied().unwrap_or(Scheme::Http);
    let base = base(scheme, &parts.uri, &parts.headers);
    // Whatever stands for the subscription and the resource group leads to the pool.
    let endpoint = format!("{base}/subscriptions/local/resourceGroups/local/sessionPools/{}", spec.name);
    let view = View { spec, endpoint, now, usage };
    // Numbers, texts and lists of them: it can be written.
    serde_json::to_value(view).unwrap_or_default()
}

impl Session {
    fn of(view: &SessionView) -> Self {
        Self {
            identifier: view.identifier.as_str().to_owned(),
            state: view.state,
            created_at: instant(view.created_unix_ms),
            last_accessed_at: instant(view.last_accessed_unix_ms),
            expires_at: instant(view.expires_unix_ms),
            busy_ms: view.busy_ms,
            idle_ms: view.idle_ms,
        }
    }
}

/// RFC 3339, UTC, milliseconds.
fn instant(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map(|time| format!("{time:.3}")).unwrap_or_default()
}
