//! The naive baseline of the ACA paper: the search for the step size stays in the graph.

use aca_core::{
    Batching, Error, Pid, Progress, Result, SolveEnd, Solver, Stats, Stepping, Tableau, Time,
    TimeSpan, Tolerance, Tolerances, VectorField, large_stack,
};
use aca_dense::{Layout, Placement, SaveAt, Solution};
use candle_core::{DType, Tensor, Var};

use crate::Backward;
use crate::Solve;
use crate::naive::differentiate;
use crate::{GradientError, Gradients, Outputs, Params};

const STRATEGY: &str = "NaiveThroughStepSize";

/// A solve whose times and step sizes are tensors of candle's graph, rejected trials included.
pub(crate) struct ThroughStepSize {
    params: Params,
    y0: Var,
    /// Outputs at the requested times, and the end last.
    rows: Vec<Tensor>,
    nodes: usize,
    /// Dropped after the rows, which hang on them.
    _trials: Trials,
}

/// Time, state and next step size after each trial, so that no drop recurses through more than one.
#[derive(Default)]
struct Trials(Vec<[Tensor; 3]>);

impl Drop for Trials {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

/// Nodes by which the size control and the tensor times of a trial exceed a plain step.
const CONTROL_NODES: usize = 40;

impl Backward for ThroughStepSize {
    fn pullback(
        &self,
        outputs: &Outputs,
        cotangents: &Tensor,
        _want_times: bool,
    ) -> Result<Gradients> {
        let outputs = Tensor::stack(&self.rows[..outputs.len()], 0)?;
        differentiate(&outputs, cotangents, &self.y0, &self.params, self.nodes)
    }
}

/// Solves from `y0` with the integral controller; the first step is the solver's own.
///
/// # Errors
/// [`GradientError::Unsupported`] for what this baseline leaves out: fixed steps, tolerances by entry, other
/// controllers, stops, dense output; [`GradientError::TimeRead`] when the field hides its dependence on time.
pub(crate) fn solve(
    forward: &Solve<'_>,
    nodes_per_step: usize,
) -> Result<(Solution, ThroughStepSize)> {
    let &Solve { solver, params, save_at, .. } = forward;
    let span = forward.spans.resolve(Batching::Shared, forward.y0)?[0];
    let (field, y0) = (forward.field.as_ref(), Var::from_tensor(&forward.y0.detach())?);
    let (tolerance, tableau) = supported(solver, field)?;
    let nodes_per_step = nodes_per_step + CONTROL_NODES;
    let times = match save_at {
        SaveAt::End => vec![span.t1],
        SaveAt::Times(times) => times.clone(),
        _ => {
            return Err(GradientError::Unsupported {
                strategy: STRATEGY,
                what: "outputs but the end and given times",
            }
            .into());
        }
    };
    span.check_times(&times)?;
    let h = solver.initial_step_size(field, &y0, (span.t0, span.t1))?;
    let mut run = Run::new((solver, tableau), field, tolerance, span, &y0, h)?;
    run.solve(times.clone(), nodes_per_step)?;
    let ys = Tensor::stack(&run.rows, 0)?.detach();
    let stats = Stats { nfe: run.nfe, ..run.stats };
    let (layout, end) =
        (Layout::Whole(times.len()), SolveEnd::whole(run.y.detach(), span.t1, stats));
    let sol = Solution::new((times, ys), (run.placements, layout), end);
    run.rows.push(run.y);
    let nodes = (run.trials.0.len() + 1) * nodes_per_step;
    Ok((
        sol,
        ThroughStepSize { params: params.clone(), y0, rows: run.rows, nodes, _trials: run.trials },
    ))
}

fn supported<'a>(solver: &'a Solver, field: &dyn VectorField) -> Result<(Tolerance, &'a Tableau)> {
    let refuse = |what| Err(GradientError::Unsupported { strategy: STRATEGY, what }.into());
    let Stepping::Adaptive(Tolerances::Uniform(tolerance)) = solver.stepping else {
        return refuse("fixed steps or tolerances by entry");
    };
    let Some(tableau) = solver.method.tableau().filter(|tableau| tableau.embedded().len() == 1)
    else {
        return refuse("methods without exactly one embedded solution");
    };
    if solver.controller != (Pid { p: 0.0, i: 1.0, d: 0.0, ..solver.controller }) {
        return refuse("controllers but the integral one");
    }
    if !field.running_statistics().is_empty() {
        return refuse("fields with running statistics");
    }
    if !(solver.step_ts.is_empty() && solver.jump_ts.is_empty()) {
        return refuse("step_ts and jump_ts");
    }
    Ok((tolerance, tableau))
}

