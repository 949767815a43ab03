//! The action of a hold, for records that name the hold only.

use super::{OcsfEvent, action::Act, base::Base, disposition::Disposition};
use crate::{Event, Record};
use guard_model::{Action, ActionDigest, HoldId, PolicyStatement, ProcessContext};

/// What a decided or held action was.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldAction {
    /// Hold id.
    pub hold_id: HoldId,
    /// Action digest.
    pub digest: ActionDigest,
    /// Which task.
    pub process: ProcessContext,
    /// What.
    pub action: Action,
    /// Under which statements.
    pub statements: Vec<PolicyStatement>,
}

impl HeldAction {
    /// From the record that describes it.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        match &record.event {
            Event::Held { request } => Some(Self {
                hold_id: request.hold_id,
                digest: request.digest,
                process: request.process.clone(),
                action: request.action.clone(),
                statements: request.statements.clone(),
            }),
            Event::Decided { hold_id, digest, process, action, statements, .. } => Some(Self {
                hold_id: *hold_id,
                digest: *digest,
                process: process.clone(),
                action: action.clone(),
                statements: statements.clone(),
            }),
            _ => None,
        }
    }

    pub(super) fn event(&self, base: Base, disposition: Disposition) -> OcsfEvent {
        let Self { hold_id, digest, process, action, statements } = self;
        let hold_id = Some(*hold_id);
        Act { hold_id, digest, process, action, statements }.event(base, disposition)
    }
}

/// The hold whose action [`super::Context::held`] should be.
#[must_use]
pub fn needs(record: &Record) -> Option<HoldId> {
    match &record.event {
        Event::PersonDecided { hold_id, .. } | Event::Withdrawn { hold_id, .. } => Some(*hold_id),
        Event::Outcome { hold_id, .. } => *hold_id,
        _ => None,
    }
}
