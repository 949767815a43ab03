//! The witness over HTTP/1.1, bounded in connections, bytes and time.

use crate::{Answer, BODY_BYTES_MAX, Witness};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::spawn_blocking,
    time::timeout,
};

/// Connections at one time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;

/// How long a request's head may take, and how long a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// How long a request's body may take.
const BODY_TIME: Duration = Duration::from_secs(10);

/// How long the listener rests after it could not accept (no descriptors left).
const REST: Duration = Duration::from_millis(100);

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, witness: Arc<Witness>) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { continue };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot accept: {error}");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let witness = Arc::clone(&witness);
        tokio::spawn(async move {
            connection(stream, witness).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, witness: Arc<Witness>) {
    let service = service_fn(move |request| {
        let witness = Arc::clone(&witness);
        async move { Ok::<_, Infallible>(answer(request, witness).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    // A client that went away is nobody's business.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, witness: Arc<Witness>) -> Response<Full<Bytes>> {
    if request.uri().path() != "/add-checkpoint" {
        return text(StatusCode::NOT_FOUND, "this witness has only /add-checkpoint\n");
    }
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "POST it\n");
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    let body = match timeout(BODY_TIME, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return text(StatusCode::PAYLOAD_TOO_LARGE, "broken or too long\n"),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "too slow\n"),
    };
    let answer = spawn_blocking(move || witness.add_checkpoint(&body, now_unix_s())).await;
    match answer.unwrap_or(Answer::Failed) {
        Answer::Cosigned(line) => text(StatusCode::OK, line),
        Answer::BadRequest(problem) => text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
        Answer::NotSigned => text(StatusCode::FORBIDDEN, "not signed by a known key of this log\n"),
        Answer::UnknownLog => text(StatusCode::NOT_FOUND, "not one of this witness's logs\n"),
        Answer::Conflict(size) => {
            let mut response = text(StatusCode::CONFLICT, format!("{size}\n"));
            let value = header::HeaderValue::from_static("text/x.tlog.size");
            response.headers_mut().insert(header::CONTENT_TYPE, value);
            response
        }
        Answer::Inconsistent(problem) => {
            text(StatusCode::UNPROCESSABLE_ENTITY, format!("{problem}\n"))
        }
        Answer::Failed => text(StatusCode::INTERNAL_SERVER_ERROR, "the witness's state failed\n"),
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
