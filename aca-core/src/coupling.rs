//! Whether the rows of a state are systems of their own.

use candle_core::{DType, Tensor};

use crate::kernels::{self, Scale};
use crate::{Evaluator, Result, Time, VectorField};

/// Part of the state by which some rows are moved.
const MOVE: f64 = 0.0625;

/// Returns the first row whose slope at `(t, y)`, of the field's slopes `f`, changes when other rows of
/// `y` are moved; `None` where every row goes its own way.
///
/// Half of the rows are moved, then the other half, by two ways to halve them, and the slopes of those left alone must
/// stay what they were, to rounding. A field that joins rows elsewhere only, or rows that both ways put into the same
/// half, is not found; one that refuses the moved state is taken at its word. Running statistics stay as they are.
///
/// # Cost
/// Four evaluations, which no counter sees; two for two rows.
pub(crate) fn first_coupled_row(
    field: &dyn VectorField,
    t: &Time,
    y: &Tensor,
    f: &Tensor,
) -> Result<Option<usize>> {
    let rows = y.dims().first().copied().unwrap_or(1);
    if rows < 2 {
        return Ok(None);
    }
    let evaluator = Evaluator::new(field, y)?;
    let statistics = evaluator.snapshot()?;
    let ways = if rows == 2 { &WAYS[..1] } else { &WAYS[..] };
    let halves = ways.iter().flat_map(|way| [0, 1].map(|half| (way, half)));
    let found = halves.into_iter().try_fold(None, |found, (way, half)| match found {
        None => {
            let moved: Vec<bool> = (0..rows).map(|row| way(row) == half).collect();
            changed_row(&evaluator, t, (y, f), &moved)
        }
        found => Ok(found),
    });
    evaluator.restore(&statistics)?;
    found
}

/// Ways to halve rows: by the parity of the ones in their number (the sequence of Thue and Morse), so that no distance
/// between rows puts all pairs into the same half, and by the parity of the number, which parts rows from their mirror
/// images.
const WAYS: [fn(usize) -> usize; 2] = [|row| row.count_ones() as usize % 2, |row| row % 2];

/// The first row that was not `moved` and whose slope changed all the same.
fn changed_row(
    field: &Evaluator<'_>,
    t: &Time,
    (y, f): (&Tensor, &Tensor),
    moved: &[bool],
) -> Result<Option<usize>> {
    let size = (kernels::dot(y, y)? / y.elem_count() as f64).sqrt();
    let shift = if size > 0.0 { MOVE * size } else { MOVE };
    let there = kernels::choose_rows(moved, &y.affine(1.0 + MOVE, shift)?, y)?;
    // The state is one that no solve asked for: a field may refuse it.
    let Ok(changed) = field.eval_at(t, &there) else { return Ok(None) };
    let unit = Scale::Uniform { rtol: 0.0, atol: 1.0 };
    let weights = [vec![1.0, -1.0], vec![0.0, 1.0]];
    let norms = kernels::scaled_norms_each(f, f, &unit, &[&changed, f], &weights)?;
    let largest = norms.iter().map(|norms| norms[1]).fold(0.0, f64::max);
    let rounding = largest * if y.dtype() == DType::F32 { 4e-6 } else { 1e-13 };
    let coupled = |row: &usize| !moved[*row] && norms[*row][0] > rounding;
    Ok((0..moved.len()).find(coupled))
}
