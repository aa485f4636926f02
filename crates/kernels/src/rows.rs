//! Row reductions and root-mean-square normalisation.
//!
//! Element `i` of a row goes to lane `i mod 16`; each lane is a sequential chain, and the lanes
//! fold as `l[i] += l[i + 8]`, then 4, 2, 1. The tree is part of the arithmetic mode.

use crate::isa::kernel;

pub(crate) const LANES: usize = 16;

// Loops over whole `[f32; 16]` chunks with indices: iterator adapters would be calls here, since
// the compiler does not inline some of them into functions with other target features.

#[inline(always)]
pub(crate) fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The larger number; the first when they are equal or the second is NaN.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
pub(crate) fn fold_max(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = larger(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Sum of a row over the sixteen-lane tree.
#[inline(always)]
fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            lanes[l] += chunk[l];
        }
    }
    for l in 0..rest.len() {
        lanes[l] += rest[l];
    }
    fold(lanes)
}

/// Sum of `a_i * b_i` (fused) over the sixteen-lane tree.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "rows of different length");
    let mut lanes = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for i in 0..a.len() {
        for l in 0..LANES {
            lanes[l] = a[i][l].mul_add(b[i][l], lanes[l]);
        }
    }
    for l in 0..a_rest.len() {
        lanes[l] = a_rest[l].mul_add(b_rest[l], lanes[l]);
    }
    fold(lanes)
}

/// Sum of `(a_i * w_i) * b_i`, the first product rounded, over the sixteen-lane tree.
#[inline(always)]
fn weighted_dot(a: &[f32], w: &[f32], b: &[f32]) -> f32 {
    let n = a.len();
    let (w, b) = (&w[..n], &b[..n]);
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    let (w_chunks, w_rest) = w.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for i in 0..chunks.len() {
        for l in 0..LANES {
            lanes[l] = (chunks[i][l] * w_chunks[i][l]).mul_add(b_chunks[i][l], lanes[l]);
        }
    }
    for l in 0..rest.len() {
        lanes[l] = (rest[l] * w_rest[l]).mul_add(b_rest[l], lanes[l]);
    }
    fold(lanes)
}

kernel! {
    /// Dot product of two equally long rows over the sixteen-lane tree.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        dot(a, b)
    }
}

kernel! {
    /// Sum of a row over the sixteen-lane tree.
    pub fn sum(x: &[f32]) -> f32 {
        sum(x)
    }
}

kernel! {
    /// Root-mean-square norm (Zhang and Sennrich 2019, eq. 4) of each row of `x [n, width]`:
    /// `y = (x * inverse) * weight`, `inverse = 1 / sqrt(mean(x^2) + eps)` kept per row.
    ///
    /// # Panics
    /// When `y` is shorter than `x` or `inverse` than the rows.
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32], inverse: &mut [f32]) {
        let width = weight.len();
        assert!(y.len() >= x.len() && inverse.len() >= x.len() / width, "outputs too short");
        for row in 0..x.len() / width {
            let x = &x[row * width..][..width];
            let y = &mut y[row * width..][..width];
            let scale = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
            inverse[row] = scale;
            for i in 0..width {
                y[i] = (x[i] * scale) * weight[i];
            }
        }
    }
}

kernel! {
    /// Backward of `rms_norm`: adds to `dx`, and to `dw` unless it is empty.
    ///
    /// With `g = dy * w`: `dx += inverse * (g - x * (inverse^2 / width * <g, x>))` and
    /// `dw += dy * (x * inverse)`, rows in order.
    ///
    /// # Panics
    /// When a slice is shorter than `x [n, width]` asks for.
    pub fn rms_norm_backward(
        dy: &[f32], x: &[f32], weight: &[f32], inverse: &[f32], dx: &mut [f32], dw: &mut [f32],
    ) {
        let width = weight.len();
        assert!(dy.len() >= x.len() && dx.len() >= x.len(), "gradients too short");
        for row in 0..x.len() / width {
            let x = &x[row * width..][..width];
            let dy = &dy[row * width..][..width];
            let dx = &mut dx[row * width..][..width];
            let inverse = inverse[row];
            let k = weighted_dot(dy, weight, x) * (inverse * inverse) / width as f32;
            for i in 0..width {
                let g = (-x[i]).mul_add(k, dy[i] * weight[i]);
                dx[i] = inverse.mul_add(g, dx[i]);
            }
            if !dw.is_empty() {
                let dw = &mut dw[..width];
                for i in 0..width {
                    dw[i] = dy[i].mul_add(x[i] * inverse, dw[i]);
                }
            }
        }
    }
}

kernel! {
    /// `rms_norm` of single heads, in place (Qwen 3, Gemma 3): the first `heads` heads of each
    /// row of `x` (rows `stride` apart) are rows of their own, as wide as `weight`. `inverse`
    /// takes `[rows, heads]`.
    ///
    /// # Panics
    /// When `x` or `inverse` is too short.
    pub fn rms_norm_heads(
        x: &mut [f32], stride: usize, rows: usize, heads: usize, weight: &[f32], eps: f32,
        inverse: &mut [f32],
    ) {
        let width = weight.len();
        for row in 0..rows {
            for head in 0..heads {
                let x = &mut x[row * stride + head * width..][..width];
                let scale = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
                inverse[row * heads + head] = scale;
                for i in 0..width {
                    x[i] = (x[i] * scale) * weight[i];
                }
            }
        }
    }
}

kernel! {
    /// Backward of `rms_norm_heads`, in place on `d` (laid out as the forward's `x`): from the
    /// gradient of the output to that of the input, given the input `x` (rows `x_stride` apart)
    /// and its `inverse`. Adds to `dw`, rows in order and in each its heads, unless it is empty.
    ///
    /// # Panics
    /// When a slice is too short.
    pub fn rms_norm_heads_backward(
        d: &mut [f32], stride: usize, x: &[f32], x_stride: usize, rows: usize, heads: usize,
        weight: &[f32], inverse: &[f32], dw: &mut [f32],
    ) {
        let width = weight.len();
        for row in 0..rows {
            for head in 0..heads {
                let x = &x[row * x_stride + head * width..][..width];
                let d = &mut d[row * stride + head * width..][..width];
                let inverse = inverse[row * heads + head];
                if !dw.is_empty() {
                    let dw = &mut dw[..width];
                    for i in 0..width {
                        dw[i] = d[i].mul_add(x[i] * inverse, dw[i]);
                    }
                }
                let k = weighted_dot(d, weight, x) * (inverse * inverse) / width as f32;
                for i in 0..width {
                    d[i] = inverse * (-x[i]).mul_add(k, d[i] * weight[i]);
                }
            }
        }
    }
}
