//! Matrix products: `C = A B` or `C += A B`, each element one fused chain over `k`.
//!
//! The tiles are vectorised over the columns of `C`, so every lane carries one element's chain
//! and no sum is ever split. Blocking over `k` goes through memory (`C` is stored and loaded
//! again), which leaves the chain as it was. The structure is Goto and van de Geijn, "Anatomy of
//! High-Performance Matrix Multiplication" (2008), with the right operand packed in panels of
//! [`PANEL`] columns and the left one read in place.

use std::cell::RefCell;

use crate::buffer::Buffer;
use crate::isa::{Isa, Kind};
use crate::simd::{Lanes, Portable};

/// Columns of one packed panel.
pub const PANEL: usize = 32;

/// Columns that one tile step covers at least; a shorter rest is copied to padded scratch.
pub(crate) const STRIP: usize = 16;

/// Depth of one block: a panel of this depth (32 KiB) stays in the first-level cache.
const DEPTH: usize = 256;

/// From this many rows on, copying a strided panel next to itself costs less than it saves.
const PACK_ROWS: usize = 24;

/// Left operand `[m, k]`: element `(i, p)` is `data[i * row + p * col]`.
#[derive(Clone, Copy, Debug)]
pub struct Lhs<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row: usize,
    pub(crate) col: usize,
}

impl<'a> Lhs<'a> {
    /// Row-major `[m, k]` with `stride` floats from one row to the next.
    #[must_use]
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Self {
            data,
            row: stride,
            col: 1,
        }
    }

    /// The transpose of a row-major `[k, m]` matrix with `stride` floats between its rows.
    #[must_use]
    pub fn transposed(data: &'a [f32], stride: usize) -> Self {
        Self {
            data,
            row: 1,
            col: stride,
        }
    }
}

/// Right operand `[k, n]`: element `(p, j)` is `data[p * row + (j / 32) * panel + j % 32]`.
#[derive(Clone, Copy, Debug)]
pub struct Rhs<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row: usize,
    pub(crate) panel: usize,
}

impl<'a> Rhs<'a> {
    /// Row-major `[k, n]` with `stride` floats from one row to the next.
    #[must_use]
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Self {
            data,
            row: stride,
            panel: PANEL,
        }
    }

    /// Panels of 32 columns, each `[k, 32]` row-major, `stride` floats from panel to panel.
    #[must_use]
    pub fn panels(data: &'a [f32], stride: usize) -> Self {
        Self {
            data,
            row: PANEL,
            panel: stride,
        }
    }

    /// The operand from column `j` on, a multiple of 32.
    pub(crate) fn skip(self, j: usize) -> Self {
        debug_assert!(j.is_multiple_of(PANEL), "inside a panel");
        Self {
            data: &self.data[j / PANEL * self.panel..],
            ..self
        }
    }

    pub(crate) fn offset(&self, p: usize, j: usize) -> usize {
        p * self.row + (j / PANEL) * self.panel + j % PANEL
    }
}

/// A right operand `[k, n]` copied into zero-padded panels: of 32 columns, or a single one of 16
/// where that is enough (adapters of small rank).
#[derive(Clone, Debug, Default)]
pub struct Packed {
    data: Buffer,
    k: usize,
    n: usize,
}

impl Packed {
    /// Packs the transpose of a row-major `[n, k]` matrix (a linear layer's weight `[out, in]`).
    ///
    /// # Panics
    /// When `data` is shorter than the shape says.
    #[must_use]
    pub fn transpose_of(data: &[f32], n: usize, k: usize) -> Self {
        let mut packed = Self::default();
        packed.fill_transposed(data, k, n, k);
        packed
    }

    /// Refills with the transpose of a row-major `[n, k]` matrix whose rows lie `stride` apart;
    /// reuses the memory.
    ///
    /// # Panics
    /// When `data` is shorter than the shape says.
    pub fn fill_transposed(&mut self, data: &[f32], stride: usize, n: usize, k: usize) {
        self.k = k;
        self.n = n;
        let width = self.width();
        self.data.resize(n.div_ceil(width) * k * width);
        if k == 0 {
            return;
        }
        for (q, out) in self.data.chunks_exact_mut(k * width).enumerate() {
            let first = q * width;
            let lanes = width.min(n - first);
            if lanes < width {
                out.fill(0.0);
            }
            for lane in 0..lanes {
                let from = &data[(first + lane) * stride..][..k];
                for (p, x) in from.iter().enumerate() {
                    out[p * width + lane] = *x;
                }
            }
        }
    }

