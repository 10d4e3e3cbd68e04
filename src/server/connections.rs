//! Connections: how many there are, and how long a client may leave one waiting.

use super::app::App;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

/// How long to wait after a connection could not be accepted, as without free file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How long connections may take to send what is left of their responses after the last request was cancelled.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Accepts connections until `shutdown` completes; then drains: requests in progress have the time of the options, and connections a
/// little more.
pub(super) async fn serve(listener: TcpListener, router: Router, app: Arc<App>, shutdown: impl Future<Output = ()>) {
    let limit = Arc::new(Semaphore::new(app.options.connections.max(1)));
    let graceful = GracefulShutdown::new();
    let mut tasks = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        // More clients wait in the system's queue.
        let next = async {
            let place = limit.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            () = &mut shutdown => break,
        };
        // Frees what ended connections left.
        while tasks.try_join_next().is_some() {}
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(app.options.patience);
        let stream = TokioIo::new(Box::pin(watched(stream, app.options.patience)));
        let connection = http.serve_connection(stream, TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tasks.spawn(async move {
            // Clients close connections as they like.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    app.drain();
    let time = app.options.drain + LAST_WORDS;
    if tokio::time::timeout(time, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "closed connections whose clients did not read their responses");
    }
    tasks.shutdown().await;
}

/// A connection that fails if the client takes nothing for `patience`, or is gone without a word.
fn watched(stream: TcpStream, patience: Duration) -> TimeoutStream<TcpStream> {
    let socket = SockRef::from(&stream);
    // A system that lacks one of these has its own limits.
    let _ = stream.set_nodelay(true);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(patience).with_interval(patience / 4));
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_user_timeout(Some(patience));
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience));
    stream
}
