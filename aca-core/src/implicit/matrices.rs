//! The matrices `I - h gamma J` of implicit stages.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::band::Band;
use super::newton::reach;
use super::{Sparsity, lu};
use crate::kernels::Element;
use crate::{NativeField, NativeTime, Pullback, Result};

/// Jacobians of a field at one state, one block of `size` numbers for each system that the state holds, and the factors of
/// `I - h gamma J`.
#[derive(Clone, Debug, Default)]
pub struct StageMatrices {
    size: usize,
    /// Where entries may differ from zero; `None` for anywhere.
    sparsity: Option<Arc<Sparsity>>,
    /// The entries of blocks, row by row, one block after the other.
    jacobians: Vec<f64>,
    factors: Vec<f64>,
    pivots: Vec<u32>,
    /// `h gamma` of each block's factors; NaN without any.
    factored: Vec<f64>,
}

/// Numbers that the entries of a block take.
fn entries(size: usize, sparsity: Option<&Sparsity>) -> usize {
    sparsity.map_or(size * size, Sparsity::entries)
}

impl StageMatrices {
    /// Prepares for `blocks` systems of `size` numbers, whose Jacobians are zero until they are set.
    pub(crate) fn new(size: usize, blocks: usize, sparsity: Option<Arc<Sparsity>>) -> Self {
        let entries = entries(size, sparsity.as_deref());
        let factors = sparsity.as_deref().map_or(size * size, |sparsity| band(sparsity).len());
        Self {
            size,
            sparsity,
            jacobians: vec![0.0; entries * blocks],
            factors: vec![0.0; factors * blocks],
            pivots: vec![0; size * blocks],
            factored: vec![f64::NAN; blocks],
        }
    }

    /// Where the entries of a block lie in `jacobians`.
    fn entries(&self, block: usize) -> Range<usize> {
        let entries = entries(self.size, self.sparsity.as_deref());
        block * entries..(block + 1) * entries
    }

    /// Writes the Jacobians that products with a transpose show: block by block, row by row.
    ///
    /// # Errors
    /// Whatever `pull` returns, which maps a cotangent of all slopes to that of the states.
    pub(crate) fn find(
        (size, blocks, sparsity): (usize, usize, Option<&Sparsity>),
        mut pull: impl FnMut(&[f64], &mut [f64]) -> Result<()>,
        out: &mut [f64],
    ) -> Result<()> {
        let (mut unit, mut pulled) = (vec![0.0; size * blocks], vec![0.0; size * blocks]);
        let entries = entries(size, sparsity);
        let mut probe = |rows: &[usize]| -> Result<()> {
            let set = |unit: &mut [f64], x: f64| {
                unit.chunks_exact_mut(size).for_each(|unit| rows.iter().for_each(|i| unit[*i] = x));
            };
            set(&mut unit, 1.0);
            pull(&unit, &mut pulled)?;
            set(&mut unit, 0.0);
            let outs = out.chunks_exact_mut(entries).zip(pulled.chunks_exact(size));
            for (out, pulled) in outs {
                for &row in rows {
                    match sparsity.map(|sparsity| sparsity.row(row)) {
                        None => out[row * size..][..size].copy_from_slice(pulled),
                        Some((range, columns)) => {
                            let own = out[range].iter_mut().zip(columns);
                            own.for_each(|(out, column)| *out = pulled[*column]);
                        }
                    }
                }
            }
            Ok(())
        };
        match sparsity {
            None => (0..size).try_for_each(|row| probe(&[row])),
            Some(sparsity) => sparsity.colours().iter().try_for_each(|rows| probe(rows)),
        }
    }

    /// Whether it is made for such systems.
    pub(crate) fn fits(&self, (size, blocks, sparsity): (usize, usize, Option<&Sparsity>)) -> bool {
        (self.size, self.blocks(), self.sparsity.as_deref()) == (size, blocks, sparsity)
    }

    /// Number of entries of all blocks.
    pub(crate) fn len(&self) -> usize {
        self.jacobians.len()
    }

    /// Sets the Jacobians to those that products with their transposes show.
    pub(crate) fn fill(
        &mut self,
        pull: impl FnMut(&[f64], &mut [f64]) -> Result<()>,
    ) -> Result<()> {
        let systems = (self.size, self.blocks(), self.sparsity.as_deref());
        Self::find(systems, pull, &mut self.jacobians)
    }

