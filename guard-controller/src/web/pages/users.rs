//! Users, for administrators.

use super::layout::{Frame, page, role_names};
use crate::{
    ApiToken, Role, User, UserSpec,
    web::{
        App,
        extract::{FormBody, InPath},
        problem::Problem,
        signed::Signed,
        text::filters,
    },
};
use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "users.html")]
struct UsersPage {
    frame: Frame,
    users: Vec<UserRow>,
    /// A link just made, with whose it is: shown this once.
    link: Option<(String, String)>,
}

struct UserRow {
    user: User,
    roles: String,
    tokens: Vec<ApiToken>,
    is_self: bool,
}

impl UserRow {
    fn has(&self, role: &str) -> bool {
        Role::from_name(role).is_some_and(|role| self.user.has(role))
    }
}

/// The form of a user. Check boxes: one field per role, so that it works without JavaScript.
#[derive(Deserialize)]
pub(crate) struct UserForm {
    #[serde(default)]
    name: String,
    approver: Option<String>,
    admin: Option<String>,
    auditor: Option<String>,
    policy_author: Option<String>,
    #[serde(default)]
    groups: String,
    #[serde(default)]
    principals: String,
}

impl UserForm {
    fn spec(&self, name: &str) -> UserSpec {
        let boxes = [
            (Role::Approver, &self.approver),
            (Role::Admin, &self.admin),
            (Role::Auditor, &self.auditor),
            (Role::PolicyAuthor, &self.policy_author),
        ];
        UserSpec {
            name: name.to_owned(),
            roles: boxes.iter().filter(|(_, set)| set.is_some()).map(|(role, _)| *role).collect(),
            groups: words(&self.groups),
            principals: words(&self.principals),
        }
    }
}

fn words(text: &str) -> Vec<String> {
    let words = text.split([',', ' ', '\n', '\r', '\t']);
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// `GET /users`.
pub(crate) async fn list(State(app): State<Arc<App>>, signed: Signed) -> Result<Response, Problem> {
    users_page(&app, &signed, None).await
}

async fn users_page(
    app: &Arc<App>,
    signed: &Signed,
    link: Option<(String, String)>,
) -> Result<Response, Problem> {
    let mut tokens = app.controller.api_tokens(None).await?;
    tokens.retain(|token| !token.revoked);
    let row = |user: User| UserRow {
        roles: role_names(&user.roles),
        tokens: tokens.iter().filter(|token| token.user == user.name).cloned().collect(),
        is_self: user.name == signed.user.name,
        user,
    };
    let users = app.controller.users().await?.into_iter().map(row).collect();
    page(&UsersPage { frame: Frame::new(app, signed, "users").await?, users, link })
}

/// `POST /users`.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    signed: Signed,
    FormBody(form): FormBody<UserForm>,
) -> Result<Response, Problem> {
    let spec = form.spec(form.name.trim());
    let user = app.controller.create_user(spec, &signed.user.name).await?;
    let token = app.controller.new_sign_in_link(&user.name, &signed.user.name).await?;
    users_page(&app, &signed, Some((user.name, link_path(&token)))).await
}

/// `POST /users/{name}`.
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(name): InPath<String>,
    FormBody(form): FormBody<UserForm>,
) -> Result<Response, Problem> {
    not_self(&signed, &name)?;
    app.controller.update_user(form.spec(&name), &signed.user.name).await?;
    Ok(Redirect::to("/users").into_response())
}

/// Whether to disable.
#[derive(Deserialize)]
pub(crate) struct DisabledForm {
    disabled: bool,
}

/// `POST /users/{name}/disabled`.
pub(crate) async fn set_disabled(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(name): InPath<String>,
    FormBody(form): FormBody<DisabledForm>,
) -> Result<Response, Problem> {
    not_self(&signed, &name)?;
    app.controller.set_user_disabled(&name, form.disabled, &signed.user.name).await?;
    Ok(Redirect::to("/users").into_response())
}

/// `POST /users/{name}/sign-in-link`.
pub(crate) async fn sign_in_link(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(name): InPath<String>,
) -> Result<Response, Problem> {
    let token = app.controller.new_sign_in_link(&name, &signed.user.name).await?;
    users_page(&app, &signed, Some((name, link_path(&token)))).await
}

/// `POST /users/{name}/tokens/{id}/revoke`.
pub(crate) async fn revoke_token(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath((name, id)): InPath<(String, String)>,
) -> Result<Response, Problem> {
    let tokens = app.controller.api_tokens(Some(&name)).await?;
    if !tokens.iter().any(|token| token.id == id) {
        return Err(Problem::not_found("There is no such token."));
    }
    app.controller.revoke_api_token(&id, &signed.user.name).await?;
    Ok(Redirect::to("/users").into_response())
}

/// The path that signs in with `token`.
pub(crate) fn link_path(token: &str) -> String {
    format!("/sign-in?token={token}")
}

/// An administrator who could change themselves would be an approver at will.
fn not_self(signed: &Signed, name: &str) -> Result<(), Problem> {
    if signed.user.name != name {
        return Ok(());
    }
    let detail = "Nobody changes their own roles, groups or OS accounts; another admin must.";
    Err(Problem::forbidden(detail))
}
