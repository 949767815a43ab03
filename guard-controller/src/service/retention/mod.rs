//! Retention and legal holds: what is erased by itself after how many days, and what is kept from
//! every erasure until somebody lifts the hold.
//!
//! A round looks at a bounded part of the log, writes the entry that names what goes and by which
//! rule, and erases it then, as [`Controller::erase_evidence`] does; a crash in between is finished
//! by the next start before anybody can set a hold. Rounds, erasures and changes of holds exclude
//! each other, so a hold that was set is seen by everything that is erased after it.

mod holds;
mod round;
mod task;

pub use holds::{LEGAL_HOLDS_MAX, LegalHoldError};
pub(super) use round::RetentionState;
pub use round::Round;
pub(super) use task::{BelievedTime, run};

use super::{Controller, check_reason};