    fn blocks(&self) -> usize {
        self.factored.len()
    }

    /// Sets the Jacobians of the blocks that are `wanted` to those in `found`.
    pub(crate) fn set(&mut self, found: &[f64], wanted: impl Fn(usize) -> bool) {
        for block in (0..self.blocks()).filter(|block| wanted(*block)) {
            let range = self.entries(block);
            self.jacobians[range.clone()].copy_from_slice(&found[range]);
            self.factored[block] = f64::NAN;
        }
    }

    /// Factors `I - h gamma J`, each block with its own `h` or all with one; returns whether all blocks are regular.
    pub fn factor(&mut self, h: &[f64], gamma: f64) -> bool {
        let mut all = true;
        self.factor_where(h, gamma, |_, regular| all &= regular);
        all
    }

    /// The same, telling of each block whether it is regular.
    pub(crate) fn factor_where(
        &mut self,
        h: &[f64],
        gamma: f64,
        mut tell: impl FnMut(usize, bool),
    ) {
        for block in 0..self.blocks() {
            let step = reach(h, gamma, block);
            let mut regular = true;
            if self.factored[block] != step {
                regular = self.factor_block(block, step);
                self.factored[block] = if regular { step } else { f64::NAN };
            }
            tell(block, regular);
        }
    }

    /// Factors `I - step J` of a block; `false` if it is singular or not finite.
    fn factor_block(&mut self, block: usize, step: f64) -> bool {
        let (size, entries) = (self.size, self.entries(block));
        let (range, jacobian) = (self.factors(block), &self.jacobians[entries]);
        let (factors, pivots) =
            (&mut self.factors[range], &mut self.pivots[block * size..][..size]);
        match self.sparsity.as_deref() {
            None => {
                factors.iter_mut().zip(jacobian).for_each(|(x, j)| *x = -step * j);
                factors.iter_mut().step_by(size + 1).for_each(|x| *x += 1.0);
                lu::factor(factors, pivots)
            }
            Some(sparsity) => {
                let (band, places) = (band(sparsity), sparsity.places());
                factors.fill(0.0);
                for (row, &place) in places.iter().enumerate() {
                    let (range, columns) = sparsity.row(row);
                    for (column, j) in columns.iter().zip(&jacobian[range]) {
                        factors[band.at(place, places[*column])] = -step * j;
                    }
                    factors[band.at(place, place)] += 1.0;
                }
                band.factor(factors, pivots)
            }
        }
    }

    /// Where the factors of a block lie.
    fn factors(&self, block: usize) -> Range<usize> {
        let len = self.factors.len() / self.blocks();
        block * len..(block + 1) * len
    }

