//! The operations that one kind of action covers, with their names in Cedar, evidence and the API.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Defines an enum of operations with one name each, the same in serde, Cedar and for people.
macro_rules! operations {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name of the action in Cedar, in evidence and in the API.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.name().replace('_', " "))
            }
        }
    };
}

operations! {
    /// A change to the file tree or to a file's attributes.
    ChangeOperation {
        /// A name is removed (`path_unlink`).
        Unlink = "unlink",
        /// A directory is removed (`path_rmdir`).
        Rmdir = "rmdir",
        /// A directory is made (`path_mkdir`).
        Mkdir = "mkdir",
        /// A device node, FIFO or socket is made (`path_mknod`).
        Mknod = "mknod",
        /// A symbolic link is made (`path_symlink`).
        Symlink = "symlink",
        /// A file gets a second name (`path_link`).
        Link = "link",
        /// A file gets another name (`path_rename`).
        Rename = "rename",
        /// Permission bits change (`path_chmod`).
        Chmod = "chmod",
        /// Owner or group change (`path_chown`).
        Chown = "chown",
        /// The length changes by path (`path_truncate`).
        Truncate = "truncate",
        /// An extended attribute or ACL is set or removed (`inode_setxattr`, …).
        Xattr = "xattr",
    }
}

operations! {
    /// What is done with a socket, apart from connecting it.
    SocketOperation {
        /// It is created (`socket_create`).
        Create = "socket",
        /// It gets a local address (`socket_bind`).
        Bind = "bind",
        /// It waits for connections (`socket_listen`).
        Listen = "listen",
        /// A message is sent to an address (`socket_sendmsg`).
        Send = "send",
    }
}

operations! {
    /// What is done to another task.
    TaskOperation {
        /// It is traced, or its memory, descriptors or links are reached (`ptrace_access_check`).
        Ptrace = "ptrace",
        /// It is sent a signal (`task_kill`).
        Signal = "signal",
    }
}

operations! {
    /// A use of the kernel that reaches beyond files and sockets.
    SystemOperation {
        /// A user namespace is made (`userns_create`).
        UserNamespace = "user_namespace",
        /// Another namespace is made or entered (`task_alloc`, `capable`).
        Namespace = "namespace",
        /// Something is mounted, moved or remounted (`sb_mount`, `move_mount`, `sb_remount`).
        Mount = "mount",
        /// Something is unmounted (`sb_umount`).
        Unmount = "unmount",
        /// The root directory of the process changes (`path_chroot`, `sb_pivotroot`).
        Chroot = "chroot",
        /// A kernel module is loaded (`kernel_read_file`, `kernel_load_data`).
        Module = "module",
        /// Another kernel is loaded (`kernel_read_file`, `kernel_load_data`).
        Kexec = "kexec",
        /// The bpf(2) system call (`bpf`).
        Bpf = "bpf",
        /// Performance monitoring (`perf_event_open`).
        Perf = "perf",
        /// An io_uring is created or given special powers (`inode_init_security_anon`, `uring_*`).
        IoUring = "io_uring",
        /// The user or group id changes upwards (`task_fix_setuid`).
        SetId = "setid",
        /// The clock is set (`settime`).
        SetTime = "settime",
        /// A capability is used in a system call that has no hook of its own (`capable`).
        Capability = "capability",
        /// A process is steered by other means than signals and ptrace, or a terminal is typed into
        /// (`task_setnice` and its like, `task_prlimit`, `file_fcntl`, `file_ioctl`).
        Control = "control",
        /// System V shared memory, semaphores or message queues (`ipc_permission` and its like).
        Ipc = "ipc",
        /// A key or keyring of the kernel (`key_permission`, `key_alloc`).
        Keyring = "keyring",
        /// What is noted about a file changes: its times, attributes that give no rights (`inode_setattr`,
        /// `inode_setxattr`).
        Metadata = "metadata",
        /// Faults of the process's own memory are answered by the process: whoever reads that memory waits for as
        /// long as it likes (`inode_init_security_anon`).
        Userfaultfd = "userfaultfd",
    }
}
