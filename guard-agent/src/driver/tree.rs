//! Keeping the sessions' trees true: by events, and by `/proc` and the labels where events are
//! lost.

use super::Driver;
use crate::{
    clock,
    kernel::{Kernel, pidfd_open},
    session::{HANDLE_SELECTED, NewSession, principal},
};
use guard_audit::Event;
use guard_common::event::Header;
use guard_model::SessionId;
use std::os::fd::AsFd as _;

/// Name of a session whose name was lost, or never given.
pub(super) const UNNAMED: &str = "unnamed";

/// What becomes of a session that is found by its label and not known, if the kernel began it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It is left to the kernel's record of its beginning, which is still to be read and has its name.
    Left,
    /// That record was lost: it is a session without a name.
    Started,
}

impl<K: Kernel> Driver<K> {
    /// A labelled task was seen: its session is known from here on, and so is the task.
    pub(super) fn know(&mut self, header: &Header) {
        if self.parts.sessions.contains(header.session) {
            self.parts.sessions.add_task(header.session, header.tid, header.tgid);
        } else {
            self.start_unasked(header, UNNAMED.to_owned());
        }
    }

    /// A session that nobody asked for by name: a selector's, or one whose name was lost.
    pub(super) fn start_unasked(&mut self, header: &Header, name: String) {
        if self.parts.sessions.contains(header.session) {
            return;
        }
        let new = NewSession {
            handle: header.session,
            name,
            principal: principal::of_process(&self.parts.proc, header.tgid, header.uid),
            uid: header.uid,
            root_pid: header.tgid,
            command: self.parts.proc.cmdline(header.tgid),
            unix_ms: clock::unix_ms(),
        };
        match self.parts.sessions.start(new) {
            Ok(info) => {
                let (id, info) = (info.id, info.clone());
                tracing::info!(session = %id, name = info.name, "session, by the kernel");
                self.parts.sessions.add_task(header.session, header.tid, header.tgid);
                self.evidence(Some(id), Event::SessionStarted { info });
                self.save_sessions();
                self.allow_beforehand(header.session, header.tgid);
                self.admit(header);
            }
            Err(error) => {
                tracing::error!(session = header.session, "{error}");
                self.turn_away(header);
            }
        }
    }

    pub(super) fn ended(&mut self, id: SessionId) {
        self.tell_sent(Some(id));
        self.evidence(Some(id), Event::SessionEnded {});
        self.save_sessions();
    }

    /// Tasks whose exit was lost.
    pub(super) fn drop_gone_tasks(&mut self) {
        let proc = &self.parts.proc;
        let ended = self.parts.sessions.drop_gone(|tid| proc.has_task(tid));
        for info in ended {
            self.ended(info.id);
        }
    }

    /// Continues every labelled process that stands still. What programs of another ABI held is in no table
    /// of ours: it restarts, and is held by ours. Nothing else is changed by a stray SIGCONT (H8), but that
    /// a process of a session that was stopped by hand goes on, once.
    pub(super) fn wake_strangers(&mut self) {
        let Ok(pids) = self.parts.proc.pids() else { return };
        for pid in pids {
            if !self.parts.proc.is_stopped(pid) || self.parts.engine.holds_process(pid) {
                continue;
            }
            let Ok(pidfd) = pidfd_open(pid) else { continue };
            if let Ok(Some(label)) = self.parts.kernel.label_of(pidfd.as_fd())
                && !label.is_unseen()
                && let Err(error) = self.parts.kernel.wake(pidfd.as_fd())
            {
                tracing::warn!(pid, error = %anyhow::Error::new(error), "not continued");
            }
        }
    }

    /// A selector's program may have been replaced since, its cgroup made anew.
    pub(super) fn refresh_selectors(&mut self) {
        if self.parts.selectors.refresh() {
            match self.parts.kernel.set_selectors(self.parts.selectors.active()) {
                Ok(()) => tracing::info!("what is selected has changed"),
                Err(error) => tracing::error!("{:#}", anyhow::Error::new(error)),
            }
        }
    }

    /// Looks at every process for a label: at start, and after losses.
    pub(super) fn find_labels(&mut self, unknown: Unknown) {
        let pids = match self.parts.proc.pids() {
            Ok(pids) => pids,
            Err(error) => return tracing::error!(%error, "/proc cannot be listed"),
        };
        for pid in pids {
            // Gone between the listing and now, or a kernel thread: nothing to label.
            let Ok(pidfd) = pidfd_open(pid) else { continue };
            let label = match self.parts.kernel.label_of(pidfd.as_fd()) {
                Ok(label) => label,
                Err(error) => {
                    tracing::debug!(pid, error = %anyhow::Error::new(error), "label not read");
                    continue;
                }
            };
            let Some(label) = label else { continue };
            let is_unknown = !self.parts.sessions.contains(label.session);
            if unknown == Unknown::Left && is_unknown && label.session & HANDLE_SELECTED != 0 {
                continue;
            }
            // Of a guard-agent that was killed before it had seen what the process was handed.
            if !is_unknown && label.is_unseen() {
                let uid = self.parts.proc.uid(pid).unwrap_or(u32::MAX);
                let session = label.session;
                self.admit(&Header { session, tgid: pid, tid: pid, uid, ..Header::default() });
            }
            // One that has ended keeps its label until it is waited for, and is in no session any more.
            let mut tids = self.parts.proc.tids(pid);
            tids.retain(|tid| self.parts.proc.has_task(*tid));
            for tid in tids {
                let uid = self.parts.proc.uid(pid).unwrap_or(u32::MAX);
                let session = label.session;
                self.know(&Header { session, tgid: pid, tid, uid, ..Header::default() });
            }
        }
        self.drop_gone_tasks();
    }
}
