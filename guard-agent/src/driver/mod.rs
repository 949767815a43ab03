//! The driver: the one task that owns kernel, engine, sessions and policy, and carries commands
//! out.
//!
//! Architecture invariant: everything that decides happens on this task, one event after the
//! other, and none of it waits: not for the disk (the spool queues), not for the controller (the
//! link queues), not for a person (the engine keeps the hold). An allow by policy is event → Cedar
//! → map → SIGCONT.

mod beforehand;
mod calls;
mod content;
mod ending;
mod events;
mod handed;
mod losses;
mod notes;
mod scan;
mod sent;
mod tampering;
#[cfg(test)]
mod tests;
mod tree;

use crate::{
    clock,
    content::{Contents, Hashed},
    context::Proc,
    decide::Decider,
    engine::{Command, Engine},
    kernel::{Kernel, KernelEvent},
    link::{FromLink, ToLink},
    notify::Notifier,
    selector::Selectors,
    session::{Sessions, state},
    socket::Call,
    spool::Spool,
};
use content::Unjudged;
pub use ending::STOP_TIME_MAX;
use ending::StopOrder;
use guard_audit::Event;
use guard_common::hold::ActionKey;
use guard_model::{BootId, Coverage, HostId, SessionId};
use losses::Losses;
use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc};
use tree::Unknown;

/// Most events that are handled before commands are carried out: many decisions for one process
/// become one SIGCONT, and a flood cannot keep the first one waiting.
const EVENTS_PER_TURN: usize = 256;
/// Most events that are read before a task is declared dead, or before the end: more than the ring
/// buffer holds, so that only a flood that goes on meanwhile meets it.
const DRAIN_MAX: usize = 100_000;
/// How often dead tasks are looked for.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// Scans after an upgrade to another ABI in which stopped tasks of sessions are continued. The former
/// programs may hold a task until the last of them has left its hook, which takes far less than one.
const WAKE_SCANS: u32 = 3;

/// Where events come from.
pub trait EventStream: Send {
    /// The next event; `None` if there can be no more.
    fn next(&mut self) -> impl Future<Output = Option<KernelEvent>> + Send;
    /// The next event if there is one now.
    fn try_next(&mut self) -> Option<KernelEvent>;
}

impl EventStream for crate::kernel::EventSource {
    async fn next(&mut self) -> Option<KernelEvent> {
        Self::next(self).await
    }

    fn try_next(&mut self) -> Option<KernelEvent> {
        Self::try_next(self)
    }
}

/// What the driver says to the link.
#[derive(Debug)]
pub struct LinkHandle {
    /// Messages.
    pub to_link: mpsc::Sender<ToLink>,
    /// Opens the stream anew.
    pub reset: Arc<Notify>,
}

/// What the driver is made of.
#[derive(Debug)]
pub struct Parts<K> {
    /// The kernel side.
    pub kernel: K,
    /// The hold engine.
    pub engine: Engine,
    /// The policy.
    pub decider: Decider,
    /// The sessions.
    pub sessions: Sessions,
    /// What the kernel makes a session of by itself.
    pub selectors: Selectors,
    /// `/proc`.
    pub proc: Proc,
    /// Who hashes what is executed, if anybody wants to know it and the kernel does not tell.
    pub contents: Option<Contents>,
    /// Evidence.
    pub spool: Spool,
    /// The controller, if there is one.
    pub link: Option<LinkHandle>,
    /// What is enforced here.
    pub coverage: Vec<Coverage>,
    /// This host.
    pub host: HostId,
    /// This boot.
    pub boot: BootId,
    /// `uname -r`.
    pub kernel_release: String,
    /// Where session names outlive guard-agent.
    pub sessions_path: PathBuf,
    /// Where the last seen loss counters outlive guard-agent.
    pub losses_path: PathBuf,
    /// The service manager.
    pub notifier: Notifier,
}

/// Messages into the driver.
#[derive(Debug)]
pub struct Inputs {
    /// From the link.
    pub from_link: mpsc::Receiver<FromLink>,
    /// From the local socket.
    pub calls: mpsc::Receiver<Call>,
    /// From who hashes.
    pub hashed: mpsc::Receiver<Hashed>,
}

