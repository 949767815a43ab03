//! The real kernel side: pinned maps, and signals through pidfds.

use super::{
    Kernel, KernelError, KernelObject, Sent, Tampering,
    guardian::Seat,
    keeper::Keeper,
    load::{EbpfConfig, LoadError, load},
    processes::{Processes, is_same_thread},
    ring::EventSource,
    sys::{failed, pidfd_send_signal, task_storage_get, task_storage_set},
    wire::Wire,
};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use guard_common::{
    counter::COUNTERS,
    hold::{ActionKey, Config, Grant, HOLD_REANNOUNCE, HoldRecord, StandingKey},
    label::{Label, SelectorKey},
    sent::{SentKey, SentRecord},
};
use guard_model::Coverage;
use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

/// The pinned maps.
pub struct Ebpf {
    holds: HashMap<MapData, Wire<ActionKey>, Wire<HoldRecord>>,
    grants: HashMap<MapData, Wire<ActionKey>, Wire<Grant>>,
    standing: HashMap<MapData, Wire<StandingKey>, u64>,
    policy_epoch: u32,
    sent: HashMap<MapData, Wire<SentKey>, Wire<SentRecord>>,
    selectors: HashMap<MapData, Wire<SelectorKey>, u64>,
    counters: Array<MapData, u64>,
    config: Array<MapData, Wire<Config>>,
    labels: MapData,
    processes: Processes,
    keeper: Keeper,
    seat: Seat,
    follows_another_abi: bool,
}

impl Ebpf {
    /// Loads or adopts the programs; says what is covered.
    ///
    /// # Errors
    /// [`LoadError`] says what this host lacks and how to get it.
    pub fn load(config: &EbpfConfig) -> Result<(Self, EventSource, Vec<Coverage>), LoadError> {
        load(config)
    }

    pub(super) fn new(
        map: impl Fn(&'static str) -> Result<Map, LoadError>,
        policy_epoch: u32,
        keeper: Keeper,
        seat: Seat,
        follows_another_abi: bool,
    ) -> Result<Self, LoadError> {
        fn typed<M: TryFrom<Map, Error = MapError>>(
            name: &'static str,
            map: Map,
        ) -> Result<M, LoadError> {
            M::try_from(map).map_err(|error| LoadError::Map { map: name, why: error.to_string() })
        }
        let Map::Unsupported(labels) = map("LABELS")? else {
            let why = "is not task storage".to_owned();
            return Err(LoadError::Map { map: "LABELS", why });
        };
        Ok(Self {
            holds: typed("HOLDS", map("HOLDS")?)?,
            grants: typed("GRANTS", map("GRANTS")?)?,
            standing: typed("STANDING", map("STANDING")?)?,
            policy_epoch,
            sent: typed("SENT", map("SENT")?)?,
            selectors: typed("SELECTORS", map("SELECTORS")?)?,
            counters: typed("COUNTERS", map("COUNTERS")?)?,
            config: typed("CONFIG", map("CONFIG")?)?,
            labels,
            processes: Processes::default(),
            keeper,
            seat,
            follows_another_abi,
        })
    }
}

fn map_failed(call: &'static str) -> impl FnOnce(MapError) -> KernelError {
    move |error| {
        let source = match error {
            MapError::SyscallError(error) => error.io_error,
            other => io::Error::other(other.to_string()),
        };
        KernelError { call: call.to_owned(), source }
    }
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        Err(MapError::KeyNotFound) => Ok(()),
        other => other,
    }
}

impl Kernel for Ebpf {
    fn grant(&mut self, key: &ActionKey, grant: Grant) -> Result<(), KernelError> {
        self.grants.insert(Wire(*key), Wire(grant), 0).map_err(map_failed("write a grant"))
    }

    fn resume(&mut self, key: &ActionKey) -> Result<bool, KernelError> {
        self.processes.resume(key)
    }

    fn is_alive(&mut self, key: &ActionKey) -> bool {
        is_same_thread(key)
    }

    fn forget(&mut self, key: &ActionKey, hold: u64) -> Result<(), KernelError> {
        let key = Wire(*key);
        // Between a look and the removal the thread may place the next hold of the same action. It is
        // announced, found missing at its restart, and placed again: asked about twice, and not lost.
        if self.grants.get(&key, 0).is_ok_and(|Wire(grant)| grant.hold_id == hold) {
            absent_is_fine(self.grants.remove(&key)).map_err(map_failed("remove a grant"))?;
        }
        if self.holds.get(&key, 0).is_ok_and(|Wire(held)| held.hold_id == hold) {
            absent_is_fine(self.holds.remove(&key)).map_err(map_failed("remove a hold"))?;
        }
        Ok(())
    }

    fn holds(&mut self) -> Result<Vec<(ActionKey, HoldRecord)>, KernelError> {
        self.holds
            .iter()
            .map(|entry| entry.map(|(Wire(key), Wire(hold))| (key, hold)))
            .collect::<Result<_, _>>()
            .map_err(map_failed("read the hold table"))
    }

