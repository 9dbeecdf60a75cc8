//! Vectors of 128 bits: WebAssembly SIMD, or the same operations on arrays where it is missing.
//!
//! All do the same floating-point operations in the same order and the integer sums are exact, so a result has the same
//! bits whatever computed it. None of it uses fused multiply-add, whose rounding depends on the processor.
//!
//! A *word* is four columns of four rows: lane `r` of the vector holds four bytes of row `r`. A block of 32 columns is eight
//! words.

#[cfg(not(target_feature = "simd128"))]
mod portable;
#[cfg(all(target_feature = "simd128", feature = "relaxed-simd"))]
mod relaxed;
#[cfg(not(all(target_feature = "simd128", feature = "relaxed-simd")))]
mod values;
#[cfg(target_feature = "simd128")]
mod wasm;
#[cfg(all(target_feature = "simd128", not(feature = "relaxed-simd")))]
mod wide;

#[cfg(not(target_feature = "simd128"))]
pub use portable::*;
#[cfg(all(target_feature = "simd128", feature = "relaxed-simd"))]
pub use relaxed::*;
#[cfg(not(all(target_feature = "simd128", feature = "relaxed-simd")))]
pub use values::*;
#[cfg(target_feature = "simd128")]
pub use wasm::*;
#[cfg(all(target_feature = "simd128", not(feature = "relaxed-simd")))]
pub use wide::*;

/// `e^x` (within 2 units in the last place; 0 below −87, at most e^88). Cephes' scheme: x = n·ln 2 + r, then a polynomial.
#[inline(always)]
pub fn exp(x: F32x4) -> F32x4 {
    let x = min(splat(88.0), max(splat(-87.3), x));
    // Adding 1.5·2²³ rounds to an integer, which then stands in the low bits.
    let shifted = add(mul(x, splat(std::f32::consts::LOG2_E)), splat(ROUND));
    let n = sub(shifted, splat(ROUND));
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    let r = sub(sub(x, mul(n, splat(0.693_359_4))), mul(n, splat(-2.121_944_4e-4)));
    let mut polynomial = splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        polynomial = add(mul(polynomial, r), splat(coefficient));
    }
    let fraction = add(add(mul(polynomial, mul(r, r)), r), splat(1.0));
    scale_by_power(fraction, shifted)
}

/// Computes 2^x, within 3·10⁻⁶ of it, for x up to 0; what lies below −126 counts as −126. x is split into an integer and a rest, whose
/// power is a polynomial of the smallest relative error (Remez).
#[derive(Clone, Copy)]
pub struct Exp2 {
    least: F32x4,
    round: F32x4,
    coefficients: [F32x4; 5],
}

impl Exp2 {
    /// To be called in front of a loop: its constants are kept from the compiler as those of [`Constants`] are.
    #[inline(always)]
    pub fn new() -> Self {
        let coefficients = [9.570_102e-3, 5.591_786e-2, 0.240_247_44, 0.693_121_8, 0.999_999_3].map(splat);
        std::hint::black_box(Self { least: splat(-126.0), round: splat(ROUND), coefficients })
    }

    #[inline(always)]
    pub fn of(&self, x: F32x4) -> F32x4 {
        let x = max(self.least, x);
        let shifted = add(x, self.round);
        let rest = sub(x, sub(shifted, self.round));
        let [first, others @ ..] = self.coefficients;
        let polynomial = others.into_iter().fold(first, |polynomial, coefficient| add(mul(polynomial, rest), coefficient));
        scale_by_power(polynomial, shifted)
    }
}

/// 1.5·2²³: added to a number below 2²² it leaves the nearest integer (ties to even) in the low bits.
pub const ROUND: f32 = 12_582_912.0;

/// The sum of four lanes, always in this order.
#[inline(always)]
pub fn horizontal_sum(vector: F32x4) -> f32 {
    let [a, b, c, d] = to_array(vector);
    (a + c) + (b + d)
}

/// Writes numbers, eight at a time, as integers up to `±largest` to `out`, and gives their scale. NaN makes the scale NaN.
#[inline(always)]
pub fn to_fixed_point(numbers: &[[F32x4; 2]], largest: i16, out: &mut [[i16; 8]]) -> f32 {
    // Magnitudes are ordered as their bits are; unlike `max` of numbers this keeps NaN, which must reach the logits.
    let magnitude = numbers.iter().flatten().fold(splat_int(0), |magnitude, four| max_int(magnitude, magnitude_bits(*four)));
    let magnitude = f32::from_bits(horizontal_max_int(magnitude) as u32);
    // A magnitude so small that its inverse is infinite counts as nothing.
    let inverse = f32::from(largest) / magnitude;
    let inverse = splat(if inverse.is_finite() { inverse } else { 0.0 });
    for ([low, high], out) in numbers.iter().zip(out) {
        let rounded = |four| add(mul(four, inverse), splat(ROUND));
        *out = rounded_to_i16(rounded(*low), rounded(*high));
    }
    magnitude / f32::from(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_exact_to_a_few_units() {
        for index in -8700..=8800 {
            let x = index as f32 * 0.01;
            let ours = to_array(exp(splat(x)))[0];
            let exact = f64::from(x).exp();
            assert!((f64::from(ours) - exact).abs() <= 3e-7 * exact, "e^{x} = {ours}, not {exact}");
        }
        assert!(to_array(exp(splat(f32::NAN)))[0].is_nan());
    }

    #[test]
    fn the_power_of_two_is_exact_to_18_bits() {
        let exp2 = Exp2::new();
        for index in -12_600..=0 {
            let x = index as f32 * 0.01;
            let ours = to_array(exp2.of(splat(x)))[0];
            let exact = f64::from(x).exp2();
            assert!((f64::from(ours) - exact).abs() <= 3e-6 * exact, "2^{x} = {ours}, not {exact}");
        }
        assert_eq!(to_array(exp2.of(splat(f32::NEG_INFINITY))), to_array(exp2.of(splat(-126.0))));
        // Whatever else stands in a NaN.
        for bits in [f32::NAN.to_bits(), 0x7fc0_0001, 0xffc1_2345] {
            assert!(to_array(exp2.of(splat(f32::from_bits(bits))))[0].is_nan(), "{bits:x}");
        }
    }
}
