use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use greenroom_backends::{Local, LocalSessions};
use greenroom_core::ExecutionId;
use greenroom_egress::Egress;
use greenroom_identity::Guard;
use greenroom_pool::Pools;
use greenroom_runtimes::{Catalogue, Runtime};
use greenroom_wire::piston::{RuntimeEntry, etag};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    admission::Admission,
    arm::{self, ControlPlane},
    azure,
    body::Room,
    config::GatewayConfig,
    metrics::Metrics,
};

/// So many bodies of the largest size may be held at once.
const LARGEST_BODIES: u64 = 8;

/// What to do when languages were installed or removed: sandboxes are made anew, with what these need of `/etc`.
pub type Reload = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// What every request handler shares. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: GatewayConfig,
    /// Who may do what: asked by every route but health and readiness.
    pub(crate) guard: Guard,
    pub(crate) catalogue: Catalogue,
    pub(crate) local: Local,
    /// The sessions.
    pub(crate) pools: Pools<LocalSessions>,
    /// What Azure's data plane keeps beside them.
    pub(crate) azure: azure::State,
    /// Azure's control plane over them.
    pub(crate) control: ControlPlane<LocalSessions>,
    pub(crate) admission: Admission,
    pub(crate) metrics: Metrics,
    pub(crate) reload: Reload,
    /// Cancelled when running executions must end (a drain's deadline, a second signal).
    pub(crate) cut: CancellationToken,
    /// Connections, WebSockets among them: a drain waits for all.
    pub(crate) tasks: TaskTracker,
    /// For the bodies of requests.
    pub(crate) bodies: Room,
    listing: Mutex<Option<Listing>>,
    /// One installation at a time: the package manager allows no more.
    pub(crate) installing: tokio::sync::Mutex<()>,
}

/// The answer to `GET /runtimes`, written once per change of the catalogue.
struct Listing {
    of: Arc<[Arc<Runtime>]>,
    bytes: Bytes,
    etag: String,
}

impl Gateway {
    /// A gateway to this backend for these languages, for those whom the guard lets in.
    pub fn new(
        config: GatewayConfig,
        guard: Guard,
        catalogue: Catalogue,
        local: Local,
        (pools, egress): (Pools<LocalSessions>, Egress),
        reload: Reload,
    ) -> Self {
        // The first of those that wait do so with their sandbox in hand.
        let staged = config.max_concurrent.min(config.queue);
        let tasks = TaskTracker::new();
        let offered = arm::offered(catalogue.clone(), local.host().no_network.clone());
        let control = ControlPlane::new(pools.clone(), offered, tasks.clone());
        let resumed = control.clone();
        tasks.spawn(async move { resumed.resume().await });
        Self {
            inner: Arc::new(Inner {
                admission: Admission::new(config.max_concurrent + staged, config.queue - staged),
                bodies: Room::new(config.body_bytes.saturating_mul(LARGEST_BODIES)),
                config,
                guard,
                catalogue,
                local,
                pools,
                azure: azure::State::default(),
                control,
                metrics: Metrics::new(egress),
                reload,
                cut: CancellationToken::new(),
                tasks,
                listing: Mutex::default(),
                installing: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// A new id: 128 random bits. Executions and requests are told apart by it.
    pub(crate) fn new_id() -> ExecutionId {
        use std::hash::{BuildHasher, Hasher};
        // RandomState is seeded by the system's random source, and differently each time it is made.
        let half = || u128::from(std::collections::hash_map::RandomState::new().build_hasher().finish());
        ExecutionId::from_bits(half() << 64 | half())
    }
}

/// Does it to its end, also where whoever waits for that goes away: what is changed in several places is changed in all of them.
pub(crate) async fn to_its_end<T: Send + 'static>(tasks: &TaskTracker, work: impl Future<Output = T> + Send + 'static) -> T {
    match tasks.spawn(work.in_current_span()).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime ends, and whoever waits with it.
        Err(Err(_)) => std::future::pending().await,
    }
}

impl Inner {
    /// `GET /runtimes`: the bytes and their entity tag.
    pub(crate) fn listing(&self) -> (Bytes, String) {
        let installed = self.catalogue.installed();
        let mut kept = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listing) = kept.as_ref().filter(|listing| Arc::ptr_eq(&listing.of, &installed)) {
            return (listing.bytes.clone(), listing.etag.clone());
        }
        let entries: Vec<RuntimeEntry> = installed
            .iter()
            .map(|runtime| RuntimeEntry {
                language: runtime.language().to_owned(),
                version: runtime.version().to_owned(),
                aliases: runtime.aliases().to_vec(),
                runtime: runtime.package().map(str::to_owned),
            })
            .collect();
        // Strings only: nothing in it can fail to be written.
        let bytes = Bytes::from(serde_json::to_vec(&entries).unwrap_or_default());
        let etag = etag(&bytes);
        *kept = Some(Listing { of: installed, bytes: bytes.clone(), etag: etag.clone() });
        (bytes, etag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_done_to_its_end_is_so_when_nobody_waits_any_more() {
        let tasks = TaskTracker::new();
        let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
        let (done, is_done) = tokio::sync::oneshot::channel();
        let mut waiting = Box::pin(to_its_end(&tasks, async move {
            wait.await.unwrap();
            done.send(()).unwrap();
        }));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(waiting);
        go_on.send(()).unwrap();
        is_done.await.unwrap();
    }
}
