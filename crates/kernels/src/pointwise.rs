//! Element-by-element kernels, and the embedding table's gather and scatter.

use crate::gemm::Store;
use crate::isa::kernel;
use crate::math::{sigmoid, tanh};

/// Activation of a gated linear unit (Shazeer 2020).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)` (`SwiGLU`).
    #[default]
    Silu,
    /// The tanh approximation of the Gaussian error linear unit (Hendrycks and Gimpel 2016) as
    /// `x * sigmoid(2 u)`, `u = sqrt(2/pi) (x + 0.044715 x^3)` (`GeGLU`).
    GeluTanh,
}

/// An activation `f(x) = x * s(x)`.
trait Gate {
    /// `s(x)` and the derivative `f'(x)`; whoever ignores the second does not compute it.
    fn at(x: f32) -> (f32, f32);
}

struct Silu;

impl Gate for Silu {
    #[inline(always)]
    fn at(x: f32) -> (f32, f32) {
        let s = sigmoid(x);
        (s, (1.0 - s).mul_add(x * s, s))
    }
}

struct GeluTanh;

impl Gate for GeluTanh {
    #[inline(always)]
    fn at(x: f32) -> (f32, f32) {
        // 2 sqrt(2/pi), and that times 0.044715 and 3 * 0.044715.
        let (linear, cubic, slope) = (1.595_769_2_f32, 0.071_354_814_f32, 0.214_064_45_f32);
        let z = x * x;
        let s = sigmoid(x * cubic.mul_add(z, linear));
        let inner = slope.mul_add(z, linear);
        (s, ((1.0 - s) * inner).mul_add(x * s, s))
    }
}

#[inline(always)]
fn gate_row<G: Gate>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    let n = out.len();
    let (gate, up) = (&gate[..n], &up[..n]);
    for i in 0..n {
        out[i] = (gate[i] * G::at(gate[i]).0) * up[i];
    }
}

#[inline(always)]
fn gate_row_backward<G: Gate>(
    d_out: &[f32],
    gate: &[f32],
    up: &[f32],
    d_gate: &mut [f32],
    d_up: &mut [f32],
) {
    let n = d_out.len();
    let (gate, up) = (&gate[..n], &up[..n]);
    let (d_gate, d_up) = (&mut d_gate[..n], &mut d_up[..n]);
    for i in 0..n {
        let (s, slope) = G::at(gate[i]);
        d_up[i] = d_out[i] * (gate[i] * s);
        d_gate[i] = (d_out[i] * up[i]) * slope;
    }
}

/// `x = cap * tanh((x * scale) / cap)`, with the reciprocal of `cap`.
#[inline(always)]
pub(crate) fn soft_cap(x: &mut [f32], scale: f32, cap: f32) {
    let inverse = 1.0 / cap;
    for i in 0..x.len() {
        x[i] = cap * tanh((x[i] * scale) * inverse);
    }
}

/// [`soft_cap`] that also keeps its derivative with respect to `x * scale`.
#[inline(always)]
pub(crate) fn soft_cap_slopes(x: &mut [f32], scale: f32, cap: f32, slopes: &mut [f32]) {
    let (n, inverse) = (x.len(), 1.0 / cap);
    let slopes = &mut slopes[..n];
    for i in 0..n {
        let t = tanh((x[i] * scale) * inverse);
        x[i] = cap * t;
        slopes[i] = (-t).mul_add(t, 1.0);
    }
}

kernel! {
    /// `y += x`.
    ///
    /// # Panics
    /// When `x` is shorter than `y`.
    pub fn add(y: &mut [f32], x: &[f32]) {
        let n = y.len();
        let x = &x[..n];
        for i in 0..n {
            y[i] += x[i];
        }
    }
}

kernel! {
    /// `y *= factor`.
    pub fn scale(y: &mut [f32], factor: f32) {
        for y in y {
            *y *= factor;
        }
    }
}

kernel! {
    /// `y += factor * x`, fused.
    ///
    /// # Panics
    /// When `x` is shorter than `y`.
    pub fn add_scaled(y: &mut [f32], factor: f32, x: &[f32]) {
        let n = y.len();
        let x = &x[..n];
        for i in 0..n {
            y[i] = factor.mul_add(x[i], y[i]);
        }
    }
}

kernel! {
    /// `y *= x`.
    ///
    /// # Panics
    /// When `x` is shorter than `y`.
    pub fn multiply(y: &mut [f32], x: &[f32]) {
        let n = y.len();
        let x = &x[..n];
        for i in 0..n {
            y[i] *= x[i];
        }
    }
}

kernel! {
    /// Soft-cap of logits (Gemma 2): `x = cap * tanh(x / cap)`; `slopes` takes its derivative
    /// `1 - tanh^2` unless it is empty. A gradient goes back by [`Isa::multiply`] with `slopes`.
    ///
    /// [`Isa::multiply`]: crate::Isa::multiply
    ///
    /// # Panics
    /// When `slopes` is neither empty nor as long as `x`.
    pub fn soft_cap(x: &mut [f32], cap: f32, slopes: &mut [f32]) {
        if slopes.is_empty() {
            soft_cap(x, 1.0, cap);
        } else {
            soft_cap_slopes(x, 1.0, cap, slopes);
        }
    }
}

kernel! {
    /// Writes `row` over each row of `y [n, width]`: the bias that a linear's chains start from.
    ///
    /// # Panics
    /// When `y` is not a whole number of rows.
    pub fn fill_rows(y: &mut [f32], row: &[f32]) {
        assert!(y.len().is_multiple_of(row.len()), "not a whole number of rows");
        for i in 0..y.len() / row.len() {
            y[i * row.len()..][..row.len()].copy_from_slice(row);
        }
    }
}

