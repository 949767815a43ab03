//! What pages show and what their forms do.

use super::{Browser, Web};
use crate::{Role, UserSpec, web::limits::QUEUE_ROWS_MAX};
use axum::http::StatusCode;
use guard_model::HoldState;

#[tokio::test]
async fn a_form_decides_once_and_a_second_decision_hears_what_it_already_is() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let id = web.hold("dev", 1).await;
    let path = format!("/holds/{id}/decision");
    let missing = web.post(&ann, &path, "verdict=deny&reason=+++").await;
    assert_eq!(missing.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(missing.text.contains("A reason is required."));
    let done = web.post(&ann, &path, "verdict=deny&reason=not+today").await;
    assert_eq!(done.location(), format!("/holds/{id}"));
    let page = web.get(&ann, &format!("/holds/{id}")).await.text;
    assert!(page.contains("Denied") && page.contains("not today"));
    let again = web.post(&ann, &path, "verdict=allow&reason=oh+yes").await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(again.text.contains("already rejected"), "{}", again.text);
    let hold = web.controller().hold(id).await.unwrap().unwrap();
    assert_eq!(hold.state, HoldState::Rejected);
}

#[tokio::test]
async fn the_sessions_own_principal_reads_why_they_cannot_decide_and_cannot() {
    let web = Web::start().await;
    let spec = UserSpec {
        name: "ann".into(),
        roles: vec![Role::Approver],
        groups: Vec::new(),
        principals: vec!["dev".into()],
    };
    web.controller().create_user(spec, "first").await.unwrap();
    let ann = web.session_of("ann").await;
    let id = web.hold("dev", 1).await;
    let page = web.get(&ann, &format!("/holds/{id}")).await.text;
    assert!(page.contains("nobody approves for themselves"), "{page}");
    assert!(page.contains("<fieldset disabled"));
    assert!(web.get(&ann, "/").await.text.contains("not yours to decide"));
    let path = format!("/holds/{id}/decision");
    let refused = web.post(&ann, &path, "verdict=allow&reason=mine").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(web.controller().hold(id).await.unwrap().unwrap().state.is_open());
}

#[tokio::test]
async fn only_an_approver_who_opens_the_request_counts_as_having_opened_it() {
    let web = Web::start().await;
    let auditor = web.browser("aud", &[Role::Auditor]).await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let id = web.hold("dev", 1).await;
    let path = format!("/holds/{id}");
    web.get(&auditor, &path).await;
    let opened = || async { web.controller().hold(id).await.unwrap().unwrap().opened_unix_ms };
    assert_eq!(opened().await, None);
    let live = super::asked(&ann, axum::http::Method::GET, &path).header("x-guard-live", "1");
    web.send(live.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(opened().await, None, "the page's own reading again is nobody's opening");
    web.get(&ann, &path).await;
    assert!(opened().await.is_some());
}

#[tokio::test]
async fn the_queue_shows_what_waits_and_the_history_what_does_not() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    assert!(web.get(&ann, "/").await.text.contains("Nothing waits"));
    let id = web.hold("dev", 1).await;
    let queue = web.get(&ann, "/").await.text;
    assert!(queue.contains("<title>(1) Queue"), "{queue}");
    assert!(queue.contains("203.0.113.9:443"));
    web.post(&ann, &format!("/holds/{id}/decision"), "verdict=deny&reason=no").await;
    assert!(web.get(&ann, "/").await.text.contains("Nothing waits"));
    let closed = web.get(&ann, "/history?state=closed&text=203.0.113").await.text;
    assert!(closed.contains("203.0.113.9:443") && closed.contains("1 request<"));
    assert!(web.get(&ann, "/history?state=open").await.text.contains("Nothing matches"));
    for bad in ["state=x", "host=x", "session=x", "before=x"] {
        let answer = web.get(&ann, &format!("/history?{bad}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn a_flood_of_newer_requests_does_not_push_older_ones_off_the_queue() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let first = web.hold("dev", 1).await;
    let last = QUEUE_ROWS_MAX as u64 + 1;
    for number in 2..=last {
        web.hold("dev", number).await;
    }
    let queue = web.get(&ann, "/").await.text;
    assert!(queue.contains(&format!("data-hold=\"{first}\"")));
    assert_eq!(queue.matches("data-hold=").count(), QUEUE_ROWS_MAX);
    assert!(queue.contains("1 more wait") && queue.contains(&format!("({last}) Queue")));
}

#[tokio::test]
async fn what_a_session_calls_itself_is_escaped_on_every_page() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let id = web.hold("<b>\u{202e}dev", 1).await;
    let hold = web.controller().hold(id).await.unwrap().unwrap();
    let session = format!("/sessions/{}", hold.request.session.id);
    for path in ["/", &format!("/holds/{id}"), "/history", "/sessions?all=1", &session] {
        let html = web.get(&ann, path).await.text;
        assert!(html.contains("&#60;b&#62;\\u{202e}dev"), "{path}: {html}");
        assert!(!html.contains(['\u{202e}', '\u{1b}']), "{path}");
    }
}

#[tokio::test]
async fn a_refused_page_is_a_page_and_a_signed_out_reader_goes_to_the_sign_in() {
    let web = Web::start().await;
    let nobody = Browser::default();
    assert_eq!(web.get(&nobody, "/holds/x").await.location(), "/sign-in");
    let ann = web.browser("ann", &[Role::Auditor]).await;
    let refused = web.get(&ann, "/users").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.text.starts_with("<!doctype html>") && refused.text.contains("role `admin`"));
    let bad = web.get(&ann, "/holds/not-an-id").await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    assert!(bad.text.starts_with("<!doctype html>"));
}

#[tokio::test]
async fn health_tells_nothing_else() {
    let web = Web::start().await;
    let answer = web.get(&Browser::default(), "/healthz").await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, "ok\n"));
}
