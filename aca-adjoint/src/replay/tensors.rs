//! The replay of a step on tensors.

use aca_core::kernels::{self, RowDifferences, Terms};
use aca_core::{
    Cotangents, Halves, Point, Pullback, Result, StageCotangents, TensorStages, TransposedSystems,
    half_of, products, systems,
};
use candle_core::{DType, Device, Tensor};
use smallvec::SmallVec;

use super::{
    Arriving, Found, Known, Replay, ReplayStep, Replayed, RowTimes, Times, add_outputs, add_whole,
    looked_into, meets, output_weights,
};
use crate::GradientError;
use crate::outputs::RowOutput;
use crate::params::Accumulator;
use crate::report::RowFinding;

/// Replays steps on tensors.
#[derive(Default)]
pub(crate) struct OnTensors {
    /// The step replayed last: slopes at its start, and where each row of it started.
    later: Option<(Tensor, SmallVec<[f64; 1]>)>,
}

/// Cotangents under way back through one step.
struct Pull<'a, 'b, 't> {
    step: &'a ReplayStep<'a>,
    arriving: &'a Arriving<'a>,
    k: &'a [Tensor],
    points: Vec<Option<Point<'b>>>,
    halves: Halves,
    /// `b_i(s_m)`, the weights of one output after the other.
    weights: Vec<f64>,
    theta: &'a mut Accumulator<'t>,
    want_times: bool,
    /// Cotangents of the states of stages, and of each row's stage times.
    mu: Vec<Option<Tensor>>,
    dt: Vec<Option<Vec<f64>>>,
}

impl StageCotangents for Pull<'_, '_, '_> {
    fn pull(&mut self, i: usize, weights: &[f64]) -> Result<()> {
        let Some(lambda) = self.lambda(i, weights)? else { return Ok(()) };
        let Some(point) = self.points[i].take() else { return Ok(()) };
        self.pull_at(i, point, &lambda)
    }

    fn solve(&mut self, i: usize, gamma: f64, weights: &[f64]) -> Result<()> {
        let Some(right) = self.lambda(i, weights)? else { return Ok(()) };
        let Some(point) = self.points[i].take() else { return Ok(()) };
        let (y0, steps) = (self.step.y0, self.step.steps);
        let (now, start) = (|| self.step.method.times(steps, 0.0), || Ok(y0.clone()));
        let blocks = systems(self.step.field, steps, y0.dims(), now, start)?;
        let size = right.elem_count() / blocks;
        let flat = right.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
        let stage = || Ok((point.t.track(), point.y.clone()));
        let (structure, epsilon) =
            (&self.step.field.structure(point.part, size)?, self.step.field.epsilon());
        let systems = TransposedSystems { structure, blocks, steps, gamma, epsilon, point: &stage };
        let solved = systems.solve(&flat, products(&point.pullback, &right))?;
        let lambda = solved.ok_or(GradientError::StageUnsolved)?;
        let lambda = Tensor::from_vec(lambda, right.shape(), &Device::Cpu)?;
        let lambda = lambda.to_dtype(right.dtype())?.to_device(right.device())?;
        self.pull_at(i, point, &lambda)
    }

    fn settle(&mut self, i: usize, weights: &[f64]) -> Result<f64> {
        let Some(lambda) = self.lambda(i, weights)? else { return Ok(0.0) };
        let Some(Point { pullback, .. }) = &self.points[i] else { return Ok(0.0) };
        let mu = self.apply(pullback, &lambda)?.y.detach();
        let moved = match &self.mu[i] {
            Some(before) => kernels::largest_move(self.step.steps.rows(), before, &mu)?,
            None => f64::INFINITY,
        };
        self.mu[i] = Some(mu);
        Ok(moved)
    }
}

/// Cotangents of times, one per row: a scalar stands for rows at one time, which share its cotangent.
fn per_row(dt: &Tensor, rows: usize) -> Result<Vec<f64>> {
    let dt = dt.to_dtype(DType::F64)?.flatten_all()?;
    let dt = match rows {
        1 => dt.sum_all()?.reshape(1)?,
        rows if dt.elem_count() == rows => dt,
        rows => dt.broadcast_as(rows)?,
    };
    Ok(dt.to_vec1::<f64>()?)
}

