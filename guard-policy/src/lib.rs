//! Guard's policy: Cedar schema, validation, decision, and who may approve.
//!
//! Pure: no I/O, no clock. A [`Policy`] is read whole or refused whole ([`Policy::load`]); then
//! [`Policy::decide`] says allow, deny or hold for one attempt and [`Policy::may_approve`] whether
//! a person may decide a hold. `docs/policy.md` is the reference for people who write policies.
//!
//! Architecture invariant: whatever cannot be determined (an unknown path, a cut argv that the
//! policy reads, a statement that fails to evaluate) never ends in [`Outcome::Allow`].

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests"))]

mod annotation;
mod approve;
mod decide;
mod entity;
mod expression;
mod literal;
mod load;
mod names;
mod nesting;
mod other;
mod path;
mod problem;
mod scope;
#[cfg(test)]
mod tests;
mod token;
mod usage;

pub use approve::{ApproveRefusal, ApproveRequest};
pub use decide::{Attempt, Outcome};
pub use literal::{Literals, Mark, View};
pub use load::{MAX_SOURCE_BYTES, MAX_SOURCES, MAX_STATEMENTS, Policy, PolicySource, SCHEMA_TEXT};
pub use nesting::{MAX_NESTING, MAX_OPERATORS};
pub use other::OtherNames;
pub use problem::{PolicyError, Problem};
