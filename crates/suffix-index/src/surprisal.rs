//! Unigram surprisal in integer milli-bits, without floating point.

/// Fractional bits of [`log2_fixed`].
const FRACTION: u32 = 32;

/// `log2(value)` with 32 fractional bits, truncated; 0 for 0.
///
/// Repeated squaring of the mantissa gives one bit of the logarithm a step (Knuth, *TAOCP* 1.2.2,
/// exercise 28). Integers only, so every machine gets the same bits; the error stays below
/// 2^-27.
pub fn log2_fixed(value: u64) -> u64 {
    if value == 0 {
        return 0;
    }
    let whole = u64::from(value.ilog2());
    // The mantissa in [1, 2) with 63 fractional bits.
    let mut mantissa = value << (63 - value.ilog2());
    let mut fraction = 0u64;
    for _ in 0..FRACTION {
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63;
        let carry = square >> 64 != 0;
        fraction = (fraction << 1) | u64::from(carry);
        // A square is below 4 with 63 fractional bits; halved when it is 2 or more, it fits.
        mantissa = (if carry { square >> 1 } else { square }) as u64;
    }
    (whole << FRACTION) | fraction
}

/// `-log2(count / total)` in milli-bits, rounded to the nearest.
///
/// A token that never occurs counts as one that occurs half a time.
pub(crate) fn millibits(count: u64, total: u64) -> u32 {
    let total = total.max(1);
    let (count, total) = if count == 0 {
        (1, total.saturating_mul(2))
    } else {
        (count, total)
    };
    let bits = u128::from(log2_fixed(total).saturating_sub(log2_fixed(count)));
    let rounded = (bits * 1_000 + (1 << (FRACTION - 1))) >> FRACTION;
    u32::try_from(rounded).expect("at most 64 bits, so 64,000 milli-bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn exact_at_powers_of_two() {
        for k in 0..64 {
            assert_eq!(log2_fixed(1 << k), k << 32);
        }
        assert_eq!(millibits(1, 1024), 10_000);
        assert_eq!(millibits(1024, 1024), 0);
        assert_eq!(millibits(0, 1024), 11_000);
        assert_eq!(millibits(1, 3), 1_585);
        assert_eq!(millibits(0, 0), 1_000);
    }

    proptest! {
        #[test]
        fn close_to_the_real_logarithm(value in 1u64..) {
            let got = log2_fixed(value) as f64 / f64::from(2.0f32.powi(32));
            prop_assert!((got - (value as f64).log2()).abs() < 1e-8);
        }

        #[test]
        fn monotone(a in 1u64.., b in 1u64..) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(log2_fixed(low) <= log2_fixed(high));
        }
    }
}