/// A traced solve under way.
struct Run<'a> {
    solver: &'a Solver,
    tableau: &'a Tableau,
    field: &'a dyn VectorField,
    tolerance: Tolerance,
    span: TimeSpan,
    /// Time and step size as parts of the graph.
    t: Tensor,
    h: Tensor,
    y: Tensor,
    /// The number behind `t`; the end of the span exactly when it is reached.
    now: f64,
    rows: Vec<Tensor>,
    placements: Vec<Placement>,
    trials: Trials,
    stats: Stats,
    nfe: usize,
}

/// One trial.
struct Trial {
    k: Vec<Tensor>,
    y1: Tensor,
    ratio: Tensor,
}

impl<'a> Run<'a> {
    fn new(
        (solver, tableau): (&'a Solver, &'a Tableau),
        field: &'a dyn VectorField,
        tolerance: Tolerance,
        span: TimeSpan,
        y0: &Tensor,
        h: f64,
    ) -> Result<Self> {
        let (t, h) = (Tensor::new(span.t0, y0.device())?, Tensor::new(h, y0.device())?);
        let (rows, placements, trials, stats) = Default::default();
        let (y, now) = (y0.clone(), span.t0);
        Ok(Self {
            solver,
            tableau,
            field,
            tolerance,
            span,
            t,
            h,
            y,
            now,
            rows,
            placements,
            trials,
            stats,
            nfe: 0,
        })
    }

    fn solve(&mut self, ts: Vec<f64>, nodes_per_step: usize) -> Result<()> {
        let mut pending = ts.into_iter().peekable();
        if pending.next_if(|&t| t == self.span.t0).is_some() {
            self.save(self.y.clone(), 0.0);
        }
        let mut retried = false;
        while self.now != self.span.t1 {
            self.check_budget(nodes_per_step)?;
            let last = (self.span.t1 - self.now).abs() <= 1.01 * number(&self.h)?;
            let h = if last { self.t.affine(-1.0, self.span.t1)?.abs()? } else { self.h.clone() };
            let trial = self.attempt(&h)?;
            let ratio = number(&trial.ratio)?;
            let accepted = ratio <= 1.0;
            self.h = self.next_size(
                &h,
                &trial.ratio,
                if accepted && !retried { f64::INFINITY } else { 1.0 },
            )?;
            self.trials.0.push([self.t.clone(), trial.y1.clone(), self.h.clone()]);
            retried = !accepted;
            if !accepted {
                self.stats.rejected += 1;
                continue;
            }
            let next = (&self.t + (&h * self.span.sign())?)?;
            let end = if last { self.span.t1 } else { number(&next)? };
            while let Some(at) = pending.next_if(|&at| self.span.before(at, end)) {
                let s = (((self.t.affine(-1.0, at)?) * self.span.sign())? / &h)?;
                let row = self.interpolate(&h, &trial.k, &s)?;
                self.save(row, number(&s)?);
            }
            if pending.next_if(|&at| at == end).is_some() {
                self.save(trial.y1.clone(), 1.0);
            }
            let size = number(&h)?;
            self.stats.accept(size);
            (self.t, self.y, self.now) = (next, trial.y1, end);
            self.report(size);
        }
        Ok(())
    }

    /// Tells the user's callback about an accepted step of magnitude `h`.
    fn report(&self, h: f64) {
        let Some(progress) = &self.solver.progress else { return };
        let (TimeSpan { t0, t1 }, Stats { accepted, rejected, .. }) = (self.span, self.stats);
        let fraction = (self.now - t0) / (t1 - t0);
        progress.call(Progress {
            t: self.now,
            h: self.span.sign() * h,
            fraction,
            accepted,
            rejected,
        });
    }

    fn check_budget(&self, nodes_per_step: usize) -> Result<()> {
        let (trials, max_steps) = (self.trials.0.len(), self.solver.max_steps);
        if trials >= max_steps {
            let TimeSpan { t0, t1 } = self.span;
            let Stats { accepted, stability_limited, .. } = self.stats;
            return Err(Error::MaxSteps {
                max_steps,
                t: self.now,
                t0,
                t1,
                accepted,
                stability_limited,
            });
        }
        large_stack::check_walk(trials + 1, nodes_per_step)?;
        let h = number(&self.h)?;
        let h_min = self.solver.h_min.max(16.0 * f64::EPSILON * self.now.abs());
        if h > h_min {
            return Ok(());
        }
        let method = self.tableau.name().to_owned();
        Err(Error::StepSizeUnderflow { h, h_min, t: self.now, method })
    }

