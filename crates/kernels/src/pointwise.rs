//! Element-by-element kernels, and the embedding table's gather and scatter.

use crate::isa::kernel;
use crate::math::sigmoid;

kernel! {
    /// `y += x`.
    pub fn add(y: &mut [f32], x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
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
    pub fn add_scaled(y: &mut [f32], factor: f32, x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = factor.mul_add(*x, *y);
        }
    }
}

kernel! {
    /// SwiGLU (Shazeer 2020): rows of `gate_up [n, 2 width]` are gate then up;
    /// `out = (gate * sigmoid(gate)) * up`.
    ///
    /// # Panics
    /// When `out [n, width]` is shorter than half of `gate_up`.
    pub fn silu_gate(gate_up: &[f32], width: usize, out: &mut [f32]) {
        assert!(out.len() >= gate_up.len() / 2, "output too short");
        for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
            let (gate, up) = row.split_at(width);
            for ((out, g), u) in out.iter_mut().zip(gate).zip(up) {
                *out = (g * sigmoid(*g)) * u;
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
        for ((row, d_out), d_row) in gate_up
            .chunks_exact(2 * width)
            .zip(d_out.chunks_exact(width))
            .zip(d_gate_up.chunks_exact_mut(2 * width))
        {
            let (gate, up) = row.split_at(width);
            let (d_gate, d_up) = d_row.split_at_mut(width);
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
        for (token, out) in tokens.iter().zip(out.chunks_exact_mut(width)) {
            out.copy_from_slice(&table[*token as usize * width..][..width]);
        }
    }
}

kernel! {
    /// Backward of `gather`: adds row `i` of `dx` to row `tokens[i]` of `d_table`, in order.
    ///
    /// # Panics
    /// When a token is outside the table.
    pub fn scatter_add(dx: &[f32], width: usize, tokens: &[u32], d_table: &mut [f32]) {
        for (token, dx) in tokens.iter().zip(dx.chunks_exact(width)) {
            let row = &mut d_table[*token as usize * width..][..width];
            for (d, x) in row.iter_mut().zip(dx) {
                *d += x;
            }
        }
    }
}
