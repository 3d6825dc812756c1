//! Dense layers one after another over tiles of rows: what lies between layers stays in the cache, and
//! threads share tiles instead of products.
//!
//! Tiles depend on sizes alone, so results do not depend on the number of threads.

use smallvec::SmallVec;

use super::activation;
use super::linear::Dense;
use super::matmul::Threads;
use super::share::share;
use super::vector_math::Elementary;
use crate::layers::Activation;

mod pull;

pub(crate) use pull::{Step, Steps, WantedOf};

/// Work of one tile in multiplications, about 50 us on one core: less is not worth a second thread.
const TILE: usize = 6_000_000;

/// Multiplications that one activation is worth.
const ACTIVATION: usize = 32;

/// Rows per tile at least, else packing the weights costs as much as multiplying.
const ROWS: usize = 64;

/// Parameters above which every product is shared among threads, and tiles are not: their sums of
/// gradients would no longer fit into the cache.
const WIDE: usize = 1 << 18;

/// Layers whose lists need no allocation.
const FEW: usize = 4;

/// The times that follow the state as an input of the first layer.
#[derive(Clone, Copy)]
pub(crate) enum Times<'a, T> {
    /// No input.
    None,
    /// The same for all rows.
    One(T),
    /// One for each `rows` rows.
    Each {
        /// The times.
        times: &'a [T],
        /// How many rows share one.
        rows: usize,
    },
}

/// At least one layer, each of whose outputs are the next one's inputs.
pub(crate) struct Stack<'a, T> {
    pub(crate) layers: SmallVec<[Dense<'a, T>; FEW]>,
    pub(crate) times: Times<'a, T>,
}

/// What the pullback of one tile needs.
pub(crate) struct Kept<T> {
    /// The first layer's input, where it is not the state alone.
    input: Option<Vec<T>>,
    layers: SmallVec<[KeptLayer<T>; FEW]>,
}

struct KeptLayer<T> {
    /// The activation's input, where its derivative needs that; else empty.
    sums: Vec<T>,
    /// The layer's output; empty where nobody needs it.
    value: Vec<T>,
}

impl<T: Elementary> Stack<'_, T> {
    /// Numbers in a row of the state.
    pub(crate) fn inputs(&self) -> usize {
        let inputs = self.layers.first().map_or(0, Dense::inputs);
        inputs - usize::from(self.has_times())
    }

    fn outputs(&self) -> usize {
        self.layers.last().map_or(0, Dense::outputs)
    }

    fn has_times(&self) -> bool {
        !matches!(self.times, Times::None)
    }

    /// Rows per tile, and the threads that share one product.
    fn plan(&self, rows: usize) -> (usize, Threads) {
        let size: usize = self.layers.iter().map(Dense::size).sum();
        if size > WIDE {
            return (rows.max(1), Threads::All);
        }
        let outputs: usize = self.layers.iter().map(Dense::outputs).sum();
        let tile = (TILE / (size + ACTIVATION * outputs).max(1)).max(ROWS);
        let tiles = rows.div_ceil(tile).next_power_of_two();
        (rows.div_ceil(tiles).next_multiple_of(16).max(16), Threads::One)
    }

    /// Returns the last layer's output of every row.
    pub(crate) fn forward(&self, x: &[T]) -> Vec<T> {
        self.run(x, false).0
    }

    /// Returns the last layer's output of every row, and what the pullback of each tile needs.
    pub(crate) fn linearize(&self, x: &[T]) -> (Vec<T>, Vec<Kept<T>>) {
        self.run(x, true)
    }

    fn run(&self, x: &[T], keep: bool) -> (Vec<T>, Vec<Kept<T>>) {
        let rows = x.len() / self.inputs();
        let (tile, threads) = self.plan(rows);
        let mut out = vec![T::zero(); rows * self.outputs()];
        let run = |(i, (x, out)): (usize, (&[T], &mut [T]))| {
            let kept = self.run_tile(i * tile, x, out, threads, keep);
            keep.then_some(kept)
        };
        if rows <= tile {
            let kept = run((0, (x, &mut out)));
            return (out, kept.into_iter().collect());
        }
        let tiles = x.chunks(tile * self.inputs()).zip(out.chunks_mut(tile * self.outputs()));
        let kept = share(tiles.collect(), run);
        (out, kept.into_iter().flatten().collect())
    }

    fn run_tile(
        &self,
        first: usize,
        x: &[T],
        out: &mut [T],
        threads: Threads,
        keep: bool,
    ) -> Kept<T> {
        let mut kept = Kept { input: self.with_times(first, x), layers: SmallVec::new() };
        let Some((last, hidden)) = self.layers.split_last() else { return kept };
        let copy = |wanted: bool, x: &[T]| if keep && wanted { x.to_vec() } else { Vec::new() };
        for layer in hidden {
            let mut value = layer.sums(kept.output(x), threads);
            let sums = copy(layer.activation().keeps_input(), &value);
            activation::apply(layer.activation(), &mut value, threads);
            kept.layers.push(KeptLayer { sums, value });
        }
        last.write_sums(kept.output(x), out, threads);
        let sums = copy(last.activation().keeps_input(), out);
        activation::apply(last.activation(), out, threads);
        let value = copy(last.activation() != Activation::Identity, out);
        kept.layers.push(KeptLayer { sums, value });
        kept
    }

    /// Rows of the state, each followed by its time, where times are an input.
    fn with_times(&self, first: usize, x: &[T]) -> Option<Vec<T>> {
        let time = |row: usize| match self.times {
            Times::None => None,
            Times::One(t) => Some(t),
            Times::Each { times, rows } => times.get((first + row) / rows).copied(),
        };
        time(0)?;
        let rows = x.chunks_exact(self.inputs()).enumerate();
        let mut both = Vec::with_capacity(x.len() + rows.len());
        rows.for_each(|(i, row)| both.extend(row.iter().copied().chain(time(i))));
        Some(both)
    }
}

impl<T> Kept<T> {
    /// The output of the last layer so far, for the states `x`.
    fn output<'a>(&'a self, x: &'a [T]) -> &'a [T] {
        match self.layers.last() {
            Some(layer) => &layer.value,
            None => self.input.as_deref().unwrap_or(x),
        }
    }

    /// Every layer's input and what its activation's pullback needs, for the states `x`.
    pub(crate) fn steps<'a>(&'a self, x: &'a [T]) -> Steps<'a, T> {
        let first = self.input.as_deref().unwrap_or(x);
        let inputs = std::iter::once(first).chain(self.layers.iter().map(|layer| &layer.value[..]));
        let kept = self.layers.iter().map(|layer| match layer.sums.is_empty() {
            true => &layer.value[..],
            false => &layer.sums[..],
        });
        inputs.zip(kept).map(|(input, kept)| Step { input, kept }).collect()
    }
}
