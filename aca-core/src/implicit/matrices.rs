//! The matrices `I - h gamma J` of implicit stages.

use candle_core::{DType, Device, Tensor};

use super::lu;
use crate::kernels::Element;
use crate::{Error, NativeField, NativeTime, Pullback, Result};

/// The largest block that is kept dense: its factors take 32 MB.
const LARGEST: usize = 2000;

/// Jacobians of a field at one state, one block of `size` numbers for each system that the state holds, and the factors of
/// `I - h gamma J`.
#[derive(Clone, Debug, Default)]
pub struct StageMatrices {
    size: usize,
    /// Blocks, row-major, one after the other.
    jacobians: Vec<f64>,
    factors: Vec<f64>,
    pivots: Vec<u32>,
    /// `h gamma` of each block's factors; NaN without any.
    factored: Vec<f64>,
}

impl StageMatrices {
    /// Prepares for `blocks` systems of `size` numbers, whose Jacobians are zero until they are set.
    ///
    /// # Errors
    /// [`Error::JacobianTooLarge`].
    pub(crate) fn new(size: usize, blocks: usize) -> Result<Self> {
        if size > LARGEST {
            return Err(Error::JacobianTooLarge { size, largest: LARGEST });
        }
        let all = size * size * blocks;
        Ok(Self {
            size,
            jacobians: vec![0.0; all],
            factors: vec![0.0; all],
            pivots: vec![0; size * blocks],
            factored: vec![f64::NAN; blocks],
        })
    }

    /// The Jacobians at the point of a pullback, found by pulling back one unit cotangent for each number of a block.
    ///
    /// # Errors
    /// [`Error::JacobianTooLarge`]; whatever the field returns.
    pub fn of(pullback: &Pullback<'_>, y: &Tensor, blocks: usize) -> Result<Self> {
        let mut matrices = Self::new(y.elem_count() / blocks, blocks)?;
        let mut found = vec![0.0; matrices.jacobians.len()];
        jacobians(pullback, y, blocks, &mut found)?;
        matrices.jacobians = found;
        Ok(matrices)
    }

    /// The Jacobians of a field on slices at `(t, y)`.
    ///
    /// # Errors
    /// [`Error::JacobianTooLarge`].
    pub fn on_slices<T: Element>(
        field: &mut (dyn NativeField<T> + '_),
        t: NativeTime<'_>,
        y: &[T],
        blocks: usize,
    ) -> Result<Self> {
        let mut matrices = Self::new(y.len() / blocks, blocks)?;
        jacobians_on_slices(field, t, y, blocks, &mut matrices.jacobians);
        Ok(matrices)
    }

    /// Numbers of a system, and how many systems there are.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.size, self.blocks())
    }

    fn blocks(&self) -> usize {
        self.factored.len()
    }

