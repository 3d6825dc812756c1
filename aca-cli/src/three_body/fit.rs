//! The masses as parameters: loss, gradient, and Adam by the original's recipe.

use aca_adjoint::Ode;
use aca_core::{Method, Solver, Stats, Tolerance};
use aca_dense::{SaveAt, solve};
use aca_models::systems::{ClosedForm, ThreeBody};
use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

use crate::report::Result;

/// Number of observations over the training span.
const OBSERVATIONS: usize = 1000;

/// Base of the weights `0.01^t` of the original's loss: early observations count more, since the
/// orbits are chaotic and late ones say little until the masses are nearly right.
const ADAM_DECAY: f64 = 0.01;

/// Returns a solve of the true orbits at `times`, precise enough to stand for the truth.
pub fn true_orbits(masses: [f64; 3], span: f64, times: &[f64]) -> Result<Tensor> {
    let tolerance = Tolerance { rtol: 1e-12, atol: 1e-12 };
    let solver = Solver::adaptive(aca_tableau::DOP853, tolerance);
    orbits(&solver, masses, span, times)
}

/// Returns the positions at `times` for given masses, `[times, 9]`.
pub fn orbits(solver: &Solver, masses: [f64; 3], span: f64, times: &[f64]) -> Result<Tensor> {
    let y0 = Tensor::new(&ThreeBody::Y0, &Device::Cpu)?;
    let save_at = SaveAt::Times(times.to_vec());
    let sol = solve(solver, &ThreeBody::field(masses)?, &y0, (0.0, span), &save_at)?;
    Ok(sol.ys.narrow(1, 0, 9)?)
}

/// Observed orbits and the masses that are fitted to them.
pub struct Problem {
    masses: Var,
    y0: Tensor,
    observed: Tensor,
    times: Vec<f64>,
    tableau: Method,
    max_steps: usize,
    /// What all solves so far cost.
    pub cost: Cost,
}

/// Field evaluations and steps, summed over solves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Evaluations in forward solves.
    pub nfe_forward: usize,
    /// Evaluations in backward passes.
    pub nfe_backward: usize,
    /// Accepted steps.
    pub accepted: usize,
    /// Rejected steps.
    pub rejected: usize,
}

/// The loss at some masses.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation {
    /// Where.
    pub masses: [f64; 3],
    /// Sum of squared distances weighted by `decay^t`, over the number of observations.
    pub loss: f64,
    /// Plain sum of squared distances over all observations.
    pub sum_sq: f64,
    /// Gradient of `loss` with respect to the masses.
    pub gradient: [f64; 3],
}

/// What an evaluation is of.
#[derive(Clone, Copy, Debug)]
pub struct Objective {
    /// Tolerance of the solve.
    pub tolerance: Tolerance,
    /// Base of the weights; 1 weighs all observations alike.
    pub decay: f64,
}

impl Objective {
    /// The original's loss.
    pub fn adam(tolerance: Tolerance) -> Self {
        Self { tolerance, decay: ADAM_DECAY }
    }
}

impl Problem {
    /// Observes the true orbits over the training span [0, 1].
    pub fn new(masses: [f64; 3], tableau: Method, max_steps: usize) -> Result<Self> {
        let times: Vec<f64> =
            (0..OBSERVATIONS).map(|i| i as f64 / (OBSERVATIONS - 1) as f64).collect();
        Ok(Self {
            masses: Var::new(&masses, &Device::Cpu)?,
            y0: Tensor::new(&ThreeBody::Y0, &Device::Cpu)?,
            observed: true_orbits(ThreeBody::MASSES, 1.0, &times)?,
            times,
            tableau,
            max_steps,
            cost: Cost::default(),
        })
    }

    /// Returns loss and gradient at `masses`, by ACA.
    pub fn evaluate(&mut self, masses: [f64; 3], objective: Objective) -> Result<Evaluation> {
        self.masses.set(&Tensor::new(&masses, &Device::Cpu)?)?;
        let field = ClosedForm::new(ThreeBody, self.masses.clone());
        let solver = Solver {
            max_steps: self.max_steps,
            ..Solver::adaptive(self.tableau.clone(), objective.tolerance)
        };
        let ode = Ode::new(solver, field, vec![self.masses.clone()])?;
        let sol = ode.solve(&self.y0, (0.0, 1.0), &SaveAt::Times(self.times.clone()))?;
        let squares = (sol.ys.narrow(1, 0, 9)? - &self.observed)?.sqr()?;
        let loss = (squares.broadcast_mul(&self.weights(objective.decay)?)?.sum_all()?
            / OBSERVATIONS as f64)?;
        let grads = loss.backward()?;
        let gradient =
            grads.get(&self.masses).map_or_else(|| self.masses.zeros_like(), |g| Ok(g.clone()))?;
        self.spend(sol.stats, sol.nfe_backward());
        Ok(Evaluation {
            masses,
            loss: loss.to_scalar()?,
            sum_sq: squares.sum_all()?.to_scalar()?,
            gradient: three(&gradient)?,
        })
    }

    fn weights(&self, decay: f64) -> Result<Tensor> {
        let weights: Vec<f64> = self.times.iter().map(|&t| decay.powf(t)).collect();
        Ok(Tensor::from_vec(weights, (OBSERVATIONS, 1), &Device::Cpu)?)
    }

    fn spend(&mut self, stats: Stats, nfe_backward: usize) {
        self.cost.nfe_forward += stats.nfe;
        self.cost.nfe_backward += nfe_backward;
        self.cost.accepted += stats.accepted;
        self.cost.rejected += stats.rejected;
    }
}

/// Adam by the original's recipe: betas 0.5, learning rate 0.1 that shrinks by 5 % before each
/// epoch, one step an epoch.
pub struct Adam {
    masses: Var,
    optimiser: AdamW,
}

impl Adam {
    /// Starts at `masses`.
    pub fn new(masses: [f64; 3]) -> Result<Self> {
        let masses = Var::new(&masses, &Device::Cpu)?;
        let params = ParamsAdamW { lr: 0.1, beta1: 0.5, beta2: 0.5, eps: 1e-8, weight_decay: 0.0 };
        let optimiser = AdamW::new(vec![masses.clone()], params)?;
        Ok(Self { masses, optimiser })
    }

    /// The masses now.
    pub fn masses(&self) -> Result<[f64; 3]> {
        three(&self.masses)
    }

    /// Begins an epoch and returns its learning rate.
    pub fn begin_epoch(&mut self) -> f64 {
        let rate = self.optimiser.learning_rate() * 0.95;
        self.optimiser.set_learning_rate(rate);
        rate
    }

    /// Moves the masses against `gradient`.
    pub fn step(&mut self, gradient: [f64; 3]) -> Result<()> {
        let mut grads = candle_core::backprop::GradStore::default();
        grads.insert(&self.masses, Tensor::new(&gradient, &Device::Cpu)?);
        Ok(self.optimiser.step(&grads)?)
    }
}

/// Largest distance of the masses from the true ones.
pub fn max_mass_error(masses: [f64; 3]) -> f64 {
    masses.iter().zip(ThreeBody::MASSES).map(|(m, truth)| (m - truth).abs()).fold(0.0, f64::max)
}

fn three(x: &Tensor) -> Result<[f64; 3]> {
    let x = x.to_vec1::<f64>()?;
    Ok([x[0], x[1], x[2]])
}
