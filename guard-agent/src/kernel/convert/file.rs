//! Files and names of an action.

use guard_common::{
    decode::HeldFile,
    hold::{
        ACCESS_APPEND, ACCESS_CREATE, ACCESS_READ, ACCESS_TMPFILE, ACCESS_TRUNCATE, ACCESS_WRITE,
        ActionKey, KIND_CHMOD, KIND_CHOWN, KIND_LINK, KIND_MKDIR, KIND_MKNOD, KIND_OPEN,
        KIND_RENAME, KIND_RMDIR, KIND_SYMLINK, KIND_TRUNCATE, KIND_UNLINK, KIND_XATTR,
        OBJECT_EXTRA,
    },
};
use guard_model::{ChangeOperation, FileAccess, FileRef, RawText};

/// What `bpf_d_path` writes before the path of a file outside the task's root.
const UNREACHABLE: &[u8] = b"(unreachable)";

/// Whether the object is yet to be made in its directory.
pub(super) fn is_made(key: &ActionKey) -> bool {
    key.kind == KIND_OPEN && key.access & ACCESS_CREATE != 0
}

/// Whether the record's name is the last component of the path.
pub(super) fn named(key: &ActionKey) -> bool {
    matches!(
        key.kind,
        KIND_UNLINK | KIND_RMDIR | KIND_MKDIR | KIND_MKNOD | KIND_SYMLINK | KIND_RENAME
    )
}

/// The whole path: walked or from `bpf_d_path`, with the record's name at its end if it is `named`.
pub(super) fn path(held: &HeldFile<'_>, named: bool) -> Result<Vec<u8>, String> {
    let directory = match held.components {
        Some(components) => Ok(join_components(components)),
        None => path_or_error(held.path),
    };
    match (named, held.name) {
        (true, Some(name)) => directory.map(|directory| child(&directory, name)),
        (true, None) => Err("the name could not be read".to_owned()),
        (false, _) => directory,
    }
}

/// The second name of a link or rename; the target of a symbolic link is a text.
pub(super) fn second(
    key: &ActionKey,
    other: Option<&[u8]>,
    other_name: Option<&[u8]>,
) -> (Option<FileRef>, RawText) {
    if key.kind == KIND_SYMLINK {
        return (None, RawText::new(other.unwrap_or_default()));
    }
    let path = match (other, other_name) {
        (Some(other), Some(name)) => Ok(child(&join_components(other), name)),
        (None, _) => Err("the directory could not be walked".to_owned()),
        (_, None) => Err("the new name could not be read".to_owned()),
    };
    let (path, path_error) = match path {
        Ok(path) => (RawText::new(path), None),
        Err(why) => (RawText::default(), Some(why)),
    };
    let dev = key.file().unwrap_or_default().dev;
    let to = FileRef { path, path_error, dev, ino: 0, generation: 0, owner_uid: u32::MAX, mode: 0 };
    (Some(to), RawText::default())
}

/// The change that a kind is.
pub(super) fn change_operation(kind: u32) -> Option<ChangeOperation> {
    Some(match kind {
        KIND_UNLINK => ChangeOperation::Unlink,
        KIND_RMDIR => ChangeOperation::Rmdir,
        KIND_MKDIR => ChangeOperation::Mkdir,
        KIND_MKNOD => ChangeOperation::Mknod,
        KIND_SYMLINK => ChangeOperation::Symlink,
        KIND_LINK => ChangeOperation::Link,
        KIND_RENAME => ChangeOperation::Rename,
        KIND_CHMOD => ChangeOperation::Chmod,
        KIND_CHOWN => ChangeOperation::Chown,
        KIND_TRUNCATE => ChangeOperation::Truncate,
        KIND_XATTR => ChangeOperation::Xattr,
        _ => return None,
    })
}

