//! Matrix products of the `fast` mode: bf16 operands, `f32` sums.
//!
//! Both operands are rounded to bf16 (to nearest, ties to even) and an element of the result is
//! one chain over the depth in steps of a pair, see `pairs.rs`: the chain of an element does
//! not depend on which rows and columns are computed beside it, nor on the blocks below. So on one
//! [`Isa`] the bits are the same for any batch and any split over threads.
//!
//! The structure is that of [`crate::gemm`] one level up: the left operand is rounded into scratch
//! that stays in the second-level cache, the right one comes in panels of 32 columns of which a
//! block of `DEPTH` stays in the first-level cache. Panels of a bf16 [`Weight`] are read in
//! place; other formats, the transpose, and `f32` operands are brought into that form block by
//! block, once for all rows.

use std::cell::RefCell;
use std::ops::Range;

use crate::buffer::{Buffer, Lines};
use crate::gemm::{Lhs, Rhs, Store, heights, reach};
use crate::isa::{Isa, Kind};
use crate::pairs::{PANEL, Pairs, Task, narrow_row, prefetch, run};
use crate::weight::{Format, Weight};

/// Columns of one vector of 512 bits.
const HALF: usize = PANEL / 2;

/// Most inputs of a block: 40 KiB of a panel. A multiple of 128.
const DEPTH: usize = 640;

/// Pairs between rows of the rounded left operand; not a power of two, so that a tile's rows
/// fall into different sets of the cache.
pub(crate) const LEFT_STRIDE: usize = DEPTH / 2 + 16;

/// Rows of one tile of AMX, or two above each other.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
const FEW: usize = 32;

/// Most inputs of the left operand that are rounded at once.
const LEFT_DEPTH: usize = 2 * DEPTH;

/// Pairs of the rounded left operand: half of a second-level cache, which is 1 MiB, or 2 MiB
/// where there is AMX.
fn left_pairs(isa: Isa) -> usize {
    match isa.0 {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Kind::Amx => 256 << 10,
        _ => 128 << 10,
    }
}

impl Isa {
    /// `y_ij = sum_p x_ip W_(outputs.start + j)p`, or added to the old `y`, for `m` rows of `x`
    /// `[m, inputs]` and `y` `[m, outputs.len()]`, rows `x_stride` and `y_stride` floats apart.
    ///
    /// Results do not depend on how a caller splits rows or outputs; ranges at multiples of 32
    /// are the fastest. `O(m inputs outputs)`.
    ///
    /// # Panics
    /// When a slice is shorter than its shape says or `outputs` is not a range of the weight's.
    #[allow(clippy::too_many_arguments, reason = "the argument list of every BLAS")]
    pub fn project(
        self,
        m: usize,
        x: &[f32],
        x_stride: usize,
        w: &Weight,
        outputs: Range<usize>,
        y: &mut [f32],
        y_stride: usize,
        store: Store,
    ) {
        assert!(outputs.start <= outputs.end && outputs.end <= w.outputs());
        assert!(m < 2 || x_stride >= w.inputs(), "rows of x overlap");
        let left = Lhs::rows(x, x_stride);
        let right = Right::Forward(w);
        product(
            self,
            m,
            w.inputs(),
            left,
            right,
            outputs,
            y,
            y_stride,
            store,
        );
    }

    /// `dx_ip = sum_j dy_ij W_j(inputs.start + p)`, or added to the old `dx`, over all outputs
    /// `j`, for `m` rows of `dy` `[m, outputs]` and `dx` `[m, inputs.len()]`.
    ///
    /// The weight is read from the same storage as in [`Isa::project`]. `O(m inputs outputs)`.
    ///
    /// # Panics
    /// When a slice is shorter than its shape says or `inputs` is not a range of the weight's.
    #[allow(clippy::too_many_arguments, reason = "the argument list of every BLAS")]
    pub fn project_back(
        self,
        m: usize,
        dy: &[f32],
        dy_stride: usize,
        w: &Weight,
        inputs: Range<usize>,
        dx: &mut [f32],
        dx_stride: usize,
        store: Store,
    ) {
        assert!(inputs.start <= inputs.end && inputs.end <= w.inputs());
        assert!(m < 2 || dy_stride >= w.outputs(), "rows of dy overlap");
        let left = Lhs::rows(dy, dy_stride);
        let right = Right::Backward(w);
        product(
            self,
            m,
            w.outputs(),
            left,
            right,
            inputs,
            dx,
            dx_stride,
            store,
        );
    }

