// CO-RE getters: every kernel field that the programs read.
//
// rustc emits no CO-RE relocations, so fields are read through these always-inline functions; they are
// compiled to bitcode, linked into the Rust programs by bpf-linker and relocated by the loader against
// the running kernel's BTF. A fixed offset would read garbage on the next kernel without a word.
// Direct loads (no probe_read) keep the verifier's typed pointers: bpf_d_path needs them.
//
// Only the fields that are read are declared; preserve_access_index makes the rest irrelevant.
#define CORE __attribute__((preserve_access_index))
#define GETTER __attribute__((always_inline))

typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short u16;

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

struct super_block {
	u32 s_dev;
	unsigned long s_magic;
} CORE;

struct inode {
	u16 i_mode;
	kuid_t i_uid;
	kgid_t i_gid;
	struct super_block *i_sb;
	u64 i_ino;
	long long i_size;
	u32 i_nlink;
	u32 i_generation;
} CORE;

// What says when an inode was last changed has had three forms since 6.1.
struct timespec64 {
	long long tv_sec;
	long tv_nsec;
} CORE;

struct inode___6_1 {
	struct timespec64 i_ctime;
} CORE;

struct inode___6_6 {
	struct timespec64 __i_ctime;
} CORE;

struct inode___6_11 {
	long long i_ctime_sec;
	u32 i_ctime_nsec;
} CORE;

struct qstr {
	u32 len;
	const unsigned char *name;
} CORE;

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
} CORE;

struct vfsmount {
	struct dentry *mnt_root;
} CORE;

struct mount {
	int mnt_id;
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
} CORE;

// A map of BPF programs.
struct bpf_map {
	char name[16];
} CORE;

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
} CORE;

struct file {
	u32 f_mode;
	u32 f_flags;
	struct path f_path;
	struct inode *f_inode;
} CORE;

// Declared by its name alone: the halves of 6.1 have the room of this number.
typedef struct {
	u64 val;
} kernel_cap_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t suid;
	kgid_t sgid;
	kuid_t euid;
	kgid_t egid;
	kuid_t fsuid;
	kgid_t fsgid;
	kernel_cap_t cap_permitted;
} CORE;

struct posix_acl_entry {
	u64 word;
};

struct posix_acl {
	u32 a_count;
	struct posix_acl_entry a_entries[];
} CORE;

struct iattr {
	u32 ia_valid;
	struct timespec64 ia_atime;
	struct timespec64 ia_mtime;
} CORE;

struct linux_binprm {
	struct file *file;
	const char *filename;
	const char *interp;
	struct cred *cred;
	unsigned long p;
	int argc, envc;
	char buf[256];
} CORE;

struct fs_struct {
	struct path root;
} CORE;

struct vm_area_struct {
	unsigned long vm_flags;
	struct file *vm_file;
} CORE;

struct thread_info {
	u32 status;
} CORE;

struct task_struct {
	struct thread_info thread_info;
	u32 flags;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	u64 start_boottime;
	const struct cred *real_cred;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	void *bpf_storage;
} CORE;

struct pt_regs {
	u64 r10;
	u64 si;
	u64 dx;
	u64 orig_ax;
} CORE;

struct in6_addr {
	u64 words[2];
};

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	u16 skc_family;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} CORE;

struct sock {
	struct sock_common __sk_common;
	u16 sk_protocol;
} CORE;

struct msghdr {
	void *msg_name;
	int msg_namelen;
} CORE;

struct socket {
	short type;
	struct sock *sk;
} CORE;

GETTER u32 core_inode_dev(struct inode *i) { return i->i_sb->s_dev; }
GETTER u64 core_inode_ino(struct inode *i) { return i->i_ino; }
GETTER u64 core_inode_size(struct inode *i) { return i->i_size; }
GETTER u32 core_inode_generation(struct inode *i) { return i->i_generation; }
GETTER u32 core_inode_uid(struct inode *i) { return i->i_uid.val; }
GETTER u32 core_inode_gid(struct inode *i) { return i->i_gid.val; }
GETTER u32 core_inode_mode(struct inode *i) { return i->i_mode; }
#define EXISTS(field) __builtin_preserve_field_info(field, 2)

// 0 if it is in none of the forms that we know.
GETTER u64 core_inode_changed(struct inode *i)
{
	struct inode___6_11 *a = (void *)i;
	struct inode___6_6 *b = (void *)i;
	struct inode___6_1 *c = (void *)i;

	// From 6.13 on the highest bit says that somebody has looked at the time (I_CTIME_QUERIED): no change.
	if (EXISTS(a->i_ctime_sec))
		return (u64)a->i_ctime_sec * 1000000000 + (a->i_ctime_nsec & 0x7fffffff);
	if (EXISTS(b->__i_ctime))
		return (u64)b->__i_ctime.tv_sec * 1000000000 + b->__i_ctime.tv_nsec;
	if (EXISTS(c->i_ctime))
		return (u64)c->i_ctime.tv_sec * 1000000000 + c->i_ctime.tv_nsec;
	return 0;
}