    /// Depth `k` of the operand.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.k
    }

    /// Columns `n` of the operand.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.n
    }

    /// Columns of one panel.
    fn width(&self) -> usize {
        if self.n <= STRIP { STRIP } else { PANEL }
    }

    /// The whole operand.
    #[must_use]
    pub fn rhs(&self) -> Rhs<'_> {
        self.from_column(0)
    }

    /// The operand without the columns before `first`, a multiple of [`PANEL`].
    ///
    /// # Panics
    /// When `first` is no such multiple or outside the operand.
    #[must_use]
    pub fn from_column(&self, first: usize) -> Rhs<'_> {
        assert!(
            first.is_multiple_of(PANEL),
            "column {first} is inside a panel"
        );
        let width = self.width();
        Rhs {
            data: &self.data[first / width * width * self.k..],
            row: width,
            panel: (self.k * width).max(PANEL),
        }
    }
}

/// What happens to the old content of `C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// The chain starts at `+0.0`.
    Overwrite,
    /// The chain starts at the old element.
    Accumulate,
}

impl Isa {
    /// `C = A B` or `C += A B` for `A [m, k]`, `B [k, n]`, `C [m, n]` with rows `ldc` apart.
    ///
    /// Every element is `fma(a_ik, b_kj, ...)` from `k = 0` up. With `k = 0` an overwritten `C`
    /// is zero. `O(m n k)`.
    ///
    /// # Panics
    /// When a slice is shorter than its shape says, or `ldc < n`.
    #[allow(clippy::too_many_arguments, reason = "the argument list of every BLAS")]
    pub fn gemm(
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
        if m == 0 || n == 0 {
            return;
        }
        assert!(ldc >= n, "rows of C are {ldc} apart but {n} long");
        assert!(
            c.len() > reach(m - 1, ldc, n - 1, 1),
            "C has {} floats, [{m}, {n}] needs more",
            c.len()
        );
        if k == 0 {
            if store == Store::Overwrite {
                for row in c.chunks_mut(ldc).take(m) {
                    row[..n].fill(0.0);
                }
            }
            return;
        }
        let last_a = reach(m - 1, a.row, k - 1, a.col);
        assert!(
            a.data.len() > last_a,
            "A has {} floats, [{m}, {k}] needs more",
            a.data.len()
        );
        // Offsets grow with the row and, panels being at least 32 apart, with the column.
        let last_b = reach(k - 1, b.row, (n - 1) / PANEL, b.panel).saturating_add((n - 1) % PANEL);
        assert!(
            b.data.len() > last_b,
            "B has {} floats, [{k}, {n}] needs more",
            b.data.len()
        );
        if n > PANEL {
            assert!(b.panel >= PANEL, "panels overlap");
        }

        SCRATCH.with_borrow_mut(|scratch| {
            let block = Block { isa: self, m, ldc };
            let mut done = 0;
            while done < k {
                let depth = DEPTH.min(k - done);
                let fresh = done == 0 && store == Store::Overwrite;
                block.run(n, depth, a, b, done, c, fresh, scratch);
                done += depth;
            }
        });
    }
}

/// `i * row + j * column`, saturated: the bounds checks above must not wrap around, since the
/// tiles trust them.
pub(crate) fn reach(i: usize, row: usize, j: usize, column: usize) -> usize {
    i.saturating_mul(row)
        .saturating_add(j.saturating_mul(column))
}

thread_local! {
    static SCRATCH: RefCell<Buffer> = RefCell::new(Buffer::zeros(0));
}

/// One block over `k` of a product.
struct Block {
    isa: Isa,
    m: usize,
    ldc: usize,
}

