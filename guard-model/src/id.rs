//! Typed identifiers.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// A host, given by the controller at enrolment.
    HostId
);
uuid_id!(
    /// One boot of a host: `/proc/sys/kernel/random/boot_id`.
    BootId
);
uuid_id!(
    /// One labelled process tree.
    SessionId
);
uuid_id!(
    /// One held action. Derived, not drawn: see [`HoldId::derive`].
    HoldId
);

impl HoldId {
    /// The id of the kernel's hold `sequence` on `boot` of `host`. Derived, so that a guard-agent that
    /// re-sends a hold after a restart, its own or the controller's, cannot make a second one.
    #[must_use]
    pub fn derive(host: HostId, boot: BootId, sequence: u64) -> Self {
        Self(derive_uuid(b"guard/hold/v1", host, boot, sequence))
    }
}

impl SessionId {
    /// The id of the kernel's session handle `session` on `boot` of `host`; derived for the same reason.
    #[must_use]
    pub fn derive(host: HostId, boot: BootId, session: u64) -> Self {
        Self(derive_uuid(b"guard/session/v1", host, boot, session))
    }
}

fn derive_uuid(domain: &[u8], host: HostId, boot: BootId, number: u64) -> Uuid {
    let digest = Sha256::new()
        .chain_update(domain)
        .chain_update(host.0.as_bytes())
        .chain_update(boot.0.as_bytes())
        .chain_update(number.to_be_bytes())
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
