//! Sessions: which labelled process trees there are, whose they are, and which tasks live in them.
//!
//! The tree follows the kernel's fork and exit records. Records can be lost, so it is reconciled
//! with `/proc` and the labels themselves; a session ends when no task of it is left.

pub mod principal;
pub mod state;
pub mod why;

use guard_model::{BootId, HostId, RawText, SessionId, SessionInfo};
use std::collections::{BTreeMap, HashMap, VecDeque};
use why::{Why, WhyEntry};

/// Most sessions of one host at a time; beyond it `run` is refused. Each is a program that a
/// person or a unit starts, not something that a session can make.
pub const SESSIONS_MAX: usize = 4096;
/// Most tasks that are tracked for one session; the kernel's own limit on threads is lower. Beyond
/// it a session's end is found by reconciling only.
pub const TASKS_MAX: usize = 1 << 18;
/// What a session did just before a hold: as many lines as an approver reads.
pub const RECENT_MAX: usize = 16;
/// Set in every handle that the kernel's exec selectors give (`SELECTED_SESSIONS` in
/// guard-ebpf/src/lineage.rs), and in none that guard-agent draws.
pub const HANDLE_SELECTED: u64 = 1 << 63;

/// What the decision needs of a session.
#[derive(Debug)]
pub struct SessionView<'a> {
    /// Name, principal, start.
    pub info: &'a SessionInfo,
    /// What it did last, newest last, escaped.
    pub recent: &'a VecDeque<String>,
}

/// A running session.
#[derive(Debug)]
struct Session {
    info: SessionInfo,
    /// Thread id → process id.
    tasks: HashMap<u32, u32>,
    recent: VecDeque<String>,
    why: Why,
}

/// All running sessions, by the kernel's handle.
#[derive(Debug)]
pub struct Sessions {
    host: HostId,
    boot: BootId,
    running: BTreeMap<u64, Session>,
    handles: HashMap<SessionId, u64>,
}

/// No more sessions fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{SESSIONS_MAX} sessions are running on this host, and no more can be watched; end one first"
)]
pub struct TooManySessions;

/// Who starts a session, and what.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The kernel's handle.
    pub handle: u64,
    /// The AI agent's name.
    pub name: String,
    /// The person or service that starts it.
    pub principal: String,
    /// User id that starts it.
    pub uid: u32,
    /// First process.
    pub root_pid: u32,
    /// What is started: its own claim.
    pub command: Vec<RawText>,
    /// Wall clock, ms since 1970.
    pub unix_ms: u64,
}

impl Sessions {
    /// None yet, on `boot` of `host`.
    #[must_use]
    pub fn new(host: HostId, boot: BootId) -> Self {
        Self { host, boot, running: BTreeMap::new(), handles: HashMap::new() }
    }

    /// Draws a handle that no session has: 63 random bits, so that a guard-agent that lost its
    /// state does not give one out twice.
    #[must_use]
    pub fn draw_handle(&self) -> u64 {
        loop {
            let handle = rand::random::<u64>() & !HANDLE_SELECTED;
            if handle != 0 && !self.running.contains_key(&handle) {
                return handle;
            }
        }
    }

    /// Adds a session with its first task.
    ///
    /// # Errors
    /// [`TooManySessions`].
    pub fn start(&mut self, new: NewSession) -> Result<&SessionInfo, TooManySessions> {
        if self.running.len() >= SESSIONS_MAX {
            return Err(TooManySessions);
        }
        let id = self.id(new.handle);
        let info = SessionInfo {
            id,
            name: new.name,
            principal: new.principal,
            uid: new.uid,
            started_unix_ms: new.unix_ms,
            root_pid: new.root_pid,
            command: new.command,
        };
        let tasks = HashMap::from([(new.root_pid, new.root_pid)]);
        let session = self.insert(new.handle, info, tasks);
        Ok(&session.info)
    }

    /// Puts back a session that an earlier guard-agent started; its tasks come by reconciling.
    /// Its id is derived anew: the host may have another one now.
    pub fn restore(&mut self, handle: u64, info: SessionInfo) {
        let info = SessionInfo { id: self.id(handle), ..info };
        if self.running.len() < SESSIONS_MAX && !self.running.contains_key(&handle) {
            self.insert(handle, info, HashMap::new());
        }
    }

    fn insert(&mut self, handle: u64, info: SessionInfo, tasks: HashMap<u32, u32>) -> &mut Session {
        self.handles.insert(info.id, handle);
        let session = Session { info, tasks, recent: VecDeque::new(), why: Why::default() };
        self.running.entry(handle).insert_entry(session).into_mut()
    }

    /// The id of the session with this handle.
    #[must_use]
    pub fn id(&self, handle: u64) -> SessionId {
        SessionId::derive(self.host, self.boot, handle)
    }

    /// The handle of a running session.
    #[must_use]
    pub fn handle_of(&self, id: SessionId) -> Option<u64> {
        self.handles.get(&id).copied()
    }

    /// Whether the session is known.
    #[must_use]
    pub fn contains(&self, handle: u64) -> bool {
        self.running.contains_key(&handle)
    }

