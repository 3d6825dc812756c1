//! Newton's iteration for the slope of an implicit stage.

use std::sync::Arc;

use super::convergence::{NewtonRule, Progress};
use super::{Jacobian, Preconditioner, Sparsity, StageMatrices, Structure};
use crate::Result;

/// How implicit stages are solved.
///
/// # Source
/// The simplified iteration of Hairer and Wanner II, IV.8: its rate of convergence is measured, and it stops where the
/// error that is left, by that rate, is a small part of the tolerance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Newton {
    /// The error that a stage may keep, as a part of the tolerance of a step's error; gradients assume that stages solve
    /// their equations, and are off by as much.
    pub fraction: f64,
    /// Iterations after which a stage is given up, and the step halved.
    pub max_iterations: usize,
}

impl Default for Newton {
    /// A hundredth of the tolerance, in ten iterations.
    fn default() -> Self {
        Self { fraction: 1e-2, max_iterations: 10 }
    }
}

/// How many iterations of Newton's full method, with a Jacobian each, follow where the simplified one fails.
const FULL: usize = 15;

/// The systems of a stage, `k = f(t, base + h gamma k)`.
#[derive(Clone, Copy)]
pub(crate) struct StageSystem<'a> {
    pub(crate) rule: &'a NewtonRule,
    pub(crate) base: &'a [f64],
    /// Step sizes: one, or one of each system.
    pub(crate) h: &'a [f64],
    pub(crate) gamma: f64,
    /// Name of the method.
    pub(crate) method: &'a str,
}

impl StageSystem<'_> {
    /// `h gamma` of a system.
    pub(super) fn reach(&self, block: usize) -> f64 {
        reach(self.h, self.gamma, block)
    }

    /// Writes the states `base + h gamma k` of systems of so many numbers.
    pub(super) fn states(&self, k: &[f64], size: usize, y: &mut [f64]) {
        for (i, (y, (base, k))) in y.iter_mut().zip(self.base.iter().zip(k)).enumerate() {
            *y = base + self.reach(i / size) * k;
        }
    }
}

/// `h gamma` of a system, where all have one step or each its own.
pub(super) fn reach(h: &[f64], gamma: f64, block: usize) -> f64 {
    gamma * if h.len() == 1 { h[0] } else { h[block] }
}

/// The field at the time of a stage, on flat numbers of all systems.
pub(crate) trait StageField {
    /// Writes `f(t, y)`.
    fn eval(&mut self, y: &[f64], f: &mut [f64]) -> Result<()>;

    /// How systems of so many numbers are set up.
    fn structure(&self, size: usize) -> Result<Structure>;

    /// Writes the entries of the Jacobians at the stage's time and the states `y`, or at the start of the step, for so many
    /// systems of so many numbers.
    fn jacobians(
        &mut self,
        y: Option<&[f64]>,
        systems: (usize, usize, Option<&Sparsity>),
        out: &mut [f64],
    ) -> Result<()>;

    /// Lets a preconditioner solve all systems nearly, at the stage's time and the states `y`.
    fn precondition(
        &mut self,
        own: &dyn Preconditioner,
        y: &[f64],
        reach: &[f64],
        b: &[f64],
    ) -> Result<Vec<f64>>;
}

/// What Newton's iterations keep from stage to stage of a step: all of it follows from where the step starts and how long
/// it is, so that a replay finds the same slopes to the last bit.
#[derive(Clone, Debug, Default)]
pub struct NewtonState {
    /// The Jacobians at the start of the step, which a retry of it uses again, and whether they are there.
    start: Vec<f64>,
    is_started: bool,
    matrices: StageMatrices,
    /// How far products stretched vectors where there are no matrices: a bound of the Jacobian's norm from below.
    stretch: Option<f64>,
    /// Where the iteration of each block stands.
    pub(super) progress: Vec<Progress>,
    /// States and slopes of an iteration, and the guess that it began with: buffers that every stage uses again.
    pub(super) y: Vec<f64>,
    pub(super) f: Vec<f64>,
    guess: Vec<f64>,
}

impl NewtonState {
    /// Begins a trial of the step again, with the Jacobians of its start.
    pub(crate) fn begin(&mut self) {
        if self.is_started {
            self.matrices.set(&self.start, |_| true);
            self.progress.fill(Progress::NEW);
        }
    }

    /// The largest sum of magnitudes in a row of the Jacobians at the start of the step, a bound of their spectral radius, or
    /// how far they were seen to stretch vectors; `None` where nothing is known of them.
    pub(crate) fn jacobian_norm(&self) -> Option<f64> {
        match self.is_started {
            true => self.matrices.largest_row(&self.start),
            false => self.stretch,
        }
    }

    /// Goes on to another step.
    pub(crate) fn forget(&mut self) {
        (self.is_started, self.stretch) = (false, None);
    }

    /// Solves `k = f(t, base + h gamma k)` for every system, from the guess in `k`; returns how many systems were solved,
    /// and fills the slopes of the others with NaN.
    ///
    /// Every system goes its own way: its iteration ends where its own error is small enough. One that does not converge in
    /// time with the Jacobian at the start of the step goes on by Newton's full method.
    pub(crate) fn solve(
        &mut self,
        system: &StageSystem<'_>,
        k: &mut [f64],
        (field, blocks): (&mut dyn StageField, usize),
    ) -> Result<usize> {
        let structure = field.structure(system.base.len() / blocks)?;
        self.solve_by(structure, system, k, (field, blocks))
    }

