//! Bounds on what a client can make the web side do. Each is reached by a test in [`super::tests`].

use std::time::Duration;

/// Largest request body, bytes: a decision's reason and a user's lists need a few KiB.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Longest time from a request's head to its response's head. Reading evidence from a cold disk is
/// the slowest honest request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time for a client to send a request's head: what a slow-loris attack would stretch.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Open connections; further ones wait unaccepted in the listener's backlog.
pub const CONNECTIONS_MAX: usize = 512;

/// Longest life of a connection; then it may finish what it does, for [`STREAM_LIFETIME`]. So even
/// a client that reads nothing gives its place back.
pub const CONNECTION_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// Event streams at one time, all users together. Below [`CONNECTIONS_MAX`], so that open pages
/// can never keep everybody else out.
pub const STREAMS_MAX: usize = 256;

/// Event streams of one user at one time: a few browsers, each with one (tabs share theirs).
pub const STREAMS_PER_USER_MAX: usize = 16;

/// An event stream ends after this and the browser opens another one: so a sign-out, a disabled
/// user or a changed role takes effect on open pages too.
pub const STREAM_LIFETIME: Duration = Duration::from_secs(60);

/// Failed sign-ins of one name within [`FAILURE_WINDOW`]; after that the name waits.
pub const FAILURES_PER_NAME_MAX: usize = 10;

/// Failed sign-ins from one address within [`FAILURE_WINDOW`]: an office behind one address
/// mistypes more often than one person does.
pub const FAILURES_PER_ADDRESS_MAX: usize = 30;

/// How long a failed sign-in counts.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(5 * 60);

/// Names and addresses whose failures are remembered. Beyond it every sign-in waits: forgetting
/// some would let an attacker flush the counters.
pub const FAILURE_KEYS_MAX: usize = 10_000;

/// Password hashes computed at one time: each takes 19 MiB and one core.
pub const HASHES_MAX: usize = 2;

/// Shortest password, characters.
pub const PASSWORD_CHARS_MIN: usize = 12;

/// Longest password, bytes: so that a hash has a bounded input.
pub const PASSWORD_BYTES_MAX: usize = 512;

/// Longest user name that is read at sign-in, bytes; as in `account.rs`.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest life of an API token, days.
pub const TOKEN_DAYS_MAX: u64 = 365;

/// Waiting requests that the queue shows at once; the count in the title tells of all.
pub const QUEUE_ROWS_MAX: usize = 200;

/// Rows of one page of a session's timeline: a screenful of a busy minute.
pub const TIMELINE_ROWS: usize = 200;

/// Rows of one page of the history and of the session list.
pub const LIST_ROWS: usize = 50;

/// Earlier decisions that a request shows.
pub const EARLIER_MAX: usize = 5;
