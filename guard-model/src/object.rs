//! What an action is on: files, programs, endpoints, tasks.

use crate::RawText;
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr};

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
    /// No address: a family, where a socket is created or listens.
    Family {
        /// `AF_*`.
        number: u16,
    },
    /// Anything else; a family that nobody thought of is held, not allowed.
    Other {
        /// `AF_*`.
        number: u16,
        /// The address in hexadecimal.
        address_hex: String,
    },
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
            Self::Family { number } => write!(f, "{}", family_name(*number)),
            Self::Other { number, address_hex } => write!(f, "family {number}: {address_hex}"),
        }
    }
}

/// A family as people know it.
fn family_name(number: u16) -> String {
    let known = match number {
        1 => "AF_UNIX",
        2 => "AF_INET",
        10 => "AF_INET6",
        16 => "AF_NETLINK",
        17 => "AF_PACKET",
        38 => "AF_ALG",
        40 => "AF_VSOCK",
        44 => "AF_XDP",
        _ => return format!("family {number}"),
    };
    known.to_owned()
}

/// Another task, as the kernel identified it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRef {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Start of the thread, ns since boot: tells a reused pid from the old one.
    pub start_boottime_ns: u64,
    /// Effective user id.
    pub uid: u32,
    /// What it calls itself: its own claim.
    pub comm: RawText,
    /// It belongs to the very session that reaches for it.
    pub own_session: bool,
}

impl fmt::Display for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({}, uid {})", self.pid, self.comm, self.uid)
    }
}
