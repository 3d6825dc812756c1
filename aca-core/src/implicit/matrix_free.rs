//! Newton's iteration without matrices.

use super::Preconditioner;
use super::convergence::Progress;
use super::gmres::{gmres, raise_norms};
use super::newton::{NewtonState, StageField, StageSystem};
use crate::Result;

/// The part of the residual of an iteration that GMRES leaves.
const LEFT: f64 = 1e-2;

/// Products with `I - h gamma J` at the states of one iteration, in units of the error that each number may have.
struct Products<'a> {
    field: &'a mut dyn StageField,
    system: &'a StageSystem<'a>,
    preconditioner: Option<&'a dyn Preconditioner>,
    reach: &'a [f64],
    blocks: usize,
    y: &'a [f64],
    /// The field there.
    f: &'a [f64],
    units: &'a [f64],
    /// The size of differences, in these units.
    difference: f64,
    /// How far the matrix was seen to stretch vectors of each system.
    norms: Vec<f64>,
}

impl Products<'_> {
    /// What the preconditioner makes of a vector.
    fn prepare(&mut self, x: &[f64]) -> Result<Vec<f64>> {
        let Some(own) = self.preconditioner else { return Ok(x.to_vec()) };
        let b: Vec<f64> = x.iter().zip(self.units).map(|(x, unit)| x * unit).collect();
        let mut x = self.field.precondition(own, self.y, self.reach, &b)?;
        x.iter_mut().zip(self.units).for_each(|(x, unit)| *x /= unit);
        Ok(x)
    }

    /// Writes the product, by a difference of the field along `x`.
    fn apply(&mut self, x: &[f64], out: &mut [f64]) -> Result<()> {
        let x = self.prepare(x)?;
        let size = x.len() / self.blocks;
        // Each block moves by as much as may be an error, as CVODE does.
        let lengths = x.chunks_exact(size).map(|x| {
            let norm = (x.iter().map(|x| x * x).sum::<f64>() / size as f64).sqrt();
            if norm > 0.0 { self.difference / norm } else { 0.0 }
        });
        let lengths: Vec<f64> = lengths.collect();
        let moved = x.iter().zip(self.y.iter().zip(self.units)).enumerate();
        let moved: Vec<f64> =
            moved.map(|(i, (x, (y, unit)))| y + lengths[i / size] * unit * x).collect();
        self.field.eval(&moved, out)?;
        for (i, out) in out.iter_mut().enumerate() {
            let length = lengths[i / size];
            let slope = if length > 0.0 { (*out - self.f[i]) / length } else { 0.0 };
            *out = x[i] - self.system.reach(i / size) * slope / self.units[i];
        }
        raise_norms(&mut self.norms, &x, out);
        Ok(())
    }
}

impl NewtonState {
    /// Solves all systems with the Jacobians of every iteration's own states, by their products; returns how far these
    /// stretched vectors.
    ///
    /// # Source
    /// Inexact Newton methods with products by differences: Brown and Hindmarsh, 1986; Knoll and Keyes, 2004.
    pub(super) fn solve_by_products(
        &mut self,
        preconditioner: Option<&dyn Preconditioner>,
        system: &StageSystem<'_>,
        k: &mut [f64],
        (field, blocks): (&mut dyn StageField, usize),
    ) -> Result<f64> {
        let (size, base, rule) = (system.base.len() / blocks, system.base, system.rule);
        self.progress.clear();
        self.progress.resize(blocks, Progress { is_active: true, ..Progress::NEW });
        let Self { progress, y, f, .. } = self;
        y.resize(base.len(), 0.0);
        f.resize(base.len(), 0.0);
        let reach: Vec<f64> = system.h.iter().map(|h| h * system.gamma).collect();
        let (mut units, mut stretch) = (vec![0.0; base.len()], 0.0f64);
        for iteration in 0..rule.max_iterations() {
            if !progress.iter().any(|own| own.is_active) {
                break;
            }
            system.states(k, size, y);
            field.eval(y, f)?;
            let mut difference = 1.0;
            for block in 0..blocks {
                let range = block * size..(block + 1) * size;
                let at = (&y[range.clone()], &base[range.clone()]);
                difference = rule.units(at, &mut units[range]);
            }
            let residual = (0..k.len()).map(|i| match progress[i / size].is_active {
                true => (f[i] - k[i]) / units[i],
                false => 0.0,
            });
            let residual: Vec<f64> = residual.collect();
            let mut products = Products {
                field: &mut *field,
                system,
                preconditioner,
                reach: &reach,
                blocks,
                y,
                f,
                units: &units,
                difference,
                norms: vec![1.0; blocks],
            };
            let found = gmres(&residual, blocks, LEFT, |x, out| products.apply(x, out))?;
            let change = products.prepare(&found.x)?;
            let norms = products.norms;
            for (block, own) in progress.iter_mut().enumerate().filter(|(_, own)| own.is_active) {
                let range = block * size..(block + 1) * size;
                let (reach, norm) = (system.reach(block), norms[block]);
                if reach != 0.0 {
                    stretch = stretch.max((norm - 1.0) / reach.abs());
                }
                let change = change[range.clone()].iter().zip(&units[range.clone()]);
                let change = change.map(|(x, unit)| x * unit);
                let noise = y[range.clone()].iter().map(|y| norm * y.abs());
                let at = (&y[range.clone()], &base[range.clone()]);
                let moved = rule.measure(change.clone().map(|x| reach * x), at, noise);
                k[range].iter_mut().zip(change).for_each(|(k, x)| *k += x);
                own.judge(iteration, &moved);
                own.is_active &= found.solved[block];
                own.is_solved &= found.solved[block];
            }
        }
        progress.iter_mut().for_each(|own| own.is_active = false);
        Ok(stretch)
    }
}
