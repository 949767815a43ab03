//! What drives one sink: reads behind its cursor, delivers, moves the cursor.

use super::{
    Deliver, DeliveryError, Rendered, SinkError, SinkSpec, SinkState, Start, cursor, spec, target,
};
use crate::{
    Controller, StartError, StoreError, clock,
    db::Db,
    search::{ReadEntry, ReadError},
};
use guard_audit::{Event, Record};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// How often to look for new entries when there were none.
const POLL: Duration = Duration::from_millis(200);

/// Longest delivery of one batch, its confirmation included.
pub(super) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);

/// Waits between failed attempts: doubles from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// An event that the receiver refuses is given up after this many attempts.
const REJECTED_TRIES: u32 = 3;

/// After this many events in a row were given up, the receiver is taken to be misconfigured: the
/// next one is tried until it is taken.
pub(super) const REJECTED_IN_A_ROW_MAX: u32 = 8;

/// Makes the sinks' cursors and checks everything that they name.
///
/// # Errors
/// [`StartError`] names the sink.
pub(crate) async fn prepare(
    db: &Db,
    specs: &[SinkSpec],
    size: u64,
) -> Result<(Vec<Arc<SinkState>>, Vec<Prepared>), StartError> {
    spec::check(specs)?;
    let mut sinks = Vec::with_capacity(specs.len());
    for spec in specs {
        let deliver = target::open(spec)?;
        let start = if spec.start == Start::Now { size } else { 0 };
        let cursor = cursor::open(db, &spec.name, start).await?;
        sinks.push((Arc::new(SinkState::new(spec.clone(), cursor)), deliver));
    }
    let states = sinks.iter().map(|(state, _)| Arc::clone(state)).collect();
    Ok((states, sinks))
}

/// A sink that is not yet at work.
pub(crate) type Prepared = (Arc<SinkState>, Box<dyn Deliver>);

impl From<SinkError> for StartError {
    fn from(error: SinkError) -> Self {
        Self::Sink(Box::new(error))
    }
}

/// One sink at work.
pub(crate) struct Worker {
    pub(crate) controller: Controller,
    pub(crate) state: Arc<SinkState>,
    pub(crate) deliver: Box<dyn Deliver>,
    limit: usize,
    /// Since when the first event of the next batch waits for others, and which.
    waits: Option<(u64, Instant)>,
    pause: Duration,
    tries: u32,
    /// The batch that was noted is refused: a smaller one is tried.
    halved: bool,
    rejected_in_a_row: u32,
}

/// Entries that were read and what of them is to be sent.
struct Batch {
    from: u64,
    /// The first index after it.
    to: u64,
    events: Vec<Rendered>,
    /// The batch's only entry says that this very sink lost something.
    own_loss: bool,
}

impl Worker {
    pub(crate) fn new(controller: Controller, (state, deliver): Prepared) -> Self {
        Self {
            controller,
            state,
            limit: deliver.bounds().events,
            deliver,
            waits: None,
            pause: PAUSE_MIN,
            tries: 0,
            halved: false,
            rejected_in_a_row: 0,
        }
    }

