//! Frozen matrices in the storage that the fast products read.
//!
//! A [`Weight`] stands for a matrix of bf16 numbers, whatever its [`Format`]: the quantised
//! formats say which bf16 numbers, and a product with them has the bits of the product with a
//! bf16 weight of the same numbers.

use crate::buffer::{Buffer, Lines};
use crate::isa::Isa;
use crate::pairs::{PANEL, Pairs, Task, narrow_row, run, widen};
use crate::quantised;

/// Storage of a frozen matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 16 bits a weight: the nearest bf16 number.
    Bf16,
    /// 8.5 bits a weight: integers from -127 to 127 and, per output and group of 64 inputs, an
    /// `f32` scale, which is the largest magnitude over 127.
    Int8,
    /// 4.5 bits a weight: the 4-bit `NormalFloat` of `QLoRA` (Dettmers et al. 2023, appendix E) and,
    /// per output and group of 64 inputs, the largest magnitude as an `f32` scale.
    Nf4,
}

impl Format {
    /// Bytes of a matrix `[outputs, inputs]` in this format, as [`Weight::bytes`] counts them.
    #[must_use]
    pub fn bytes(self, outputs: usize, inputs: usize) -> usize {
        let (panels, pairs, groups) = self.parts(outputs, inputs);
        4 * panels * (pairs * self.row_words() + groups * PANEL)
    }

    /// Panels, pairs of inputs in a panel, and groups of inputs that share a scale.
    fn parts(self, outputs: usize, inputs: usize) -> (usize, usize, usize) {
        let groups = match self {
            Self::Bf16 => 0,
            Self::Int8 | Self::Nf4 => inputs.div_ceil(GROUP),
        };
        let pairs = inputs.next_multiple_of(PANEL) / 2;
        (outputs.div_ceil(PANEL), pairs, groups)
    }
}

/// Inputs that share a scale.
pub(crate) const GROUP: usize = 64;

/// A frozen matrix `[outputs, inputs]`, a linear layer's weight, in one copy that
/// [`Isa::project`](crate::Isa::project) and [`Isa::project_back`](crate::Isa::project_back) read.
///
/// Panels of 32 outputs, in each a row of 32 pairs for every two inputs; both dimensions are
/// padded with zeros to multiples of 32.
#[derive(Clone, Debug)]
pub struct Weight {
    format: Format,
    outputs: usize,
    inputs: usize,
    /// Panel after panel; a row of 32 pairs takes 128, 64 or 32 bytes.
    codes: Lines<u32>,
    /// Panel after panel, per group of inputs 32 scales; empty for [`Format::Bf16`].
    scales: Buffer,
}

impl Weight {
    /// Packs a row-major matrix `[outputs, inputs]` of finite numbers.
    ///
    /// # Panics
    /// When `data` does not have `outputs * inputs` floats.
    #[must_use]
    pub fn pack(format: Format, data: &[f32], outputs: usize, inputs: usize) -> Self {
        let (panels, pairs, groups) = format.parts(outputs, inputs);
        let mut weight = Self {
            format,
            outputs,
            inputs,
            codes: Lines::zeros(panels * pairs * format.row_words()),
            scales: Buffer::zeros(panels * groups * PANEL),
        };
        weight.fill(data);
        weight
    }

    /// Packs another matrix of the same shape in the same format; reuses the memory.
    ///
    /// # Panics
    /// When `data` does not have `outputs * inputs` floats.
    pub fn fill(&mut self, data: &[f32]) {
        let (format, inputs) = (self.format, self.inputs);
        assert_eq!(data.len(), self.outputs * inputs, "floats of the matrix");
        if data.is_empty() {
            return;
        }
        let panels = data.chunks(PANEL * inputs);
        let codes = self
            .codes
            .chunks_exact_mut(inputs.next_multiple_of(PANEL) / 2 * format.row_words());
        if format == Format::Bf16 {
            for (rows, codes) in panels.zip(codes) {
                // SAFETY: the panel has `inputs` inputs, padded, of 32 outputs.
                unsafe {
                    run(
                        Isa::best(),
                        &Narrow {
                            rows,
                            inputs,
                            codes: codes.as_mut_ptr(),
                        },
                    )
                };
            }
        } else {
            let scales = self.scales.chunks_exact_mut(inputs.div_ceil(GROUP) * PANEL);
            for ((rows, codes), scales) in panels.zip(codes).zip(scales) {
                codes.fill(0);
                for (lane, row) in rows.chunks_exact(inputs).enumerate() {
                    quantised::pack(format, row, lane, codes, scales);
                }
            }
        }
    }

