//! The local socket against clients that are slow, large, wrong or many.

use super::*;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;

/// A served socket, and a driver that answers everything with one error.
async fn served() -> (PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/agent.sock");
    let socket = Socket::open(&path).unwrap();
    let (calls_in, mut calls) = calls();
    tokio::spawn(socket.serve(calls_in));
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            let message = format!("pid {}", call.peer.pid);
            let _ = call.reply.send(Reply::Error { message });
        }
    });
    (path, folder)
}

/// What is answered to some bytes.
async fn answer_to(path: &Path, bytes: Vec<u8>) -> String {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut stream = StdStream::connect(path).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_request_reaches_the_driver_with_the_caller_that_the_kernel_names() {
    let (path, _folder) = served().await;
    let asked = tokio::task::spawn_blocking(move || client::ask(&path, &Request::Status {})).await;
    let error = asked.unwrap().unwrap_err();
    assert_eq!(error.to_string(), format!("pid {}", std::process::id()));
}

#[tokio::test]
async fn malformed_input_gets_one_clear_line() {
    let (path, _folder) = served().await;
    for (bytes, expected) in [
        (b"".to_vec(), "newline"),
        (b"{\"request\":\"status\"}".to_vec(), "newline"),
        (b"\x00\xff\n".to_vec(), "expected one JSON line"),
        (b"{\"request\":\"run\",\"name\":\"a b\"}\n".to_vec(), "A-Z a-z"),
    ] {
        let answer = answer_to(&path, bytes).await;
        assert!(answer.contains(expected) && answer.ends_with('\n'), "{answer}");
        assert_eq!(answer.lines().count(), 1);
    }
}

#[tokio::test]
async fn a_request_may_be_as_long_as_the_limit_and_not_a_byte_longer() {
    let (path, _folder) = served().await;
    let padded = |length: usize| {
        let mut line = b"{\"request\":\"status\"}".to_vec();
        line.resize(length - 1, b' ');
        line.push(b'\n');
        line
    };
    let answer = answer_to(&path, padded(REQUEST_BYTES_MAX)).await;
    assert!(answer.contains("pid "), "{answer}");
    let answer = answer_to(&path, padded(REQUEST_BYTES_MAX + 1)).await;
    assert!(answer.contains("at most 65536 bytes"), "{answer}");
}

#[tokio::test]
async fn one_user_cannot_take_all_connections_and_idle_ones_end() {
    let (path, _folder) = served().await;
    let idle: Vec<StdStream> =
        (0..CONNECTIONS_PER_USER_MAX).map(|_| StdStream::connect(&path).unwrap()).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let line = b"{\"request\":\"status\"}\n".to_vec();
    let answer = answer_to(&path, vec![]).await;
    assert!(answer.contains("too many connections"), "{answer}");
    tokio::time::sleep(CONNECTION_TIME_MAX + Duration::from_millis(500)).await;
    assert!(answer_to(&path, line).await.contains("pid "));
    drop(idle);
}

#[tokio::test]
async fn a_socket_is_open_to_everybody_taken_over_when_dead_and_never_when_alive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let first = Socket::open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    let error = Socket::open(&path).unwrap_err();
    assert!(error.to_string().contains("take over"), "{error}");
    // Killed: the file stays.
    std::mem::forget(first);
    let dead = folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    drop(Socket::open(&dead).unwrap());
    assert!(!dead.exists());
    fs::write(&dead, "mine").unwrap();
    assert!(Socket::open(&dead).is_err());
    assert_eq!(fs::read_to_string(&dead).unwrap(), "mine");
}

#[test]
fn nobody_listening_says_what_to_start() {
    let error = client::ask(Path::new("/nonexistent/agent.sock"), &Request::Why {}).unwrap_err();
    assert!(error.to_string().contains("guard up"), "{error}");
}