    /// For each row of a block, the sum of its entries, each changed by `of` with its row and column.
    fn row_sums<'a>(
        &'a self,
        jacobian: &'a [f64],
        of: impl Fn(usize, usize, f64) -> f64 + Copy + 'a,
    ) -> impl Iterator<Item = f64> + 'a {
        (0..self.size).map(move |row| match self.sparsity.as_deref() {
            None => {
                let own = jacobian[row * self.size..][..self.size].iter().enumerate();
                own.map(|(column, j)| of(row, column, *j)).sum::<f64>()
            }
            Some(sparsity) => {
                let (range, columns) = sparsity.row(row);
                let own = columns.iter().zip(&jacobian[range]);
                own.map(|(column, j)| of(row, *column, *j)).sum()
            }
        })
    }

    /// The largest sum of magnitudes in a row of Jacobians laid out as those kept here: a bound of their spectral radius.
    pub(crate) fn largest_row(&self, jacobians: &[f64]) -> Option<f64> {
        let blocks = jacobians.chunks_exact(self.entries(0).len());
        blocks.flat_map(|own| self.row_sums(own, |_, _, j| j.abs())).reduce(f64::max)
    }

    /// What the rounding of the states `y` of a block leaves in `h gamma J y`, in units of epsilon.
    pub(crate) fn noise<'a>(
        &'a self,
        block: usize,
        y: &'a [f64],
    ) -> impl Iterator<Item = f64> + 'a {
        let reach = self.factored[block].abs();
        let jacobian = &self.jacobians[self.entries(block)];
        self.row_sums(jacobian, |_, column, j| (j * y[column]).abs()).map(move |sum| reach * sum)
    }

    /// The Frobenius norms of the blocks that were factored: rounding leaves `epsilon` times this times the norm of a
    /// solution.
    pub fn norms(&self) -> Vec<f64> {
        let square = |block: usize| -> f64 {
            let (step, jacobian) = (self.factored[block], &self.jacobians[self.entries(block)]);
            let entry = move |row: usize, column: usize, j: f64| {
                (f64::from(u8::from(row == column)) - step * j).powi(2)
            };
            self.row_sums(jacobian, entry).sum()
        };
        (0..self.blocks()).map(|block| square(block).sqrt()).collect()
    }

    /// Solves `(I - h gamma J) x = b` in place, for a block.
    pub(crate) fn solve(&self, block: usize, b: &mut [f64]) {
        let (factors, pivots) = self.block(block);
        match self.sparsity.as_deref() {
            None => lu::solve(factors, pivots, b),
            Some(sparsity) => in_band(sparsity, b, |band, b| band.solve(factors, pivots, b)),
        }
    }

    /// Solves `(I - h gamma J)^T x = b` in place, for all blocks.
    pub(crate) fn solve_transposed(&self, x: &mut [f64]) {
        for (block, x) in x.chunks_exact_mut(self.size).enumerate() {
            let (factors, pivots) = self.block(block);
            match self.sparsity.as_deref() {
                None => lu::solve_transposed(factors, pivots, x),
                Some(sparsity) => {
                    in_band(sparsity, x, |band, x| band.solve_transposed(factors, pivots, x));
                }
            }
        }
    }

    /// The factors and pivots of a block.
    fn block(&self, block: usize) -> (&[f64], &[u32]) {
        (&self.factors[self.factors(block)], &self.pivots[block * self.size..][..self.size])
    }
}

/// The band of a matrix.
fn band(sparsity: &Sparsity) -> Band {
    let (lower, upper) = sparsity.bandwidths();
    Band { size: sparsity.size(), lower, upper }
}

/// Solves a system in the order of its band.
fn in_band(sparsity: &Sparsity, b: &mut [f64], solve: impl FnOnce(Band, &mut [f64])) {
    let mut ordered = vec![0.0; b.len()];
    let places = sparsity.places();
    places.iter().zip(b.iter()).for_each(|(place, b)| ordered[*place] = *b);
    solve(band(sparsity), &mut ordered);
    places.iter().zip(b.iter_mut()).for_each(|(place, b)| *b = ordered[*place]);
}

/// Products with the transposed Jacobian of a field at the point of a pullback.
pub fn products<'a>(
    pullback: &'a Pullback<'_>,
    y: &'a Tensor,
) -> impl FnMut(&[f64], &mut [f64]) -> Result<()> + 'a {
    |x, out| {
        out.copy_from_slice(&numbers(&pullback.apply(&like(x.to_vec(), y)?)?.y)?);
        Ok(())
    }
}

/// Products with the transposed Jacobian of a field on slices at `(t, y)`. Cotangents of parameters and times are dropped.
pub fn products_on_slices<'a, T: Element>(
    field: &'a mut (dyn NativeField<T> + '_),
    t: NativeTime<'a>,
    y: &'a [T],
) -> impl FnMut(&[f64], &mut [f64]) -> Result<()> + 'a {
    let theta = field.variables().iter().map(|var| var.elem_count()).sum();
    let (mut theta, mut times) = (vec![T::zero(); theta], vec![0.0; t.rows()]);
    let (mut lambda, mut pulled) = (vec![T::zero(); y.len()], vec![T::zero(); y.len()]);
    move |x, out| {
        lambda.iter_mut().zip(x).for_each(|(own, x)| *own = T::from_f64(*x));
        field.pull(t, y, &lambda, &mut pulled, &mut theta, &mut times);
        out.iter_mut().zip(&pulled).for_each(|(out, x)| *out = x.to_f64());
        Ok(())
    }
}

/// The numbers of a tensor.
pub(crate) fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}

/// A tensor of these numbers, like another.
pub(crate) fn like(numbers: Vec<f64>, x: &Tensor) -> Result<Tensor> {
    let tensor = Tensor::from_vec(numbers, x.shape(), &Device::Cpu)?;
    Ok(tensor.to_dtype(x.dtype())?.to_device(x.device())?)
}
