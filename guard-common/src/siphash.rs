//! SipHash-1-3 with 128-bit output: the keyed hash of argv and of new file names in an action key.
//!
//! A session chooses both inputs, so an unkeyed hash would let it search for a second argv with the
//! hash of an approved one; the key is random per load and never leaves the kernel and guard-agent.
//! Only additions, rotations and exclusive ors: what the eBPF instruction set has.
//! Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", and its 128-bit variant.

/// State of a hash over 64-bit words.
#[derive(Clone, Copy, Debug)]
pub struct SipHash {
    v: [u64; 4],
}

impl SipHash {
    /// Starts with a 128-bit key.
    #[must_use]
    #[inline(always)]
    pub const fn new(key: [u64; 2]) -> Self {
        Self {
            v: [
                key[0] ^ 0x736f_6d65_7073_6575,
                key[1] ^ 0x646f_7261_6e64_6f6d ^ 0xee,
                key[0] ^ 0x6c79_6765_6e65_7261,
                key[1] ^ 0x7465_6462_7974_6573,
            ],
        }
    }

    #[inline(always)]
    const fn round(mut self) -> Self {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.v = [a, b, c, d];
        self
    }

    /// Takes one little-endian word of the message.
    #[must_use]
    #[inline(always)]
    pub const fn word(mut self, word: u64) -> Self {
        self.v[3] ^= word;
        self = self.round();
        self.v[0] ^= word;
        self
    }

    /// Ends the message; `tail` is its last word with the length modulo 256 in the top byte.
    #[must_use]
    #[inline(always)]
    pub const fn finish(self, tail: u64) -> [u64; 2] {
        let mut state = self.word(tail);
        state.v[2] ^= 0xee;
        state = state.round().round().round();
        let low = state.v[0] ^ state.v[1] ^ state.v[2] ^ state.v[3];
        state.v[1] ^= 0xdd;
        state = state.round().round().round();
        [low, state.v[0] ^ state.v[1] ^ state.v[2] ^ state.v[3]]
    }
}

/// The hash of `bytes` as the eBPF programs compute it, for tests and user space.
#[must_use]
pub fn hash(key: [u64; 2], bytes: &[u8]) -> [u64; 2] {
    let mut state = SipHash::new(key);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        state = state.word(u64::from_le_bytes(word));
    }
    let mut tail = [0; 8];
    for (to, from) in tail.iter_mut().zip(chunks.remainder()) {
        *to = *from;
    }
    state.finish(u64::from_le_bytes(tail) | ((bytes.len() as u64 & 0xff) << 56))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::hash::Hasher as _;
    use proptest::prelude::*;
    use siphasher::sip128::{Hasher128 as _, SipHasher13};

    proptest! {
        #[test]
        fn it_agrees_with_an_independent_implementation(
            key in any::<[u64; 2]>(),
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut other = SipHasher13::new_with_keys(key[0], key[1]);
            other.write(&bytes);
            let expected = other.finish128();
            prop_assert_eq!(hash(key, &bytes), [expected.h1, expected.h2]);
        }
    }

    #[test]
    fn length_and_key_matter() {
        assert_ne!(hash([1, 2], b"a"), hash([1, 2], b"a\0"));
        assert_ne!(hash([1, 2], b"a"), hash([1, 3], b"a"));
    }
}
