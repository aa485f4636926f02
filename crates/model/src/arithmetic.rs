//! The two arithmetic modes, as types.
//!
//! [`Exact`] computes what `docs/protocol/arithmetic.md` says, to the bit, on every machine; money
//! depends on it. [`Fast`] rounds the operands of matrix products to bf16 and keeps frozen
//! matrices in bf16, int8 or 4 bits; its bits depend on the instruction set, but not on threads or
//! batches. Everything between the products (norms, rotation, activations, losses) is the same
//! code on `f32` rows. A function that decides money takes `&Base`, which is `Base<Exact>`, so that
//! fast numbers cannot reach it.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::OnceLock;

use openledger_kernels::{Format, Isa, Lhs, Packed, Rhs, Store, Weight};

use crate::Config;
use crate::attention::{Sequence, Tiles};
use crate::cache::{ExactCache, FastCache};
use crate::lora::{Adapter, PackedGroup};

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Exact {}
    impl Sealed for super::Fast {}
}

/// Reproducible to the bit on every machine: `f32`, one fused chain an element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exact;

/// As fast as the machine allows: bf16 products with `f32` sums, compact frozen matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fast;

/// An arithmetic mode: how matrices are stored and multiplied. [`Exact`] and [`Fast`] are all
/// there are.
///
/// Products are single-threaded; `x` and `y` are row-major `f32`.
pub trait Arithmetic:
    sealed::Sealed + Clone + Copy + Debug + Default + Send + Sync + 'static
{
    /// Number of the mode in records: 0 is exact, 1 is fast.
    const MODE: u8;

    /// How frozen matrices can be stored.
    type Format: Copy + Debug + PartialEq + Send + Sync;

    /// The format that loses least; adapters use it.
    const FINEST: Self::Format;

    /// A matrix `[outputs, inputs]`, ready for products in both directions.
    type Matrix: Clone + Debug + Send + Sync;

    /// Stores `rows [outputs, inputs]`.
    fn matrix(format: Self::Format, rows: &[f32], outputs: usize, inputs: usize) -> Self::Matrix;

    /// Format of the embedding and of the output projection in a model of this format.
    fn head_format(format: Self::Format) -> Self::Format;

    /// Stores a table of which only rows are read: an embedding that the head does not share.
    fn table(format: Self::Format, rows: &[f32], outputs: usize, inputs: usize) -> Self::Matrix;

    /// Stores other values of the same shape.
    fn refill(matrix: &mut Self::Matrix, rows: &[f32]);

    /// `(outputs, inputs)`.
    fn shape(matrix: &Self::Matrix) -> (usize, usize);

    /// Bytes held.
    fn bytes(matrix: &Self::Matrix) -> usize;

    /// Row `index`, as stored.
    fn row(matrix: &Self::Matrix, index: usize, out: &mut [f32]);

    /// `y [m, outputs.len()]`, rows `y_stride` apart, is or gains `x [m, inputs] W^T`, for the
    /// outputs in the range, which starts at a multiple of 32.
    #[allow(clippy::too_many_arguments, reason = "one product's operands")]
    fn project(
        isa: Isa,
        m: usize,
        x: &[f32],
        x_stride: usize,
        matrix: &Self::Matrix,
        outputs: Range<usize>,
        y: &mut [f32],
        y_stride: usize,
        store: Store,
    );

    /// `dx [m, inputs]` is or gains `dy [m, outputs] W`.
    #[allow(clippy::too_many_arguments, reason = "one product's operands")]
    fn project_back(
        isa: Isa,
        m: usize,
        dy: &[f32],
        dy_stride: usize,
        matrix: &Self::Matrix,
        dx: &mut [f32],
        dx_stride: usize,
        store: Store,
    );

    /// `C [m, n]` is or gains `A B`: gradients of weights from activations.
    #[allow(clippy::too_many_arguments, reason = "the argument list of every BLAS")]
    fn product(
        isa: Isa,
        m: usize,
        n: usize,
        k: usize,
        a: Lhs<'_>,
        b: Rhs<'_>,
        c: &mut [f32],
        ldc: usize,
        store: Store,
    );

    /// A small number for each form that a frozen matrix can be stored in, no two modes' the same:
    /// below 4.
    fn storage(format: Self::Format) -> usize;

    /// Keys and values of one block.
    type Cache: Clone + Debug + Send + Sync;

    /// An empty cache for one block of a model of this shape.
    fn cache(c: &Config) -> Self::Cache;

    /// Bytes held.
    fn cache_bytes(cache: &Self::Cache) -> usize;

    /// Causal attention within one sequence: overwrites `attended [rows, q_width]`, and
    /// `log_sums [rows * heads]` with what the backward may need.
    fn attend(
        sequence: Sequence<'_>,
        attended: &mut [f32],
        log_sums: &mut [f32],
        tiles: &mut Tiles,
    );

    /// Gradient of [`Arithmetic::attend`]: overwrites `d_qkv [rows, qkv_width]`.
    fn attend_back(
        sequence: Sequence<'_>,
        attended: &[f32],
        log_sums: &[f32],
        d_attended: &[f32],
        d_qkv: &mut [f32],
        tiles: &mut Tiles,
    );

    /// Attention of rows that continue the `held` positions of a cache, which gains theirs; shared
    /// by `threads` threads of the current pool.
    fn attend_cached(
        sequence: Sequence<'_>,
        threads: usize,
        held: usize,
        cache: &mut Self::Cache,
        attended: &mut [f32],
        tiles: &mut Tiles,
    );

    /// Where an adapter keeps its matrices in this mode's form.
    #[doc(hidden)]
    fn packed(adapter: &Adapter) -> &OnceLock<Vec<PackedGroup<Self>>>;
}

