//! `guard approvals watch`: what arrives and what becomes of it, as it happens.

use super::{
    HoldItem, show,
    sse::{Event, Parser},
};
use crate::{controller::Client, output};
use anyhow::Result;
use guard_model::{HoldId, HoldState};
use http_body_util::BodyExt as _;
use std::{collections::HashMap, time::Duration};
use tokio::time::sleep;

/// Pause before a stream that ended is opened again.
const REOPEN_AFTER: Duration = Duration::from_millis(500);

/// States that were shown, of holds that can still change.
#[derive(Default)]
struct Shown(HashMap<HoldId, HoldState>);

impl Shown {
    /// Whether this state is news; forgets holds that are at an end.
    fn is_new(&mut self, id: HoldId, state: HoldState) -> bool {
        let before = self.0.insert(id, state);
        if is_final(state) {
            self.0.remove(&id);
        }
        before != Some(state)
    }
}

fn is_final(state: HoldState) -> bool {
    !matches!(state, HoldState::Pending | HoldState::PartlyApproved | HoldState::Approved)
}

/// Follows until the controller refuses, or the reader of our output has gone.
pub(super) async fn follow(client: &Client, json: bool) -> Result<()> {
    let mut shown = Shown::default();
    if !json {
        output::text("Waiting for requests; Ctrl-C ends this.\n")?;
    }
    loop {
        let mut stream = client.events().await?;
        // The stream is open first, so nothing that comes now is missed by the list.
        list(client, &mut shown, json).await?;
        let mut parser = Parser::default();
        while let Some(Ok(frame)) = stream.frame().await {
            let Some(bytes) = frame.data_ref() else { continue };
            for event in parser.push(bytes)? {
                handle(client, &mut shown, json, &event).await?;
            }
        }
        // The controller ends a stream now and then; one that has gone is an error at the next try.
        sleep(REOPEN_AFTER).await;
    }
}

async fn handle(client: &Client, shown: &mut Shown, json: bool, event: &Event) -> Result<()> {
    match event.name.as_str() {
        "hold" => {
            if let Ok(change) = serde_json::from_str::<ChangedHold>(&event.data)
                && shown.0.get(&change.id) != Some(&change.state)
            {
                report(&client.hold(change.id).await?, shown, json)?;
            }
            Ok(())
        }
        "resync" => list(client, shown, json).await,
        _ => Ok(()),
    }
}

/// The part of `guard_controller::Change::Hold` that is needed here.
#[derive(serde::Deserialize)]
struct ChangedHold {
    id: HoldId,
    state: HoldState,
}

async fn list(client: &Client, shown: &mut Shown, json: bool) -> Result<()> {
    for item in client.holds("open").await?.holds.iter().rev() {
        report(item, shown, json)?;
    }
    Ok(())
}

fn report(item: &HoldItem, shown: &mut Shown, json: bool) -> Result<()> {
    if !shown.is_new(item.hold.request.hold_id, item.hold.state) {
        return Ok(());
    }
    if json {
        return output::json(item);
    }
    output::text(&output::columns(&[show::row(item)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_controller::Change;
    use uuid::Uuid;

    #[test]
    fn a_state_is_news_once_and_ended_holds_are_forgotten() {
        let mut shown = Shown::default();
        let id = HoldId(Uuid::from_u128(1));
        assert!(shown.is_new(id, HoldState::Pending));
        assert!(!shown.is_new(id, HoldState::Pending));
        assert!(shown.is_new(id, HoldState::Approved));
        assert!(shown.is_new(id, HoldState::Consumed));
        assert!(shown.0.is_empty());
    }

    #[test]
    fn a_change_is_read_as_the_controller_writes_it() {
        let session = guard_model::SessionId(Uuid::from_u128(2));
        let change =
            Change::Hold { id: HoldId(Uuid::from_u128(1)), state: HoldState::Pending, session };
        let text = serde_json::to_string(&change).unwrap();
        let read: ChangedHold = serde_json::from_str(&text).unwrap();
        assert_eq!((read.id, read.state), (HoldId(Uuid::from_u128(1)), HoldState::Pending));
    }
}
