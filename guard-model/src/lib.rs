//! The words that guard-agent, the controller, the policy and the evidence share.
//!
//! Pure data: no I/O, no clock, no generated types. Protobuf and SQL convert to and from these at
//! their edges. Text that a session controls is [`RawText`]: kept byte for byte, shown escaped.

#![forbid(unsafe_code)]
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "tests"))]

pub mod action;
pub mod decision;
pub mod digest;
pub mod hold;
pub mod id;
pub mod object;
pub mod operation;
pub mod process;
pub mod session;
pub mod text;

pub use action::Action;
pub use decision::{Decision, DecisionTerms, Tier, Verdict};
pub use digest::ActionDigest;
pub use hold::{HoldRequest, HoldState, PolicyStatement, Withdrawal};
pub use id::{BootId, HoldId, HostId, SessionId};
pub use object::{Endpoint, FileAccess, FileRef, ProgramRef, TaskRef};
pub use operation::{ChangeOperation, SocketOperation, SystemOperation, TaskOperation};
pub use process::ProcessContext;
pub use session::{Coverage, CoverageState, ProcessNode, SessionInfo};
pub use text::RawText;
