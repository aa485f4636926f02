//! Vectors of bf16 pairs: what the fast products need of an instruction set.
//!
//! A pair is a `u32` that holds two bf16 numbers, the one with the lower index in the low half;
//! it is what `vdpbf16ps` and the tiles of AMX multiply. All sets compute
//! `fma(low, low', fma(high, high', sum))`, which is also how `vdpbf16ps` is specified (Intel SDM
//! volume 2), except that the hardware instruction takes subnormal numbers for zero.

use crate::isa::{Isa, Kind};
use crate::quantised;

/// Columns of one panel of pairs, and the granularity of both dimensions of packed storage.
pub(crate) const PANEL: usize = 32;

/// The nearest bf16 number, ties to even; a NaN stays one.
#[inline(always)]
pub(crate) fn narrow(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() {
        (bits | 0x0040_0000) >> 16
    } else {
        (bits + 0x7fff + ((bits >> 16) & 1)) >> 16
    }
}

/// The `f32` with the value of a bf16 number in the low half of `bits`.
#[inline(always)]
pub(crate) fn widen(bits: u32) -> f32 {
    f32::from_bits(bits << 16)
}

/// `low` and `high` rounded to bf16.
#[inline(always)]
pub(crate) fn pair(low: f32, high: f32) -> u32 {
    narrow(low) | (narrow(high) << 16)
}

/// `LANES` sums in `f32`, and the conversions around them.
///
/// # Safety
/// All methods may be called only where the instruction set of the implementor is enabled, and
/// with pointers valid for the floats or pairs that each names.
pub(crate) trait Pairs: Copy {
    const LANES: usize;
    /// Rows of a tile two vectors wide that the registers hold.
    const TALL: usize;
    /// One pair for all lanes.
    type Left: Copy;
    /// A pair per lane.
    type Right: Copy;
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn left(from: *const u32) -> Self::Left;
    unsafe fn right(from: *const u32) -> Self::Right;
    /// `self + left . right` per lane, the high halves first.
    unsafe fn dot(self, left: Self::Left, right: Self::Right) -> Self;

    /// 32 consecutive floats become 16 pairs.
    #[inline(always)]
    unsafe fn narrow_row(from: *const f32, to: *mut u32) {
        // SAFETY: the caller passes 32 floats and room for 16 pairs.
        let (from, to) = unsafe { (&*from.cast::<[f32; 32]>(), &mut *to.cast::<[u32; 16]>()) };
        for i in 0..16 {
            to[i] = pair(from[2 * i], from[2 * i + 1]);
        }
    }

    /// 16 columns of two rows become 16 pairs.
    #[inline(always)]
    unsafe fn narrow_columns(low: *const f32, high: *const f32, to: *mut u32) {
        // SAFETY: the caller passes 16 floats twice and room for 16 pairs.
        let (low, high, to) = unsafe {
            (
                &*low.cast::<[f32; 16]>(),
                &*high.cast::<[f32; 16]>(),
                &mut *to.cast::<[u32; 16]>(),
            )
        };
        for i in 0..16 {
            to[i] = pair(low[i], high[i]);
        }
    }

    /// Transposes 16 rows of 16 pairs, `across` apart, into rows `to_across` apart, of which the
    /// first `rows` are written.
    #[inline(always)]
    unsafe fn flip(from: *const u32, across: usize, to: *mut u32, to_across: usize, rows: usize) {
        for i in 0..rows {
            for p in 0..16 {
                // SAFETY: the caller passes blocks of these sizes.
                unsafe { *to.add(i * to_across + p) = *from.add(p * across + i) };
            }
        }
    }

    /// Rows of int8 codes become rows of pairs.
    #[inline(always)]
    unsafe fn unpack_int8(codes: &[u32], scales: &[f32], to: *mut u32) {
        for (p, row) in codes.chunks_exact(PANEL / 2).enumerate() {
            for lane in 0..PANEL {
                // SAFETY: the caller has room for as many rows.
                unsafe { *to.add(p * PANEL + lane) = quantised::int8(row, scales, lane) };
            }
        }
    }

