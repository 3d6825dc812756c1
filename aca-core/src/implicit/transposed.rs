//! Transposed linear systems of implicit stages, on the way back.

use candle_core::Tensor;

use super::gmres::{gmres, norm, raise_norms};
use super::{Jacobian, Preconditioner, StageMatrices, StagePoint, Structure, like, numbers};
use crate::{Result, Steps, Time};

/// The part of its right side that GMRES leaves of a system before it is refined.
const LEFT: f64 = 1e-7;

/// Transposed linear systems `(I - h gamma J)^T lambda = right` of a stage.
#[derive(Clone, Copy)]
pub struct TransposedSystems<'a> {
    /// How they are set up.
    pub structure: &'a Structure,
    /// How many systems the state holds.
    pub blocks: usize,
    /// The step.
    pub steps: &'a Steps,
    /// The stage's own weight.
    pub gamma: f64,
    /// Relative rounding of the field's numbers.
    pub epsilon: f64,
    /// Returns time and state of the stage, for a preconditioner.
    pub point: &'a dyn Fn() -> Result<(Time, Tensor)>,
}

/// What solves a system nearly.
enum Nearly<'a> {
    Matrices(StageMatrices),
    Products(Option<(&'a dyn Preconditioner, Time, Tensor)>),
}

impl TransposedSystems<'_> {
    /// Solves them, given products with the transposed Jacobians: by matrices or GMRES, refined by the products until they
    /// say that nothing is left; `None` if they never do. Where rows of a whole state seemed apart and are not solved, they may be
    /// joined here, and are solved as one.
    ///
    /// # Errors
    /// Whatever products and preconditioner return.
    pub fn solve(
        &self,
        right: &[f64],
        mut product: impl FnMut(&[f64], &mut [f64]) -> Result<()>,
    ) -> Result<Option<Vec<f64>>> {
        let solved = self.solve_blocks(right, &mut product)?;
        if solved.is_some() || !self.steps.is_whole() || self.blocks == 1 {
            return Ok(solved);
        }
        let structure = &Jacobian::Unknown.structure(right.len())?;
        TransposedSystems { structure, blocks: 1, ..*self }.solve_blocks(right, &mut product)
    }

    /// The same of all blocks apart.
    fn solve_blocks(
        &self,
        right: &[f64],
        mut product: impl FnMut(&[f64], &mut [f64]) -> Result<()>,
    ) -> Result<Option<Vec<f64>>> {
        let size = right.len() / self.blocks;
        let (nearly, mut norms_of_matrices) = match self.nearly(size, &mut product)? {
            Some(nearly) => nearly,
            None => return Ok(None),
        };
        let norms = |x: &[f64]| -> Vec<f64> { x.chunks_exact(size).map(norm).collect() };
        let mut lambda =
            self.solve_nearly(&nearly, right, (&mut product, &mut norms_of_matrices))?;
        let mut refinement = Refinement::new(self.epsilon, norms(right), norms_of_matrices);
        let mut left = vec![0.0; right.len()];
        loop {
            self.apply(&lambda, &mut left, &mut product)?;
            left.iter_mut().zip(right).for_each(|(left, right)| *left = right - *left);
            match refinement.judge(&norms(&left), &norms(&lambda)) {
                Some(solved) => return Ok(solved.then_some(lambda)),
                None => {
                    let more = self.solve_nearly(
                        &nearly,
                        &left,
                        (&mut product, &mut refinement.matrices),
                    )?;
                    lambda.iter_mut().zip(more).for_each(|(x, more)| *x += more);
                }
            }
        }
    }

    /// What solves systems nearly, with the norms of the matrices; `None` where a matrix is singular.
    fn nearly(
        &self,
        size: usize,
        product: &mut impl FnMut(&[f64], &mut [f64]) -> Result<()>,
    ) -> Result<Option<(Nearly<'_>, Vec<f64>)>> {
        let sparsity = match self.structure {
            Structure::MatrixFree(preconditioner) => {
                let preconditioner = match preconditioner {
                    Some(own) => {
                        let (t, y) = (self.point)()?;
                        Some((&**own, t, y))
                    }
                    None => None,
                };
                let norms = self.norms(size, product)?;
                return Ok(Some((Nearly::Products(preconditioner), norms)));
            }
            Structure::Dense => None,
            Structure::Sparse(sparsity) => Some(sparsity.clone()),
        };
        let mut matrices = StageMatrices::new(size, self.blocks, sparsity);
        matrices.fill(product)?;
        let regular = matrices.factor(self.steps.h(), self.gamma);
        let norms = matrices.norms();
        Ok(regular.then_some((Nearly::Matrices(matrices), norms)))
    }

    /// The norms of matrices that are not there, as one product of a vector of signs in no order shows them.
    fn norms(
        &self,
        size: usize,
        product: &mut impl FnMut(&[f64], &mut [f64]) -> Result<()>,
    ) -> Result<Vec<f64>> {
        let sign =
            |i: usize| if (i as f64 * 1.7).sin() * (i as f64).cos() > 0.0 { 1.0 } else { -1.0 };
        let x: Vec<f64> = (0..size * self.blocks).map(|i| sign(i % size)).collect();
        let (mut out, mut norms) = (vec![0.0; x.len()], vec![1.0; self.blocks]);
        self.apply(&x, &mut out, product)?;
        raise_norms(&mut norms, &x, &out);
        Ok(norms)
    }

    /// Solves the systems nearly; bounds the norms of matrices that are not there from below.
    fn solve_nearly(
        &self,
        nearly: &Nearly<'_>,
        right: &[f64],
        (product, norms): (&mut impl FnMut(&[f64], &mut [f64]) -> Result<()>, &mut [f64]),
    ) -> Result<Vec<f64>> {
        let mut x = right.to_vec();
        let preconditioner = match nearly {
            Nearly::Matrices(matrices) => {
                matrices.solve_transposed(&mut x);
                return Ok(x);
            }
            Nearly::Products(preconditioner) => preconditioner,
        };
        let reach: Vec<f64> = self.steps.h().iter().map(|h| h * self.gamma).collect();
        let prepare = |x: &[f64]| -> Result<Option<Vec<f64>>> {
            let Some((own, t, y)) = preconditioner else { return Ok(None) };
            let at = StagePoint { t, y, reach: &reach };
            Ok(Some(numbers(&own.apply(&at, &like(x.to_vec(), y)?, true)?)?))
        };
        let found = gmres(right, self.blocks, LEFT, |x, out| {
            let prepared = prepare(x)?;
            let x = prepared.as_deref().unwrap_or(x);
            self.apply(x, out, &mut *product)?;
            raise_norms(norms, x, out);
            Ok(())
        })?;
        Ok(prepare(&found.x)?.unwrap_or(found.x))
    }

    /// Writes `(I - h gamma J)^T x`.
    fn apply(
        &self,
        x: &[f64],
        out: &mut [f64],
        product: &mut impl FnMut(&[f64], &mut [f64]) -> Result<()>,
    ) -> Result<()> {
        product(x, out)?;
        let length = x.len() / self.steps.rows();
        for (i, (out, x)) in out.iter_mut().zip(x).enumerate() {
            *out = x - self.gamma * self.steps.h()[i / length] * *out;
        }
        Ok(())
    }
}

