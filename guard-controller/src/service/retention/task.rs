//! What runs by the clock: a time that is believed, kept over restarts, and a round every minute.

use super::Controller;
use crate::{
    RetentionHealth, StoreError, clock,
    db::{Db, Doing as _},
};
use guard_audit::retention::Clock;
use sqlx::Row as _;
use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};
use tokio::time::sleep;

/// How often it is looked whether something has become old.
const EVERY: Duration = Duration::from_secs(60);

/// Pause between two rounds while there is more to look at: the log's other work goes on.
const BETWEEN: Duration = Duration::from_millis(200);

/// Everything is looked at anew after so many quiet rounds (a day): a hold that was under way when
/// its record became old has ended meanwhile.
const ROUNDS_OF_A_PASS: u32 = 24 * 60;

/// Where the believed time is kept.
const KEY: &str = "retention_clock";

/// The time that retention goes by, kept in the database.
pub(crate) struct BelievedTime {
    clock: Clock,
}

impl BelievedTime {
    /// Goes on from the time of the last run; at the first start from `last_logged`, the log time of
    /// an earlier run's last entry, or else from now: there is nothing yet that could be old.
    pub(crate) async fn load(db: &Db, last_logged: Option<u64>) -> Result<Self, StoreError> {
        let row = sqlx::query("SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?")
            .bind(KEY)
            .fetch_optional(db.read())
            .await
            .doing("read the time of retention")?;
        let kept: Option<u64> =
            row.map(|row| row.try_get(0)).transpose().doing("read the time of retention")?;
        let passed = kept.or(last_logged).unwrap_or_else(clock::unix_ms);
        Ok(Self { clock: Clock::new(passed, steady_ms()) })
    }

    /// The time to go by now, and how far the wall clock is ahead of it, ms.
    async fn now(&mut self, db: &Db) -> Result<(u64, u64), StoreError> {
        let wall = clock::unix_ms();
        let now = self.clock.now(wall, steady_ms());
        let mut tx = db.write().await?;
        sqlx::query("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)")
            .bind(KEY)
            .bind(now.to_string())
            .execute(&mut *tx)
            .await
            .doing("keep the time of retention")?;
        tx.commit().await.doing("keep the time of retention")?;
        Ok((now, wall.saturating_sub(now)))
    }
}

fn steady_ms() -> u64 {
    clock::boottime_ns() / 1_000_000
}

/// Looks until `stopped`. Without rules only the time goes on.
pub(crate) async fn run(
    controller: Controller,
    mut time: BelievedTime,
    stopped: impl Future<Output = ()>,
) -> &'static str {
    tokio::pin!(stopped);
    let mut quiet = 0;
    loop {
        let done = async {
            let (now, ahead) = time.now(controller.db()).await?;
            controller.inner.retention.clock_ahead_ms.store(ahead, Ordering::Relaxed);
            controller.expire_evidence(now).await
        };
        let done = done.await;
        let more = matches!(&done, Ok(round) if round.more);
        controller.retention_went(done.err());
        quiet = if more { quiet } else { quiet + 1 };
        if quiet >= ROUNDS_OF_A_PASS {
            quiet = 0;
            controller.inner.retention.start_over();
        }
        tokio::select! {
            () = &mut stopped => return "retention",
            () = sleep(if more { BETWEEN } else { EVERY }) => {}
        }
    }
}

impl Controller {
    fn retention_went(&self, error: Option<StoreError>) {
        let failing = error.map(|error| crate::evidence::chain_of(&error));
        if let Some(problem) = &failing {
            tracing::error!(problem, "what is old was not erased; tried again");
        }
        let state = &self.inner.retention.failing;
        *state.lock().unwrap_or_else(PoisonError::into_inner) = failing;
    }

    /// What is erased by itself, and what is kept from it.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn retention_health(&self) -> Result<RetentionHealth, StoreError> {
        let state = &self.inner.retention;
        let days = self.config().retention.iter();
        Ok(RetentionHealth {
            days: days.map(|(class, days)| (class.to_owned(), days)).collect(),
            erased: state.erased.load(Ordering::Relaxed),
            legal_holds: self.legal_holds(true).await?.len() as u64,
            clock_ahead_ms: state.clock_ahead_ms.load(Ordering::Relaxed),
            failing: state.failing.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        })
    }
}