GETTER u32 core_inode_nlink(struct inode *i) { return i->i_nlink; }

// *_MAGIC of include/uapi/linux/magic.h.
// 0 if it is of pidfs.
GETTER u64 core_inode_not_pidfs(struct inode *i) { return i->i_sb->s_magic ^ 0x50494446; }
GETTER u32 core_inode_is_procfs(struct inode *i) { return i->i_sb->s_magic == 0x9fa0; }
GETTER u32 core_inode_is_fuse(struct inode *i) { return i->i_sb->s_magic == 0x65735546; }
GETTER u32 core_inode_is_bpffs(struct inode *i) { return i->i_sb->s_magic == 0xcafe4a11; }

GETTER struct inode *core_file_inode(struct file *f) { return f->f_inode; }
GETTER u32 core_file_flags(struct file *f) { return f->f_flags; }
GETTER u32 core_file_mode(struct file *f) { return f->f_mode; }
GETTER void *core_file_path(struct file *f) { return &f->f_path; }
GETTER struct dentry *core_file_dentry(struct file *f) { return f->f_path.dentry; }

GETTER struct dentry *core_path_dentry(struct path *p) { return p->dentry; }
GETTER struct vfsmount *core_path_mnt(struct path *p) { return p->mnt; }
GETTER struct inode *core_dentry_inode(struct dentry *d) { return d->d_inode; }
GETTER struct dentry *core_dentry_parent(struct dentry *d) { return d->d_parent; }
GETTER u32 core_dentry_name_len(struct dentry *d) { return d->d_name.len; }
GETTER const unsigned char *core_dentry_name(struct dentry *d) { return d->d_name.name; }

// Offsets instead of loads for the mount walk: its pointers come out of probe_read and have no type.
GETTER u64 core_mount_offset_of_mnt(void) { return __builtin_preserve_field_info(((struct mount *)0)->mnt, 0); }
GETTER u64 core_mount_offset_of_parent(void) { return __builtin_preserve_field_info(((struct mount *)0)->mnt_parent, 0); }
GETTER u64 core_mount_offset_of_mountpoint(void) { return __builtin_preserve_field_info(((struct mount *)0)->mnt_mountpoint, 0); }
GETTER u64 core_mount_offset_of_id(void) { return __builtin_preserve_field_info(((struct mount *)0)->mnt_id, 0); }
GETTER u64 core_vfsmount_offset_of_root(void) { return __builtin_preserve_field_info(((struct vfsmount *)0)->mnt_root, 0); }
GETTER struct dentry *core_vfsmount_root(struct vfsmount *m) { return m->mnt_root; }
GETTER u64 core_dentry_offset_of_parent(void) { return __builtin_preserve_field_info(((struct dentry *)0)->d_parent, 0); }
GETTER u64 core_dentry_offset_of_name(void) { return __builtin_preserve_field_info(((struct dentry *)0)->d_name.name, 0); }

GETTER const unsigned char *core_qstr_name(struct qstr *q) { return q->name; }
GETTER u32 core_qstr_len(struct qstr *q) { return q->len; }

GETTER void *core_map_name(struct bpf_map *m) { return &m->name; }

GETTER u32 core_acl_count(struct posix_acl *a) { return a->a_count; }
GETTER u64 core_acl_offset_of_entries(void) { return __builtin_preserve_field_info(((struct posix_acl *)0)->a_entries, 0); }

GETTER u32 core_iattr_valid(struct iattr *a) { return a->ia_valid; }
GETTER u64 core_iattr_atime_sec(struct iattr *a) { return a->ia_atime.tv_sec; }
GETTER u64 core_iattr_atime_nsec(struct iattr *a) { return a->ia_atime.tv_nsec; }
GETTER u64 core_iattr_mtime_sec(struct iattr *a) { return a->ia_mtime.tv_sec; }
GETTER u64 core_iattr_mtime_nsec(struct iattr *a) { return a->ia_mtime.tv_nsec; }

