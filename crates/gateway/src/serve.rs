//! The accept loop: one task per connection, timeouts on headers, a drain at the end.

use std::{io, time::Duration};

use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{Gateway, router};

/// After a failed accept (out of descriptors, usually) the loop rests: trying again at once would only burn time.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves until `shutdown` resolves; then drains: no new connections, no new executions, those that run may finish
/// until the configured deadline, or until `cut` resolves, and then are stopped.
///
/// # Errors
/// None of a client's making. The listener's, where it cannot be used at all.
pub async fn serve(
    listener: TcpListener,
    gateway: Gateway,
    shutdown: impl Future<Output = ()>,
    cut: impl Future<Output = ()>,
) -> io::Result<()> {
    let app = router(gateway.clone());
    let tasks = &gateway.inner.tasks;
    let closing = CancellationToken::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tasks.spawn(connection(stream, app.clone(), gateway.inner.config.header_timeout, closing.clone()));
                }
                // The client's doing, and over.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            },
            () = &mut shutdown => break,
        }
    }
    drop(listener);
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

async fn connection(stream: TcpStream, app: axum::Router, header_timeout: Duration, closing: CancellationToken) {
    // Answers are small and whole: waiting to fill a packet only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(64 * 1024);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app)).with_upgrades();
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
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
