//! The programs of the object: which hook each is for, and what it decides.

use super::prototype::Takes::{self, Address, Number, Struct};

/// One program of the object.
pub(super) struct Spec {
    pub(super) program: &'static str,
    pub(super) hook: &'static str,
    pub(super) action: &'static str,
    /// Without it nothing else has a meaning.
    pub(super) essential: bool,
    /// Not every kernel of the matrix has the hook; without it another hook sees the same.
    pub(super) newer: bool,
    /// Another program for the same hook, as other kernels have it: at most one of the two is attached.
    pub(super) instead_of: Option<&'static str>,
    /// Which arguments of the hook it reads, and what it takes them for (K5).
    pub(super) takes: &'static [(usize, Takes)],
}

const fn spec(program: &'static str, action: &'static str) -> Spec {
    Spec {
        program,
        hook: program,
        action,
        essential: false,
        newer: false,
        instead_of: None,
        takes: &[],
    }
}

/// A further program on a hook that has one already.
const fn further(program: &'static str, hook: &'static str, action: &'static str) -> Spec {
    Spec { hook, ..spec(program, action) }
}

const fn lineage(program: &'static str) -> Spec {
    Spec { essential: true, ..spec(program, "lineage") }
}

const fn newer(program: &'static str, action: &'static str) -> Spec {
    Spec { newer: true, ..spec(program, action) }
}

impl Spec {
    const fn instead_of(self, program: &'static str) -> Self {
        Self { instead_of: Some(program), ..self }
    }

    /// The program for the same hook of other kernels, if there is one.
    pub(super) fn counterpart(&self) -> Option<&'static Self> {
        PROGRAMS.iter().find(|other| {
            other.instead_of == Some(self.program) || self.instead_of == Some(other.program)
        })
    }

    const fn takes(self, takes: &'static [(usize, Takes)]) -> Self {
        Self { takes, ..self }
    }
}

/// What no policy decides on: Guard itself is out of reach for everybody else.
pub(super) const PROTECTION: &str = "self_protection";

