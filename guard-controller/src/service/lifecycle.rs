//! Start and stop: the state directory, the two servers, and what runs by the clock.

use super::{
    Controller, Inner,
    retention::{self, BelievedTime, RetentionState},
};
use crate::{
    Config, Role, StartError, StoreError, UserSpec,
    db::{Db, Doing as _},
    engine::CONTROLLER,
    evidence::{MerkleEvidence, outbox::Outbox},
    identity::{self, Authority},
    rpc::{self, links::Links},
    search::Index,
    sinks::{self, Worker},
    web, witness,
};
use guard_audit::Event;
use guard_model::HostId;
use sqlx::Row as _;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{Error, ErrorKind},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, broadcast, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use uuid::Uuid;

/// How often deadlines are looked at. A decision checks its own, so this only ends what nobody
/// decides.
const EXPIRE_EVERY: Duration = Duration::from_millis(250);

/// How long a task waits after its storage failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often the search index looks for new entries when there were none.
const INDEX_EVERY: Duration = Duration::from_millis(100);

/// How long open requests may take to end at a stop.
const DRAIN: Duration = Duration::from_secs(5);

/// A started controller. Dropping it stops it without a word; [`Running::shutdown`] does it in
/// order.
pub struct Running {
    /// Its API.
    pub controller: Controller,
    /// Where the UI listens.
    pub ui_addr: SocketAddr,
    /// Where guard-agents link.
    pub rpc_addr: SocketAddr,
    /// One-time sign-in token of the first user, as long as that has no password.
    pub first_sign_in: Option<String>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<&'static str>,
    _lock: File,
}

impl Running {
    /// Waits until a server has stopped by itself, which it never should; says which.
    pub async fn failed(&mut self) -> &'static str {
        match self.tasks.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(_)) => "a task that panicked",
            None => "all tasks",
        }
    }

    /// Stops both servers, ends links, writes the last evidence, closes the database.
    pub async fn shutdown(mut self) {
        // No receiver is left only if every task is gone already.
        let _ = self.stop.send(true);
        self.controller.inner.links.end_all();
        let drained = timeout(DRAIN, async { while self.tasks.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!("requests still open after {DRAIN:?} were cut");
            self.tasks.shutdown().await;
        }
        let stopped = Event::Stopped { component: CONTROLLER.into(), reason: "asked to".into() };
        if let Err(error) = self.controller.audit(stopped).await {
            tracing::error!(%error, "last evidence not written");
        }
        if let Err(error) = self.controller.flush_evidence().await {
            tracing::error!(%error, "outbox not emptied; the next start does it");
        }
        self.controller.inner.evidence.close().await;
        self.controller.inner.db.close().await;
    }
}

impl Controller {
    /// Opens the state directory and serves.
    ///
    /// # Errors
    /// [`StartError`] names what is in the way.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        let lock = lock_state_dir(&config.state_dir)?;
        let db = Db::open(&config.state_dir.join("controller.db")).await?;
        let own_id = own_id(&db).await?;
        let evidence = MerkleEvidence::open(db.clone(), &config.state_dir, own_id).await?;
        let last_logged = evidence.last_time().await?;
        let believed = BelievedTime::load(&db, last_logged).await?;
        let authority = Authority::load_or_create(&config.state_dir)?;
        let server = authority.server_identity(&config.rpc_names)?;
        let (ui, ui_addr) = listen(config.ui_addr, "the UI").await?;
        let (rpc, rpc_addr) = listen(config.rpc_addr, "guard-agents").await?;
        let index = Index::open(db.clone(), evidence.reader()).await?;
        let (states, sinks) = sinks::prepare(&db, &config.sinks, index.size()).await?;
        let (witnesses, asking) = witness::prepare(evidence.dir(), &config.witnesses)?;
        let controller = Self {
            inner: Arc::new(Inner {
                evidence,
                index,
                sinks: states,
                witnesses,
                outbox: Outbox::new(own_id),
                decision_key: identity::decision_key(&config.state_dir)?,
                authority,
                links: Links::new(config.limits.links),
                changes: broadcast::Sender::new(super::CHANGES_KEPT),
                written: Notify::new(),
                erasing: tokio::sync::Mutex::default(),
                retention: RetentionState::default(),
                db,
                config,
            }),
        };
        // An erasure may have been told of in the outbox only, when a crash came: it is finished
        // before anybody can set a hold that would have kept it.
        controller.flush_evidence().await?;
        controller.inner.evidence.redo_erasures().await?;
        controller.audit(started()).await?;
        controller.audit(policy_loaded(&controller)).await?;
        let first_sign_in = controller.first_sign_in().await?;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        // A host that links again may still have its old connection open.
        let connections = controller.config().limits.links * 2;
        let rpc_server = rpc::server(controller.clone(), &server).map_err(StartError::Tls)?;
        tasks.spawn(rpc::serve(rpc_server, rpc, connections, until(stopped.clone())));
        tasks.spawn(serve_ui(controller.clone(), ui, stopped.clone()));
        tasks.spawn(expire(controller.clone(), until(stopped.clone())));
        tasks.spawn(move_evidence(controller.clone(), until(stopped.clone())));
        tasks.spawn(index_evidence(controller.clone(), until(stopped.clone())));
        tasks.spawn(retention::run(controller.clone(), believed, until(stopped.clone())));
        for sink in sinks {
            tasks.spawn(Worker::new(controller.clone(), sink).run(until(stopped.clone())));
        }
        if let Some(worker) = asking {
            tasks.spawn(worker.run(until(stopped.clone())));
        }
        Ok(Running { controller, ui_addr, rpc_addr, first_sign_in, stop, tasks, _lock: lock })
    }

    /// Makes the first user if there is none; a link for it as long as it has no password.
    async fn first_sign_in(&self) -> Result<Option<String>, StartError> {
        let first = &self.config().first_user;
        if self.users().await?.is_empty() {
            let spec = UserSpec {
                name: first.name.clone(),
                roles: vec![Role::Approver, Role::Admin],
                groups: Vec::new(),
                principals: first.principals.clone(),
            };
            self.create_user(spec, CONTROLLER).await?;
        }
        match self.user_by_name(&first.name).await? {
            Some(user) if user.password_hash.is_none() && !user.disabled => {
                Ok(Some(self.new_sign_in_link(&user.name, CONTROLLER).await?))
            }
            _ => Ok(None),
        }
    }
}

