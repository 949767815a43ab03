//! REST: shapes, decisions, events, and the description of it all.

use super::{Browser, Web, asked};
use crate::{
    Role,
    web::{
        api::{openapi::document, schema},
        routes::ROUTES,
    },
};
use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};
use futures::StreamExt as _;
use guard_model::{HoldId, HoldState, SessionId};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tower::ServiceExt as _;
use uuid::Uuid;

#[test]
fn every_api_route_is_described_and_nothing_else_is() {
    let described = serde_json::to_value(document()).unwrap();
    let described: BTreeSet<String> = described["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let routed: BTreeSet<String> = ROUTES
        .iter()
        .filter(|route| route.path.starts_with("/api/"))
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    assert_eq!(described, routed);
}

#[test]
fn every_reference_in_the_description_leads_somewhere() {
    let text = serde_json::to_string(&document()).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let names = value["components"]["schemas"].as_object().unwrap();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(names.contains_key(name), "{name} is not described");
    }
}

/// The fields that are really there, against those that are described.
fn same_fields(what: &str, value: &Value, described: &[&str]) {
    let real: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let described: BTreeSet<&str> = described.iter().copied().collect();
    assert_eq!(real, described, "{what}");
}

#[tokio::test]
async fn what_is_described_is_what_is_sent() {
    let web = Web::start().await;
    let all = web.browser("all", &Role::ALL).await;
    let id = web.hold("dev", 1).await;
    let hold = web.get(&all, &format!("/api/v1/holds/{id}")).await.json();
    let mut fields = schema::Hold::FIELDS.to_vec();
    fields.extend(["line", "may_decide"]);
    same_fields("hold", &hold, &fields);
    same_fields("request", &hold["request"], schema::Request::FIELDS);
    same_fields("session info", &hold["request"]["session"], schema::SessionInfo::FIELDS);
    let sessions = web.get(&all, "/api/v1/sessions").await.json();
    same_fields("session", &sessions["sessions"][0], schema::Session::FIELDS);
    let session = hold["request"]["session"]["id"].as_str().unwrap();
    let session = web.get(&all, &format!("/api/v1/sessions/{session}")).await.json();
    same_fields("session in full", &session, schema::SessionInFull::FIELDS);
    let users = web.get(&all, "/api/v1/users").await.json();
    same_fields("user", &users["users"][0], schema::User::FIELDS);
    let health = web.get(&all, "/api/v1/log").await.json();
    same_fields("log", &health, schema::LogHealth::FIELDS);
    same_fields("witnessed", &health["witnessed"], schema::Witnessed::FIELDS);
    same_fields("retention", &health["retention"], schema::Retention::FIELDS);
    let scope = guard_audit::HoldScope {
        class: Some("held".into()),
        session: Some(SessionId(Uuid::nil())),
        host: Some(guard_model::HostId(Uuid::nil())),
        from_unix_ms: Some(1),
        to_unix_ms: Some(2),
    };
    web.controller().set_legal_hold(scope, "matter", "all").await.unwrap();
    let holds = web.get(&all, "/api/v1/legal-holds").await.json();
    same_fields("legal hold", &holds["legal_holds"][0], schema::LegalHold::FIELDS);
    same_fields("scope", &holds["legal_holds"][0]["scope"], schema::LegalHoldScope::FIELDS);
    let witness = serde_json::to_value(crate::witness::WitnessView::default()).unwrap();
    same_fields("witness", &witness, schema::Witness::FIELDS);
    web.bearer("all").await;
    let tokens = web.get(&all, "/api/v1/tokens").await.json();
    same_fields("token", &tokens["tokens"][0], schema::Token::FIELDS);
    let spec = serde_json::to_value(crate::UserSpec::default()).unwrap();
    same_fields("new user", &spec, schema::NewUser::FIELDS);
}

#[test]
fn a_change_is_described_as_sent() {
    let change = crate::Change::Hold {
        id: HoldId(Uuid::nil()),
        state: HoldState::Pending,
        session: SessionId(Uuid::nil()),
    };
    same_fields("change", &serde_json::to_value(change).unwrap(), schema::Change::FIELDS);
}