/// Why the driver ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The ring buffer cannot be waited for any more.
    #[error(
        "no more events come from the kernel; holds stay held until guard-agent is started again"
    )]
    EventsEnded,
    /// The kernel's hold table cannot be read, so nothing can be adopted.
    #[error("holds of an earlier guard-agent cannot be adopted")]
    Adopt(#[source] crate::kernel::KernelError),
    /// Enforcement was to end, and some of it has not.
    #[error("enforcement has not ended in full")]
    End(#[source] crate::kernel::KernelError),
    /// The kernel did not take the exec selectors, so what they select would run unwatched.
    #[error("the kernel does not take --select")]
    Select(#[source] crate::kernel::KernelError),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Driver<K> {
    parts: Parts<K>,
    link_up: bool,
    losses: Losses,
    scans: u32,
    scanned: u64,
    /// Holds whose task was seen to be gone. Its last record may still be in the ring buffer.
    suspects: Vec<u64>,
    /// By the kernel's number of the hold.
    unjudged: HashMap<u64, Unjudged>,
    /// Scans in which stopped tasks of sessions are still continued: see [`Driver::wake_strangers`].
    wakes: u32,
    order: Option<StopOrder>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// guard-agent was asked to end; enforcement goes on.
    Asked,
    /// Enforcement has ended, deliberately, for this reason.
    Enforcement(String),
}

impl<K: Kernel> Driver<K> {
    /// A driver that has not started.
    #[must_use]
    pub fn new(parts: Parts<K>) -> Self {
        let losses = Losses::load(&parts.losses_path, parts.boot);
        let wakes = if parts.kernel.follows_another_abi() { WAKE_SCANS } else { 0 };
        Self {
            parts,
            link_up: false,
            losses,
            scans: 0,
            scanned: 0,
            suspects: Vec::new(),
            unjudged: HashMap::new(),
            wakes,
            order: None,
        }
    }

    /// Says that it started, and takes over what an earlier guard-agent left (H9).
    ///
    /// # Errors
    /// [`DriverError::Adopt`], [`DriverError::Select`].
    pub fn start(&mut self) -> Result<(), DriverError> {
        let policy = self.parts.decider.policy();
        let loaded = Event::policy_loaded(policy.digest(), policy.texts());
        let started = Event::Started {
            component: "guard-agent".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: self.parts.kernel_release.clone(),
            coverage: self.parts.coverage.clone(),
        };
        self.evidence(None, started);
        self.evidence(None, loaded);
        let sessions_path = &self.parts.sessions_path;
        if let Err(error) = state::load(sessions_path, self.parts.boot, &mut self.parts.sessions) {
            let error = anyhow::Error::new(error);
            tracing::error!("{error:#}: running sessions lose their names, not their labels");
        }
        let selectors = self.parts.selectors.active();
        self.parts.kernel.set_selectors(selectors).map_err(DriverError::Select)?;
        // Under this policy, which may be another one. Those that only a label tells of are told when it is found.
        let running: Vec<_> =
            self.parts.sessions.running().map(|(handle, info)| (handle, info.root_pid)).collect();
        for (handle, pid) in running {
            self.allow_beforehand(handle, pid);
        }
        self.find_labels(Unknown::Left);
        let holds = self.parts.kernel.holds().map_err(DriverError::Adopt)?;
        for (key, record) in holds {
            if self.parts.kernel.is_alive(&key) {
                self.parts.engine.adopt(clock::boottime_ns(), key, &record);
            } else {
                self.forget(&key, record.hold_id);
            }
        }
        self.parts.kernel.drop_stale_grants().map_err(DriverError::Adopt)?;
        self.settle();
        Ok(())
    }

    /// Says to the service manager that everything is there.
    pub fn ready(&self) {
        self.parts.notifier.ready("enforcing");
    }

    /// Runs until `shutdown`, or until no events can come.
    ///
    /// # Errors
    /// [`DriverError::EventsEnded`], [`DriverError::End`].
    pub async fn run(
        &mut self,
        events: &mut impl EventStream,
        inputs: &mut Inputs,
        shutdown: impl Future<Output = ()>,
    ) -> Result<End, DriverError> {
        let mut scan = tokio::time::interval(SCAN_INTERVAL);
        scan.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                event = events.next() => {
                    self.event(event.ok_or(DriverError::EventsEnded)?);
                    for _ in 1..EVENTS_PER_TURN {
                        let Some(event) = events.try_next() else { break };
                        self.event(event);
                    }
                }
                Some(news) = inputs.from_link.recv() => {
                    self.news(news);
                    // Decisions that came together are carried out together.
                    while let Ok(news) = inputs.from_link.try_recv() {
                        self.news(news);
                    }
                }
                Some(call) = inputs.calls.recv() => self.call(call),
                Some(hashed) = inputs.hashed.recv() => self.hashed(hashed),
                () = self.timer() => {}
                _ = scan.tick() => self.scan(events),
                () = &mut shutdown => {
                    self.drain(events);
                    self.settle();
                    return Ok(End::Asked);
                }
            }
            self.settle();
            self.bury(events);
            if let Some(reason) = self.end_enforcement(events).await? {
                return Ok(End::Enforcement(reason));
            }
        }
    }

    /// Says that it stops, keeps what must be kept, and gives the spool back to be closed. Holds
    /// stay held: the programs are pinned, and the next guard-agent adopts them.
    pub fn stop(mut self, reason: &str) -> Spool {
        let component = "guard-agent".to_owned();
        self.parts.notifier.stopping();
        self.save_sessions();
        self.evidence(None, Event::Stopped { component, reason: reason.to_owned() });
        self.parts.spool
    }

    fn drain(&mut self, events: &mut impl EventStream) {
        for _ in 0..DRAIN_MAX {
            let Some(event) = events.try_next() else { return };
            self.event(event);
        }
    }

    /// Declares suspects dead, after everything that they did before they died was read: a task
    /// that consumed its grant and exited has not abandoned its hold.
    fn bury(&mut self, events: &mut impl EventStream) {
        while !self.suspects.is_empty() {
            let suspects = std::mem::take(&mut self.suspects);
            self.drain(events);
            for hold in suspects {
                self.parts.engine.gone(hold);
            }
            self.settle();
        }
    }

    /// Waits for the engine's next deadline.
    async fn timer(&self) {
        match self.parts.engine.next_timer_ns() {
            Some(at_ns) => {
                let wait_ns = at_ns.saturating_sub(clock::boottime_ns());
                tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
            }
            None => std::future::pending().await,
        }
    }

    /// Lets the engine look at the clock and carries out everything that it wants.
    fn settle(&mut self) {
        self.parts.engine.set_spool_full(self.parts.spool.is_full());
        self.parts.engine.tick(clock::boottime_ns());
        loop {
            let commands = self.parts.engine.take_commands();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                self.carry_out(command);
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Grant { hold, key, grant } => {
                if let Err(error) = self.parts.kernel.grant(&key, grant) {
                    tracing::error!(hold, error = %anyhow::Error::new(error), "grant not written");
                    self.parts.engine.grant_failed(hold);
                }
            }
            Command::Resume { hold, key } => match self.parts.kernel.resume(&key) {
                Ok(true) => {}
                Ok(false) => self.suspects.push(hold),
                // The engine resumes again while the answer is not consumed.
                Err(error) => {
                    tracing::warn!(hold, error = %anyhow::Error::new(error), "not resumed");
                }
            },
            Command::Forget { hold, key } => self.forget(&key, hold),
            Command::Reannounce { hold, key } => {
                if let Err(error) = self.parts.kernel.reannounce(&key) {
                    tracing::warn!(hold, error = %anyhow::Error::new(error), "not announced again");
                }
            }
            Command::Request(request) => self.say(ToLink::Request(request)),
            Command::Farewell(farewell) => self.say(ToLink::Farewell(farewell)),
            Command::Evidence { session, event } => {
                if let Some(session) = session {
                    notes::note(&mut self.parts.sessions, session, &event);
                }
                self.evidence(session, *event);
            }
        }
    }

    fn forget(&mut self, key: &ActionKey, hold: u64) {
        if let Err(error) = self.parts.kernel.forget(key, hold) {
            let (pid, tid) = (key.tgid, key.tid);
            tracing::warn!(pid, tid, error = %anyhow::Error::new(error), "hold not forgotten");
        }
    }

    fn news(&mut self, news: FromLink) {
        let now_ns = clock::boottime_ns();
        let engine = &mut self.parts.engine;
        match news {
            FromLink::Opening(reply) => {
                // The link that asked may have gone meanwhile.
                let _ = reply.send(engine.pending_ids());
            }
            FromLink::Up => {
                self.link_up = true;
                engine.link_up();
            }
            FromLink::Down => {
                self.link_up = false;
                engine.link_down();
            }
            FromLink::Decision(decision) => engine.decide(now_ns, *decision),
            FromLink::RefusedDecision(why) => engine.refuse_decision(None, why),
        }
    }

    fn say(&mut self, message: ToLink) {
        let Some(link) = &self.parts.link else { return };
        if link.to_link.try_send(message).is_err() {
            // What could not be said is said again on the next stream.
            tracing::warn!("too much to say to the controller at once; the link is opened anew");
            self.link_up = false;
            self.parts.engine.link_down();
            link.reset.notify_one();
        }
    }

    fn evidence(&mut self, session: Option<SessionId>, event: Event) {
        self.parts.spool.record(clock::boottime_ns(), clock::unix_ms(), session, event);
    }

    fn save_sessions(&self) {
        let parts = &self.parts;
        if let Err(error) = state::save(&parts.sessions_path, parts.boot, &parts.sessions) {
            tracing::error!("{:#}", anyhow::Error::new(error));
        }
    }
}
