//! One attempt at one operation on one object, and its digest.

use crate::{RawText, SessionId, id::BootId, id::HostId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{fmt, net::IpAddr, str::FromStr};

/// A file, as the kernel identified it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Absolute path as `bpf_d_path` resolved it from the task's root, symlinks followed. Empty if
    /// [`FileRef::path_error`] says that it could not be had.
    pub path: RawText,
    /// Why there is no path (K3: such an action is never allowed by a path rule).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_error: Option<String>,
    /// Kernel device number (major << 20 | minor).
    pub dev: u64,
    /// Inode number. For a creation: the directory's.
    pub ino: u64,
    /// Inode generation.
    pub generation: u64,
    /// Owner. For a creation: the directory's.
    pub owner_uid: u32,
    /// `i_mode`. For a creation: the directory's.
    pub mode: u32,
}

/// A program: the file that is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRef {
    /// The file.
    pub file: FileRef,
    /// SHA-256 of the content in hexadecimal, where it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAccess {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// `O_APPEND`.
    pub append: bool,
    /// `O_TRUNC`.
    pub truncate: bool,
    /// The file does not exist yet.
    pub create: bool,
    /// Unnamed (`O_TMPFILE`).
    pub tmpfile: bool,
}

/// Where a socket is to be connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum Endpoint {
    /// IPv4, or IPv4-mapped IPv6 (then `mapped`).
    Inet {
        /// Address.
        ip: IpAddr,
        /// Port.
        port: u16,
        /// Given as `::ffff:a.b.c.d`.
        #[serde(default)]
        mapped: bool,
    },
    /// IPv6.
    Inet6 {
        /// Address.
        ip: IpAddr,
        /// Port.
        port: u16,
    },
    /// UNIX socket with a path, as given by the caller (not resolved).
    Unix {
        /// Path; empty for an unnamed one.
        path: RawText,
    },
    /// UNIX socket in the abstract namespace.
    Abstract {
        /// Name without the leading NUL.
        name: RawText,
    },
    /// `AF_UNSPEC`: dissolves an association.
    Unspec,
    /// Anything else; a family that nobody thought of is held, not allowed.
    Other {
        /// `AF_*`.
        number: u16,
        /// The address in hexadecimal.
        address_hex: String,
    },
}

/// One attempt at one operation on one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Action {
    /// A program is executed.
    Exec {
        /// The program.
        program: ProgramRef,
        /// Arguments as read at the hook (see SPECIFICATION.md on H12).
        argv: Vec<RawText>,
        /// False if argv was cut or could not be read.
        argv_complete: bool,
        /// It is the interpreter that a script names; the script was decided before.
        interpreter: bool,
        /// The image has no name in any directory (memfd, deleted file).
        unnamed: bool,
    },
    /// A file is opened.
    Open {
        /// The file.
        file: FileRef,
        /// How.
        access: FileAccess,
    },
    /// A socket is connected.
    Connect {
        /// Where to.
        endpoint: Endpoint,
        /// `SOCK_STREAM` = 1, `SOCK_DGRAM` = 2…
        socket_type: u32,
        /// `IPPROTO_*`.
        protocol: u32,
    },
}

impl Action {
    /// `exec`, `open` or `connect`: the action's name in Cedar, in evidence and in the API.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Exec { .. } => "exec",
            Self::Open { .. } => "open",
            Self::Connect { .. } => "connect",
        }
    }

    /// The object in one line for people, escaped.
    #[must_use]
    pub fn object_line(&self) -> String {
        match self {
            Self::Exec { program, argv, .. } => {
                let mut line = program.file.to_string();
                for arg in argv.iter().skip(1) {
                    line.push(' ');
                    line.push_str(&arg.visible());
                }
                line
            }
            Self::Open { file, .. } => file.to_string(),
            Self::Connect { endpoint, .. } => endpoint.to_string(),
        }
    }

    /// What is attempted, in one or two words: `exec`, `open for read`, `create`, `connect`.
    #[must_use]
    pub fn verb_line(&self) -> String {
        match self {
            Self::Exec { unnamed: true, .. } => "exec of an unnamed image".into(),
            Self::Exec { interpreter: true, .. } => "exec as interpreter".into(),
            Self::Exec { .. } => "exec".into(),
            Self::Open { access, .. } => access.to_string(),
            Self::Connect { .. } => "connect".into(),
        }
    }
}

