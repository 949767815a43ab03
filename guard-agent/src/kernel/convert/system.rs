//! Uses of the kernel itself.

use super::file::{file, path};
use guard_common::{
    decode::HeldFile,
    hold::{
        ActionKey, CONTROL_IO_PRIORITY, CONTROL_LIMITS, CONTROL_MEMORY, CONTROL_OWNER,
        CONTROL_PRIORITY, CONTROL_SCHEDULER, CONTROL_TERMINAL, KIND_BPF, KIND_CAPABILITY,
        KIND_CHROOT, KIND_CONTROL, KIND_IO_URING, KIND_IPC, KIND_KEXEC, KIND_KEYRING,
        KIND_METADATA, KIND_MODULE, KIND_MOUNT, KIND_NAMESPACE, KIND_PERF, KIND_SETID,
        KIND_SETTIME, KIND_UNMOUNT, KIND_USER_NAMESPACE, KIND_USERFAULTFD, METADATA_REMOVED,
        METADATA_TIMES, OBJECT_WORDS,
    },
};
use guard_model::{Action, RawText, SystemOperation};

/// `ATTR_MTIME_SET` of `include/linux/fs.h`: to a given time, not to the present.
const ATTR_MTIME_SET: u64 = 1 << 8;

/// The action of a system kind; one that nobody knows is the use of an unknown capability, which no
/// shipped policy permits.
pub(super) fn action(key: &ActionKey, held: &HeldFile<'_>) -> Action {
    let operation = operation(key.kind);
    let object = (key.file().is_some() || held.components.is_some())
        .then(|| path(held, false))
        .map(|path| file(key, path, held.owner_uid, held.mode));
    let mut detail = numbers(key);
    if let Some(name) = held.name {
        let gap = if detail.is_empty() { &b""[..] } else { &b" "[..] };
        detail = [detail.as_slice(), gap, name].concat();
    }
    Action::System { operation, detail: RawText::new(detail), file: object }
}

/// The action of a system kind whose object is the same for everybody.
#[must_use]
pub fn action_of_kind(kind: u32) -> Action {
    let key = ActionKey {
        start_boottime_ns: 0,
        tgid: 0,
        tid: 0,
        kind,
        access: 0,
        flags: 0,
        object_len: 0,
        object: [0; OBJECT_WORDS],
    };
    Action::System { operation: operation(kind), detail: RawText::new(numbers(&key)), file: None }
}

pub(super) fn operation(kind: u32) -> SystemOperation {
    match kind {
        KIND_USER_NAMESPACE => SystemOperation::UserNamespace,
        KIND_NAMESPACE => SystemOperation::Namespace,
        KIND_MOUNT => SystemOperation::Mount,
        KIND_UNMOUNT => SystemOperation::Unmount,
        KIND_CHROOT => SystemOperation::Chroot,
        KIND_MODULE => SystemOperation::Module,
        KIND_KEXEC => SystemOperation::Kexec,
        KIND_BPF => SystemOperation::Bpf,
        KIND_PERF => SystemOperation::Perf,
        KIND_IO_URING => SystemOperation::IoUring,
        KIND_SETID => SystemOperation::SetId,
        KIND_SETTIME => SystemOperation::SetTime,
        KIND_CONTROL => SystemOperation::Control,
        KIND_IPC => SystemOperation::Ipc,
        KIND_KEYRING => SystemOperation::Keyring,
        KIND_METADATA => SystemOperation::Metadata,
        KIND_USERFAULTFD => SystemOperation::Userfaultfd,
        _ => SystemOperation::Capability,
    }
}

/// What the key's numbers say, in words where there are some.
fn numbers(key: &ActionKey) -> Vec<u8> {
    let [first, second, ..] = key.object;
    let text = match key.kind {
        KIND_NAMESPACE => format!("clone flags {:#x}", key.flags),
        KIND_BPF => format!("command {}", key.flags),
        KIND_MODULE | KIND_KEXEC => kernel_file(key.flags).to_owned(),
        KIND_MOUNT if key.access != 0 => "moved from".to_owned(),
        KIND_CHROOT if key.access != 0 => "the old root goes to".to_owned(),
        KIND_MOUNT => format!("flags {:#x}", key.flags),
        KIND_UNMOUNT => format!("flags {:#x}", key.flags),
        KIND_IO_URING => ring(key.flags).to_owned(),
        KIND_SETTIME => format!("{first} s after the epoch"),
        KIND_CAPABILITY => format!("{} in system call {}", capability(key.access), key.flags),
        KIND_CONTROL if key.access != 0 => {
            format!("{} of process {}", control(key.flags), key.access)
        }
        KIND_CONTROL => control(key.flags).to_owned(),
        KIND_IPC => "shared memory, semaphores or message queues".to_owned(),
        KIND_KEYRING => "keys of the kernel".to_owned(),
        KIND_METADATA => metadata(key),
        KIND_SETID if second == 1 => format!("group {first}"),
        KIND_SETID => format!("user {first}"),
        _ => String::new(),
    };
    text.into_bytes()
}

/// `enum kernel_read_file_id` of `include/linux/kernel_read_file.h`.
fn kernel_file(id: u32) -> &'static str {
    match id {
        1 => "firmware",
        2 => "module",
        3 => "kexec image",
        4 => "kexec initramfs",
        5 => "security policy",
        6 => "certificate",
        _ => "unknown",
    }
}

/// `flags` of an io_uring action, as guard-ebpf sets them.
fn ring(flags: u32) -> &'static str {
    match flags {
        0 => "ring",
        1 => "polling thread of the kernel",
        2 => "another identity",
        3 => "command to a device",
        _ => "unknown",
    }
}

/// What of which file: the kernel's numbers of a device have 20 bits for the minor one.
fn metadata(key: &ActionKey) -> String {
    let [device, inode, ..] = key.object;
    let file = format!("inode {inode} of device {}:{}", device >> 20, device & 0xf_ffff);
    match key.flags {
        METADATA_TIMES if key.object[7] & ATTR_MTIME_SET != 0 => {
            format!("times of {file}, changed {} s after the epoch:", key.object[5])
        }
        METADATA_TIMES => format!("times of {file}:"),
        METADATA_REMOVED => format!("no more attribute of {file}:"),
        _ => format!("attribute of {file}:"),
    }
}

/// `flags` of [`KIND_CONTROL`].
fn control(what: u32) -> &'static str {
    match what {
        CONTROL_PRIORITY => "priority",
        CONTROL_IO_PRIORITY => "priority of input and output",
        CONTROL_SCHEDULER => "scheduling",
        CONTROL_MEMORY => "place of memory",
        CONTROL_LIMITS => "resource limits",
        CONTROL_OWNER => "owner of a descriptor's signals",
        CONTROL_TERMINAL => "input of a terminal",
        _ => "unknown",
    }
}

/// Names of `include/uapi/linux/capability.h`.
fn capability(number: u32) -> String {
    const NAMES: [&str; 41] = [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ];
    match NAMES.get(number as usize) {
        Some(name) => format!("CAP_{name}"),
        None => format!("capability {number}"),
    }
}