#[tokio::test]
async fn hosts_and_evidence_are_described_as_sent() {
    let web = Web::start().await;
    let all = web.browser("all", &Role::ALL).await;
    let token = web.controller().new_join_token().await.unwrap().token;
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    web.controller().enrol(&token, &csr.pem().unwrap(), "box-1").await.unwrap();
    let hosts = web.get(&all, "/api/v1/hosts").await.json();
    same_fields("host", &hosts["hosts"][0], schema::Host::FIELDS);
    for _ in 0..200 {
        let answer = web.get(&all, "/api/v1/evidence?limit=2").await;
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/x-ndjson");
        let lines: Vec<Value> =
            answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if lines.len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        same_fields("evidence", &lines[0], schema::EvidenceLine::FIELDS);
        let from = lines[1]["position"].as_u64().unwrap();
        let next = web.get(&all, &format!("/api/v1/evidence?from={from}&limit=1")).await.text;
        let next: Value = serde_json::from_str(next.trim()).unwrap();
        assert_eq!(next, lines[1], "`from` is the first position of the page");
        return;
    }
    panic!("no evidence of the controller's own start");
}

#[tokio::test]
async fn pages_of_holds_follow_one_another_without_gaps() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Auditor]).await;
    let mut ids = Vec::new();
    for number in 1..=5 {
        ids.insert(0, web.hold("dev", number).await.to_string());
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = web.get(&ann, &format!("/api/v1/holds?state=open&limit=2{after}")).await.json();
        assert_eq!(page["total"], 5);
        for hold in page["holds"].as_array().unwrap() {
            seen.push(hold["request"]["hold_id"].as_str().unwrap().to_owned());
            assert_eq!(hold["may_decide"], false);
            assert_eq!(hold["line"], "connect 203.0.113.9:443");
        }
        let Some(next) = page["next"].as_u64() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn a_decision_is_taken_once_and_what_is_wrong_with_it_is_said() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let id = web.hold("dev", 1).await;
    let path = format!("/api/v1/holds/{id}/decision");
    for (body, status) in [
        (json!({ "verdict": "allow" }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "verdict": "maybe", "reason": "x" }), StatusCode::UNPROCESSABLE_ENTITY),
        (
            json!({ "verdict": "allow", "reason": "x", "scope": "all" }),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (json!({ "verdict": "allow", "reason": " " }), StatusCode::UNPROCESSABLE_ENTITY),
        (
            json!({ "verdict": "allow", "reason": "x".repeat(5000) }),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
    ] {
        let answer = web.post_json(&ann, &path, &body).await;
        assert_eq!(answer.status, status, "{body}");
        let problem = answer.json();
        assert_eq!(problem["status"], status.as_u16());
        assert!(problem["type"].as_str().unwrap().starts_with("urn:guard:problem:"));
    }
    let answer = web.post_json(&ann, &path, &json!({ "verdict": "allow", "reason": "ok" })).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["state"], "approved");
    assert_eq!(answer.json()["decided_by"], "ann");
    let again = web.post_json(&ann, &path, &json!({ "verdict": "deny", "reason": "no" })).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert_eq!(again.json()["type"], "urn:guard:problem:already-decided");
    let none = "/api/v1/holds/00000000-0000-0000-0000-000000000000/decision";
    let none = web.post_json(&ann, none, &json!({ "verdict": "deny", "reason": "no" })).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_new_hold_is_an_event_within_300_ms() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Auditor]).await;
    let request = asked(&ann, Method::GET, "/api/v1/events").body(Body::empty()).unwrap();
    let response = web.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let ready = stream.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&ready).contains("event: ready"));
    let id = web.hold("dev", 1).await;
    let event = tokio::time::timeout(Duration::from_millis(300), stream.next()).await.unwrap();
    let event = String::from_utf8(event.unwrap().unwrap().into()).unwrap();
    assert!(event.contains("event: hold") && event.contains(&id.to_string()), "{event}");
}

#[tokio::test]
async fn the_api_says_no_in_its_own_shape() {
    let web = Web::start().await;
    let answer = web.get(&Browser::default(), "/api/v1/holds").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json");
    assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE));
    let ann = web.browser("ann", &[Role::Approver]).await;
    let answer = web.get(&ann, "/api/v1/holds/nonsense").await;
    assert_eq!(answer.json()["status"], 400);
    let answer = web.get(&ann, "/api/v1/users").await;
    assert_eq!(answer.json()["type"], "urn:guard:problem:forbidden");
}