    /// Rows of NF4 codes become rows of pairs.
    #[inline(always)]
    unsafe fn unpack_nf4(codes: &[u32], scales: &[f32], to: *mut u32) {
        for (p, row) in codes.chunks_exact(PANEL / 4).enumerate() {
            for lane in 0..PANEL {
                // SAFETY: the caller has room for as many rows.
                unsafe { *to.add(p * PANEL + lane) = quantised::nf4(row, scales, lane) };
            }
        }
    }

    /// Transposes a block: 16 rows of 16 pairs, row `p` holding inputs `2p` and `2p + 1` of 16
    /// outputs, become 8 rows of 32 pairs, row `j` holding outputs `2j` and `2j + 1` of 32 inputs.
    /// Rows lie [`PANEL`] pairs apart on both sides.
    #[inline(always)]
    unsafe fn turn(from: *const u32, to: *mut u32) {
        for p in 0..16 {
            for j in 0..8 {
                // SAFETY: the caller passes blocks of these sizes.
                unsafe {
                    let (first, second) = (
                        *from.add(p * PANEL + 2 * j),
                        *from.add(p * PANEL + 2 * j + 1),
                    );
                    *to.add(j * PANEL + 2 * p) = (first & 0xffff) | (second << 16);
                    *to.add(j * PANEL + 2 * p + 1) = (first >> 16) | (second & 0xffff_0000);
                }
            }
        }
    }
}

/// Rounds a row and pads it with zeros to a multiple of 32.
///
/// # Safety
/// `V` is enabled; `to` has room for the padded row.
#[inline(always)]
pub(crate) unsafe fn narrow_row<V: Pairs>(row: &[f32], to: *mut u32) {
    let whole = row.len() / PANEL * PANEL;
    // SAFETY: whole vectors of the row, then one that is padded.
    unsafe {
        for p in (0..whole).step_by(PANEL) {
            V::narrow_row(row.as_ptr().add(p), to.add(p / 2));
        }
        if whole < row.len() {
            let mut rest = [0.0; PANEL];
            rest[..row.len() - whole].copy_from_slice(&row[whole..]);
            V::narrow_row(rest.as_ptr(), to.add(whole / 2));
        }
    }
}

/// Asks for `bytes` bytes that will be read soon; the address need not be valid.
#[inline(always)]
pub(crate) fn prefetch(from: *const u32, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_byte_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, bytes);
}

/// Work that is compiled once per instruction set.
pub(crate) trait Task {
    /// # Safety
    /// `V`'s instruction set is enabled; the pointers of the task are valid as it documents.
    unsafe fn run<V: Pairs>(&self);
}

