//! Newton's iteration for the slope of an implicit stage.

use super::StageMatrices;
use crate::{Error, Result, Solver, Stepping, Tolerances, kernels};

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

/// When an iteration has come near enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewtonRule {
    newton: Newton,
    rtol: f64,
    /// `None` where steps are fixed.
    atol: Option<f64>,
    epsilon: f64,
    /// The smallest number that keeps all its digits.
    smallest: f64,
}

impl NewtonRule {
    /// The rule of a solver for states whose numbers are rounded by `epsilon`; with fixed steps, which follow no
    /// tolerance, stages are solved to some thousand roundings.
    pub(crate) fn new(solver: &Solver, epsilon: f64) -> Result<Self> {
        let (rtol, atol) = match &solver.stepping {
            Stepping::Adaptive(Tolerances::Uniform(tolerance)) => {
                (tolerance.rtol, Some(tolerance.atol))
            }
            Stepping::Adaptive(Tolerances::Each { rtol, atol }) => {
                (kernels::extremes(rtol)?[0], Some(kernels::extremes(atol)?[0]))
            }
            _ => (256.0 * epsilon / solver.newton.fraction, None),
        };
        let single = epsilon > 1e-10;
        let smallest = if single { f64::from(f32::MIN_POSITIVE) } else { f64::MIN_POSITIVE };
        Ok(Self { newton: solver.newton, rtol, atol, epsilon, smallest })
    }

    /// Measures the changes of a block's states `y`, which are `base` and what the stage adds; `noise` is what rounding of
    /// states leaves in each of them.
    fn measure(
        &self,
        change: impl Iterator<Item = f64>,
        (y, base): (&[f64], &[f64]),
        noise: impl Iterator<Item = f64>,
    ) -> Moved {
        let (mut allowed, mut rounding) = (0.0, 0.0f64);
        for ((change, (y, base)), noise) in change.zip(y.iter().zip(base)).zip(noise) {
            let size = y.abs().max(base.abs());
            let own = match self.atol {
                Some(atol) => atol + self.rtol * y.abs(),
                None => self.rtol * size,
            };
            // No error can be smaller than rounding, and none smaller than the smallest number.
            let floor = 4.0 * self.epsilon * size + self.smallest;
            allowed += (change / (self.newton.fraction * own).max(floor)).powi(2);
            rounding = rounding.max(change.abs() / (floor + 4.0 * self.epsilon * noise));
        }
        Moved { allowed: (allowed / y.len() as f64).sqrt(), rounding }
    }
}

/// How far an iteration moved a block's states: the root mean square in units of the error that a stage may keep, and the
/// largest in units of rounding.
struct Moved {
    allowed: f64,
    rounding: f64,
}

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
    fn reach(&self, block: usize) -> f64 {
        self.gamma * if self.h.len() == 1 { self.h[0] } else { self.h[block] }
    }
}

/// The field at the time of a stage, on flat numbers of all systems.
pub(crate) trait StageField {
    /// Writes `f(t, y)`.
    fn eval(&mut self, y: &[f64], f: &mut [f64]) -> Result<()>;

    /// Writes the Jacobians at the stage's time and the states `y`, or at the start of the step, block by block and
    /// row-major.
    fn jacobians(&mut self, y: Option<&[f64]>, blocks: usize, out: &mut [f64]) -> Result<()>;
}

/// What Newton's iterations keep from stage to stage of a step: all of it follows from where the step starts and how long
/// it is, so that a replay finds the same slopes to the last bit.
#[derive(Clone, Debug, Default)]
pub struct NewtonState {
    /// The Jacobians at the start of the step, which a retry of it uses again, and whether they are there.
    start: Vec<f64>,
    is_started: bool,
    matrices: StageMatrices,
    /// Where the iteration of each block stands.
    progress: Vec<Progress>,
    /// States and slopes of an iteration, and the guess that it began with: buffers that every stage uses again.
    y: Vec<f64>,
    f: Vec<f64>,
    guess: Vec<f64>,
}

/// Where the iteration of a block stands.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// The worst rate of convergence with the present Jacobian, and the latest.
    worst: f64,
    latest: f64,
    /// How far the last iteration moved it.
    moved: f64,
    is_active: bool,
    is_solved: bool,
}

impl Progress {
    const NEW: Self = Self {
        worst: 0.0,
        latest: f64::INFINITY,
        moved: f64::NAN,
        is_active: false,
        is_solved: false,
    };
}

