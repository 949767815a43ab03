//! A root session that may execute one program and nothing else: whatever that program tries is refused.

use crate::{
    Trouble,
    answer::How,
    command::User::Root,
    scenario::{Outcome, Stage, expect, make_dir, shell, write},
};
use std::path::Path;

const DIR: &str = "/home/dev/nothing";
/// `EPERM` and `EACCES`.
const REFUSED: [i32; 2] = [1, 13];
/// The kernel has no such system call.
const ENOSYS: i32 = 38;
/// Fewest attempts: the program has not been cut short.
const ATTEMPTS_MIN: usize = 100;

/// What the attempts are about; ipcmk has no way to choose a key.
const THERE: &str = "import ctypes, os
c = ctypes.CDLL(None, use_errno=True)
for result in (c.shmget(0x4755, 4096, 0o1600), c.semget(0x4755, 1, 0o1600), c.msgget(0x4755, 0o1600),
               c.mq_open(b'/reach-there', 0o102, 0o600, None)):
    assert result >= 0, ctypes.get_errno()
os.setxattr('/home/dev/nothing/file', 'user.there', b'x')
";
/// What the attempts outside of the session leave.
const GONE: &str = "ipcrm -M 0x4755 -S 0x4755 -Q 0x4755 2> /dev/null
ipcrm -M 0x4756 -S 0x4756 -Q 0x4756 2> /dev/null
while umount /home/dev/nothing/mounted 2> /dev/null; do :; done
rm -rf /home/dev/nothing
python3 -c 'import ctypes; [ctypes.CDLL(None).mq_unlink(n) for n in (b\"/reach-there\", b\"/reach-new\")]'
true";

fn prepare() -> Result<(), Trouble> {
    shell(GONE)?;
    for directory in ["", "/directory", "/mounted"] {
        make_dir(Path::new(&format!("{DIR}{directory}")))?;
    }
    for file in ["file", "other", "unlinked"] {
        write(&Path::new(DIR).join(file), "x")?;
    }
    let script = Path::new("/home/dev/plain/there.py");
    write(script, THERE)?;
    shell(&format!("mount -t tmpfs there {DIR}/mounted && python3 {}", script.display()))
}

/// The attempts with how each ended.
fn attempts(outcome: &Outcome) -> Result<Vec<(&str, i32)>, Trouble> {
    let all: Vec<_> = outcome.out.lines().filter_map(attempt).collect();
    expect(all.len() >= ATTEMPTS_MIN, format!("{} attempts: {outcome:?}", all.len()))?;
    Ok(all)
}

fn attempt(line: &str) -> Option<(&str, i32)> {
    let (name, errno) = line.split_once(' ')?;
    Some((name, errno.parse().ok()?))
}

pub(super) fn reached(stage: &mut Stage) -> Result<(), Trouble> {
    let victim = stage.start_unlabelled(Root, &["sleep", "1000"])?;
    let pid = victim.pid().to_string();
    let argv = ["guard-workload", "reach", &pid, DIR];
    prepare()?;
    let inside = stage.session_named("nothing", Root, How::Nothing, &argv)?;
    let files = || std::fs::read_dir(DIR).map_or(0, Iterator::count);
    expect(files() == 5, format!("{} files in {DIR}", files()))?;
    let outside = stage.start_unlabelled(Root, &argv)?.finish()?;
    victim.kill();
    shell(GONE)?;
    let (inside, outside) = (attempts(&inside)?, attempts(&outside)?);
    for ((name, inside), (_, outside)) in inside.iter().zip(&outside) {
        if *inside == ENOSYS && *outside == ENOSYS {
            continue;
        }
        let is_possible = !REFUSED.contains(outside);
        expect(is_possible, format!("{name}: errno {outside} outside of a session"))?;
        // The kernel makes another error of some refusals.
        let is_refused = REFUSED.contains(inside) || (*inside != 0 && *outside == 0);
        expect(is_refused, format!("{name}: errno {inside} in the session, {outside} outside"))?;
    }
    Ok(())
}
