//! The listener: a bounded number of connections, each with a bounded time for a request's head.

use super::limits::{CONNECTION_LIFETIME, CONNECTIONS_MAX, HEAD_TIMEOUT, STREAM_LIFETIME};
use axum::{Router, extract::ConnectInfo};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

/// How long connections may finish what they do when the controller stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Pause after `accept` failed, as it does while the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `stop` completes, then lets running requests finish for a short time.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let connection = connection(stream, peer, router.clone(), stopped.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("UI: cannot accept a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! { () = accept => {}, () = stop => {} }
    stopping.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN, drained).await.is_err() {
        tracing::debug!("UI: open event streams were closed");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let service = router.layer(axum::Extension(ConnectInfo(peer)));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut serving = std::pin::pin!(serving);
    let over = async {
        tokio::select! {
            // An error says that the sender is gone, which means the same.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = sleep(CONNECTION_LIFETIME) => {}
        }
    };
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = over => {
            serving.as_mut().graceful_shutdown();
            match timeout(STREAM_LIFETIME, serving).await {
                Ok(ended) => ended,
                Err(_) => return tracing::debug!("UI: connection of {peer} cut: it reads nothing"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!("UI: connection of {peer} ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn start() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(serve(listener, router, std::future::pending()));
        addr
    }

    async fn ask(addr: SocketAddr) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_connection_over_the_limit_waits_until_another_one_ends() {
        let addr = start().await;
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            idle.push(TcpStream::connect(addr).await.unwrap());
        }
        let waits = timeout(Duration::from_millis(300), ask(addr)).await;
        assert!(waits.is_err(), "{waits:?}");
        drop(idle);
        let answer = timeout(Duration::from_secs(5), ask(addr)).await.unwrap();
        assert!(answer.ends_with("here"), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_does_not_send_or_finish_its_head_is_cut_off() {
        let addr = start().await;
        let cut_off = |sent: &'static [u8]| async move {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(sent).await.unwrap();
            let mut answer = Vec::new();
            let wait = HEAD_TIMEOUT + Duration::from_secs(10);
            timeout(wait, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
            String::from_utf8(answer).unwrap()
        };
        let whole = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let (silent, half, idle) =
            tokio::join!(cut_off(b""), cut_off(&whole[..20]), cut_off(whole));
        assert!(!silent.contains("here") && !half.contains("here"));
        assert!(idle.contains("here"), "answered, then idle, then cut off");
    }
}