impl fmt::Display for FileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path_error {
            None => write!(f, "{}", self.path),
            Some(why) => write!(f, "(no path: {why}; device {:#x}, inode {})", self.dev, self.ino),
        }
    }
}

impl fmt::Display for FileAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        for (set, word) in [
            (self.read, "read"),
            (self.write, "write"),
            (self.append, "append"),
            (self.truncate, "truncate"),
        ] {
            if set {
                words.push(word);
            }
        }
        match (self.create, self.tmpfile, words.is_empty()) {
            (true, ..) => f.write_str("create"),
            (_, true, _) => f.write_str("create an unnamed file"),
            (.., true) => f.write_str("open"),
            _ => write!(f, "open for {}", words.join(", ")),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet { ip, port, mapped: false } => write!(f, "{ip}:{port}"),
            Self::Inet { ip, port, mapped: true } => write!(f, "[::ffff:{ip}]:{port}"),
            Self::Inet6 { ip, port } => write!(f, "[{ip}]:{port}"),
            Self::Unix { path } if path.is_empty() => f.write_str("unix: (unnamed)"),
            Self::Unix { path } => write!(f, "unix:{path}"),
            Self::Abstract { name } => write!(f, "unix:@{name}"),
            Self::Unspec => f.write_str("(AF_UNSPEC)"),
            Self::Other { number, address_hex } => write!(f, "family {number}: {address_hex}"),
        }
    }
}

/// The task that attempts an action, read from `/proc` while it is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessContext {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Start of the thread, ns since boot.
    pub start_boottime_ns: u64,
    /// Parent process id.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// What the task calls itself: its own claim.
    pub comm: RawText,
    /// Path of the program that it runs (`/proc/PID/exe`).
    pub exe: RawText,
    /// Its command line: its own claim.
    pub cmdline: Vec<RawText>,
    /// Working directory.
    pub cwd: RawText,
    /// cgroup path.
    pub cgroup: RawText,
    /// Effective capabilities, `/proc/PID/status` CapEff, hexadecimal.
    pub cap_eff: String,
    /// The process and its ancestors, itself first, up to pid 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<crate::ProcessNode>,
}

/// SHA-256 over the canonical record of an action: what a decision is bound to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionDigest(pub [u8; 32]);

impl ActionDigest {
    /// The digest of `action` by the thread of `process`, in `session`, on `boot` of `host`.
    ///
    /// The canonical record is the JSON of the parts in this fixed order, each preceded by its length
    /// (u64, big-endian), after the domain `guard/action/v1`. It binds what H1 matches on, and who.
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
        part(b"guard/action/v1");
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
        Action::Exec { program, argv, argv_complete, interpreter, unnamed } => {
            canonical_file(&program.file, part);
            part(&[u8::from(*argv_complete), u8::from(*interpreter), u8::from(*unnamed)]);
            part(&(argv.len() as u64).to_be_bytes());
            for arg in argv {
                part(arg.as_bytes());
            }
        }
        Action::Open { file, access } => {
            canonical_file(file, part);
            let FileAccess { read, write, append, truncate, create, tmpfile } = *access;
            part(&[read, write, append, truncate, create, tmpfile].map(u8::from));
        }
        Action::Connect { endpoint, socket_type, protocol } => {
            // `Display` is injective per family and names the family.
            part(endpoint.to_string().as_bytes());
            if let Endpoint::Unix { path: text } | Endpoint::Abstract { name: text } = endpoint {
                part(text.as_bytes());
            }
            part(&socket_type.to_be_bytes());
            part(&protocol.to_be_bytes());
        }
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
    fn moving_a_byte_between_arguments_changes_the_digest() {
        let exec = |argv: &[&str]| {
            let Action::Open { file, .. } = open("/bin/x", 1, true) else { unreachable!() };
            Action::Exec {
                program: ProgramRef { file, sha256: None },
                argv: argv.iter().map(|arg| RawText::from(*arg)).collect(),
                argv_complete: true,
                interpreter: false,
                unnamed: false,
            }
        };
        let process = ProcessContext::default();
        assert_ne!(
            digest(3, &process, &exec(&["x", "ab", "c"])),
            digest(3, &process, &exec(&["x", "a", "bc"]))
        );
    }
}
