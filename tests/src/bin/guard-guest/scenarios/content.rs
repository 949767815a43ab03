//! A policy that goes by what a program contains.

use crate::{
    Trouble,
    answer::How,
    command::User::Dev,
    scenario::{Stage, expect, shell},
};
use std::{fs, process::Command};

const POLICY: &str = "/run/guard/content.cedar";
const EPERM: &str = "Operation not permitted";
/// What may run, under any name.
const PINNED: &str = "/bin/true";
/// Changes the last byte of a file that it has mapped, after it has read it: on a file system in memory the page is
/// writable from then on, and no time of the file tells of the change.
pub(super) const CHANGE: &str = "import mmap,os,sys
fd = os.open(sys.argv[1], os.O_RDWR)
page = mmap.mmap(fd, 0)
last = page[-1]
before = os.fstat(fd).st_ctime_ns
page[-1] = last ^ 1
print('unseen' if os.fstat(fd).st_ctime_ns == before else 'seen')";

pub(super) fn pinned(stage: &mut Stage) -> Result<(), Trouble> {
    let sha256 = sha256(PINNED)?;
    let policy = format!(
        "@id(\"all\") permit (principal, action, resource);\n\
         @id(\"pinned\") @reason(\"a scenario wants this content and no other\")\n\
         forbid (principal, action == Guard::Action::\"exec\", resource)\n\
         when {{ resource.path like \"*/content/*\" && context.sha256 != \"\" }}\n\
         unless {{ context.sha256 == \"{sha256}\" }};\n"
    );
    fs::write(POLICY, policy).map_err(|error| format!("{POLICY}: {error}"))?;
    stage.under(POLICY, |stage| play(stage, &sha256))
}

/// The same where the kernel does not tell: guard-agent hashes.
pub(super) fn pinned_by_agent(stage: &mut Stage) -> Result<(), Trouble> {
    let booted = fs::read_to_string("/proc/cmdline").map_err(|error| error.to_string())?;
    expect(booted.contains("ima_hash=sha1"), format!("the kernel hashes: {booted:?}"))?;
    pinned(stage)
}

fn play(stage: &Stage, sha256: &str) -> Result<(), Trouble> {
    for directory in ["/home/dev/content", "/dev/shm/content"] {
        shell(&format!("rm -rf {directory}; mkdir {directory} && chown dev {directory}"))?;
        let run = |how, script: &str| {
            let script = format!("cd {directory} && {script}");
            stage.session(Dev, how, &["sh", "-c", &script])
        };
        run(How::Nothing, "cp /bin/true a && ./a && echo ran")?.expect_success("ran")?;
        run(How::Nothing, "ln a b && mv a c && ./b && ./c && echo ran")?.expect_success("ran")?;
        run(How::Nothing, "cp /bin/false c && ./c")?.expect_failure(EPERM)?;
        // The same name, inode, length, owner and mode as what has just run.
        run(How::Nothing, "cp /bin/true d && ./d && echo ran")?.expect_success("ran")?;
        let changed = run(How::Nothing, &format!("python3 -c \"{CHANGE}\" d; ./d"))?;
        changed.expect_failure(EPERM)?;
        expect(changed.out.contains("seen"), format!("it was not changed: {changed:?}"))?;
        run(How::Nothing, "cp /bin/true e && echo >> e; ./e")?.expect_failure(EPERM)?;
        // Else what was hashed could be changed before it runs.
        run(How::Nothing, "cp /bin/true f; exec 3>> f; ./f")?.expect_failure("Text file busy")?;
        // Longer than what is hashed: not known, so a person decides.
        let long = "cp /bin/true g && truncate -s 513M g; ./g && echo ran";
        run(How::Deny, long)?.expect_failure(EPERM)?;
        run(How::Approve, "./g && echo ran")?.expect_success("ran")?;
    }
    // Who made it may write to it while it is executed: never known.
    let nameless = ["/usr/local/bin/guard-workload", "memfd"];
    stage.session(Dev, How::Deny, &nameless)?.expect_failure(EPERM)?;
    stage.evidence(|record| {
        let program = &record["action"]["program"];
        record["event"] == "decided"
            && program["sha256"] == sha256
            && program["file"]["path"] == "/dev/shm/content/c"
    })?;
    stage
        .evidence(|record| {
            let statements = record["request"]["statements"].as_array();
            record["event"] == "held"
                && statements
                    .is_some_and(|all| all.iter().any(|s| s["id"] == "guard:content-unknown"))
        })
        .map(drop)
}

fn sha256(path: &str) -> Result<String, Trouble> {
    let done = Command::new("sha256sum").arg(path).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&done.stdout);
    let sum = text.split_whitespace().next().filter(|sum| sum.len() == 64);
    sum.map(str::to_owned).ok_or_else(|| format!("sha256sum {path} said {text:?}"))
}