    fn save(&mut self, row: Tensor, s: f64) {
        self.rows.push(row);
        self.placements.push(Placement { step: self.stats.accepted, s });
    }

    /// `y + h sum(w_i k_i)` with weights that are numbers.
    fn sum(&self, h: &Tensor, weights: &[f64], k: &[Tensor]) -> Result<Tensor> {
        let terms: aca_core::kernels::Terms<'_> =
            weights.iter().copied().zip(k).filter(|(w, _)| *w != 0.0).collect();
        if terms.is_empty() {
            return Ok(self.y.clone());
        }
        let slope = aca_core::kernels::combine(None, &terms)?;
        let h = (h.to_dtype(slope.dtype())? * self.span.sign())?;
        Ok((&self.y + slope.broadcast_mul(&h)?)?)
    }

    /// The slope of a stage at `t + c h`.
    fn slope(&mut self, h: &Tensor, c: f64, y: &Tensor) -> Result<Tensor> {
        self.nfe += 1;
        let t = (&self.t + (h * (c * self.span.sign()))?)?;
        let t = Time::traced(number(&t)?, t);
        let slope = self.field.trace(&t, y)?;
        if t.was_read() { Err(GradientError::TimeRead.into()) } else { Ok(slope) }
    }

    fn attempt(&mut self, h: &Tensor) -> Result<Trial> {
        let tableau = self.tableau;
        let mut k = Vec::new();
        for i in 0..tableau.stages() {
            let y = self.sum(h, tableau.a_row(i), &k)?;
            let slope = self.slope(h, tableau.c()[i], &y)?;
            k.push(slope);
        }
        let y1 = self.sum(h, tableau.b(), &k)?;
        let Tolerance { rtol, atol } = self.tolerance;
        let scale = self.y.abs()?.maximum(&y1.abs()?)?.affine(rtol, atol)?;
        let errors = tableau.b_error();
        let terms: Vec<_> = errors[0].iter().copied().zip(&k).collect();
        let error = aca_core::kernels::combine(None, &terms)?.div(&scale)?;
        // The root has no derivative at zero, where estimates of exact steps are.
        let norm = error.sqr()?.mean_all()?.affine(1.0, 1e-30)?.sqrt()?.to_dtype(DType::F64)?;
        Ok(Trial { k, y1, ratio: (norm * h)? })
    }

    fn next_size(&self, h: &Tensor, ratio: &Tensor, highest: f64) -> Result<Tensor> {
        let Pid { safety, factor_min, factor_max, .. } = self.solver.controller;
        if !number(ratio)?.is_finite() {
            return Ok((h * factor_min)?);
        }
        let order = self.tableau.error_order().unwrap_or(1) as f64;
        let factor = (ratio.maximum(1e-10)?.powf(-1.0 / order)? * safety)?;
        let factor = factor.maximum(factor_min)?.minimum(highest.min(factor_max))?;
        let next = (h * factor)?;
        let h_max = self.solver.h_max;
        Ok(if h_max.is_finite() { next.minimum(h_max)? } else { next })
    }

    /// `y + h sum(b_i(s) k_i)` with weights that are tensors, since `s` moves with the step size.
    fn interpolate(&mut self, h: &Tensor, k: &[Tensor], s: &Tensor) -> Result<Tensor> {
        let tableau = self.tableau;
        let interpolant = tableau.interpolant();
        let mut k = k.to_vec();
        for extra in 0..interpolant.extra_stages() {
            let y = self.sum(h, interpolant.a_row(extra), &k)?;
            let slope = self.slope(h, interpolant.c(extra), &y)?;
            k.push(slope);
        }
        let mut y = self.y.clone();
        for (stage, k) in k.iter().enumerate() {
            let mut weight = s.zeros_like()?;
            for coefficient in interpolant.coefficients(stage).into_iter().rev() {
                weight = (weight.affine(1.0, coefficient)? * s)?;
            }
            let weight = ((weight * h)? * self.span.sign())?.to_dtype(k.dtype())?;
            y = (y + k.broadcast_mul(&weight)?)?;
        }
        Ok(y)
    }
}

fn number(x: &Tensor) -> Result<f64> {
    Ok(x.to_dtype(DType::F64)?.to_scalar()?)
}