/// A matrix of the exact mode: its rows, and the packed transpose that forward products read.
#[derive(Clone, Debug)]
pub struct ExactMatrix {
    rows: Vec<f32>,
    packed: Packed,
    outputs: usize,
    inputs: usize,
}

impl Arithmetic for Exact {
    const MODE: u8 = 0;
    type Format = ();
    const FINEST: () = ();
    type Matrix = ExactMatrix;

    fn matrix((): (), rows: &[f32], outputs: usize, inputs: usize) -> ExactMatrix {
        ExactMatrix {
            rows: rows.to_vec(),
            packed: Packed::transpose_of(rows, outputs, inputs),
            outputs,
            inputs,
        }
    }

    fn head_format((): ()) {}

    fn table((): (), rows: &[f32], outputs: usize, inputs: usize) -> ExactMatrix {
        ExactMatrix {
            rows: rows.to_vec(),
            packed: Packed::default(),
            outputs,
            inputs,
        }
    }

    fn refill(matrix: &mut ExactMatrix, rows: &[f32]) {
        matrix.rows.copy_from_slice(rows);
        if matrix.packed.columns() > 0 {
            let (n, k) = (matrix.outputs, matrix.inputs);
            matrix.packed.fill_transposed(rows, k, n, k);
        }
    }

    fn shape(matrix: &ExactMatrix) -> (usize, usize) {
        (matrix.outputs, matrix.inputs)
    }

    fn bytes(matrix: &ExactMatrix) -> usize {
        let copies = 1 + usize::from(matrix.packed.columns() > 0);
        copies * size_of_val(matrix.rows.as_slice())
    }

    fn row(matrix: &ExactMatrix, index: usize, out: &mut [f32]) {
        out.copy_from_slice(&matrix.rows[index * matrix.inputs..][..matrix.inputs]);
    }

    fn project(
        isa: Isa,
        m: usize,
        x: &[f32],
        x_stride: usize,
        matrix: &ExactMatrix,
        outputs: Range<usize>,
        y: &mut [f32],
        y_stride: usize,
        store: Store,
    ) {
        let weight = matrix.packed.from_column(outputs.start);
        let (n, k) = (outputs.len(), matrix.inputs);
        isa.gemm(m, n, k, Lhs::rows(x, x_stride), weight, y, y_stride, store);
    }

    fn project_back(
        isa: Isa,
        m: usize,
        dy: &[f32],
        dy_stride: usize,
        matrix: &ExactMatrix,
        dx: &mut [f32],
        dx_stride: usize,
        store: Store,
    ) {
        let (k, n) = (matrix.outputs, matrix.inputs);
        let weight = Rhs::rows(&matrix.rows, n);
        let dy = Lhs::rows(dy, dy_stride);
        isa.gemm(m, n, k, dy, weight, dx, dx_stride, store);
    }

    fn product(
        isa: Isa,
        m: usize,
        n: usize,
        k: usize,
        a: Lhs<'_>,
        b: Rhs<'_>,
        c: &mut [f32],
        ldc: usize,
        store: Store,
    ) {
        isa.gemm(m, n, k, a, b, c, ldc, store);
    }

    type Cache = ExactCache;

    fn cache(_: &Config) -> ExactCache {
        ExactCache::default()
    }

    fn cache_bytes(cache: &ExactCache) -> usize {
        cache.bytes()
    }

