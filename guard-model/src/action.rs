//! One attempt at one operation on one object.

use crate::{
    ChangeOperation, Endpoint, FileAccess, FileRef, ProgramRef, RawText, SocketOperation,
    SystemOperation, TaskOperation, TaskRef,
};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// One attempt at one operation on one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Action {
    /// A program is executed.
    Exec {
        /// The program.
        program: ProgramRef,
        /// Arguments as read at the hook, verified when the image is committed (H12).
        argv: Vec<RawText>,
        /// False if argv was cut or could not be read.
        argv_complete: bool,
        /// It is the interpreter that a script names; the script was decided before.
        interpreter: bool,
        /// The image has no name in any directory (memfd, deleted file).
        unnamed: bool,
        /// It is the program (`PT_INTERP`) that an ELF file names to load it.
        #[serde(default, skip_serializing_if = "is_false")]
        loader: bool,
        /// The process would gain another user, group or capability by it (set-user-ID, file
        /// capabilities).
        #[serde(default, skip_serializing_if = "is_false")]
        gains: bool,
        /// Environment variables that it is given and that make programs run other code; see
        /// `guard_common::event::ENVIRONMENT_NAMES`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        environment: Vec<String>,
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
    /// The file tree or a file's attributes change.
    Change {
        /// How.
        operation: ChangeOperation,
        /// What: the file itself; for what is made, the new name in its directory.
        file: FileRef,
        /// Its new name, for `link` and `rename`; identity and owner are the directory's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<FileRef>,
        /// New mode, new owner, attribute name, target of the symbolic link, kind of node.
        #[serde(default, skip_serializing_if = "RawText::is_empty")]
        detail: RawText,
    },
    /// Code is mapped from a file, or made executable in a mapping of it.
    Map {
        /// The file.
        program: ProgramRef,
        /// It has no name in any directory (memfd, deleted file).
        unnamed: bool,
        /// The mapping is, or was, writable and shared: its content can still change.
        writable: bool,
    },
    /// A descriptor of a file is received over a UNIX socket or by `pidfd_getfd`.
    Receive {
        /// The file.
        file: FileRef,
        /// How it was opened.
        access: FileAccess,
    },
    /// A socket is created, bound, made to listen, or sent from.
    Socket {
        /// Which of these.
        operation: SocketOperation,
        /// Local address for `bind` and `listen`, destination for `send`, the family for `socket`.
        endpoint: Endpoint,
        /// `SOCK_STREAM` = 1, `SOCK_DGRAM` = 2…
        socket_type: u32,
        /// `IPPROTO_*`.
        protocol: u32,
    },
    /// Something is done to another task.
    Task {
        /// What.
        operation: TaskOperation,
        /// To whom.
        target: TaskRef,
        /// Signal number, or the mode of the access.
        detail: RawText,
    },
    /// The kernel is used in a way that reaches beyond files and sockets.
    System {
        /// How.
        operation: SystemOperation,
        /// What exactly: command, type, capability and system call.
        detail: RawText,
        /// The file that it is about, where there is one (mount point, module, new root).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<FileRef>,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Action {
    /// `exec`, `open`, `unlink`, …: the action's name in Cedar, in evidence and in the API.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Exec { .. } => "exec",
            Self::Open { .. } => "open",
            Self::Connect { .. } => "connect",
            Self::Change { operation, .. } => operation.name(),
            Self::Map { .. } => "map",
            Self::Receive { .. } => "receive",
            Self::Socket { operation, .. } => operation.name(),
            Self::Task { operation, .. } => operation.name(),
            Self::System { operation, .. } => operation.name(),
        }
    }

    /// The file that the action is on, where there is one.
    #[must_use]
    pub const fn file(&self) -> Option<&FileRef> {
        match self {
            Self::Exec { program, .. } | Self::Map { program, .. } => Some(&program.file),
            Self::Open { file, .. } | Self::Change { file, .. } | Self::Receive { file, .. } => {
                Some(file)
            }
            Self::System { file, .. } => file.as_ref(),
            Self::Connect { .. } | Self::Socket { .. } | Self::Task { .. } => None,
        }
    }

    /// The object in one line for people, escaped.
    #[must_use]
    pub fn object_line(&self) -> String {
        let mut line = match self {
            Self::Exec { program, argv, .. } => {
                let mut line = program.file.to_string();
                for arg in argv.iter().skip(1) {
                    line.push(' ');
                    line.push_str(&arg.visible());
                }
                line
            }
            Self::Map { program, .. } => program.file.to_string(),
            Self::Open { file, .. } | Self::Receive { file, .. } | Self::Change { file, .. } => {
                file.to_string()
            }
            Self::Connect { endpoint, .. } | Self::Socket { endpoint, .. } => endpoint.to_string(),
            Self::Task { target, .. } => target.to_string(),
            Self::System { file, .. } => file.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        // Writing to a String cannot fail.
        match self {
            Self::Change { to: Some(to), .. } => {
                let _ = write!(line, " → {to}");
            }
            Self::Change { detail, .. } | Self::Task { detail, .. } if !detail.is_empty() => {
                let _ = write!(line, " ({detail})");
            }
            Self::System { detail, .. } => {
                let gap = if line.is_empty() { "" } else { " " };
                let _ = write!(line, "{gap}{detail}");
            }
            _ => {}
        }
        line
    }

    /// What is attempted, in a few words: `exec`, `open for read`, `create`, `connect`.
    #[must_use]
    pub fn verb_line(&self) -> String {
        match self {
            Self::Exec { unnamed: true, .. } => "exec of an unnamed image".into(),
            Self::Exec { gains: true, .. } => "exec with more privileges".into(),
            Self::Exec { interpreter: true, .. } => "exec as interpreter".into(),
            Self::Exec { loader: true, .. } => "exec as loader".into(),
            Self::Exec { .. } => "exec".into(),
            Self::Open { access, .. } => access.to_string(),
            Self::Connect { .. } => "connect".into(),
            Self::Change { operation, .. } => operation.to_string(),
            Self::Map { unnamed: true, .. } => "map code of an unnamed file".into(),
            Self::Map { .. } => "map code".into(),
            Self::Receive { access, .. } => format!("receive a descriptor, {access}"),
            Self::Socket { operation: SocketOperation::Create, .. } => "create a socket".into(),
            Self::Socket { operation, .. } => operation.to_string(),
            Self::Task { operation, .. } => operation.to_string(),
            Self::System { operation, .. } => operation.to_string(),
        }
    }
}
