//! Our own routes: health, readiness, metrics, and their description.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use greenroom_core::Profile;
use greenroom_identity::{Permission, Target};
use utoipa::{OpenApi, ToSchema};

use crate::{
    gateway::Gateway,
    pools,
    reply::{self, Refused},
};

/// `GET /healthz`.
#[derive(serde::Serialize, ToSchema)]
pub(crate) struct Health {
    /// Always `ok`: who cannot answer does not say so.
    status: &'static str,
    /// Greenroom's version.
    version: &'static str,
    /// How programs are isolated: `full`, `rootless` or `restricted`.
    #[schema(value_type = String)]
    isolation: Profile,
    /// Kernel release.
    kernel: String,
    /// What enforces limits: `v2`, `v1` or `none`.
    #[schema(value_type = String)]
    cgroups: serde_json::Value,
    /// Landlock ABI of the kernel, 0 for none.
    landlock_abi: u32,
    /// Whether the system call filter is in force.
    seccomp: bool,
    /// How many languages can be used.
    runtimes: usize,
    /// What of the host is weaker than it could be, and what to do.
    notes: Vec<String>,
}

/// `GET /readyz`.
#[derive(serde::Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// Whether new executions are taken.
    ready: bool,
    /// Why not.
    reason: Option<&'static str>,
    /// Sandboxes prepared and free.
    sandboxes_ready: u32,
    /// Executions running.
    running: usize,
    /// Executions waiting.
    queued: usize,
}

#[utoipa::path(get, path = "/healthz", responses((status = 200, body = Health, description = "The server is alive; what it found on its host")))]
pub(crate) async fn healthz(State(gateway): State<Gateway>) -> Response {
    let host = gateway.inner.local.host();
    let health = Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        isolation: host.profile,
        kernel: host.kernel.clone(),
        cgroups: serde_json::to_value(host.cgroups).unwrap_or_default(),
        landlock_abi: host.landlock_abi,
        seccomp: host.seccomp,
        runtimes: gateway.inner.catalogue.installed().len(),
        notes: host.notes.clone(),
    };
    reply::json(StatusCode::OK, &health)
}

#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, body = Readiness, description = "New executions are taken"),
    (status = 503, body = Readiness, description = "They are not, and why"),
))]
pub(crate) async fn readyz(State(gateway): State<Gateway>) -> Response {
    let (local, admission) = (gateway.inner.local.status(), &gateway.inner.admission);
    let reason = if admission.is_closed() {
        Some("draining: the server is shutting down")
    } else if !local.runner_alive {
        Some("the runner process is being restarted")
    } else {
        None
    };
    let readiness = Readiness {
        ready: reason.is_none(),
        reason,
        sandboxes_ready: local.ready,
        running: admission.running(),
        queued: admission.waiting(),
    };
    reply::json(if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &readiness)
}

#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "application/openmetrics-text", description = "Metrics for Prometheus")))]
pub(crate) async fn metrics(State(gateway): State<Gateway>, headers: HeaderMap) -> Response {
    // They tell of everybody's work.
    if let Err(refusal) = gateway.inner.guard.check(&headers, Permission::Manage, Target::Server).await {
        return Refused::from(refusal).reply("");
    }
    let admission = &gateway.inner.admission;
    let mut pools = Vec::new();
    for spec in gateway.inner.pools.list() {
        // One that is gone meanwhile has nothing to say.
        if let Ok(snapshot) = gateway.inner.pools.snapshot(&spec.name).await {
            pools.push((spec.name.clone(), snapshot));
        }
    }
    match gateway.inner.metrics.text(admission.waiting(), admission.running(), gateway.inner.local.status(), pools) {
        Ok(text) => {
            let mut response = text.into_response();
            let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            reply::empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

pub(crate) async fn openapi_json() -> Response {
    reply::json_bytes(StatusCode::OK, openapi().into())
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Greenroom",
        description = "Greenroom's own routes. The execution API is Piston's: see docs/piston-compatibility.md."
    ),
    paths(
        healthz, readyz, metrics, pools::list, pools::create, pools::show, pools::update, pools::delete, pools::sessions,
        pools::stop
    ),
    components(schemas(Health, Readiness))
)]
struct Description;

/// The description of our own routes (OpenAPI), as committed in `docs/openapi.json`.
pub fn openapi() -> String {
    // Made of constants: it can be written.
    Description::openapi().to_pretty_json().map(|text| text + "\n").unwrap_or_default()
}

/// The label of our own routes in the metrics.
pub(crate) fn route_label(path: &str) -> Option<&'static str> {
    match path {
        "/healthz" => Some("healthz"),
        "/readyz" => Some("readyz"),
        "/metrics" => Some("metrics"),
        "/openapi.json" => Some("openapi"),
        path if path == "/greenroom/pools" || path.starts_with("/greenroom/pools/") => Some("pools"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_description_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let now = super::openapi();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == now, "docs/openapi.json is out of date: run the tests of greenroom-gateway with UPDATE=1");
    }
}
