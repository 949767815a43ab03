//! The proof that a person may decide a hold. Only this module makes one.

use crate::Actor;
use guard_model::{HoldId, HoldRequest, Verdict};
use guard_policy::{ApproveRefusal, ApproveRequest, Policy};

/// Policy lets this person give this verdict on this hold. Cannot be copied, so it is used once.
#[derive(Debug)]
pub struct Permit {
    hold_id: HoldId,
    by: String,
    verdict: Verdict,
}

/// Why there is no permit.
#[derive(Debug, thiserror::Error)]
pub enum NotPermitted {
    /// Policy, or a rule above all policy.
    #[error("policy does not let this person decide it")]
    Policy(#[source] ApproveRefusal),
    /// The terms ask for something that this version cannot check.
    #[error("{0}")]
    UnmetTerms(String),
}

impl Permit {
    /// Asks the policy. Terms that cannot be checked yet (quorum, step-up, other scopes) forbid
    /// approval, never denial: an approval on half the terms would be worth less than none.
    ///
    /// # Errors
    /// [`NotPermitted`] says why.
    pub fn ask(
        policy: &Policy,
        actor: &Actor,
        hold: &HoldRequest,
        verdict: Verdict,
    ) -> Result<Self, NotPermitted> {
        if verdict == Verdict::Allow {
            check_terms(hold)?;
        }
        policy
            .may_approve(&ApproveRequest {
                user: &actor.user,
                roles: &actor.roles,
                groups: &actor.groups,
                principals: &actor.principals,
                hold,
            })
            .map_err(NotPermitted::Policy)?;
        Ok(Self { hold_id: hold.hold_id, by: actor.user.clone(), verdict })
    }

    /// Uses it up.
    ///
    /// # Panics
    /// It was made for another hold: a programming error that must never release anything.
    pub(super) fn for_hold(self, hold_id: HoldId) -> (Verdict, String) {
        assert_eq!(self.hold_id, hold_id, "a permit is for one hold");
        (self.verdict, self.by)
    }

    #[cfg(test)]
    pub(super) fn for_test(hold_id: HoldId, by: &str, verdict: Verdict) -> Self {
        Self { hold_id, by: by.into(), verdict }
    }
}

fn check_terms(hold: &HoldRequest) -> Result<(), NotPermitted> {
    let terms = &hold.terms;
    let unmet = if terms.quorum != 1 {
        format!("the policy asks for a quorum of {}, and only 1 is implemented", terms.quorum)
    } else if terms.scope != "once" {
        format!("the policy asks for scope `{}`, and only `once` is implemented", terms.scope)
    } else if let Some(stepup) = &terms.stepup {
        format!("the policy asks for step-up `{stepup}`, which is not implemented")
    } else {
        return Ok(());
    };
    Err(NotPermitted::UnmetTerms(unmet))
}
