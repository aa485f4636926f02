//! CPU kernels of the decoder, in two arithmetic modes.
//!
//! The `exact` mode is normative and written down in `docs/protocol/arithmetic.md`. In short: every
//! floating-point value is the result of one fixed expression of IEEE-754 `f32` operations
//! (`f64` where a signature says so), so the bits do not depend on the thread count, the batch a
//! row travels in, the tile sizes or the instruction set:
//!
//! - a matrix product element is one chain of fused multiply-adds over `k` in increasing order;
//! - a row reduction uses sixteen lanes and one fixed tree ([`rows`]);
//! - `exp`, `tanh`, `ln`, `sin` and `cos` are our own polynomials ([`math`]), because libraries differ;
//! - division and square root are the IEEE operations, which are correctly rounded everywhere.
//!
//! The `fast` mode ([`fast`]) rounds the operands of products to bf16 and reads frozen matrices
//! from 16, 8 or 4 bits a weight ([`weight`]). Its bits do not depend on threads, batch or tile sizes
//! either, but do on the instruction set; nothing that decides money uses it.
//!
//! All kernels are methods of [`Isa`], a token that proves the instruction set is present.
//! [`Isa::PORTABLE`] is the oracle: plain Rust with `f32::mul_add`.
//!
//! ```
//! use openledger_kernels::{Isa, Lhs, Rhs, Store};
//! let (a, b) = ([1.0_f32, 2.0, 3.0, 4.0], [5.0_f32, 6.0, 7.0, 8.0]);
//! let mut c = [0.0_f32; 4];
//! let isa = Isa::best();
//! isa.gemm(2, 2, 2, Lhs::rows(&a, 2), Rhs::rows(&b, 2), &mut c, 2, Store::Overwrite);
//! assert_eq!(c.map(|x| x as i32), [19, 22, 43, 50]);
//! ```
#![allow(
    unsafe_code,
    reason = "vector intrinsics and unchecked tiles; bounds are asserted once per call"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "iterator adapters are not inlined across target features, see `rows`"
)]

#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
mod amx;
pub mod attention;
pub mod buffer;
pub mod fast;
pub mod flash;
pub mod gemm;
pub mod isa;
pub mod loss;
pub mod math;
mod pairs;
pub mod pointwise;
mod quantised;
pub mod rope;
pub mod rows;
mod simd;
pub mod weight;

pub use attention::{AttentionBackward, AttentionForward, Scores};
pub use buffer::Buffer;
pub use flash::{Columns, FlashBackward, FlashForward, FlashGradient, FlashScratch, HeadCache};
pub use gemm::{Lhs, PANEL, Packed, Rhs, Store};
pub use isa::Isa;
pub use pointwise::Activation;
pub use rope::RopeTable;
pub use weight::{Format, Weight};
