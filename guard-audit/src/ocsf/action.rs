//! An action on its object: which OCSF class, which activity.
//!
//! A new [`Action`] is placed in [`subject`], and nowhere else: choose the [`Subject`] and its
//! activity there.

use super::{
    Class, OcsfEvent, base::Base, disposition::Disposition, file, kernel, module, network, process,
    words::UNKNOWN,
};
use guard_model::{
    Action, ActionDigest, ChangeOperation, Endpoint, FileRef, HoldId, HoldRequest, PolicyStatement,
    ProcessContext, ProgramRef, RawText, SocketOperation, SystemOperation, TaskOperation,
};
use serde_json::{Value, json};

/// An activity of a class: its `activity_id` and caption in OCSF.
pub type Activity = (u32, &'static str);

/// What an action is on, as OCSF divides the world.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// 1007 Process Activity, Launch: a program is executed.
    Program {
        /// The program.
        program: &'a ProgramRef,
        /// Its arguments.
        argv: &'a [RawText],
    },
    /// 1007 Process Activity: something is done to another process.
    Process {
        /// [`PROCESS_OPEN`], [`PROCESS_INJECT`], [`PROCESS_TERMINATE`]…
        activity: Activity,
        /// The process it is done to.
        target_pid: u32,
    },
    /// 1001 File System Activity.
    File {
        /// [`FILE_OPEN`], [`FILE_DELETE`]…
        activity: Activity,
        /// The file before.
        file: &'a FileRef,
        /// Where it is afterwards: the new name of a rename or link.
        result: Option<&'a FileRef>,
    },
    /// 1005 Module Activity, Load: code is mapped.
    Code {
        /// The file that it is mapped from.
        file: &'a FileRef,
    },
    /// 1002 Kernel Extension Activity, Load: a kernel module.
    KernelModule {
        /// Its file.
        file: &'a FileRef,
    },
    /// 1003 Kernel Activity, Invoke: a privilege of the kernel is used.
    Kernel {
        /// The system call or operation: `mount`, `bpf`…
        operation: &'a str,
        /// What it is on, in one line.
        object: &'a str,
    },
    /// 4001 Network Activity.
    Network {
        /// [`NETWORK_OPEN`], [`NETWORK_LISTEN`]…
        activity: Activity,
        /// The far end; of a bind or listen the near one.
        endpoint: &'a Endpoint,
        /// `SOCK_*`.
        socket_type: u32,
        /// `IPPROTO_*`.
        protocol: u32,
    },
}

/// A file is made.
pub const FILE_CREATE: Activity = (1, "Create");
/// Content is changed.
pub const FILE_UPDATE: Activity = (3, "Update");
/// A name is removed.
pub const FILE_DELETE: Activity = (4, "Delete");
/// A name is changed.
pub const FILE_RENAME: Activity = (5, "Rename");
/// Mode, times or attributes are changed.
pub const FILE_SET_ATTRIBUTES: Activity = (6, "Set Attributes");
/// Owner or access rights are changed.
pub const FILE_SET_SECURITY: Activity = (7, "Set Security");
/// A file system is mounted.
pub const FILE_MOUNT: Activity = (12, "Mount");
/// A file system is unmounted.
pub const FILE_UNMOUNT: Activity = (13, "Unmount");
/// A file is opened.
pub const FILE_OPEN: Activity = (14, "Open");
/// A second name is made.
pub const FILE_LINK: Activity = (99, "Link");
/// Another process is ended.
pub const PROCESS_TERMINATE: Activity = (2, "Terminate");
/// Another process is read.
pub const PROCESS_OPEN: Activity = (3, "Open");
/// Another process is changed.
pub const PROCESS_INJECT: Activity = (4, "Inject");
/// A user id is changed.
pub const PROCESS_SET_USER_ID: Activity = (5, "Set User ID");
/// Another process is sent a signal that need not end it.
pub const PROCESS_SIGNAL: Activity = (99, "Signal");
/// A connection or association is made.
pub const NETWORK_OPEN: Activity = (1, "Open");
/// Data is sent.
pub const NETWORK_TRAFFIC: Activity = (6, "Traffic");
/// A socket is bound or listens.
pub const NETWORK_LISTEN: Activity = (7, "Listen");

/// The place of every action: the one function that a new variant needs an arm in.
#[must_use]
pub fn subject(action: &Action) -> Subject<'_> {
    match action {
        Action::Exec { program, argv, .. } => Subject::Program { program, argv },
        Action::Open { file, access } => {
            let activity = match (access.create || access.tmpfile, access.write || access.truncate)
            {
                (true, _) => FILE_CREATE,
                (false, true) => FILE_UPDATE,
                (false, false) => FILE_OPEN,
            };
            Subject::File { activity, file, result: None }
        }
        Action::Connect { endpoint, socket_type, protocol } => Subject::Network {
            activity: NETWORK_OPEN,
            endpoint,
            socket_type: *socket_type,
            protocol: *protocol,
        },
        Action::Change { operation, file, to, .. } => {
            let activity = change(*operation);
            Subject::File { activity, file, result: to.as_ref() }
        }
        Action::Map { program, .. } => Subject::Code { file: &program.file },
        Action::Receive { file, .. } => Subject::File { activity: FILE_OPEN, file, result: None },
        Action::Socket { operation, endpoint, socket_type, protocol } => Subject::Network {
            activity: match operation {
                SocketOperation::Create => NETWORK_OPEN,
                SocketOperation::Bind | SocketOperation::Listen => NETWORK_LISTEN,
                SocketOperation::Send => NETWORK_TRAFFIC,
            },
            endpoint,
            socket_type: *socket_type,
            protocol: *protocol,
        },
        Action::Task { operation, target, .. } => Subject::Process {
            activity: match operation {
                TaskOperation::Ptrace => PROCESS_OPEN,
                TaskOperation::Signal => PROCESS_SIGNAL,
            },
            target_pid: target.pid,
        },
        Action::System { operation, file, .. } => match (operation, file) {
            (SystemOperation::Module, Some(file)) => Subject::KernelModule { file },
            (operation, _) => {
                Subject::Kernel { operation: operation.name(), object: operation.name() }
            }
        },
    }
}

