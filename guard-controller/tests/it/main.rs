//! The controller as guard-agents and people meet it: over loopback, with a fake guard-agent.

#![allow(clippy::unwrap_used, reason = "tests")]

mod accounts;
mod approvals;
mod crash;
mod enrolment;
mod evidence;
mod kafka_secured;
mod killed;
mod link;
mod program;
mod receivers;
mod retention;
mod rsyslog;
mod sinks;
mod start;
mod stores;
mod support;