impl NewtonState {
    /// Begins a trial of the step again, with the Jacobians of its start.
    pub(crate) fn begin(&mut self) {
        if self.is_started {
            self.matrices.set(&self.start, |_| true);
            self.progress.fill(Progress::NEW);
        }
    }

    /// The largest sum of magnitudes in a row of the Jacobians at the start of the step, a bound of their spectral radius;
    /// `None` where they are not there.
    pub(crate) fn jacobian_norm(&self) -> Option<f64> {
        let (size, _) = self.matrices.sizes();
        let rows = self.start.chunks_exact(size.max(1)).filter(|_| self.is_started);
        rows.map(|row| row.iter().map(|x| x.abs()).sum::<f64>()).reduce(f64::max)
    }

    /// Goes on to another step.
    pub(crate) fn forget(&mut self) {
        self.is_started = false;
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
        let (rule, size) = (system.rule, system.base.len() / blocks);
        if !self.is_started {
            if self.matrices.sizes() != (size, blocks) {
                self.matrices = StageMatrices::new(size, blocks)?;
                self.start.resize(blocks * size * size, 0.0);
                self.progress.resize(blocks, Progress::NEW);
            }
            field.jacobians(None, blocks, &mut self.start)?;
            self.is_started = true;
            self.begin();
        }
        self.guess.clear();
        self.guess.extend_from_slice(k);
        for own in &mut self.progress {
            (own.is_active, own.is_solved) = (true, false);
        }
        self.iterate(system, k, field, (0, rule.newton.max_iterations))?;
        for turn in 0..FULL {
            if self.progress.iter().all(|own| own.is_solved) {
                break;
            }
            self.begin_anew(system, k, field, turn)?;
            self.iterate(system, k, field, (turn, 1))?;
        }
        for (own, k) in self.progress.iter().zip(k.chunks_exact_mut(size)) {
            if !own.is_solved {
                k.fill(f64::NAN);
            }
        }
        Ok(self.progress.iter().filter(|own| own.is_solved).count())
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
        let solved = match self.solve(system, k, (field, 1)) {
            Err(Error::JacobianTooLarge { .. }) => Ok(0),
            solved => solved,
        };
        self.forget();
        solved
    }

    /// Gives the systems that are not solved the Jacobians where they have come to. In the first turn those that do not
    /// converge go back to the guess.
    fn begin_anew(
        &mut self,
        system: &StageSystem<'_>,
        k: &mut [f64],
        field: &mut dyn StageField,
        turn: usize,
    ) -> Result<()> {
        let blocks = self.progress.len();
        let size = system.base.len() / blocks;
        let mut y = system.base.to_vec();
        for (block, own) in self.progress.iter_mut().enumerate() {
            let range = block * size..(block + 1) * size;
            if !own.is_solved {
                if turn == 0 && own.latest >= 1.0 {
                    k[range.clone()].copy_from_slice(&self.guess[range.clone()]);
                }
                let moved = if turn == 0 { f64::NAN } else { own.moved };
                *own = Progress { is_active: true, moved, ..Progress::NEW };
            }
            let reach = system.reach(block);
            y[range.clone()].iter_mut().zip(&k[range]).for_each(|(y, k)| *y += reach * k);
        }
        let mut found = vec![0.0; blocks * size * size];
        field.jacobians(Some(&y), blocks, &mut found)?;
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
            for (i, (y, (base, k))) in y.iter_mut().zip(base.iter().zip(k.iter())).enumerate() {
                *y = base + system.reach(i / size) * k;
            }
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

impl Progress {
    /// Takes in how far an iteration moved the block.
    fn judge(&mut self, iteration: usize, moved: &Moved) {
        let rate = match iteration {
            // Before two changes tell the rate, what it was at worst with this Jacobian.
            0 if self.worst > 0.0 => self.worst.max(0.01),
            0 => 0.9,
            _ => moved.allowed / self.moved,
        };
        self.moved = moved.allowed;
        if iteration > 0 && rate.is_finite() {
            (self.worst, self.latest) = (self.worst.max(rate), rate);
        }
        let left = rate / (1.0 - rate) * moved.allowed;
        // Where rounding rules, changes no longer fall.
        let at_rounding = iteration > 0 && rate > 0.3 && moved.rounding < 4.0;
        self.is_solved = (0.0..=1.0).contains(&left) || at_rounding;
        // Steps too far at the beginning are forgiven.
        let diverges = !moved.allowed.is_finite() || (iteration > 3 && rate >= 2.0);
        self.is_active = !self.is_solved && !diverges;
    }
}
