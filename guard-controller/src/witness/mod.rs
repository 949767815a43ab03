//! Witnesses: others who cosign our checkpoints, so that we cannot show two people two logs.
//!
//! Asked beside the log, never in its way: a log without witnesses, or whose witnesses are all away,
//! goes on. What enough of them have cosigned stands in `checkpoint.cosigned`, where verification,
//! bundles and proofs find it.

mod ask;
mod spec;
#[cfg(test)]
mod tests;

pub use spec::{WITNESSES_MAX, WitnessError, WitnessSpec, WitnessesFile};

use crate::{clock, evidence::chain_of};
use ask::{Asked, Witness};
use guard_audit::log::{
    Checkpoint, CosignerKey, Dir, LogError, checkpoint, cosigned, keep_cosigned,
};
use serde::Serialize;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::spawn_blocking;

/// How often witnesses are asked, if the log has grown: what is younger is not witnessed yet.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What witnesses have cosigned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WitnessHealth {
    /// How many must cosign; 0: none is configured.
    pub quorum: usize,
    /// Entries that so many have cosigned.
    pub size: u64,
    /// When that was last, ms since 1970; 0: never since the start.
    pub unix_ms: u64,
    /// Each of them, in the order of their configuration.
    pub witnesses: Vec<WitnessView>,
}

/// One witness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WitnessView {
    /// The name of its key.
    pub name: String,
    /// Where it is asked.
    pub url: String,
    /// Entries that it has cosigned.
    pub size: u64,
    /// Why it has not cosigned what it was last asked for.
    pub failing: Option<String>,
}

/// What is known of the witnesses; shared with those who show it.
#[derive(Debug, Default)]
pub(crate) struct WitnessState(Mutex<WitnessHealth>);

impl WitnessState {
    pub(crate) fn view(&self) -> WitnessHealth {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut WitnessHealth)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Asks the witnesses of one log.
pub(crate) struct Worker {
    files: Arc<Dir>,
    quorum: usize,
    witnesses: Vec<Witness>,
    state: Arc<WitnessState>,
}

/// Prepares the witnesses of the log in `dir`. Nobody is asked yet.
pub(crate) fn prepare(
    dir: &Path,
    config: &WitnessesFile,
) -> Result<(Arc<WitnessState>, Option<Worker>), WitnessError> {
    let keys = config.keys()?;
    let files = Arc::new(Dir::new(dir));
    let known = cosigned(&*files).ok().flatten();
    let view = |(spec, key): (&WitnessSpec, &CosignerKey)| WitnessView {
        name: key.name().into(),
        url: spec.url.clone(),
        size: known.as_ref().filter(|c| key.verify(c).is_ok()).map_or(0, |c| c.head.size),
        failing: None,
    };
    let views: Vec<_> = config.witnesses.iter().zip(&keys).map(view).collect();
    let mut health =
        WitnessHealth { quorum: config.quorum, witnesses: views, ..Default::default() };
    if let Some(known) = &known
        && health.witnesses.iter().filter(|view| view.size > 0).count() >= config.quorum.max(1)
    {
        health.size = known.head.size;
    }
    if keys.is_empty() {
        return Ok((Arc::default(), None));
    }
    let mut witnesses = Vec::new();
    for ((spec, key), view) in config.witnesses.iter().zip(keys).zip(&health.witnesses) {
        witnesses.push(Witness::new(spec, key, view.size)?);
    }
    let state = Arc::new(WitnessState(Mutex::new(health)));
    let quorum = config.quorum;
    Ok((Arc::clone(&state), Some(Worker { files, quorum, witnesses, state })))
}

impl Worker {
    pub(crate) async fn run(mut self, stopped: impl Future<Output = ()>) -> &'static str {
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => return "the witness task",
                asked = self.round() => if let Err(error) = asked {
                    tracing::error!(problem = chain_of(&error), "witnesses cannot be asked");
                }
            }
            tokio::select! {
                () = &mut stopped => return "the witness task",
                () = tokio::time::sleep(ASK_EVERY) => {}
            }
        }
    }

    /// Asks everybody who has not cosigned what the log has now.
    async fn round(&mut self) -> Result<(), LogError> {
        let files = Arc::clone(&self.files);
        let now = blocking(move || checkpoint(&*files)).await?;
        if now.head.size == 0 || self.witnesses.iter().all(|w| w.has(&now)) {
            return Ok(());
        }
        let files = &self.files;
        let asked = self.witnesses.iter_mut().map(|witness| witness.ask(files, &now));
        let asked = futures::future::join_all(asked).await;
        let lines: Vec<_> = asked.iter().filter_map(|asked| asked.as_ref().ok()).collect();
        let enough = lines.len() >= self.quorum;
        if enough {
            let lines: String = lines.iter().map(|Asked(line)| line.as_str()).collect();
            self.keep(&now, &lines).await?;
        }
        self.state.change(|health| {
            for (view, asked) in health.witnesses.iter_mut().zip(&asked) {
                view.failing = asked.as_ref().err().cloned();
                if asked.is_ok() {
                    view.size = now.head.size;
                }
            }
            if enough {
                health.size = now.head.size;
                health.unix_ms = clock::unix_ms();
            }
        });
        Ok(())
    }

    async fn keep(&self, now: &Checkpoint, lines: &str) -> Result<(), LogError> {
        let cosigned = now.with_signatures(lines).map_err(LogError::Sign)?;
        let files = Arc::clone(&self.files);
        blocking(move || keep_cosigned(&*files, &cosigned)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(LogError::Broken),
    }
}
