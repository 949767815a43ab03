//! Many holds, in a row and at once.

use crate::{Trouble, answer::How, command::User::Dev, scenario::Stage};

const WORKLOAD: &str = "/usr/local/bin/guard-workload";

pub(super) fn in_a_row(stage: &mut Stage) -> Result<(), Trouble> {
    // Held in the kernel, answered by guard-agent: no person is needed for `plain`. Ten thousand are the
    // figure of a release (`cargo xtask vm … -- guard-workload loop 10000 …`), too slow for every run.
    let argv = [WORKLOAD, "loop", "1000", "/home/dev/plain/secret"];
    stage.session(Dev, How::Nothing, &argv)?.expect_success("ok: 1000 attempts")
}

pub(super) fn processes(stage: &mut Stage) -> Result<(), Trouble> {
    let argv = [WORKLOAD, "processes", "200", "/home/dev/held/many"];
    let running = stage.start(Dev, &argv)?;
    stage.wait_for_pending(200)?;
    stage.answer(How::ByName);
    running.finish()?.expect_success("ok: 200 attempts")
}

pub(super) fn threads(stage: &mut Stage) -> Result<(), Trouble> {
    let argv = [WORKLOAD, "threads", "200", "/home/dev/held/many"];
    stage.session(Dev, How::ByName, &argv)?.expect_success("ok: 200 attempts")
}
