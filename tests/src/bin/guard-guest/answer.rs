//! Answering person-tier holds through the controller's REST API, as a person would in the page.

use crate::{Trouble, http::Api};
use serde_json::json;
use std::{
    io::{BufRead as _, BufReader, ErrorKind},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Longest time without a look at the queue: what changes is told, but not while there is no controller. Looking
/// all the time would take the machine from what is looked for: under emulation it has one slow processor.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause before the controller is asked for its changes again.
const RETRY: Duration = Duration::from_millis(100);

/// How to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Approve,
    Deny,
    /// Deny what has `deny` in its object's name, approve the rest.
    ByName,
    Nothing,
}

impl From<guard_vm_wire::Answer> for How {
    fn from(answer: guard_vm_wire::Answer) -> Self {
        match answer {
            guard_vm_wire::Answer::Approve => Self::Approve,
            guard_vm_wire::Answer::Deny => Self::Deny,
            guard_vm_wire::Answer::None => Self::Nothing,
        }
    }
}

/// A thread that answers until it is stopped.
pub(crate) struct Answering {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    pub(crate) fn start(api: Api, how: How) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = (how != How::Nothing).then(|| {
            thread::spawn(move || {
                let mut changes = None;
                while !seen.load(Ordering::Relaxed) {
                    // Opened first, so that nothing changes unseen between the look and the wait.
                    changes = changes.or_else(|| api.changes(PAUSE).ok());
                    answer_pending(&api, how);
                    if !changes.as_mut().is_some_and(is_open_after_change) {
                        changes = None;
                        thread::sleep(RETRY);
                    }
                }
            })
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread {
            let _ = thread.join();
        }
    }
}

/// Waits for a change, but no longer than [`PAUSE`]. False: no more will come.
fn is_open_after_change(changes: &mut BufReader<TcpStream>) -> bool {
    match changes.fill_buf() {
        Ok(bytes) => {
            let len = bytes.len();
            changes.consume(len);
            len > 0
        }
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// Answers every hold that is pending now; one that ended meanwhile is somebody else's. How many there
/// were.
pub(crate) fn answer_pending(api: &Api, how: How) -> usize {
    let Ok(page) = api.get("/api/v1/holds?state=pending&limit=200") else { return 0 };
    let holds = page.get("holds").or(Some(&page)).and_then(|holds| holds.as_array().cloned());
    let holds = holds.unwrap_or_default();
    for hold in &holds {
        let Some(id) = hold_id(hold) else { continue };
        let deny = match how {
            How::Deny => true,
            How::ByName => object_text(hold).contains("deny"),
            How::Approve | How::Nothing => false,
        };
        let verdict = if deny { "deny" } else { "allow" };
        let _ = decide(api, id, verdict);
    }
    holds.len()
}

/// Decides one hold: `allow` or `deny`.
pub(crate) fn decide(api: &Api, id: &str, verdict: &str) -> Result<(), Trouble> {
    let body = json!({ "verdict": verdict, "reason": "answered by cargo xtask vm" });
    api.post(&format!("/api/v1/holds/{id}/decision"), &body).map(drop)
}

fn hold_id(hold: &serde_json::Value) -> Option<&str> {
    hold.pointer("/request/hold_id").or_else(|| hold.get("hold_id"))?.as_str()
}

fn object_text(hold: &serde_json::Value) -> String {
    let action = hold.pointer("/request/action").or_else(|| hold.get("action"));
    action.map(ToString::to_string).unwrap_or_default()
}
