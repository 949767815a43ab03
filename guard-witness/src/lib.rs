//! A witness of transparency logs (C2SP tlog-witness): it cosigns a checkpoint only if that
//! continues the last one which it has cosigned of the same log. So nobody can show two people two
//! logs without one of them lacking its cosignature.
//!
//! It is nobody's log and knows nothing of Guard: any log with Ed25519 checkpoints can ask it.

#![forbid(unsafe_code)]

mod http;
mod state;
mod witness;

pub use http::serve;
pub use state::{State, StateError};
pub use witness::{Answer, BODY_BYTES_MAX, LOGS_MAX, Witness};
