//! Names that a protected file has had since before the session began.

use crate::{
    Trouble,
    answer::How,
    command::User::{Dev, Root},
    scenario::{Outcome, Stage, expect, shell},
};
use serde_json::Value;
use std::fs;

const POLICY: &str = "@id(\"all\") permit (principal, action, resource);
@id(\"named-file\") @reason(\"a scenario forbids this file\")
forbid (principal, action == Guard::Action::\"open\", resource == Guard::File::\"/home/dev/names/file\");
@id(\"named-directory\") @reason(\"a scenario forbids this directory\")
forbid (principal, action == Guard::Action::\"open\", resource in Guard::Directory::\"/home/dev/names/secrets\");
";
const FILE: &str = "/run/guard/names.cedar";
const EPERM: &str = "Operation not permitted";

/// Made by root, outside of any session.
const PREPARE: &str = "set -e; cd /home/dev; rm -rf names; mkdir -p names/secrets/deep names/bound names/above names/free
echo secret > names/file; echo secret > names/secrets/deep/key; echo free > names/free/file
ln names/file names/linked-file; ln names/secrets/deep/key names/linked-key; ln names/free/file names/linked-free
touch names/bound-file; mount --bind names/file names/bound-file
mount --bind names/secrets names/bound; mount --bind /home/dev/names names/above";
const CLEAR: &str = "cd /home/dev/names && umount bound-file && umount bound && umount above && cd .. && rm -rf names";

/// What a session calls what is protected, and by which statement.
const NAMES: [(&str, &str); 6] = [
    ("/home/dev/names/linked-file", "named-file"),
    ("/home/dev/names/linked-key", "named-directory"),
    ("/home/dev/names/bound-file", "named-file"),
    ("/home/dev/names/bound/deep/key", "named-directory"),
    ("/home/dev/names/above/file", "named-file"),
    ("/home/dev/names/above/secrets/deep/key", "named-directory"),
];
const FREE: [&str; 3] =
    ["/home/dev/names/free/file", "/home/dev/names/linked-free", "/home/dev/names/above/free/file"];

/// In a mount namespace of its own, where the directory is somewhere else and not where it was.
const ELSEWHERE: &str = "set -e
mount --make-rprivate /; mkdir -p /run/elsewhere
mount --bind /home/dev/names /run/elsewhere; mount -t tmpfs none /home/dev
cd /; exec guard run --as scenario -- cat";

pub(super) fn every_one(stage: &mut Stage) -> Result<(), Trouble> {
    shell(PREPARE)?;
    fs::write(FILE, POLICY).map_err(|error| format!("{FILE}: {error}"))?;
    stage.under(FILE, play).and(shell(CLEAR))
}

fn play(stage: &Stage) -> Result<(), Trouble> {
    let cat = |path: &str| stage.session(Dev, How::Nothing, &["cat", path]);
    cat("/home/dev/names/file")?.expect_failure(EPERM)?;
    for (path, statement) in NAMES {
        refused(stage, path, statement, &cat(path)?)?;
    }
    for path in FREE {
        cat(path)?.expect_success("free")?;
    }
    let elsewhere = |path: &str| {
        let script = format!("{ELSEWHERE} {path}");
        let argv = ["unshare", "--mount", "sh", "-c", &script];
        stage.answered(How::Nothing, || stage.start_unlabelled(Root, &argv))
    };
    for (path, statement) in [
        ("/run/elsewhere/file", "named-file"),
        ("/run/elsewhere/secrets/deep/key", "named-directory"),
        ("/run/elsewhere/linked-key", "named-directory"),
    ] {
        refused(stage, path, statement, &elsewhere(path)?)?;
    }
    elsewhere("/run/elsewhere/free/file")?.expect_success("free")?;
    // A link that a session makes is known before anybody looks for it.
    let link =
        "ln /home/dev/names/secrets/deep/key /home/dev/names/made && cat /home/dev/names/made";
    let made = stage.session(Root, How::Nothing, &["sh", "-c", link])?;
    refused(stage, "/home/dev/names/made", "named-directory", &made)
}

/// Nothing was read, and the evidence says by which statement and why it applies.
fn refused(stage: &Stage, path: &str, statement: &str, outcome: &Outcome) -> Result<(), Trouble> {
    outcome.expect_failure(EPERM).map_err(|problem| format!("{path}: {problem}"))?;
    expect(!outcome.out.contains("secret"), format!("{path} was read: {outcome:?}"))?;
    let record = stage.evidence(|record| {
        record["event"] == "decided" && record["action"]["file"]["path"] == path
    })?;
    let has = |id: &str| {
        let statements = record["statements"].as_array().into_iter().flatten();
        statements.into_iter().any(|one: &Value| one["id"] == id)
    };
    let is_told = has(statement) && has("guard:other-name");
    expect(is_told, format!("{path}: {}", record["statements"]))
}