impl Block {
    #[allow(clippy::too_many_arguments, reason = "the operands of one block")]
    fn run(
        &self,
        n: usize,
        depth: usize,
        a: Lhs<'_>,
        b: Rhs<'_>,
        first: usize,
        c: &mut [f32],
        fresh: bool,
        scratch: &mut Buffer,
    ) {
        let whole = n / STRIP * STRIP;
        let a_at = &a.data[first * a.col..];
        let pack = self.m >= PACK_ROWS && b.row > PANEL;
        let mut j = 0;
        while j < whole {
            let strips = if pack {
                2.min((whole - j) / STRIP)
            } else {
                (whole - j) / STRIP
            };
            let b_at = &b.data[b.offset(first, j)..];
            if pack {
                let copy = scratch.first(depth * PANEL);
                let width = strips * STRIP;
                for (p, row) in copy.chunks_exact_mut(PANEL).enumerate() {
                    row[..width].copy_from_slice(&b_at[p * b.row..][..width]);
                }
                let b = Operand {
                    at: copy.as_ptr(),
                    row: PANEL,
                    panel: PANEL,
                };
                self.columns(strips, depth, a_at, a, b, &mut c[j..], fresh);
            } else {
                let b = Operand {
                    at: b_at.as_ptr(),
                    row: b.row,
                    panel: b.panel,
                };
                self.columns(strips, depth, a_at, a, b, &mut c[j..], fresh);
            }
            j += strips * STRIP;
        }
        if whole < n {
            self.rest(
                n - whole,
                depth,
                a_at,
                a,
                b,
                (first, whole),
                c,
                fresh,
                scratch,
            );
        }
    }

    /// The last, partial strip: zero-padded copies of `B` and of the old `C`.
    #[allow(clippy::too_many_arguments, reason = "the operands of one block")]
    fn rest(
        &self,
        width: usize,
        depth: usize,
        a_at: &[f32],
        a: Lhs<'_>,
        b: Rhs<'_>,
        (first, column): (usize, usize),
        c: &mut [f32],
        fresh: bool,
        scratch: &mut Buffer,
    ) {
        let (b_copy, c_copy) = scratch
            .first((depth + self.m) * STRIP)
            .split_at_mut(depth * STRIP);
        for (p, row) in b_copy.chunks_exact_mut(STRIP).enumerate() {
            row[..width].copy_from_slice(&b.data[b.offset(first + p, column)..][..width]);
            row[width..].fill(0.0);
        }
        for (i, row) in c_copy.chunks_exact_mut(STRIP).enumerate() {
            row.fill(0.0);
            if !fresh {
                row[..width].copy_from_slice(&c[i * self.ldc + column..][..width]);
            }
        }
        let operand = Operand {
            at: b_copy.as_ptr(),
            row: STRIP,
            panel: PANEL,
        };
        let block = Self {
            isa: self.isa,
            m: self.m,
            ldc: STRIP,
        };
        block.columns(1, depth, a_at, a, operand, c_copy, fresh);
        for (i, row) in c_copy.chunks_exact(STRIP).enumerate() {
            c[i * self.ldc + column..][..width].copy_from_slice(&row[..width]);
        }
    }

    /// `strips` whole strips of sixteen columns, from the first column of `b` and `c`.
    #[allow(clippy::too_many_arguments, reason = "the operands of one block")]
    fn columns(
        &self,
        strips: usize,
        depth: usize,
        a_at: &[f32],
        a: Lhs<'_>,
        b: Operand,
        c: &mut [f32],
        fresh: bool,
    ) {
        let job = Job {
            m: self.m,
            strips,
            depth,
            a: a_at.as_ptr(),
            a_row: a.row,
            a_col: a.col,
            b,
            c: c.as_mut_ptr(),
            ldc: self.ldc,
            fresh,
        };
        match self.isa.0 {
            // SAFETY: the kind proves the features; `gemm` asserted that all `m * depth`
            // elements of A, `depth * strips * 16` of B and `m` rows of C lie in their slices.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kind::Amx => unsafe { avx512(&job) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 | Kind::Avx512 => unsafe { avx512(&job) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2(&job) },
            // SAFETY: bounds as above; plain Rust needs no feature.
            Kind::Portable => unsafe { portable(&job) },
        }
    }
}

#[derive(Clone, Copy)]
struct Operand {
    at: *const f32,
    row: usize,
    panel: usize,
}

struct Job {
    m: usize,
    strips: usize,
    depth: usize,
    a: *const f32,
    a_row: usize,
    a_col: usize,
    b: Operand,
    c: *mut f32,
    ldc: usize,
    fresh: bool,
}

