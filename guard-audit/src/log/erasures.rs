//! Which payloads are gone, which entries say why, and whether they could be: by the rule that they
//! name, and against the legal holds of that time.

use super::{Envelope, walk::Lines};
use crate::{Event, HoldScope};
use guard_model::HostId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use uuid::Uuid;

/// The holds in force at some entry.
type Holds = Arc<Vec<(Uuid, HoldScope)>>;

/// An entry whose payload is gone: what its leaf still says.
#[derive(Debug)]
struct Gone {
    index: u64,
    time: u64,
    host: HostId,
    class: Arc<str>,
}

/// An entry that says of others that they were erased.
#[derive(Debug)]
struct Said {
    index: u64,
    /// By a rule: of which class, logged before when.
    rule: Option<(String, u64)>,
    holds: Holds,
}

/// Gathers erasures and what explains them.
#[derive(Debug, Default)]
pub(super) struct Erasures {
    gone: Vec<Gone>,
    /// Each class once: there may be millions that are gone.
    classes: BTreeSet<Arc<str>>,
    said: Vec<Said>,
    /// First entry → (how many, place in `said`).
    ranges: BTreeMap<u64, (u64, usize)>,
    holds: Holds,
}

impl Erasures {
    /// The payload of an entry is gone.
    pub(super) fn gone(&mut self, index: u64, envelope: &Envelope) {
        let class = match self.classes.get(envelope.class.as_str()) {
            Some(known) => Arc::clone(known),
            None => Arc::from(envelope.class.as_str()),
        };
        self.classes.insert(Arc::clone(&class));
        let Envelope { time, host, .. } = *envelope;
        self.gone.push(Gone { index, time, host, class });
    }

    /// What an entry says of erasures and holds.
    pub(super) fn event(&mut self, index: u64, event: &Event) {
        match event {
            Event::PayloadErased { index: of, .. } => self.said(index, None, &[(*of, 1)]),
            Event::PayloadsExpired { of, before_unix_ms, entries, .. } => {
                self.said(index, Some((of.clone(), *before_unix_ms)), entries);
            }
            Event::LegalHoldSet { legal_hold, scope, .. } => {
                Arc::make_mut(&mut self.holds).push((*legal_hold, scope.clone()));
            }
            Event::LegalHoldLifted { legal_hold, .. } => {
                Arc::make_mut(&mut self.holds).retain(|(id, _)| id != legal_hold);
            }
            _ => {}
        }
    }

    fn said(&mut self, index: u64, rule: Option<(String, u64)>, entries: &[(u64, u64)]) {
        for (first, count) in entries {
            // Said twice: the first time is when it happened.
            self.ranges.entry(*first).or_insert((*count, self.said.len()));
        }
        self.said.push(Said { index, rule, holds: Arc::clone(&self.holds) });
    }

    fn of(&self, index: u64) -> Option<&Said> {
        let (first, (count, at)) = self.ranges.range(..=index).next_back()?;
        (index - first < *count).then(|| self.said.get(*at))?
    }

    /// Erasures that nobody told of go to `untold`; those that should not have been to `problems`.
    pub(super) fn finish(&self, problems: &mut Lines, untold: &mut Vec<String>) {
        for Gone { index, time, host, class: of } in &self.gone {
            let Some(said) = self.of(*index) else {
                untold.push(format!(
                    "entry {index}: its payload is gone, and no entry here says why"
                ));
                continue;
            };
            let by = said.index;
            if let Some((class, before)) = &said.rule
                && (**class != **of || time >= before)
            {
                problems.push(format!(
                    "entry {index}: its payload is gone, and the rule of entry {by} was not for it"
                ));
            }
            // What a hold of a session keeps cannot be told once the record is gone.
            for (hold, scope) in said.holds.iter() {
                if scope.session.is_none() && scope.matches_leaf(of, *host, *time) {
                    problems.push(format!(
                        "entry {index}: its payload is gone by entry {by}, while legal hold \
                         {hold} kept it"
                    ));
                }
            }
        }
    }
}