impl Pull<'_, '_, '_> {
    /// Pulls the whole cotangent of slope `i` back.
    fn pull_at(&mut self, i: usize, point: Point<'_>, lambda: &Tensor) -> Result<()> {
        let Point { t, pullback, .. } = point;
        let cotangents = self.apply(&pullback, lambda)?;
        self.theta.add(&cotangents.theta, pullback.graph().as_ref())?;
        self.mu[i] = Some(cotangents.y.detach());
        if self.want_times && t.hides_from(cotangents.t.as_ref()) {
            return Err(GradientError::TimeRead.into());
        }
        if let Some(dt) = cotangents.t.filter(|_| self.want_times) {
            self.dt[i] = Some(per_row(&dt, self.step.steps.rows())?);
        }
        Ok(())
    }

    fn apply(&self, pullback: &Pullback<'_>, lambda: &Tensor) -> Result<Cotangents> {
        let cotangents = pullback.apply(lambda)?;
        if cotangents.y.shape() != self.arriving.a.shape() {
            let (got, expected) = (cotangents.y.dims(), self.arriving.a.dims());
            return Err(GradientError::CotangentShape {
                got: got.to_vec(),
                expected: expected.to_vec(),
            }
            .into());
        }
        Ok(cotangents)
    }

    /// The cotangent of slope `i`; `None` when nothing depends on it.
    fn lambda(&self, i: usize, weights: &[f64]) -> Result<Option<Tensor>> {
        let (count, Arriving { a, inside, g, .. }) = (self.k.len(), *self.arriving);
        let mut terms = Terms::new();
        if let Some(&b) = self.step.method.b().get(i).filter(|b| **b != 0.0) {
            terms.push((b, a));
        }
        // A scheme of the user's knows nothing of the slopes that only the interpolant needs.
        let extra = self.step.method.column(i).iter().take(count).skip(weights.len());
        for (&w, mu) in weights.iter().chain(extra).zip(&self.mu) {
            terms.extend(mu.as_ref().filter(|_| w != 0.0).map(|mu| (w, mu)));
        }
        let output = |m: usize| self.weights[m * count + i];
        if terms.is_empty() && (0..inside.len()).all(|m| output(m) == 0.0) {
            return Ok(None);
        }
        let (steps, terms) = (self.step.steps, (self.step.steps.h(), &terms[..]));
        let sum = add_outputs((steps, None), terms, (inside, g), |m, h| h * output(m))?;
        Ok(Some(match half_of(&self.halves, i) {
            Some(half) => kernels::keep_half(&sum, half)?,
            None => sum,
        }))
    }

    /// `dL/dh = sum_i b_i a.k_i + sum_i mu_i.(sum_j a_ij k_j) + sum_i c_i dt_i` of every row, and what outputs add since
    /// their fractions `s = (t - t0)/h` move.
    fn times(&self) -> Result<Times> {
        let (method, rows) = (self.step.method, self.step.steps.rows());
        let Arriving { a, inside, before, g } = *self.arriving;
        let dots = |x: &Tensor, weights: &[f64]| -> Result<SmallVec<[f64; 1]>> {
            match weighted(1.0, weights, self.k) {
                none if none.is_empty() => Ok(SmallVec::from_elem(0.0, rows)),
                terms => kernels::dots(rows, x, &kernels::combine(None, &terms)?),
            }
        };
        let h = dots(a, method.b())?;
        let mut times = Times::default();
        times.rows.extend(h.iter().map(|&h| RowTimes { h, t0: 0.0 }));
        for (i, (mu, dt)) in self.mu.iter().zip(&self.dt).enumerate() {
            if let Some(mu) = mu {
                let moved = dots(mu, method.a_row(i))?;
                times.rows.iter_mut().zip(moved).for_each(|(row, moved)| row.h += moved);
            }
            for (row, dt) in times.rows.iter_mut().zip(dt.iter().flatten()) {
                row.h += method.c(i) * dt;
                row.t0 += dt;
            }
        }
        if !inside.is_empty() {
            let interpolant = method.interpolant();
            times.inside = self.outputs(inside, g, |s| interpolant.derivative_weights(s))?;
            let values = self.outputs(inside, g, |s| interpolant.weights(s))?;
            for ((output, slope), value) in inside.iter().zip(&times.inside).zip(values) {
                let row = &mut times.rows[output.row];
                row.h += value - output.s * slope;
                row.t0 -= slope;
            }
        }
        if !before.is_empty() {
            let first = |_: f64| vec![1.0; 1];
            let k = &self.k[..1];
            times.before = self.outputs_of(k, before, g, first)?;
        }
        Ok(times)
    }

    fn outputs(
        &self,
        outputs: &[RowOutput],
        g: &Tensor,
        weights: impl Fn(f64) -> Vec<f64>,
    ) -> Result<Vec<f64>> {
        self.outputs_of(self.k, outputs, g, weights)
    }

    /// `g_m . sum(w_i k_i)` of every output, in its row.
    fn outputs_of(
        &self,
        k: &[Tensor],
        outputs: &[RowOutput],
        g: &Tensor,
        weights: impl Fn(f64) -> Vec<f64>,
    ) -> Result<Vec<f64>> {
        let weights: Vec<f64> = outputs.iter().flat_map(|output| weights(output.s)).collect();
        let (zero, k): (_, Vec<&Tensor>) = (self.step.y0.zeros_like()?, k.iter().collect());
        let sums = match self.step.steps.is_whole() {
            true => kernels::combine_rows(&zero, &weights, &k)?,
            false => {
                let rows: Vec<usize> = outputs.iter().map(|output| output.row).collect();
                kernels::combine_picked(&zero, &rows, &weights, &k)?
            }
        };
        let own: Vec<usize> = outputs.iter().map(|output| output.index).collect();
        Ok(kernels::dots(own.len(), &kernels::pick_rows(g, &own)?, &sums)?.into_vec())
    }
}