GETTER struct file *core_bprm_file(struct linux_binprm *b) { return b->file; }
// The kernel sets interp apart from filename once a script (or binfmt_misc) has named its interpreter.
// Compared, not subtracted: to 7.3 these are pointers, on which there is no arithmetic.
GETTER u32 core_bprm_is_interpreter(struct linux_binprm *b) { return b->interp != b->filename; }
// The first four bytes of the file.
GETTER u32 core_bprm_magic(struct linux_binprm *b) { return *(u32 *)b->buf; }
// Addresses, not loads: 6.1 has an array there, which may not be loaded as one number.
GETTER u64 core_bprm_permitted(struct linux_binprm *b) { return (u64)&b->cred->cap_permitted; }
GETTER u64 core_bprm_p(struct linux_binprm *b) { return b->p; }
GETTER u32 core_bprm_argc(struct linux_binprm *b) { return b->argc; }
GETTER u32 core_bprm_envc(struct linux_binprm *b) { return b->envc; }

GETTER u32 core_task_flags(struct task_struct *t) { return t->flags; }
GETTER u32 core_task_pid(struct task_struct *t) { return t->pid; }
GETTER u32 core_task_tgid(struct task_struct *t) { return t->tgid; }
GETTER u32 core_task_parent_tgid(struct task_struct *t) { return t->real_parent->tgid; }
GETTER u64 core_task_start(struct task_struct *t) { return t->start_boottime; }
GETTER u32 core_task_uid(struct task_struct *t) { return t->real_cred->euid.val; }
GETTER u64 core_task_permitted(struct task_struct *t) { return (u64)&t->cred->cap_permitted; }
GETTER u32 core_task_gid(struct task_struct *t) { return t->real_cred->egid.val; }
GETTER char *core_task_comm(struct task_struct *t) { return t->comm; }
GETTER u64 core_task_storage(struct task_struct *t) { return (u64)t->bpf_storage; }
GETTER u32 core_task_status(struct task_struct *t) { return t->thread_info.status; }

GETTER u32 core_cred_uid(struct cred *c) { return c->uid.val; }
GETTER u32 core_cred_euid(struct cred *c) { return c->euid.val; }
GETTER u32 core_cred_suid(struct cred *c) { return c->suid.val; }
GETTER u32 core_cred_fsuid(struct cred *c) { return c->fsuid.val; }
GETTER u32 core_cred_gid(struct cred *c) { return c->gid.val; }
GETTER u32 core_cred_egid(struct cred *c) { return c->egid.val; }
GETTER u32 core_cred_sgid(struct cred *c) { return c->sgid.val; }
GETTER u32 core_cred_fsgid(struct cred *c) { return c->fsgid.val; }

GETTER u64 core_task_root_dentry(struct task_struct *t) { return (u64)t->fs->root.dentry; }
GETTER u64 core_task_root_mnt(struct task_struct *t) { return (u64)t->fs->root.mnt; }

GETTER struct file *core_vma_file(struct vm_area_struct *v) { return v->vm_file; }
GETTER u64 core_vma_flags(struct vm_area_struct *v) { return v->vm_flags; }

GETTER u64 core_regs_si(struct pt_regs *r) { return r->si; }
GETTER u64 core_regs_dx(struct pt_regs *r) { return r->dx; }
GETTER u64 core_regs_r10(struct pt_regs *r) { return r->r10; }
GETTER u64 core_regs_orig_ax(struct pt_regs *r) { return r->orig_ax; }

GETTER u32 core_socket_type(struct socket *s) { return (u16)s->type; }
GETTER struct sock *core_socket_sock(struct socket *s) { return s->sk; }
GETTER u32 core_sock_family(struct sock *k) { return k->__sk_common.skc_family; }
GETTER u32 core_sock_port(struct sock *k) { return k->__sk_common.skc_num; }
GETTER u32 core_sock_address(struct sock *k) { return k->__sk_common.skc_rcv_saddr; }
// As it is in an address: in network order.
GETTER u32 core_sock_peer_port(struct sock *k) { return k->__sk_common.skc_dport; }
GETTER u32 core_sock_peer(struct sock *k) { return k->__sk_common.skc_daddr; }
GETTER void *core_sock_peer6(struct sock *k) { return &k->__sk_common.skc_v6_daddr; }
GETTER void *core_sock_address6(struct sock *k) { return &k->__sk_common.skc_v6_rcv_saddr; }
GETTER void *core_msg_name(struct msghdr *m) { return m->msg_name; }
GETTER u32 core_msg_name_len(struct msghdr *m) { return m->msg_namelen; }
GETTER u32 core_sock_protocol(struct sock *k) { return k->sk_protocol; }

// core has no atomics for this target; the instructions exist.
GETTER u64 atomic_fetch_add(u64 *to, u64 by) { return __sync_fetch_and_add(to, by); }
GETTER u64 atomic_replace(u64 *at, u64 old, u64 by) { return __sync_val_compare_and_swap(at, old, by); }
