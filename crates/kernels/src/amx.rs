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

/// The product, by tiles of 32 rows and 32 columns.
///
/// # Safety
/// `unit` is usable and the operands hold the rows, columns and pairs.
unsafe fn multiply<U: Unit>(unit: &mut U, product: &Product) {
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
                    (true, true) => block::<U, true, true>(unit, product, step, i, j),
                    (true, false) => block::<U, true, false>(unit, product, step, i, j),
                    (false, true) => block::<U, false, true>(unit, product, step, i, j),
                    (false, false) => block::<U, false, false>(unit, product, step, i, j),
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
unsafe fn block<U: Unit, const LOWER: bool, const RIGHT: bool>(
    unit: &mut U,
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
        let (left_row, right_row) = (product.left_row, product.right_row);
        let left = product.left.add(i * left_row);
        let right = product.right.add(j / PANEL * product.right_panel);
        for p in (0..product.pairs).step_by(step) {
            unit.load::<4>(left.add(p), 4 * left_row);
            unit.load::<6>(right.add(p * right_row), 4 * right_row);
            unit.dot::<0, 4, 6>();
            if RIGHT {
                unit.load::<7>(right.add(p * right_row + SIDE), 4 * right_row);
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
pub(crate) use hardware::{run, usable};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod hardware {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;
    use std::sync::OnceLock;

    use super::{PANEL, Product, SIDE, Unit, multiply};
    use crate::fast::{LEFT_STRIDE, Tiles};
    use crate::isa::Isa;

    /// Computes the product on this thread's tiles.
    ///
    /// # Safety
    /// [`usable`] said yes, and the operands hold the rows, columns and pairs.
    pub(crate) unsafe fn run(product: &Product) {
        // SAFETY: the caller's promise.
        unsafe { multiply(&mut Registers, product) }
    }

    /// Whether the processor has the tiles for bf16, Linux lets this process use them, and a
    /// small product comes out right. Asked once.
    pub(crate) fn usable() -> bool {
        static USABLE: OnceLock<bool> = OnceLock::new();
        *USABLE.get_or_init(|| present() && permitted() && correct())
    }

    /// AMX-BF16 and AMX-TILE: CPUID leaf 7, subleaf 0, EDX bits 22 and 24.
    fn present() -> bool {
        if __cpuid_count(0, 0).eax < 7 {
            return false;
        }
        let features = __cpuid_count(7, 0).edx;
        features >> 22 & 1 == 1 && features >> 24 & 1 == 1
    }

    /// Asks for the state component of the tile data (18): `arch_prctl(ARCH_REQ_XCOMP_PERM, 18)`,
    /// see Documentation/arch/x86/xstate.rst of Linux. It holds for all threads.
    fn permitted() -> bool {
        const SYS_ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
        const XTILEDATA: i64 = 18;
        let result: i64;
        // SAFETY: the call takes two numbers and touches no memory of this process; `syscall`
        // overwrites rcx and r11.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") SYS_ARCH_PRCTL => result,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XTILEDATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result == 0
    }

    /// Products of all four kinds of tiles against plain Rust.
    fn correct() -> bool {
        const ROWS: usize = SIDE + 3;
        const PAIRS: usize = 32;
        // Small integers, exact in bf16 and in every sum.
        let bf16 = |i: usize| ((i * 7 % 13) as f32 - 6.0).to_bits() >> 16;
        let pairs = |count: usize| -> Vec<u32> {
            (0..count)
                .map(|i| bf16(2 * i) | bf16(2 * i + 5) << 16)
                .collect()
        };
        let (left, panel) = (pairs(ROWS * LEFT_STRIDE), pairs(PAIRS * PANEL));
        [(ROWS, PANEL), (ROWS, SIDE), (3, PANEL), (3, SIDE)]
            .into_iter()
            .all(|(rows, wide)| {
                let mut sums = [vec![1.0_f32; rows * wide], vec![1.0_f32; rows * wide]];
                for fresh in [false, true] {
                    let [tiles, plain] = sums.each_mut().map(|c| Tiles {
                        rows,
                        pairs: PAIRS,
                        left: left.as_ptr(),
                        panel: panel.as_ptr(),
                        apart: 0,
                        wide,
                        c: c.as_mut_ptr(),
                        ldc: wide,
                        fresh,
                    });
                    // SAFETY: the vectors have these shapes; the tiles are present and permitted.
                    unsafe {
                        run(&tiles.product());
                        crate::pairs::run(Isa::PORTABLE, &plain);
                    }
                    if sums[0] != sums[1] {
                        return false;
                    }
                }
                true
            })
    }

    /// The registers of this thread.
    struct Registers;

    /// The operand of `ldtilecfg`.
    #[repr(C, align(64))]
    struct Shape {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    // The compiler knows of no tile register and therefore keeps what an instruction leaves in
    // one until the next.
    impl Unit for Registers {
        #[inline(always)]
        unsafe fn shape(&mut self, upper: usize, lower: usize, step: usize) {
            let mut shape = Shape {
                palette: 1,
                start_row: 0,
                reserved: [0; 14],
                row_bytes: [0; 16],
                rows: [0; 16],
            };
            for (tile, rows) in [upper, upper, lower, lower, upper, lower, step, step]
                .into_iter()
                .enumerate()
            {
                if rows > 0 {
                    let words = if matches!(tile, 4 | 5) { step } else { 16 };
                    shape.rows[tile] = rows as u8;
                    shape.row_bytes[tile] = 4 * words as u16;
                }
            }
            // SAFETY: the operand is 64 bytes of palette 1 with at most 16 rows of 64 bytes.
            unsafe {
                asm!("ldtilecfg [{}]", in(reg) &raw const shape, options(nostack, preserves_flags))
            }
        }
        #[inline(always)]
        unsafe fn zero<const T: usize>(&mut self) {
            // SAFETY: the tile is shaped.
            unsafe {
                asm!("tilezero tmm{t}", t = const T, options(nomem, nostack, preserves_flags))
            }
        }
        #[inline(always)]
        unsafe fn load<const T: usize>(&mut self, from: *const u32, stride: usize) {
            // SAFETY: trait contract.
            unsafe {
                asm!("tileloadd tmm{t}, [{from} + {stride}*1]", t = const T, from = in(reg) from,
                    stride = in(reg) stride, options(readonly, nostack, preserves_flags));
            }
        }
        #[inline(always)]
        unsafe fn store<const T: usize>(&mut self, to: *mut f32, stride: usize) {
            // SAFETY: trait contract.
            unsafe {
                asm!("tilestored [{to} + {stride}*1], tmm{t}", t = const T, to = in(reg) to,
                    stride = in(reg) stride, options(nostack, preserves_flags));
            }
        }
        #[inline(always)]
        unsafe fn dot<const C: usize, const A: usize, const B: usize>(&mut self) {
            // SAFETY: the tiles are shaped, and the right operand's have a row for each pair in a
            // row of the left one's.
            unsafe {
                asm!("tdpbf16ps tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B,
                    options(nomem, nostack, preserves_flags));
            }
        }
        #[inline(always)]
        unsafe fn release(&mut self) {
            // SAFETY: has no operands.
            unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Product, Unit, multiply};
    use crate::fast::{LEFT_STRIDE, Tiles};
    use crate::isa::Isa;
    use crate::pairs::{PANEL, widen};

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
                        multiply(&mut unit, &tiles.product());
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
            unsafe { multiply(&mut Emulated::default(), &product) };
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