/// The weighted slopes whose weight is not zero.
fn weighted<'k>(h: f64, weights: &[f64], k: &'k [Tensor]) -> Terms<'k> {
    let terms = weights.iter().zip(k).filter(|(w, _)| **w != 0.0);
    terms.map(|(w, k)| (h * w, k)).collect()
}

impl Replay for OnTensors {
    fn replay(
        &mut self,
        step: &ReplayStep<'_>,
        arriving: &Arriving<'_>,
        known: &Known<'_>,
        theta: &mut Accumulator<'_>,
    ) -> Result<Replayed> {
        let &ReplayStep { method, steps, .. } = step;
        let count = method.stages_with_weight(!arriving.inside.is_empty());
        let looked_into = looked_into(steps, arriving.inside);
        let mut stages = step.stages().linearizing();
        stages.fill(count.min(method.stages()))?;
        if let Some(looked_into) = &looked_into {
            stages.with_steps(looked_into);
        }
        stages.fill(count)?;
        let (k, points, halves) = stages.into_parts();
        let weights = output_weights(method, arriving.inside, count);
        let want_times = known.want_times;
        let (mu, dt) = (vec![None; count], vec![None; count]);
        let mut pull =
            Pull { step, arriving, k: &k, points, halves, weights, theta, want_times, mu, dt };
        method.pull(&mut pull, count)?;
        let terms: Terms<'_> = pull.mu.iter().flatten().map(|x| (1.0, x)).collect();
        let start = add_whole((steps, arriving.a), &terms, (arriving.inside, arriving.g))?;
        let times = want_times.then(|| pull.times()).transpose()?;
        drop(terms);
        drop(pull);
        let first = k.first().cloned();
        let found = self.find(step, arriving, known, (k, &start))?;
        let starts = (0..steps.rows()).map(|row| steps.ends(row).0).collect();
        self.later = first.map(|k1| (k1, starts));
        Ok(Replayed { start, found, times })
    }

    fn keep(&mut self, rows: &[usize]) -> Result<()> {
        if let Some((k1, t)) = &mut self.later {
            *k1 = kernels::pick_rows(k1, rows)?;
            *t = rows.iter().map(|&row| t[row]).collect();
        }
        Ok(())
    }

    fn finish(&mut self, _theta: &mut Accumulator<'_>) -> Result<()> {
        Ok(())
    }
}

impl OnTensors {
    /// Compares the replayed ends with those that ran, and measures cotangents and error estimates. What is found of
    /// rows that rest means nothing.
    fn find(
        &self,
        step: &ReplayStep<'_>,
        arriving: &Arriving<'_>,
        known: &Known<'_>,
        (k, start): (Vec<Tensor>, &Tensor),
    ) -> Result<Found> {
        let (&ReplayStep { method, steps, y0, .. }, Arriving { a, inside, g, .. }) =
            (step, *arriving);
        let (h, rows) = (steps.h(), steps.rows());
        let off = match known.y1 {
            Some(y1) => {
                let terms = weighted(1.0, method.b(), &k);
                kernels::differences(y1, y0, h, &terms, known.window)?
            }
            None => RowDifferences::from_elem(0.0, rows),
        };
        let k = self.complete(step, known, k)?;
        let arrived = add_whole((steps, a), &[], (inside, g))?;
        let weights = weighted(1.0, method.error_weights(), &k);
        let products = kernels::products(rows, [&arrived, start, y0], &weights)?;
        let found = products.into_iter().zip(off);
        let found = found.map(|(products, off)| RowFinding { products, off, outputs: 0.0 });
        let mut found: Found = found.collect();
        if !inside.is_empty() {
            let own: Vec<usize> = inside.iter().map(|output| output.index).collect();
            let own = kernels::pick_rows(g, &own)?;
            let sizes = kernels::dots(inside.len(), &own, &own)?;
            for (output, size) in inside.iter().zip(sizes) {
                found[output.row].outputs += size.sqrt();
            }
            // What arrived is bounded by the norms of its parts, which cannot cancel.
            let sizes = kernels::dots(rows, a, a)?;
            for (found, a) in found.iter_mut().zip(sizes).filter(|(f, _)| f.outputs > 0.0) {
                found.products.arriving = (a.sqrt() + found.outputs).powi(2);
            }
        }
        Ok(found)
    }

    /// Appends the slopes that the error estimate alone reads, of which that at the end may be known: it is the first of
    /// the step after.
    fn complete(
        &self,
        step: &ReplayStep<'_>,
        known: &Known<'_>,
        k: Vec<Tensor>,
    ) -> Result<Vec<Tensor>> {
        let &ReplayStep { method, field, steps, y0, .. } = step;
        let later = self.later.as_ref().filter(|(_, t)| meets(method, steps, t)).map(|(k1, _)| k1);
        let slope = known.slope.or(later).filter(|_| method.fsal_stage() == Some(k.len()));
        let mut stages = TensorStages::new(method, field, (steps, y0), k);
        if stages.k.len() < method.error_weights().len() {
            stages.k.extend(slope.cloned());
        }
        stages.fill(method.error_weights().len())?;
        Ok(stages.k)
    }
}
