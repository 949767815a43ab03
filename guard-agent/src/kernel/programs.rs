//! The programs of the object: which hook each is for, and what it decides.

/// One program of the object.
pub(super) struct Spec {
    pub(super) program: &'static str,
    pub(super) hook: &'static str,
    pub(super) action: &'static str,
    /// Without it nothing else has a meaning.
    pub(super) essential: bool,
    /// Not every kernel of the matrix has the hook; without it another hook sees the same.
    pub(super) newer: bool,
}

const fn spec(program: &'static str, action: &'static str) -> Spec {
    Spec { program, hook: program, action, essential: false, newer: false }
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

/// In the order of attaching: labels are inherited before anything asks for one.
pub(super) const PROGRAMS: [Spec; 57] = [
    lineage("task_alloc"),
    lineage("bprm_committed_creds"),
    // It keeps the second copy of a label, which a kernel before 6.12 needs.
    lineage("sched_process_fork"),
    spec("sched_process_exit", "lineage"),
    spec("bprm_check_security", "exec"),
    further("exec_loader", "file_open", "exec"),
    spec("file_open", "open"),
    spec("path_mknod", "open"),
    spec("path_unlink", "unlink"),
    spec("path_rmdir", "rmdir"),
    spec("path_mkdir", "mkdir"),
    spec("path_symlink", "symlink"),
    spec("path_link", "link"),
    spec("path_rename", "rename"),
    spec("path_chmod", "chmod"),
    spec("path_chown", "chown"),
    spec("path_truncate", "truncate"),
    spec("inode_setxattr", "xattr"),
    spec("inode_removexattr", "xattr"),
    newer("inode_set_acl", "xattr"),
    newer("inode_remove_acl", "xattr"),
    spec("file_receive", "receive"),
    spec("mmap_file", "map"),
    spec("file_mprotect", "map"),
    spec("socket_create", "socket"),
    spec("socket_bind", "bind"),
    spec("socket_listen", "listen"),
    spec("socket_connect", "connect"),
    spec("socket_sendmsg", "send"),
    spec("task_kill", "signal"),
    spec("ptrace_access_check", "ptrace"),
    spec("task_setnice", "control"),
    spec("task_setioprio", "control"),
    spec("task_setscheduler", "control"),
    spec("task_movememory", "control"),
    spec("task_prlimit", "control"),
    spec("file_fcntl", "control"),
    spec("file_ioctl", "control"),
    newer("file_ioctl_compat", "control"),
    spec("capable", "capability"),
    spec("userns_create", "user_namespace"),
    spec("sb_mount", "mount"),
    spec("move_mount", "mount"),
    spec("sb_umount", "unmount"),
    spec("sb_pivotroot", "chroot"),
    spec("path_chroot", "chroot"),
    spec("kernel_read_file", "module"),
    spec("kernel_load_data", "module"),
    spec("bpf", "bpf"),
    spec("perf_event_open", "perf"),
    spec("inode_init_security_anon", "io_uring"),
    spec("uring_sqpoll", "io_uring"),
    spec("uring_override_creds", "io_uring"),
    spec("uring_cmd", "io_uring"),
    spec("task_fix_setuid", "setid"),
    spec("task_fix_setgid", "setid"),
    spec("settime", "settime"),
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
}