/// Runs a task with the vectors of `isa`.
///
/// # Safety
/// The pointers of the task are valid as it documents.
pub(crate) unsafe fn run<T: Task>(isa: Isa, task: &T) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512bf16,avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    unsafe fn avx512bf16<T: Task>(task: &T) {
        // SAFETY: the features are those of this function; the rest is the caller's promise.
        unsafe { task.run::<x86::Dot512>() }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    unsafe fn avx512<T: Task>(task: &T) {
        // SAFETY: as above.
        unsafe { task.run::<x86::Wide512>() }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<T: Task>(task: &T) {
        // SAFETY: as above.
        unsafe { task.run::<x86::Wide256>() }
    }
    // SAFETY: an `Isa` of a kind exists only after detection; pointers are the caller's promise.
    unsafe {
        match isa.0 {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kind::Amx => avx512bf16(task),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 => avx512bf16(task),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => avx512(task),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => avx2(task),
            Kind::Portable => task.run::<Plain>(),
        }
    }
}

/// Sixteen lanes in plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; 16]);

impl Pairs for Plain {
    const LANES: usize = 16;
    const TALL: usize = 4;
    type Left = [f32; 2];
    type Right = [u32; 16];
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 16])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller passes sixteen floats.
        Self(unsafe { from.cast::<[f32; 16]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as in `load`.
        unsafe { to.cast::<[f32; 16]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn left(from: *const u32) -> [f32; 2] {
        // SAFETY: the caller passes a pair.
        let bits = unsafe { *from };
        [widen(bits & 0xffff), widen(bits >> 16)]
    }
    #[inline(always)]
    unsafe fn right(from: *const u32) -> [u32; 16] {
        // SAFETY: the caller passes sixteen pairs.
        unsafe { from.cast::<[u32; 16]>().read() }
    }
    #[inline(always)]
    unsafe fn dot(self, [low, high]: [f32; 2], right: [u32; 16]) -> Self {
        let mut out = self.0;
        for (sum, bits) in out.iter_mut().zip(right) {
            *sum = high.mul_add(widen(bits >> 16), *sum);
            *sum = low.mul_add(widen(bits & 0xffff), *sum);
        }
        Self(out)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{PANEL, Pairs};
    use crate::quantised::NF4;

    // SAFETY notes of this module: the trait's contract puts feature detection and pointer
    // validity on the caller, and the intrinsics need nothing else (unaligned forms).

    /// The instruction made for it.
    #[derive(Clone, Copy)]
    pub(super) struct Dot512(__m512);

    impl Pairs for Dot512 {
        const LANES: usize = 16;
        const TALL: usize = 12;
        type Left = __m512bh;
        type Right = __m512bh;
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: trait contract.
            Self(unsafe { _mm512_setzero_ps() })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: trait contract.
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: trait contract.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn left(from: *const u32) -> __m512bh {
            // SAFETY: trait contract; both types are 512 plain bits.
            unsafe { std::mem::transmute(_mm512_set1_epi32(*from.cast())) }
        }
        #[inline(always)]
        unsafe fn right(from: *const u32) -> __m512bh {
            // SAFETY: as above.
            unsafe { std::mem::transmute(_mm512_loadu_si512(from.cast())) }
        }
        #[inline(always)]
        unsafe fn dot(self, left: __m512bh, right: __m512bh) -> Self {
            // SAFETY: trait contract.
            Self(unsafe { _mm512_dpbf16_ps(self.0, left, right) })
        }
        #[inline(always)]
        unsafe fn narrow_row(from: *const f32, to: *mut u32) {
            // SAFETY: trait contract; both types are 512 plain bits.
            unsafe {
                let pairs =
                    _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from.add(16)), _mm512_loadu_ps(from));
                _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(pairs));
            }
        }
        #[inline(always)]
        unsafe fn narrow_columns(low: *const f32, high: *const f32, to: *mut u32) {
            // SAFETY: as above.
            unsafe {
                let low = widened(_mm512_cvtneps_pbh(_mm512_loadu_ps(low)));
                let high = widened(_mm512_cvtneps_pbh(_mm512_loadu_ps(high)));
                let pairs = _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
                _mm512_storeu_si512(to.cast(), pairs);
            }
        }
        #[inline(always)]
        unsafe fn turn(from: *const u32, to: *mut u32) {
            // SAFETY: trait contract.
            unsafe { turn(from, to) }
        }
        #[inline(always)]
        unsafe fn flip(
            from: *const u32,
            across: usize,
            to: *mut u32,
            to_across: usize,
            rows: usize,
        ) {
            // SAFETY: trait contract.
            unsafe { flip(from, across, to, to_across, rows) }
        }
        #[inline(always)]
        unsafe fn unpack_int8(codes: &[u32], scales: &[f32], to: *mut u32) {
            // SAFETY: trait contract; rows are whole.
            unsafe {
                let scales = doubled(scales);
                for (p, row) in codes.chunks_exact(PANEL / 2).enumerate() {
                    let mut values = scales;
                    for (v, value) in values.iter_mut().enumerate() {
                        let bytes = _mm_loadu_si128(row.as_ptr().add(4 * v).cast());
                        let codes = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
                        *value = _mm512_mul_ps(codes, *value);
                    }
                    join(values, to.add(p * PANEL));
                }
            }
        }
        #[inline(always)]
        unsafe fn unpack_nf4(codes: &[u32], scales: &[f32], to: *mut u32) {
            // SAFETY: trait contract; rows are whole.
            unsafe {
                let scales = doubled(scales);
                let table = _mm512_loadu_ps(NF4.as_ptr());
                for (p, row) in codes.chunks_exact(PANEL / 4).enumerate() {
                    let mut values = scales;
                    for (v, value) in values.iter_mut().enumerate() {
                        let bytes = _mm_loadu_si128(row.as_ptr().add(v / 2 * 4).cast());
                        let mut codes = _mm512_cvtepu8_epi32(bytes);
                        if v % 2 == 1 {
                            codes = _mm512_srli_epi32::<4>(codes);
                        }
                        // The permutation looks at four bits of the index.
                        *value = _mm512_mul_ps(_mm512_permutexvar_ps(codes, table), *value);
                    }
                    join(values, to.add(p * PANEL));
                }
            }
        }
    }

    /// Rounds 64 floats to a row of 32 pairs.
    #[inline(always)]
    unsafe fn join(values: [__m512; 4], to: *mut u32) {
        // SAFETY: trait contract; both types are 512 plain bits.
        unsafe {
            for half in 0..2 {
                let pairs = _mm512_cvtne2ps_pbh(values[2 * half + 1], values[2 * half]);
                let pairs = std::mem::transmute::<__m512bh, __m512i>(pairs);
                _mm512_storeu_si512(to.add(16 * half).cast(), pairs);
            }
        }
    }

    /// Sixteen bf16 numbers in the low halves of sixteen words.
    #[inline(always)]
    unsafe fn widened(x: __m256bh) -> __m512i {
        // SAFETY: trait contract; both types are 256 plain bits.
        unsafe { _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(x)) }
    }

    // Loops rather than closures: a closure that is handed to the standard library is compiled
    // without the features of its surroundings.

    /// Transposes 8 rows of 8 numbers of 64 bits.
    #[inline(always)]
    unsafe fn transpose(mut rows: [__m512i; 8]) -> [__m512i; 8] {
        // SAFETY: trait contract.
        unsafe {
            // Even and odd columns of neighbouring rows, then of rows two and four apart.
            let mut twos = rows;
            for i in 0..4 {
                let (a, b) = (rows[2 * i], rows[2 * i + 1]);
                twos[2 * i] = _mm512_unpacklo_epi64(a, b);
                twos[2 * i + 1] = _mm512_unpackhi_epi64(a, b);
            }
            let mut fours = twos;
            for i in 0..4 {
                let from = i / 2 * 4 + i % 2;
                let (a, b) = (twos[from], twos[from + 2]);
                fours[from] = _mm512_shuffle_i64x2::<0x88>(a, b);
                fours[from + 2] = _mm512_shuffle_i64x2::<0xdd>(a, b);
            }
            for i in 0..4 {
                let (a, b) = (fours[i], fours[i + 4]);
                rows[i] = _mm512_shuffle_i64x2::<0x88>(a, b);
                rows[i + 4] = _mm512_shuffle_i64x2::<0xdd>(a, b);
            }
            rows
        }
    }

    /// [`Pairs::turn`]: an exchange of words inside 64 bits, then two transposes of those.
    #[inline(always)]
    unsafe fn turn(from: *const u32, to: *mut u32) {
        // SAFETY: trait contract.
        unsafe {
            let words = _mm512_broadcast_i32x4(_mm_setr_epi8(
                0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,
            ));
            for half in 0..2 {
                let mut rows = [words; 8];
                for (p, row) in rows.iter_mut().enumerate() {
                    let at = from.add((8 * half + p) * PANEL);
                    *row = _mm512_shuffle_epi8(_mm512_loadu_si512(at.cast()), words);
                }
                for (j, row) in transpose(rows).into_iter().enumerate() {
                    _mm512_storeu_si512(to.add(j * PANEL + 16 * half).cast(), row);
                }
            }
        }
    }

    /// [`Pairs::flip`]: neighbouring rows are interleaved to 64 bits, and those transposed.
    #[inline(always)]
    unsafe fn flip(from: *const u32, across: usize, to: *mut u32, to_across: usize, rows: usize) {
        // SAFETY: trait contract.
        unsafe {
            let (mut low, mut high) = ([_mm512_setzero_si512(); 8], [_mm512_setzero_si512(); 8]);
            for p in 0..8 {
                let a = _mm512_loadu_si512(from.add(2 * p * across).cast());
                let b = _mm512_loadu_si512(from.add((2 * p + 1) * across).cast());
                low[p] = _mm512_unpacklo_epi32(a, b);
                high[p] = _mm512_unpackhi_epi32(a, b);
            }
            let (low, high) = (transpose(low), transpose(high));
            for i in 0..16 {
                // Of every four columns the low interleaving has two, the high one two.
                let at = i / 4 * 2 + i % 2;
                let row = if i % 4 < 2 { low[at] } else { high[at] };
                if i < rows {
                    _mm512_storeu_si512(to.add(i * to_across).cast(), row);
                }
            }
        }
    }

    /// The scales of 32 outputs, each twice, since an output has two codes in a row.
    #[inline(always)]
    unsafe fn doubled(scales: &[f32]) -> [__m512; 4] {
        // SAFETY: trait contract; the slice is checked to hold sixteen floats from each start.
        unsafe {
            let low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            let (first, second) = (
                _mm512_loadu_ps(scales[..16].as_ptr()),
                _mm512_loadu_ps(scales[16..32].as_ptr()),
            );
            [
                _mm512_permutexvar_ps(low, first),
                _mm512_permutexvar_ps(high, first),
                _mm512_permutexvar_ps(low, second),
                _mm512_permutexvar_ps(high, second),
            ]
        }
    }

    /// Two fused multiply-adds on 512 bits.
    #[derive(Clone, Copy)]
    pub(super) struct Wide512(__m512);

    impl Pairs for Wide512 {
        const LANES: usize = 16;
        const TALL: usize = 12;
        type Left = [__m512; 2];
        type Right = [__m512; 2];
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: trait contract.
            Self(unsafe { _mm512_setzero_ps() })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: trait contract.
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: trait contract.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn left(from: *const u32) -> [__m512; 2] {
            // SAFETY: trait contract.
            unsafe { halves512(_mm512_set1_epi32(*from.cast())) }
        }
        #[inline(always)]
        unsafe fn right(from: *const u32) -> [__m512; 2] {
            // SAFETY: trait contract.
            unsafe { halves512(_mm512_loadu_si512(from.cast())) }
        }
        #[inline(always)]
        unsafe fn dot(self, left: [__m512; 2], right: [__m512; 2]) -> Self {
            // SAFETY: trait contract.
            unsafe {
                let sum = _mm512_fmadd_ps(left[1], right[1], self.0);
                Self(_mm512_fmadd_ps(left[0], right[0], sum))
            }
        }
        #[inline(always)]
        unsafe fn turn(from: *const u32, to: *mut u32) {
            // SAFETY: trait contract.
            unsafe { turn(from, to) }
        }
        #[inline(always)]
        unsafe fn flip(
            from: *const u32,
            across: usize,
            to: *mut u32,
            to_across: usize,
            rows: usize,
        ) {
            // SAFETY: trait contract.
            unsafe { flip(from, across, to, to_across, rows) }
        }
    }

    /// The low and the high numbers of sixteen pairs.
    #[inline(always)]
    unsafe fn halves512(pairs: __m512i) -> [__m512; 2] {
        // SAFETY: trait contract.
        unsafe {
            let high = _mm512_set1_epi32(-0x1_0000);
            [
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)),
                _mm512_castsi512_ps(_mm512_and_si512(pairs, high)),
            ]
        }
    }

    /// Two fused multiply-adds on 256 bits.
    #[derive(Clone, Copy)]
    pub(super) struct Wide256(__m256);

    impl Pairs for Wide256 {
        const LANES: usize = 8;
        const TALL: usize = 4;
        type Left = [__m256; 2];
        type Right = [__m256; 2];
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: trait contract.
            Self(unsafe { _mm256_setzero_ps() })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: trait contract.
            Self(unsafe { _mm256_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: trait contract.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn left(from: *const u32) -> [__m256; 2] {
            // SAFETY: trait contract.
            unsafe { halves256(_mm256_set1_epi32(*from.cast())) }
        }
        #[inline(always)]
        unsafe fn right(from: *const u32) -> [__m256; 2] {
            // SAFETY: trait contract.
            unsafe { halves256(_mm256_loadu_si256(from.cast())) }
        }
        #[inline(always)]
        unsafe fn dot(self, left: [__m256; 2], right: [__m256; 2]) -> Self {
            // SAFETY: trait contract.
            unsafe {
                let sum = _mm256_fmadd_ps(left[1], right[1], self.0);
                Self(_mm256_fmadd_ps(left[0], right[0], sum))
            }
        }
    }

    /// The low and the high numbers of eight pairs.
    #[inline(always)]
    unsafe fn halves256(pairs: __m256i) -> [__m256; 2] {
        // SAFETY: trait contract.
        unsafe {
            let high = _mm256_set1_epi32(-0x1_0000);
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)),
                _mm256_castsi256_ps(_mm256_and_si256(pairs, high)),
            ]
        }
    }
}
