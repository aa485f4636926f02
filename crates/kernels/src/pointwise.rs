//! Element-by-element kernels, and the embedding table's gather and scatter.

use crate::isa::kernel;
use crate::math::sigmoid;

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
    /// `SwiGLU` (Shazeer 2020): rows of `gate_up [n, 2 width]` are gate then up;
    /// `out = (gate * sigmoid(gate)) * up`.
    ///
    /// # Panics
    /// When `out [n, width]` is shorter than half of `gate_up`.
    pub fn silu_gate(gate_up: &[f32], width: usize, out: &mut [f32]) {
        assert!(out.len() >= gate_up.len() / 2, "output too short");
        for row in 0..gate_up.len() / (2 * width) {
            let gate = &gate_up[2 * row * width..][..width];
            let up = &gate_up[(2 * row + 1) * width..][..width];
            let out = &mut out[row * width..][..width];
            for i in 0..width {
                out[i] = (gate[i] * sigmoid(gate[i])) * up[i];
            }
        }
    }
}

kernel! {
    /// Backward of `silu_gate`: overwrites `d_gate_up` from `d_out` and the saved `gate_up`.
    ///
    /// # Panics
    /// When the slices do not fit together.
    pub fn silu_gate_backward(d_out: &[f32], gate_up: &[f32], width: usize, d_gate_up: &mut [f32]) {
        assert!(d_out.len() >= gate_up.len() / 2 && d_gate_up.len() >= gate_up.len(), "too short");
        for row in 0..gate_up.len() / (2 * width) {
            let gate = &gate_up[2 * row * width..][..width];
            let up = &gate_up[(2 * row + 1) * width..][..width];
            let d_out = &d_out[row * width..][..width];
            let (d_gate, d_up) = d_gate_up[2 * row * width..][..2 * width].split_at_mut(width);
            for i in 0..width {
                let s = sigmoid(gate[i]);
                let silu = gate[i] * s;
                d_up[i] = d_out[i] * silu;
                d_gate[i] = (d_out[i] * up[i]) * (1.0 - s).mul_add(silu, s);
            }
        }
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
