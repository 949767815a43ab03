//! What may be erased and what must be kept: rules of retention, legal holds, and the clock that
//! both go by. No I/O here.

mod clock;
mod rules;
mod scope;

pub use clock::Clock;
pub use rules::{DAYS_MAX, InvalidRule, Rule, Rules, is_class, is_needed};
pub use scope::{HoldScope, session_of};
