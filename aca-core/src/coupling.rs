//! Whether the rows of a state are systems of their own.

use candle_core::{DType, Tensor};

use crate::kernels::{self, Scale};
use crate::{Evaluator, Result, Time, VectorField};

/// Part of the state by which some rows are moved.
const MOVE: f64 = 0.0625;

/// Returns the first row whose slope at `(t, y)`, of the field's slopes `f`, changes when other rows of
/// `y` are moved; `None` where every row goes its own way.
///
/// Half of the rows are moved, then the other half, and the slopes of those left alone must stay what they
/// were, to rounding. A field that joins rows elsewhere only, or two rows of the same half alone, is not
/// found. Running statistics stay as they are.
///
/// # Cost
/// Two evaluations, which no counter sees.
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
    let found = (0..2).try_fold(None, |found, half| match found {
        None => changed_row(&evaluator, t, (y, f), &halves(rows, half)),
        found => Ok(found),
    });
    evaluator.restore(&statistics)?;
    found
}

/// Which rows are moved: half of them, by the parity of the ones in their number (the sequence of Thue
/// and Morse), so that no distance between rows puts all pairs into the same half.
fn halves(rows: usize, half: u32) -> Vec<bool> {
    (0..rows).map(|row| row.count_ones() % 2 == half).collect()
}

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
    let changed = field.eval_at(t, &there)?;
    let unit = Scale::Uniform { rtol: 0.0, atol: 1.0 };
    let weights = [vec![1.0, -1.0], vec![0.0, 1.0]];
    let norms = kernels::scaled_norms_each(f, f, &unit, &[&changed, f], &weights)?;
    let largest = norms.iter().map(|norms| norms[1]).fold(0.0, f64::max);
    let rounding = largest * if y.dtype() == DType::F32 { 4e-6 } else { 1e-13 };
    let coupled = |row: &usize| !moved[*row] && norms[*row][0] > rounding;
    Ok((0..moved.len()).find(coupled))
}
