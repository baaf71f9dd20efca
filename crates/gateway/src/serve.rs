//! The accept loops: one task per connection, timeouts on handshakes and headers, a drain at the end.

use std::{io, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_util::sync::CancellationToken;

use crate::{
    Gateway,
    address::Scheme,
    peer::{Connection, Peer},
    router,
};

/// After a failed accept (out of descriptors, usually) the loop rests: trying again at once would only burn time.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// An address that is served.
pub struct Listener {
    /// Bound.
    pub socket: TcpListener,
    /// https with this, or else http.
    pub tls: Option<Arc<ServerConfig>>,
}

/// Serves until `shutdown` resolves; then drains: no new connections, no new executions, those that run may finish
/// until the configured deadline, or until `cut` resolves, and then are stopped.
///
/// # Errors
/// None of a client's making.
pub async fn serve(
    listeners: Vec<Listener>,
    gateway: Gateway,
    shutdown: impl Future<Output = ()>,
    cut: impl Future<Output = ()>,
) -> io::Result<()> {
    let app = router(gateway.clone());
    let tasks = &gateway.inner.tasks;
    let closing = CancellationToken::new();
    for listener in listeners {
        tasks.spawn(accept(listener, gateway.clone(), app.clone(), closing.clone()));
    }
    shutdown.await;
    tracing::info!(running = gateway.inner.admission.running(), "draining");
    gateway.inner.admission.close();
    closing.cancel();
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {}
        () = tokio::time::sleep(gateway.inner.config.drain_timeout) => tracing::warn!("the drain's time is up: stopping what runs"),
        () = cut => tracing::warn!("told again: stopping what runs"),
    }
    gateway.inner.cut.cancel();
    // What is cut answers at once; a client that does not read its answer is not waited for.
    if tokio::time::timeout(Duration::from_secs(1), tasks.wait()).await.is_err() {
        tracing::warn!("connections are left open");
    }
    Ok(())
}

/// Takes connections until it is told to close; the socket closes with it.
async fn accept(listener: Listener, gateway: Gateway, app: axum::Router, closing: CancellationToken) {
    let tls = listener.tls.map(TlsAcceptor::from);
    // Addresses in answers begin with it.
    let app = app.layer(axum::Extension(if tls.is_some() { Scheme::Https } else { Scheme::Http }));
    let timeout = gateway.inner.config.header_timeout;
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            () = closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                // Answers are small and whole: waiting to fill a packet only delays them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY cannot be set");
                }
                let (stream, peer) = Connection::new(stream);
                let client = Client { peer, app: app.clone(), timeout, closing: closing.clone() };
                match tls.clone() {
                    Some(tls) => drop(gateway.inner.tasks.spawn(secured(tls, stream, client))),
                    None => drop(gateway.inner.tasks.spawn(connection(stream, client))),
                }
            }
            // The client's doing, and over.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// What a connection is served with.
struct Client {
    peer: Peer,
    app: axum::Router,
    /// For a handshake, and for headers.
    timeout: Duration,
    closing: CancellationToken,
}

/// The handshake first, within the time for headers: who does not finish it costs a socket and a task until then.
async fn secured(tls: TlsAcceptor, stream: Connection, client: Client) {
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(client.timeout, tls.accept(stream)) => shaken,
        () = client.closing.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => connection(stream, client).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake was not finished in time"),
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, client: Client) {
    let Client { peer, app, timeout, closing } = client;
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(timeout).max_buf_size(64 * 1024);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app)).with_upgrades();
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        // Dropped, it takes its job along.
        () = peer.gone() => return tracing::debug!("a client is gone"),
        () = closing.cancelled() => {
            // Finishes the request in hand, then closes.
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
}
