//! Shapes of what the domain crates serialize, for the OpenAPI document only.
//!
//! The domain crates know nothing of OpenAPI. A test compares the fields here with what is really
//! serialized, so the two cannot drift apart.

use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Allow or deny.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "described, never built")]
pub(crate) enum Verdict {
    Allow,
    Deny,
}

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident : $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(ToSchema)]
            #[expect(dead_code, reason = "described, never built")]
            pub(crate) struct $name { $($(#[$field_doc])* $field: $type,)* }

            #[cfg(test)]
            impl $name {
                pub(crate) const FIELDS: &[&str] = &[$(stringify!($field)),*];
            }
        )*
    };
}

shapes! {
    /// One approval request.
    Hold {
        /// Its place in the order of arrival.
        number: u64,
        /// What the host said about it.
        request: Request,
        /// `pending`, `partly_approved`, `approved`, `rejected`, `expired`, `cancelled`,
        /// `superseded`, `consumed` or `lapsed`.
        state: String,
        /// How the host is called.
        hostname: String,
        /// ms since 1970.
        received_unix_ms: u64,
        /// First opened, ms since 1970.
        opened_unix_ms: Option<u64>,
        /// Once decided.
        verdict: Option<Verdict>,
        /// Who decided.
        decided_by: Option<String>,
        /// Their words, or why it ended otherwise.
        reason: Option<String>,
        /// ms since 1970.
        decided_unix_ms: Option<u64>,
        /// From first opening to decision, ms.
        deliberation_ms: Option<u64>,
        /// Approved so soon after opening that it may be unread.
        hasty: bool,
        /// The host needs nothing more.
        finished: bool,
    }

    /// Everything that the host said about one held action.
    Request {
        /// The hold's id.
        hold_id: String,
        /// The host's id.
        host: String,
        /// The boot's id.
        boot: String,
        /// Whose session.
        session: SessionInfo,
        /// Which task: pid, tid, uid, program, command line, directory, capabilities, ancestors.
        #[schema(value_type = Object)]
        process: (),
        /// What: `action` is `exec`, `open` or `connect`, the other fields depend on it.
        #[schema(value_type = Object)]
        action: (),
        /// SHA-256 of the canonical record of the action: what a decision is bound to.
        digest: String,
        /// The statements that held it: id, file, line, text, reason.
        #[schema(value_type = Vec<Object>)]
        statements: (),
        /// Groups, quorum, time to live and scope.
        #[schema(value_type = Object)]
        terms: (),
        /// What the session did just before, escaped for people's eyes.
        recent: Vec<String>,
        /// ms since 1970.
        held_at_unix_ms: u64,
        /// ms since 1970.
        deadline_unix_ms: u64,
    }

    /// A session's identity.
    SessionInfo {
        /// Its id.
        id: String,
        /// The AI agent's name.
        name: String,
        /// Whom it acts for.
        principal: String,
        /// User id that started it.
        uid: u32,
        /// ms since 1970.
        started_unix_ms: u64,
        /// First process.
        root_pid: u32,
        /// Its own claim.
        command: Vec<String>,
    }

    /// A session in a list.
    Session {
        /// Who and what.
        info: SessionInfo,
        /// The host's id.
        host: String,
        /// How the host is called.
        hostname: String,
        /// The boot's id.
        boot: String,
        /// Last evidence, ms since 1970.
        seen_unix_ms: u64,
        /// ms since 1970.
        ended_unix_ms: Option<u64>,
        /// Holds that wait.
        pending_holds: u64,
        /// All holds that needed a person.
        holds: u64,
    }

    /// One session in full.
    SessionInFull {
        /// As in a list.
        summary: Session,
        /// Its processes, parents before children: node, depth, exit.
        #[schema(value_type = Vec<Object>)]
        processes: (),
        /// Its evidence, oldest first.
        #[schema(value_type = Vec<Object>)]
        timeline: (),
        /// Whether there is older evidence than that.
        timeline_cut: bool,
    }

    /// A host.
    Host {
        /// Its id.
        id: String,
        /// Its name for itself.
        hostname: String,
        /// ms since 1970.
        enrolled_unix_ms: u64,
        /// Last message, ms since 1970.
        seen_unix_ms: u64,
        /// Whether it is linked now.
        link_up: bool,
        /// Its certificate is no longer accepted.
        revoked: bool,
        /// Its latest boot.
        boot: Option<String>,
        /// Version of its guard-agent.
        version: String,
        /// `uname -r`.
        kernel: String,
        /// SHA-256 of its policy.
        policy_digest: String,
        /// Per program: action, hook, state (`enforced`, `degraded`, `absent`), reason.
        #[schema(value_type = Vec<Object>)]
        coverage: (),
        /// The kernel's counters at the last heartbeat.
        counters: BTreeMap<String, u64>,
        /// Running sessions at the last heartbeat.
        sessions: u64,
        /// Holds that wait.
        pending_holds: u64,
    }

    /// A user.
    User {
        /// Name.
        name: String,
        /// `approver`, `admin`, `auditor`, `policy_author`.
        roles: Vec<String>,
        /// Groups that policy names.
        groups: Vec<String>,
        /// OS accounts that are this person's own.
        principals: Vec<String>,
        /// May not sign in.
        disabled: bool,
        /// ms since 1970.
        created_unix_ms: u64,
    }

    /// A user to be made.
    NewUser {
        /// Name: lower-case letters, digits, `.`, `_`, `-`.
        name: String,
        /// `approver`, `admin`, `auditor`, `policy_author`.
        roles: Vec<String>,
        /// Groups that policy names.
        groups: Vec<String>,
        /// OS accounts that are this person's own: they never approve these sessions.
        principals: Vec<String>,
    }

    /// An API token, without its secret.
    Token {
        /// Its id.
        id: String,
        /// Whose rights it has.
        user: String,
        /// What it is for.
        name: String,
        /// ms since 1970.
        created_unix_ms: u64,
        /// ms since 1970.
        expires_unix_ms: u64,
        /// Last use, ms since 1970.
        used_unix_ms: Option<u64>,
        /// No longer accepted.
        revoked: bool,
    }

    /// One line of evidence.
    EvidenceLine {
        /// From 1, in stored order.
        position: u64,
        /// host, boot, sequence, boottime_ns, unix_ms, session, event and the event's own fields.
        #[schema(value_type = Object)]
        record: (),
    }

    /// How far the log, its index and the sinks are.
    LogHealth {
        /// Entries of the log.
        size: u64,
        /// Age of its checkpoint: how long nothing was logged, ms.
        checkpoint_age_ms: u64,
        /// Entries of them that can be searched.
        indexed: u64,
        /// The controller's own records that are not in the log yet.
        waiting: u64,
        /// Entries that tell of lost records or events.
        lost: u64,
        /// What witnesses have cosigned.
        witnessed: Witnessed,
        /// What is erased by itself, and what is kept from it.
        retention: Retention,
        /// The sinks, in the order of their configuration.
        sinks: Vec<Sink>,
    }

    /// What is erased by itself, and what is kept from it.
    Retention {
        /// Class → days that it is kept; empty: nothing is ever erased by itself.
        days: BTreeMap<String, u32>,
        /// Payloads that rules have erased since the start.
        erased: u64,
        /// Legal holds in force.
        legal_holds: u64,
        /// How far the wall clock is ahead of what retention believes, ms.
        clock_ahead_ms: u64,
        /// Why the last round failed; null if it did not.
        failing: Option<String>,
    }

    /// What a legal hold keeps: entries that match every field that is there.
    LegalHoldScope {
        /// Of this class, such as `held`.
        class: Option<String>,
        /// Of this session.
        session: Option<String>,
        /// Of this host.
        host: Option<String>,
        /// Logged then or later, ms since 1970.
        from_unix_ms: Option<u64>,
        /// Logged earlier, ms since 1970.
        to_unix_ms: Option<u64>,
    }

    /// A legal hold: what it matches is not erased.
    LegalHold {
        /// Its id.
        id: String,
        /// What it keeps.
        scope: LegalHoldScope,
        /// Why it was set.
        reason: String,
        /// By whom.
        set_by: String,
        /// When, ms since 1970.
        set_unix_ms: u64,
        /// Why it was lifted; null if it is in force.
        lifted_reason: Option<String>,
        /// By whom.
        lifted_by: Option<String>,
        /// When, ms since 1970.
        lifted_unix_ms: Option<u64>,
    }

    /// What witnesses have cosigned.
    Witnessed {
        /// How many must cosign; 0: none is configured.
        quorum: usize,
        /// Entries that so many have cosigned.
        size: u64,
        /// When that was last, ms since 1970; 0: never since the start.
        unix_ms: u64,
        /// Each of them, in the order of their configuration.
        witnesses: Vec<Witness>,
    }

    /// One witness.
    Witness {
        /// The name of its key.
        name: String,
        /// Where it is asked.
        url: String,
        /// Entries that it has cosigned.
        size: u64,
        /// Why it has not cosigned what it was last asked for; null if it has.
        failing: Option<String>,
    }

    /// One sink.
    Sink {
        /// Its name.
        name: String,
        /// `file`, `stdout`, `webhook`, `splunk_hec`…
        kind: String,
        /// Where to; no secrets.
        target: String,
        /// `ocsf`, `ecs` or `cef`.
        format: String,
        /// The first log index that is not delivered.
        next: u64,
        /// Entries that are not delivered.
        lag: u64,
        /// Age of the oldest of them, ms.
        lag_ms: u64,
        /// Events that were confirmed, ever; repetitions count.
        delivered: u64,
        /// Events that the receiver refused for good, ever.
        rejected: u64,
        /// Failed attempts since the start.
        failures: u64,
        /// Why the last attempt failed; null if it did not.
        failing: Option<String>,
        /// Since when, ms since 1970.
        failing_since_unix_ms: Option<u64>,
    }

    /// Something changed.
    Change {
        /// `hold`, `session` or `host`.
        change: String,
        /// Which.
        id: String,
        /// Of a hold: its state now.
        state: Option<String>,
        /// Of a hold: its session.
        session: Option<String>,
    }
}
