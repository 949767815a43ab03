//! How much evidence may be under way: little, so that a hold never waits behind much of it.
//!
//! Holds and evidence share one stream, and the controller takes a stream in order. What is already
//! under way cannot be overtaken; so evidence is sent in small batches, and the next one only once
//! an earlier one is durable at the controller. The spool is where evidence waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Most JSON in one evidence batch, bytes; a record that is larger goes alone. Some two hundred
/// records: enough for the controller's disk to be written to seldom.
pub const BATCH_BYTES: usize = 128 << 10;
/// Batches that may wait for their acknowledgement: one is written down at the controller while the
/// next one travels. Over a link of 50 ms there and back this is 5 MB/s.
pub const BATCHES_MAX: usize = 2;

/// Counts the batches under way.
#[derive(Debug, Default)]
pub struct Window {
    under_way: AtomicUsize,
    acknowledged: Notify,
}

impl Window {
    /// Waits until one more batch may be sent, and counts it. For one sender.
    pub async fn send_one(&self) {
        while self.under_way.load(Ordering::Acquire) >= BATCHES_MAX {
            // A permit is kept if the acknowledgement comes first.
            self.acknowledged.notified().await;
        }
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }

    /// The controller has answered one batch. It also says where it is when a link opens: then there
    /// is none, and nothing is counted.
    pub fn answered(&self) {
        let less = |count: usize| count.checked_sub(1);
        let _ = self.under_way.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.acknowledged.notify_one();
    }
}
