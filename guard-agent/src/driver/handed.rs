//! Descriptors that a session is handed when it begins: a file that it could not open it does not get that way
//! either.
//!
//! Nothing waits for a person here. Who asks for a session is refused it, and told which descriptor is in the way; what
//! a selector made a session stands still before its first instruction, and goes on or is killed.

use super::Driver;
use crate::{
    clock,
    decide::Question,
    descriptors::{Descriptor, descriptors},
    kernel::{Kernel, pidfd_open, send_kill},
};
use guard_audit::Event;
use guard_common::{
    event::Header,
    label::{LABEL_FLAG_UNSEEN, Label},
};
use guard_model::{Action, FileAccess, FileRef, ProcessContext, RawText, SessionId};
use std::os::fd::{AsFd as _, OwnedFd};

/// Why a session's descriptor is not its own, in evidence.
const HANDED: &str = "handed at the beginning";
/// Most descriptors that a refusal tells of by name: a line or two. Evidence has them all.
const TOLD_MAX: usize = 4;

/// Which program a session's first descriptors are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// One that runs already.
    Running,
    /// One that is still to be executed: only its own word is known of it.
    Promised,
}

impl<K: Kernel> Driver<K> {
    /// Whether the session may have what `process` has open from before. What it may not have is evidence.
    ///
    /// # Errors
    /// It may not; why, for people.
    pub(super) fn judge_handed(
        &mut self,
        handle: u64,
        process: &ProcessContext,
        program: Program,
    ) -> Result<(), String> {
        let found = match descriptors(&self.parts.proc, process.pid) {
            Ok(found) => found,
            Err(error) if error.is_gone() => return Err("the process is gone".to_owned()),
            Err(error) => vec![unknown(&error.to_string())],
        };
        let refused: Vec<Refused> = (found.into_iter())
            .filter_map(|descriptor| self.refused(handle, process, descriptor, program))
            .collect();
        if refused.is_empty() {
            return Ok(());
        }
        let told: Vec<String> = refused.iter().take(TOLD_MAX).map(Refused::told).collect();
        let more = refused.len() - told.len();
        for Refused { session, event, .. } in refused {
            self.evidence(Some(session), event);
        }
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        Err(format!(
            "the policy does not let this session open what it would be handed: {}{more}. Close it (for descriptor 3: \
             3<&-), hand its content over through a pipe, or permit `open` of it",
            told.join(", ")
        ))
    }

    fn refused(
        &self,
        handle: u64,
        process: &ProcessContext,
        descriptor: Descriptor,
        program: Program,
    ) -> Option<Refused> {
        let view = self.parts.sessions.view(handle)?;
        let Descriptor { number, file, access } = descriptor;
        let decider = &self.parts.decider;
        // By the rule for opening it: a policy that has none for what is handed over has that one.
        let is_permitted = |question: Question<'_>| match program {
            Program::Running => decider.permits(&question),
            Program::Promised => decider.permits_whoever(&question),
        };
        let open = Action::Open { file: file.clone(), access };
        let action = Action::Receive { file, access };
        let (hold, now_ns, deadline_ns) = (0, clock::boottime_ns(), 0);
        let question =
            Question { hold, session: &view, process, action: &action, now_ns, deadline_ns };
        if is_permitted(Question { action: &open, ..question }) {
            return None;
        }
        let digest = decider.digest(&question);
        let (session, line) = (view.info.id, action.object_line());
        let (process, reason) = (process.clone(), HANDED.to_owned());
        let event = Event::Blocked { digest, process, action, reason, allowed_from_now: false };
        Some(Refused { number, line, session, event })
    }

    /// Lets a session that the kernel began, and stopped for that, go on if it may have what it was handed; ends it
    /// otherwise.
    pub(super) fn admit(&mut self, header: &Header) {
        let Some((pidfd, label)) = self.unseen(header.tgid) else { return };
        let verdict = match self.parts.proc.brief(header) {
            Ok(process) => self.judge_handed(label.session, &process, Program::Running),
            Err(error) => Err(error.to_string()),
        };
        let admitted = verdict.and_then(|()| {
            let seen = Label { flags: label.flags & !LABEL_FLAG_UNSEEN, ..label };
            let kernel = &mut self.parts.kernel;
            let done = kernel.label(pidfd.as_fd(), seen).and_then(|()| kernel.wake(pidfd.as_fd()));
            done.map_err(|error| error.to_string())
        });
        if let Err(why) = admitted {
            tracing::warn!(pid = header.tgid, "ended before it began: {why}");
            // Gone meanwhile: then there is nothing to end.
            let _ = send_kill(&pidfd);
        }
    }

    /// Ends a session that the kernel began, and stopped, and that nobody can watch.
    pub(super) fn turn_away(&mut self, header: &Header) {
        if let Some((pidfd, _)) = self.unseen(header.tgid) {
            // Gone already: then there is nothing to end.
            let _ = send_kill(&pidfd);
        }
    }

    /// A process that the kernel stopped until it was looked at. One that is gone is none.
    fn unseen(&mut self, pid: u32) -> Option<(OwnedFd, Label)> {
        let pidfd = pidfd_open(pid).ok()?;
        let label = self.parts.kernel.label_of(pidfd.as_fd()).ok().flatten()?;
        label.is_unseen().then_some((pidfd, label))
    }
}

struct Refused {
    number: u32,
    line: String,
    session: SessionId,
    event: Event,
}

impl Refused {
    fn told(&self) -> String {
        format!("descriptor {} ({})", self.number, self.line)
    }
}

/// A descriptor of which nothing is known but why (K3).
fn unknown(why: &str) -> Descriptor {
    let file = FileRef {
        path: RawText::default(),
        path_error: Some(why.to_owned()),
        dev: 0,
        ino: 0,
        generation: 0,
        owner_uid: 0,
        mode: 0,
    };
    Descriptor {
        number: 0,
        file,
        access: FileAccess { read: true, write: true, ..FileAccess::default() },
    }
}
