//! The CO-RE getters of `c/core.c`: declarations only.

use aya_ebpf::cty::c_void;

/// A kernel pointer; its type is what the verifier knows of it.
pub(super) type Raw = *const c_void;

unsafe extern "C" {
    pub(super) fn core_inode_dev(inode: Raw) -> u32;
    pub(super) fn core_inode_ino(inode: Raw) -> u64;
    pub(super) fn core_inode_generation(inode: Raw) -> u32;
    pub(super) fn core_inode_uid(inode: Raw) -> u32;
    pub(super) fn core_inode_changed(inode: Raw) -> u64;
    pub(super) fn core_inode_gid(inode: Raw) -> u32;
    pub(super) fn core_inode_mode(inode: Raw) -> u32;
    pub(super) fn core_inode_nlink(inode: Raw) -> u32;
    pub(super) fn core_file_inode(file: Raw) -> Raw;
    pub(super) fn core_file_flags(file: Raw) -> u32;
    pub(super) fn core_file_mode(file: Raw) -> u32;
    pub(super) fn core_file_path(file: Raw) -> Raw;
    pub(super) fn core_file_dentry(file: Raw) -> Raw;
    pub(super) fn core_path_dentry(path: Raw) -> Raw;
    pub(super) fn core_path_mnt(path: Raw) -> Raw;
    pub(super) fn core_dentry_inode(dentry: Raw) -> Raw;
    pub(super) fn core_dentry_parent(dentry: Raw) -> Raw;
    pub(super) fn core_dentry_name_len(dentry: Raw) -> u32;
    pub(super) fn core_dentry_name(dentry: Raw) -> Raw;
    pub(super) fn core_mount_offset_of_mnt() -> u64;
    pub(super) fn core_mount_offset_of_parent() -> u64;
    pub(super) fn core_mount_offset_of_mountpoint() -> u64;
    pub(super) fn core_vfsmount_offset_of_root() -> u64;
    pub(super) fn core_vfsmount_root(mnt: Raw) -> Raw;
    pub(super) fn core_dentry_offset_of_parent() -> u64;
    pub(super) fn core_dentry_offset_of_name() -> u64;
    pub(super) fn core_inode_is_procfs(inode: Raw) -> u32;
    pub(super) fn core_task_root_dentry(task: Raw) -> u64;
    pub(super) fn core_task_root_mnt(task: Raw) -> u64;
    pub(super) fn core_vma_file(vma: Raw) -> Raw;
    pub(super) fn core_vma_flags(vma: Raw) -> u64;
    pub(super) fn core_msg_name(msg: Raw) -> Raw;
    pub(super) fn core_msg_name_len(msg: Raw) -> u32;
    pub(super) fn core_sock_port(sock: Raw) -> u32;
    pub(super) fn core_sock_address(sock: Raw) -> u32;
    pub(super) fn core_sock_address6(sock: Raw) -> Raw;
    pub(super) fn core_acl_count(acl: Raw) -> u32;
    pub(super) fn core_acl_offset_of_entries() -> u64;
    pub(super) fn core_bprm_file(bprm: Raw) -> Raw;
    pub(super) fn core_bprm_is_interpreter(bprm: Raw) -> u32;
    pub(super) fn core_bprm_magic(bprm: Raw) -> u32;
    pub(super) fn core_bprm_p(bprm: Raw) -> u64;
    pub(super) fn core_bprm_argc(bprm: Raw) -> u32;
    pub(super) fn core_bprm_envc(bprm: Raw) -> u32;
    pub(super) fn core_task_flags(task: Raw) -> u32;
    pub(super) fn core_task_pid(task: Raw) -> u32;
    pub(super) fn core_task_tgid(task: Raw) -> u32;
    pub(super) fn core_task_parent_tgid(task: Raw) -> u32;
    pub(super) fn core_task_start(task: Raw) -> u64;
    pub(super) fn core_task_status(task: Raw) -> u32;
    pub(super) fn core_task_uid(task: Raw) -> u32;
    pub(super) fn core_task_gid(task: Raw) -> u32;
    pub(super) fn core_task_comm(task: Raw) -> Raw;
    pub(super) fn core_cred_uid(cred: Raw) -> u32;
    pub(super) fn core_cred_euid(cred: Raw) -> u32;
    pub(super) fn core_cred_suid(cred: Raw) -> u32;
    pub(super) fn core_cred_fsuid(cred: Raw) -> u32;
    pub(super) fn core_cred_gid(cred: Raw) -> u32;
    pub(super) fn core_cred_egid(cred: Raw) -> u32;
    pub(super) fn core_cred_sgid(cred: Raw) -> u32;
    pub(super) fn core_cred_fsgid(cred: Raw) -> u32;
    pub(super) fn core_regs_si(regs: Raw) -> u64;
    pub(super) fn core_regs_dx(regs: Raw) -> u64;
    pub(super) fn core_regs_r10(regs: Raw) -> u64;
    pub(super) fn core_regs_orig_ax(regs: Raw) -> u64;
    pub(super) fn core_socket_type(socket: Raw) -> u32;
    pub(super) fn core_socket_sock(socket: Raw) -> Raw;
    pub(super) fn core_sock_family(sock: Raw) -> u32;
    pub(super) fn core_sock_protocol(sock: Raw) -> u32;
    pub(super) fn atomic_fetch_add(to: *mut u64, by: u64) -> u64;
}