    /// What the decision needs of it.
    #[must_use]
    pub fn view(&self, handle: u64) -> Option<SessionView<'_>> {
        let session = self.running.get(&handle)?;
        Some(SessionView { info: &session.info, recent: &session.recent })
    }

    /// A task of the session was seen.
    pub fn add_task(&mut self, handle: u64, tid: u32, tgid: u32) {
        let session = self.running.get_mut(&handle);
        if let Some(session) = session.filter(|session| session.tasks.len() < TASKS_MAX) {
            session.tasks.insert(tid, tgid);
        }
    }

    /// A task exited. If it was the last one, the session has ended and is returned.
    pub fn exit(&mut self, handle: u64, tid: u32) -> Option<SessionInfo> {
        let session = self.running.get_mut(&handle)?;
        session.tasks.remove(&tid)?;
        if session.tasks.is_empty() { self.end(handle) } else { None }
    }

    /// Forgets a session, because it could not be labelled or has ended.
    pub fn end(&mut self, handle: u64) -> Option<SessionInfo> {
        let info = self.running.remove(&handle)?.info;
        self.handles.remove(&info.id);
        Some(info)
    }

    /// Drops tasks that are not there any more, and returns the sessions that have none left.
    pub fn drop_gone(&mut self, is_there: impl Fn(u32) -> bool) -> Vec<SessionInfo> {
        for session in self.running.values_mut() {
            session.tasks.retain(|tid, _| is_there(*tid));
        }
        let ended: Vec<u64> = self
            .running
            .iter()
            .filter(|(_, session)| session.tasks.is_empty())
            .map(|(handle, _)| *handle)
            .collect();
        ended.into_iter().filter_map(|handle| self.end(handle)).collect()
    }

    /// Whether a process belongs to the session.
    #[must_use]
    pub fn has_process(&self, handle: u64, pid: u32) -> bool {
        let session = self.running.get(&handle);
        session.is_some_and(|session| session.tasks.values().any(|tgid| *tgid == pid))
    }

    /// Remembers what a session did, for its next request.
    pub fn did(&mut self, handle: u64, line: String) {
        if let Some(session) = self.running.get_mut(&handle) {
            if session.recent.len() >= RECENT_MAX {
                session.recent.pop_front();
            }
            session.recent.push_back(line);
        }
    }

    /// What a session is told about its holds and denials.
    pub fn why_mut(&mut self, handle: u64) -> Option<&mut Why> {
        self.running.get_mut(&handle).map(|session| &mut session.why)
    }

    /// The latest of it.
    #[must_use]
    pub fn why(&self, handle: u64) -> Vec<WhyEntry> {
        self.running.get(&handle).map(|session| session.why.entries()).unwrap_or_default()
    }

    /// All running sessions with their handles.
    pub fn running(&self) -> impl Iterator<Item = (u64, &SessionInfo)> {
        self.running.iter().map(|(handle, session)| (*handle, &session.info))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    pub(crate) fn sessions() -> Sessions {
        Sessions::new(HostId(Uuid::from_u128(1)), BootId(Uuid::from_u128(2)))
    }

    pub(crate) fn new(handle: u64) -> NewSession {
        NewSession {
            handle,
            name: "bot".into(),
            principal: "dev".into(),
            uid: 1000,
            root_pid: 10,
            command: vec![],
            unix_ms: 1,
        }
    }

    #[test]
    fn a_session_ends_with_its_last_task_not_with_its_first() {
        let mut sessions = sessions();
        sessions.start(new(5)).unwrap();
        sessions.add_task(5, 11, 11);
        assert!(sessions.exit(5, 10).is_none());
        assert!(sessions.exit(5, 99).is_none());
        assert_eq!(sessions.exit(5, 11).unwrap().name, "bot");
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_lost_exit_is_found_by_reconciling() {
        let mut sessions = sessions();
        sessions.start(new(5)).unwrap();
        sessions.start(new(6)).unwrap();
        sessions.add_task(6, 20, 20);
        let ended = sessions.drop_gone(|tid| tid == 20);
        assert_eq!(ended.len(), 1);
        assert!(sessions.contains(6) && !sessions.contains(5));
    }

    #[test]
    fn one_session_too_many_is_refused() {
        let mut sessions = sessions();
        for handle in 0..SESSIONS_MAX as u64 {
            sessions.start(new(handle)).unwrap();
        }
        assert_eq!(sessions.start(new(u64::MAX)).unwrap_err(), TooManySessions);
    }

    #[test]
    fn the_recent_lines_are_bounded_and_the_oldest_goes_first() {
        let mut sessions = sessions();
        sessions.start(new(5)).unwrap();
        for line in 0..RECENT_MAX + 3 {
            sessions.did(5, line.to_string());
        }
        let view = sessions.view(5).unwrap();
        assert_eq!((view.recent.len(), view.recent[0].as_str()), (RECENT_MAX, "3"));
    }

    #[test]
    fn a_drawn_handle_is_never_one_that_the_kernel_gives() {
        for _ in 0..100 {
            assert!((1..HANDLE_SELECTED).contains(&sessions().draw_handle()));
        }
    }
}
