//! The products inside fast attention, and the packing of their operands: pairs of bf16 on both
//! sides, sums in `f32`.

use super::MAX_HEAD;
use crate::isa::{Isa, Kind};
use crate::pairs::{PANEL, Pairs, Task, run};

/// Rows of the tallest tile; left operands and results have room for a multiple of it.
pub(super) const TALL: usize = 12;

/// A product `sums (+)= left right` over `pairs` pairs of the depth.
///
/// Pair `p` of row `i` of the left operand is at `i * ROW + p`, a constant so that a tile's
/// addresses need few registers; pair `p` of column `j` of the right one at
/// `p * right_row + (j / 32) * right_panel + j % 32`.
pub(super) struct Product<const ROW: usize> {
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

impl<const ROW: usize> Product<ROW> {
    /// # Safety
    /// The operands hold all pairs, the left one and the sums for the rows rounded up to a
    /// multiple of [`TALL`].
    pub(super) unsafe fn run(&self, isa: Isa) {
        // SAFETY: the caller's promise; an `Isa` of a kind exists only after detection.
        unsafe {
            match isa.0 {
                #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
                Kind::Amx => crate::amx::run(&crate::amx::Product {
                    rows: self.rows,
                    pairs: self.pairs,
                    columns: self.columns,
                    left: self.left,
                    left_row: ROW,
                    right: self.right,
                    right_row: self.right_row,
                    right_panel: self.right_panel,
                    sums: self.sums,
                    across: self.across,
                    fresh: self.fresh,
                }),
                _ => run(isa, self),
            }
        }
    }
}

impl<const ROW: usize> Task for Product<ROW> {
    #[inline(always)]
    unsafe fn run<V: Pairs>(&self) {
        // Two vectors by as many rows as the registers hold.
        let wide = 2 * V::LANES;
        for j in (0..self.columns).step_by(wide) {
            for i in (0..self.rows).step_by(V::TALL) {
                // SAFETY: tiles lie inside the rounded rows and the columns.
                unsafe {
                    match self.rows - i {
                        1 | 2 => tile::<V, 2, 2, ROW>(self, i, j),
                        left if left <= 4 || V::TALL == 4 => {
                            tile::<V, 4, 2, ROW>(self, i, j);
                        }
                        _ => tile::<V, TALL, 2, ROW>(self, i, j),
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
unsafe fn tile<V: Pairs, const MR: usize, const NV: usize, const ROW: usize>(
    product: &Product<ROW>,
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
            let (left, right) = (left.add(p), right.add(p * product.right_row));
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
    /// A left operand with the depth along the rows: an element of the head each this many pairs
    /// apart, padded with zeros to whole steps of 32 rows.
    Turned(usize),
    /// A right operand with the depth along the head: panels of 32 rows, the first of them row
    /// `.0` of its panels.
    Panels(usize),
    /// A right operand with the depth along the rows: pairs of rows this many pairs apart; an odd
    /// last row is paired with zeros.
    Interleaved(usize),
}

/// Packs `count` rows into `to`, padded with zeros along the head to a multiple of 32 (of 16 pairs)
/// except in panels and where the head is turned.
pub(super) fn pack(isa: Isa, form: Form, rows: Rows<'_>, count: usize, to: &mut [u32]) {
    let pairs = rows.head_dim.next_multiple_of(PANEL) / 2;
    let needed = match form {
        _ if count == 0 => return,
        Form::Rows(across) => (count - 1) * across + pairs,
        Form::Turned(across) => {
            assert!(count.next_multiple_of(PANEL) / 2 <= across, "rows overlap");
            (rows.head_dim - 1) * across + count.next_multiple_of(PANEL) / 2
        }
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
        // SAFETY: `V` is enabled, [`pack`] asserted the room.
        unsafe {
            match self.form {
                Form::Rows(across) => {
                    for r in 0..self.count {
                        narrow_row::<V>(rows.get(r), self.to.add(r * across));
                    }
                }
                Form::Turned(across) => self.turned::<V>(across),
                Form::Panels(first) => self.panels::<V>(first),
                Form::Interleaved(across) => {
                    for r in (0..self.count).step_by(2) {
                        self.interleave::<V>(r, self.to.add(r / 2 * across));
                    }
                }
            }
        }
    }
}

impl Pack<'_> {
    /// Rows `r` and `r + 1`, or zeros where there is none, as pairs.
    ///
    /// # Safety
    /// `V` is enabled; `to` has room for the head, padded.
    #[inline(always)]
    unsafe fn interleave<V: Pairs>(&self, r: usize, to: *mut u32) {
        let zeros = [0.0; MAX_HEAD];
        let at = |r: usize| {
            if r < self.count {
                self.rows.get(r)
            } else {
                &zeros[..self.rows.head_dim]
            }
        };
        // SAFETY: the caller's promise.
        unsafe { narrow_columns::<V>(at(r), at(r + 1), to) };
    }

    /// # Safety
    /// `V` is enabled; `to` has the room.
    #[inline(always)]
    unsafe fn turned<V: Pairs>(&self, across: usize) {
        let mut pairs = [0_u32; 16 * MAX_HEAD];
        for first in (0..self.count).step_by(PANEL) {
            // SAFETY: a row of `pairs` holds the widest head; squares of 16 elements and 16 pairs
            // of rows are written as far as the head goes.
            unsafe {
                for (p, row) in pairs.chunks_exact_mut(MAX_HEAD).enumerate() {
                    self.interleave::<V>(first + 2 * p, row.as_mut_ptr());
                }
                for i in (0..self.rows.head_dim).step_by(16) {
                    let to = self.to.add(i * across + first / 2);
                    let rows = 16.min(self.rows.head_dim - i);
                    V::flip(pairs.as_ptr().add(i), MAX_HEAD, to, across, rows);
                }
            }
        }
    }

    /// # Safety
    /// `V` is enabled; `to` has the room.
    #[inline(always)]
    unsafe fn panels<V: Pairs>(&self, first: usize) {
        const PAIRS: usize = MAX_HEAD / 2;
        let pairs = self.rows.head_dim.div_ceil(2);
        let mut packed = [0_u32; 16 * PAIRS];
        let mut r = 0;
        while r < self.count {
            let (panel, lane) = ((first + r) / PANEL, (first + r) % PANEL);
            // Sixteen rows that fill half a panel are transposed, others are scattered.
            let whole = lane % 16 == 0 && self.count - r >= 16;
            let rows = if whole { 16 } else { 1 };
            // SAFETY: a row of `packed` holds the widest head, the panel has `pairs` rows.
            unsafe {
                for (i, row) in packed.chunks_exact_mut(PAIRS).take(rows).enumerate() {
                    narrow_row::<V>(self.rows.get(r + i), row.as_mut_ptr());
                }
                let to = self.to.add(panel * pairs * PANEL + lane);
                if whole {
                    for p in (0..pairs).step_by(16) {
                        let deep = 16.min(pairs - p);
                        let from = packed.as_ptr().add(p);
                        V::flip(from, PAIRS, to.add(p * PANEL), PANEL, deep);
                    }
                } else {
                    for p in 0..pairs {
                        *to.add(p * PANEL) = packed[p];
                    }
                }
            }
            r += rows;
        }
    }
}

/// Rows of the head from columns: `to[i] = scale * from[.., i]`.
pub(super) struct Unturn<'a> {
    /// An element of the head in each row, rows `across` floats apart.
    pub from: &'a [f32],
    pub across: usize,
    /// Rows to write, `stride` floats apart.
    pub rows: usize,
    pub head_dim: usize,
    pub stride: usize,
    pub scale: f32,
    pub to: *mut f32,
}

impl Unturn<'_> {
    /// # Safety
    /// `to` has the rows.
    pub(super) unsafe fn run(&self, isa: Isa) {
        let needed =
            (self.head_dim.next_multiple_of(16) - 1) * self.across + self.rows.next_multiple_of(16);
        assert!(self.from.len() >= needed, "{needed} floats needed");
        // SAFETY: the caller's promise.
        unsafe { run(isa, self) };
    }
}

impl Task for Unturn<'_> {
    #[inline(always)]
    unsafe fn run<V: Pairs>(&self) {
        let mut square = [[0.0_f32; 16]; 16];
        for r in (0..self.rows).step_by(16) {
            for i in (0..self.head_dim).step_by(16) {
                let from = &self.from[i * self.across + r..];
                // SAFETY: words are moved, whatever they mean; the size was asserted.
                unsafe {
                    let to = square.as_mut_ptr().cast();
                    V::flip(from.as_ptr().cast(), self.across, to, 16, 16);
                }
                let width = 16.min(self.head_dim - i);
                for (row, values) in square.iter().take(self.rows - r).enumerate() {
                    for (l, x) in values.iter().take(width).enumerate() {
                        // SAFETY: the caller of `run` promises the rows.
                        unsafe { *self.to.add((r + row) * self.stride + i + l) = x * self.scale };
                    }
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
