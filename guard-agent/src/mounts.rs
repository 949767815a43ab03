//! Mounts as `/proc/PID/mountinfo` tells them, and device numbers as the kernel itself has them.

use std::{fs, io, path::PathBuf};

/// The mounts that this process sees.
pub(crate) const MOUNTS: &str = "/proc/self/mountinfo";
/// Bits of a minor device number in the kernel's own `dev_t` (`include/linux/kdev_t.h`); what stat(2)
/// returns is packed otherwise.
const MINOR_BITS: u32 = 20;

/// A line of mountinfo (Documentation/filesystems/proc.rst, 3.5).
pub(crate) struct Mount {
    pub(crate) id: u64,
    /// Of the superblock: what an inode's `i_sb->s_dev` is, also where stat(2) makes numbers up (btrfs).
    pub(crate) dev: u64,
    pub(crate) root: String,
    pub(crate) at: PathBuf,
    pub(crate) kind: String,
}

/// The mounts of a mountinfo file; lines that are none are left out.
pub(crate) fn mounts(path: &str) -> io::Result<Vec<Mount>> {
    Ok(fs::read_to_string(path)?.lines().filter_map(mount).collect())
}

fn mount(line: &str) -> Option<Mount> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let id = fields.next()?.parse().ok()?;
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    Some(Mount {
        id,
        dev: kernel_dev(major.parse().ok()?, minor.parse().ok()?),
        root: fields.next()?.to_owned(),
        at: PathBuf::from(fields.next()?),
        kind: kind.split(' ').next()?.to_owned(),
    })
}

/// The kernel's own number of a device.
pub(crate) fn kernel_dev(major: u32, minor: u32) -> u64 {
    u64::from(major) << MINOR_BITS | u64::from(minor)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn a_mounts_device_is_packed_as_the_kernel_packs_it() {
        let line = "36 35 98:1 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = super::mount(line).unwrap();
        assert_eq!((mount.id, mount.dev), (36, 98 << 20 | 1));
        assert_eq!((mount.root.as_str(), mount.kind.as_str()), ("/mnt1", "ext3"));
        assert_eq!(mount.at, Path::new("/mnt2"));
        assert!(super::mount("36 35 98 /a /b rw - ext3").is_none());
    }
}