/// `MR` rows by `NV` vectors; all chains advance together over `k`.
///
/// # Safety
/// `V`'s features are enabled; row `i + MR` and column `j + NV * V::LANES` are inside the job.
#[inline(always)]
unsafe fn tile<V: Lanes, const MR: usize, const NV: usize>(job: &Job, i: usize, j: usize) {
    // SAFETY: the caller promises that the tile lies inside the operands; all offsets below are
    // products of indices inside the tile.
    unsafe {
        let c = job.c.add(i * job.ldc + j);
        let a = job.a.add(i * job.a_row);
        let b = job.b.at.add((j / PANEL) * job.b.panel + j % PANEL);
        let mut acc = [[V::zero(); NV]; MR];
        if !job.fresh {
            for (r, row) in acc.iter_mut().enumerate() {
                for (v, x) in row.iter_mut().enumerate() {
                    *x = V::load(c.add(r * job.ldc + v * V::LANES));
                }
            }
        }
        for p in 0..job.depth {
            let b = b.add(p * job.b.row);
            let a = a.add(p * job.a_col);
            let mut right = [V::zero(); NV];
            for (v, x) in right.iter_mut().enumerate() {
                let column = v * V::LANES;
                *x = V::load(b.add((column / PANEL) * job.b.panel + column % PANEL));
            }
            for (r, row) in acc.iter_mut().enumerate() {
                let left = V::splat(*a.add(r * job.a_row));
                for (x, y) in row.iter_mut().zip(right) {
                    *x = x.fma(left, y);
                }
            }
        }
        for (r, row) in acc.iter().enumerate() {
            for (v, x) in row.iter().enumerate() {
                x.store(c.add(r * job.ldc + v * V::LANES));
            }
        }
    }
}

/// Splits `m` rows into tiles of nearly equal height, at most `tallest`.
pub(crate) fn heights(m: usize, tallest: usize) -> impl Iterator<Item = (usize, usize)> {
    let tiles = m.div_ceil(tallest);
    (0..tiles).map(move |t| (m * t / tiles, m * (t + 1) / tiles - m * t / tiles))
}

/// Calls `tile` with constant height and width.
macro_rules! tiles {
    ($v:ty, $job:expr, $i:expr, $j:expr, ($mr:expr, $nv:expr): $(($m:literal, $n:literal))*) => {
        match ($mr, $nv) {
            $(($m, $n) => tile::<$v, $m, $n>($job, $i, $j),)*
            shape => unreachable!("no tile of shape {shape:?}"),
        }
    };
}

/// # Safety
/// AVX-512 is present and the job's operands are inside their slices.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn avx512(job: &Job) {
    use std::arch::x86_64::__m512;
    // Short products need many columns at once to hide the latency of the fused add (eight
    // chains); tall ones keep 24 accumulators in the 32 registers.
    let widest = match job.m {
        1 => 16,
        2 | 3 => 8,
        4..=6 => 4,
        _ => 2,
    };
    let mut j = 0;
    while j < job.strips {
        let left = job.strips - j;
        let mut width = widest;
        while width > left {
            width /= 2;
        }
        for (i, height) in heights(job.m, 12) {
            // SAFETY: `i + height <= m`, `j + width <= strips`, features as for this function.
            unsafe {
                tiles!(__m512, job, i, j * STRIP, (height, width):
                    (1, 1) (2, 1) (3, 1) (4, 1) (5, 1) (6, 1) (7, 1) (8, 1) (9, 1) (10, 1) (11, 1) (12, 1)
                    (1, 2) (2, 2) (3, 2) (4, 2) (5, 2) (6, 2) (7, 2) (8, 2) (9, 2) (10, 2) (11, 2) (12, 2)
                    (1, 4) (2, 4) (3, 4) (4, 4) (5, 4) (6, 4)
                    (1, 8) (2, 8) (3, 8) (1, 16));
            }
        }
        j += width;
    }
}

/// # Safety
/// AVX2 and FMA are present and the job's operands are inside their slices.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(job: &Job) {
    use std::arch::x86_64::__m256;
    let widest = match job.m {
        1 => 4,
        2 | 3 => 2,
        _ => 1,
    };
    let mut j = 0;
    while j < job.strips {
        let left = job.strips - j;
        let mut width = widest;
        while width > left {
            width /= 2;
        }
        for (i, height) in heights(job.m, 6) {
            // SAFETY: `i + height <= m`, `j + width <= strips`, features as for this function.
            unsafe {
                tiles!(__m256, job, i, j * STRIP, (height, width * 2):
                    (1, 2) (2, 2) (3, 2) (4, 2) (5, 2) (6, 2) (1, 4) (2, 4) (3, 4) (1, 8));
            }
        }
        j += width;
    }
}

/// # Safety
/// The job's operands are inside their slices.
unsafe fn portable(job: &Job) {
    for j in 0..job.strips {
        for (i, height) in heights(job.m, 4) {
            // SAFETY: `i + height <= m`, `j < strips`.
            unsafe {
                tiles!(Portable, job, i, j * STRIP, (height, 1): (1, 1) (2, 1) (3, 1) (4, 1));
            }
        }
    }
}
