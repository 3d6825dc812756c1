//! Bodies for a backward walk that looks at what it replays.

use std::ops::Range;

use rayon::prelude::*;

use super::{Element, TASK, Terms, add_slopes, add_terms, vectorised};

/// See [`super::super::Products`], as a list.
type Sums = [f64; 5];

/// Entries per block: small, since the buffer of the error is cleared for every one.
const BLOCK: usize = 128;

/// What arrives at the ends, what leaves at the starts, and the states there.
pub(crate) type Ends<'a, T> = [&'a [T]; 3];

/// See [`super::super::products`].
pub(crate) fn products<T: Element>(out: &mut [Sums], ends: Ends<'_, T>, terms: &Terms<'_, T>) {
    products_of(
        out,
        ends,
        #[inline(always)]
        |error: &mut [T], range: Range<usize>| add_terms(error, range, terms),
    );
}

/// See [`super::super::products_slopes`].
pub(crate) fn products_of_slopes<T: Element>(
    out: &mut [Sums],
    ends: Ends<'_, T>,
    weights: &[f64],
    k: &[T],
) {
    let size = ends[0].len();
    products_of(
        out,
        ends,
        #[inline(always)]
        |error: &mut [T], range: Range<usize>| {
            add_slopes(error, 1.0, weights, (k, size, range.start))
        },
    );
}

/// Products with the error that `add` adds up, block by block.
#[inline(always)]
fn products_of<T: Element>(
    out: &mut [Sums],
    ends: Ends<'_, T>,
    add: impl Fn(&mut [T], Range<usize>) + Sync,
) {
    let length = ends[0].len() / out.len();
    if length <= BLOCK {
        return vectorised(
            #[inline(always)]
            || short_rows(out, length, ends, &add),
        );
    }
    let task = |start: usize, end: usize| {
        vectorised(
            #[inline(always)]
            || long_row(start..end, ends, &add),
        )
    };
    for (row, out) in out.iter_mut().enumerate() {
        let (start, end) = (row * length, (row + 1) * length);
        *out = match length < 2 * TASK {
            true => task(start, end),
            false => {
                let starts: Vec<usize> = (start..end).step_by(TASK).collect();
                let sums = starts.par_iter().map(|&at| task(at, (at + TASK).min(end)));
                let sums: Vec<Sums> = sums.collect();
                sums.iter().fold([0.0; 5], |all, sums| std::array::from_fn(|i| all[i] + sums[i]))
            }
        };
    }
}

/// Products of rows that share blocks.
#[inline(always)]
fn short_rows<T: Element>(
    out: &mut [Sums],
    length: usize,
    ends: Ends<'_, T>,
    add: &impl Fn(&mut [T], Range<usize>),
) {
    let rows = BLOCK / length;
    for (block, out) in out.chunks_mut(rows).enumerate() {
        let first = block * rows * length;
        let range = first..first + out.len() * length;
        let mut error = [T::zero(); BLOCK];
        let error = &mut error[..range.len()];
        add(error, range.clone());
        let [a, l, y] = ends.map(|x| &x[range.clone()]);
        for (row, out) in out.iter_mut().enumerate() {
            let own = row * length..(row + 1) * length;
            let mut lanes = [[0.0; 8]; 5];
            add_products(&mut lanes, &error[own.clone()], [a, l, y].map(|x| &x[own.clone()]));
            *out = lanes.map(|lanes| lanes.iter().sum());
        }
    }
}

/// Products of one row, or a part of it.
#[inline(always)]
fn long_row<T: Element>(
    range: Range<usize>,
    ends: Ends<'_, T>,
    add: &impl Fn(&mut [T], Range<usize>),
) -> Sums {
    let mut lanes = [[0.0; 8]; 5];
    let mut first = range.start;
    while first < range.end {
        let block = first..(first + BLOCK).min(range.end);
        let mut error = [T::zero(); BLOCK];
        let error = &mut error[..block.len()];
        add(error, block.clone());
        add_products(&mut lanes, error, ends.map(|x| &x[block.clone()]));
        first = block.end;
    }
    lanes.map(|lanes| lanes.iter().sum())
}

/// Adds products of some entries, in eight lanes, which the compiler turns into vectors.
#[inline(always)]
fn add_products<T: Element>(lanes: &mut [[f64; 8]; 5], e: &[T], [a, l, y]: [&[T]; 3]) {
    let (eights, rest) = e.as_chunks::<8>();
    let [(a8, a), (l8, l), (y8, y)] = [a, l, y].map(|x| x.as_chunks::<8>());
    for (((e, a), l), y) in eights.iter().zip(a8).zip(l8).zip(y8) {
        for lane in 0..8 {
            add_product(lanes, lane, [e[lane], a[lane], l[lane], y[lane]]);
        }
    }
    for (lane, (((e, a), l), y)) in rest.iter().zip(a).zip(l).zip(y).enumerate() {
        add_product(lanes, lane, [*e, *a, *l, *y]);
    }
}

#[inline(always)]
fn add_product<T: Element>(lanes: &mut [[f64; 8]; 5], lane: usize, entries: [T; 4]) {
    let [e, a, l, y] = entries.map(|x| x.to_f64());
    let product = a * e;
    lanes[0][lane] += product;
    lanes[1][lane] += product.abs();
    lanes[2][lane] += a * a;
    lanes[3][lane] += l * l;
    lanes[4][lane] += y * y;
}