    /// The same, with the systems set up as told.
    fn solve_by(
        &mut self,
        structure: Structure,
        system: &StageSystem<'_>,
        k: &mut [f64],
        (field, blocks): (&mut dyn StageField, usize),
    ) -> Result<usize> {
        let size = system.base.len() / blocks;
        self.guess.clear();
        self.guess.extend_from_slice(k);
        match &structure {
            Structure::Dense => self.solve_by_matrices(None, system, k, (field, blocks))?,
            Structure::Sparse(sparsity) => {
                self.solve_by_matrices(Some(sparsity), system, k, (field, blocks))?;
            }
            Structure::MatrixFree(own) => {
                let stretch = self.solve_by_products(own.as_deref(), system, k, (field, blocks))?;
                self.stretch = Some(self.stretch.map_or(stretch, |known| known.max(stretch)));
            }
        }
        for (own, k) in self.progress.iter().zip(k.chunks_exact_mut(size)) {
            if !own.is_solved {
                k.fill(f64::NAN);
            }
        }
        Ok(self.progress.iter().filter(|own| own.is_solved).count())
    }

    /// Iterates with the Jacobians at the start of the step; those that do not converge with it go on by Newton's full
    /// method.
    fn solve_by_matrices(
        &mut self,
        sparsity: Option<&Arc<Sparsity>>,
        system: &StageSystem<'_>,
        k: &mut [f64],
        (field, blocks): (&mut dyn StageField, usize),
    ) -> Result<()> {
        let size = system.base.len() / blocks;
        let systems = (size, blocks, sparsity.map(Arc::as_ref));
        if !self.is_started {
            if !self.matrices.fits(systems) {
                self.matrices = StageMatrices::new(size, blocks, sparsity.cloned());
                self.start.resize(self.matrices.len(), 0.0);
            }
            // A stage whose rows were solved as one system without matrices leaves another number.
            self.progress.resize(blocks, Progress::NEW);
            field.jacobians(None, systems, &mut self.start)?;
            self.is_started = true;
            self.begin();
        }
        for own in &mut self.progress {
            (own.is_active, own.is_solved) = (true, false);
        }
        self.iterate(system, k, field, (0, system.rule.max_iterations()))?;
        for turn in 0..FULL {
            if self.progress.iter().all(|own| own.is_solved) {
                break;
            }
            self.begin_anew(system, k, (field, systems), turn)?;
            self.iterate(system, k, field, (turn, 1))?;
        }
        Ok(())
    }

    /// Solves all systems as one, from the guess that they began with; returns whether that is solved, as a number. What it
    /// found of the matrices is forgotten.
    pub(crate) fn solve_joined(
        &mut self,
        system: &StageSystem<'_>,
        k: &mut [f64],
        field: &mut dyn StageField,
    ) -> Result<usize> {
        self.forget();
        k.copy_from_slice(&self.guess);
        let structure = Jacobian::Unknown.structure(k.len())?;
        let solved = self.solve_by(structure, system, k, (field, 1));
        self.forget();
        solved
    }

    /// Gives the systems that are not solved the Jacobians where they have come to. In the first turn those that do not
    /// converge go back to the guess.
    fn begin_anew(
        &mut self,
        system: &StageSystem<'_>,
        k: &mut [f64],
        (field, systems): (&mut dyn StageField, (usize, usize, Option<&Sparsity>)),
        turn: usize,
    ) -> Result<()> {
        let (size, ..) = systems;
        for (block, own) in self.progress.iter_mut().enumerate() {
            let range = block * size..(block + 1) * size;
            if !own.is_solved {
                if turn == 0 && own.latest >= 1.0 {
                    k[range.clone()].copy_from_slice(&self.guess[range.clone()]);
                }
                let moved = if turn == 0 { f64::NAN } else { own.moved };
                *own = Progress { is_active: true, moved, ..Progress::NEW };
            }
        }
        system.states(k, size, &mut self.y);
        let mut found = vec![0.0; self.matrices.len()];
        field.jacobians(Some(&self.y), systems, &mut found)?;
        self.matrices.set(&found, |block| self.progress[block].is_active);
        Ok(())
    }

    /// Iterates the systems that are active up to `limit` times, until they are solved or diverge; `turn` iterations went
    /// before these.
    fn iterate(
        &mut self,
        system: &StageSystem<'_>,
        k: &mut [f64],
        field: &mut dyn StageField,
        (turn, limit): (usize, usize),
    ) -> Result<()> {
        let Self { matrices, progress, y, f, .. } = self;
        let &StageSystem { rule, base, h, gamma, .. } = system;
        let size = base.len() / progress.len();
        matrices.factor_where(h, gamma, |block, regular| progress[block].is_active &= regular);
        y.resize(base.len(), 0.0);
        f.resize(base.len(), 0.0);
        for iteration in 0..limit {
            if !progress.iter().any(|own| own.is_active) {
                break;
            }
            system.states(k, size, y);
            field.eval(y, f)?;
            for (block, own) in progress.iter_mut().enumerate().filter(|(_, own)| own.is_active) {
                let range = block * size..(block + 1) * size;
                let (change, k) = (&mut f[range.clone()], &mut k[range.clone()]);
                change.iter_mut().zip(k.iter()).for_each(|(f, k)| *f -= k);
                matrices.solve(block, change);
                k.iter_mut().zip(change.iter()).for_each(|(k, x)| *k += x);
                let reach = system.reach(block);
                let change = change.iter().map(|x| reach * x);
                let at = (&y[range.clone()], &base[range]);
                own.judge(turn + iteration, &rule.measure(change, at, matrices.noise(block, at.0)));
            }
        }
        progress.iter_mut().for_each(|own| own.is_active = false);
        Ok(())
    }
}