    /// Sets the Jacobians of the blocks that are `wanted` to those in `found`.
    pub(crate) fn set(&mut self, found: &[f64], wanted: impl Fn(usize) -> bool) {
        let area = self.size * self.size;
        for block in (0..self.blocks()).filter(|block| wanted(*block)) {
            let range = block * area..(block + 1) * area;
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
        let (size, area) = (self.size, self.size * self.size);
        for block in 0..self.blocks() {
            let step = gamma * if h.len() == 1 { h[0] } else { h[block] };
            let mut regular = true;
            if self.factored[block] != step {
                let factors = &mut self.factors[block * area..][..area];
                factors.copy_from_slice(&self.jacobians[block * area..][..area]);
                factors.iter_mut().for_each(|x| *x *= -step);
                factors.iter_mut().step_by(size + 1).for_each(|x| *x += 1.0);
                regular = lu::factor(factors, &mut self.pivots[block * size..][..size]);
                self.factored[block] = if regular { step } else { f64::NAN };
            }
            tell(block, regular);
        }
    }

    /// What the rounding of the states `y` of a block leaves in `h gamma J y`, in units of epsilon.
    pub(crate) fn noise<'a>(
        &'a self,
        block: usize,
        y: &'a [f64],
    ) -> impl Iterator<Item = f64> + 'a {
        let (size, reach) = (self.size, self.factored[block].abs());
        let rows = self.jacobians[block * size * size..][..size * size].chunks_exact(size);
        rows.map(move |row| reach * row.iter().zip(y).map(|(j, y)| (j * y).abs()).sum::<f64>())
    }

    /// The Frobenius norms of the blocks that were factored: rounding leaves `epsilon` times this times the norm of a
    /// solution.
    pub fn norms(&self) -> Vec<f64> {
        let (size, area) = (self.size, self.size * self.size);
        let square = |block: usize| -> f64 {
            let step = self.factored[block];
            let entries = self.jacobians[block * area..][..area].iter().enumerate();
            let entry = |i: usize, j: f64| f64::from(u8::from(i / size == i % size)) - step * j;
            entries.map(|(i, j)| entry(i, *j).powi(2)).sum()
        };
        (0..self.blocks()).map(|block| square(block).sqrt()).collect()
    }

    /// Solves `(I - h gamma J) x = b` in place, for a block.
    pub(crate) fn solve(&self, block: usize, b: &mut [f64]) {
        let area = self.size * self.size;
        let pivots = &self.pivots[block * self.size..][..self.size];
        lu::solve(&self.factors[block * area..][..area], pivots, b);
    }

    /// Solves `(I - h gamma J)^T x = b` for all blocks; `b` is like the state.
    ///
    /// # Errors
    /// Only if a tensor cannot be made.
    pub fn solve_transposed(&self, b: &Tensor) -> Result<Tensor> {
        let mut x = numbers(b)?;
        self.solve_transposed_slice(&mut x);
        like(x, b)
    }

    /// Solves `(I - h gamma J)^T x = b` in place, for all blocks.
    pub fn solve_transposed_slice(&self, x: &mut [f64]) {
        let area = self.size * self.size;
        for (block, x) in x.chunks_exact_mut(self.size).enumerate() {
            let pivots = &self.pivots[block * self.size..][..self.size];
            lu::solve_transposed(&self.factors[block * area..][..area], pivots, x);
        }
    }
}

/// Writes the Jacobians at the point of a pullback: block by block, row-major.
pub(crate) fn jacobians(
    pullback: &Pullback<'_>,
    y: &Tensor,
    blocks: usize,
    out: &mut [f64],
) -> Result<()> {
    let size = y.elem_count() / blocks;
    let mut unit = vec![0.0; y.elem_count()];
    for row in 0..size {
        (0..blocks).for_each(|block| unit[block * size + row] = 1.0);
        let pulled = numbers(&pullback.apply(&like(unit.clone(), y)?)?.y)?;
        (0..blocks).for_each(|block| unit[block * size + row] = 0.0);
        for (block, pulled) in pulled.chunks_exact(size).enumerate() {
            out[(block * size + row) * size..][..size].copy_from_slice(pulled);
        }
    }
    Ok(())
}

/// Writes the Jacobians of a field on slices at `(t, y)`: block by block, row-major.
pub(crate) fn jacobians_on_slices<T: Element>(
    field: &mut (dyn NativeField<T> + '_),
    t: NativeTime<'_>,
    y: &[T],
    blocks: usize,
    out: &mut [f64],
) {
    let size = y.len() / blocks;
    let (mut unit, mut pulled) = (vec![T::zero(); y.len()], vec![T::zero(); y.len()]);
    // Nobody asks for the cotangents of parameters and times.
    let theta = field.variables().iter().map(|var| var.elem_count()).sum();
    let (mut theta, mut times) = (vec![T::zero(); theta], vec![0.0; t.rows()]);
    for row in 0..size {
        (0..blocks).for_each(|block| unit[block * size + row] = T::from_f64(1.0));
        field.pull(t, y, &unit, &mut pulled, &mut theta, &mut times);
        (0..blocks).for_each(|block| unit[block * size + row] = T::zero());
        for (block, pulled) in pulled.chunks_exact(size).enumerate() {
            let own = &mut out[(block * size + row) * size..][..size];
            own.iter_mut().zip(pulled).for_each(|(out, x)| *out = x.to_f64());
        }
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