/// Judges what is left of transposed linear systems `M^T lambda = right` while their solutions are refined: of each block
/// by its own size, lest a large one hides what is wrong in another.
struct Refinement {
    epsilon: f64,
    right: Vec<f64>,
    /// Norms of the matrices.
    matrices: Vec<f64>,
    before: f64,
    turns: usize,
}

impl Refinement {
    fn new(epsilon: f64, right: Vec<f64>, matrices: Vec<f64>) -> Self {
        Self { epsilon, right, matrices, before: f64::INFINITY, turns: 0 }
    }

    /// Whether the systems are solved, given the norms of what is left and of the solution in each block; `None` where
    /// refining helps. One refinement at least makes small entries right beside large ones. Blocks whose right side is not
    /// finite have no solution to wait for.
    ///
    /// # Source
    /// Skeel, "Iterative refinement implies numerical stability for Gaussian elimination", 1980.
    fn judge(&mut self, left: &[f64], solution: &[f64]) -> Option<bool> {
        // Below the smallest number nothing can be refined.
        let smallest = if self.epsilon > 1e-10 { f64::from(f32::from_bits(1)) } else { 5e-324 };
        let mut worst = 0.0f64;
        let blocks = self.right.iter().zip(&self.matrices).zip(left.iter().zip(solution));
        for ((right, matrix), (left, solution)) in
            blocks.filter(|((right, _), _)| right.is_finite())
        {
            let relative = self.epsilon * (right + matrix * solution);
            let own = left / (1e3 * (relative + smallest * (1.0 + matrix)));
            worst = if own.is_nan() { f64::NAN } else { worst.max(own) };
            if worst.is_nan() {
                break;
            }
        }
        let (enough, falls) = (worst <= 1.0, worst < 0.5 * self.before);
        self.before = worst;
        self.turns += 1;
        match (enough, falls) {
            _ if worst == 0.0 => Some(true),
            (true, _) if self.turns > 1 => Some(true),
            (_, true) if self.turns < 20 => None,
            (enough, _) => Some(enough),
        }
    }
}