/// What else a change is about.
pub(super) fn change_detail(key: &ActionKey, name: Option<&[u8]>) -> RawText {
    match key.kind {
        KIND_CHMOD => RawText::from(format!("mode {:04o}", key.flags & 0o7777).as_str()),
        KIND_CHOWN => {
            let ids = key.object.get(OBJECT_EXTRA).copied().unwrap_or(u64::MAX);
            let id = |id: u32| if id == u32::MAX { "-".to_owned() } else { id.to_string() };
            let (uid, gid) = (id(ids as u32), id((ids >> 32) as u32));
            RawText::from(format!("owner {uid}:{gid}").as_str())
        }
        KIND_MKNOD => RawText::from(match key.flags & 0o170_000 {
            0o020_000 => "character device",
            0o060_000 => "block device",
            0o010_000 => "fifo",
            0o140_000 => "socket",
            _ => "unknown kind",
        }),
        KIND_XATTR => RawText::new(name.unwrap_or_default()),
        _ => RawText::default(),
    }
}

pub(super) fn access(key: &ActionKey) -> FileAccess {
    let has = |bit| key.access & bit != 0;
    FileAccess {
        read: has(ACCESS_READ),
        write: has(ACCESS_WRITE),
        append: has(ACCESS_APPEND),
        truncate: has(ACCESS_TRUNCATE),
        create: has(ACCESS_CREATE),
        tmpfile: has(ACCESS_TMPFILE),
    }
}

/// K3: a path that the kernel could not give, or that is not one in the task's view, is no path.
pub(super) fn path_or_error(path: Result<&[u8], i32>) -> Result<Vec<u8>, String> {
    match path {
        Ok(path) if path.starts_with(UNREACHABLE) => {
            Err("not reachable from the task's root".to_owned())
        }
        Ok([]) => Err("empty".to_owned()),
        Ok(path) => Ok(path.to_vec()),
        Err(0) => Err("the directory could not be walked".to_owned()),
        Err(errno) if errno == -libc::ENAMETOOLONG => Err("longer than 4,095 bytes".to_owned()),
        Err(errno) => Err(std::io::Error::from_raw_os_error(errno.saturating_neg()).to_string()),
    }
}

pub(super) fn file(
    key: &ActionKey,
    path: Result<Vec<u8>, String>,
    owner_uid: u32,
    mode: u32,
) -> FileRef {
    let object = key.file().unwrap_or_default();
    let (path, path_error) = match path {
        Ok(path) => (RawText::new(path), None),
        Err(why) => (RawText::default(), Some(why)),
    };
    FileRef {
        path,
        path_error,
        dev: object.dev,
        ino: object.ino,
        generation: object.generation,
        owner_uid,
        mode,
    }
}

fn child(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// `c\0b\0a\0` (innermost first; the root is one empty component) → `/a/b/c`.
fn join_components(components: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(components.len() + 1);
    for component in components.split(|byte| *byte == 0).rev().filter(|part| !part.is_empty()) {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

pub(super) fn split_argv(argv: &[u8]) -> Vec<RawText> {
    let mut args: Vec<_> = argv.split(|byte| *byte == 0).map(RawText::new).collect();
    // Every argument ends with its NUL, so the last piece is what follows the last NUL: nothing.
    if args.last().is_some_and(RawText::is_empty) {
        args.pop();
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_become_a_path_from_the_root() {
        assert_eq!(join_components(b"c\0b\0a\0\0"), b"/a/b/c");
        assert_eq!(join_components(b"\0"), b"/");
        assert_eq!(child(b"/", b"x"), b"/x");
        assert_eq!(child(b"/a", b"x"), b"/a/x");
    }

    #[test]
    fn a_name_that_could_not_be_read_is_no_path() {
        let held =
            HeldFile { path: Ok(b"/a"), name: None, components: None, owner_uid: 0, mode: 0 };
        assert_eq!(path(&held, false), Ok(b"/a".to_vec()));
        assert!(path(&held, true).is_err());
    }
}
