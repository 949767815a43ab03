//! Evidence: the ordered record of actions, holds, decisions, losses and changes.
//!
//! guard-agent spools [`Record`]s, the controller logs them; whoever follows the log does so through
//! [`LogReader`].

#![forbid(unsafe_code)]

pub mod reader;
pub mod record;

pub use reader::{LogEntry, LogReadError, LogReader};
pub use record::{Event, Record};
