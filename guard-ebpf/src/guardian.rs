//! Hands off Guard itself: only guard-agent may change its maps, remove its pins or look into its process.
//! For everybody, root outside of sessions included; and the pins stay closed while no guard-agent runs.
//!
//! Maps open for whoever comes first while there is no guardian: that is how the next guard-agent takes over.
//! Signals to it are not refused here: its service manager has to be able to end it, and that ends no
//! enforcement. Who can load code into the kernel is out of reach, and so is `bpf_prog`: a descriptor of a
//! program changes nothing, and listing programs is everybody's business.

use crate::{
    kernel::{BpfMap, Dentry, Mount, Task, boot_ns},
    lineage::label_of,
    maps::{GUARDIAN, is_ours},
    record,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use guard_common::{
    guardian::{
        GUARDIAN_SILENT_NS, Guardian, PINS_DEPTH, TAMPER_MAP, TAMPER_RENAME, TAMPER_RMDIR,
        TAMPER_TRACE, TAMPER_UNLINK, TAMPER_UNMOUNT,
    },
    label::Label,
};

/// `include/linux/fs.h`: the descriptor is for writing, too.
const FMODE_WRITE: u32 = 2;

/// Who guards, if others are refused anything.
#[inline(always)]
fn guardian() -> Option<Guardian> {
    GUARDIAN.get(0).copied().filter(|guardian| guardian.protects != 0)
}

/// Whether it is there, by its last sign of life.
#[inline(always)]
fn is_alive(guardian: &Guardian) -> bool {
    guardian.tgid != 0 && boot_ns().wrapping_sub(guardian.alive_ns) < GUARDIAN_SILENT_NS
}

#[inline(always)]
fn refuse(task: Task, what: u32, name: impl FnOnce(*mut u8, u32) -> i64) -> Verdict {
    let outside = Label { session: 0, flags: 0, _pad: 0 };
    record::tamper(task, &label_of(task).unwrap_or(outside), what, name);
    Verdict::Deny
}

/// Nothing has a name.
#[inline(always)]
fn unnamed(_: *mut u8, _: u32) -> i64 {
    0
}

/// A descriptor of a map is made: by its pin, by its id, or with the map.
#[lsm(hook = "bpf_map")]
pub fn bpf_map(ctx: LsmContext) -> i32 {
    bounded(reach_map(BpfMap::arg(&ctx, 0), ctx.arg(1)))
}

#[inline(always)]
fn reach_map(map: BpfMap, mode: u32) -> Verdict {
    if mode & FMODE_WRITE == 0 || !is_ours(map.address()) {
        return Verdict::Allow;
    }
    let Some(guardian) = guardian() else { return Verdict::Allow };
    let task = Task::current();
    if !is_alive(&guardian) || task.tgid() == guardian.tgid {
        return Verdict::Allow;
    }
    refuse(task, TAMPER_MAP, |to, size| map.read_name(to, size))
}

#[lsm(hook = "inode_unlink")]
pub fn pins_unlink(ctx: LsmContext) -> i32 {
    bounded(keep_pin(Dentry::arg(&ctx, 1), TAMPER_UNLINK))
}

#[lsm(hook = "inode_rmdir")]
pub fn pins_rmdir(ctx: LsmContext) -> i32 {
    bounded(keep_pin(Dentry::arg(&ctx, 1), TAMPER_RMDIR))
}

/// A pin that is moved away is gone, and so is one that another takes the place of.
#[lsm(hook = "inode_rename")]
pub fn pins_rename(ctx: LsmContext) -> i32 {
    let verdict = match keep_pin(Dentry::arg(&ctx, 1), TAMPER_RENAME) {
        Verdict::Allow => keep_pin(Dentry::arg(&ctx, 3), TAMPER_RENAME),
        verdict => verdict,
    };
    bounded(verdict)
}

#[inline(always)]
fn keep_pin(dentry: Dentry, what: u32) -> Verdict {
    // The directory: what a rename makes has no inode of its own yet.
    let is_bpffs = dentry.parent().inode().is_some_and(|inode| inode.is_bpffs());
    if !is_bpffs {
        return Verdict::Allow;
    }
    let Some(guardian) = guardian() else { return Verdict::Allow };
    let task = Task::current();
    if task.tgid() == guardian.tgid || !is_pin(&guardian, dentry) {
        return Verdict::Allow;
    }
    refuse(task, what, |to, size| dentry.read_name(to, size))
}

/// Whether it is the directory of all pins, or in it.
#[inline(always)]
fn is_pin(guardian: &Guardian, dentry: Dentry) -> bool {
    let mut at = dentry;
    for _ in 0..=PINS_DEPTH {
        if let Some(inode) = at.inode()
            && inode.ino() == guardian.pins_ino
            && inode.dev() == guardian.pins_dev
        {
            return true;
        }
        at = at.parent();
    }
    false
}

/// Whether a mount may go: not that with the pins.
#[inline(always)]
pub fn unmount(task: Task, mount: Mount) -> Verdict {
    let is_bpffs = mount.root().inode().is_some_and(|inode| inode.is_bpffs());
    if !is_bpffs {
        return Verdict::Allow;
    }
    let Some(guardian) = guardian() else { return Verdict::Allow };
    if task.tgid() == guardian.tgid {
        return Verdict::Allow;
    }
    let Some(id) = mount.id() else { return Verdict::Deny };
    let [a, b, c, d] = guardian.mounts;
    if id == 0 || (id != a && id != b && id != c && id != d) {
        return Verdict::Allow;
    }
    refuse(task, TAMPER_UNMOUNT, unnamed)
}

/// Whether somebody outside of sessions may attach to `target`: to read its memory, take its descriptors,
/// or steer it.
#[inline(always)]
pub fn attach(task: Task, target: Task) -> Verdict {
    let Some(guardian) = guardian() else { return Verdict::Allow };
    if target.tgid() != guardian.tgid || !is_alive(&guardian) {
        return Verdict::Allow;
    }
    refuse(task, TAMPER_TRACE, unnamed)
}

/// The guardian is exiting: the next one may come at once.
#[inline(always)]
pub fn left(task: Task) {
    let Some(guardian) = GUARDIAN.get_ptr_mut(0) else { return };
    // SAFETY: an array element, which is never freed. Only guard-agent writes it beside this, and this is
    // its end.
    unsafe {
        if (*guardian).tgid == task.tid() {
            (*guardian).tgid = 0;
        }
    }
}