/// Makes the state directory if there is none, and takes its lock: one process at a time.
pub(crate) fn lock_state_dir(dir: &Path) -> Result<File, StartError> {
    let failed = |doing| move |source| StartError::State { path: dir.into(), doing, source };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed("cannot be created"))?;
    let found = fs::metadata(dir).map_err(failed("cannot be examined"))?;
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let advice = format!("mode {mode:o} lets others in; chmod 700 it or choose another");
        let source = Error::new(ErrorKind::PermissionDenied, advice);
        return Err(failed("cannot keep secrets")(source));
    }
    let path = dir.join("lock");
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("its lock cannot be opened"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StartError::Locked { path }),
        Err(TryLockError::Error(source)) => Err(failed("its lock cannot be taken")(source)),
    }
}

/// The id under which the controller's own evidence stands: drawn once.
async fn own_id(db: &Db) -> Result<HostId, StoreError> {
    let mut tx = db.write().await?;
    sqlx::query("INSERT INTO meta (key, value) VALUES ('controller_id', ?) ON CONFLICT DO NOTHING")
        .bind(Uuid::new_v4().to_string())
        .execute(&mut *tx)
        .await
        .doing("draw the controller's id")?;
    let row = sqlx::query("SELECT value FROM meta WHERE key = 'controller_id'")
        .fetch_one(&mut *tx)
        .await
        .doing("read the controller's id")?;
    let id: String = row.try_get(0).doing("read the controller's id")?;
    tx.commit().await.doing("draw the controller's id")?;
    crate::db::parse(("meta", "value", "controller_id"), id.parse())
}

async fn listen(
    addr: SocketAddr,
    purpose: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { addr, purpose, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn started() -> Event {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Event::Started {
        component: CONTROLLER.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: kernel.trim().into(),
        coverage: Vec::new(),
    }
}

fn policy_loaded(controller: &Controller) -> Event {
    let policy = &controller.config().policy;
    Event::policy_loaded(policy.digest(), policy.texts())
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that `Running` was dropped: stop as well.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn serve_ui(
    controller: Controller,
    listener: TcpListener,
    stopped: watch::Receiver<bool>,
) -> &'static str {
    let config = web::WebConfig::from(controller.config());
    web::serve(listener, web::router(controller, config), until(stopped)).await;
    "the UI server"
}

async fn expire(controller: Controller, stopped: impl Future<Output = ()>) -> &'static str {
    tokio::pin!(stopped);
    loop {
        let pause = match controller.expire_due().await {
            Ok(0) => EXPIRE_EVERY,
            Ok(_) => Duration::ZERO,
            Err(error) => {
                tracing::error!(%error, "holds cannot be expired");
                RETRY_AFTER
            }
        };
        tokio::select! {
            () = &mut stopped => return "the expiry task",
            () = sleep(pause) => {}
        }
    }
}

async fn move_evidence(controller: Controller, stopped: impl Future<Output = ()>) -> &'static str {
    tokio::pin!(stopped);
    loop {
        if let Err(error) = controller.flush_evidence().await {
            tracing::error!(%error, "evidence waits in the outbox");
            sleep(RETRY_AFTER).await;
            controller.inner.written.notify_one();
        }
        tokio::select! {
            () = &mut stopped => return "the evidence task",
            () = controller.inner.written.notified() => {}
        }
    }
}

async fn index_evidence(controller: Controller, stopped: impl Future<Output = ()>) -> &'static str {
    tokio::pin!(stopped);
    loop {
        let pause = match controller.inner.index.step().await {
            Ok(0) => INDEX_EVERY,
            Ok(_) => Duration::ZERO,
            Err(error) => {
                tracing::error!(%error, "evidence is not indexed: not found, and not sent on");
                RETRY_AFTER
            }
        };
        tokio::select! {
            () = &mut stopped => return "the search index",
            () = sleep(pause) => {}
        }
    }
}
