//! Evidence: the ordered record of actions, holds, decisions, losses and changes.
//!
//! guard-agent spools [`Record`]s, the controller logs them; whoever follows the log does so through
//! [`LogReader`]. [`ocsf`], [`ecs`] and [`cef`] say the same in a SIEM's words.

#![forbid(unsafe_code)]
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "tests"))]

pub mod cef;
pub mod ecs;
pub mod log;
pub mod ocsf;
pub mod reader;
pub mod record;
pub mod retention;

pub use reader::{LogEntry, LogReadError, LogReader};
pub use record::{Event, POLICY_JSON_BYTES_MAX, Record};
pub use retention::HoldScope;