kernel! {
    /// Adds the rows of `dy [n, width]` to `d_row`, in order: the gradient of a bias.
    ///
    /// # Panics
    /// When `dy` is not a whole number of rows.
    pub fn add_rows(dy: &[f32], d_row: &mut [f32]) {
        let width = d_row.len();
        assert!(dy.len().is_multiple_of(width), "not a whole number of rows");
        for row in 0..dy.len() / width {
            let dy = &dy[row * width..][..width];
            for i in 0..width {
                d_row[i] += dy[i];
            }
        }
    }
}

kernel! {
    /// `y_ij = x_ij row_j` for rows as long as `row`, or `y_ij += x_ij row_j` in one rounding.
    ///
    /// # Panics
    /// When `x` and `y` differ in length or are not whole rows.
    pub fn multiply_rows(x: &[f32], row: &[f32], y: &mut [f32], store: Store) {
        let n = row.len();
        assert!(x.len() == y.len() && x.len().is_multiple_of(n.max(1)), "rows differ");
        for (x, y) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)) {
            match store {
                Store::Overwrite => {
                    for j in 0..n {
                        y[j] = x[j] * row[j];
                    }
                }
                Store::Accumulate => {
                    for j in 0..n {
                        y[j] = x[j].mul_add(row[j], y[j]);
                    }
                }
            }
        }
    }
}

kernel! {
    /// `sums_j += sum_i x_ij y_ij`, one chain over the rows for each column.
    ///
    /// # Panics
    /// When `x` and `y` differ in length or are not whole rows.
    pub fn dot_columns(x: &[f32], y: &[f32], sums: &mut [f32]) {
        let n = sums.len();
        assert!(x.len() == y.len() && x.len().is_multiple_of(n.max(1)), "rows differ");
        for (x, y) in x.chunks_exact(n).zip(y.chunks_exact(n)) {
            for j in 0..n {
                sums[j] = x[j].mul_add(y[j], sums[j]);
            }
        }
    }
}

kernel! {
    /// Gated linear unit: rows of `gate_up [n, 2 width]` are gate then up; `out = f(gate) * up`
    /// with `f(x) = x * s(x)` rounded before the product with `up`.
    ///
    /// # Panics
    /// When `out [n, width]` is shorter than half of `gate_up`.
    pub fn gate(activation: Activation, gate_up: &[f32], width: usize, out: &mut [f32]) {
        assert!(out.len() >= gate_up.len() / 2, "output too short");
        for row in 0..gate_up.len() / (2 * width) {
            let (gate, up) = gate_up[2 * row * width..][..2 * width].split_at(width);
            let out = &mut out[row * width..][..width];
            match activation {
                Activation::Silu => gate_row::<Silu>(gate, up, out),
                Activation::GeluTanh => gate_row::<GeluTanh>(gate, up, out),
            }
        }
    }
}

kernel! {
    /// Backward of `gate`: overwrites `d_gate_up` from `d_out` and the saved `gate_up`.
    ///
    /// # Panics
    /// When the slices do not fit together.
    pub fn gate_backward(
        activation: Activation, d_out: &[f32], gate_up: &[f32], width: usize,
        d_gate_up: &mut [f32],
    ) {
        assert!(d_out.len() >= gate_up.len() / 2 && d_gate_up.len() >= gate_up.len(), "too short");
        for row in 0..gate_up.len() / (2 * width) {
            let (gate, up) = gate_up[2 * row * width..][..2 * width].split_at(width);
            let d_out = &d_out[row * width..][..width];
            let (d_gate, d_up) = d_gate_up[2 * row * width..][..2 * width].split_at_mut(width);
            match activation {
                Activation::Silu => gate_row_backward::<Silu>(d_out, gate, up, d_gate, d_up),
                Activation::GeluTanh => {
                    gate_row_backward::<GeluTanh>(d_out, gate, up, d_gate, d_up);
                }
            }
        }
    }
}

impl crate::Isa {
    /// [`Isa::gate`](crate::Isa::gate) with [`Activation::Silu`].
    pub fn silu_gate(self, gate_up: &[f32], width: usize, out: &mut [f32]) {
        self.gate(Activation::Silu, gate_up, width, out);
    }

    /// [`Isa::gate_backward`](crate::Isa::gate_backward) with [`Activation::Silu`].
    pub fn silu_gate_backward(
        self,
        d_out: &[f32],
        gate_up: &[f32],
        width: usize,
        d_gate_up: &mut [f32],
    ) {
        self.gate_backward(Activation::Silu, d_out, gate_up, width, d_gate_up);
    }
}

kernel! {
    /// Copies row `tokens[i]` of `table [vocab, width]` to row `i` of `out`.
    ///
    /// # Panics
    /// When a token is outside the table.
    pub fn gather(table: &[f32], width: usize, tokens: &[u32], out: &mut [f32]) {
        for i in 0..tokens.len() {
            let row = &table[tokens[i] as usize * width..][..width];
            out[i * width..][..width].copy_from_slice(row);
        }
    }
}

kernel! {
    /// Backward of `gather`: adds row `i` of `dx` to row `tokens[i]` of `d_table`, in order.
    ///
    /// # Panics
    /// When a token is outside the table.
    pub fn scatter_add(dx: &[f32], width: usize, tokens: &[u32], d_table: &mut [f32]) {
        for t in 0..tokens.len() {
            let row = &mut d_table[tokens[t] as usize * width..][..width];
            let dx = &dx[t * width..][..width];
            for i in 0..width {
                row[i] += dx[i];
            }
        }
    }
}
