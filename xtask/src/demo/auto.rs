//! `--auto`: decides every hold through the page while the agent runs.

use super::{
    page::Page,
    plan::{self, Answer},
};
use crate::run::say;
use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Pause between two looks at the queue.
const PAUSE: Duration = Duration::from_millis(100);

/// The thread that decides.
pub(crate) struct Auto {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Answer>>>,
}

impl Auto {
    /// Signs in with the link's path and decides until told to finish.
    pub(crate) fn start(port: u16, link: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = thread::spawn(move || {
            let result = decide_all(port, &link, &seen);
            if let Err(error) = &result {
                say(format!("deciding through the page failed: {error:#}"));
            }
            result
        });
        Self { stop, thread }
    }

    /// What was decided.
    pub(crate) fn finish(self) -> Result<Vec<Answer>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the deciding thread panicked"))?
    }
}

fn decide_all(port: u16, link: &str, stop: &AtomicBool) -> Result<Vec<Answer>> {
    let page = Page::sign_in(port, link).context("sign in")?;
    say("signed in through the one-time link");
    let mut answers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let holds = match page.open_holds() {
            Ok(holds) => holds,
            // The VM switches off before we are told to stop.
            Err(_) if stop_soon(stop) => break,
            Err(error) => return Err(error),
        };
        for hold in holds {
            answers.push(decide(&page, &hold)?);
        }
        thread::sleep(PAUSE);
    }
    Ok(answers)
}

fn stop_soon(stop: &AtomicBool) -> bool {
    for _ in 0..100 {
        if stop.load(Ordering::Relaxed) {
            return true;
        }
        thread::sleep(PAUSE);
    }
    false
}

fn decide(page: &Page, hold: &Value) -> Result<Answer> {
    let text = |pointer: &str| hold.pointer(pointer).and_then(Value::as_str);
    let id = text("/request/hold_id").context("a hold without an id")?;
    let line = text("/line").context("a hold without its line")?.to_owned();
    let statement = text("/request/statements/0/id").unwrap_or("?");
    let found = plan::find(&line);
    // A person would read it first; so does the check that the page can be opened.
    page.open(id)?;
    let (reason, approve) = match found {
        Some((step, approve)) => (format!("demo: step {step} as planned"), approve),
        None => ("demo: nobody expected this".to_owned(), false),
    };
    let verdict = if approve { "approving" } else { "denying" };
    say(format!("{verdict} `{line}` (held by {statement})"));
    page.decide(id, approve, &reason)?;
    Ok(Answer { line, step: found.map(|(step, _)| step) })
}
