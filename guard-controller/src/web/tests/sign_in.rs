//! Links, passwords, sessions and tokens.

use super::{Browser, Web, asked};
use crate::{
    EvidenceFilter, Role,
    web::limits::{FAILURES_PER_NAME_MAX, PASSWORD_CHARS_MIN},
};
use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};
use guard_audit::Event;

const PASSWORD: &str = "correct horse battery";

async fn with_password(web: &Web, name: &str) -> Browser {
    let browser = web.browser(name, &[Role::Approver]).await;
    let form = format!("password={PASSWORD}&again={PASSWORD}");
    let answer = web.post(&browser, "/account/password", &form).await;
    assert_eq!(answer.location(), "/account?done=password", "{}", answer.text);
    browser
}

async fn sign_in(web: &Web, name: &str, password: &str) -> super::Answer {
    let form = format!("name={name}&password={password}");
    web.post(&Browser::default(), "/sign-in", &form).await
}

async fn authentications(web: &Web) -> Vec<(String, String, bool)> {
    for _ in 0..200 {
        let records = web.controller().evidence(&EvidenceFilter::default()).await.unwrap();
        let events = records.into_iter().filter_map(|stored| match stored.record.event {
            Event::Authentication { user, method, success } => Some((user, method, success)),
            _ => None,
        });
        let events: Vec<_> = events.collect();
        if !events.is_empty() {
            return events;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Vec::new()
}

#[tokio::test]
async fn opening_a_link_uses_nothing_up_and_its_button_works_once() {
    let web = Web::start().await;
    web.user("ann", &[Role::Approver]).await;
    let token = web.controller().new_sign_in_link("ann", "first").await.unwrap();
    let (nobody, path) = (Browser::default(), format!("/sign-in?token={token}"));
    for _ in 0..3 {
        let page = web.get(&nobody, &path).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.text.contains("Sign in as ann"));
        assert!(!page.headers.contains_key(header::SET_COOKIE));
    }
    let form = format!("token={token}");
    let answer = web.post(&nobody, "/sign-in/link", &form).await;
    assert_eq!(answer.location(), "/account?welcome=1");
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
    let signed = Browser { cookie: answer.cookie(), ..Browser::default() };
    assert!(web.get(&signed, "/account?welcome=1").await.text.contains("set a password now"));
    let again = web.post(&nobody, "/sign-in/link", &form).await;
    assert_eq!(again.status, StatusCode::GONE);
    assert!(!again.headers.contains_key(header::SET_COOKIE));
    assert_eq!(web.get(&nobody, &path).await.status, StatusCode::GONE);
    assert!(authentications(&web).await.contains(&("ann".into(), "link".into(), true)));
}

#[tokio::test]
async fn a_password_signs_in_and_a_wrong_one_unknown_name_or_disabled_user_hears_the_same() {
    let web = Web::start().await;
    with_password(&web, "ann").await;
    with_password(&web, "gone").await;
    web.controller().set_user_disabled("gone", true, "first").await.unwrap();
    web.user("none", &[]).await;
    let good = sign_in(&web, "ann", PASSWORD).await;
    assert_eq!((good.status, good.location()), (StatusCode::SEE_OTHER, "/"));
    let mut texts = Vec::new();
    for (name, password) in
        [("ann", "wrong"), ("nobody", PASSWORD), ("gone", PASSWORD), ("none", PASSWORD)]
    {
        let answer = sign_in(&web, name, password).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}");
        assert!(!answer.headers.contains_key(header::SET_COOKIE));
        let line = answer.text.lines().find(|line| line.contains("role=\"alert\""));
        texts.push(line.unwrap().to_owned());
    }
    assert!(texts.iter().all(|text| *text == texts[0]));
}

#[tokio::test]
async fn after_too_many_failures_even_the_right_password_waits() {
    let web = Web::start().await;
    with_password(&web, "ann").await;
    for _ in 0..FAILURES_PER_NAME_MAX {
        assert_eq!(sign_in(&web, "ann", "wrong").await.status, StatusCode::UNAUTHORIZED);
    }
    let answer = sign_in(&web, "ann", PASSWORD).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.text.contains("Try again in"));
}

