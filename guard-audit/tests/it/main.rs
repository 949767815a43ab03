//! The evidence log as a whole: faults, crashes, tampering, interoperability.

#![expect(clippy::unwrap_used, reason = "tests")]

mod disk;
mod faults;
mod foreign;
mod others;
mod support;
mod trouble;
