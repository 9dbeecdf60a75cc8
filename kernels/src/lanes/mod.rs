//! 128-bit vectors: WebAssembly SIMD, or the same operations on arrays in builds without it.
//!
//! All implementations do the same floating-point operations in the same order, and integer sums are exact, so every build computes the
//! same bits. None uses fused multiply-add, whose rounding depends on the processor.
//!
//! A *word* is a vector with four columns of four rows: lane `r` holds four bytes of row `r`. A block of 32 columns is eight words.
//! The dot products of codes and activations are in `wide.rs` (16-bit operands) or `relaxed.rs` (bytes), and in `portable.rs`.

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

#[cfg(target_arch = "wasm32")]
use core::arch::wasm32 as arch;
#[cfg(target_arch = "wasm64")]
use core::arch::wasm64 as arch;

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

/// The codes of 32 columns of four rows, packed or unpacked. A range of words is the first four, the last four or all eight.
pub trait Codes {
    /// The form in which they are multiplied by several rows of activations.
    type Panel: Panel;

    /// Converts the codes to that form.
    fn unpack_to(&self, panel: &mut Self::Panel);

    /// `Σ code · x` over words `FROM..TO`, per row.
    fn dot<const FROM: usize, const TO: usize>(&self, x: &Values) -> I32x4;
}

/// The codes of 32 columns of four rows, unpacked to be multiplied by several rows of activations.
pub trait Panel: Copy {
    const ZERO: Self;

    /// `Σ code · x` over words `FROM..TO`, per panel, row of activations and row of codes. Only the first `R` rows of activations are used.
    fn multiply<const N: usize, const R: usize, const FROM: usize, const TO: usize>(panels: &[Self; N], x: &QuadValues) -> [[I32x4; R]; N];
}

/// `e^x`, within 2 units in the last place; x is clamped to −87.3..88. The method of Cephes: x = n·ln 2 + r, then a polynomial in r.
#[inline(always)]
pub fn exp(x: F32x4) -> F32x4 {
    let x = min(splat(88.0), max(splat(-87.3), x));
    // Adding 1.5·2²³ rounds to an integer, which is then in the low bits.
    let shifted = add(mul(x, splat(std::f32::consts::LOG2_E)), splat(ROUND));
    let n = sub(shifted, splat(ROUND));
    // ln 2 as a sum of two parts. The first has so few bits that its product with n is exact.
    let r = sub(sub(x, mul(n, splat(0.693_359_4))), mul(n, splat(-2.121_944_4e-4)));
    let mut polynomial = splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        polynomial = add(mul(polynomial, r), splat(coefficient));
    }
    let fraction = add(add(mul(polynomial, mul(r, r)), r), splat(1.0));
    scale_by_power(fraction, shifted)
}

/// `cap · tanh(x / cap)`.
#[inline(always)]
pub fn softcap(x: F32x4, cap: f32) -> F32x4 {
    let power = exp(mul(x, splat(2.0 / cap)));
    let tanh = sub(splat(1.0), div(splat(2.0), add(power, splat(1.0))));
    mul(tanh, splat(cap))
}

/// Computes 2^x for x ≤ 0, with a relative error below 3·10⁻⁶. x below −126 is treated as −126. x is split into an integer and a remainder,
/// whose power is a polynomial of minimal relative error (Remez).
#[derive(Clone, Copy)]
pub struct Exp2 {
    least: F32x4,
    round: F32x4,
    coefficients: [F32x4; 5],
}

impl Exp2 {
    /// Create it before a loop. Its constants are behind `black_box`, like those of [`Constants`].
    #[inline(always)]
    pub fn new() -> Self {
        let coefficients = [9.570_102e-3, 5.591_786e-2, 0.240_247_44, 0.693_121_8, 0.999_999_3].map(splat);
        std::hint::black_box(Self { least: splat(-126.0), round: splat(ROUND), coefficients })
    }

    /// `2^x` per lane. NaN stays NaN.
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

/// 1.5·2²³. Adding it to a number of magnitude below 2²² leaves the nearest integer (ties to even) in the low bits.
pub const ROUND: f32 = 12_582_912.0;

/// The sum of the four lanes, in a fixed order.
#[inline(always)]
pub fn horizontal_sum(vector: F32x4) -> f32 {
    let [a, b, c, d] = to_array(vector);
    (a + c) + (b + d)
}

/// Quantises numbers to integers of magnitude up to `largest`, writes them to `out`, eight per entry, and returns their scale. NaN makes
/// the scale NaN.
#[inline(always)]
pub fn to_fixed_point(numbers: &[[F32x4; 2]], largest: i16, out: &mut [[i16; 8]]) -> f32 {
    // Magnitudes have the same order as their bits. Unlike a `max` of floats, this preserves NaN, which must reach the logits.
    let magnitude = numbers.iter().flatten().fold(splat_int(0), |magnitude, four| max_int(magnitude, magnitude_bits(*four)));
    let magnitude = f32::from_bits(horizontal_max_int(magnitude) as u32);
    // A magnitude so small that its inverse is infinite is treated as zero.
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
        // For any sign and payload of the NaN.
        for bits in [f32::NAN.to_bits(), 0x7fc0_0001, 0xffc1_2345] {
            assert!(to_array(exp2.of(splat(f32::from_bits(bits))))[0].is_nan(), "{bits:x}");
        }
    }
}
