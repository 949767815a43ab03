//! The digest of an action: what a decision is bound to.

use crate::{
    Action, Endpoint, FileAccess, FileRef, ProcessContext, SessionId, TaskRef,
    id::{BootId, HostId},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};

/// SHA-256 over the canonical record of an action: what a decision is bound to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionDigest(pub [u8; 32]);

impl ActionDigest {
    /// The digest of `action` by the thread of `process`, in `session`, on `boot` of `host`.
    ///
    /// The canonical record is the JSON of the parts in this fixed order, each preceded by its length
    /// (u64, big-endian), after the domain `guard/action/v2`. It binds what H1 matches on, and who.
    #[must_use]
    pub fn of(
        host: HostId,
        boot: BootId,
        session: SessionId,
        process: &ProcessContext,
        action: &Action,
    ) -> Self {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(b"guard/action/v2");
        part(host.0.as_bytes());
        part(boot.0.as_bytes());
        part(session.0.as_bytes());
        part(&process.pid.to_be_bytes());
        part(&process.tid.to_be_bytes());
        part(&process.start_boottime_ns.to_be_bytes());
        part(&process.uid.to_be_bytes());
        canonical_action(action, &mut part);
        Self(hash.finalize().into())
    }
}

fn canonical_action(action: &Action, part: &mut impl FnMut(&[u8])) {
    part(action.name().as_bytes());
    match action {
        Action::Exec {
            program,
            argv,
            argv_complete,
            interpreter,
            unnamed,
            loader,
            gains,
            environment,
        } => {
            canonical_file(&program.file, part);
            part(&[argv_complete, interpreter, unnamed, loader, gains].map(|flag| u8::from(*flag)));
            part(&(argv.len() as u64).to_be_bytes());
            for arg in argv {
                part(arg.as_bytes());
            }
            part(&(environment.len() as u64).to_be_bytes());
            for name in environment {
                part(name.as_bytes());
            }
            // At the end and only where it is known: what was decided before there were any has the digest that it had.
            if let Some(sha256) = &program.sha256 {
                part(sha256.as_bytes());
            }
        }
        Action::Open { file, access } | Action::Receive { file, access } => {
            canonical_file(file, part);
            let FileAccess { read, write, append, truncate, create, tmpfile } = *access;
            part(&[read, write, append, truncate, create, tmpfile].map(u8::from));
        }
        Action::Connect { endpoint, socket_type, protocol }
        | Action::Socket { operation: _, endpoint, socket_type, protocol } => {
            canonical_endpoint(endpoint, part);
            part(&socket_type.to_be_bytes());
            part(&protocol.to_be_bytes());
        }
        Action::Change { operation: _, file, to, detail } => {
            canonical_file(file, part);
            canonical_option(to.as_ref(), part);
            part(detail.as_bytes());
        }
        Action::Map { program, unnamed, writable } => {
            canonical_file(&program.file, part);
            part(&[*unnamed, *writable].map(u8::from));
        }
        Action::Task { operation: _, target, detail } => {
            let TaskRef { pid, start_boottime_ns, uid, comm, own_session } = target;
            part(&pid.to_be_bytes());
            part(&start_boottime_ns.to_be_bytes());
            part(&uid.to_be_bytes());
            part(comm.as_bytes());
            part(&[u8::from(*own_session)]);
            part(detail.as_bytes());
        }
        Action::System { operation: _, detail, file } => {
            part(detail.as_bytes());
            canonical_option(file.as_ref(), part);
        }
    }
}

fn canonical_endpoint(endpoint: &Endpoint, part: &mut impl FnMut(&[u8])) {
    // `Display` is injective per family and names the family.
    part(endpoint.to_string().as_bytes());
    if let Endpoint::Unix { path: text } | Endpoint::Abstract { name: text } = endpoint {
        part(text.as_bytes());
    }
}

fn canonical_option(file: Option<&FileRef>, part: &mut impl FnMut(&[u8])) {
    part(&[u8::from(file.is_some())]);
    if let Some(file) = file {
        canonical_file(file, part);
    }
}

fn canonical_file(file: &FileRef, part: &mut impl FnMut(&[u8])) {
    part(file.path.as_bytes());
    part(file.path_error.as_deref().unwrap_or_default().as_bytes());
    part(&file.dev.to_be_bytes());
    part(&file.ino.to_be_bytes());
    part(&file.generation.to_be_bytes());
}

impl fmt::Display for ActionDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ActionDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

impl FromStr for ActionDigest {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map(|()| Self(bytes))
    }
}

impl Serialize for ActionDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for ActionDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ProgramRef, RawText};
    use uuid::Uuid;

    fn open(path: &str, ino: u64, read: bool) -> Action {
        let file = FileRef {
            path: path.into(),
            path_error: None,
            dev: 1,
            ino,
            generation: 0,
            owner_uid: 0,
            mode: 0o100_644,
        };
        Action::Open { file, access: FileAccess { read, ..FileAccess::default() } }
    }

    fn digest(session: u128, process: &ProcessContext, action: &Action) -> ActionDigest {
        let (host, boot) = (HostId(Uuid::from_u128(1)), BootId(Uuid::from_u128(2)));
        ActionDigest::of(host, boot, SessionId(Uuid::from_u128(session)), process, action)
    }

    #[test]
    fn a_digest_changes_with_every_part_that_a_decision_is_about() {
        let process = ProcessContext { pid: 10, tid: 10, uid: 1000, ..ProcessContext::default() };
        let base = digest(3, &process, &open("/a", 5, true));
        assert_eq!(base, digest(3, &process, &open("/a", 5, true)));
        let other_thread = ProcessContext { tid: 11, ..process.clone() };
        for changed in [
            digest(4, &process, &open("/a", 5, true)),
            digest(3, &other_thread, &open("/a", 5, true)),
            digest(3, &process, &open("/b", 5, true)),
            digest(3, &process, &open("/a", 6, true)),
            digest(3, &process, &open("/a", 5, false)),
        ] {
            assert_ne!(base, changed);
        }
    }

    #[test]
    fn moving_a_byte_between_arguments_and_another_content_change_the_digest() {
        let exec = |argv: &[&str]| {
            let Action::Open { file, .. } = open("/bin/x", 1, true) else { unreachable!() };
            Action::Exec {
                program: ProgramRef { file, sha256: None },
                argv: argv.iter().map(|arg| RawText::from(*arg)).collect(),
                argv_complete: true,
                interpreter: false,
                unnamed: false,
                loader: false,
                gains: false,
                environment: Vec::new(),
            }
        };
        let process = ProcessContext::default();
        let mut hashed = exec(&["x"]);
        let Action::Exec { program, .. } = &mut hashed else { unreachable!() };
        program.sha256 = Some("ab".repeat(32));
        assert_ne!(digest(3, &process, &exec(&["x"])), digest(3, &process, &hashed));
        assert_ne!(
            digest(3, &process, &exec(&["x", "ab", "c"])),
            digest(3, &process, &exec(&["x", "a", "bc"]))
        );
    }
}
