//! Kernel events: what each means for engine, sessions and evidence.

use super::{
    Driver,
    beforehand::{allow, ids},
    tampering,
    tree::UNNAMED,
};
use crate::{
    clock,
    decide::Question,
    engine::{Announced, Announcement, KernelOutcome},
    kernel::{Kernel, KernelBody, KernelEvent},
};
use guard_audit::Event;
use guard_common::{
    event::{Header, REASON_NOT_HOLDABLE},
    hold::{ActionKey, StandingKey},
};
use guard_model::{Action, ProcessContext};

impl<K: Kernel> Driver<K> {
    pub(super) fn event(&mut self, event: KernelEvent) {
        let KernelEvent { header, body } = event;
        match body {
            KernelBody::Held { key, action, deadline_ns } => {
                self.held(&header, key, action, deadline_ns);
            }
            KernelBody::Blocked { key, action, reason } => {
                self.blocked(&header, &key, *action, reason);
            }
            KernelBody::Outcome { event, key, verdict, reason } => {
                let (hold, session) = (header.hold_id, header.session);
                let outcome = KernelOutcome { hold, session, event, key, verdict, reason };
                self.parts.engine.outcome(&outcome);
            }
            KernelBody::Fork { child_tgid, child_tid } => {
                self.know(&header);
                self.parts.sessions.add_task(header.session, child_tid, child_tgid);
                let pid = header.tgid;
                let forked = Event::Forked { pid, child_pid: child_tgid, child_tid };
                self.session_evidence(&header, forked);
            }
            KernelBody::Executed => {
                self.know(&header);
                // Gone already: then its exit says the rest.
                let exe = self.parts.proc.exe(header.tgid).unwrap_or_default();
                self.session_evidence(&header, Event::Executed { pid: header.tgid, exe });
            }
            KernelBody::Exit => {
                let exited = Event::Exited { pid: header.tgid, tid: header.tid };
                self.session_evidence(&header, exited);
                if let Some(info) = self.parts.sessions.exit(header.session, header.tid) {
                    self.ended(info.id);
                }
            }
            KernelBody::Selected { selector } => {
                // Not configured any more: a record that the last guard-agent did not read.
                let name = self.parts.selectors.name(selector).unwrap_or(UNNAMED).to_owned();
                self.start_unasked(&header, name);
            }
            KernelBody::Tamper { what, name } => {
                let what = tampering::refused(&header, what, &name);
                tracing::warn!("{what}");
                self.evidence(None, Event::Tampered { what, mended: true });
            }
            KernelBody::Lost { counter, count } => {
                self.evidence(None, Event::Lost { counter: counter.to_owned(), count });
            }
        }
    }

    fn held(
        &mut self,
        header: &Header,
        key: Box<ActionKey>,
        action: Box<Action>,
        deadline_ns: u64,
    ) {
        self.know(header);
        let (hold, session) = (header.hold_id, header.session);
        let announcement = Announcement { hold, session, key, deadline_ns };
        if self.parts.engine.announce(announcement) == Announced::Judge {
            self.judge_with_content(header, action, deadline_ns);
        }
    }

    /// Lets the policy judge a hold that was announced.
    pub(super) fn judge(&mut self, header: &Header, action: &Action, deadline_ns: u64) {
        let (hold, session) = (header.hold_id, header.session);
        let (process, problem) = match self.parts.proc.brief(header) {
            Ok(process) => (process, None),
            Err(error) if error.is_gone() => return self.parts.engine.gone(hold),
            Err(error) => (bare(header), Some(error.to_string())),
        };
        let parts = &mut self.parts;
        let Some(view) = parts.sessions.view(session) else {
            // More sessions than can be watched: nothing of it is judged, its holds expire to deny.
            return;
        };
        let now_ns = clock::boottime_ns();
        let question =
            Question { hold, session: &view, process: &process, action, now_ns, deadline_ns };
        let judgement = match problem {
            Some(why) => parts.decider.unjudgeable(&question, &why),
            None => parts.decider.judge(&question, || {
                parts.proc.full(&process, |pid| parts.sessions.has_process(session, pid))
            }),
        };
        parts.engine.judge(now_ns, hold, judgement);
    }

    /// The kernel denied at once. Where the policy permits the action, the kernel is told so for the next
    /// time (and cannot tell one program from another then); what reaches out of the session or hides its
    /// origin stays closed whatever a policy says.
    fn blocked(&mut self, header: &Header, key: &ActionKey, action: Action, reason: u32) {
        self.know(header);
        let process = self.parts.proc.brief(header).unwrap_or_else(|_| bare(header));
        let parts = &mut self.parts;
        let Some(view) = parts.sessions.view(header.session) else { return };
        let session = view.info.id;
        let question = Question {
            hold: 0,
            session: &view,
            process: &process,
            action: &action,
            now_ns: clock::boottime_ns(),
            deadline_ns: 0,
        };
        let is_permitted =
            reason == REASON_NOT_HOLDABLE && parts.decider.permits_whoever(&question);
        let digest = parts.decider.digest(&question);
        let mut allowed_from_now = false;
        if is_permitted {
            let standing = StandingKey {
                session: header.session,
                ids: ids(header.uid, header.gid),
                kind: key.kind,
                access: key.access,
                flags: key.flags,
                policy_epoch: 0,
            };
            allowed_from_now = allow(&mut parts.kernel, standing);
        }
        let reason = crate::engine::reason_name(reason).to_owned();
        let blocked = Event::Blocked { digest, process, action, reason, allowed_from_now };
        self.evidence(Some(session), blocked);
    }

    fn session_evidence(&mut self, header: &Header, event: Event) {
        let session = self.parts.sessions.id(header.session);
        self.evidence(Some(session), event);
    }
}

/// What the kernel's record says, where `/proc` says nothing.
fn bare(header: &Header) -> ProcessContext {
    ProcessContext {
        pid: header.tgid,
        tid: header.tid,
        start_boottime_ns: header.start_boottime_ns,
        ppid: header.ppid,
        uid: header.uid,
        gid: header.gid,
        ..ProcessContext::default()
    }
}
