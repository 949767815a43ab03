//! 3002 Authentication: sign-in and sign-out at the controller.

use super::{
    Class, OcsfEvent,
    base::Base,
    disposition::{Disposition, Severity},
};
use serde_json::json;

/// Somebody signed in, failed to, or signed out.
pub(super) fn sign_in(base: Base, user: &str, method: &str, success: bool) -> OcsfEvent {
    let activity = if method == "sign_out" { (2, "Logoff") } else { (1, "Logon") };
    let disposition = if success { Disposition::ALLOWED } else { Disposition::BLOCKED };
    let name = if user.is_empty() { "(unknown)" } else { user };
    let event = base
        .event(Class::AUTHENTICATION, activity, disposition)
        .with("user", json!({ "name": name }))
        .with("service", json!({ "name": "guard-controller" }))
        .with("auth_protocol_id", 99.into())
        .with("auth_protocol", method.into())
        .message(&format!("{name}: {method}"));
    if success { event } else { event.severity(Severity::Medium) }
}
