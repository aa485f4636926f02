//! Points of BN254 as bytes: big-endian coordinates in the order of the EVM's precompiles.

use ark_bn254::{Fq, Fq2, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInt, BigInteger, PrimeField};

/// Bytes of a point of G1: x, y.
pub(super) const G1_LEN: usize = 64;
/// Bytes of a point of G2: x and y, each with its imaginary part first.
pub(super) const G2_LEN: usize = 128;

pub(super) fn write_g1(point: &G1Affine) -> [u8; G1_LEN] {
    let mut bytes = [0; G1_LEN];
    if let Some((x, y)) = point.xy() {
        write_all(&[x, y], &mut bytes);
    }
    bytes
}

pub(super) fn write_g2(point: &G2Affine) -> [u8; G2_LEN] {
    let mut bytes = [0; G2_LEN];
    if let Some((x, y)) = point.xy() {
        write_all(&[x.c1, x.c0, y.c1, y.c0], &mut bytes);
    }
    bytes
}

/// The point with this encoding, if there is one on the curve. The curve has no other points than
/// those of the group; infinity is refused.
pub(super) fn read_g1(bytes: &[u8; G1_LEN]) -> Option<G1Affine> {
    let [x, y] = read_all(bytes)?;
    let point = G1Affine::new_unchecked(x, y);
    point.is_on_curve().then_some(point)
}

/// The point with this encoding, if there is one in the group. Infinity is refused.
pub(super) fn read_g2(bytes: &[u8; G2_LEN]) -> Option<G2Affine> {
    let [x1, x0, y1, y0] = read_all(bytes)?;
    let point = G2Affine::new_unchecked(Fq2::new(x0, x1), Fq2::new(y0, y1));
    let sound = point.is_on_curve() && point.is_in_correct_subgroup_assuming_on_curve();
    sound.then_some(point)
}

/// As [`read_g1`] for bytes that this program wrote, without looking at the curve.
pub(super) fn read_g1_trusted(bytes: &[u8; G1_LEN]) -> Option<G1Affine> {
    let [x, y] = read_all(bytes)?;
    Some(G1Affine::new_unchecked(x, y))
}

fn write_all(coordinates: &[Fq], bytes: &mut [u8]) {
    for (coordinate, bytes) in coordinates.iter().zip(bytes.chunks_exact_mut(32)) {
        bytes.copy_from_slice(&coordinate.into_bigint().to_bytes_be());
    }
}

fn read_all<const N: usize>(bytes: &[u8]) -> Option<[Fq; N]> {
    let mut coordinates = [Fq::from(0u64); N];
    for (coordinate, bytes) in coordinates.iter_mut().zip(bytes.chunks_exact(32)) {
        // `None` for what is not below the modulus, which would be a second spelling.
        *coordinate = Fq::from_bigint(integer(bytes))?;
    }
    Some(coordinates)
}

/// 32 bytes as an integer.
pub(super) fn integer(bytes: &[u8]) -> BigInt<4> {
    let mut limbs = [0u64; 4];
    for (limb, bytes) in limbs.iter_mut().rev().zip(bytes.chunks_exact(8)) {
        *limb = bytes
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte));
    }
    BigInt::new(limbs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use ark_bn254::{Fr, G2Projective};
    use ark_ec::{CurveGroup, PrimeGroup};

    use super::*;

    #[test]
    fn points_have_one_spelling() {
        let g1 = (G1Affine::generator() * Fr::from(12_345u64)).into_affine();
        let bytes = write_g1(&g1);
        assert_eq!(read_g1(&bytes), Some(g1));
        assert_eq!(read_g1_trusted(&bytes), Some(g1));
        let mut other = bytes;
        other[63] ^= 1;
        assert_eq!(read_g1(&other), None, "not on the curve");
        assert_eq!(read_g1(&[0; 64]), None, "infinity");
        assert_eq!(read_g1(&[0xff; 64]), None, "no coordinates");
        // x + modulus is below 2^256 and the same x.
        let mut larger = integer(&bytes[..32]);
        larger.add_with_carry(&Fq::MODULUS);
        let mut other = bytes;
        other[..32].copy_from_slice(&larger.to_bytes_be());
        assert_eq!(read_g1(&other), None, "a second spelling");

        let g2 = (G2Projective::generator() * Fr::from(54_321u64)).into_affine();
        let bytes = write_g2(&g2);
        assert_eq!(read_g2(&bytes), Some(g2));
        assert_eq!(read_g2(&[0; 128]), None, "infinity");
    }

    #[test]
    fn a_point_beside_the_group_is_refused() {
        let beside = (1u64..)
            .find_map(|x| {
                let point = G2Affine::get_point_from_x_unchecked(Fq2::from(x), false)?;
                (!point.is_in_correct_subgroup_assuming_on_curve()).then_some(point)
            })
            .unwrap();
        assert!(beside.is_on_curve());
        assert_eq!(read_g2(&write_g2(&beside)), None);
    }

    #[test]
    fn the_generator_is_the_evms() {
        let bytes = write_g2(&G2Affine::generator());
        let x1 = "11559732032986387107991004021392285783925812861821192530917403151452391805634";
        let x1: Fq = x1.parse().unwrap();
        assert_eq!(Fq::from_bigint(integer(&bytes[..32])).unwrap(), x1);
        let g1 = write_g1(&G1Affine::generator());
        assert_eq!((g1[31], g1[63]), (1, 2));
    }
}
