//! The heart: pulls cotangents back through one accepted step.

use aca_core::kernels::{self, Terms};
use aca_core::{Error, Evaluator, Method, Pullback, Result, Time};
use candle_core::{DType, Tensor};
use smallvec::SmallVec;

use crate::params::Accumulator;

/// One accepted step, to be linearized again from its checkpoint.
pub(crate) struct Replay<'a> {
    pub(crate) method: &'a Method,
    pub(crate) field: &'a Evaluator<'a>,
    pub(crate) t0: f64,
    pub(crate) t1: f64,
    pub(crate) y0: &'a Tensor,
}

/// Cotangents of the outputs strictly inside a step.
pub(crate) struct Outputs {
    /// Fractions of the step.
    pub(crate) s: Vec<f64>,
    /// `[outputs, ..state]`.
    pub(crate) cotangents: Tensor,
}

/// How a step's contribution to the loss moves with its times.
pub(crate) struct StepTimes {
    /// With the step's size, its start held fixed.
    pub(crate) h: f64,
    /// With its start, its size held fixed.
    pub(crate) t0: f64,
    /// With the time of each output inside.
    pub(crate) outputs: Vec<f64>,
}

/// Slopes of stages, with their times and pullbacks.
pub(crate) type Linearized<'a> = (Vec<Tensor>, Vec<(Time, Pullback<'a>)>);

/// What a step leaves behind.
pub(crate) struct Pulled {
    /// Cotangent of the step's start.
    pub(crate) start: Tensor,
    /// Slopes of the stages.
    pub(crate) k: Vec<Tensor>,
    /// How the step moves with its times, if that was asked for.
    pub(crate) times: Option<StepTimes>,
}

/// What the stages of a step left behind: slopes, cotangents of their states and of their times.
struct Stages {
    k: Vec<Tensor>,
    mu: Vec<Option<Tensor>>,
    dt: Vec<f64>,
}

