//! An open page, as far as time is concerned: a client that follows the controller's server-sent events.

use crate::{Trouble, http::Api};
use serde_json::Value;
use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    time::{Duration, Instant},
};

/// Longest wait for a hold to be shown: one that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// The controller ends a stream after 60 s; a new one is opened well before that.
const STREAM_AGE_MAX: Duration = Duration::from_secs(40);

/// The page.
pub(crate) struct Changes {
    api: Api,
    stream: BufReader<TcpStream>,
    opened: Instant,
    seen: HashSet<String>,
}

impl Changes {
    /// Opens it.
    pub(crate) fn open(api: Api) -> Result<Self, Trouble> {
        let stream = api.changes(PATIENCE)?;
        Ok(Self { api, stream, opened: Instant::now(), seen: HashSet::new() })
    }

    /// The id of the next hold that was not shown before.
    pub(crate) fn next_hold(&mut self) -> Result<String, Trouble> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.stream.read_line(&mut line);
            if read.map_err(|error| format!("no hold was shown in {PATIENCE:?}: {error}"))? == 0 {
                return Err("the stream of changes ended".to_owned());
            }
            let Some(id) = pending_hold(&line) else { continue };
            if self.seen.insert(id.clone()) {
                return Ok(id);
            }
        }
    }

    /// Opens another stream in time. Only while nothing can arrive that is not known yet: what comes
    /// between two streams is in neither.
    pub(crate) fn renew(&mut self) -> Result<(), Trouble> {
        if self.opened.elapsed() > STREAM_AGE_MAX {
            self.stream = self.api.changes(PATIENCE)?;
            self.opened = Instant::now();
        }
        Ok(())
    }
}

/// The id in a line that tells of a hold that waits.
fn pending_hold(line: &str) -> Option<String> {
    let change: Value = serde_json::from_str(line.strip_prefix("data:")?).ok()?;
    let is = |name: &str, value: &str| change.get(name).is_some_and(|found| found == value);
    let id = change.get("id")?.as_str()?;
    (is("change", "hold") && is("state", "pending")).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::pending_hold;

    #[test]
    fn only_a_hold_that_waits_is_one() {
        let line = "data: {\"change\":\"hold\",\"id\":\"a\",\"state\":\"pending\"}\n";
        assert_eq!(pending_hold(line).as_deref(), Some("a"));
        for other in [
            "data: {\"change\":\"hold\",\"id\":\"a\",\"state\":\"consumed\"}",
            "data: {\"change\":\"host\",\"id\":\"a\"}",
            "event: hold",
            "",
        ] {
            assert_eq!(pending_hold(other), None, "{other}");
        }
    }
}
