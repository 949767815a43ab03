//! Who one is, users, sign-in links and tokens.

use super::schema;
use crate::{
    ApiToken, User, UserSpec,
    web::{
        App,
        extract::{InPath, JsonBody},
        pages::{
            account::{new_token, revoke_own},
            users::link_path,
        },
        problem::Problem,
        signed::Signed,
    },
};
use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// The present user.
#[utoipa::path(get, path = "/api/v1/me", tag = "people",
    responses((status = 200, body = schema::User), (status = "default", body = Problem)))]
pub(crate) async fn me(signed: Signed) -> Json<User> {
    Json(signed.user)
}

/// All users, by name.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserList {
    #[schema(value_type = Vec<schema::User>)]
    users: Vec<User>,
}

/// Users. Needs the role `admin`.
#[utoipa::path(get, path = "/api/v1/users", tag = "people",
    responses((status = 200, body = UserList), (status = "default", body = Problem)))]
pub(crate) async fn users(State(app): State<Arc<App>>) -> Result<Json<UserList>, Problem> {
    Ok(Json(UserList { users: app.controller.users().await? }))
}

/// A way to sign in once.
#[derive(Serialize, ToSchema)]
pub(crate) struct SignInLink {
    /// Whom it signs in.
    user: String,
    /// Path on this server; works once, for a limited time.
    path: String,
}

/// Makes a user, and a one-time link to sign in with. Needs the role `admin`.
#[utoipa::path(post, path = "/api/v1/users", tag = "people", request_body = schema::NewUser,
    responses((status = 201, body = SignInLink), (status = "default", body = Problem)))]
pub(crate) async fn create_user(
    State(app): State<Arc<App>>,
    signed: Signed,
    JsonBody(spec): JsonBody<UserSpec>,
) -> Result<(StatusCode, Json<SignInLink>), Problem> {
    let user = app.controller.create_user(spec, &signed.user.name).await?;
    let token = app.controller.new_sign_in_link(&user.name, &signed.user.name).await?;
    let link = SignInLink { user: user.name, path: link_path(&token) };
    Ok((StatusCode::CREATED, Json(link)))
}

/// A new one-time link of a user; older ones stop working. Needs the role `admin`.
#[utoipa::path(post, path = "/api/v1/users/{name}/sign-in-link", tag = "people",
    params(("name" = String, Path, description = "The user's name")),
    responses((status = 201, body = SignInLink), (status = "default", body = Problem)))]
pub(crate) async fn sign_in_link(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(name): InPath<String>,
) -> Result<(StatusCode, Json<SignInLink>), Problem> {
    let token = app.controller.new_sign_in_link(&name, &signed.user.name).await?;
    Ok((StatusCode::CREATED, Json(SignInLink { user: name, path: link_path(&token) })))
}

/// One's own API tokens.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenList {
    #[schema(value_type = Vec<schema::Token>)]
    tokens: Vec<ApiToken>,
}

/// One's own API tokens, without the secrets.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "people",
    responses((status = 200, body = TokenList), (status = "default", body = Problem)))]
pub(crate) async fn tokens(
    State(app): State<Arc<App>>,
    signed: Signed,
) -> Result<Json<TokenList>, Problem> {
    Ok(Json(TokenList { tokens: app.controller.api_tokens(Some(&signed.user.name)).await? }))
}

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// What it is for.
    name: String,
    /// Days that it works, 1 to 365.
    days: u64,
}

/// A token just made.
#[derive(Serialize, ToSchema)]
pub(crate) struct MadeToken {
    /// The secret: shown this once.
    secret: String,
    #[schema(value_type = schema::Token)]
    token: ApiToken,
}

/// Makes an API token with one's own rights. Not with an API token.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "people", request_body = NewToken,
    responses((status = 201, body = MadeToken), (status = "default", body = Problem)))]
pub(crate) async fn create_token(
    State(app): State<Arc<App>>,
    signed: Signed,
    JsonBody(new): JsonBody<NewToken>,
) -> Result<(StatusCode, Json<MadeToken>), Problem> {
    let (secret, token) = new_token(&app, &signed, &new.name, new.days).await?;
    Ok((StatusCode::CREATED, Json(MadeToken { secret, token })))
}

/// Revokes one of one's own API tokens.
#[utoipa::path(post, path = "/api/v1/tokens/{id}/revoke", tag = "people",
    params(("id" = String, Path, description = "The token's id")),
    responses((status = 204), (status = "default", body = Problem)))]
pub(crate) async fn revoke_token(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(id): InPath<String>,
) -> Result<StatusCode, Problem> {
    revoke_own(&app, &signed, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
