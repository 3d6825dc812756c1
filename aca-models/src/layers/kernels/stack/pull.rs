//! The transposed derivative of a stack of layers.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use super::{FEW, Stack};
use crate::layers::Activation;
use crate::layers::kernels::linear::{Gradients, Wanted};
use crate::layers::kernels::matmul::Threads;
use crate::layers::kernels::share::share;
use crate::layers::kernels::vector_math::Elementary;

/// Sums of the parameters' cotangents at most: tiles beyond are added to one of them, in their order.
const SUMS: usize = 16;

/// One layer of one tile.
pub(crate) struct Step<'a, T> {
    /// Rows of the layer's input.
    pub(crate) input: &'a [T],
    /// The activation's input or value, as its derivative needs; not looked at for the identity.
    pub(crate) kept: &'a [T],
}

/// The steps of one tile.
pub(crate) type Steps<'a, T> = SmallVec<[Step<'a, T>; FEW]>;

/// Cotangents of a stack's inputs.
pub(crate) struct Pulled<T> {
    /// Of the states, if wanted.
    pub(crate) x: Vec<T>,
    /// Of the times, one per row, where they are an input.
    pub(crate) t: Vec<T>,
    /// Of the parameters, one a layer.
    pub(crate) parameters: Vec<Gradients<T>>,
}

/// Which cotangents of a stack's inputs are wanted.
#[derive(Clone, Copy)]
pub(crate) struct WantedOf<'a> {
    /// The states'.
    pub(crate) x: bool,
    /// The parameters', one a layer.
    pub(crate) parameters: &'a [Wanted],
}

/// Some rows of the cotangents that come in and go out; the latter are empty if not wanted.
struct Part<'a, T> {
    lambda: &'a [T],
    x_bar: &'a mut [T],
    t_bar: &'a mut [T],
}

impl<T: Elementary> Stack<'_, T> {
    /// Returns the cotangents of the inputs for the cotangent `lambda` of the outputs.
    ///
    /// `steps` gives the steps of the tile of that number and those rows.
    pub(crate) fn pull<'s>(
        &self,
        steps: impl Fn(usize, Range<usize>) -> Steps<'s, T> + Sync,
        lambda: &[T],
        wanted: WantedOf<'_>,
    ) -> Pulled<T>
    where
        T: 's,
    {
        let rows = lambda.len() / self.outputs();
        let (tile, threads) = self.plan(rows);
        let tiles = rows.div_ceil(tile).div_ceil(SUMS).max(1);
        let mut x = vec![T::zero(); if wanted.x { rows * self.inputs() } else { 0 }];
        let mut t = vec![T::zero(); if self.has_times() { rows } else { 0 }];
        let pull = |(number, part): (usize, Part<'_, T>)| {
            let mut sums = self.zeros(wanted);
            for (i, part) in self.split(part, tile).into_iter().enumerate() {
                let (at, rows) = (number * tiles + i, part.lambda.len() / self.outputs());
                let steps = steps(at, at * tile..at * tile + rows);
                self.pull_tile(&steps, part, (&mut sums, i == 0), threads);
            }
            sums
        };
        let shares = self.split(Part { lambda, x_bar: &mut x, t_bar: &mut t }, tiles * tile);
        let sums: Vec<_> = match shares.len() {
            0 | 1 => shares.into_iter().enumerate().map(pull).collect(),
            _ => share(shares, pull),
        };
        let sums = sums.into_iter().reduce(|mut sums, others| {
            sums.iter_mut().zip(&others).for_each(|(sum, other)| sum.add(other));
            sums
        });
        Pulled { x, t, parameters: sums.unwrap_or_else(|| self.zeros(wanted)) }
    }

    fn zeros(&self, wanted: WantedOf<'_>) -> Vec<Gradients<T>> {
        let layers = self.layers.iter().zip(wanted.parameters);
        layers.map(|(layer, &wanted)| layer.gradients(wanted)).collect()
    }

    fn split<'p>(&self, part: Part<'p, T>, rows: usize) -> Vec<Part<'p, T>> {
        let lambda = part.lambda.chunks(rows * self.outputs());
        let x_bar = part.x_bar.chunks_mut(rows * self.inputs());
        let x_bar = x_bar.chain(std::iter::repeat_with(Default::default));
        let t_bar = part.t_bar.chunks_mut(rows).chain(std::iter::repeat_with(Default::default));
        let parts = lambda.zip(x_bar).zip(t_bar);
        parts.map(|((lambda, x_bar), t_bar)| Part { lambda, x_bar, t_bar }).collect()
    }

    fn pull_tile(
        &self,
        steps: &[Step<'_, T>],
        part: Part<'_, T>,
        (sums, first): (&mut [Gradients<T>], bool),
        threads: Threads,
    ) {
        let mut lambda = Cow::Borrowed(part.lambda);
        let layers = self.layers.iter().zip(steps).zip(sums).enumerate().rev();
        for (i, ((layer, step), sums)) in layers {
            if layer.activation() != Activation::Identity {
                layer.pull_activation(step.kept, lambda.to_mut(), threads);
            }
            layer.pull_parameters((step.input, &lambda), sums, first, threads);
            if i > 0 {
                lambda = Cow::Owned(layer.input_cotangents(&lambda, threads));
            }
        }
        let Some(layer) = self.layers.first() else { return };
        if self.has_times() {
            let both = layer.input_cotangents(&lambda, threads);
            separate(&both, part.x_bar, part.t_bar);
        } else if !part.x_bar.is_empty() {
            layer.pull_input(&lambda, part.x_bar, threads);
        }
    }
}

/// Takes rows of states and times apart.
fn separate<T: Elementary>(both: &[T], x: &mut [T], t: &mut [T]) {
    let inputs = both.len() / t.len() - 1;
    for ((both, x), t) in both.chunks_exact(inputs + 1).zip(x.chunks_exact_mut(inputs)).zip(t) {
        x.copy_from_slice(&both[..inputs]);
        *t = both[inputs];
    }
}
