//! The kernel side as the rest of guard-agent sees it: events in, grants and labels out.
//!
//! [`Kernel`] is the whole surface. The hold engine's tests drive a fake; `guard_agent::kernel::ebpf`
//! (loader, maps, ring buffer, pidfd) is the real one.

mod convert;
pub mod ebpf;
mod guardian;
mod keeper;
pub mod load;
mod pins;
mod processes;
mod programs;
mod prototype;
mod quirk;
mod ring;
mod sys;
mod unseen;
mod wire;

pub use convert::{action_name, action_of_kind};
pub use guard_common::event::RING_BYTES;
pub use keeper::{KernelObject, Tampering};
pub use load::{EbpfConfig, LoadError};
pub use ring::{EventSource, parse_mib};
pub use sys::boottime_ns;
pub(crate) use sys::{give_way, pidfd_open, send_kill, statx_at_once};

use guard_common::{
    decode::DecodeError,
    event::Header,
    hold::{ActionKey, Grant, HoldRecord, KIND_SEND, StandingKey},
    label::{Label, SelectorKey},
    sent::{SentKey, SentRecord},
};
use guard_model::{Action, Endpoint};
use std::os::fd::BorrowedFd;

/// A ring buffer record, decoded and owned.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelEvent {
    /// Common part.
    pub header: Header,
    /// What happened.
    pub body: KernelBody,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum KernelBody {
    /// A hold was placed (or announced again after adoption, with the same id).
    Held {
        /// Exactly which action; the grant goes under this key.
        key: Box<ActionKey>,
        /// The same for people, policy and evidence.
        action: Box<Action>,
        /// `CLOCK_BOOTTIME` deadline, ns.
        deadline_ns: u64,
    },
    /// An action that cannot be held was denied at once.
    Blocked {
        /// Exactly which action.
        key: Box<ActionKey>,
        /// The same for people, policy and evidence.
        action: Box<Action>,
        /// `REASON_*`.
        reason: u32,
    },
    /// A grant was consumed, a hold expired, or an action was refused without a hold.
    Outcome {
        /// `EVENT_CONSUMED`, `EVENT_EXPIRED` or `EVENT_REFUSED`.
        event: u32,
        /// Exactly which action.
        key: Box<ActionKey>,
        /// `VERDICT_*` that took effect.
        verdict: u32,
        /// `REASON_*`.
        reason: u32,
    },
    /// A labelled task made a child.
    Fork {
        /// Its process id.
        child_tgid: u32,
        /// Its thread id.
        child_tid: u32,
    },
    /// A labelled task is exiting.
    Exit,
    /// A labelled task runs a new image.
    Executed,
    /// An exec selector started a session.
    Selected {
        /// Its number ([`crate::selector`]).
        selector: u64,
    },
    /// Somebody who is not guard-agent reached for what Guard is made of, and was refused.
    Tamper {
        /// `TAMPER_*`.
        what: u32,
        /// Of what, if it has a name; of a long one the beginning.
        name: String,
    },
    /// Records were lost before this one: sequence gap or undecodable.
    Lost {
        /// `sequence_gap` or `undecodable`.
        counter: &'static str,
        /// How many.
        count: u64,
    },
}

/// What a session sent to one address in one minute.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Whose, and when.
    pub key: SentKey,
    /// Where to.
    pub endpoint: Endpoint,
    /// How much.
    pub sums: SentRecord,
}

impl Sent {
    /// The kernel's entry, with its address read as that of an action is.
    #[must_use]
    pub fn new(key: SentKey, sums: SentRecord) -> Self {
        Self { key, endpoint: convert::endpoint(&key.as_action(KIND_SEND)), sums }
    }
}

/// Decodes one ring buffer record: for the fuzz targets, which have no ring buffer.
///
/// # Errors
/// [`DecodeError`] names the part or field.
pub fn decode_event(bytes: &[u8]) -> Result<KernelEvent, DecodeError> {
    convert::event(bytes)
}

/// A system call or map operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {source}")]
pub struct KernelError {
    /// What was attempted, with the object's name.
    pub call: String,
    /// Why it failed.
    pub source: std::io::Error,
}

/// What guard-agent may do to the kernel side. All calls are quick and do not block.
pub trait Kernel: Send {
    /// Writes the decision for the exact action. The task still has to be resumed.
    ///
    /// # Errors
    /// The map refused it (full, gone): the caller must treat the hold as undecided.
    fn grant(&mut self, key: &ActionKey, grant: Grant) -> Result<(), KernelError>;

