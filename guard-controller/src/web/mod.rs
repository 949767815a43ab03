//! Web UI and REST API.

/// Routes of the UI and the API.
pub fn router(_controller: crate::Controller) -> axum::Router {
    axum::Router::new()
}
