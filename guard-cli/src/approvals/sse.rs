//! Server-sent events (WHATWG HTML §9.2), as far as the controller sends them.

use anyhow::{Result, bail};

/// Longest line: a change is a few hundred bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Cuts a stream of bytes into events.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    name: String,
    data: String,
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) data: String,
}

impl Parser {
    /// The events that `bytes` complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() > LINE_BYTES_MAX {
                    bail!("the stream of changes has a line of more than {LINE_BYTES_MAX} bytes");
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            events.extend(self.end_of_line(line.trim_end_matches('\r')));
        }
        Ok(events)
    }

    fn end_of_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return (!name.is_empty() || !data.is_empty()).then_some(Event { name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => self.data.push_str(value),
            // A comment (keep-alive), `id`, `retry`.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let stream =
            b": hello\nevent: hold\r\ndata: {\"a\":1}\n\nretry: 5\n\nevent:resync\ndata:{}\n\n";
        let event = |name: &str, data: &str| Event { name: name.into(), data: data.into() };
        let expected = [event("hold", "{\"a\":1}"), event("resync", "{}")];
        for cut in 0..stream.len() {
            let mut parser = Parser::default();
            let mut found = parser.push(&stream[..cut]).unwrap();
            found.extend(parser.push(&stream[cut..]).unwrap());
            assert_eq!(found, expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut parser = Parser::default();
        assert!(parser.push(&vec![b'x'; LINE_BYTES_MAX]).is_ok());
        assert!(parser.push(b"x").is_err());
    }
}
