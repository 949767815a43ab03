//! Every route × every role, CSRF, origin, host name and headers.

use super::{Answer, Browser, Web, asked};
use crate::{
    Role,
    web::{
        WebConfig,
        routes::{Access, ROUTES, Route},
    },
};
use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};

/// The path with something in its placeholders that is well-formed and does not exist.
fn concrete(route: &Route) -> String {
    let id = "00000000-0000-0000-0000-000000000000";
    route.path.replace("{id}", id).replace("{name}", "nobody")
}

/// What the gate answers when it refuses, as opposed to what a handler answers.
fn is_refusal(answer: &Answer) -> bool {
    let to_sign_in = answer.status == StatusCode::SEE_OTHER && answer.location() == "/sign-in";
    let status = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status);
    let by_handler = ["Nobody changes their own", "Name or password is wrong"];
    (to_sign_in || status) && !by_handler.iter().any(|text| answer.text.contains(text))
}

async fn ask(web: &Web, browser: &Browser, route: &Route) -> Answer {
    let path = concrete(route);
    if route.method == Method::GET {
        web.get(browser, &path).await
    } else {
        web.post(browser, &path, "").await
    }
}

/// Which roles each route is for, written down a second time and by hand.
fn expected(access: Access, role: Option<Role>, is_signed_in: bool) -> bool {
    match access {
        Access::Public => true,
        Access::SignedIn => is_signed_in,
        Access::Reader => role.is_some(),
        Access::Approver => role == Some(Role::Approver),
        Access::Admin => role == Some(Role::Admin),
    }
}

#[tokio::test]
async fn every_route_admits_exactly_the_roles_that_it_is_for() {
    let web = Web::start().await;
    let mut browsers = vec![(None, false, Browser::default())];
    browsers.push((None, true, web.browser("plain", &[]).await));
    for role in Role::ALL {
        let browser = web.browser(&format!("u-{}", role.name().replace('_', "-")), &[role]).await;
        browsers.push((Some(role), true, browser));
    }
    for route in ROUTES.iter().filter(|route| route.path != "/sign-out") {
        for (role, is_signed_in, browser) in &browsers {
            let answer = ask(&web, browser, route).await;
            let admitted = !is_refusal(&answer);
            let wanted = expected(route.access, *role, *is_signed_in);
            assert_eq!(
                admitted, wanted,
                "{} {} as {role:?}, signed in {is_signed_in}: {} {}",
                route.method, route.path, answer.status, answer.text
            );
        }
    }
}

#[tokio::test]
async fn every_listed_route_exists_and_takes_its_method() {
    let web = Web::start().await;
    let all = web.browser("all", &Role::ALL).await;
    for route in ROUTES.iter().filter(|route| route.path != "/sign-out") {
        let answer = ask(&web, &all, route).await;
        let missing = answer.status == StatusCode::METHOD_NOT_ALLOWED
            || answer.text.contains("There is no such page");
        assert!(!missing, "{} {}: {}", route.method, route.path, answer.text);
    }
}

#[tokio::test]
async fn an_unlisted_address_or_method_is_refused() {
    let web = Web::start().await;
    let all = web.browser("all", &Role::ALL).await;
    assert_eq!(web.get(&all, "/nowhere").await.status, StatusCode::NOT_FOUND);
    assert_eq!(web.get(&all, "/api/v1/nowhere").await.status, StatusCode::NOT_FOUND);
    let id = web.hold("dev", 1).await;
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
        let path = format!("/holds/{id}/decision?verdict=allow&reason=x");
        let request = asked(&all, method.clone(), &path).body(Body::empty()).unwrap();
        let answer = web.send(request).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    assert!(web.controller().hold(id).await.unwrap().unwrap().state.is_open());
}

