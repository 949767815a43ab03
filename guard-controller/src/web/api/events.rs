//! Server-sent events: that something changed; what it is now is to be read.

use super::schema;
use crate::{
    Change,
    web::{App, limits::STREAM_LIFETIME, problem::Problem, signed::Signed},
};
use axum::{
    extract::State,
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt as _, stream};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

/// How long a browser waits before it opens a stream again.
const RETRY: Duration = Duration::from_millis(500);

/// Changes as they happen. Events are named `hold`, `session`, `host` and carry the change as
/// JSON; `resync` means that some were lost: read everything again. Ends after a minute at most;
/// open it again.
#[utoipa::path(get, path = "/api/v1/events", tag = "holds",
    responses((status = 200, body = schema::Change, content_type = "text/event-stream"),
        (status = "default", body = Problem)))]
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    signed: Signed,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let place = app.streams.enter(&signed.user.name).ok_or_else(|| {
        let detail = "Too many pages are open; close some or try again later.";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-streams", detail)
    })?;
    let hello = stream::iter([Ok(Event::default().retry(RETRY).event("ready").data("{}"))]);
    let changes = BroadcastStream::new(app.controller.subscribe()).map(|change| Ok(event(change)));
    let end = sleep_until(Instant::now() + STREAM_LIFETIME);
    let body = hello.chain(changes).take_until(end).map(move |event| {
        let _held_until_the_stream_ends = &place;
        event
    });
    Ok(Sse::new(body).keep_alive(KeepAlive::default()))
}

fn event(change: Result<Change, BroadcastStreamRecvError>) -> Event {
    let Ok(change) = change else { return Event::default().event("resync").data("{}") };
    let name = match change {
        Change::Hold { .. } => "hold",
        Change::Host { .. } => "host",
        Change::Session { .. } => "session",
    };
    let event = Event::default().event(name).json_data(change);
    event.unwrap_or_else(|_| Event::default().event("resync").data("{}"))
}
