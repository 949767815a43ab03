//! Searching the log, timelines, the log's health and metrics.

use super::{Browser, Web, asked};
use crate::{
    Role,
    sinks::{Format, SinkSpec, Start, Target},
    web::{WebConfig, api::schema},
};
use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};
use guard_audit::Event;
use guard_model::{SessionId, Verdict};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};

impl Web {
    /// Waits until everything that was written can be found.
    async fn indexed(&self) {
        let controller = self.controller();
        controller.flush_evidence().await.unwrap();
        while controller.index().indexed() < controller.index().size() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn found(&self, browser: &Browser, query: &str) -> Vec<Value> {
        let answer = self.get(browser, &format!("/api/v1/evidence/search?{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.text);
        answer.json()["entries"].as_array().unwrap().clone()
    }
}

fn kinds(entries: &[Value]) -> BTreeSet<&str> {
    entries.iter().map(|entry| entry["record"]["event"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn entries_are_found_by_every_filter_and_by_nothing_else() {
    let web = Web::start().await;
    let aud = web.browser("aud", &[Role::Auditor]).await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let id = web.hold("dev", 1).await;
    web.post(&ann, &format!("/holds/{id}/decision"), "verdict=deny&reason=the+100%25+mirror").await;
    let loss = Event::Lost { counter: "ring_full".into(), count: 3 };
    web.controller().audit(loss).await.unwrap();
    web.indexed().await;
    let session = web.controller().hold(id).await.unwrap().unwrap().request.session.id;
    let of_session = web.found(&aud, &format!("session={session}")).await;
    assert_eq!(kinds(&of_session), ["approval_changed"].into());
    assert_eq!(of_session.len(), 2, "pending, then rejected");
    assert_eq!(of_session[0]["record"]["to"], "rejected", "newest first");
    assert_eq!(of_session[0]["ocsf"]["disposition"], "Rejected");
    assert_eq!(kinds(&web.found(&aud, "kind=lost").await), ["lost"].into());
    assert_eq!(web.found(&aud, "kind=lost&outcome=allowed").await.len(), 0);
    assert_eq!(web.found(&aud, "outcome=rejected").await.len(), 1);
    assert_eq!(web.found(&aud, "text=THE+100%25+MIRROR").await.len(), 1);
    assert_eq!(web.found(&aud, "text=100_+mirror").await.len(), 0, "no wildcards");
    assert_eq!(web.found(&aud, &format!("text={id}")).await.len(), 2);
    let by_ann = web.found(&aud, "user=ann").await;
    assert!(by_ann.iter().any(|entry| entry["record"]["by"] == "ann"));
    assert_eq!(web.found(&aud, "user=dev").await.len(), 2, "the session's account");
    assert_eq!(web.found(&aud, "host=00000000-0000-0000-0000-000000000009").await.len(), 0);
    assert!(web.found(&aud, "host=guard-controller").await.len() > 4);
    let now = crate::clock::unix_ms();
    assert_eq!(web.found(&aud, &format!("since={}", now + 60_000)).await.len(), 0);
    assert_eq!(web.found(&aud, "until=2001-01-01T00:00").await.len(), 0);
    let all = web.found(&aud, "since=2001-01-01T00:00:00Z").await;
    let oldest = web.found(&aud, "order=oldest").await;
    assert_eq!(oldest[0]["record"]["event"], "started");
    assert_eq!(oldest.len(), all.len());
    for bad in ["host=x", "session=x", "since=x", "order=x", "limit=0", "limit=501"] {
        let answer = web.get(&aud, &format!("/api/v1/evidence/search?{bad}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    let long = format!("/api/v1/evidence/search?text={}", "x".repeat(4097));
    assert_eq!(web.get(&aud, &long).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn pages_of_a_search_follow_one_another_without_gaps_in_both_orders() {
    let web = Web::start().await;
    let aud = web.browser("aud", &[Role::Auditor]).await;
    for number in 0..7 {
        let event = Event::Lost { counter: format!("ring-{number}"), count: 1 };
        web.controller().audit(event).await.unwrap();
    }
    web.indexed().await;
    let all = |order: &'static str, place: &'static str| {
        let (web, aud) = (&web, &aud);
        async move {
            let (mut seen, mut page) = (Vec::new(), String::new());
            loop {
                let path = format!("/api/v1/evidence/search?kind=lost&limit=3&order={order}{page}");
                let found = web.get(aud, &path).await.json();
                let entries = found["entries"].as_array().unwrap();
                seen.extend(entries.iter().map(|entry| entry["index"].as_u64().unwrap()));
                let Some(next) = found["next"].as_u64() else { return seen };
                page = format!("&{place}={next}");
            }
        }
    };
    let mut newest = all("newest", "before").await;
    let oldest = all("oldest", "from").await;
    assert_eq!(oldest.len(), 7);
    newest.reverse();
    assert_eq!(newest, oldest);
}

#[tokio::test]
async fn an_index_made_anew_finds_the_same() {
    let web = Web::start().await;
    let aud = web.browser("aud", &[Role::Auditor]).await;
    web.hold("dev", 1).await;
    web.indexed().await;
    let before = web.found(&aud, "limit=500").await;
    web.controller().index().rebuild().await.unwrap();
    web.indexed().await;
    assert_eq!(web.found(&aud, "limit=500").await, before);
}

#[tokio::test]
async fn an_entry_and_a_timeline_are_pages_and_session_text_is_inert_there() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let id = web.hold("<b>\u{202e}dev", 1).await;
    let hold = web.controller().hold(id).await.unwrap().unwrap();
    let actor = web.controller().user_by_name("ann").await.unwrap().unwrap().actor();
    web.controller().decide(id, &actor, Verdict::Allow, "<i>fine</i>").await.unwrap();
    web.indexed().await;
    let session = hold.request.session.id;
    let timeline = web.get(&ann, &format!("/sessions/{session}/timeline")).await.text;
    assert!(timeline.contains("new → pending"), "{timeline}");
    assert!(timeline.contains("pending → approved by ann: &#60;i&#62;fine&#60;/i&#62;"));
    let found = web.found(&ann, &format!("session={session}&order=oldest")).await;
    let index = found[1]["index"].as_u64().unwrap();
    let entry = web.get(&ann, &format!("/evidence/{index}")).await.text;
    assert!(entry.contains(found[1]["leaf_hash"].as_str().unwrap()));
    assert!(entry.contains("&#60;i&#62;fine&#60;/i&#62;"));
    let search = web.get(&ann, &format!("/evidence?session={session}&text=%3Ci%3E")).await.text;
    assert!(search.contains("&#60;i&#62;fine") && search.contains(&format!("/evidence/{index}\"")));
    for html in [&timeline, &entry, &search] {
        assert!(!html.contains("<i>") && !html.contains('\u{202e}'), "{html}");
        for inline in [" style=", "<style", "javascript:", " onclick", "<script>"] {
            assert!(!html.contains(inline), "{inline}");
        }
    }
    let none = SessionId::derive(hold.request.host, hold.request.boot, 99);
    let missing = web.get(&ann, &format!("/sessions/{none}/timeline")).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_eq!(web.get(&ann, "/evidence/99999").await.status, StatusCode::NOT_FOUND);
    assert_eq!(web.get(&ann, "/api/v1/evidence/99999").await.status, StatusCode::NOT_FOUND);
}

fn same_fields(what: &str, sent: &Value, described: &[&str]) {
    let sent: BTreeSet<_> = sent.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(sent, described.iter().copied().collect(), "{what}");
}

#[tokio::test]
async fn the_logs_health_and_the_metrics_tell_of_every_sink() {
    let dir = tempfile::tempdir().unwrap();
    let sink = |name: &str, path: &str| SinkSpec {
        name: name.into(),
        format: Format::Cef,
        start: Start::Beginning,
        only: Vec::new(),
        to: Target::File { path: dir.path().join(path) },
    };
    let sinks = vec![sink("works", "events.cef"), sink("broken", "no-such-folder/events.cef")];
    let web = Web::start_with_sinks(WebConfig::default(), sinks).await;
    let admin = web.browser("adm", &[Role::Admin]).await;
    web.indexed().await;
    let health = loop {
        let health = web.get(&admin, "/api/v1/log").await.json();
        if health["sinks"][0]["lag"] == 0 && health["sinks"][1]["failing"].is_string() {
            break health;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    same_fields("health", &health, schema::LogHealth::FIELDS);
    same_fields("sink", &health["sinks"][0], schema::Sink::FIELDS);
    let page = web.get(&admin, "/log").await.text;
    assert!(health["checkpoint_age_ms"].as_u64().unwrap() < 60_000, "{health}");
    assert!(page.contains("Last checkpoint"), "{page}");
    assert!(page.contains("up to date") && page.contains("No such file or directory"), "{page}");
    let token = web.bearer("adm").await;
    let request = asked(&Browser::default(), Method::GET, "/metrics")
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    let metrics = web.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(metrics.status, StatusCode::OK);
    let lag = "guard_sink_lag_entries{sink=\"broken\",kind=\"file\"} ";
    let line = metrics.text.lines().find_map(|line| line.strip_prefix(lag)).unwrap();
    assert!(line.parse::<u64>().unwrap() > 0);
    let age = metrics.text.lines().find_map(|line| {
        line.strip_prefix("guard_log_checkpoint_age_milliseconds ")?.parse::<u64>().ok()
    });
    assert!(age.is_some_and(|age| age < 60_000), "{age:?}");
    assert!(metrics.text.contains("guard_sink_failing{sink=\"works\",kind=\"file\"} 0"));
    well_formed(&metrics.text);
    let replay = serde_json::json!({ "from": 0 });
    let answer = web.post_json(&admin, "/api/v1/sinks/works/replay", &replay).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let answer = web.post_json(&admin, "/api/v1/sinks/nobody/replay", &replay).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

/// The form offers every record that there is, so that none can be overlooked.
#[test]
fn the_search_form_offers_every_kind_of_record() {
    let Err(error) = serde_json::from_str::<Event>(r#"{"event":"?"}"#) else { panic!("a record") };
    let error = error.to_string();
    let mut all: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
    let mut offered = crate::web::pages::evidence::RECORDS.to_vec();
    all.sort_unstable();
    offered.sort_unstable();
    assert!(all.len() > 20, "{error}");
    assert_eq!(all, offered);
}

#[tokio::test]
async fn the_log_is_changed_by_administrators_only_and_each_change_says_by_whom() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver, Role::Auditor]).await;
    let adm = web.browser("adm", &[Role::Admin]).await;
    let loss = Event::Lost { counter: "a-secret".into(), count: 3 };
    web.controller().audit(loss).await.unwrap();
    web.indexed().await;
    let at = web.found(&adm, "text=a-secret").await[0]["index"].as_u64().unwrap();
    let erase = format!("/api/v1/evidence/{at}/erase");
    let why = serde_json::json!({ "reason": "ticket 97" });
    let lift = format!("/api/v1/legal-holds/{}/lift", uuid::Uuid::nil());
    let paths =
        [&erase, "/api/v1/log/reindex", "/api/v1/log/rotate-key", "/api/v1/legal-holds", &lift];
    for path in paths {
        let answer = web.post_json(&ann, path, &why).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        let forged = Browser { csrf: String::new(), ..adm.clone() };
        let answer = web.post_json(&forged, path, &why).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    let proof = web.get(&ann, &format!("/api/v1/evidence/{at}/proof")).await;
    assert!(proof.text.starts_with("c2sp.org/tlog-proof@v1\nextra "), "{}", proof.text);
    let beyond = web.get(&ann, "/api/v1/evidence/99999/proof").await;
    assert_eq!(beyond.status, StatusCode::NOT_FOUND);
    let answer = web.post_json(&adm, &erase, &serde_json::json!({ "reason": " " })).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text);
    let answer = web.post_json(&adm, &erase, &why).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
    let answer = web.post_json(&adm, &erase, &why).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text);
    let answer = web.post_json(&adm, "/api/v1/log/rotate-key", &Value::Null).await;
    let keys = answer.json();
    assert_ne!(keys["old"], keys["new"]);
    assert_eq!(keys["new"], web.controller().log_key().unwrap().as_str());
    let answer = web.post_json(&adm, "/api/v1/log/reindex", &Value::Null).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    web.indexed().await;
    let asked = web.found(&ann, "kind=user_changed&text=anew").await;
    assert_eq!(asked[0]["record"]["by"], "adm");
    assert_eq!(web.found(&ann, "text=a-secret").await.len(), 0);
    for kind in ["payload_erased", "log_key_rotated"] {
        let found = web.found(&ann, &format!("kind={kind}")).await;
        assert_eq!(found[0]["record"]["by"], "adm", "{kind}");
    }
}

/// Every sample is of a metric that was declared just before, with a number.
fn well_formed(text: &str) {
    let mut declared = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            declared = rest.split(' ').next().unwrap();
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(name.split('{').next().unwrap(), declared, "{line}");
            assert!(value.parse::<u64>().is_ok(), "{line}");
        }
    }
}
