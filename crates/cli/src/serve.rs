//! `greenroom serve`.

use std::{io, net::SocketAddr, process::ExitCode};

use greenroom_gateway::{Gateway, Listener};
use greenroom_runtimes::Elevation;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{ahead::Ahead, config::Loaded, identity, output::say, sessions, start};

/// Serves until it is told to stop; drains; leaves nothing behind.
pub async fn serve(loaded: Loaded) -> anyhow::Result<ExitCode> {
    let settings = loaded.settings;
    start::log(&settings)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    // First, because it fails soonest: before any process is started.
    identity::check_exposure(&settings)?;
    let listener = bind(settings.listen).await?;
    let address = listener.local_addr()?;
    let mut listeners = vec![Listener { socket: listener, tls: None }];
    let mut addresses = format!("http://{address}");
    if let Some(tls) = &settings.tls {
        start::data_dir(&settings)?;
        let config = tls.certificate.server_config()?;
        let socket = bind(tls.listen).await?;
        addresses += &format!(" and https://{}", socket.local_addr()?);
        tracing::info!(certificate = %tls.certificate.path().display(), "serving https");
        listeners.push(Listener { socket, tls: Some(config) });
    }
    let (stop, cut) = signals()?;
    start::data_dir(&settings)?;
    let data_dir = settings.data_dir.clone();
    let store = tokio::task::spawn_blocking(move || sessions::store(&data_dir));
    let for_catalogue = settings.clone();
    let catalogue = tokio::task::spawn_blocking(move || start::catalogue(&for_catalogue, Elevation::Never)).await??;
    for warning in settings.idle_overrides(&catalogue) {
        tracing::warn!("{warning}");
    }
    let local = start::local(&settings, &catalogue).await?;
    // Not for the commands that run a program or two: what stands by would come after them.
    local.stand_by(settings.standbys as usize, settings.most_standbys() as usize);
    let host = local.host();
    for note in &host.notes {
        tracing::warn!("{note}");
    }
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "keys and tokens come over plain http here: put TLS before it, or set [tls]");
    }
    let reload = {
        let (settings, catalogue, local) = (settings.clone(), catalogue.clone(), local.clone());
        Box::new(move || -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
            let (config, local) = (settings.sandbox(&catalogue), local.clone());
            Box::pin(async move { local.reload(config).await.map_err(|error| error.to_string()) })
        })
    };
    let languages = catalogue.installed().len();
    let ahead = settings.precompiled().map(|directory| Ahead::start(catalogue.clone(), directory)).transpose()?;
    let store = store.await??;
    let pruning = tokio::spawn(store.clone().keep_pruned(settings.kept));
    let egress = settings.egress.start();
    let pools = sessions::pools(&settings, &catalogue, local.clone(), egress.clone(), store).await?;
    // After the store: the keys are in it.
    let guard = identity::guard(&settings, address)?;
    let gateway = Gateway::new(settings.gateway.clone(), guard, catalogue, local.clone(), (pools.clone(), egress), reload);
    let ready = format!(
        "greenroom {} listening on {addresses} (isolation {}, {languages} languages)",
        env!("CARGO_PKG_VERSION"),
        host.profile
    );
    // A server goes on where nobody reads its standard output.
    if let Err(error) = say(&ready) {
        tracing::warn!("{ready}; {error}");
    }
    if let Err(error) = greenroom_sandbox::forget_the_start() {
        tracing::debug!(%error, "the memory that only the start needed stays in use");
    }
    let served = greenroom_gateway::serve(listeners, gateway, stop.cancelled(), cut.cancelled()).await;
    // It has a handle on the store, whose last one waits until all is written.
    pruning.abort();
    let _aborted = pruning.await;
    // Sessions first: what they used is read from sandboxes that still are.
    pools.shutdown().await;
    local.shutdown().await;
    drop(ahead);
    served?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| cannot_listen(address, error))
}

/// What to do depends on why.
fn cannot_listen(address: SocketAddr, error: io::Error) -> anyhow::Error {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => "another server has this port; end it, or choose another with --listen",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; choose another with --listen",
        io::ErrorKind::PermissionDenied => "ports below 1024 are root's; choose a higher one with --listen",
        _ => "choose another with --listen",
    };
    anyhow::Error::new(error).context(format!("cannot listen on {address}: {what}"))
}

/// SIGTERM or SIGINT: stop in good order (the first token); once more: at once (the second).
fn signals() -> anyhow::Result<(CancellationToken, CancellationToken)> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
    let tokens = (stop.clone(), cut.clone());
    tokio::spawn(async move {
        for token in [stop, cut] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            token.cancel();
        }
    });
    Ok(tokens)
}
