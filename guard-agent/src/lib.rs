//! guard-agent: the daemon on each host.
//!
//! The kernel side ([`kernel`]) announces holds; the hold engine ([`engine`], sans-I/O) decides
//! with the policy ([`decide`]) or waits for a person over the [`link`]; everything leaves
//! evidence in the [`spool`]. [`driver`] is the one task that owns them and carries the engine's
//! commands out; [`service`] puts it all together.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "tests"))]

mod aside;
pub mod clock;
pub mod content;
pub mod context;
pub mod decide;
pub mod descriptors;
pub mod driver;
pub mod engine;
pub mod kernel;
pub mod link;
mod mounts;
pub mod names;
pub mod notify;
pub mod selector;
pub mod service;
pub mod session;
pub mod socket;
pub mod spool;
pub mod stop;
