//! Activations over slices.
#![allow(unsafe_code, reason = "results are written to memory that is not cleared first")]

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use pulp::{Arch, NullaryFnOnce};

use super::matmul::Threads;
use super::share::share;
use super::vector_math::{self as math, Elementary};
use crate::layers::Activation;

/// Bytes per task; slices below twice this run on the calling thread.
///
/// Measured on 2 cores of an AVX-512 server: `tanh` of 65 536 `f32` takes 18 us either way, of 131 072
/// 36 us alone and 24 us shared.
const TASK: usize = 256 << 10;

/// Entries per task.
const fn task<T>() -> usize {
    TASK / size_of::<T>()
}

/// A loop over slices that calls a function of one number.
trait Pass<T> {
    fn run(self, f: impl Fn(T) -> T);
}

/// `x <- f(x)`.
struct Replace<'a, T>(&'a mut [T]);

/// `out <- f(x)`.
struct Map<'a, T>(&'a [T], &'a mut [MaybeUninit<T>]);

/// `lambda <- lambda * f(kept)`.
struct Scale<'a, T>(&'a [T], &'a mut [T]);

/// `out <- lambda * f(kept)`.
struct Product<'a, T>(&'a [T], &'a [T], &'a mut [MaybeUninit<T>]);

impl<T: Elementary> Pass<T> for Replace<'_, T> {
    #[inline(always)]
    fn run(self, f: impl Fn(T) -> T) {
        for x in self.0 {
            *x = f(*x);
        }
    }
}

impl<T: Elementary> Pass<T> for Map<'_, T> {
    #[inline(always)]
    fn run(self, f: impl Fn(T) -> T) {
        for (out, x) in self.1.iter_mut().zip(self.0) {
            out.write(f(*x));
        }
    }
}

impl<T: Elementary> Pass<T> for Scale<'_, T> {
    #[inline(always)]
    fn run(self, f: impl Fn(T) -> T) {
        for (lambda, kept) in self.1.iter_mut().zip(self.0) {
            *lambda *= f(*kept);
        }
    }
}

impl<T: Elementary> Pass<T> for Product<'_, T> {
    #[inline(always)]
    fn run(self, f: impl Fn(T) -> T) {
        for ((out, lambda), kept) in self.2.iter_mut().zip(self.1).zip(self.0) {
            out.write(*lambda * f(*kept));
        }
    }
}

/// A pass and its function, to be compiled for each instruction set: a closure would be called through
/// a shim that is compiled for none and not always inlined.
struct Dispatched<P, F, T>(P, F, PhantomData<T>);

impl<T, P: Pass<T>, F: Fn(T) -> T> NullaryFnOnce for Dispatched<P, F, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.0.run(self.1);
    }
}

fn run<T, P: Pass<T>>(pass: P, f: impl Fn(T) -> T) {
    Arch::new().dispatch(Dispatched(pass, f, PhantomData));
}

/// A closure that is inlined into the loop that calls it; a function's name would not be.
macro_rules! inlined {
    ($x:ident => $body:expr) => {
        #[inline(always)]
        |$x: T| $body
    };
}

/// Runs `pass` with the function itself.
fn value<T: Elementary>(activation: Activation, pass: impl Pass<T>) {
    match activation {
        Activation::Identity => run(pass, inlined!(x => x)),
        Activation::Tanh => run(pass, inlined!(x => math::tanh(x))),
        Activation::Sigmoid => run(pass, inlined!(x => math::sigmoid(x))),
        Activation::Softplus => run(pass, inlined!(x => math::softplus(x))),
        Activation::Elu => run(pass, inlined!(x => math::elu(x))),
        Activation::Relu => run(pass, inlined!(x => math::relu(x))),
        Activation::Gelu => run(pass, inlined!(x => math::gelu(x))),
    }
}

/// Runs `pass` with the derivative as a function of what [`Activation::keeps_input`] says.
fn slope<T: Elementary>(activation: Activation, pass: impl Pass<T>) {
    let (zero, one) = (T::zero(), T::one());
    match activation {
        Activation::Identity => run(pass, inlined!(_y => one)),
        Activation::Tanh => run(pass, inlined!(y => (one - y) * (one + y))),
        Activation::Sigmoid => run(pass, inlined!(y => y * (one - y))),
        Activation::Softplus => run(pass, inlined!(y => -math::expm1_of_negative(-y))),
        Activation::Elu => run(pass, inlined!(y => if y >= zero { one } else { y + one })),
        Activation::Relu => run(pass, inlined!(y => if y <= zero { zero } else { one })),
        Activation::Gelu => run(pass, inlined!(x => math::gelu_slope(x))),
    }
}

/// Replaces every entry by its activation.
pub(crate) fn apply<T: Elementary>(activation: Activation, x: &mut [T], threads: Threads) {
    match threads {
        _ if activation == Activation::Identity => (),
        Threads::All if x.len() >= 2 * task::<T>() => {
            share(x.chunks_mut(task::<T>()).collect(), |(_, x)| value(activation, Replace(x)));
        }
        _ => value(activation, Replace(x)),
    }
}

/// Multiplies `lambda` by the derivative.
///
/// `kept`: the activation's inputs where it [keeps them](Activation::keeps_input), else its values.
pub(crate) fn pull<T: Elementary>(
    activation: Activation,
    kept: &[T],
    lambda: &mut [T],
    threads: Threads,
) {
    assert_eq!(kept.len(), lambda.len(), "a cotangent has its value's size");
    match threads {
        Threads::All if kept.len() >= 2 * task::<T>() => {
            let parts = kept.chunks(task::<T>()).zip(lambda.chunks_mut(task::<T>()));
            share(parts.collect(), |(_, (kept, lambda))| slope(activation, Scale(kept, lambda)));
        }
        _ => slope(activation, Scale(kept, lambda)),
    }
}

/// Returns the activation of every entry.
pub(crate) fn applied<T: Elementary>(activation: Activation, x: &[T]) -> Vec<T> {
    collect(x.len(), |start, out| value(activation, Map(&x[start..][..out.len()], out)))
}

/// Returns `lambda` times the derivative; `kept` as in [`pull`].
pub(crate) fn pulled<T: Elementary>(activation: Activation, kept: &[T], lambda: &[T]) -> Vec<T> {
    assert_eq!(kept.len(), lambda.len(), "a cotangent has its value's size");
    collect(lambda.len(), |start, out| {
        let range = start..start + out.len();
        slope(activation, Product(&kept[range.clone()], &lambda[range], out));
    })
}

/// Returns `size` entries; `fill` writes all of a chunk that starts at the given entry.
fn collect<T: Elementary>(
    size: usize,
    fill: impl Fn(usize, &mut [MaybeUninit<T>]) + Sync + Send,
) -> Vec<T> {
    let mut out = Vec::with_capacity(size);
    let room = &mut out.spare_capacity_mut()[..size];
    if size < 2 * task::<T>() {
        fill(0, room);
    } else {
        let parts = room.chunks_mut(task::<T>()).collect();
        share(parts, |(part, room)| fill(part * task::<T>(), room));
    }
    // SAFETY: there is room for `size` entries, and both users of this function write one for each
    // entry of the equally long slices that they zip with the room.
    unsafe { out.set_len(size) };
    out
}
