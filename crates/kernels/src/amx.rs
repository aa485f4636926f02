//! The tiles of AMX (Intel SDM volume 1, chapter 18): products of 16 rows by 16 columns by 32
//! inputs in one instruction.
//!
//! Stable Rust has neither the intrinsics nor the feature detection, so both are made here of
//! inline assembly and the system call that asks Linux for the tile registers. An element is a
//! chain over blocks of 32 inputs, in each of which even and odd inputs are summed apart; that
//! differs from the other sets in rounding, and like theirs does not depend on the neighbours of
//! an element. Panels and rounded rows are the ones that [`crate::fast`] and [`crate::flash`] make
//! for all sets.

use crate::pairs::PANEL;

/// Rows, and columns, of a tile of sums.
const SIDE: usize = 16;

/// Most pairs that one instruction multiplies.
const STEP: usize = 16;

/// A product `sums (+)= left right`: pair `p` of row `i` of the left operand is at
/// `i * left_row + p`, pair `p` of column `j` of the right one at
/// `p * right_row + j / 32 * right_panel + j % 32`.
pub(crate) struct Product {
    pub(crate) rows: usize,
    /// Depth; the instructions take equal steps of it, 16 pairs each if those divide it.
    pub(crate) pairs: usize,
    /// A multiple of 16.
    pub(crate) columns: usize,
    pub(crate) left: *const u32,
    pub(crate) left_row: usize,
    pub(crate) right: *const u32,
    pub(crate) right_row: usize,
    pub(crate) right_panel: usize,
    pub(crate) sums: *mut f32,
    /// Floats between rows of the sums.
    pub(crate) across: usize,
    /// Whether the old sums are forgotten.
    pub(crate) fresh: bool,
}

impl Product {
    /// Pairs of one step: the same for every row and column, so that an element's chain is.
    fn step(&self) -> usize {
        let divides = |step: &usize| self.pairs.is_multiple_of(*step);
        (1..=STEP).rev().find(divides).unwrap_or(1)
    }
}

/// Eight tile registers: 0 to 3 sums (upper left, upper right, lower left, lower right), 4 and 5
/// rows of the left operand, 6 and 7 columns of the right one.
///
/// # Safety
/// Tiles are used only after `shape`, and by methods whose pointers are valid for their rows,
/// `stride` bytes apart.
trait Unit {
    /// Gives the upper tiles `upper` rows, the lower ones `lower`, and `step` to the right
    /// operand's; rows of the left operand have as many pairs, all others 16 words.
    unsafe fn shape(&mut self, upper: usize, lower: usize, step: usize);
    unsafe fn zero<const T: usize>(&mut self);
    unsafe fn load<const T: usize>(&mut self, from: *const u32, stride: usize);
    unsafe fn store<const T: usize>(&mut self, to: *mut f32, stride: usize);
    /// Sums `C` gain the product of `A` and `B`.
    unsafe fn dot<const C: usize, const A: usize, const B: usize>(&mut self);
    /// Gives the registers back, so that the thread has nothing to save.
    unsafe fn release(&mut self);
}

/// Where the pairs of the right operand come from.
trait Source {
    /// Pairs between the rows of a step.
    fn row(&self) -> usize;
    /// The step of the panel of column `j` that begins at pair `p`.
    ///
    /// # Safety
    /// Column and pair are inside the product, and the source's instruction set is enabled.
    unsafe fn step(&mut self, j: usize, p: usize) -> *const u32;
}

/// Pairs that lie where the product says.
struct InPlace<'a>(&'a Product);

impl Source for InPlace<'_> {
    #[inline(always)]
    fn row(&self) -> usize {
        self.0.right_row
    }
    #[inline(always)]
    unsafe fn step(&mut self, j: usize, p: usize) -> *const u32 {
        let at = j / PANEL * self.0.right_panel + p * self.0.right_row;
        // SAFETY: the caller's promise.
        unsafe { self.0.right.add(at) }
    }
}

/// The product, by tiles of 32 rows and 32 columns.
///
/// # Safety
/// `unit` and `source` are usable and the operands hold the rows, columns and pairs.
#[inline(always)]
unsafe fn multiply<U: Unit, S: Source>(unit: &mut U, source: &mut S, product: &Product) {
    let step = product.step();
    let mut shape = (0, 0);
    for i in (0..product.rows).step_by(2 * SIDE) {
        let rows = (2 * SIDE).min(product.rows - i);
        let wanted = (rows.min(SIDE), rows.saturating_sub(SIDE));
        // SAFETY: tiles are shaped before use; rows `i ..` and columns `j ..` are in the product.
        unsafe {
            if shape != wanted {
                shape = wanted;
                unit.shape(shape.0, shape.1, step);
            }
            for j in (0..product.columns).step_by(PANEL) {
                match (shape.1 > 0, product.columns - j > SIDE) {
                    (true, true) => block::<U, S, true, true>(unit, source, product, step, i, j),
                    (true, false) => block::<U, S, true, false>(unit, source, product, step, i, j),
                    (false, true) => block::<U, S, false, true>(unit, source, product, step, i, j),
                    (false, false) => {
                        block::<U, S, false, false>(unit, source, product, step, i, j)
                    }
                }
            }
        }
    }
    // SAFETY: nothing is held in the tiles any more.
    unsafe { unit.release() };
}

