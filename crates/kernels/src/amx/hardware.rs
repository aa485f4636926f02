//! The registers and instructions themselves.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::{InPlace, Product, SIDE, STEP, Source, Unit, multiply};
use crate::fast::{LEFT_STRIDE, Tiles};
use crate::isa::Isa;
use crate::pairs::{PANEL, Pairs, Task, prefetch};
use crate::weight::Weight;

/// A product with panels of a quantised weight whose steps are brought into pairs just before
/// the tiles read them: for few rows, which do not pay for bringing a block first.
pub(crate) struct Unpacking<'a> {
    /// Its right operand is not looked at; whole steps of 16 pairs.
    pub(crate) product: Product,
    pub(crate) weight: &'a Weight,
    /// Panel of column 0.
    pub(crate) q: usize,
    /// Input of pair 0, a multiple of 32.
    pub(crate) first: usize,
}

/// Some steps, so that the next are brought while tiles read the last.
const RING: usize = 4;

struct Steps<'a, V> {
    task: &'a Unpacking<'a>,
    ring: [u32; RING * STEP * PANEL],
    set: PhantomData<V>,
}

impl<V: Pairs> Source for Steps<'_, V> {
    #[inline(always)]
    fn row(&self) -> usize {
        PANEL
    }
    #[inline(always)]
    unsafe fn step(&mut self, j: usize, p: usize) -> *const u32 {
        let Unpacking {
            weight, q, first, ..
        } = self.task;
        let (q, input) = (q + j / PANEL, first + 2 * p);
        // SAFETY: the caller's promise; the ring has room for each step.
        unsafe {
            let to = self.ring.as_mut_ptr().add(p / STEP % RING * STEP * PANEL);
            let ahead = weight.codes(q, input).as_ptr();
            let words = STEP * weight.format().row_words();
            prefetch(ahead.wrapping_add(3 * words), 4 * words);
            weight.unpack::<V>(q, input, 2 * STEP, to);
            to
        }
    }
}

/// Computes the product on this thread's tiles.
///
/// # Safety
/// [`usable`] said yes, and the operands hold the rows, columns and pairs.
pub(crate) unsafe fn run(product: &Product) {
    // SAFETY: the caller's promise.
    unsafe { multiply(&mut Registers, &mut InPlace(product), product) }
}

/// Computes a product with a quantised weight on this thread's tiles.
///
/// # Safety
/// As [`run`]; the weight has the panels and inputs.
pub(crate) unsafe fn run_unpacking(isa: Isa, task: &Unpacking<'_>) {
    // SAFETY: the caller's promise.
    unsafe { crate::pairs::run(isa, task) }
}

impl Task for Unpacking<'_> {
    #[inline(always)]
    unsafe fn run<V: Pairs>(&self) {
        let mut steps = Steps::<V> {
            task: self,
            ring: [0; RING * STEP * PANEL],
            set: PhantomData,
        };
        // SAFETY: the caller's promise.
        unsafe { multiply(&mut Registers, &mut steps, &self.product) }
    }
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
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nomem, nostack, preserves_flags)) }
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
