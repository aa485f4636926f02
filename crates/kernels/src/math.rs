//! Elementary functions as fixed polynomials, so every machine computes the same bits.
//!
//! The coefficients of [`exp`] and [`tanh`] are those of the Cephes library (S. Moshier, `expf`,
//! `tanhf`); the `f64`
//! functions are Taylor and `atanh` series after Cody and Waite's argument reduction.

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// 1.5 * 2^23: adding it leaves the rounded integer in the low mantissa bits.
const ROUND: f32 = 12_582_912.0;

/// `e^x` in `f32`, within 2 ulp; saturates below -87 and above 88, NaN stays NaN.
#[inline(always)]
#[must_use]
pub fn exp(x: f32) -> f32 {
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x.mul_add(LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let y = p.mul_add(r * r, r) + 1.0;
    let exponent = (shifted.to_bits() << 23).wrapping_add(0x3f80_0000);
    y * f32::from_bits(exponent)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent in `f32`, within 2e-7 of the real one relatively; odd, NaN stays NaN.
///
/// Both branches are computed, so that loops over it vectorise.
#[inline(always)]
#[must_use]
pub fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let z = x * x;
    let p = -5.704_988_7e-3_f32;
    let p = p.mul_add(z, 2.063_908_8e-2);
    let p = p.mul_add(z, -5.373_971_5e-2);
    let p = p.mul_add(z, 1.333_144_2e-1);
    let p = p.mul_add(z, -3.333_328e-1);
    let near = (p * z).mul_add(size, size);
    let far = 1.0 - 2.0 / (exp(2.0 * size) + 1.0);
    let y = if size < 0.625 { near } else { far };
    y.copysign(x)
}

/// Natural logarithm in `f64` of a positive, normal number; relative error below 1e-15.
///
/// Zero and subnormals give negative infinity, negative numbers and NaN give NaN.
#[must_use]
pub fn ln(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x < f64::MIN_POSITIVE {
        return f64::NEG_INFINITY;
    }
    if x.is_infinite() {
        return x;
    }
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) as i32 - 1023) as f64;
    let mut m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1.0;
    }
    // ln m = 2 atanh((m - 1) / (m + 1)); |s| < 0.1716, so eleven terms reach 1e-17.
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    let mut sum = 0.0;
    for odd in (1..=23).rev().step_by(2) {
        sum = sum * s2 + 1.0 / f64::from(odd);
    }
    exponent * std::f64::consts::LN_2 + 2.0 * s * sum
}

/// `e^x` in `f64` for `|x| < 700`; relative error below 1e-15.
#[must_use]
pub fn exp64(x: f64) -> f64 {
    let n = (x * std::f64::consts::LOG2_E).round();
    let r = x - n * 0.693_147_180_369_123_8 - n * 1.908_214_929_270_587_7e-10;
    let mut sum = 1.0;
    for i in (1..=15).rev() {
        sum = 1.0 + sum * r / f64::from(i);
    }
    sum * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

/// `(sin x, cos x)` in `f64` for `|x| < 1e6`; absolute error below 1e-14.
#[must_use]
pub fn sin_cos(x: f64) -> (f64, f64) {
    // pi/2 in three parts of 33 bits each, so that n * part is exact.
    let n = (x * std::f64::consts::FRAC_2_PI).round();
    let r = x - n * 1.570_796_326_734_125_6;
    let r = r - n * 6.077_100_506_303_966e-11;
    let r = r - n * 2.022_266_248_795_950_6e-21;
    let r2 = r * r;
    let (mut sin, mut cos) = (1.0, 1.0);
    for i in (1..=9).rev() {
        let i = f64::from(2 * i);
        sin = 1.0 - sin * r2 / (i * (i + 1.0));
        cos = 1.0 - cos * r2 / ((i - 1.0) * i);
    }
    sin *= r;
    match (n as i64).rem_euclid(4) {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_real_one() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) - want).abs() / want;
            assert!(error < 2.5e-7, "exp({x}) is off by {error:e}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) > 0.0);
    }

    #[test]
    fn tanh_is_close_to_the_real_one() {
        for i in -20_000..20_000 {
            let x = i as f32 / 1000.0;
            let want = f64::from(x).tanh();
            let error = (f64::from(tanh(x)) - want).abs() / want.abs().max(1e-30);
            assert!(error < 2e-7, "tanh({x}) is off by {error:e}");
            assert_eq!(tanh(-x).to_bits(), (-tanh(x)).to_bits(), "tanh is odd");
        }
        assert_eq!((tanh(1e30), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn f64_functions_are_close_to_the_real_ones() {
        for i in 1..20_000 {
            let x = f64::from(i) * 0.37;
            assert!(
                (ln(x) - x.ln()).abs() <= 4e-15 * x.ln().abs().max(1.0),
                "ln({x})"
            );
            assert!(
                (ln(1.0 / x) + x.ln()).abs() <= 4e-15 * x.ln().abs().max(1.0),
                "ln(1/{x})"
            );
            let (sin, cos) = sin_cos(x);
            assert!((sin - x.sin()).abs() < 1e-13, "sin({x})");
            assert!((cos - x.cos()).abs() < 1e-13, "cos({x})");
        }
        for i in -600..600 {
            let x = f64::from(i);
            assert!((exp64(x) / x.exp() - 1.0).abs() < 2e-15, "exp({x})");
        }
        assert!(ln(0.0) < f64::MIN);
        assert!(ln(-1.0).is_nan());
    }
}
