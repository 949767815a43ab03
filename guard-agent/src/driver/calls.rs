//! Calls over the local socket. Who is labelled may ask `why`, and nothing else.

use super::{Driver, handed::Program, losses};
use crate::{
    clock,
    kernel::Kernel,
    session::{NewSession, principal},
    socket::{
        Call,
        peer::Peer,
        protocol::{Reply, Request, Status},
    },
};
use guard_audit::Event;
use guard_common::{
    event::Header,
    label::{LABEL_FLAG_ROOT, Label},
};
use guard_model::RawText;
use std::os::fd::AsFd as _;

impl<K: Kernel> Driver<K> {
    pub(super) fn call(&mut self, call: Call) {
        let Call { peer, request, reply } = call;
        if let Request::Stop { reason } = &request
            && let Ok(None) = self.parts.kernel.label_of(peer.pidfd.as_fd())
        {
            return self.order_stop(&peer, reason, reply);
        }
        let answer = match self.answer(&peer, request) {
            Ok(answer) => answer,
            Err(message) => Reply::Error { message },
        };
        // A caller that has gone needs no answer; its label went with it.
        let _ = reply.send(answer);
    }

    fn answer(&mut self, peer: &Peer, request: Request) -> Result<Reply, String> {
        let label = self.parts.kernel.label_of(peer.pidfd.as_fd());
        // Whether it is labelled must be known before anything is answered.
        let label = label.map_err(|error| format!("cannot tell who asks: {error}"))?;
        match (label, request) {
            (None, Request::Run { name, command }) => self.start_session(peer, name, command),
            (None, Request::Status {}) => Ok(Reply::Status(Box::new(self.status()))),
            (None, Request::Why {}) => {
                Err("this process is in no session; ask from inside one".to_owned())
            }
            (Some(label), Request::Why {}) => {
                let view = self.parts.sessions.view(label.session);
                let session = view.map(|view| view.info.clone());
                let entries = self.parts.sessions.why(label.session);
                session
                    .map(|session| Reply::Why { session, entries })
                    .ok_or_else(|| "nothing is known of this session yet".to_owned())
            }
            (None, Request::Stop { .. }) => Err("nobody may ask for it now; try again".to_owned()),
            (Some(label), Request::Run { .. } | Request::Status {} | Request::Stop { .. }) => {
                let name = self.parts.sessions.view(label.session);
                let name = name.map_or("unnamed", |view| view.info.name.as_str());
                Err(format!("a process of session {name} may ask `why` only"))
            }
        }
    }

    fn start_session(
        &mut self,
        peer: &Peer,
        name: String,
        command: Vec<RawText>,
    ) -> Result<Reply, String> {
        let handle = self.parts.sessions.draw_handle();
        let new = NewSession {
            handle,
            name,
            principal: principal::of_process(&self.parts.proc, peer.pid, peer.uid),
            uid: peer.uid,
            root_pid: peer.pid,
            command,
            unix_ms: clock::unix_ms(),
        };
        let info = self.parts.sessions.start(new).map_err(|error| error.to_string())?.clone();
        let session = info.id;
        self.evidence(Some(session), Event::SessionStarted { info: info.clone() });
        let gid = self.parts.proc.ids(peer.pid).map_or(u32::MAX, |(_, gid)| gid);
        let (tgid, uid) = (peer.pid, peer.uid);
        let header = Header { tgid, tid: tgid, uid, gid, ..Header::default() };
        let process = self.parts.proc.brief(&header).map_err(|error| error.to_string());
        let handed = |process| self.judge_handed(handle, &process, Program::Promised);
        if let Err(message) = process.and_then(handed) {
            self.parts.sessions.end(handle);
            self.ended(session);
            return Err(message);
        }
        self.allow_beforehand(handle, peer.pid);
        let label = Label { session: handle, flags: LABEL_FLAG_ROOT, _pad: 0 };
        if let Err(error) = self.parts.kernel.label(peer.pidfd.as_fd(), label) {
            self.parts.sessions.end(handle);
            self.ended(session);
            return Err(format!("the process could not be labelled: {error}"));
        }
        tracing::info!(%session, name = info.name, principal = info.principal, "session");
        self.save_sessions();
        Ok(Reply::Running { session })
    }

    fn status(&mut self) -> Status {
        let counters = self.parts.kernel.counters().unwrap_or_default();
        let parts = &self.parts;
        let link = match (&parts.link, self.link_up) {
            (None, _) => "none",
            (Some(_), true) => "up",
            (Some(_), false) => "down",
        };
        let policy = parts.decider.policy();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: parts.host,
            boot: parts.boot,
            link: link.to_owned(),
            policy_digest: policy.digest().to_owned(),
            policy_files: policy.files(),
            coverage: parts.coverage.clone(),
            sessions: parts.sessions.running().map(|(_, info)| info.clone()).collect(),
            pending_holds: parts.engine.waiting(),
            spool_full: parts.spool.is_full(),
            counters: losses::named(&counters),
            objects: parts.kernel.objects(),
        }
    }
}