#[tokio::test]
async fn signing_in_changes_the_session_and_signing_out_ends_it() {
    let web = Web::start().await;
    let old = with_password(&web, "ann").await;
    let form = format!("name=ann&password={PASSWORD}");
    let answer = web.post(&old, "/sign-in", &form).await;
    assert_ne!(answer.cookie(), old.cookie);
    assert_eq!(web.get(&old, "/").await.location(), "/sign-in", "the old one has ended");
    let signed = web.session_of("ann").await;
    assert_eq!(web.get(&signed, "/").await.status, StatusCode::OK);
    let out = web.post(&signed, "/sign-out", "").await;
    assert_eq!(out.location(), "/sign-in");
    assert!(out.headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(web.get(&signed, "/").await.location(), "/sign-in");
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_ends_other_sessions() {
    let web = Web::start().await;
    let here = with_password(&web, "ann").await;
    let elsewhere = web.session_of("ann").await;
    let new = "another long password";
    let change = |current: &str| format!("current={current}&password={new}&again={new}");
    let wrong = web.post(&here, "/account/password", &change("wrong")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let differ = format!("current={PASSWORD}&password={new}&again=x");
    let differ = web.post(&here, "/account/password", &differ).await;
    assert_eq!(differ.status, StatusCode::UNPROCESSABLE_ENTITY);
    let short = "x".repeat(PASSWORD_CHARS_MIN - 1);
    let short = format!("current={PASSWORD}&password={short}&again={short}");
    let short = web.post(&here, "/account/password", &short).await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    let done = web.post(&here, "/account/password", &change(PASSWORD)).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    assert_eq!(web.get(&here, "/account").await.status, StatusCode::OK);
    assert_eq!(web.get(&elsewhere, "/account").await.location(), "/sign-in");
    assert_eq!(sign_in(&web, "ann", new).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn an_api_token_works_as_bearer_on_the_api_only_and_never_as_a_cookie() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let made = serde_json::json!({ "name": "ci", "days": 1 });
    let made = web.post_json(&ann, "/api/v1/tokens", &made).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let made = made.json();
    let (secret, id) = (made["secret"].as_str().unwrap(), made["token"]["id"].as_str().unwrap());
    let bearer = |path: &str| {
        let request = asked(&Browser::default(), Method::GET, path);
        request.header(header::AUTHORIZATION, format!("Bearer {secret}")).body(Body::empty())
    };
    let me = web.send(bearer("/api/v1/me").unwrap()).await;
    assert_eq!((me.status, me.json()["name"].as_str()), (StatusCode::OK, Some("ann")));
    assert_eq!(web.send(bearer("/account").unwrap()).await.location(), "/sign-in");
    let as_cookie = Browser { cookie: format!("guard_session={secret}"), ..Browser::default() };
    assert_eq!(web.get(&as_cookie, "/api/v1/me").await.status, StatusCode::UNAUTHORIZED);
    let revoke = format!("/api/v1/tokens/{id}/revoke");
    let revoked = web.post_json(&ann, &revoke, &serde_json::json!({})).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    assert_eq!(web.send(bearer("/api/v1/me").unwrap()).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_bearer_needs_no_csrf_token_but_cannot_make_tokens() {
    let web = Web::start().await;
    web.user("ann", &[Role::Approver]).await;
    let token = web.bearer("ann").await;
    let id = web.hold("dev", 1).await;
    let post = |path: &str, body: &str| {
        axum::http::Request::post(path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap()
    };
    let body = r#"{"verdict":"deny","reason":"no"}"#;
    let answer = web.send(post(&format!("/api/v1/holds/{id}/decision"), body)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let refused = web.send(post("/api/v1/tokens", r#"{"name":"x","days":1}"#)).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_dead_bearer_is_refused_even_beside_a_good_cookie() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let request = asked(&ann, Method::GET, "/api/v1/me");
    let request = request.header(header::AUTHORIZATION, "Bearer guard-x").body(Body::empty());
    assert_eq!(web.send(request.unwrap()).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn nobody_revokes_a_token_of_somebody_else_but_an_admin_on_the_users_page() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    web.user("bob", &[Role::Approver]).await;
    web.bearer("bob").await;
    let tokens = web.controller().api_tokens(Some("bob")).await.unwrap();
    let revoke = format!("/account/tokens/{}/revoke", tokens[0].id);
    assert_eq!(web.post(&ann, &revoke, "").await.status, StatusCode::NOT_FOUND);
    let admin = web.browser("adm", &[Role::Admin]).await;
    let revoke = format!("/users/bob/tokens/{}/revoke", tokens[0].id);
    assert_eq!(web.post(&admin, &revoke, "").await.location(), "/users");
    assert!(web.controller().api_tokens(Some("bob")).await.unwrap()[0].revoked);
}

#[tokio::test]
async fn an_admin_makes_users_but_cannot_change_or_disable_themselves() {
    let web = Web::start().await;
    let admin = web.browser("adm", &[Role::Admin]).await;
    let form = "name=new.one&approver=on&groups=sre%2C+ops&principals=dev";
    let made = web.post(&admin, "/users", form).await;
    assert!(made.text.contains("/sign-in?token="), "{}", made.text);
    let user = web.controller().user_by_name("new.one").await.unwrap().unwrap();
    assert_eq!((user.roles, user.groups), (vec![Role::Approver], vec!["sre".into(), "ops".into()]));
    for (path, form) in
        [("/users/adm", "approver=on&admin=on"), ("/users/adm/disabled", "disabled=true")]
    {
        assert_eq!(web.post(&admin, path, form).await.status, StatusCode::FORBIDDEN);
    }
    let user = web.controller().user_by_name("adm").await.unwrap().unwrap();
    assert_eq!(user.roles, [Role::Admin]);
    let gone = web.post(&admin, "/users/new.one/disabled", "disabled=true").await;
    assert_eq!(gone.location(), "/users");
    assert!(web.controller().user_by_name("new.one").await.unwrap().unwrap().disabled);
}
