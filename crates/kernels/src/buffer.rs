//! Growable storage on cache-line boundaries, so vector loads never straddle two lines.

use std::fmt;
use std::ops::{Deref, DerefMut};

const LINE: usize = 16;

/// Cache-line aligned `f32` storage; reads and writes as a slice.
pub type Buffer = Lines<f32>;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line<T>([T; LINE]);

/// A 32-bit word of any meaning.
pub trait Word: Copy + Default + sealed::Plain {
    /// The name of the type.
    const NAME: &'static str;
}

impl Word for f32 {
    const NAME: &'static str = "f32";
}

impl Word for u32 {
    const NAME: &'static str = "u32";
}

mod sealed {
    /// Types of 32 bits without padding.
    pub trait Plain {}
    impl Plain for f32 {}
    impl Plain for u32 {}
}

/// Cache-line aligned storage of 32-bit words; reads and writes as a slice.
#[derive(Clone)]
pub struct Lines<T: Word> {
    lines: Vec<Line<T>>,
    len: usize,
}

impl<T: Word> Default for Lines<T> {
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl<T: Word> Lines<T> {
    /// A buffer of `len` zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        Self {
            lines: vec![Line([T::default(); LINE]); len.div_ceil(LINE)],
            len,
        }
    }

    /// Sets the length; kept elements keep their values, elements that this call adds are zero
    /// or hold what an earlier, longer use left there.
    pub fn resize(&mut self, len: usize) {
        let lines = len.div_ceil(LINE);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([T::default(); LINE]));
        }
        self.len = len;
    }

    /// The first `len` elements, growing the buffer when it is shorter.
    pub fn first(&mut self, len: usize) -> &mut [T] {
        if self.len < len {
            self.resize(len);
        }
        &mut self[..len]
    }
}

impl<T: Word> Deref for Lines<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `Line` is `repr(C)` over sixteen words with no padding, `lines` holds at least
        // `len.div_ceil(16)` of them (kept by `zeros` and `resize`), all initialised.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast::<T>(), self.len) }
    }
}

impl<T: Word> DerefMut for Lines<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `&mut self` makes the borrow unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast::<T>(), self.len) }
    }
}

impl<T: Word> From<&[T]> for Lines<T> {
    fn from(values: &[T]) -> Self {
        let mut buffer = Self::zeros(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl<T: Word> fmt::Debug for Lines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} x {})", self.len, T::NAME)
    }
}