    /// `C = A B` or `C += A B` as [`Isa::gemm`], with both operands rounded to bf16.
    ///
    /// # Panics
    /// When a slice is shorter than its shape says, or `ldc < n`.
    #[allow(clippy::too_many_arguments, reason = "the argument list of every BLAS")]
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
        if n > 0 && k > 0 {
            // Offsets grow with the row and, panels being at least 32 apart, with the column.
            let last =
                reach(k - 1, b.row, (n - 1) / PANEL, b.panel).saturating_add((n - 1) % PANEL);
            assert!(
                b.data.len() > last,
                "B has {} floats, [{k}, {n}] needs more",
                b.data.len()
            );
            assert!(n <= PANEL || b.panel >= PANEL, "panels overlap");
        }
        product(self, m, k, a, Right::Floats(b, n), 0..n, c, ldc, store);
    }
}

/// The right operand `[k, n]`.
#[derive(Clone, Copy)]
enum Right<'a> {
    /// The transpose of a weight.
    Forward(&'a Weight),
    /// A weight.
    Backward(&'a Weight),
    /// A matrix of this many columns.
    Floats(Rhs<'a>, usize),
}

#[derive(Default)]
struct Scratch {
    left: Lines<u32>,
    right: Lines<u32>,
    /// Sums of a panel of which not all columns are wanted.
    sums: Buffer,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// `C[.., columns] (+)= A B` for `A [m, k]`; `c` begins at the first of the columns.
#[allow(clippy::too_many_arguments, reason = "the operands of a product")]
fn product(
    isa: Isa,
    m: usize,
    k: usize,
    left: Lhs<'_>,
    right: Right<'_>,
    columns: Range<usize>,
    c: &mut [f32],
    ldc: usize,
    store: Store,
) {
    let n = columns.len();
    if m == 0 || n == 0 {
        return;
    }
    assert!(ldc >= n, "rows of the result are {ldc} apart but {n} long");
    assert!(
        c.len() > reach(m - 1, ldc, n - 1, 1),
        "the result has {} floats, [{m}, {n}] needs more",
        c.len()
    );
    if k == 0 {
        if store == Store::Overwrite {
            c.chunks_mut(ldc).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    assert!(
        left.data.len() > reach(m - 1, left.row, k - 1, left.col),
        "the left operand has {} floats, [{m}, {k}] needs more",
        left.data.len()
    );
    SCRATCH.with_borrow_mut(|scratch| {
        for first in (0..k).step_by(LEFT_DEPTH) {
            let depth = LEFT_DEPTH.min(k - first);
            let blocks = depth.div_ceil(DEPTH);
            let most = (left_pairs(isa) / (blocks * LEFT_STRIDE)).next_multiple_of(12);
            for (i, rows) in heights(m, most) {
                let part = Part {
                    isa,
                    first,
                    depth,
                    rows,
                    ldc,
                    fresh: first == 0 && store == Store::Overwrite,
                };
                part.run(
                    at_row(left, i, first),
                    right,
                    columns.clone(),
                    &mut c[i * ldc..],
                    scratch,
                );
            }
        }
    });
}

/// The operand from row `i` and depth `p` on.
fn at_row(left: Lhs<'_>, i: usize, p: usize) -> Lhs<'_> {
    Lhs {
        data: &left.data[i * left.row + p * left.col..],
        ..left
    }
}

/// Some rows and some depth of a product; its left operand fits into the scratch.
struct Part {
    isa: Isa,
    first: usize,
    depth: usize,
    rows: usize,
    ldc: usize,
    fresh: bool,
}

impl Part {
    fn run(
        &self,
        left: Lhs<'_>,
        right: Right<'_>,
        columns: Range<usize>,
        c: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Scratch {
            left: pairs,
            right: panel,
            sums,
        } = scratch;
        let rounded = self.round(left, pairs);
        let mut j = columns.start;
        while j < columns.end {
            let q = j / PANEL;
            let (low, left) = (j % PANEL, columns.end - j);
            let c = &mut c[j - columns.start..];
            let wide = match left / PANEL {
                _ if low > 0 => 0,
                // Few rows are few chains: advance several panels at once.
                4.. if self.rows == 1 => 4 * PANEL,
                2.. if self.rows <= 3 => 2 * PANEL,
                0 if left == HALF => HALF,
                0 => 0,
                _ => PANEL,
            };
            if wide > 0 {
                self.panels(rounded, right, q, wide, panel, c, self.ldc, self.fresh);
                j += wide;
            } else {
                let width = left.min(PANEL - low);
                let wide = if low + width <= HALF { HALF } else { PANEL };
                let sums = sums.first(self.rows * wide);
                if !self.fresh {
                    for (i, row) in sums.chunks_exact_mut(wide).enumerate() {
                        row[low..low + width].copy_from_slice(&c[i * self.ldc..][..width]);
                    }
                }
                self.panels(rounded, right, q, wide, panel, sums, wide, self.fresh);
                for (i, row) in sums.chunks_exact(wide).enumerate() {
                    c[i * self.ldc..][..width].copy_from_slice(&row[low..low + width]);
                }
                j += width;
            }
        }
    }

    /// Rounds the left operand: blocks of [`DEPTH`], each padded with zeros to a multiple of 32.
    fn round(&self, left: Lhs<'_>, pairs: &mut Lines<u32>) -> *const u32 {
        let pairs = pairs.first(self.depth.div_ceil(DEPTH) * self.rows * LEFT_STRIDE);
        let task = Round {
            from: left,
            rows: self.rows,
            depth: self.depth,
            to: pairs.as_mut_ptr(),
        };
        // SAFETY: `product` asserted that the operand's rows and depth lie in its slice, and the
        // scratch has a block for every `DEPTH`.
        unsafe { run(self.isa, &task) };
        pairs.as_ptr()
    }

    /// `wide` columns from panel `q` on, for all rows and the whole depth.
    #[allow(clippy::too_many_arguments, reason = "the operands of one block")]
    fn panels(
        &self,
        left: *const u32,
        right: Right<'_>,
        q: usize,
        wide: usize,
        scratch: &mut Lines<u32>,
        c: &mut [f32],
        ldc: usize,
        fresh: bool,
    ) {
        let in_place = matches!(right, Right::Forward(w) if w.format() == Format::Bf16);
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if let (Kind::Amx, Right::Forward(weight), false) = (self.isa.0, right, in_place)
            && self.rows <= FEW
        {
            for from in (0..self.depth).step_by(DEPTH) {
                let tiles = Tiles {
                    rows: self.rows,
                    pairs: DEPTH.min(self.depth - from).div_ceil(2),
                    left: left.wrapping_add(from / DEPTH * self.rows * LEFT_STRIDE),
                    panel: std::ptr::null(),
                    apart: 0,
                    wide,
                    c: c.as_mut_ptr(),
                    ldc,
                    fresh: fresh && from == 0,
                };
                let task = crate::amx::Unpacking {
                    product: tiles.product(),
                    weight,
                    q,
                    first: self.first + from,
                };
                // SAFETY: as below; panels and inputs are inside the weight.
                unsafe { crate::amx::run_unpacking(self.isa, &task) };
            }
            return;
        }
        // Several panels side by side share the scratch of one.
        let side = wide.div_ceil(PANEL);
        let step = if in_place { DEPTH } else { DEPTH / side };
        for from in (0..self.depth).step_by(step) {
            let depth = step.min(self.depth - from);
            let (panel, apart) = match right {
                Right::Forward(w) if in_place => {
                    (w.codes(q, self.first + from).as_ptr(), w.panel_words())
                }
                _ => {
                    let apart = depth.next_multiple_of(PANEL) / 2 * PANEL;
                    let panels = scratch.first(side * apart);
                    for (q, panel) in (q..).zip(panels.chunks_exact_mut(apart)) {
                        let task = Bring {
                            right,
                            q,
                            first: self.first + from,
                            depth,
                            to: panel.as_mut_ptr(),
                        };
                        // SAFETY: the scratch holds `depth` inputs, padded; `q` and `first` lie
                        // inside the operand, whose own extent was asserted.
                        unsafe { run(self.isa, &task) };
                    }
                    (panels.as_ptr(), apart)
                }
            };
            // SAFETY: the left operand's scratch has this block, and `step` divides `DEPTH`.
            let left =
                unsafe { left.add(from / DEPTH * self.rows * LEFT_STRIDE + from % DEPTH / 2) };
            let tiles = Tiles {
                rows: self.rows,
                pairs: depth.div_ceil(2),
                left,
                panel,
                apart,
                wide,
                c: c.as_mut_ptr(),
                ldc,
                fresh: fresh && from == 0,
            };
            // SAFETY: both operands hold `pairs` pairs, and zeros up to the next multiple of 16;
            // `product` asserted that `c` has these rows and columns.
            unsafe { tiles.multiply(self.isa) };
        }
    }
}

/// Rounds the left operand: pair `p` of row `i` of a block is at `i * LEFT_STRIDE + p`.
struct Round<'a> {
    from: Lhs<'a>,
    rows: usize,
    depth: usize,
    to: *mut u32,
}

impl Task for Round<'_> {
    #[inline(always)]
    unsafe fn run<V: Pairs>(&self) {
        // SAFETY: the task's blocks, rows and depth are inside its operands.
        unsafe {
            if self.from.col == 1 {
                // A row from its begin to its end: that is how it lies in memory.
                for i in 0..self.rows {
                    let row = &self.from.data[i * self.from.row..][..self.depth];
                    for (block, row) in row.chunks(DEPTH).enumerate() {
                        let row_at = (block * self.rows + i) * LEFT_STRIDE;
                        narrow_row::<V>(row, self.to.add(row_at));
                    }
                }
            } else {
                for (block, first) in (0..self.depth).step_by(DEPTH).enumerate() {
                    let to = self.to.add(block * self.rows * LEFT_STRIDE);
                    self.turned::<V>(first, DEPTH.min(self.depth - first), to);
                }
            }
        }
    }
}

impl Round<'_> {
    /// A block of an operand whose columns are contiguous.
    ///
    /// # Safety
    /// `V` is enabled; `to` has the room.
    #[inline(always)]
    unsafe fn turned<V: Pairs>(&self, first: usize, depth: usize, to: *mut u32) {
        let mut square = [0_u32; 16 * 16];
        for p in (0..depth).step_by(PANEL) {
            let deep = PANEL.min(depth - p);
            for i in (0..self.rows).step_by(16) {
                let from = &self.from.data[(first + p) * self.from.col + i..];
                let rows = 16.min(self.rows - i);
                // SAFETY: a square of 32 inputs and 16 rows; as many are written as there are.
                unsafe {
                    narrow_panel::<V>(from, self.from.col, deep, rows, 16, square.as_mut_ptr());
                    let to = to.add(i * LEFT_STRIDE + p / 2);
                    V::flip(square.as_ptr(), 16, to, LEFT_STRIDE, rows);
                }
            }
        }
    }
}

/// Rounds `depth` rows of `width` floats, `stride` apart, into rows of pairs `across` apart, and
/// pads with zeros to a depth that is a multiple of 32 and a width that is one of 16.
///
/// # Safety
/// `V` is enabled; `to` has room for the padded block.
#[inline(always)]
unsafe fn narrow_panel<V: Pairs>(
    from: &[f32],
    stride: usize,
    depth: usize,
    width: usize,
    across: usize,
    to: *mut u32,
) {
    let zeros = [0.0; 16];
    for p in (0..depth.next_multiple_of(PANEL)).step_by(2) {
        for i in (0..width).step_by(16) {
            let lanes = 16.min(width - i);
            let mut rest = [[0.0; 16]; 2];
            let mut at = |row: usize| -> *const f32 {
                if row >= depth {
                    return zeros.as_ptr();
                }
                let row_at = &from[row * stride + i..][..lanes];
                if lanes == 16 {
                    return row_at.as_ptr();
                }
                rest[row % 2][..lanes].copy_from_slice(row_at);
                rest[row % 2].as_ptr()
            };
            let (low, high) = (at(p), at(p + 1));
            // SAFETY: sixteen floats each, by the slices above or the padding.
            unsafe { V::narrow_columns(low, high, to.add(p / 2 * across + i)) };
        }
    }
}

/// Brings a block of a panel of the right operand into pairs.
struct Bring<'a> {
    right: Right<'a>,
    q: usize,
    first: usize,
    depth: usize,
    to: *mut u32,
}

impl Task for Bring<'_> {
    #[inline(always)]
    unsafe fn run<V: Pairs>(&self) {
        match self.right {
            // SAFETY: the panel and the depth are inside the weight, the scratch has the room.
            Right::Forward(w) => unsafe {
                w.unpack::<V>(self.q, self.first, self.depth, self.to);
            },
            Right::Backward(w) => {
                let mut square = [0_u32; PANEL / 2 * PANEL];
                let across = w.panel_words();
                for j in (0..self.depth).step_by(PANEL) {
                    // A square of 32 inputs and 32 outputs. The next ones are as many pages away,
                    // where no prefetcher of the hardware looks.
                    let codes = w.codes((self.first + j) / PANEL, self.q * PANEL).as_ptr();
                    prefetch(
                        codes.wrapping_add(2 * across),
                        2 * PANEL * w.format().row_words(),
                    );
                    let from = match w.format() {
                        Format::Bf16 => codes,
                        Format::Int8 | Format::Nf4 => {
                            let (panel, input) = ((self.first + j) / PANEL, self.q * PANEL);
                            // SAFETY: the square has room for 32 inputs.
                            unsafe { w.unpack::<V>(panel, input, PANEL, square.as_mut_ptr()) };
                            square.as_ptr()
                        }
                    };
                    // SAFETY: storage is padded to whole squares, and so is the scratch.
                    unsafe {
                        let to = self.to.add(j / 2 * PANEL);
                        V::turn(from, to);
                        V::turn(from.add(16), to.add(8 * PANEL));
                    }
                }
            }
            Right::Floats(b, n) => {
                let column = self.q * PANEL;
                let from = &b.data[b.offset(self.first, column)..];
                let width = PANEL.min(n - column);
                // SAFETY: the scratch has the room.
                unsafe { narrow_panel::<V>(from, b.row, self.depth, width, PANEL, self.to) };
            }
        }
    }
}

/// All rows times the columns of half a panel, of one, or of several.
pub(crate) struct Tiles {
    pub(crate) rows: usize,
    pub(crate) pairs: usize,
    /// Rows of pairs, [`LEFT_STRIDE`] apart.
    pub(crate) left: *const u32,
    pub(crate) panel: *const u32,
    /// Pairs from one panel to the next.
    pub(crate) apart: usize,
    /// Columns.
    pub(crate) wide: usize,
    pub(crate) c: *mut f32,
    pub(crate) ldc: usize,
    /// Whether the chains start here.
    pub(crate) fresh: bool,
}

impl Tiles {
    /// # Safety
    /// Both operands hold as many pairs as the task says and zeros up to the next multiple of 16;
    /// `c` has the rows and columns.
    unsafe fn multiply(&self, isa: Isa) {
        // SAFETY: the caller's promise; an `Isa` of a kind exists only after detection.
        unsafe {
            match isa.0 {
                #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
                Kind::Amx => crate::amx::run(&self.product()),
                _ => run(isa, self),
            }
        }
    }

    /// The same for AMX, up to the padding of the depth.
    #[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
    pub(crate) fn product(&self) -> crate::amx::Product {
        crate::amx::Product {
            rows: self.rows,
            pairs: self.pairs.next_multiple_of(16),
            columns: self.wide,
            left: self.left,
            left_row: LEFT_STRIDE,
            right: self.panel,
            right_row: PANEL,
            right_panel: self.apart,
            sums: self.c,
            across: self.ldc,
            fresh: self.fresh,
        }
    }
}

/// `MR` rows by `NV` vectors; all chains advance together over the pairs.
///
/// # Safety
/// `V` is enabled; rows `i .. i + MR` and columns `j .. j + NV * V::LANES` are inside the task.
#[inline(always)]
unsafe fn tile<V: Pairs, const MR: usize, const NV: usize>(task: &Tiles, i: usize, j: usize) {
    // SAFETY: the caller promises that the tile lies inside the operands; all offsets below are
    // products of indices inside the tile.
    unsafe {
        let c = task.c.add(i * task.ldc + j);
        let panel = task.panel.add(j / PANEL * task.apart + j % PANEL);
        let left = task.left.add(i * LEFT_STRIDE);
        let mut sums = [[V::zero(); NV]; MR];
        if !task.fresh {
            for (r, row) in sums.iter_mut().enumerate() {
                for (v, x) in row.iter_mut().enumerate() {
                    *x = V::load(c.add(r * task.ldc + v * V::LANES));
                }
            }
        }
        for p in 0..task.pairs {
            let (left, panel) = (left.add(p), panel.add(p * PANEL));
            let mut right = [V::right(panel); NV];
            for (v, x) in right.iter_mut().enumerate() {
                let column = v * V::LANES;
                *x = V::right(panel.add(column / PANEL * task.apart + column % PANEL));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let left = V::left(left.add(r * LEFT_STRIDE));
                for (x, y) in sums.iter_mut().zip(right) {
                    *x = x.dot(left, y);
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (v, x) in row.iter().enumerate() {
                x.store(c.add(r * task.ldc + v * V::LANES));
            }
        }
    }
}

/// Calls `tile` with constant height and width.
macro_rules! tiles {
    ($v:ty, $task:expr, $i:expr, $j:expr, ($mr:expr, $nv:expr): $(($m:literal, $n:literal))*) => {
        match ($mr, $nv) {
            $(($m, $n) => tile::<$v, $m, $n>($task, $i, $j),)*
            shape => unreachable!("no tile of shape {shape:?}"),
        }
    };
}

impl Task for Tiles {
    #[inline(always)]
    unsafe fn run<V: Pairs>(&self) {
        // The tallest tile, and its columns: what the registers hold.
        let (tallest, columns) = if V::LANES == HALF {
            (12, self.wide)
        } else {
            (4, HALF)
        };
        for j in (0..self.wide).step_by(columns) {
            for (i, height) in heights(self.rows, tallest) {
                // SAFETY: `i + height <= rows`, `j + columns <= wide`.
                unsafe {
                    if V::LANES == HALF {
                        tiles!(V, self, i, j, (height, columns / HALF):
                            (1, 1) (2, 1) (3, 1) (4, 1) (5, 1) (6, 1) (7, 1) (8, 1) (9, 1) (10, 1) (11, 1) (12, 1)
                            (1, 2) (2, 2) (3, 2) (4, 2) (5, 2) (6, 2) (7, 2) (8, 2) (9, 2) (10, 2) (11, 2) (12, 2)
                            (1, 4) (2, 4) (3, 4) (1, 8));
                    } else {
                        tiles!(V, self, i, j, (height, columns / V::LANES): (1, 2) (2, 2) (3, 2) (4, 2));
                    }
                }
            }
        }
    }
}