    fn attend(
        sequence: Sequence<'_>,
        attended: &mut [f32],
        _log_sums: &mut [f32],
        tiles: &mut Tiles,
    ) {
        sequence.exact(attended, tiles);
    }

    fn attend_back(
        sequence: Sequence<'_>,
        _attended: &[f32],
        _log_sums: &[f32],
        d_attended: &[f32],
        d_qkv: &mut [f32],
        tiles: &mut Tiles,
    ) {
        sequence.exact_back(d_attended, d_qkv, tiles);
    }

    fn attend_cached(
        sequence: Sequence<'_>,
        threads: usize,
        held: usize,
        cache: &mut ExactCache,
        attended: &mut [f32],
        tiles: &mut Tiles,
    ) {
        sequence.exact_cached(threads, held, cache, attended, tiles);
    }

    fn storage((): ()) -> usize {
        0
    }

    fn packed(adapter: &Adapter) -> &OnceLock<Vec<PackedGroup<Self>>> {
        &adapter.exact
    }
}

impl Arithmetic for Fast {
    const MODE: u8 = 1;
    type Format = Format;
    const FINEST: Format = Format::Bf16;
    type Matrix = Weight;

    fn matrix(format: Format, rows: &[f32], outputs: usize, inputs: usize) -> Weight {
        Weight::pack(format, rows, outputs, inputs)
    }

    /// At least 8 bits: four bits an embedding cost more loss than they save.
    fn head_format(format: Format) -> Format {
        match format {
            Format::Nf4 => Format::Bf16,
            Format::Bf16 | Format::Int8 => format,
        }
    }

    fn table(format: Format, rows: &[f32], outputs: usize, inputs: usize) -> Weight {
        Weight::pack(format, rows, outputs, inputs)
    }

    fn refill(matrix: &mut Weight, rows: &[f32]) {
        matrix.fill(rows);
    }

    fn shape(matrix: &Weight) -> (usize, usize) {
        (matrix.outputs(), matrix.inputs())
    }

    fn bytes(matrix: &Weight) -> usize {
        matrix.bytes()
    }

    fn row(matrix: &Weight, index: usize, out: &mut [f32]) {
        matrix.row(index, out);
    }

    fn project(
        isa: Isa,
        m: usize,
        x: &[f32],
        x_stride: usize,
        matrix: &Weight,
        outputs: Range<usize>,
        y: &mut [f32],
        y_stride: usize,
        store: Store,
    ) {
        isa.project(m, x, x_stride, matrix, outputs, y, y_stride, store);
    }

    fn project_back(
        isa: Isa,
        m: usize,
        dy: &[f32],
        dy_stride: usize,
        matrix: &Weight,
        dx: &mut [f32],
        dx_stride: usize,
        store: Store,
    ) {
        let inputs = 0..matrix.inputs();
        isa.project_back(m, dy, dy_stride, matrix, inputs, dx, dx_stride, store);
    }

    fn product(
        isa: Isa,
        m: usize,
        n: usize,
        k: usize,
        a: Lhs<'_>,
        b: Rhs<'_>,
        c: &mut [f32],
        ldc: usize,
        store: Store,
    ) {
        isa.gemm_bf16(m, n, k, a, b, c, ldc, store);
    }

    type Cache = FastCache;

    fn cache(c: &Config) -> FastCache {
        FastCache::new(c)
    }

    fn cache_bytes(cache: &FastCache) -> usize {
        cache.bytes()
    }

    fn attend(
        sequence: Sequence<'_>,
        attended: &mut [f32],
        log_sums: &mut [f32],
        tiles: &mut Tiles,
    ) {
        sequence.fast(attended, log_sums, tiles);
    }

    fn attend_back(
        sequence: Sequence<'_>,
        attended: &[f32],
        log_sums: &[f32],
        d_attended: &[f32],
        d_qkv: &mut [f32],
        tiles: &mut Tiles,
    ) {
        sequence.fast_back(attended, log_sums, d_attended, d_qkv, tiles);
    }

    fn attend_cached(
        sequence: Sequence<'_>,
        threads: usize,
        held: usize,
        cache: &mut FastCache,
        attended: &mut [f32],
        tiles: &mut Tiles,
    ) {
        sequence.fast_cached(threads, held, cache, attended, tiles);
    }

    fn storage(format: Format) -> usize {
        match format {
            Format::Bf16 => 1,
            Format::Int8 => 2,
            Format::Nf4 => 3,
        }
    }

    fn packed(adapter: &Adapter) -> &OnceLock<Vec<PackedGroup<Self>>> {
        &adapter.fast
    }
}
