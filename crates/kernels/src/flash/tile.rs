//! The products inside fast attention, and the packing of their operands: pairs of bf16 on both
//! sides, sums in `f32`.

use crate::isa::Isa;
use crate::pairs::{PANEL, Pairs, Task, run};

/// Rows of the tallest tile; left operands and results have room for a multiple of it.
pub(super) const TALL: usize = 12;

/// A product `sums (+)= left right` over `pairs` pairs of the depth.
///
/// Pair `p` of row `i` of the left operand is at `i * ROW + p * STEP`, constants so that a tile's
/// addresses need few registers; pair `p` of column `j` of the right one at
/// `p * right_row + (j / 32) * right_panel + j % 32`.
pub(super) struct Product<const ROW: usize, const STEP: usize> {
    pub left: *const u32,
    pub right: *const u32,
    pub right_row: usize,
    pub right_panel: usize,
    pub sums: *mut f32,
    /// Floats between rows of the sums.
    pub across: usize,
    pub pairs: usize,
    pub rows: usize,
    /// A multiple of 32.
    pub columns: usize,
    /// Whether the old sums are forgotten.
    pub fresh: bool,
}

impl<const ROW: usize, const STEP: usize> Product<ROW, STEP> {
    /// # Safety
    /// The operands hold all pairs, the left one and the sums for the rows rounded up to a
    /// multiple of [`TALL`].
    pub(super) unsafe fn run(&self, isa: Isa) {
        // SAFETY: the caller's promise.
        unsafe { run(isa, self) };
    }
}

impl<const ROW: usize, const STEP: usize> Task for Product<ROW, STEP> {
    #[inline(always)]
    unsafe fn run<V: Pairs>(&self) {
        // Two vectors by as many rows as the registers hold.
        let wide = 2 * V::LANES;
        for j in (0..self.columns).step_by(wide) {
            for i in (0..self.rows).step_by(V::TALL) {
                // SAFETY: tiles lie inside the rounded rows and the columns.
                unsafe {
                    match self.rows - i {
                        1 | 2 => tile::<V, 2, 2, ROW, STEP>(self, i, j),
                        left if left <= 4 || V::TALL == 4 => {
                            tile::<V, 4, 2, ROW, STEP>(self, i, j);
                        }
                        _ => tile::<V, TALL, 2, ROW, STEP>(self, i, j),
                    }
                }
            }
        }
    }
}

/// `MR` rows by `NV` vectors; all chains advance together over the pairs.
///
/// # Safety
/// As [`Product::run`], for rows `i .. i + MR` and columns `j .. j + NV * V::LANES`.
#[inline(always)]
unsafe fn tile<V: Pairs, const MR: usize, const NV: usize, const ROW: usize, const STEP: usize>(
    product: &Product<ROW, STEP>,
    i: usize,
    j: usize,
) {
    // SAFETY: the caller promises that the tile lies inside the operands; all offsets below are
    // products of indices inside the tile.
    unsafe {
        let to = product.sums.add(i * product.across + j);
        let left = product.left.add(i * ROW);
        let right = product
            .right
            .add(j / PANEL * product.right_panel + j % PANEL);
        let mut sums = [[V::zero(); NV]; MR];
        if !product.fresh {
            for (r, row) in sums.iter_mut().enumerate() {
                for (v, x) in row.iter_mut().enumerate() {
                    *x = V::load(to.add(r * product.across + v * V::LANES));
                }
            }
        }
        for p in 0..product.pairs {
            let (left, right) = (left.add(p * STEP), right.add(p * product.right_row));
            // No closure here: one that returns vectors is not inlined across target features.
            let mut columns = [V::right(right); NV];
            for (v, x) in columns.iter_mut().enumerate() {
                *x = V::right(right.add(v * V::LANES));
            }
            for (r, row) in sums.iter_mut().enumerate() {
                let left = V::left(left.add(r * ROW));
                for (x, y) in row.iter_mut().zip(columns) {
                    *x = x.dot(left, y);
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (v, x) in row.iter().enumerate() {
                x.store(to.add(r * product.across + v * V::LANES));
            }
        }
    }
}

/// Rows of some heads of some positions: row `r` is head `(start + r) % heads` of position
/// `(start + r) / heads`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub start: usize,
}

impl<'a> Rows<'a> {
    /// Rows of one head.
    pub(super) fn of(data: &'a [f32], stride: usize, head_dim: usize) -> Self {
        let (heads, start) = (1, 0);
        Self {
            data,
            stride,
            heads,
            head_dim,
            start,
        }
    }

    #[inline(always)]
    pub(super) fn get(&self, r: usize) -> &'a [f32] {
        let (row, head) = ((self.start + r) / self.heads, (self.start + r) % self.heads);
        &self.data[row * self.stride + head * self.head_dim..][..self.head_dim]
    }
}

