//! The local socket: how a process becomes a session, and how a session learns why it waits.
//!
//! Everybody on the host may connect, sessions included, so every connection is bounded in time,
//! size and number, per user too: a session must not be able to keep others from it. A session may
//! ask `why` and nothing else; that is decided by the driver, which knows the labels.

pub mod client;
pub mod peer;
pub mod protocol;
#[cfg(test)]
mod tests;

use crate::clock;
use peer::Peer;
use protocol::{REQUEST_BYTES_MAX, Reply, Request};
use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

/// Where it is by convention.
pub const PATH_DEFAULT: &str = "/run/guard/agent.sock";
/// Most connections at one time.
pub const CONNECTIONS_MAX: usize = 128;
/// Most connections of one user at one time.
pub const CONNECTIONS_PER_USER_MAX: usize = 16;
/// Longest time for one connection: a request is one line that is written at once.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(5);
/// Most requests that wait for the driver.
const REQUESTS_MAX: usize = CONNECTIONS_MAX;

/// A request on its way to the driver.
#[derive(Debug)]
pub struct Call {
    /// Who asks.
    pub peer: Peer,
    /// What.
    pub request: Request,
    /// Where the reply goes.
    pub reply: oneshot::Sender<Reply>,
}

/// The socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} the socket {path}")]
pub struct SocketError {
    /// What was attempted.
    pub verb: &'static str,
    /// The socket.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The open socket; its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Socket {
    /// Opens it. A socket file that nobody listens on is replaced; one that somebody listens on,
    /// or a file of another kind, is not.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn open(path: &Path) -> Result<Self, SocketError> {
        let failed = |verb| move |source| SocketError { verb, path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed("create the folder of"))?;
        }
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at")(error)),
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(failed("replace")(io::Error::other("it is not a socket")));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                let why = "another guard-agent listens on it; stop that one first";
                return Err(failed("take over")(io::Error::new(io::ErrorKind::AddrInUse, why)));
            }
            Ok(_) => fs::remove_file(path).map_err(failed("remove"))?,
        }
        let listener = UnixListener::bind(path).map_err(failed("bind"))?;
        let everybody = fs::Permissions::from_mode(0o666);
        fs::set_permissions(path, everybody).map_err(failed("open to everybody"))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves for ever.
    pub async fn serve(self, calls: mpsc::Sender<Call>) {
        let slots = Arc::new(Slots::default());
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve_one(stream, calls.clone(), slots.clone()));
                }
                Err(error) => {
                    // Out of descriptors, say: connections that wait are served when there are
                    // some.
                    tracing::warn!(%error, "a local connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// A channel for calls of the right size.
#[must_use]
pub fn calls() -> (mpsc::Sender<Call>, mpsc::Receiver<Call>) {
    mpsc::channel(REQUESTS_MAX)
}

async fn serve_one(stream: UnixStream, calls: mpsc::Sender<Call>, slots: Arc<Slots>) {
    let accepted_ns = clock::boottime_ns();
    let Ok(peer) = peer::identify(&stream, accepted_ns) else { return };
    let Some(_slot) = Slot::take(&slots, peer.uid) else {
        let message = "too many connections to guard-agent; try again".to_owned();
        answer(stream, &Reply::Error { message }).await;
        return;
    };
    let exchange = async {
        let mut stream = stream;
        let reply = match read_request(&mut stream).await {
            Ok(request) => call(peer, request, &calls).await,
            Err(message) => Reply::Error { message },
        };
        answer(stream, &reply).await;
    };
    // Beyond it the connection is dropped without a word: who is that slow does not read either.
    let _ = tokio::time::timeout(CONNECTION_TIME_MAX, exchange).await;
}

async fn read_request(stream: &mut UnixStream) -> Result<Request, String> {
    let mut line = Vec::new();
    let limit = REQUEST_BYTES_MAX as u64 + 1;
    let mut reader = BufReader::new(stream.take(limit));
    reader.read_until(b'\n', &mut line).await.map_err(|error| error.to_string())?;
    if line.len() > REQUEST_BYTES_MAX {
        return Err(format!("a request is at most {REQUEST_BYTES_MAX} bytes long"));
    }
    if line.pop() != Some(b'\n') {
        return Err("a request ends with a newline".to_owned());
    }
    Request::parse(&line).map_err(|error| error.to_string())
}

async fn call(peer: Peer, request: Request, calls: &mpsc::Sender<Call>) -> Reply {
    let (reply, answer) = oneshot::channel();
    let stopping = || Reply::Error { message: "guard-agent is stopping; try again".to_owned() };
    if calls.send(Call { peer, request, reply }).await.is_err() {
        return stopping();
    }
    answer.await.unwrap_or_else(|_| stopping())
}

async fn answer(mut stream: UnixStream, reply: &Reply) {
    let Ok(mut line) = serde_json::to_vec(reply) else { return };
    line.push(b'\n');
    if stream.write_all(&line).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

/// Connections in use, by user.
#[derive(Debug, Default)]
struct Slots(Mutex<HashMap<u32, usize>>);

/// One connection in use.
#[derive(Debug)]
struct Slot {
    slots: Arc<Slots>,
    uid: u32,
}

impl Slot {
    fn take(slots: &Arc<Slots>, uid: u32) -> Option<Self> {
        let mut used = slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used.values().sum::<usize>() >= CONNECTIONS_MAX {
            return None;
        }
        let own = used.entry(uid).or_default();
        if *own >= CONNECTIONS_PER_USER_MAX {
            return None;
        }
        *own += 1;
        Some(Self { slots: slots.clone(), uid })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut used = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = used.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                used.remove(&self.uid);
            }
        }
    }
}