/// In the order of attaching: labels are inherited before anything asks for one.
pub(super) const PROGRAMS: [Spec; 76] = [
    lineage("task_alloc").takes(&[(0, Struct("task_struct")), (1, Number)]),
    lineage("bprm_committed_creds").takes(&[(0, Struct("linux_binprm"))]),
    // It keeps the second copy of a label, which most kernels need (`quirk.rs`).
    lineage("sched_process_fork").takes(&[(1, Struct("task_struct"))]),
    spec("sched_process_exit", "lineage"),
    spec("bprm_check_security", "exec").takes(&[(0, Struct("linux_binprm"))]),
    spec("bprm_creds_from_file", "exec").takes(&[(0, Struct("linux_binprm")), (1, Struct("file"))]),
    spec("file_open", "open").takes(&[(0, Struct("file"))]),
    spec("path_mknod", "open").takes(&[(0, Struct("path")), (1, Struct("dentry")), (2, Number)]),
    spec("path_unlink", "unlink").takes(&[(0, Struct("path")), (1, Struct("dentry"))]),
    spec("path_rmdir", "rmdir").takes(&[(0, Struct("path")), (1, Struct("dentry"))]),
    spec("path_mkdir", "mkdir").takes(&[(0, Struct("path")), (1, Struct("dentry"))]),
    spec("path_symlink", "symlink").takes(&[
        (0, Struct("path")),
        (1, Struct("dentry")),
        (2, Address),
    ]),
    spec("path_link", "link").takes(&[
        (0, Struct("dentry")),
        (1, Struct("path")),
        (2, Struct("dentry")),
    ]),
    spec("path_rename", "rename").takes(&[
        (0, Struct("path")),
        (1, Struct("dentry")),
        (2, Struct("path")),
        (3, Struct("dentry")),
        (4, Number),
    ]),
    spec("path_chmod", "chmod").takes(&[(0, Struct("path")), (1, Number)]),
    spec("path_chown", "chown").takes(&[(0, Struct("path")), (1, Number), (2, Number)]),
    spec("path_truncate", "truncate").takes(&[(0, Struct("path"))]),
    spec("inode_setxattr", "xattr").takes(&[(1, Struct("dentry")), (2, Address), (4, Number)]),
    spec("inode_removexattr", "xattr").takes(&[(1, Struct("dentry")), (2, Address)]),
    newer("inode_set_acl", "xattr").takes(&[
        (1, Struct("dentry")),
        (2, Address),
        (3, Struct("posix_acl")),
    ]),
    newer("inode_remove_acl", "xattr").takes(&[(1, Struct("dentry")), (2, Address)]),
    newer("inode_file_setattr", "xattr").takes(&[(0, Struct("dentry")), (1, Address)]),
    spec("file_receive", "receive").takes(&[(0, Struct("file"))]),
    spec("mmap_file", "map").takes(&[(0, Struct("file")), (2, Number), (3, Number)]),
    spec("file_mprotect", "map").takes(&[(0, Struct("vm_area_struct")), (2, Number)]),
    spec("socket_create", "socket").takes(&[(0, Number), (1, Number), (2, Number), (3, Number)]),
    spec("socket_bind", "bind").takes(&[(0, Struct("socket")), (1, Address), (2, Number)]),
    spec("socket_listen", "listen").takes(&[(0, Struct("socket"))]),
    spec("socket_connect", "connect").takes(&[(0, Struct("socket")), (1, Address), (2, Number)]),
    spec("socket_sendmsg", "send").takes(&[(0, Struct("socket")), (1, Struct("msghdr"))]),
    spec("task_kill", "signal").takes(&[(0, Struct("task_struct")), (2, Number)]),
    spec("ptrace_access_check", "ptrace").takes(&[(0, Struct("task_struct")), (1, Number)]),
    spec("task_setnice", "control").takes(&[(0, Struct("task_struct"))]),
    spec("task_setioprio", "control").takes(&[(0, Struct("task_struct"))]),
    spec("task_setscheduler", "control").takes(&[(0, Struct("task_struct"))]),
    spec("task_movememory", "control").takes(&[(0, Struct("task_struct"))]),
    spec("task_prlimit", "control").takes(&[(2, Number)]),
    spec("file_fcntl", "control").takes(&[(1, Number), (2, Number)]),
    spec("file_ioctl", "control").takes(&[(0, Struct("file")), (1, Number)]),
    newer("file_ioctl_compat", "control").takes(&[(0, Struct("file")), (1, Number)]),
    spec("capable", "capability").takes(&[(2, Number)]),
    spec("userns_create", "user_namespace"),
    spec("sb_mount", "mount").takes(&[
        (0, Address),
        (1, Struct("path")),
        (2, Address),
        (3, Number),
    ]),
    spec("move_mount", "mount").takes(&[(0, Struct("path")), (1, Struct("path"))]),
    spec("sb_umount", "unmount").takes(&[(0, Struct("vfsmount")), (1, Number)]),
    spec("sb_pivotroot", "chroot").takes(&[(0, Struct("path")), (1, Struct("path"))]),
    spec("path_chroot", "chroot").takes(&[(0, Struct("path"))]),
    spec("kernel_read_file", "module").takes(&[(0, Struct("file")), (1, Number)]),
    spec("kernel_load_data", "module").takes(&[(0, Number)]),
    spec("bpf", "bpf").takes(&[(0, Number)]),
    spec("perf_event_open", "perf"),
    spec("inode_init_security_anon", "io_uring"),
    further("userfaultfd", "inode_init_security_anon", "userfaultfd").takes(&[(1, Struct("qstr"))]),
    spec("uring_sqpoll", "io_uring"),
    spec("uring_override_creds", "io_uring"),
    spec("uring_cmd", "io_uring"),
    spec("task_fix_setuid", "setid").takes(&[(0, Struct("cred")), (1, Struct("cred"))]),
    spec("task_fix_setgid", "setid").takes(&[(0, Struct("cred")), (1, Struct("cred"))]),
    spec("settime", "settime").takes(&[(0, Address)]),
    spec("ipc_permission", "ipc"),
    spec("shm_alloc_security", "ipc"),
    spec("sem_alloc_security", "ipc"),
    spec("msg_queue_alloc_security", "ipc"),
    spec("shm_shmctl", "ipc"),
    spec("sem_semctl", "ipc"),
    spec("msg_queue_msgctl", "ipc"),
    spec("inode_create", "ipc"),
    spec("inode_unlink", "ipc"),
    further("pins_unlink", "inode_unlink", PROTECTION).takes(&[(1, Struct("dentry"))]),
    further("pins_rmdir", "inode_rmdir", PROTECTION).takes(&[(1, Struct("dentry"))]),
    further("pins_rename", "inode_rename", PROTECTION)
        .takes(&[(1, Struct("dentry")), (3, Struct("dentry"))]),
    spec("bpf_map", PROTECTION).takes(&[(0, Struct("bpf_map")), (1, Number)]),
    spec("key_permission", "keyring"),
    spec("key_alloc", "keyring"),
    spec("inode_setattr", "metadata").takes(&[(1, Struct("dentry")), (2, Struct("iattr"))]),
    further("inode_setattr_unmapped", "inode_setattr", "metadata")
        .instead_of("inode_setattr")
        .takes(&[(0, Struct("dentry")), (1, Struct("iattr"))]),
];

#[cfg(test)]
mod tests {
    use super::PROGRAMS;

    #[test]
    fn what_keeps_and_inherits_labels_is_essential_and_comes_first() {
        let essential: Vec<_> =
            PROGRAMS.iter().filter(|spec| spec.essential).map(|spec| spec.program).collect();
        assert_eq!(essential, ["task_alloc", "bprm_committed_creds", "sched_process_fork"]);
        for (spec, program) in PROGRAMS.iter().zip(essential) {
            assert_eq!(spec.program, program);
        }
    }

    #[test]
    fn programs_for_different_kernels_know_each_other() {
        for spec in PROGRAMS.iter().filter(|spec| spec.instead_of.is_some()) {
            let first = spec.counterpart().expect("it names a program");
            assert_eq!(first.counterpart().map(|spec| spec.program), Some(spec.program));
            assert_eq!((first.hook, first.action), (spec.hook, spec.action));
            assert_ne!(first.takes, spec.takes);
        }
    }
}
