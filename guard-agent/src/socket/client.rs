//! The local socket's client: one request, one reply, for `guard run`, `status` and `why`.

use super::protocol::{REPLY_BYTES_MAX, Reply, Request};
use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

/// Longest wait for guard-agent.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "guard-agent does not listen on {path}: start it (`guard up`, or `systemctl start guard-agent`)"
    )]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or nothing came in time.
    #[error("guard-agent on {path} did not answer")]
    Exchange {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The reply is none that this version knows.
    #[error("guard-agent on {path} answered something unknown; is it another version?")]
    Reply {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// guard-agent refused.
    #[error("{message}")]
    Refused {
        /// Its words.
        message: String,
    },
}

/// Asks guard-agent on `path`. [`Reply::Error`] becomes [`ClientError::Refused`].
///
/// For [`Request::Run`] call this from the only thread of the process that then executes the
/// command: the label is the calling process's.
///
/// # Errors
/// [`ClientError`].
pub fn ask(path: &Path, request: &Request) -> Result<Reply, ClientError> {
    let at = || path.to_owned();
    let stream =
        UnixStream::connect(path).map_err(|source| ClientError::Connect { path: at(), source })?;
    let line = exchange(&stream, request)
        .map_err(|source| ClientError::Exchange { path: at(), source })?;
    let reply =
        serde_json::from_str(&line).map_err(|source| ClientError::Reply { path: at(), source })?;
    match reply {
        Reply::Error { message } => Err(ClientError::Refused { message }),
        reply => Ok(reply),
    }
}

fn exchange(mut stream: &UnixStream, request: &Request) -> io::Result<String> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // A refusal can come before everything is written: what was answered says more than EPIPE.
    let written = stream.write_all(&line);
    let mut reply = String::new();
    let read = BufReader::new(stream.take(REPLY_BYTES_MAX)).read_line(&mut reply);
    if reply.is_empty() {
        written.and(read)?;
    }
    if !reply.ends_with('\n') {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    Ok(reply)
}
