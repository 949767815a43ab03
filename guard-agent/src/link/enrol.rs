//! Joining a controller with a single-use token.

use super::{
    backoff::Backoff,
    identity::{Identity, IdentityError, new_request},
    tls::{self, CaPin, InvalidUrl},
};
use crate::clock;
use guard_proto::v1::{EnrolRequest, enrolment_client::EnrolmentClient};
use std::time::Duration;
use tonic::Code;
use zeroize::Zeroizing;

/// Longest wait for the controller's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What an operator brings to a new host.
#[derive(Clone)]
pub struct Join {
    /// `https://HOST:PORT`.
    pub url: String,
    /// Single use.
    pub token: Zeroizing<String>,
    /// Which CA to trust.
    pub ca_pin: CaPin,
}

impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Why this host could not join.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The address is not one.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// The controller cannot be reached, or is not the one that the pin names.
    #[error("controller {url} cannot be reached, or its CA is not the pinned one")]
    Connect {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The controller said no.
    #[error("controller {url} refused to enrol this host: {status}; make a new join token")]
    Refused {
        /// Who.
        url: String,
        /// Its words.
        status: String,
    },
    /// The controller did not answer in time, or could not now.
    #[error("controller {url} could not enrol this host now: {status}")]
    Unavailable {
        /// Who.
        url: String,
        /// Its words.
        status: String,
    },
    /// Key, file or answer.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl EnrolError {
    /// Whether trying again can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Unavailable { .. })
    }
}

/// Joins once. The token is sent only to a server that the pinned CA vouches for.
///
/// # Errors
/// [`EnrolError`].
pub async fn enrol(join: &Join, hostname: &str) -> Result<Identity, EnrolError> {
    let (key, csr_pem) = new_request()?;
    let url = || join.url.clone();
    let channel = tls::pinned(&join.url, join.ca_pin)?
        .timeout(ANSWER_TIMEOUT)
        .connect()
        .await
        .map_err(|source| EnrolError::Connect { url: url(), source })?;
    let request =
        EnrolRequest { join_token: join.token.to_string(), csr_pem, hostname: hostname.to_owned() };
    let answer = EnrolmentClient::new(channel).enrol(request).await.map_err(|status| {
        let words = format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Cancelled
            | Code::Unknown => EnrolError::Unavailable { url: url(), status: words },
            _ => EnrolError::Refused { url: url(), status: words },
        }
    })?;
    Ok(Identity::from_answer(answer.into_inner(), &key, clock::unix_ms())?)
}

/// Joins, and goes on trying while that can help.
///
/// # Errors
/// The first error that trying again cannot mend.
pub async fn enrol_patiently(join: &Join, hostname: &str) -> Result<Identity, EnrolError> {
    let mut backoff = Backoff::default();
    loop {
        match enrol(join, hostname).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(error = %anyhow::Error::new(error), "not enrolled yet, trying again");
                tokio::time::sleep(backoff.next_wait()).await;
            }
            result => return result,
        }
    }
}
