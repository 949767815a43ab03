//! guard-controller: where people decide.
//!
//! Hosts link over gRPC ([`rpc`]) and send holds and evidence; people decide in a browser or over
//! REST ([`web`]). Between them stands [`Controller`] ([`service`]), which drives the sans-I/O
//! approval state machine ([`engine`]) and keeps everything in SQLite ([`db`], [`evidence`]).
//! Evidence is found again through [`search`], goes on to a SIEM through [`sinks`], and others
//! cosign it ([`witness`]).

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod account;
pub mod clock;
pub mod config;
pub mod db;
pub mod engine;
pub mod error;
pub mod evidence;
pub mod identity;
pub mod rpc;
pub mod search;
pub mod service;
pub mod sinks;
pub mod view;
pub mod web;
pub mod witness;

pub use account::{Actor, ApiToken, Role, User, UserSpec, WebSession};
pub use config::{Config, FirstUser, Limits};
pub use error::{AccountError, DecideError, StartError, StoreError};
pub use service::{Controller, JoinToken, LegalHoldError, Round, Running};
pub use view::{
    Change, EvidenceFilter, HoldFilter, HoldView, HostView, LegalHold, LogHealth, ProcessView,
    ProvenEntry, RetentionHealth, SessionSummary, SessionView, StoredRecord,
};
