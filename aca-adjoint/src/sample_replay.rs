//! Pulls cotangents back through one step of every row of a batch, each with times of its own.

use aca_core::kernels::{self, RowTerm, Terms};
use aca_core::{Error, Evaluator, Method, Result, RowSteps};
use candle_core::{DType, Tensor};

use crate::params::Accumulator;
use crate::replay::{Linearized, StepTimes};

/// One accepted step of every row, to be linearized again from the checkpoints.
pub(crate) struct SampleReplay<'a> {
    pub(crate) method: &'a Method,
    pub(crate) field: &'a Evaluator<'a>,
    pub(crate) rows: &'a RowSteps,
    pub(crate) y0: &'a Tensor,
}

/// Cotangents of outputs strictly inside the rows' steps.
pub(crate) struct RowOutputs<'a> {
    pub(crate) outputs: Vec<RowOutput>,
    /// Cotangents of all outputs of the solve, `[outputs, ..state]`.
    pub(crate) cotangents: &'a Tensor,
}

/// An output inside the step of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowOutput {
    pub(crate) row: usize,
    pub(crate) s: f64,
    /// Its row among all cotangents.
    pub(crate) index: usize,
}

/// What a step leaves behind.
pub(crate) struct Pulled {
    /// Cotangents of the states at the steps' starts.
    pub(crate) start: Tensor,
    /// Slopes of the stages.
    pub(crate) k: Vec<Tensor>,
    /// How each row's contribution moves with its times, if that was asked for.
    pub(crate) times: Vec<StepTimes>,
}

/// Slopes, cotangents of the stages' states, and of each row's stage times.
struct Stages {
    k: Vec<Tensor>,
    mu: Vec<Option<Tensor>>,
    dt: Vec<Option<Vec<f64>>>,
}

/// The steps of rows with outputs inside; the others rest in the stages that only the interpolant needs, where
/// their fields may not be finite.
pub(crate) fn looked_into(rows: &RowSteps, outputs: &[RowOutput]) -> RowSteps {
    let mut inside = vec![false; rows.h().len()];
    outputs.iter().for_each(|output| inside[output.row] = true);
    rows.resting_unless(|row| inside[row])
}

