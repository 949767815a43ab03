//! The protocol between guard-agent and guard-controller: generated types and their edges.
//!
//! Generated types stop here: both sides turn them into `guard-model` values (or an error that names
//! the field) before anything else sees them. [`decision`] signs and verifies decisions.

#![forbid(unsafe_code)]
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "tests"))]

pub mod decision;

/// Generated from `guard/v1.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("guard.v1");
}

/// Largest gRPC message in either direction, bytes: an evidence batch is cut to stay below.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A field of a message that does not say what it must.
#[derive(Debug, thiserror::Error)]
#[error("{message}.{field}: {problem}")]
pub struct InvalidField {
    /// The message type.
    pub message: &'static str,
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl InvalidField {
    /// Names the field.
    pub fn new(message: &'static str, field: &'static str, problem: impl ToString) -> Self {
        Self { message, field, problem: problem.to_string() }
    }
}
