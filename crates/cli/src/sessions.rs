//! The sessions of a server: its store, its pools, and the programs in them.

use std::path::Path;

use greenroom_backends::{Local, LocalSessions, SessionProgram};
use greenroom_core::Limits;
use greenroom_egress::Egress;
use greenroom_pool::{Network, PoolKind, Pools, Rules, Store, StoreError};
use greenroom_runtimes::Catalogue;

use crate::settings::{Settings, new_pool};

/// The pool that is there without any configuration.
const DEFAULT: &str = "default";

/// The store in this directory. Blocks.
pub fn store(directory: &Path) -> Result<Store, StoreError> {
    match Store::open(directory) {
        // Two servers side by side need no configuration.
        Err(error @ StoreError::InUse { .. }) => {
            tracing::warn!("{error}: until then pools, keys and usage of this server are not kept");
            Store::in_memory()
        }
        opened => opened,
    }
}

/// The pools of the store, those that the configuration names, and one that is always there. Their sessions are made later.
pub async fn pools(
    settings: &Settings,
    catalogue: &Catalogue,
    local: Local,
    egress: Egress,
    store: Store,
) -> anyhow::Result<Pools<LocalSessions>> {
    let catalogue = catalogue.clone();
    let no_network = local.host().no_network.clone();
    let backend = LocalSessions::new(local, egress, move |kind, limits| program(&catalogue, kind, limits));
    let pools = Pools::open(backend, store).await?;
    for (name, configured) in &settings.pools {
        let kept = pools.get(name).map_or_else(|| new_pool(name), |spec| (*spec).clone());
        let spec = configured.apply(kept).map_err(|error| anyhow::anyhow!("pools.{name}, with what is stored of it: {error}"))?;
        if let (Network::Enabled, Some(reason)) = (spec.network, &no_network) {
            anyhow::bail!("pools.{name}.network: the sessions of this machine have no network: {reason}");
        }
        pools.put(spec, &Rules::OWN).await?;
    }
    if pools.get(DEFAULT).is_none() {
        pools.put(new_pool(DEFAULT), &Rules::OWN).await?;
    }
    Ok(pools)
}

/// What runs inside a session. Asked for each session anew: languages come and go.
fn program(catalogue: &Catalogue, kind: PoolKind, limits: &Limits) -> Result<SessionProgram, String> {
    let language = match kind {
        PoolKind::PythonLts => "python",
        PoolKind::NodeLts => "javascript",
        PoolKind::Shell => "bash",
    };
    let runtime = catalogue
        .resolve(language, "*")
        .ok_or_else(|| format!("{language} is not installed: greenroom runtimes install {language}"))?;
    let command = runtime.session(limits).ok_or_else(|| format!("the definition of {language} says nothing of sessions"))?;
    Ok(SessionProgram { argv: command.argv, env: command.environment })
}
