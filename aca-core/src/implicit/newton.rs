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

/// How often an iteration gets another Jacobian.
const RETRIES: usize = 3;

/// When an iteration has come near enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewtonRule {
    newton: Newton,
    rtol: f64,
    /// `None` where steps are fixed.
    atol: Option<f64>,
    epsilon: f64,
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
        Ok(Self { newton: solver.newton, rtol, atol, epsilon })
    }

    /// Measures the changes of a block's states `y`, which are `base` and what the stage adds.
    fn measure(&self, change: impl Iterator<Item = f64>, y: &[f64], base: &[f64]) -> Moved {
        let sizes = y.iter().zip(base).map(|(y, base)| y.abs().max(base.abs()));
        let largest = sizes.clone().fold(0.0, f64::max);
        let (mut allowed, mut rounding) = (0.0, 0.0);
        for ((change, y), size) in change.zip(y).zip(sizes) {
            let own = match self.atol {
                Some(atol) => atol + self.rtol * y.abs(),
                None => self.rtol * y.abs().max(1e-3 * largest),
            };
            // No error can be smaller than rounding, and what does not change has none.
            let own = (self.newton.fraction * own).max(4.0 * self.epsilon * size);
            allowed += if change == 0.0 { 0.0 } else { (change / own).powi(2) };
            rounding += change * change;
        }
        let length = y.len() as f64;
        let rounding = (rounding / length).sqrt() / (4.0 * self.epsilon * largest);
        Moved { allowed: (allowed / length).sqrt(), rounding }
    }
}

/// How far an iteration moved a block's states: root mean squares, in units of the error that a stage may keep and of the
/// rounding of its largest number.
struct Moved {
    allowed: f64,
    rounding: f64,
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
    /// The Jacobians at the start of the step, which a retry of it uses again.
    start: Option<Vec<f64>>,
    matrices: Option<StageMatrices>,
    /// The worst rate of convergence of each block with its present Jacobian, and the latest.
    rates: Vec<f64>,
    latest: Vec<f64>,
}

impl NewtonState {
    /// Begins a trial of the step again, with the Jacobians of its start.
    pub(crate) fn begin(&mut self) {
        if let (Some(start), Some(matrices)) = (&self.start, &mut self.matrices) {
            matrices.set(start, &vec![true; self.rates.len()]);
            self.rates.fill(0.0);
        }
    }

    /// Goes on to another step.
    pub(crate) fn forget(&mut self) {
        self.start = None;
    }

    /// Solves `k = f(t, base + h gamma k)` for every system, from the guess in `k`; returns which systems were solved.
    ///
    /// Every system goes its own way: its iteration ends where its own error is small enough. One that does not converge in
    /// time with the Jacobian at the start of the step goes on with that where it has come to, and one that diverges
    /// begins anew with that at the stage.
    pub(crate) fn solve(
        &mut self,
        rule: &NewtonRule,
        (base, h, gamma): (&[f64], &[f64], f64),
        k: &mut [f64],
        (field, blocks): (&mut dyn StageField, usize),
    ) -> Result<Vec<bool>> {
        let size = base.len() / blocks;
        if self.start.is_none() {
            let mut start = vec![0.0; blocks * size * size];
            let mut matrices = StageMatrices::new(size, blocks)?;
            field.jacobians(None, blocks, &mut start)?;
            matrices.set(&start, &vec![true; blocks]);
            (self.start, self.matrices) = (Some(start), Some(matrices));
            (self.rates, self.latest) = (vec![0.0; blocks], vec![f64::INFINITY; blocks]);
        }
        let guess = k.to_vec();
        let mut solved = self.iterate(rule, (base, h, gamma), k, (field, &vec![true; blocks]))?;
        for _ in 0..RETRIES {
            let again: Vec<bool> = solved.iter().map(|solved| !solved).collect();
            if !again.contains(&true) {
                break;
            }
            let mut y = base.to_vec();
            for block in (0..blocks).filter(|block| again[*block]) {
                let own = block * size..(block + 1) * size;
                if self.latest[block] < 1.0 {
                    let reach = gamma * step_of(h, block);
                    y[own.clone()].iter_mut().zip(&k[own]).for_each(|(y, k)| *y += reach * k);
                } else {
                    k[own.clone()].copy_from_slice(&guess[own]);
                }
                (self.rates[block], self.latest[block]) = (0.0, f64::INFINITY);
            }
            let mut found = vec![0.0; blocks * size * size];
            field.jacobians(Some(&y), blocks, &mut found)?;
            if let Some(matrices) = &mut self.matrices {
                matrices.set(&found, &again);
            }
            let retried = self.iterate(rule, (base, h, gamma), k, (field, &again))?;
            solved.iter_mut().zip(retried).for_each(|(solved, retried)| *solved |= retried);
        }
        Ok(solved)
    }