impl Replay<'_> {
    /// Maps the cotangent `a` of the step's end and those of its outputs to the cotangent of its
    /// start; the parameters' cotangents are added to `theta`.
    ///
    /// From the last stage to the first
    /// `lambda_i = h (b_i a + sum_m b_i(s_m) g_m + sum_(j>i) a_ji mu_j)` is pulled back through `f`
    /// to `mu_i`, and `a + sum_m g_m + sum_i mu_i` leaves the step. No gradient flows through `h`.
    ///
    /// # Cost
    /// One linearization and at most one pullback a stage; stages without weight are skipped.
    pub(crate) fn pull(
        &self,
        a: &Tensor,
        outputs: Option<&Outputs>,
        theta: &mut Accumulator<'_>,
        want_times: bool,
    ) -> Result<Pulled> {
        let (k, points) = self.linearize(self.method.stages_with_weight(outputs.is_some()))?;
        let weights = outputs.map(|outputs| self.output_weights(outputs, k.len()));
        let mut stages = Stages { mu: vec![None; k.len()], dt: vec![0.0; k.len()], k };
        for (i, (t, pullback)) in points.into_iter().enumerate().rev() {
            let rows = outputs.zip(weights.as_ref()).map(|(g, w)| (&w[i][..], &g.cotangents));
            let Some(lambda) = self.lambda(i, a, rows, &stages.mu)? else { continue };
            let graph = pullback.graph();
            let cotangents = pullback.apply(&lambda)?;
            if cotangents.y.shape() != a.shape() {
                let (got, expected) = (cotangents.y.dims().to_vec(), a.dims().to_vec());
                return Err(Error::CotangentShape { got, expected });
            }
            theta.add(&cotangents.theta, graph.as_ref())?;
            stages.mu[i] = Some(cotangents.y.detach());
            if want_times && t.hides_from(cotangents.t.as_ref()) {
                return Err(Error::TimeRead);
            }
            if let Some(dt) = cotangents.t.filter(|_| want_times) {
                stages.dt[i] = dt.to_dtype(DType::F64)?.sum_all()?.to_scalar()?;
            }
        }
        let terms: Terms<'_> = stages.mu.iter().flatten().map(|x| (1.0, x)).collect();
        let ones = outputs.map(|outputs| (vec![1.0; outputs.s.len()], &outputs.cotangents));
        let rows = ones.as_ref().map(|(ones, g)| (&ones[..], *g));
        let start = kernels::combine_with_rows(Some(a), &terms, rows)?;
        let times = want_times.then(|| self.times(a, outputs, &stages)).transpose()?;
        Ok(Pulled { start, k: stages.k, times })
    }

    pub(crate) fn h(&self) -> f64 {
        self.t1 - self.t0
    }

    /// Evaluates the stages again, each with its pullback: the same states as in the forward solve,
    /// bit for bit.
    fn linearize(&self, count: usize) -> Result<Linearized<'_>> {
        let (mut k, mut points) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for i in 0..count {
            let state = self.method.stage_state(i, self.y0, self.h(), &k)?;
            let t = Time::new(self.method.stage_time(self.t0, self.t1, i));
            let (slope, pullback) = self.field.linearize_at(&t, &state)?;
            k.push(slope);
            points.push((t, pullback));
        }
        Ok((k, points))
    }

    /// Returns for every stage `i` the weights `h b_i(s_m)` of the outputs' cotangents.
    pub(crate) fn output_weights(&self, outputs: &Outputs, stages: usize) -> Vec<Vec<f64>> {
        let mut weights = vec![Vec::with_capacity(outputs.s.len()); stages];
        let mut row: SmallVec<[f64; 16]> = SmallVec::from_elem(0.0, stages);
        for &s in &outputs.s {
            self.method.interpolant().weights_into(s, &mut row);
            weights.iter_mut().zip(&row).for_each(|(weights, &w)| weights.push(self.h() * w));
        }
        weights
    }

    /// The cotangent of stage `i`'s slope; `None` when nothing depends on it.
    fn lambda(
        &self,
        i: usize,
        a: &Tensor,
        rows: Option<(&[f64], &Tensor)>,
        mu: &[Option<Tensor>],
    ) -> Result<Option<Tensor>> {
        let h = self.h();
        let mut terms = Terms::new();
        if let Some(&b) = self.method.tableau().b().get(i).filter(|b| **b != 0.0) {
            terms.push((h * b, a));
        }
        for (j, mu) in mu.iter().enumerate().skip(i + 1) {
            let weight = self.method.a_row(j)[i];
            terms.extend(mu.as_ref().filter(|_| weight != 0.0).map(|mu| (h * weight, mu)));
        }
        let rows = rows.filter(|(weights, _)| weights.iter().any(|&w| w != 0.0));
        let any = rows.is_some() || !terms.is_empty();
        any.then(|| kernels::combine_with_rows(None, &terms, rows)).transpose()
    }

    /// `dL/dh = sum_i b_i a.k_i + sum_i mu_i.(sum_j a_ij k_j) + sum_i c_i dt_i`, and what the outputs
    /// add since their fraction `s = (t - t0)/h` moves.
    fn times(&self, a: &Tensor, outputs: Option<&Outputs>, stages: &Stages) -> Result<StepTimes> {
        let weighted = |weights: &[f64]| {
            let terms = weights.iter().copied().zip(&stages.k).filter(|(w, _)| *w != 0.0);
            let terms: Terms<'_> = terms.collect();
            if terms.is_empty() { Ok(None) } else { kernels::combine(None, &terms).map(Some) }
        };
        let dot = |x: &Tensor, weights: &[f64]| -> Result<f64> {
            weighted(weights)?.map_or(Ok(0.0), |y| kernels::dot(x, &y))
        };
        let mut h = dot(a, self.method.tableau().b())?;
        let mut t0: f64 = stages.dt.iter().sum();
        for (i, (mu, dt)) in stages.mu.iter().zip(&stages.dt).enumerate() {
            h += self.method.c(i) * dt;
            if let Some(mu) = mu {
                h += dot(mu, self.method.a_row(i))?;
            }
        }
        let mut times = Vec::new();
        for (m, &s) in outputs.iter().flat_map(|outputs| outputs.s.iter().enumerate()) {
            let Some(outputs) = outputs else { break };
            let g = outputs.cotangents.get(m)?;
            let interpolant = self.method.interpolant();
            let slope = dot(&g, &interpolant.derivative_weights(s))?;
            h += dot(&g, &interpolant.weights(s))? - s * slope;
            t0 -= slope;
            times.push(slope);
        }
        Ok(StepTimes { h, t0, outputs: times })
    }
}
