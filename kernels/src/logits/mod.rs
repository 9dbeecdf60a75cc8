//! Operations over the logits of a whole vocabulary, once per token: mask, top-k and softmax.

mod distribution;
mod ranking;

pub use distribution::{Distribution, weight};
pub use ranking::Ranking;

/// Sets the logits of forbidden tokens to −∞: those whose bit in `allowed` is not set, and all from `tokens` on (a model may compute
/// logits for more entries than its vocabulary lists). Bit `i` of word `j` belongs to token `32 j + i`.
pub fn mask(logits: &mut [f32], allowed: &[u32], tokens: usize) {
    for (word, logits) in allowed.iter().zip(logits.chunks_mut(32)) {
        match *word {
            0 => logits.fill(f32::NEG_INFINITY),
            u32::MAX => {}
            bits => {
                for (bit, logit) in logits.iter_mut().enumerate() {
                    if bits >> bit & 1 == 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
    if let Some(beyond) = logits.get_mut(tokens.min(allowed.len() * 32)..) {
        beyond.fill(f32::NEG_INFINITY);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn tokens_without_a_set_bit_are_forbidden() {
        for count in [1, 31, 32, 33, 95, 200] {
            let allowed = [0b1011u32, u32::MAX, 0, 1 << 31 | 1];
            let mut logits: Vec<f32> = (0..count).map(|token| token as f32).collect();
            super::mask(&mut logits, &allowed, 127);
            for (token, logit) in logits.into_iter().enumerate() {
                let bit = token < 127 && allowed[token / 32] >> (token % 32) & 1 == 1;
                assert_eq!(logit, if bit { token as f32 } else { f32::NEG_INFINITY });
            }
        }
    }
}
