//! [`Controller`]: everything that the UI, the REST API, `guard up` and the gRPC server may do.
//!
//! Every change is one SQLite transaction that also writes the evidence of it; only after the
//! commit is anybody told. So kill -9 at any instant loses nothing that somebody has heard of.

mod accounts;
mod credentials;
mod decide;
mod evidence;
mod following;
mod intake;
mod lifecycle;
mod process_tree;
mod reads;
mod retention;
mod transition;

pub use accounts::{GROUPS_MAX, USERS_MAX};
pub use credentials::{
    LINK_TTL_MS, SESSION_IDLE_MS, SESSION_TTL_MS, SESSIONS_PER_USER_MAX, TOKEN_TTL_MAX_MS,
    TOKENS_PER_USER_MAX,
};
pub use decide::REASON_BYTES_MAX;
pub use evidence::EraseError;
pub use intake::{HoldRefused, REQUEST_BYTES_MAX};
pub use lifecycle::Running;
pub(crate) use lifecycle::lock_state_dir;
pub use retention::{LEGAL_HOLDS_MAX, LegalHoldError, Round};

use self::{evidence::check_reason, retention::RetentionState};
use crate::{
    Change, Config, StoreError,
    db::{Db, Doing as _, hosts},
    engine::CONTROLLER,
    evidence::{MerkleEvidence, outbox::Outbox},
    identity::{Authority, IdentityError, IssuedCertificate, new_token, token_hash},
    rpc::links::Links,
    search::Index,
    sinks::SinkState,
    witness::WitnessState,
};
use ed25519_dalek::SigningKey;
use guard_audit::Event;
use guard_model::{HostId, SessionId};
use sqlx::{Sqlite, Transaction};
use std::sync::Arc;
use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

/// Changes that a slow subscriber may lag behind before it must read everything again.
const CHANGES_KEPT: usize = 4096;

/// How long a join token may be used, ms: long enough to carry it to a host by hand.
pub const JOIN_TOKEN_TTL_MS: u64 = 3600 * 1000;

/// Longest host name that is stored, bytes (POSIX `HOST_NAME_MAX` is 64, a DNS name has 253).
pub const HOSTNAME_BYTES_MAX: usize = 253;

/// The controller. Cheap to clone.
#[derive(Clone)]
pub struct Controller {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    db: Db,
    evidence: MerkleEvidence,
    index: Index,
    sinks: Vec<Arc<SinkState>>,
    witnesses: Arc<WitnessState>,
    outbox: Outbox,
    authority: Authority,
    decision_key: SigningKey,
    links: Links,
    changes: broadcast::Sender<Change>,
    /// Records wait in the outbox.
    written: Notify,
    /// One erasure, or one change of legal holds, at a time: what a hold keeps is certain.
    erasing: tokio::sync::Mutex<()>,
    retention: RetentionState,
}

/// A single-use token with which one host enrols.
#[derive(Clone, Debug)]
pub struct JoinToken {
    /// The token, shown once.
    pub token: String,
    /// SHA-256 of the CA certificate (DER), hexadecimal: what guard-agent pins.
    pub ca_pin: String,
    /// ms since 1970.
    pub expires_unix_ms: u64,
}

