//! What the control plane keeps of a pool beside its specification, and how the two make one document.

use greenroom_pool::{Lifecycle, Network, PoolKind, PoolSpec, Store, StoreError};
use greenroom_wire::arm::{self, ContainerType, Identity, PoolDocument, PoolId, PoolSettings, SystemData};
use serde::{Deserialize, Serialize};

/// Where a pool is that was made by other means, until a client of the control plane says otherwise.
pub(super) const LOCATION: &str = "local";

/// The kind under which the store has these.
const KIND: &str = "arm.session_pool";

/// What only the control plane knows of a pool. The pool's own settings count where the two differ: they may have been changed
/// by `greenroom pool update`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// As it was spelled when the pool was made.
    pub(super) id: PoolId,
    pub(super) document: PoolDocument,
    pub(super) system_data: SystemData,
    /// The key of its MCP server, made when that is enabled first. Clients fetch it again and again, so it is kept as it is, in
    /// a file that only the server may read.
    pub(super) mcp_key: Option<String>,
}

impl Record {
    pub(super) async fn load(store: &Store, name: &str) -> Result<Option<Self>, StoreError> {
        Ok(store.document(KIND, name).await?.and_then(|text| Self::parse(name, &text)))
    }

    /// All of them, by name.
    pub(super) async fn load_all(store: &Store) -> Result<Vec<(String, Self)>, StoreError> {
        let all = store.documents(KIND).await?.into_iter();
        Ok(all.filter_map(|(name, text)| Self::parse(&name, &text).map(|record| (name, record))).collect())
    }

    pub(super) async fn save(&self, store: &Store, name: &str) -> Result<(), StoreError> {
        // Texts, numbers and lists of them: it can be written.
        store.put_document(KIND, name, &serde_json::to_string(self).unwrap_or_default()).await
    }

    pub(super) async fn forget(store: &Store, name: &str) -> Result<(), StoreError> {
        store.delete_document(KIND, name).await.map(|_| ())
    }

    /// A record that cannot be read (of a later version) is none: the pool is there all the same.
    fn parse(name: &str, text: &str) -> Option<Self> {
        let read = serde_json::from_str(text);
        read.inspect_err(|error| tracing::warn!(pool = name, %error, "what the control plane kept of a pool cannot be read")).ok()
    }
}

/// The document of a pool: its specification's part of it as it is now, the rest as it was sent.
pub(super) fn document(spec: &PoolSpec, record: Option<&Record>) -> PoolDocument {
    let sent = record.map(|record| &record.document);
    PoolDocument {
        settings: PoolSettings {
            container_type: container_type(spec.kind),
            max_concurrent_sessions: spec.max_sessions,
            ready_session_instances: Some(spec.ready_sessions),
            lifecycle: match spec.lifecycle {
                Lifecycle::Timed { cooldown_s } => arm::Lifecycle::Timed { cooldown_s },
                Lifecycle::OnContainerExit { max_alive_s } => arm::Lifecycle::OnContainerExit { max_alive_s },
            },
            network: match spec.network {
                Network::Disabled => arm::Network::EgressDisabled,
                Network::Enabled => arm::Network::EgressEnabled,
            },
            mcp_enabled: sent.is_some_and(|sent| sent.settings.mcp_enabled),
            location: sent.map_or_else(|| LOCATION.to_owned(), |sent| sent.settings.location.clone()),
            tags: sent.map(|sent| sent.settings.tags.clone()).unwrap_or_default(),
        },
        identity: sent.map_or_else(Identity::default, |sent| sent.identity.clone()),
        managed_identity_settings: sent.map(|sent| sent.managed_identity_settings.clone()).unwrap_or_default(),
        secrets: sent.map(|sent| sent.secrets.clone()).unwrap_or_default(),
    }
}

/// The specification that a document asks for. What documents do not have stays as it is.
pub(super) fn spec(name: &str, document: &PoolDocument, existing: Option<&PoolSpec>) -> PoolSpec {
    let settings = &document.settings;
    let before = existing.cloned().unwrap_or_else(|| PoolSpec::new(name));
    PoolSpec {
        kind: kind(settings.container_type),
        max_sessions: settings.max_concurrent_sessions,
        // Documents do not show it, so that one that is sent back does not have it.
        ready_sessions: settings.ready_session_instances.unwrap_or(before.ready_sessions).min(settings.max_concurrent_sessions),
        lifecycle: match settings.lifecycle {
            arm::Lifecycle::Timed { cooldown_s } => Lifecycle::Timed { cooldown_s },
            arm::Lifecycle::OnContainerExit { max_alive_s } => Lifecycle::OnContainerExit { max_alive_s },
        },
        network: match settings.network {
            arm::Network::EgressDisabled => Network::Disabled,
            arm::Network::EgressEnabled => Network::Enabled,
        },
        ..before
    }
}

pub(super) fn container_type(kind: PoolKind) -> ContainerType {
    match kind {
        PoolKind::PythonLts => ContainerType::PythonLts,
        PoolKind::NodeLts => ContainerType::NodeLts,
        PoolKind::Shell => ContainerType::Shell,
    }
}

fn kind(container_type: ContainerType) -> PoolKind {
    match container_type {
        ContainerType::PythonLts => PoolKind::PythonLts,
        ContainerType::NodeLts => PoolKind::NodeLts,
        ContainerType::Shell => PoolKind::Shell,
    }
}