    /// Sends SIGCONT to the process through a pidfd, after checking that it is still the task that
    /// the key names. `Ok(false)`: the task is gone.
    ///
    /// # Errors
    /// The signal could not be sent for another reason.
    fn resume(&mut self, key: &ActionKey) -> Result<bool, KernelError>;

    /// Whether the thread that the key names is still there.
    fn is_alive(&mut self, key: &ActionKey) -> bool;

    /// Forgets this hold, and an unconsumed grant for it, of a task that is gone or does something else. A
    /// newer hold of the same action stays.
    ///
    /// # Errors
    /// The map operation failed for another reason than that there was none.
    fn forget(&mut self, key: &ActionKey, hold: u64) -> Result<(), KernelError>;

    /// All holds that the kernel has, for adoption.
    ///
    /// # Errors
    /// The map cannot be read.
    fn holds(&mut self) -> Result<Vec<(ActionKey, HoldRecord)>, KernelError>;

    /// Removes grants of holds that the kernel does not have: an earlier guard-agent wrote them while the hold
    /// ended, and was killed before it could take them back.
    ///
    /// # Errors
    /// The map operation failed.
    fn drop_stale_grants(&mut self) -> Result<(), KernelError>;

    /// Marks a hold to be announced again at its next restart (adoption, H9).
    ///
    /// # Errors
    /// The map operation failed.
    fn reannounce(&mut self, key: &ActionKey) -> Result<(), KernelError>;

    /// Labels the thread-group leader behind a pidfd.
    ///
    /// # Errors
    /// It is gone, or the map operation failed.
    fn label(&mut self, pidfd: BorrowedFd<'_>, label: Label) -> Result<(), KernelError>;

    /// The label of the thread-group leader behind a pidfd, if it has one.
    ///
    /// # Errors
    /// It is gone, or the map operation failed.
    fn label_of(&mut self, pidfd: BorrowedFd<'_>) -> Result<Option<Label>, KernelError>;

    /// Allows beforehand what cannot be held, under the policy in force (`standing.policy_epoch` is filled
    /// in here).
    ///
    /// # Errors
    /// The map operation failed.
    fn allow_standing(&mut self, standing: StandingKey) -> Result<(), KernelError>;

    /// Replaces all exec selectors; the value is the number that the kernel's record will have.
    ///
    /// # Errors
    /// The map operation failed, or the map is full.
    fn set_selectors(&mut self, selectors: &[(SelectorKey, u64)]) -> Result<(), KernelError>;

    /// All counters by index (`guard_common::counter`).
    ///
    /// # Errors
    /// The map cannot be read.
    fn counters(&mut self) -> Result<Vec<u64>, KernelError>;

    /// Takes the sums of what was sent that `is_final` says do not change any more. What is left over, because a map
    /// operation failed on the way, is there the next time.
    ///
    /// # Errors
    /// The map operation failed, and nothing was taken.
    fn take_sent(&mut self, is_final: &dyn Fn(&SentKey) -> bool) -> Result<Vec<Sent>, KernelError>;

    /// How often the kernel met a hook of ours and did not run the program, since the programs were loaded.
    ///
    /// It does that where the program is at work on the same CPU already. From 7.x on a program on a tracepoint
    /// can be preempted, and then a fork or an exit that comes meanwhile has no record; early 6.1 kernels do it on
    /// every hook.
    fn skipped(&self) -> u64 {
        0
    }

    /// Whether this start replaced programs of another ABI: tasks may be held of which no table that can be
    /// read tells. They are held anew once they are continued.
    fn follows_another_abi(&self) -> bool {
        false
    }

    /// Sends SIGCONT to a labelled process, which is always safe: what is held stops again (H8).
    ///
    /// # Errors
    /// It is gone, or the signal could not be sent.
    fn wake(&mut self, _pidfd: BorrowedFd<'_>) -> Result<(), KernelError> {
        Ok(())
    }

    /// Looks at every pin and puts back what is missing; what was not as it had been left.
    fn mend(&mut self) -> Vec<Tampering> {
        Vec::new()
    }

    /// The links and maps that enforce.
    fn objects(&self) -> Vec<KernelObject> {
        Vec::new()
    }

    /// From now on every hold expires at once: what is held is denied when it restarts, with a grant or
    /// without.
    ///
    /// # Errors
    /// The map operation failed.
    fn expire_from_now(&mut self) -> Result<(), KernelError> {
        Ok(())
    }

    /// Ends enforcement: detaches and unpins everything. Says which processes were held in that instant.
    ///
    /// # Errors
    /// A pin could not be removed, or the hold table not be read.
    fn end(&mut self) -> Result<Vec<u32>, KernelError> {
        Ok(Vec::new())
    }
}
