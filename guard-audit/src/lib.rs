//! Evidence: the ordered record of actions, holds, decisions, losses and changes.
//!
//! Pure data and pure functions. guard-agent spools these records, the controller stores them; the
//! Merkle log, proofs and the OCSF mapping come with the evidence issue and stand on [`Record`].

#![forbid(unsafe_code)]

pub mod record;

pub use record::{Event, Record};
