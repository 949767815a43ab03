//! The API's description of itself, generated from the handlers.

use super::{events, evidence, holds, legal_holds, log, people, search, sessions};
use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Guard",
        description = "Approvals, sessions, hosts and evidence. Text that a session controls is a \
            reversible string: `\\\\` and `\\xNN` escape a backslash and bytes that are not UTF-8; \
            fields that are meant for people's eyes say so.",
    ),
    paths(
        show, holds::list, holds::show, holds::decide, holds::history, events::stream,
        sessions::list, sessions::show, sessions::hosts, evidence::export, search::search, search::show, search::health,
        search::replay, log::prove, log::erase, log::reindex, log::rotate_key, legal_holds::list,
        legal_holds::set, legal_holds::lift, people::me,
        people::users, people::create_user, people::sign_in_link, people::tokens,
        people::create_token, people::revoke_token,
    ),
    modifiers(&Security),
    security(("token" = []), ("cookie" = [])),
)]
struct Api;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("token", token);
        let text = "A signed-in browser; changes need X-CSRF-Token and the same origin too.";
        let cookie = ApiKeyValue::with_description("guard_session", text);
        components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

/// The document.
pub(crate) fn document() -> Document {
    Api::openapi()
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "about", security(()),
    responses((status = 200, body = Object)))]
pub(crate) async fn show() -> Json<Document> {
    Json(document())
}
