//! Row reductions and root-mean-square normalisation.
//!
//! Element `i` of a row goes to lane `i mod 16`; each lane is a sequential chain, and the lanes
//! fold as `l[i] += l[i + 8]`, then 4, 2, 1. The tree is part of the arithmetic mode.

use crate::isa::kernel;

const LANES: usize = 16;

#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Sum of a row over the sixteen-lane tree.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (l, v) in lanes.iter_mut().zip(chunk) {
            *l += v;
        }
    }
    for (l, v) in lanes.iter_mut().zip(rest) {
        *l += v;
    }
    fold(lanes)
}

/// Sum of `a_i * b_i` (fused) over the sixteen-lane tree.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (left, right) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (left_rest, right_rest) = (left.remainder(), right.remainder());
    for (x, y) in left.zip(right) {
        for (l, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *l = x.mul_add(*y, *l);
        }
    }
    for (l, (x, y)) in lanes.iter_mut().zip(left_rest.iter().zip(right_rest)) {
        *l = x.mul_add(*y, *l);
    }
    fold(lanes)
}

/// Sum of `(a_i * w_i) * b_i`, the first product rounded, over the sixteen-lane tree.
#[inline(always)]
fn weighted_dot(a: &[f32], w: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let n = a.len() / LANES * LANES;
    for i in (0..n).step_by(LANES) {
        let (a, w, b) = (&a[i..i + LANES], &w[i..i + LANES], &b[i..i + LANES]);
        for l in 0..LANES {
            lanes[l] = (a[l] * w[l]).mul_add(b[l], lanes[l]);
        }
    }
    for i in n..a.len() {
        lanes[i - n] = (a[i] * w[i]).mul_add(b[i], lanes[i - n]);
    }
    fold(lanes)
}

/// Largest element; negative infinity for an empty row, NaN elements never win.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (l, v) in lanes.iter_mut().zip(chunk) {
            *l = if *v > *l { *v } else { *l };
        }
    }
    for (l, v) in lanes.iter_mut().zip(rest) {
        *l = if *v > *l { *v } else { *l };
    }
    lanes
        .iter()
        .fold(f32::NEG_INFINITY, |m, v| if *v > m { *v } else { m })
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
        for ((x, y), inverse) in
            x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(inverse)
        {
            let scale = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
            *inverse = scale;
            for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                *y = (x * scale) * w;
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
        for (((x, dy), dx), inverse) in x
            .chunks_exact(width)
            .zip(dy.chunks_exact(width))
            .zip(dx.chunks_exact_mut(width))
            .zip(inverse)
        {
            let k = weighted_dot(dy, weight, x) * (*inverse * *inverse) / width as f32;
            for i in 0..width {
                let g = (-x[i]).mul_add(k, dy[i] * weight[i]);
                dx[i] = inverse.mul_add(g, dx[i]);
            }
            if !dw.is_empty() {
                for i in 0..width {
                    dw[i] = dy[i].mul_add(x[i] * inverse, dw[i]);
                }
            }
        }
    }
}
