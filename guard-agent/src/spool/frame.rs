//! One record on disk: length, CRC-32, JSON. Pure functions.
//!
//! ```text
//! u32 LE length of the JSON | u32 LE CRC-32 (IEEE) of the JSON | JSON of guard_audit::Record
//! ```

/// Largest record, bytes of JSON: a hold with 32 ancestors' command lines, escaped, stays below.
pub const RECORD_MAX: usize = 1 << 20;
/// Bytes before the JSON.
pub const HEADER: usize = 8;

/// What stands at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole record, and the bytes that it takes.
    Whole(&'a [u8], usize),
    /// Nothing at all.
    End,
    /// Less than a record, or not one.
    Torn,
}

/// Appends a record.
pub fn append(json: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(json.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(json).to_le_bytes());
    out.extend_from_slice(json);
}

/// Reads the first record.
#[must_use]
pub fn first(bytes: &[u8]) -> Frame<'_> {
    if bytes.is_empty() {
        return Frame::End;
    }
    let (Some(len), Some(crc)) = (word(bytes, 0), word(bytes, 4)) else { return Frame::Torn };
    let len = len as usize;
    if len == 0 || len > RECORD_MAX {
        return Frame::Torn;
    }
    match bytes.get(HEADER..HEADER + len) {
        Some(json) if crc32fast::hash(json) == crc => Frame::Whole(json, HEADER + len),
        _ => Frame::Torn,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn any_flipped_bit_makes_a_record_torn_or_shorter() {
        let mut bytes = Vec::new();
        append(b"{\"a\":1}", &mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(first(&bad), Frame::Torn, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = first(&bytes);
        }

        #[test]
        fn what_was_appended_is_read(json in proptest::collection::vec(any::<u8>(), 1..64)) {
            let mut bytes = Vec::new();
            append(&json, &mut bytes);
            prop_assert_eq!(first(&bytes), Frame::Whole(&json, bytes.len()));
        }
    }
}