/// How rows become an operand.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// A left operand with the depth along the head: rows this many pairs apart.
    Rows(usize),
    /// A right operand with the depth along the head: panels of 32 rows, the first of them row
    /// `.0` of its panels.
    Panels(usize),
    /// A right operand with the depth along the rows: pairs of rows this many pairs apart; an odd
    /// last row is paired with zeros.
    Interleaved(usize),
}

/// Packs `count` rows into `to`, padded with zeros along the head to a multiple of 32 (of 16 pairs)
/// except in panels.
pub(super) fn pack(isa: Isa, form: Form, rows: Rows<'_>, count: usize, to: &mut [u32]) {
    let pairs = rows.head_dim.next_multiple_of(PANEL) / 2;
    let needed = match form {
        _ if count == 0 => return,
        Form::Rows(across) => (count - 1) * across + pairs,
        Form::Panels(first) => (first + count).div_ceil(PANEL) * rows.head_dim.div_ceil(2) * PANEL,
        Form::Interleaved(across) => (count - 1) / 2 * across + 2 * pairs,
    };
    assert!(to.len() >= needed, "{} pairs, {needed} needed", to.len());
    let task = Pack {
        form,
        rows,
        count,
        to: to.as_mut_ptr(),
    };
    // SAFETY: the size was asserted.
    unsafe { run(isa, &task) };
}

struct Pack<'a> {
    form: Form,
    rows: Rows<'a>,
    count: usize,
    to: *mut u32,
}

impl Task for Pack<'_> {
    #[inline(always)]
    unsafe fn run<V: Pairs>(&self) {
        let rows = self.rows;
        match self.form {
            Form::Rows(across) => {
                for r in 0..self.count {
                    // SAFETY: `V` is enabled, [`pack`] asserted the room.
                    unsafe { narrow_row::<V>(rows.get(r), self.to.add(r * across)) };
                }
            }
            Form::Panels(first) => {
                let pairs = rows.head_dim.div_ceil(2);
                let mut packed = [0; super::MAX_HEAD / 2];
                for r in 0..self.count {
                    let at = (first + r) / PANEL * pairs * PANEL + (first + r) % PANEL;
                    // SAFETY: as above, and the row fits into `packed`.
                    unsafe {
                        narrow_row::<V>(rows.get(r), packed.as_mut_ptr());
                        let to = self.to.add(at);
                        for p in 0..pairs {
                            *to.add(p * PANEL) = packed[p];
                        }
                    }
                }
            }
            Form::Interleaved(across) => {
                let zeros = [0.0; super::MAX_HEAD];
                for r in (0..self.count).step_by(2) {
                    let last = r + 1 == self.count;
                    let next = if last {
                        &zeros[..rows.head_dim]
                    } else {
                        rows.get(r + 1)
                    };
                    // SAFETY: as above.
                    unsafe { narrow_columns::<V>(rows.get(r), next, self.to.add(r / 2 * across)) };
                }
            }
        }
    }
}

/// Rounds a row to pairs, padded with zeros to a multiple of 16 pairs.
///
/// # Safety
/// `V` is enabled; `to` has the room.
#[inline(always)]
pub(super) unsafe fn narrow_row<V: Pairs>(row: &[f32], to: *mut u32) {
    let (chunks, rest) = row.as_chunks::<PANEL>();
    // SAFETY: 32 floats for 16 pairs each time.
    unsafe {
        for i in 0..chunks.len() {
            V::narrow_row(chunks[i].as_ptr(), to.add(16 * i));
        }
        if !rest.is_empty() {
            let mut last = [0.0; PANEL];
            last[..rest.len()].copy_from_slice(rest);
            V::narrow_row(last.as_ptr(), to.add(16 * chunks.len()));
        }
    }
}

/// Rounds two rows to pairs of one element each, padded with zeros to a multiple of 16 pairs.
///
/// # Safety
/// `V` is enabled; `to` has the room.
#[inline(always)]
pub(super) unsafe fn narrow_columns<V: Pairs>(low: &[f32], high: &[f32], to: *mut u32) {
    let high = &high[..low.len()];
    let (chunks, rest) = low.as_chunks::<16>();
    let (others, others_rest) = high.as_chunks::<16>();
    // SAFETY: sixteen floats twice for sixteen pairs each time.
    unsafe {
        for i in 0..chunks.len() {
            V::narrow_columns(chunks[i].as_ptr(), others[i].as_ptr(), to.add(16 * i));
        }
        if !rest.is_empty() {
            let mut last = [[0.0; 16]; 2];
            last[0][..rest.len()].copy_from_slice(rest);
            last[1][..rest.len()].copy_from_slice(others_rest);
            V::narrow_columns(
                last[0].as_ptr(),
                last[1].as_ptr(),
                to.add(16 * chunks.len()),
            );
        }
    }
}
