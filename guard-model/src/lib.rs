//! The words that guard-agent, the controller, the policy and the evidence share.
//!
//! Pure data: no I/O, no clock, no generated types. Protobuf and SQL convert to and from these at
//! their edges. Text that a session controls is [`RawText`]: kept byte for byte, shown escaped.

#![forbid(unsafe_code)]
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "tests"))]

pub mod action;
pub mod decision;
pub mod hold;
pub mod id;
pub mod session;
pub mod text;

pub use action::{Action, ActionDigest, Endpoint, FileAccess, FileRef, ProcessContext, ProgramRef};
pub use decision::{Decision, DecisionTerms, Tier, Verdict};
pub use hold::{HoldRequest, HoldState, PolicyStatement, Withdrawal};
pub use id::{BootId, HoldId, HostId, SessionId};
pub use session::{Coverage, CoverageState, ProcessNode, SessionInfo};
pub use text::RawText;