/// One block of sums; `LOWER` if it has more than 16 rows, `RIGHT` if more than 16 columns.
///
/// # Safety
/// As [`multiply`]; the block is inside the product and the tiles have its shape.
#[inline(always)]
unsafe fn block<U: Unit, S: Source, const LOWER: bool, const RIGHT: bool>(
    unit: &mut U,
    source: &mut S,
    product: &Product,
    step: usize,
    i: usize,
    j: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let c = product.sums.add(i * product.across + j);
        let below = c.wrapping_add(SIDE * product.across);
        let c_stride = 4 * product.across;
        if product.fresh {
            unit.zero::<0>();
            if RIGHT {
                unit.zero::<1>();
            }
            if LOWER {
                unit.zero::<2>();
            }
            if LOWER && RIGHT {
                unit.zero::<3>();
            }
        } else {
            unit.load::<0>(c.cast(), c_stride);
            if RIGHT {
                unit.load::<1>(c.add(SIDE).cast(), c_stride);
            }
            if LOWER {
                unit.load::<2>(below.cast(), c_stride);
            }
            if LOWER && RIGHT {
                unit.load::<3>(below.add(SIDE).cast(), c_stride);
            }
        }
        let (left_row, right_row) = (product.left_row, source.row());
        let left = product.left.add(i * left_row);
        for p in (0..product.pairs).step_by(step) {
            let right = source.step(j, p);
            unit.load::<4>(left.add(p), 4 * left_row);
            unit.load::<6>(right, 4 * right_row);
            unit.dot::<0, 4, 6>();
            if RIGHT {
                unit.load::<7>(right.add(SIDE), 4 * right_row);
                unit.dot::<1, 4, 7>();
            }
            if LOWER {
                unit.load::<5>(left.add(SIDE * left_row + p), 4 * left_row);
                unit.dot::<2, 5, 6>();
            }
            if LOWER && RIGHT {
                unit.dot::<3, 5, 7>();
            }
        }
        unit.store::<0>(c, c_stride);
        if RIGHT {
            unit.store::<1>(c.add(SIDE), c_stride);
        }
        if LOWER {
            unit.store::<2>(below, c_stride);
        }
        if LOWER && RIGHT {
            unit.store::<3>(below.add(SIDE), c_stride);
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use hardware::{Unpacking, run, run_unpacking, usable};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod hardware;

#[cfg(test)]
mod tests {
    use super::{InPlace, PANEL, Product, Unit, multiply};
    use crate::fast::{LEFT_STRIDE, Tiles};
    use crate::isa::Isa;
    use crate::pairs::widen;

    /// The registers in memory, after the operation sections of the Intel SDM (volume 2).
    #[derive(Default)]
    struct Emulated {
        rows: [usize; 8],
        words: [usize; 8],
        tiles: [[[u32; 16]; 16]; 8],
        shaped: bool,
    }

    impl Unit for Emulated {
        unsafe fn shape(&mut self, upper: usize, lower: usize, step: usize) {
            self.rows = [upper, upper, lower, lower, upper, lower, step, step];
            self.words = [16, 16, 16, 16, step, step, 16, 16];
            self.tiles = [[[0; 16]; 16]; 8];
            self.shaped = true;
        }
        unsafe fn zero<const T: usize>(&mut self) {
            assert!(self.shaped && self.rows[T] > 0);
            self.tiles[T] = [[0; 16]; 16];
        }
        unsafe fn load<const T: usize>(&mut self, from: *const u32, stride: usize) {
            assert!(self.shaped && self.rows[T] > 0);
            self.tiles[T] = [[0; 16]; 16];
            for i in 0..self.rows[T] {
                for word in 0..self.words[T] {
                    // SAFETY: trait contract.
                    self.tiles[T][i][word] = unsafe { *from.byte_add(i * stride).add(word) };
                }
            }
        }
        unsafe fn store<const T: usize>(&mut self, to: *mut f32, stride: usize) {
            assert!(self.shaped && self.rows[T] > 0);
            for i in 0..self.rows[T] {
                // SAFETY: trait contract.
                unsafe {
                    to.byte_add(i * stride)
                        .cast::<[u32; 16]>()
                        .write(self.tiles[T][i])
                };
            }
        }
        unsafe fn dot<const C: usize, const A: usize, const B: usize>(&mut self) {
            assert!(self.shaped && self.rows[C] == self.rows[A] && self.rows[B] == self.words[A]);
            for i in 0..self.rows[C] {
                for j in 0..16 {
                    let (mut even, mut odd) = (0.0_f32, 0.0_f32);
                    for p in 0..self.rows[B] {
                        let (a, b) = (self.tiles[A][i][p], self.tiles[B][p][j]);
                        even = widen(a & 0xffff).mul_add(widen(b & 0xffff), even);
                        odd = widen(a >> 16).mul_add(widen(b >> 16), odd);
                    }
                    let sum = f32::from_bits(self.tiles[C][i][j]) + (even + odd);
                    self.tiles[C][i][j] = sum.to_bits();
                }
            }
        }
        unsafe fn release(&mut self) {
            self.shaped = false;
        }
    }

    /// The walk over rows, columns and depth, on any machine. What this cannot test, the four
    /// instructions themselves, `usable` tests where they exist.
    #[test]
    fn the_walk_over_tiles_is_the_product() {
        let pairs = 48;
        // Small integers: exact in bf16 and in every sum, whatever the order.
        let bf16 = |i: usize| ((i * 7 % 23) as f32 - 11.0).to_bits() >> 16;
        let numbers = |count: usize| {
            (0..count)
                .map(|i| bf16(2 * i) | bf16(3 * i + 1) << 16)
                .collect::<Vec<u32>>()
        };
        let (left, panels) = (numbers(67 * LEFT_STRIDE), numbers(4 * pairs * PANEL));
        for rows in [1, 2, 5, 16, 17, 32, 33, 48, 50, 64, 67] {
            for wide in [16, 32, 64, 128] {
                // Several panels at once are for few rows only.
                if wide > PANEL && rows * wide > 128 {
                    continue;
                }
                for fresh in [true, false] {
                    let ldc = wide + 3;
                    let mut sums = [vec![3.0_f32; rows * ldc], vec![3.0_f32; rows * ldc]];
                    let [tiles, plain] = sums.each_mut().map(|c| Tiles {
                        rows,
                        pairs,
                        left: left.as_ptr(),
                        panel: panels.as_ptr(),
                        apart: pairs * PANEL,
                        wide,
                        c: c.as_mut_ptr(),
                        ldc,
                        fresh,
                    });
                    let mut unit = Emulated::default();
                    // SAFETY: the vectors have these shapes.
                    unsafe {
                        let product = tiles.product();
                        multiply(&mut unit, &mut InPlace(&product), &product);
                        crate::pairs::run(Isa::PORTABLE, &plain);
                    }
                    assert!(!unit.shaped);
                    assert_eq!(
                        sums[0], sums[1],
                        "{rows} rows, {wide} columns, fresh: {fresh}"
                    );
                }
            }
        }
    }

    /// A depth that no step of 16 pairs divides, and rows apart as attention has them.
    #[test]
    fn steps_divide_the_depth() {
        let bf16 = |i: usize| ((i * 11 % 19) as f32 - 9.0).to_bits() >> 16;
        let numbers = |count: usize| -> Vec<u32> {
            (0..count)
                .map(|i| bf16(2 * i) | bf16(3 * i + 1) << 16)
                .collect()
        };
        for (pairs, step) in [(1, 1), (19, 1), (35, 7), (40, 10), (24, 12), (48, 16)] {
            let (rows, columns, left_row, right_row) = (20, 64, pairs + 3, 70);
            let (left, right) = (numbers(rows * left_row), numbers(pairs * right_row));
            let mut sums = vec![f32::NAN; rows * columns];
            let product = Product {
                rows,
                pairs,
                columns,
                left: left.as_ptr(),
                left_row,
                right: right.as_ptr(),
                right_row,
                right_panel: PANEL,
                sums: sums.as_mut_ptr(),
                across: columns,
                fresh: true,
            };
            assert_eq!(product.step(), step);
            // SAFETY: the vectors have these shapes.
            unsafe { multiply(&mut Emulated::default(), &mut InPlace(&product), &product) };
            for (at, sum) in sums.iter().enumerate() {
                let (i, j) = (at / columns, at % columns);
                let want: f32 = (0..pairs)
                    .map(|p| {
                        let (a, b) = (left[i * left_row + p], right[p * right_row + j]);
                        widen(a & 0xffff) * widen(b & 0xffff) + widen(a >> 16) * widen(b >> 16)
                    })
                    .sum();
                assert_eq!(
                    sum.to_bits(),
                    want.to_bits(),
                    "{pairs} pairs, row {i}, column {j}"
                );
            }
        }
    }
}
