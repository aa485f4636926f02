//! The orthogonal factor of a matrix, for optimizers that step in its direction.

use openledger_kernels::{Isa, Lhs, Rhs, Store};

use crate::arithmetic::Arithmetic;

/// Passes of the iteration; five bring singular values from a thousandth up to about one.
const PASSES: usize = 5;

/// Coefficients of the odd polynomial that each pass applies to every singular value: steep at
/// zero, and bounded by about 0.7 and 1.2 from there on, which is as near to one as an optimizer
/// needs (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024).
const POLYNOMIAL: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// Replaces `matrix [rows, columns]`, row-major, by about `U V^T`, where `U S V^T` is its singular
/// value decomposition: the direction that changes all singular values alike. Zero stays zero.
///
/// Single-threaded; the bits are those of the mode's products, so in the exact mode they are the
/// same on every machine.
///
/// # Panics
/// When the matrix has another length.
pub fn orthogonalize<A: Arithmetic>(isa: Isa, matrix: &mut [f32], rows: usize, columns: usize) {
    assert_eq!(matrix.len(), rows * columns, "[{rows}, {columns}]");
    // The iteration multiplies by the square of the shorter side, from the right.
    let wide = columns > rows;
    let (n, m) = (rows.max(columns), rows.min(columns));
    let norm = matrix
        .iter()
        .map(|&x| f64::from(x) * f64::from(x))
        .sum::<f64>()
        .sqrt();
    let scale = if norm > 0.0 { (1.0 / norm) as f32 } else { 0.0 };
    let mut tall = vec![0.0; n * m];
    let at = |i: usize, j: usize| if wide { j * n + i } else { i * m + j };
    for i in 0..n {
        for j in 0..m {
            tall[i * m + j] = matrix[at(i, j)] * scale;
        }
    }
    let (mut square, mut fourth) = (vec![0.0; m * m], vec![0.0; m * m]);
    let mut next = vec![0.0; n * m];
    let [a, b, c] = POLYNOMIAL;
    let once = Store::Overwrite;
    for _ in 0..PASSES {
        // X (a + b X^T X + c (X^T X)^2)
        let (left, right) = (Lhs::transposed(&tall, m), Rhs::rows(&tall, m));
        A::product(isa, m, m, n, left, right, &mut square, m, once);
        let (left, right) = (Lhs::rows(&square, m), Rhs::rows(&square, m));
        A::product(isa, m, m, m, left, right, &mut fourth, m, once);
        for (square, fourth) in square.iter_mut().zip(&fourth) {
            *square = b * *square + c * fourth;
        }
        let (left, right) = (Lhs::rows(&tall, m), Rhs::rows(&square, m));
        A::product(isa, n, m, m, left, right, &mut next, m, once);
        for (tall, next) in tall.iter_mut().zip(&next) {
            *tall = a * *tall + next;
        }
    }
    for i in 0..n {
        for j in 0..m {
            matrix[at(i, j)] = tall[i * m + j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Exact, Fast, random};

    fn random_matrix(len: usize) -> Vec<f32> {
        let mut matrix = vec![0.0; len];
        random::normal(&mut random::stream(3, 0), 0.3, &mut matrix);
        matrix
    }

    /// Length of `matrix v` over that of `v`, for the longer side's vectors `v = matrix^T u`,
    /// which have no part that the matrix drops.
    fn stretches(matrix: &[f32], rows: usize, columns: usize) -> Vec<f64> {
        let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        (0..rows.min(columns))
            .map(|k| {
                let entry = |i: usize, j: usize| f64::from(matrix[i * columns + j]);
                if rows <= columns {
                    let v: Vec<f64> = (0..columns).map(|j| entry(k, j)).collect();
                    length(&v)
                } else {
                    let v: Vec<f64> = (0..rows).map(|i| entry(i, k)).collect();
                    length(&v)
                }
            })
            .collect()
    }

    #[test]
    fn rows_of_the_shorter_side_become_nearly_orthonormal() {
        for (rows, columns) in [(12, 12), (8, 40), (40, 8)] {
            let mut exact = random_matrix(rows * columns);
            let mut fast = exact.clone();
            orthogonalize::<Exact>(Isa::best(), &mut exact, rows, columns);
            orthogonalize::<Fast>(Isa::best(), &mut fast, rows, columns);
            for matrix in [&exact, &fast] {
                for stretch in stretches(matrix, rows, columns) {
                    assert!((0.6..1.3).contains(&stretch), "{rows}x{columns}: {stretch}");
                }
            }
            let off = if rows <= columns {
                let (one, two) = exact.split_at(columns);
                one.iter().zip(two).map(|(a, b)| a * b).sum::<f32>()
            } else {
                exact.chunks(columns).map(|row| row[0] * row[1]).sum()
            };
            assert!(off.abs() < 0.35, "{rows}x{columns}: {off}");
        }
    }

    #[test]
    fn a_transpose_gives_the_transpose_and_zero_gives_zero() {
        let (rows, columns) = (6, 10);
        let mut one = random_matrix(rows * columns);
        let mut other: Vec<f32> = (0..columns * rows)
            .map(|at| one[at % rows * columns + at / rows])
            .collect();
        orthogonalize::<Exact>(Isa::best(), &mut one, rows, columns);
        orthogonalize::<Exact>(Isa::best(), &mut other, columns, rows);
        for i in 0..rows {
            for j in 0..columns {
                assert_eq!(
                    one[i * columns + j].to_bits(),
                    other[j * rows + i].to_bits()
                );
            }
        }
        let mut zero = vec![0.0; 12];
        orthogonalize::<Exact>(Isa::best(), &mut zero, 3, 4);
        assert!(zero.iter().all(|&x| x == 0.0));
    }
}
