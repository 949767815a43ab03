//! Payloads beside the log: salt and JSON of each entry, one file for each bundle of 256.
//!
//! A frame is `u32 BE length | salt (32) | JSON`; length [`ERASED`] and nothing after it once the
//! payload is erased.

use super::{Hash, LogError, PAYLOAD_BYTES_MAX, tree::bundle_name};

/// Length that says: erased.
const ERASED: u32 = u32::MAX;

/// A payload with its salt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Random: without it the hash in the leaf tells nothing about the payload.
    pub salt: Hash,
    /// JSON of the record.
    pub json: Vec<u8>,
}

/// Name of the file with the payloads of bundle `number`.
pub(super) fn file_name(number: u64) -> String {
    bundle_name(number, 256).replacen("tile/entries", "payload", 1)
}

/// Appends a frame.
pub(super) fn encode(payload: Option<&Payload>, out: &mut Vec<u8>) {
    match payload {
        Some(Payload { salt, json }) => {
            let len = u32::try_from(json.len()).unwrap_or(ERASED - 1);
            out.extend(len.to_be_bytes());
            out.extend(salt);
            out.extend(json);
        }
        None => out.extend(ERASED.to_be_bytes()),
    }
}

/// Takes one frame off `bytes`; the error says what is wrong.
pub(super) fn decode<'a>(bytes: &mut &'a [u8]) -> Result<Option<(Hash, &'a [u8])>, &'static str> {
    let (len, rest) = bytes.split_first_chunk().ok_or("the file ends before this payload")?;
    let len = u32::from_be_bytes(*len);
    if len == ERASED {
        *bytes = rest;
        return Ok(None);
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > PAYLOAD_BYTES_MAX {
        return Err("its length is out of range");
    }
    let (salt, rest) = rest.split_first_chunk().ok_or("the file ends inside this payload")?;
    let (json, rest) = rest.split_at_checked(len).ok_or("the file ends inside this payload")?;
    *bytes = rest;
    Ok(Some((*salt, json)))
}

/// Bytes of the first `count` frames.
pub(super) fn prefix_len(name: &str, bytes: &[u8], count: u64) -> Result<usize, LogError> {
    let mut rest = bytes;
    for at in 0..count {
        decode(&mut rest).map_err(|problem| {
            LogError::damaged(name, format!("payload {at} of this file: {problem}"))
        })?;
    }
    Ok(bytes.len() - rest.len())
}
