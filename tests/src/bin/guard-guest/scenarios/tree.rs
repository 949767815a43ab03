//! Changes to the file tree: held, and then done or not done at all.

use crate::{
    Trouble,
    answer::How,
    command::User::{Dev, Root},
    scenario::{Stage, expect, was_held, write},
};
use std::{fs, path::Path};

/// One command for every operation; each works on names of its own in `/home/dev/held/tree`.
const COMMANDS: [(&str, &str); 11] = [
    ("unlink", "rm -f unlinked"),
    ("rmdir", "rmdir removed"),
    ("mkdir", "mkdir made"),
    ("mknod", "mkfifo fifo"),
    ("symlink", "ln -s /etc/shadow symlink"),
    ("link", "ln linked ../../plain/link"),
    ("rename", "mv moved ../../plain/moved"),
    ("rename", "mv ../../plain/incoming incoming"),
    ("chmod", "chmod 777 chmodded"),
    ("chown", "chown :dev chowned"),
    ("truncate", "python3 -c 'import os; os.truncate(\"truncated\", 0)'"),
];

pub(super) fn denied(stage: &mut Stage) -> Result<(), Trouble> {
    prepare()?;
    let before = listing()?;
    let outcome = stage.session(Dev, How::Deny, &["sh", "-c", &script()])?;
    for (operation, command) in COMMANDS {
        let refused = format!("{command}: 1");
        expect(outcome.out.contains(&refused), format!("{operation}: {outcome:?}"))?;
        held(operation)?;
    }
    expect(!outcome.err.contains("513"), "the kernel's own errno was seen")?;
    let after = listing()?;
    expect(before == after, format!("something was changed: {before:?} became {after:?}"))
}

pub(super) fn approved(stage: &mut Stage) -> Result<(), Trouble> {
    prepare()?;
    let outcome = stage.session(Dev, How::Approve, &["sh", "-c", &script()])?;
    for (operation, command) in COMMANDS {
        let done = format!("{command}: 0");
        expect(outcome.out.contains(&done), format!("{operation}: {outcome:?}"))?;
    }
    let tree = Path::new("/home/dev/held/tree");
    let plain = Path::new("/home/dev/plain");
    let gone = ["unlinked", "removed", "moved"];
    let there = ["made", "fifo", "incoming"];
    let ok = gone.iter().all(|name| !tree.join(name).exists())
        && there.iter().all(|name| tree.join(name).exists())
        && fs::read_link(tree.join("symlink")).is_ok_and(|to| to == Path::new("/etc/shadow"))
        && plain.join("link").exists()
        && plain.join("moved").exists()
        && fs::metadata(tree.join("truncated")).is_ok_and(|meta| meta.len() == 0);
    expect(ok, format!("not everything was done: {:?}", listing()?))
}

/// Attributes that give rights have no path, so they need a person whatever the policy says of it; others
/// are notes, which it may permit.
pub(super) fn attributes(stage: &mut Stage) -> Result<(), Trouble> {
    write(Path::new("/home/dev/plain/attributed"), "content\n")?;
    let set = |name: &str, value: &str| {
        let call = format!("os.setxattr('/home/dev/plain/attributed', '{name}', {value})");
        ["python3".to_owned(), "-c".to_owned(), format!("import os; {call}; print('set')")]
    };
    let capability = set("security.capability", "bytes([1,0,0,2,0,4,0,0]) + bytes(12)");
    let acl = set(
        "system.posix_acl_access",
        "bytes([2,0,0,0]) + b''.join(bytes([t,0,p,0]) + i for t, p, i in ((1,6,b'\\xff'*4), \
         (2,4,bytes([2,0,0,0])), (4,4,b'\\xff'*4), (16,4,b'\\xff'*4), (32,4,b'\\xff'*4)))",
    );
    for argv in [&capability, &acl] {
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        stage.session(Root, How::Deny, &argv)?.expect_failure("Operation not permitted")?;
        stage.session(Root, How::Approve, &argv)?.expect_success("set")?;
    }
    held("xattr")?;
    let note = set("user.note", "b'x'");
    let argv: Vec<&str> = note.iter().map(String::as_str).collect();
    let outcome = stage.session(Root, How::Nothing, &argv)?;
    // Not every file system of the matrix has attributes of users.
    let ok = outcome.code == 0 || outcome.err.contains("not supported");
    expect(ok, format!("a note was not set: {outcome:?}"))
}

/// Harmless changes wait for nobody.
pub(super) fn plain(stage: &mut Stage) -> Result<(), Trouble> {
    let script = "cd /home/dev/plain && mkdir d && touch d/a && mv d/a d/b && ln d/b d/c && \
                  ln -s b d/s && chmod 600 d/b && rm -r d && echo done";
    stage.session(Dev, How::Nothing, &["sh", "-c", script])?.expect_success("done")
}

fn script() -> String {
    let mut script = "cd /home/dev/held/tree || exit 9\n".to_owned();
    for (_, command) in COMMANDS {
        let quoted = command.replace('\'', "'\\''");
        script.push_str(&format!("{command}; r=$?; test $r = 0 || r=1\n"));
        script.push_str(&format!("echo '{quoted}:' $r\n"));
    }
    script
}

fn prepare() -> Result<(), Trouble> {
    let tree = Path::new("/home/dev/held/tree");
    let _ = fs::remove_dir_all(tree);
    for name in ["link", "moved", "incoming"] {
        let _ = fs::remove_file(Path::new("/home/dev/plain").join(name));
    }
    crate::scenario::make_dir(tree)?;
    crate::scenario::make_dir(&tree.join("removed"))?;
    for name in ["unlinked", "linked", "moved", "chmodded", "chowned", "truncated"] {
        write(&tree.join(name), "content\n")?;
    }
    write(Path::new("/home/dev/plain/incoming"), "content\n")
}

/// Names, modes and sizes of everything in both directories.
fn listing() -> Result<Vec<String>, Trouble> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut all = Vec::new();
    for directory in ["/home/dev/held/tree", "/home/dev/plain"] {
        let entries = fs::read_dir(directory).map_err(|error| error.to_string())?;
        for entry in entries.flatten() {
            let meta = fs::symlink_metadata(entry.path()).map_err(|error| error.to_string())?;
            let (mode, len) = (meta.permissions().mode(), meta.len());
            all.push(format!("{} {mode:o} {len}", entry.path().display()));
        }
    }
    all.sort();
    Ok(all)
}

fn held(operation: &str) -> Result<(), Trouble> {
    expect(was_held(operation), format!("{operation} was not held"))
}
