//! Mounts as `/proc/PID/mountinfo` tells them, and device numbers as the kernel itself has them.

use std::{ffi::OsString, fs, io, os::unix::ffi::OsStringExt as _, path::PathBuf};

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
    /// Which directory (or file) of the file system is mounted.
    pub(crate) root: PathBuf,
    /// Where, from the root of the process whose mountinfo it is.
    pub(crate) at: PathBuf,
    pub(crate) kind: String,
}

/// The mounts of a mountinfo file; lines that are none are left out.
pub(crate) fn mounts(path: &str) -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read(path)?))
}

/// The mounts of a mountinfo file's content.
pub(crate) fn parse(bytes: &[u8]) -> Vec<Mount> {
    bytes.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

fn mount(line: &[u8]) -> Option<Mount> {
    // Blanks in names are escaped, so the first one of these is the separator.
    let at = line.windows(3).position(|three| three == b" - ")?;
    let (mount, kind) = (&line[..at], &line[at + 3..]);
    let mut fields = mount.split(|byte| *byte == b' ');
    let id = text(fields.next()?)?.parse().ok()?;
    let (major, minor) = text(fields.nth(1)?)?.split_once(':')?;
    Some(Mount {
        id,
        dev: kernel_dev(major.parse().ok()?, minor.parse().ok()?),
        root: unescaped(fields.next()?),
        at: unescaped(fields.next()?),
        kind: text(kind.split(|byte| *byte == b' ').next()?)?.to_owned(),
    })
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A name without the escapes of `mangle_path` (`fs/seq_file.c`): a backslash and three octal digits.
fn unescaped(name: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, more @ ..] = rest {
        let digits = more.get(..3).and_then(text);
        let code = digits.filter(|_| *first == b'\\').map(|digits| u8::from_str_radix(digits, 8));
        match code {
            Some(Ok(byte)) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// The kernel's own number of a device.
pub(crate) const fn kernel_dev(major: u32, minor: u32) -> u64 {
    (major as u64) << MINOR_BITS | minor as u64
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

    #[test]
    fn names_of_mounts_are_bytes_whose_escapes_are_undone() {
        let line = b"36 35 98:1 /a\\040b /m\\134040\\012\xff - x rw - ext4 /dev/x rw\nnone\n";
        let mounts = super::parse(line);
        assert_eq!(mounts.len(), 1);
        assert_eq!((mounts[0].root.as_path(), mounts[0].kind.as_str()), (Path::new("/a b"), "x"));
        assert_eq!(mounts[0].at, Path::new(OsStr::from_bytes(b"/m\\040\n\xff")));
        for name in [&b"a\\"[..], b"a\\9", b"\\777", b"\\04"] {
            assert_eq!(super::unescaped(name).as_os_str().as_bytes(), name);
        }
    }

    #[test]
    fn a_mounts_device_is_packed_as_the_kernel_packs_it() {
        let line =
            b"36 35 98:1 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = super::mount(line).unwrap();
        assert_eq!((mount.id, mount.dev), (36, 98 << 20 | 1));
        assert_eq!((mount.root.as_path(), mount.kind.as_str()), (Path::new("/mnt1"), "ext3"));
        assert_eq!(mount.at, Path::new("/mnt2"));
        assert!(super::mount(b"36 35 98 /a /b rw - ext3").is_none());
    }
}