    /// Works until `stopped`. A delivery in the middle is cut and repeated at the next start.
    pub(crate) async fn run(mut self, stopped: impl Future<Output = ()>) -> &'static str {
        tokio::pin!(stopped);
        loop {
            let pause = tokio::select! {
                () = &mut stopped => return "a sink",
                pause = self.step() => pause,
            };
            tokio::select! {
                () = &mut stopped => return "a sink",
                () = sleep(pause) => {}
            }
        }
    }

    /// One attempt; how long to wait before the next.
    pub(super) async fn step(&mut self) -> Duration {
        if let Some(pause) = self.waits_for_more() {
            return pause;
        }
        let batch = match self.batch().await {
            Ok(batch) if batch.from == batch.to => return POLL,
            Ok(batch) => batch,
            Err(error) => return self.failed(&format!("the log cannot be read: {error}")),
        };
        if let Err(error) = self.begin(&batch).await {
            return self.failed(&format!("the batch cannot be noted: {error}"));
        }
        let delivered = match timeout(DELIVERY_TIMEOUT, self.send(&batch)).await {
            Ok(delivered) => delivered,
            Err(_) => {
                let why = format!("no confirmation after {} s", DELIVERY_TIMEOUT.as_secs());
                Err(DeliveryError::Unavailable(why))
            }
        };
        match delivered {
            Ok(rejected) => {
                let sent = batch.events.len() as u64;
                self.rejected_in_a_row = 0;
                self.confirmed(&batch, (sent.saturating_sub(rejected), rejected)).await
            }
            Err(DeliveryError::Unavailable(why)) => self.failed(&why),
            Err(DeliveryError::Rejected(why)) => self.rejected(&batch, &why).await,
        }
    }

    async fn send(&mut self, batch: &Batch) -> Result<u64, DeliveryError> {
        if batch.events.is_empty() { Ok(0) } else { self.deliver.deliver(&batch.events).await }
    }

    /// How long to wait before the next batch is worth its delivery; none if it is now.
    fn waits_for_more(&mut self) -> Option<Duration> {
        let (bounds, cursor) = (self.deliver.bounds(), self.state.now().cursor);
        let there = self.controller.index().indexed().saturating_sub(cursor.next);
        let under_way = cursor.batch_end > cursor.next;
        if there == 0 || under_way || there >= bounds.events as u64 || bounds.age.is_zero() {
            self.waits = None;
            return None;
        }
        let since = match self.waits {
            Some((first, since)) if first == cursor.next => since,
            _ => Instant::now(),
        };
        self.waits = Some((cursor.next, since));
        let left = bounds.age.checked_sub(since.elapsed()).filter(|left| !left.is_zero());
        left.map(|left| left.min(POLL))
    }

    /// What is delivered next. Where the receiver names batches and one was under way before a
    /// crash, the very same.
    async fn batch(&self) -> Result<Batch, ReadError> {
        let (bounds, cursor) = (self.deliver.bounds(), self.state.now().cursor);
        let from = cursor.next;
        let mut batch = Batch { from, to: from, events: Vec::new(), own_loss: false };
        let again = bounds.named && cursor.batch_end > from && !self.halved;
        let end = if again { cursor.batch_end } else { from.saturating_add(self.limit as u64) };
        let most = if again { usize::MAX } else { bounds.bytes };
        let mut bytes = 0;
        while batch.to < end {
            let limit = usize::try_from(end - batch.to).unwrap_or(usize::MAX);
            let entries = self.controller.index().read(batch.to, limit).await?;
            if entries.is_empty() || !self.add(&mut batch, &entries, (&mut bytes, most)) {
                break;
            }
            if !bounds.named {
                break;
            }
        }
        if again && batch.to < end {
            // The index is being made anew: what was under way is not all there yet.
            return Ok(Batch { from, to: from, events: Vec::new(), own_loss: false });
        }
        batch.own_loss &= batch.events.len() == 1;
        Ok(batch)
    }

    /// Adds what fits; whether all of it did.
    fn add(
        &self,
        batch: &mut Batch,
        entries: &[ReadEntry],
        (bytes, most): (&mut usize, usize),
    ) -> bool {
        let spec = &self.state.spec;
        for read in entries {
            let event = Rendered::new(read, spec.format);
            let wanted = spec.only.is_empty() || spec.only.contains(&event.code);
            if wanted {
                *bytes += event.body.len();
                if *bytes > most && !batch.events.is_empty() {
                    return false;
                }
                batch.events.push(event);
                batch.own_loss = is_loss_of(read.entry.record.as_ref(), &spec.name);
            }
            batch.to = read.entry.index + 1;
        }
        true
    }

    /// Notes where a batch ends that the receiver will keep under a name.
    async fn begin(&self, batch: &Batch) -> Result<(), StoreError> {
        if !self.deliver.bounds().named || self.state.now().cursor.batch_end == batch.to {
            return Ok(());
        }
        let name = &self.state.spec.name;
        // A crash before this line: nothing was delivered. After it: the same batch again.
        let cursor = cursor::begin(self.controller.db(), name, batch.from, batch.to).await?;
        self.state.now().cursor = cursor;
        Ok(())
    }

    async fn confirmed(&mut self, batch: &Batch, counts: (u64, u64)) -> Duration {
        let name = &self.state.spec.name;
        let moved = cursor::advance(self.controller.db(), name, batch.from, batch.to, counts).await;
        let cursor = match moved {
            Ok(cursor) => cursor,
            // Delivered and not noted: it is delivered again.
            Err(error) => return self.failed(&format!("the cursor cannot be moved: {error}")),
        };
        {
            let mut now = self.state.now();
            now.cursor = cursor;
            if let Some((why, _)) = now.failing.take() {
                tracing::info!(sink = name, "delivers again, after: {why}");
            }
        }
        self.tries = 0;
        self.halved = false;
        self.pause = PAUSE_MIN;
        self.limit = (self.limit * 2).min(self.deliver.bounds().events);
        if counts.1 > 0 && !batch.own_loss {
            self.record_loss(counts.1).await;
        }
        Duration::ZERO
    }

    /// The receiver refuses something in the batch: halves it until it is one event, and gives that
    /// up only if others are taken.
    async fn rejected(&mut self, batch: &Batch, why: &str) -> Duration {
        if batch.to - batch.from > 1 {
            self.halved = true;
            self.limit = usize::try_from((batch.to - batch.from) / 2).unwrap_or(1).max(1);
            return Duration::ZERO;
        }
        self.tries += 1;
        if self.tries < REJECTED_TRIES || self.rejected_in_a_row >= REJECTED_IN_A_ROW_MAX {
            return self.failed(&format!("entry {} is refused: {why}", batch.from));
        }
        let name = &self.state.spec.name;
        tracing::error!(sink = name, entry = batch.from, "given up, refused by receiver: {why}");
        self.rejected_in_a_row += 1;
        self.confirmed(batch, (0, 1)).await
    }

    async fn record_loss(&self, count: u64) {
        let counter = loss_counter(&self.state.spec.name);
        let recorded = self.controller.audit(Event::Lost { counter, count }).await;
        if let Err(error) = recorded {
            let name = &self.state.spec.name;
            tracing::error!(sink = name, count, %error, "a loss is counted but not in evidence");
        }
    }

    fn failed(&mut self, why: &str) -> Duration {
        let mut now = self.state.now();
        now.failures += 1;
        let since = now.failing.as_ref().map_or_else(clock::unix_ms, |(_, since)| *since);
        if now.failing.as_ref().is_none_or(|(last, _)| last != why) {
            tracing::warn!(sink = self.state.spec.name, "not delivered, tried again: {why}");
        }
        now.failing = Some((why.to_owned(), since));
        drop(now);
        let pause = self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        pause
    }
}

fn loss_counter(sink: &str) -> String {
    format!("sink_rejected:{sink}")
}

/// A loss of this sink is not news to it: recording its refusal would go on for ever.
fn is_loss_of(record: Option<&Record>, sink: &str) -> bool {
    let event = record.map(|record| &record.event);
    matches!(event, Some(Event::Lost { counter, .. }) if *counter == loss_counter(sink))
}

impl Controller {
    /// Sets a sink's cursor to `next`, so that everything from there on is delivered (again), and
    /// says so in evidence. False if there is no such sink.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn replay_sink(&self, name: &str, next: u64, by: &str) -> Result<bool, StoreError> {
        let Some(state) = self.sink_states().iter().find(|state| state.spec.name == name) else {
            return Ok(false);
        };
        let next = next.min(self.index().size());
        let change = format!("sink {name} delivers from entry {next} on");
        self.reset_cursor(name, next, &change, by).await?;
        state.now().cursor = cursor::load(self.db(), name).await?;
        Ok(true)
    }
}