impl SampleReplay<'_> {
    /// As [`Replay::pull`](crate::replay::Replay::pull), row by row; rows that rest keep theirs.
    pub(crate) fn pull(
        &self,
        a: &Tensor,
        outputs: &RowOutputs<'_>,
        theta: &mut Accumulator<'_>,
        want_times: bool,
    ) -> Result<Pulled> {
        let h = self.rows.h();
        let (k, points) = self.linearize(&outputs.outputs)?;
        let weights: Vec<Vec<f64>> = self.weights(outputs, k.len());
        let mut stages = Stages { mu: vec![None; k.len()], dt: vec![None; k.len()], k };
        for (i, (t, pullback)) in points.into_iter().enumerate().rev() {
            let Some(lambda) = self.lambda(i, a, h, &stages.mu, (outputs, &weights))? else {
                continue;
            };
            let graph = pullback.graph();
            let cotangents = pullback.apply(&lambda)?;
            theta.add(&cotangents.theta, graph.as_ref())?;
            stages.mu[i] = Some(cotangents.y.detach());
            if want_times && t.hides_from(cotangents.t.as_ref()) {
                return Err(Error::TimeRead);
            }
            if let Some(dt) = cotangents.t.filter(|_| want_times) {
                let dt = dt.to_dtype(DType::F64)?.flatten_all()?;
                // A scalar stands for rows at one time, which share its cotangent.
                let dt = if dt.elem_count() == h.len() { dt } else { dt.broadcast_as(h.len())? };
                stages.dt[i] = Some(dt.to_vec1::<f64>()?);
            }
        }
        let terms: Terms<'_> = stages.mu.iter().flatten().map(|x| (1.0, x)).collect();
        let start = kernels::combine(Some(a), &terms)?;
        let whole =
            |output: &RowOutput| RowTerm { row: output.row, weight: 1.0, source: output.index };
        let whole: Vec<RowTerm> = outputs.outputs.iter().map(whole).collect();
        let start = kernels::add_rows(&start, &whole, outputs.cotangents)?;
        let times = if want_times { self.times(a, outputs, &stages)? } else { Vec::new() };
        Ok(Pulled { start, k: stages.k, times })
    }

    fn linearize(&self, outputs: &[RowOutput]) -> Result<Linearized<'_>> {
        let count = self.method.stages_with_weight(!outputs.is_empty());
        let looked_into = looked_into(self.rows, outputs);
        let (mut k, mut points) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for i in 0..count {
            let own = i < self.method.tableau().stages();
            let rows = if own { self.rows } else { &looked_into };
            let state = self.method.stage_states(i, self.y0, rows.h(), &k)?;
            let t = self.method.stage_times(rows, i)?;
            let (slope, pullback) = self.field.linearize_at(&t, &state)?;
            k.push(slope);
            points.push((t, pullback));
        }
        Ok((k, points))
    }

    /// The interpolant's weights `b_i(s)` for every output.
    fn weights(&self, outputs: &RowOutputs<'_>, stages: usize) -> Vec<Vec<f64>> {
        let weights = |output: &RowOutput| {
            let mut weights = vec![0.0; stages];
            self.method.interpolant().weights_into(output.s, &mut weights);
            weights
        };
        outputs.outputs.iter().map(weights).collect()
    }

    /// Cotangents of stage `i`'s slopes; `None` when nothing depends on it.
    fn lambda(
        &self,
        i: usize,
        a: &Tensor,
        h: &[f64],
        mu: &[Option<Tensor>],
        (outputs, weights): (&RowOutputs<'_>, &[Vec<f64>]),
    ) -> Result<Option<Tensor>> {
        let mut terms = Terms::new();
        if let Some(&b) = self.method.tableau().b().get(i).filter(|b| **b != 0.0) {
            terms.push((b, a));
        }
        for (j, mu) in mu.iter().enumerate().skip(i + 1) {
            let weight = self.method.a_row(j)[i];
            terms.extend(mu.as_ref().filter(|_| weight != 0.0).map(|mu| (weight, mu)));
        }
        let inside = outputs.outputs.iter().zip(weights).filter(|(_, w)| w[i] != 0.0);
        let inside: Vec<RowTerm> = inside
            .map(|(output, w)| {
                let RowOutput { row, index, .. } = *output;
                RowTerm { row, weight: h[row] * w[i], source: index }
            })
            .collect();
        if terms.is_empty() && inside.is_empty() {
            return Ok(None);
        }
        let sum = match terms.is_empty() {
            true => a.zeros_like()?,
            false => kernels::combine_each(None, h, &terms)?,
        };
        kernels::add_rows(&sum, &inside, outputs.cotangents).map(Some)
    }

    /// See [`Replay::times`](crate::replay::Replay): the same sums, row by row.
    fn times(
        &self,
        a: &Tensor,
        outputs: &RowOutputs<'_>,
        stages: &Stages,
    ) -> Result<Vec<StepTimes>> {
        let count = self.rows.h().len();
        let dot = |x: &Tensor, weights: &[f64]| -> Result<Vec<f64>> {
            let terms = weights.iter().copied().zip(&stages.k).filter(|(w, _)| *w != 0.0);
            let terms: Terms<'_> = terms.collect();
            match terms.is_empty() {
                true => Ok(vec![0.0; count]),
                false => kernels::dot_each(x, &kernels::combine(None, &terms)?),
            }
        };
        let mut h = dot(a, self.method.tableau().b())?;
        let mut t0 = vec![0.0; count];
        for (i, (mu, dt)) in stages.mu.iter().zip(&stages.dt).enumerate() {
            if let Some(mu) = mu {
                let moved = dot(mu, self.method.a_row(i))?;
                h.iter_mut().zip(moved).for_each(|(h, moved)| *h += moved);
            }
            for (row, dt) in dt.iter().flatten().enumerate() {
                h[row] += self.method.c(i) * dt;
                t0[row] += dt;
            }
        }
        let mut times: Vec<StepTimes> =
            h.into_iter().zip(t0).map(|(h, t0)| StepTimes { h, t0, outputs: Vec::new() }).collect();
        self.move_outputs(outputs, &stages.k, &mut times)?;
        Ok(times)
    }

    /// What outputs inside the steps add, since their fractions `s = (t - t0)/h` move.
    fn move_outputs(
        &self,
        outputs: &RowOutputs<'_>,
        k: &[Tensor],
        times: &mut [StepTimes],
    ) -> Result<()> {
        if outputs.outputs.is_empty() {
            return Ok(());
        }
        let interpolant = self.method.interpolant();
        let rows: Vec<usize> = outputs.outputs.iter().map(|output| output.row).collect();
        let g = outputs.outputs.iter().map(|output| (outputs.cotangents, output.index));
        let g = kernels::gather_rows(&g.collect::<Vec<_>>())?;
        let (zero, k): (_, Vec<&Tensor>) = (self.y0.zeros_like()?, k.iter().collect());
        let dot = |weights: &dyn Fn(f64) -> Vec<f64>| -> Result<Vec<f64>> {
            let weights: Vec<f64> = outputs.outputs.iter().flat_map(|o| weights(o.s)).collect();
            kernels::dot_each(&g, &kernels::combine_picked(&zero, &rows, &weights, &k)?)
        };
        let slopes = dot(&|s| interpolant.derivative_weights(s))?;
        let values = dot(&|s| interpolant.weights(s))?;
        for ((output, slope), value) in outputs.outputs.iter().zip(slopes).zip(values) {
            let times = &mut times[output.row];
            times.h += value - output.s * slope;
            times.t0 -= slope;
            times.outputs.push(slope);
        }
        Ok(())
    }
}
