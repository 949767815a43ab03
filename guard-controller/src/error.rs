//! What can go wrong, in words for operators; what a remote party is told is cut to less at the
//! edges.

use guard_model::{HoldId, HoldState};
use guard_policy::ApproveRefusal;
use std::{io, path::PathBuf};

/// The controller's own storage failed, or holds something that it never wrote.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("database: {doing}")]
    Database {
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// A stored value cannot be read back.
    #[error("database: {table}.{column} of {key} cannot be read: {problem}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// Which row.
        key: String,
        /// What is wrong with the value.
        problem: String,
    },
    /// The evidence log; opened anew at the next attempt.
    #[error("evidence log: {problem}")]
    Log {
        /// What is wrong, in full.
        problem: String,
    },
    /// Two writers met; nothing was changed. Seen only if somebody else writes to the database.
    #[error("{what} was changed by somebody else at the same time; try again")]
    Conflict {
        /// What.
        what: String,
    },
}

/// Why the controller did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or directory of the state.
    #[error("{path}: {doing}")]
    State {
        /// Which.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The state directory is in use.
    #[error(
        "{path}: another guard-controller uses this state directory; stop it or choose another"
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {addr} for {purpose}")]
    Listen {
        /// The address.
        addr: std::net::SocketAddr,
        /// UI or gRPC.
        purpose: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The database.
    #[error("{path}: cannot be opened as the controller's database")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// Its schema.
    #[error("{path}: schema cannot be brought up to date")]
    Migrate {
        /// Which.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// What is in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys and certificates.
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    /// The configured first user.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A sink.
    #[error("a sink is not usable; nothing was started")]
    Sink(#[source] Box<crate::sinks::SinkError>),
    /// A witness.
    #[error("the witnesses are not usable; nothing was started")]
    Witness(#[from] crate::witness::WitnessError),
    /// The gRPC server.
    #[error("gRPC server: TLS cannot be set up")]
    Tls(#[source] tonic::transport::Error),
}

/// Why a decision was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// There is no such hold.
    #[error("there is no hold {0}")]
    NotFound(HoldId),
    /// Policy, or a rule above all policy, does not let this person decide.
    #[error("you may not decide this")]
    NotAllowed(#[source] ApproveRefusal),
    /// The hold's terms ask for something that this version cannot check, so it cannot be approved.
    #[error("cannot be approved: {0}; it can only be denied, or expires")]
    UnmetTerms(String),
    /// Somebody was first, or it ended otherwise.
    #[error("it is already {}", .state.name())]
    AlreadyDecided {
        /// Its state.
        state: HoldState,
    },
    /// Its deadline has passed.
    #[error("its deadline has passed")]
    TooLate,
    /// A decision needs words.
    #[error("a reason is required")]
    ReasonMissing,
    /// Words, not a book.
    #[error("the reason has {len} bytes, at most {max} are taken")]
    ReasonTooLong {
        /// Length, bytes.
        len: usize,
        /// Limit, bytes.
        max: usize,
    },
    /// Storage.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a user, link, session or token was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Not a name.
    #[error("{what} `{value}`: {expected}")]
    Invalid {
        /// Which field.
        what: &'static str,
        /// What was given.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
    /// There is one already.
    #[error("there already is a {what} `{name}`")]
    Exists {
        /// User or token.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// There is none.
    #[error("there is no {what} `{name}`")]
    NotFound {
        /// User or token.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// The last enabled admin must stay.
    #[error("`{0}` is the last admin: make another one first")]
    LastAdmin(String),
    /// A bound is reached.
    #[error("there are already {max} {what}: remove one first")]
    TooMany {
        /// Users, tokens…
        what: &'static str,
        /// Limit.
        max: usize,
    },
    /// Storage.
    #[error(transparent)]
    Store(#[from] StoreError),
}
