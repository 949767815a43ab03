//! What a controller is started with.

use crate::{sinks::SinkSpec, witness::WitnessesFile};
use guard_audit::retention::Rules;
use guard_policy::Policy;
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

/// What [`crate::Controller::start`] needs.
#[derive(Clone)]
pub struct Config {
    /// Everything that is kept: database, keys, lock. Created with mode 0700.
    pub state_dir: PathBuf,
    /// Where the web UI and the REST API listen. Port 0: any free one.
    pub ui_addr: SocketAddr,
    /// Host names, besides loopback's, under which the UI may be asked for (DNS rebinding).
    pub ui_names: Vec<String>,
    /// Browsers reach the UI through a proxy that ends TLS: cookies are `Secure`, origins `https`.
    pub ui_behind_tls: bool,
    /// Where guard-agents link. Port 0: any free one.
    pub rpc_addr: SocketAddr,
    /// Names and addresses in the gRPC server's certificate, besides loopback's.
    pub rpc_names: Vec<String>,
    /// Decides who may approve.
    pub policy: Arc<Policy>,
    /// Who is created if there is no user yet.
    pub first_user: FirstUser,
    /// Bounds on what hosts and sessions may make the controller keep.
    pub limits: Limits,
    /// Where evidence goes besides.
    pub sinks: Vec<SinkSpec>,
    /// Who cosigns the evidence log.
    pub witnesses: WitnessesFile,
    /// How long which class of evidence is kept; without rules all of it, for ever.
    pub retention: Rules,
}

/// The first user: gets a one-time sign-in link at every start until a password is set.
#[derive(Clone, Debug)]
pub struct FirstUser {
    /// Name.
    pub name: String,
    /// OS accounts that are this person's own: their sessions are not theirs to approve.
    pub principals: Vec<String>,
}

/// Bounds on what hosts and sessions may make the controller keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pending holds of one session; a further one is denied at once.
    pub pending_per_session: u32,
    /// Pending holds of one host; a further one is denied at once.
    pub pending_per_host: u32,
    /// Links at one time.
    pub links: usize,
    /// How long a new link may take to say hello, ms.
    pub hello_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // More than a person can ever answer; a runaway loop of a session ends here.
            pending_per_session: 500,
            // The kernel's hold table of one host has 8,192 places.
            pending_per_host: 8192,
            // One per host: SQLite serves a few hundred hosts, this leaves room for reconnects.
            links: 1024,
            hello_timeout_ms: 10_000,
        }
    }
}

impl Config {
    /// All defaults, on loopback, in `state_dir`.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>, policy: Arc<Policy>) -> Self {
        Self {
            state_dir: state_dir.into(),
            ui_addr: ([127, 0, 0, 1], 7443).into(),
            ui_names: Vec::new(),
            ui_behind_tls: false,
            rpc_addr: ([127, 0, 0, 1], 7444).into(),
            rpc_names: Vec::new(),
            policy,
            first_user: FirstUser { name: "admin".into(), principals: Vec::new() },
            limits: Limits::default(),
            sinks: Vec::new(),
            witnesses: WitnessesFile::default(),
            retention: Rules::default(),
        }
    }
}