/// Why a host did not get a certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Unknown, used or too old: which is nobody's business.
    #[error("the join token is unknown, used or expired; ask the controller for a new one")]
    Token,
    /// The host is not accepted any more.
    #[error("host {0} is not accepted by this controller")]
    NotAccepted(HostId),
    /// Its name for itself.
    #[error("hostname: at most {HOSTNAME_BYTES_MAX} bytes")]
    Hostname,
    /// Its certificate request.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Storage.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Controller {
    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Changes from now on. A receiver that lags must read everything again.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// Writes the controller's own evidence; durable when this returns.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn audit(&self, event: Event) -> Result<(), StoreError> {
        let mut tx = self.inner.db.write().await?;
        self.record(&mut tx, None, event).await?;
        self.commit(tx, []).await
    }

    /// SHA-256 of the CA certificate (DER), hexadecimal: what guard-agent pins.
    #[must_use]
    pub fn ca_pin(&self) -> String {
        self.inner.authority.pin()
    }

    /// A token for one host to enrol with.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn new_join_token(&self) -> Result<JoinToken, StoreError> {
        let token = new_token("guard-join-");
        let now = crate::clock::unix_ms();
        let expires_unix_ms = now + JOIN_TOKEN_TTL_MS;
        let mut tx = self.inner.db.write().await?;
        hosts::insert_join_token(&mut tx, &token_hash(&token), now, expires_unix_ms).await?;
        self.commit(tx, []).await?;
        Ok(JoinToken { token, ca_pin: self.ca_pin(), expires_unix_ms })
    }

    /// Uses a join token up: a new host with a certificate.
    ///
    /// # Errors
    /// [`EnrolError`]; the token is used up only on success.
    pub async fn enrol(
        &self,
        token: &str,
        csr_pem: &str,
        hostname: &str,
    ) -> Result<(HostId, IssuedCertificate), EnrolError> {
        if hostname.len() > HOSTNAME_BYTES_MAX {
            return Err(EnrolError::Hostname);
        }
        if token.len() > crate::identity::TOKEN_BYTES_MAX {
            return Err(EnrolError::Token);
        }
        let id = HostId(Uuid::new_v4());
        let now = crate::clock::unix_ms();
        let mut tx = self.inner.db.write().await?;
        if !hosts::use_join_token(&mut tx, &token_hash(token), id, now).await? {
            return Err(EnrolError::Token);
        }
        let issued = self.inner.authority.issue(id, csr_pem)?;
        hosts::insert(&mut tx, id, hostname, now).await?;
        self.record(&mut tx, None, enrolled(id, hostname)).await?;
        // A crash before this line leaves the token unused; after it the host exists, and without
        // the answer it needs a new token, which its state file tells it.
        self.commit(tx, [Change::Host { id }]).await?;
        Ok((id, issued))
    }

    /// A new certificate for a host that shows its old one.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub async fn renew(&self, id: HostId, csr_pem: &str) -> Result<IssuedCertificate, EnrolError> {
        let host = self.host(id).await?.filter(|host| !host.revoked);
        let host = host.ok_or(EnrolError::NotAccepted(id))?;
        let issued = self.inner.authority.issue(id, csr_pem)?;
        self.audit(enrolled(id, &host.hostname)).await?;
        Ok(issued)
    }

    /// No longer accepts a host's certificate, and ends its link. False if there is no such host.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn revoke_host(&self, id: HostId, by: &str) -> Result<bool, StoreError> {
        let mut tx = self.inner.db.write().await?;
        let known = hosts::revoke(&mut tx, id).await?;
        let change = format!("host {id} is not accepted any more");
        let event = Event::UserChanged { user: String::new(), change, by: by.into() };
        self.record(&mut tx, None, event).await?;
        self.commit(tx, [Change::Host { id }]).await?;
        self.inner.links.end(id);
        Ok(known)
    }

    /// Whether a host's certificate is accepted.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn accepts_host(&self, id: HostId) -> Result<bool, StoreError> {
        hosts::is_accepted(self.inner.db.read(), id).await
    }

    /// The CA's certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.inner.authority.certificate_pem()
    }

    /// The Ed25519 public key that verifies decisions.
    #[must_use]
    pub fn decision_public_key(&self) -> [u8; 32] {
        self.inner.decision_key.verifying_key().to_bytes()
    }

    pub(crate) fn links(&self) -> &Links {
        &self.inner.links
    }

    /// Writes the controller's own record in the caller's transaction.
    async fn record(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        session: Option<SessionId>,
        event: Event,
    ) -> Result<(), StoreError> {
        self.inner.outbox.write(tx, session, event).await
    }

    /// Commits, then tells everybody.
    async fn commit(
        &self,
        tx: Transaction<'static, Sqlite>,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), StoreError> {
        tx.commit().await.doing("commit")?;
        self.inner.written.notify_one();
        for change in changes {
            // Nobody listens: nobody has a page open.
            let _ = self.inner.changes.send(change);
        }
        Ok(())
    }

    /// Moves what waits in the outbox into the evidence store.
    pub(crate) async fn flush_evidence(&self) -> Result<(), StoreError> {
        self.inner.outbox.flush(&self.inner.db, &self.inner.evidence).await
    }
}

fn enrolled(id: HostId, hostname: &str) -> Event {
    Event::Enrolled { enrolled: id, hostname: hostname.into() }
}

/// Whether a name is the controller's own, which no user may have.
fn is_reserved(name: &str) -> bool {
    name == CONTROLLER
}