    fn drop_stale_grants(&mut self) -> Result<(), KernelError> {
        let granted: Vec<_> = self.grants.keys().filter_map(Result::ok).collect();
        for key in granted {
            // Nobody else writes grants, and the kernel consumes none without a hold.
            if matches!(self.holds.get(&key, 0), Err(MapError::KeyNotFound)) {
                absent_is_fine(self.grants.remove(&key)).map_err(map_failed("remove a grant"))?;
            }
        }
        Ok(())
    }

    fn reannounce(&mut self, key: &ActionKey) -> Result<(), KernelError> {
        let result = self.holds.get(&Wire(*key), 0);
        let Wire(mut hold) = match result {
            Ok(hold) => hold,
            // Consumed or gone since the table was read.
            Err(MapError::KeyNotFound) => return Ok(()),
            Err(error) => return Err(map_failed("read a hold")(error)),
        };
        hold.state = HOLD_REANNOUNCE;
        /// Only replaces: a hold that has gone since must not come back.
        const BPF_EXIST: u64 = 2;
        let result = self.holds.insert(Wire(*key), Wire(hold), BPF_EXIST);
        absent_is_fine(result).map_err(map_failed("mark a hold for announcement"))
    }

    fn label(&mut self, pidfd: BorrowedFd<'_>, label: Label) -> Result<(), KernelError> {
        task_storage_set(self.labels.fd().as_fd(), pidfd, &label)
            .map_err(failed("label a process by its pidfd"))
    }

    fn label_of(&mut self, pidfd: BorrowedFd<'_>) -> Result<Option<Label>, KernelError> {
        task_storage_get(self.labels.fd().as_fd(), pidfd)
            .map_err(failed("read the label of a process by its pidfd"))
    }

    fn allow_standing(&mut self, standing: StandingKey) -> Result<(), KernelError> {
        let key = StandingKey { policy_epoch: self.policy_epoch, ..standing };
        self.standing.insert(Wire(key), 1, 0).map_err(map_failed("write a standing permission"))
    }

    fn set_selectors(&mut self, selectors: &[(SelectorKey, u64)]) -> Result<(), KernelError> {
        let old: Vec<_> = self.selectors.keys().filter_map(Result::ok).collect();
        for Wire(key) in old {
            if !selectors.iter().any(|(kept, _)| *kept == key) {
                absent_is_fine(self.selectors.remove(&Wire(key)))
                    .map_err(map_failed("remove an exec selector"))?;
            }
        }
        for (key, index) in selectors {
            self.selectors
                .insert(Wire(*key), index, 0)
                .map_err(map_failed("set an exec selector"))?;
        }
        Ok(())
    }

    fn counters(&mut self) -> Result<Vec<u64>, KernelError> {
        (0..COUNTERS)
            .map(|index| self.counters.get(&index, 0))
            .collect::<Result<_, _>>()
            .map_err(map_failed("read the counters"))
    }

    fn take_sent(&mut self, is_final: &dyn Fn(&SentKey) -> bool) -> Result<Vec<Sent>, KernelError> {
        let final_keys: Vec<_> = (self.sent.keys())
            .filter(|key| key.as_ref().map_or(true, |Wire(key)| is_final(key)))
            .collect::<Result<_, _>>()
            .map_err(map_failed("list what was sent"))?;
        let mut taken = Vec::with_capacity(final_keys.len());
        for key in final_keys {
            // Nobody else removes them.
            let sums = self.sent.get(&key, 0);
            match sums.and_then(|Wire(sums)| self.sent.remove(&key).map(|()| sums)) {
                Ok(sums) => taken.push(Sent::new(key.0, sums)),
                Err(error) if taken.is_empty() => {
                    return Err(map_failed("take what was sent")(error));
                }
                // What was taken must be told; the rest is still there.
                Err(_) => break,
            }
        }
        Ok(taken)
    }

    fn skipped(&self) -> u64 {
        self.keeper.skipped()
    }

    fn follows_another_abi(&self) -> bool {
        self.follows_another_abi
    }

    fn wake(&mut self, pidfd: BorrowedFd<'_>) -> Result<(), KernelError> {
        pidfd_send_signal(pidfd, libc::SIGCONT).map_err(failed("send SIGCONT"))
    }

    fn mend(&mut self) -> Vec<Tampering> {
        let found = self.keeper.mend();
        let looked = if found.is_empty() { Ok(()) } else { self.seat.look() };
        if let Err(error) = looked.and_then(|()| self.seat.renew()) {
            tracing::error!(error = %anyhow::Error::new(error), "no sign of life to the kernel");
        }
        found
    }

    fn objects(&self) -> Vec<KernelObject> {
        self.keeper.objects()
    }

    fn expire_from_now(&mut self) -> Result<(), KernelError> {
        let write = |config: &mut Array<MapData, Wire<Config>>| {
            let Wire(old) = config.get(&0, 0)?;
            config.set(0, Wire(Config { hold_ttl_ns: 0, ..old }), 0)
        };
        write(&mut self.config).map_err(map_failed("let every hold expire"))
    }

    fn end(&mut self) -> Result<Vec<u32>, KernelError> {
        self.keeper.end().map_err(failed("remove the pins"))?;
        Ok(self.holds()?.into_iter().map(|(key, _)| key.tgid).collect())
    }
}
