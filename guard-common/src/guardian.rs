//! guard-agent as the programs know it: the one process that may change Guard's maps and remove its pins
//! (map `GUARDIAN`, index 0).
//!
//! Every ABI shares the map, so its layout stays as it is: a version that follows another one has to become
//! the guardian before it may drop the other's pins.

/// Who guards, and what.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guardian {
    /// Process id of guard-agent in the initial pid namespace; the kernel writes 0 when it exits.
    pub tgid: u32,
    /// 0: others are refused nothing (`--danger-no-self-protection`, or no guard-agent was there yet).
    pub protects: u32,
    /// `CLOCK_BOOTTIME` of its last sign of life, ns.
    pub alive_ns: u64,
    /// Kernel device number of the bpf file system with the pins.
    pub pins_dev: u64,
    /// Inode of the directory that all pins are below.
    pub pins_ino: u64,
    /// Ids of the mounts of that file system; 0: none.
    pub mounts: [u32; MOUNTS_MAX],
}

/// Most mounts of the bpf file system that are kept: the host's, that of guard-agent's own mount namespace,
/// and as many bind mounts.
pub const MOUNTS_MAX: usize = 4;

/// A guardian that gives no sign of life for this long is taken for dead, so that one whose end the kernel
/// did not see cannot keep its successor out. It gives one every second; emulation is slow.
pub const GUARDIAN_SILENT_NS: u64 = 15 * 1_000_000_000;

/// Deepest pin below the directory of all pins: `ABI/links-…/absent/PROGRAM`.
pub const PINS_DEPTH: usize = 4;

/// Bytes of a name in a record about tampering, with its NUL; of a longer one these are the first.
pub const TAMPER_NAME_BYTES: usize = 64;

/// A descriptor with which a map can be changed; the name is the map's.
pub const TAMPER_MAP: u32 = 1;
/// A pin is removed; the name is the pin's.
pub const TAMPER_UNLINK: u32 = 2;
/// A directory of pins is removed; the name is its own.
pub const TAMPER_RMDIR: u32 = 3;
/// A pin or a directory is renamed or replaced; the name is that before.
pub const TAMPER_RENAME: u32 = 4;
/// The bpf file system is unmounted; no name.
pub const TAMPER_UNMOUNT: u32 = 5;
/// guard-agent is traced, or its memory or descriptors are reached for; no name.
pub const TAMPER_TRACE: u32 = 6;

/// Body of an attempt that was refused. The header's session is 0 where the task is in none.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TamperBody {
    /// `TAMPER_*`.
    pub what: u32,
    /// Bytes of `name` with its NUL; 0: none.
    pub name_len: u32,
    /// Of what.
    pub name: [u8; TAMPER_NAME_BYTES],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Guardian>() == 48);
    assert!(offset_of!(Guardian, protects) == 4);
    assert!(offset_of!(Guardian, alive_ns) == 8);
    assert!(offset_of!(Guardian, pins_dev) == 16);
    assert!(offset_of!(Guardian, pins_ino) == 24);
    assert!(offset_of!(Guardian, mounts) == 32);
    assert!(size_of::<TamperBody>() == 8 + TAMPER_NAME_BYTES);
    assert!(offset_of!(TamperBody, name_len) == 4);
    assert!(offset_of!(TamperBody, name) == 8);
};
