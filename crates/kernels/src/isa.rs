//! The instruction set token and the way one kernel source becomes three machine codes.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::amx;

/// Proof that an instruction set is usable on this machine; every kernel is a method of it.
///
/// The kernels of the `exact` mode compute the same bits with all values, which differ in speed
/// only; those of the `fast` mode ([`crate::fast`]) promise the same bits on one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa(pub(crate) Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// Plain Rust; the oracle the others are tested against.
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// The fastest instruction set of this machine.
    #[must_use]
    pub fn best() -> Self {
        kinds().next().map_or(Self::PORTABLE, Self)
    }

    /// All instruction sets of this machine, fastest first; the last one is [`Isa::PORTABLE`].
    #[must_use]
    pub fn available() -> Vec<Self> {
        kinds().map(Self).collect()
    }

    /// A short name for logs and reports: `amx`, `avx512bf16`, `avx512`, `avx2` or `portable`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kind::Amx => "amx",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 => "avx512bf16",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            Kind::Portable => "portable",
        }
    }
}

/// The kinds that detection finds, fastest first.
fn kinds() -> impl Iterator<Item = Kind> {
    #[cfg(target_arch = "x86_64")]
    let vector = [
        #[cfg(target_os = "linux")]
        (
            Kind::Amx,
            (|| has_avx512bf16() && amx::usable()) as fn() -> bool,
        ),
        (Kind::Avx512Bf16, has_avx512bf16),
        (Kind::Avx512, has_avx512),
        (Kind::Avx2, has_avx2),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let vector: [(Kind, fn() -> bool); 0] = [];
    vector
        .into_iter()
        .filter(|(_, present)| present())
        .map(|(kind, _)| kind)
        .chain([Kind::Portable])
}

impl Default for Isa {
    fn default() -> Self {
        Self::best()
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512bf16() -> bool {
    has_avx512() && is_x86_feature_detected!("avx512bf16")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Compiles one kernel body once per instruction set and adds the dispatching method to `Isa`.
///
/// The body is ordinary Rust. Rust has no fast-math, so the compiler may vectorise it only in
/// ways that keep every rounding; `f32::mul_add` is a fused instruction where the set has one and
/// a correctly rounded library call elsewhere. Hence the copies agree bit for bit.
macro_rules! kernel {
    ($(#[$meta:meta])* pub fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        impl crate::Isa {
            $(#[$meta])*
            #[allow(clippy::too_many_arguments, reason = "kernels take sizes and strides")]
            pub fn $name(self, $($arg: $ty),*) $(-> $ret)? {
                #[inline(always)]
                #[allow(clippy::too_many_arguments, reason = "kernels take sizes and strides")]
                fn body($($arg: $ty),*) $(-> $ret)? $body

                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "kernels take sizes and strides")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }

                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "kernels take sizes and strides")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }

                match self.0 {
                    // SAFETY: an `Isa` of this kind exists only after detection succeeded.
                    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
                    crate::isa::Kind::Amx => unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    crate::isa::Kind::Avx512Bf16 | crate::isa::Kind::Avx512 => unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    crate::isa::Kind::Avx2 => unsafe { avx2($($arg),*) },
                    crate::isa::Kind::Portable => body($($arg),*),
                }
            }
        }
    };
}
pub(crate) use kernel;
