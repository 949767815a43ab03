//! Text that a session controls: kept exactly, shown so that a person sees what is really there.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// Bytes from the kernel or a process: a path, an argument, a name. Not necessarily UTF-8.
///
/// Serialized (JSON, Cedar) as a reversible string: valid UTF-8 stands for itself, except `\`, which
/// becomes `\\`; every other byte becomes `\xNN`. [`RawText::visible`] is for people's eyes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawText(Vec<u8>);

/// A string that [`RawText::to_exact`] never writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid escape at byte {at}: expected `\\\\` or `\\x` and two hexadecimal digits")]
pub struct InvalidEscape {
    /// Byte offset of the backslash.
    pub at: usize,
}

impl RawText {
    /// Takes the bytes as they are.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The reversible string.
    #[must_use]
    pub fn to_exact(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                if char == '\\' {
                    out.push('\\');
                }
                out.push(char);
            }
            for byte in chunk.invalid() {
                push_hex(&mut out, *byte);
            }
        }
        out
    }

    /// Reads what [`RawText::to_exact`] wrote.
    ///
    /// # Errors
    /// [`InvalidEscape`] with the place.
    pub fn from_exact(text: &str) -> Result<Self, InvalidEscape> {
        let bytes = text.as_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if byte != b'\\' {
                out.push(byte);
                at += 1;
                continue;
            }
            match bytes.get(at + 1) {
                Some(b'\\') => {
                    out.push(b'\\');
                    at += 2;
                }
                Some(b'x') => {
                    let digits = text.get(at + 2..at + 4).ok_or(InvalidEscape { at })?;
                    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                        return Err(InvalidEscape { at });
                    }
                    out.push(u8::from_str_radix(digits, 16).map_err(|_| InvalidEscape { at })?);
                    at += 4;
                }
                _ => return Err(InvalidEscape { at }),
            }
        }
        Ok(Self(out))
    }

    /// For people: as [`RawText::to_exact`], and every character that could hide or reorder what
    /// stands there (controls, bidirectional marks, zero-width and other format characters,
    /// look-alike spaces, variation selectors, tags) becomes `\u{…}`.
    #[must_use]
    pub fn visible(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    '\t' => out.push_str("\\t"),
                    '\r' => out.push_str("\\r"),
                    _ if is_deceptive(char) => {
                        out.push_str(&format!("\\u{{{:x}}}", u32::from(char)));
                    }
                    _ => out.push(char),
                }
            }
            for byte in chunk.invalid() {
                push_hex(&mut out, *byte);
            }
        }
        out
    }
}

/// Characters that change what a reader sees without being seen themselves (Unicode 16: Cc, Cf, Zl,
/// Zp, Zs other than space, Co, combining grapheme joiner, Hangul fillers, variation selectors, tags).
#[must_use]
pub fn is_deceptive(char: char) -> bool {
    char.is_control()
        || matches!(u32::from(char),
            0xA0 | 0xAD | 0x34F | 0x61C | 0x600..=0x605 | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2
            | 0x115F | 0x1160 | 0x1680 | 0x17B4 | 0x17B5 | 0x180B..=0x180F
            | 0x2000..=0x200F | 0x2028..=0x202F | 0x205F..=0x206F | 0x2800 | 0x3000 | 0x3164
            | 0xE000..=0xF8FF | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFC
            | 0x110BD | 0x110CD | 0x13430..=0x1343F | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A
            | 0xE0000..=0xE0FFF | 0xF0000..)
}

fn push_hex(out: &mut String, byte: u8) {
    out.push_str(&format!("\\x{byte:02x}"));
}

impl fmt::Debug for RawText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.visible())
    }
}

/// The form for people: see [`RawText::visible`].
impl fmt::Display for RawText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.visible())
    }
}

impl From<&str> for RawText {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl Serialize for RawText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_exact())
    }
}

impl<'de> Deserialize<'de> for RawText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_exact(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_deceive_is_shown_escaped() {
        let evil = RawText::new(b"a\x1b[2K\xe2\x80\xae\xe2\x80\x8b\n\xff\\".to_vec());
        assert_eq!(evil.visible(), "a\\u{1b}[2K\\u{202e}\\u{200b}\\n\\xff\\\\");
    }

    #[test]
    fn the_exact_form_keeps_what_the_visible_form_escapes() {
        let text = RawText::new("a\u{202e}b".as_bytes());
        assert_eq!(text.to_exact(), "a\u{202e}b");
        assert_eq!(text.visible(), "a\\u{202e}b");
    }

    #[test]
    fn a_broken_escape_names_its_place() {
        assert_eq!(RawText::from_exact("ab\\q"), Err(InvalidEscape { at: 2 }));
        assert_eq!(RawText::from_exact("\\x+1"), Err(InvalidEscape { at: 0 }));
    }

    proptest! {
        #[test]
        fn the_exact_form_is_reversible(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = RawText::new(bytes);
            prop_assert_eq!(RawText::from_exact(&text.to_exact()), Ok(text.clone()));
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(serde_json::from_str::<RawText>(&json).unwrap(), text);
        }

        #[test]
        fn nothing_deceptive_is_ever_visible(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!RawText::new(bytes).visible().chars().any(is_deceptive));
        }
    }
}
