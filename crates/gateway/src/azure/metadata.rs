//! `GET /metadata`: what a pool's sessions are made of, asked of one of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{http::StatusCode, response::Response};
use greenroom_backends::{CellStatus, CodeExecution};
use greenroom_pool::{Identifier, PoolKind, PoolSpec};
use greenroom_wire::azure::{Instant, KernelInfo, Metadata, PackageInfo, RuntimeInfo};

use super::{Asked, json, refused::Refused, unix_ms};

/// What a session is asked, in its own language: a line of JSON with the packages that it can import.
const PYTHON: &str = "import importlib.metadata as _m, json as _j\n\
    print(_j.dumps(sorted({(d.metadata['Name'] or '', d.version or '') for d in _m.distributions()})))";
/// Node's modules come with it, and their versions with its own.
const NODE: &str = "console.log(JSON.stringify(Object.entries(process.versions).filter(([name]) => name !== 'node')))";

/// What the sessions of a pool were found to be, for as long as the pool makes the same ones.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<String, Found>>);

#[derive(Clone, Debug)]
struct Found {
    spec: Arc<PoolSpec>,
    runtime: RuntimeInfo,
    packages: Vec<PackageInfo>,
}

pub(super) async fn get(asked: &Asked) -> Result<Response, Refused> {
    let found = match asked.state().metadata.of(&asked.pool) {
        Some(found) => found,
        None => {
            let found = ask(asked).await?;
            asked.state().metadata.keep(found.clone());
            found
        }
    };
    // Pools do not say when they were made; they have been served since the server started, at least.
    let since = Instant::from_unix_ms(unix_ms(asked.state().started));
    let metadata = Metadata {
        jupyter_kernel: KernelInfo {
            name: format!("greenroom-{}", found.runtime.name.to_ascii_lowercase()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            project_url: env!("CARGO_PKG_REPOSITORY").to_owned(),
            description: format!("{} {} in a sandbox, a cell at a time", found.runtime.name, found.runtime.version),
        },
        runtimes: vec![found.runtime],
        pre_installed_packages: found.packages,
        created_at: since,
        last_updated_at: since,
    };
    Ok(json(StatusCode::OK, metadata.body()))
}

/// Asks a session of nobody's, which ends then.
async fn ask(asked: &Asked) -> Result<Found, Refused> {
    let nobody = format!("metadata-{}", super::new_guid()?);
    let nobody =
        Identifier::new(&nobody).map_err(|error| Refused::Internal { step: "name a session", error: error.to_string() })?;
    let lease = asked.lease(&nobody).await?;
    let info = lease.info().clone();
    let code = match asked.pool.kind {
        PoolKind::PythonLts => Some(PYTHON),
        PoolKind::NodeLts => Some(NODE),
        PoolKind::Shell => None,
    };
    let mut packages = Vec::new();
    if let Some(code) = code {
        let cell = CodeExecution { code: code.to_owned(), timeout_ms: Some(30_000), output_chars: None };
        let result = lease.execute(cell).await.map_err(|error| Refused::of_session(&error, lease.end_reason()))?;
        if result.status != CellStatus::Succeeded {
            let error = format!("{:?}: {}{}", result.status, result.stderr, result.error.unwrap_or_default().traceback);
            return Err(Refused::Internal { step: "ask a session for its packages", error });
        }
        let pairs: Vec<(String, String)> = serde_json::from_str(result.stdout.trim())
            .map_err(|error| Refused::Internal { step: "read a session's packages", error: error.to_string() })?;
        packages = pairs.into_iter().map(|(name, version)| PackageInfo { name, version }).collect();
    }
    drop(lease);
    asked.gateway.pools.stop(&asked.pool.name, &nobody).await.map_err(|error| Refused::of_pools(error, &asked.address))?;
    let name = match asked.pool.kind {
        PoolKind::PythonLts => "Python".to_owned(),
        PoolKind::NodeLts => "Node".to_owned(),
        PoolKind::Shell => info.runtime,
    };
    Ok(Found { spec: Arc::clone(&asked.pool), runtime: RuntimeInfo { name, version: info.version }, packages })
}

impl Cache {
    fn of(&self, spec: &PoolSpec) -> Option<Found> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&spec.name).filter(|found| found.spec.makes_the_same_sessions_as(spec)).cloned()
    }

    fn keep(&self, found: Found) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(found.spec.name.clone(), found);
    }
}