    /// Iterates the systems that are `trying`; returns which of them converged.
    fn iterate(
        &mut self,
        rule: &NewtonRule,
        (base, h, gamma): (&[f64], &[f64], f64),
        k: &mut [f64],
        (field, trying): (&mut dyn StageField, &[bool]),
    ) -> Result<Vec<bool>> {
        let blocks = trying.len();
        let size = base.len() / blocks;
        let Some(matrices) = &mut self.matrices else { return Ok(vec![false; blocks]) };
        let regular = matrices.factor(h, gamma);
        let mut active: Vec<bool> = trying.iter().zip(&regular).map(|(t, r)| *t && *r).collect();
        let (mut converged, mut before) = (vec![false; blocks], vec![f64::NAN; blocks]);
        let (mut y, mut f) = (base.to_vec(), vec![0.0; base.len()]);
        for iteration in 0..rule.newton.max_iterations {
            if !active.contains(&true) {
                break;
            }
            for (i, (y, (base, k))) in y.iter_mut().zip(base.iter().zip(k.iter())).enumerate() {
                *y = base + gamma * step_of(h, i / size) * k;
            }
            field.eval(&y, &mut f)?;
            for block in (0..blocks).filter(|block| active[*block]).collect::<Vec<_>>() {
                let range = block * size..(block + 1) * size;
                let change = &mut f[range.clone()];
                change.iter_mut().zip(&k[range.clone()]).for_each(|(f, k)| *f -= k);
                matrices.solve(block, change);
                k[range.clone()].iter_mut().zip(change.iter()).for_each(|(k, x)| *k += x);
                let reach = gamma * step_of(h, block);
                let change = change.iter().map(|x| reach * x);
                let Moved { allowed: moved, rounding } =
                    rule.measure(change, &y[range.clone()], &base[range]);
                let rate = moved / before[block];
                before[block] = moved;
                // Before two changes tell the rate, what it was at worst with this Jacobian.
                let known = self.rates[block];
                let rate = match iteration {
                    0 if known > 0.0 => known.max(0.01),
                    0 => 0.9,
                    _ => rate,
                };
                let left = rate / (1.0 - rate) * moved;
                if iteration > 0 && rate.is_finite() {
                    self.rates[block] = self.rates[block].max(rate);
                    self.latest[block] = rate;
                }
                // Where rounding rules, changes no longer fall.
                let at_rounding = iteration > 0 && rate > 0.3 && rounding < 4.0;
                converged[block] = (0.0..=1.0).contains(&left) || at_rounding;
                // One step too far at the beginning is forgiven.
                let diverges = !moved.is_finite() || (iteration > 1 && rate >= 2.0);
                active[block] = !converged[block] && !diverges;
            }
        }
        Ok(converged)
    }
}

fn step_of(h: &[f64], block: usize) -> f64 {
    if h.len() == 1 { h[0] } else { h[block] }
}

/// Why the stages of a step were not found.
pub(crate) fn failed(method: &str) -> Error {
    let what = "Newton's iteration for an implicit stage does not converge".to_owned();
    Error::SchemeFailed { method: method.to_owned(), what }
}
