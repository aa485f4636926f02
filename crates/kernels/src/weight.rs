//! Stands in for the compact storage until it lands: f32 rows, multiplied exactly.
use crate::{Isa, Lhs, Packed, Rhs, Store};
use std::ops::Range;
/// Storage of a frozen matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// a
    Bf16,
    /// b
    Int8,
    /// c
    Nf4,
}
/// w
#[derive(Clone, Debug)]
pub struct Weight {
    format: Format,
    rows: Vec<f32>,
    packed: Packed,
    n: usize,
    k: usize,
}
impl Weight {
    /// p
    pub fn pack(format: Format, data: &[f32], n: usize, k: usize) -> Self {
        Self {
            format,
            rows: data.to_vec(),
            packed: Packed::transpose_of(data, n, k),
            n,
            k,
        }
    }
    /// f
    pub fn fill(&mut self, data: &[f32]) {
        *self = Self::pack(self.format, data, self.n, self.k);
    }
    /// o
    pub fn outputs(&self) -> usize {
        self.n
    }
    /// i
    pub fn inputs(&self) -> usize {
        self.k
    }
    /// f
    pub fn format(&self) -> Format {
        self.format
    }
    /// b
    pub fn bytes(&self) -> usize {
        self.rows.len() * 8
    }
    /// r
    pub fn row(&self, j: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.rows[j * self.k..][..self.k]);
    }
}
impl Isa {
    /// p
    pub fn project(
        self,
        m: usize,
        x: &[f32],
        xs: usize,
        w: &Weight,
        o: Range<usize>,
        y: &mut [f32],
        ys: usize,
        store: Store,
    ) {
        self.gemm(
            m,
            o.len(),
            w.k,
            Lhs::rows(x, xs),
            w.packed.from_column(o.start),
            y,
            ys,
            store,
        );
    }
    /// b
    pub fn project_back(
        self,
        m: usize,
        dy: &[f32],
        s: usize,
        w: &Weight,
        i: Range<usize>,
        dx: &mut [f32],
        ds: usize,
        store: Store,
    ) {
        self.gemm(
            m,
            i.len(),
            w.n,
            Lhs::rows(dy, s),
            Rhs::rows(&w.rows[i.start..], w.k),
            dx,
            ds,
            store,
        );
    }
    /// g
    pub fn gemm_bf16(
        self,
        m: usize,
        n: usize,
        k: usize,
        a: Lhs<'_>,
        b: Rhs<'_>,
        c: &mut [f32],
        ldc: usize,
        store: Store,
    ) {
        self.gemm(m, n, k, a, b, c, ldc, store);
    }
}