#[tokio::test]
async fn a_change_by_cookie_needs_the_sessions_own_csrf_token() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let other = web.browser("other", &[Role::Approver]).await;
    let id = web.hold("dev", 1).await;
    let (page, api) = (format!("/holds/{id}/decision"), format!("/api/v1/holds/{id}/decision"));
    let body = serde_json::json!({ "verdict": "allow", "reason": "x" });
    for csrf in [String::new(), "x".into(), other.csrf.clone(), format!("{}x", ann.csrf)] {
        let forged = Browser { csrf, ..ann.clone() };
        let answer = web.post(&forged, &page, "verdict=allow&reason=x").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(web.post_json(&forged, &api, &body).await.status, StatusCode::FORBIDDEN);
    }
    assert!(web.controller().hold(id).await.unwrap().unwrap().state.is_open());
    assert_eq!(web.post_json(&ann, &api, &body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_change_from_another_origin_is_refused_even_with_the_token() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let id = web.hold("dev", 1).await;
    for origin in ["http://evil.example", "null", "https://localhost:7443", "http://localhost:1"] {
        let mut request = asked(&ann, Method::POST, &format!("/holds/{id}/decision"))
            .header("x-csrf-token", &ann.csrf)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from("verdict=allow&reason=x"))
            .unwrap();
        request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
        assert_eq!(web.send(request).await.status, StatusCode::FORBIDDEN, "{origin}");
    }
    assert!(web.controller().hold(id).await.unwrap().unwrap().state.is_open());
}

#[tokio::test]
async fn a_foreign_host_name_gets_nothing() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    for path in ["/", "/api/v1/holds", "/healthz", "/assets/live.js", "/nowhere"] {
        let mut request = asked(&ann, Method::GET, path).body(Body::empty()).unwrap();
        request.headers_mut().insert(header::HOST, "rebound.example:7443".parse().unwrap());
        assert_eq!(web.send(request).await.status, StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let web = Web::start().await;
    let ann = web.browser("ann", &[Role::Approver]).await;
    let nobody = Browser::default();
    for (browser, path) in [
        (&ann, "/"),
        (&ann, "/nowhere"),
        (&nobody, "/"),
        (&nobody, "/sign-in"),
        (&nobody, "/api/v1/holds"),
        (&nobody, "/assets/live.js"),
    ] {
        let headers = web.get(browser, path).await.headers;
        let csp = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(csp.starts_with("default-src 'none'; script-src 'self'"), "{csp}");
        assert!(!csp.contains("unsafe") && csp.contains("frame-ancestors 'none'"));
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::REFERRER_POLICY], "same-origin");
        assert_eq!(headers["cross-origin-opener-policy"], "same-origin");
        assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
        if !path.starts_with("/assets") {
            assert_eq!(headers[header::CACHE_CONTROL], "no-store", "{path}");
        }
    }
}

#[tokio::test]
async fn no_page_has_inline_script_or_style() {
    let web = Web::start().await;
    let all = web.browser("all", &Role::ALL).await;
    let id = web.hold("dev", 1).await;
    let hold = format!("/holds/{id}");
    let pages = ["/", &hold, "/sessions?all=1", "/history", "/hosts", "/users", "/account"];
    for path in pages.into_iter().chain(["/evidence", "/evidence/0", "/log"]) {
        let html = web.get(&all, path).await.text;
        for inline in [" style=", "<style", "javascript:", " onclick", " onload", "<script>"] {
            assert!(!html.contains(inline), "{path} has {inline}");
        }
    }
}

#[tokio::test]
async fn behind_tls_the_cookie_is_secure_and_bound_to_the_host() {
    let web = Web::start_with(WebConfig { tls: true, ..WebConfig::default() }).await;
    let token = web.controller().new_sign_in_link("first", "test").await.unwrap();
    let request = asked(&Browser::default(), Method::POST, "/sign-in/link");
    let mut request = request
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(format!("token={token}")))
        .unwrap();
    request.headers_mut().insert(header::ORIGIN, "https://localhost:7443".parse().unwrap());
    let answer = web.send(request).await;
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("__Host-guard_session="), "{cookie}");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/; Secure"), "{cookie}");
    assert!(answer.headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
    let plain = Browser { cookie: answer.cookie().replace("__Host-", ""), ..Browser::default() };
    assert_eq!(web.get(&plain, "/").await.location(), "/sign-in", "the plain name is not read");
}