fn change(operation: ChangeOperation) -> Activity {
    match operation {
        ChangeOperation::Unlink | ChangeOperation::Rmdir => FILE_DELETE,
        ChangeOperation::Mkdir | ChangeOperation::Mknod | ChangeOperation::Symlink => FILE_CREATE,
        ChangeOperation::Link => FILE_LINK,
        ChangeOperation::Rename => FILE_RENAME,
        ChangeOperation::Chmod | ChangeOperation::Chown => FILE_SET_SECURITY,
        ChangeOperation::Truncate => FILE_UPDATE,
        ChangeOperation::Xattr => FILE_SET_ATTRIBUTES,
    }
}

/// An action by a task, under policy.
pub(super) struct Act<'a> {
    /// `None` if it was never held.
    pub(super) hold_id: Option<HoldId>,
    pub(super) digest: &'a ActionDigest,
    pub(super) process: &'a ProcessContext,
    pub(super) action: &'a Action,
    pub(super) statements: &'a [PolicyStatement],
}

impl<'a> Act<'a> {
    pub(super) fn of_request(request: &'a HoldRequest) -> Self {
        Self {
            hold_id: Some(request.hold_id),
            digest: &request.digest,
            process: &request.process,
            action: &request.action,
            statements: &request.statements,
        }
    }

    /// The event of its class.
    pub(super) fn event(&self, base: Base, disposition: Disposition) -> OcsfEvent {
        let actor = process::actor(self.process, base.session.as_deref());
        let event = of_subject(base, subject(self.action), actor, disposition)
            .correlated(self.hold_id)
            .unmapped("action", self.action.name().into())
            .unmapped("action_digest", self.digest.to_string().into());
        under(event, self.statements).message(&format!(
            "{} {}",
            self.action.verb_line(),
            self.action.object_line()
        ))
    }
}

/// The event of `subject`, done by `actor`.
pub(super) fn of_subject(
    base: Base,
    subject: Subject<'_>,
    actor: Value,
    disposition: Disposition,
) -> OcsfEvent {
    let event = match subject {
        Subject::Program { program, argv } => process::launch(base, program, argv, disposition),
        Subject::Process { activity, target_pid } => {
            process::target(base, activity, target_pid, disposition)
        }
        Subject::File { activity, file, result } => {
            file::activity(base, activity, file, result, disposition)
        }
        Subject::Code { file } => module::load(base, file, disposition),
        Subject::KernelModule { file } => kernel::module(base, file, disposition),
        Subject::Kernel { operation, object } => {
            kernel::operation(base, operation, object, disposition)
        }
        Subject::Network { activity, endpoint, socket_type, protocol } => {
            network::activity(base, activity, endpoint, (socket_type, protocol), disposition)
        }
    };
    event.with("actor", actor)
}

/// An action of which only the name and the task are known: its hold is not in reach, or it was
/// refused without one.
pub(super) fn unknown(
    base: Base,
    action: &str,
    pid: u32,
    tid: u32,
    disposition: Disposition,
) -> OcsfEvent {
    let actor = process::actor_of_pid(pid, tid, base.session.as_deref());
    let event = match action {
        "open" => base
            .event(Class::FILE, FILE_OPEN, disposition)
            .with("file", json!({ "name": UNKNOWN, "type_id": 0, "type": "Unknown" })),
        "connect" => base
            .event(Class::NETWORK, NETWORK_OPEN, disposition)
            .with("dst_endpoint", json!({ "name": UNKNOWN })),
        "exec" => base
            .event(Class::PROCESS, process::LAUNCH, disposition)
            .with("process", json!({ "pid": pid, "tid": tid })),
        other => base.event(Class::KERNEL, kernel::INVOKE, disposition).with(
            "kernel",
            json!({ "name": other, "type_id": 2, "type": "System Call", "system_call": other }),
        ),
    };
    event.with("actor", actor).unmapped("action", action.into())
}

/// Under which statements; the first also as the policy.
fn under(event: OcsfEvent, statements: &[PolicyStatement]) -> OcsfEvent {
    let policy = |statement: &PolicyStatement| {
        let mut policy = json!({
            "uid": statement.id,
            "name": format!("{}:{}", statement.file, statement.line),
            "is_applied": true,
        });
        if let Some(reason) = &statement.reason {
            policy["desc"] = reason.as_str().into();
        }
        policy
    };
    let Some(first) = statements.first() else { return event };
    let all: Vec<Value> =
        statements.iter().map(|statement| json!({ "policy": policy(statement) })).collect();
    event.with("policy", policy(first)).with("authorizations", all.into())
}
