//! What the commands ask the controller about holds.

use super::{HoldItem, HoldPage};
use crate::controller::Client;
use anyhow::{Result, bail};
use guard_model::{HoldId, Verdict};
use hyper::body::Incoming;
use serde_json::json;

impl Client {
    /// Holds in those states, newest first.
    pub(super) async fn holds(&self, states: &str) -> Result<HoldPage> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || b"_,".contains(&byte);
        if !states.bytes().all(plain) {
            bail!("`{states}`: expected `open`, `closed`, or states such as `pending,approved`");
        }
        self.get(&format!("/api/v1/holds?limit=500&state={states}")).await
    }

    pub(super) async fn hold(&self, id: HoldId) -> Result<HoldItem> {
        self.get(&format!("/api/v1/holds/{id}")).await
    }

    pub(super) async fn decide(
        &self,
        id: HoldId,
        verdict: Verdict,
        reason: &str,
    ) -> Result<HoldItem> {
        let body = json!({ "verdict": verdict, "reason": reason });
        self.post(&format!("/api/v1/holds/{id}/decision"), &body).await
    }

    /// The stream of changes.
    pub(super) async fn events(&self) -> Result<Incoming> {
        self.stream("/api/v1/events").await
    }
}
