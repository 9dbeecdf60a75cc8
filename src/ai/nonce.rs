//! What makes the answer to a request differ from the answer to an equal one: random bytes and the time.
//!
//! The seed of a request without one, its ids and its time all come from its nonce. So the same request with the same nonce gives the same
//! bytes, and an answer that was interrupted by the loss of the instance can be computed again (`pkg/replay.js`).

use crate::host::{random_bytes, unix_seconds};

/// The nonce of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce {
    pub random: [u8; 16],
    /// Unix time in seconds.
    pub created: u64,
    /// The request's number in this thread; 0 if it has none. It tells the surrounding program which request broke the instance.
    pub ticket: u32,
}

impl Default for Nonce {
    fn default() -> Self {
        Self { random: random_bytes(), created: unix_seconds(), ticket: 0 }
    }
}

impl Nonce {
    /// A seed for sampling.
    pub fn seed(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.random;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// The request's id: a UUID (version 4).
    pub fn request_id(&self) -> String {
        let mut bytes = self.random;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let group = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]].map(group).join("-")
    }

    /// The id of the answer's call number `index`: nine letters and digits, which even the strictest chat templates (Mistral's) accept.
    pub fn call_id(&self, index: usize) -> String {
        const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        // Odd, so different indices give different numbers.
        let mut rest =
            u128::from_le_bytes(self.random).wrapping_add((index as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let mut digit = || {
            let digit = ALPHABET[(rest % 62) as usize];
            rest /= 62;
            char::from(digit)
        };
        std::iter::repeat_with(&mut digit).take(9).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_calls_differ_and_repeat_with_the_nonce() {
        let nonce = Nonce::default();
        let ids: std::collections::HashSet<String> = (0..500).map(|index| nonce.call_id(index)).collect();
        assert_eq!(ids.len(), 500);
        assert!(ids.iter().all(|id| id.len() == 9 && id.chars().all(|c| c.is_ascii_alphanumeric())));
        assert_eq!(nonce.call_id(3), nonce.call_id(3));
        assert_ne!(nonce.call_id(3), Nonce::default().call_id(3));
        assert_eq!(nonce.request_id().len(), 36);
    }
}