    /// Rows of the matrix.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of the matrix.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// How the numbers are stored.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes of the stored numbers and scales, padding included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        4 * (self.codes.len() + self.scales.len())
    }

    /// Row `j`: the numbers that the products multiply, which are exact in bf16.
    ///
    /// # Panics
    /// When there is no such row or `out` is not `inputs` long.
    pub fn row(&self, j: usize, out: &mut [f32]) {
        assert!(j < self.outputs, "row {j} of {}", self.outputs);
        assert_eq!(out.len(), self.inputs, "floats of the row");
        let (q, lane) = (j / PANEL, j % PANEL);
        for (p, x) in out.chunks_mut(2).enumerate() {
            let codes = self.codes(q, 2 * p);
            let bits = match self.format {
                Format::Bf16 => codes[lane],
                Format::Int8 => quantised::int8(codes, self.scales(q, 2 * p), lane),
                Format::Nf4 => quantised::nf4(codes, self.scales(q, 2 * p), lane),
            };
            x[0] = widen(bits & 0xffff);
            if let Some(x) = x.get_mut(1) {
                *x = widen(bits >> 16);
            }
        }
    }

    /// Words from one panel to the next.
    pub(crate) fn panel_words(&self) -> usize {
        self.inputs.next_multiple_of(PANEL) / 2 * self.format.row_words()
    }

    /// The codes of panel `q` from the row of an even input on.
    pub(crate) fn codes(&self, q: usize, input: usize) -> &[u32] {
        let size = self.panel_words();
        &self.codes[q * size..][..size][input / 2 * self.format.row_words()..]
    }

    /// The scales of panel `q` for the group of an input.
    pub(crate) fn scales(&self, q: usize, input: usize) -> &[f32] {
        &self.scales[(q * self.inputs.div_ceil(GROUP) + input / GROUP) * PANEL..][..PANEL]
    }

    /// Brings `depth` inputs of panel `q`, padded to a multiple of 32, into rows of pairs. Of a
    /// quantised weight; `first` is a multiple of 32.
    ///
    /// # Safety
    /// `V` is enabled and `to` has the room.
    #[inline(always)]
    pub(crate) unsafe fn unpack<V: Pairs>(
        &self,
        q: usize,
        first: usize,
        depth: usize,
        to: *mut u32,
    ) {
        let end = (first + depth).next_multiple_of(PANEL);
        let mut input = first;
        while input < end {
            let next = end.min((input / GROUP + 1) * GROUP);
            let rows = (next - input) / 2;
            let codes = &self.codes(q, input)[..rows * self.format.row_words()];
            let scales = self.scales(q, input);
            // SAFETY: `codes` has this many rows, `to` by the caller's promise.
            unsafe {
                let to = to.add((input - first) / 2 * PANEL);
                match self.format {
                    Format::Int8 => V::unpack_int8(codes, scales, to),
                    Format::Nf4 => V::unpack_nf4(codes, scales, to),
                    Format::Bf16 => unreachable!("bf16 is read in place"),
                }
            }
            input = next;
        }
    }
}

/// Rounds rows of `inputs` floats, at most 32, into a panel.
struct Narrow<'a> {
    rows: &'a [f32],
    inputs: usize,
    codes: *mut u32,
}

impl Task for Narrow<'_> {
    #[inline(always)]
    unsafe fn run<V: Pairs>(&self) {
        let count = self.rows.len() / self.inputs;
        for first in (0..count).step_by(16) {
            let mut square = [0_u32; 16 * 16];
            for input in (0..self.inputs).step_by(PANEL) {
                let deep = PANEL.min(self.inputs - input);
                for i in first..count.min(first + 16) {
                    let row = &self.rows[i * self.inputs + input..][..deep];
                    // SAFETY: a row of the square takes 16 pairs.
                    unsafe { narrow_row::<V>(row, square[(i - first) * 16..].as_mut_ptr()) };
                }
                // SAFETY: the panel has 16 rows of 32 pairs from this input on.
                unsafe {
                    let to = self.codes.add(input / 2 * PANEL + first);
                    V::flip(square.as_ptr(), 16, to, PANEL, 16);
                }
            }
        }
    }
}

impl Format {
    /// Words of a row of 32 pairs.
    pub(crate) fn row_words(self) -> usize {
        match self {
            Self::Bf16 => PANEL,
            Self::Int8 => PANEL / 2,
            Self::Nf4 => PANEL / 4,
        }
    }
}
