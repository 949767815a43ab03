//! Bounds, each reached. Those of connections, streams and failures are tested where they are.

use super::{Browser, Web, asked};
use crate::{
    Role,
    web::limits::{BODY_BYTES_MAX, STREAMS_PER_USER_MAX, TOKEN_DAYS_MAX},
};
use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};
use futures::stream;
use std::{convert::Infallible, time::Duration};
use tower::ServiceExt as _;

#[tokio::test]
async fn a_body_over_the_limit_is_refused_everywhere() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let long = "x".repeat(BODY_BYTES_MAX);
    for path in ["/sign-in", "/sign-in/link", "/account/password", "/api/v1/tokens"] {
        let answer = web.post(&ann, path, &long).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_times_out() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let endless = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, Infallible>("a"), ()))
    });
    let request = asked(&ann, Method::POST, "/sign-in")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from_stream(endless))
        .unwrap();
    assert_eq!(web.send(request).await.status, StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn one_user_has_a_bounded_number_of_event_streams() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let open = || async {
        let request = asked(&ann, Method::GET, "/api/v1/events").body(Body::empty()).unwrap();
        web.router.clone().oneshot(request).await.unwrap()
    };
    let mut streams = Vec::new();
    for _ in 0..STREAMS_PER_USER_MAX {
        let stream = open().await;
        assert_eq!(stream.status(), StatusCode::OK);
        streams.push(stream);
    }
    assert_eq!(open().await.status(), StatusCode::SERVICE_UNAVAILABLE);
    streams.pop();
    assert_eq!(open().await.status(), StatusCode::OK);
}

#[tokio::test]
async fn lists_and_lifetimes_out_of_range_are_refused() {
    let web = Web::start().await;
    let all = web.browser("all", &Role::ALL).await;
    for path in [
        "/api/v1/holds?limit=0",
        "/api/v1/holds?limit=501",
        "/api/v1/sessions?limit=501",
        "/api/v1/evidence?limit=1001",
        "/api/v1/holds?state=nonsense",
        "/api/v1/evidence?host=nonsense",
    ] {
        let answer = web.get(&all, path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json");
        assert!(answer.json()["detail"].as_str().unwrap().contains("expected"), "{path}");
    }
    for days in [0, TOKEN_DAYS_MAX + 1] {
        let body = serde_json::json!({ "name": "x", "days": days });
        let answer = web.post_json(&all, "/api/v1/tokens", &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let nobody = Browser::default();
    let long = web.post(&nobody, "/sign-in", &format!("name={}&password=x", "n".repeat(65))).await;
    assert_eq!(long.status, StatusCode::UNAUTHORIZED);
}
