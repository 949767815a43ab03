//! Who is who: the CA, hosts' certificates, join tokens and the decision key.

/// Keys and certificates of the controller.
#[derive(Debug, thiserror::Error)]
#[error("identity")]
pub struct IdentityError;
