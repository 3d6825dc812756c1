//! The continuous adjoint, solved backward in time.

use std::sync::Arc;

use aca_core::kernels::Scale;
use aca_core::{
    Cotangents, Evaluator, Result, Solver, Stepping, Time, Tolerance, Tolerances, VectorField,
    kernels,
};
use aca_dense::{Placement, Solution};
use candle_core::{Tensor, bail};

use crate::Backward;
use crate::outputs::StepOutputs;
use crate::params::Accumulator;
use crate::{Gradients, Outputs, Params, TimeGradients};

/// Tolerance of entries that the error norm leaves out; their error over it vanishes.
const IGNORED: f64 = 1e30;

/// Solves `y' = f`, `a' = -a df/dy`, `theta_bar' = -a df/dtheta` backward from the end, with the
/// cotangents of outputs added to `a` where they lie.
///
/// The states on the way back are not the forward ones: errors of the backward solve enter the
/// gradient, and where the dynamics contract forward in time they grow backward.
///
/// # Cost
/// Memory: one state. Evaluations: those of a new solve.
///
/// # Source
/// Chen et al., "Neural Ordinary Differential Equations", NeurIPS 2018, algorithm 1.
pub(crate) struct Reverse {
    pub(crate) field: Arc<dyn VectorField>,
    pub(crate) params: Params,
    /// Solver of the backward pass.
    pub(crate) solver: Solver,
    pub(crate) seminorm: bool,
    pub(crate) y0: Tensor,
    pub(crate) y1: Tensor,
    /// The forward solve, if the state starts anew from its outputs.
    pub(crate) known: Option<Solution>,
    /// Times between the accepted forward steps; empty for a span without length.
    pub(crate) grid: Vec<f64>,
}

impl Backward for Reverse {
    fn pullback(
        &self,
        outputs: &Outputs,
        cotangents: &Tensor,
        want_times: bool,
    ) -> Result<Gradients> {
        // The solve back lets running statistics advance with its own accepted steps, which are none
        // of the training's.
        let field = Evaluator::new(self.field.as_ref(), &self.y0)?;
        let statistics = field.snapshot()?;
        let gradients = self.solve(outputs, cotangents, want_times);
        field.restore(&statistics)?;
        gradients
    }
}

impl Reverse {
    fn solve(&self, outputs: &Outputs, cotangents: &Tensor, want_times: bool) -> Result<Gradients> {
        if self.grid.is_empty() {
            let y0 = match outputs.len() {
                0 => self.y0.zeros_like()?,
                _ => cotangents.sum(0)?,
            };
            let theta = Accumulator::new(&self.params).finish()?;
            let times = want_times.then(|| TimeGradients::zeros(outputs.len()));
            return Ok(Gradients { times, ..Gradients::new(y0, theta, 0) });
        }
        let mut walk =
            BackwardSolve::new(self, want_times.then(|| TimeGradients::zeros(outputs.len())))?;
        for index in (0..self.grid.len() - 1).rev() {
            let (t0, h) = (self.grid[index], self.grid[index + 1] - self.grid[index]);
            let mut step = StepOutputs::default();
            outputs.add_step(&mut step, 0, 0, index);
            for output in step.ends.iter().rev().chain(step.inside.iter().rev()) {
                let (m, s) = (output.index, output.s);
                let t = if s == 1.0 { self.grid[index + 1] } else { t0 + s * h };
                walk.to(t)?;
                walk.restart(m, &outputs.placements()[m])?;
                walk.arrive(m, &cotangents.get(m)?)?;
            }
            for output in &step.starts {
                walk.to(t0)?;
                walk.leave()?;
                walk.arrive(output.index, &cotangents.get(output.index)?)?;
            }
        }
        walk.to(self.grid[0])?;
        walk.leave()?;
        walk.finish()
    }
}

/// The backward solve under way.
struct BackwardSolve<'a> {
    problem: &'a Reverse,
    augmented: Augmented<'a>,
    solver: Solver,
    t: f64,
    /// State, cotangent and parameters' cotangents, flat.
    w: Tensor,
    /// Whether a cotangent has arrived; until then there is nothing to solve for.
    live: bool,
    times: Option<TimeGradients>,
    left: bool,
    nfe: usize,
}

impl<'a> BackwardSolve<'a> {
    fn new(problem: &'a Reverse, times: Option<TimeGradients>) -> Result<Self> {
        let augmented =
            Augmented { field: problem.field.as_ref(), params: &problem.params, like: &problem.y1 };
        let flat = problem.y1.flatten_all()?.contiguous()?;
        let sizes = (flat.elem_count(), augmented.theta_count());
        let zeros = Tensor::zeros(sizes.0 + sizes.1, flat.dtype(), flat.device())?;
        let w = Tensor::cat(&[flat, zeros], 0)?;
        let mut solver = problem.solver.clone();
        if let Stepping::Adaptive(tolerances) = &problem.solver.stepping {
            let scale = tolerances.scale(&problem.y1)?;
            solver.stepping =
                Stepping::Adaptive(spread(&scale, &problem.y1, sizes.1, problem.seminorm)?);
        }
        let t = problem.grid[problem.grid.len() - 1];
        Ok(Self { problem, augmented, solver, t, w, live: false, times, left: false, nfe: 0 })
    }

    /// Solves back to `t`.
    fn to(&mut self, t: f64) -> Result<()> {
        if t == self.t {
            return Ok(());
        }
        if !self.live {
            // Only the state moves; it is needed where the first cotangent arrives.
            let y = self.augmented.state(&self.w)?;
            let solver = self.problem.solver.clone();
            let end = solver.solve(self.problem.field.as_ref(), &y, (self.t, t), &mut ())?;
            self.nfe += end.stats.nfe;
            let rest = self.w.narrow(0, y.elem_count(), self.w.elem_count() - y.elem_count())?;
            self.w = Tensor::cat(&[end.y1.flatten_all()?, rest], 0)?;
        } else {
            let end = self.solver.solve(&self.augmented, &self.w, (self.t, t), &mut ())?;
            self.nfe += end.stats.nfe;
            self.solver.first_step = Some(end.stats.h_largest);
            self.w = end.y1;
        }
        self.t = t;
        Ok(())
    }

    /// Takes the state from output `m`, which lies here, if the forward solve knows it.
    fn restart(&mut self, m: usize, placement: &Placement) -> Result<()> {
        let Some(sol) = &self.problem.known else { return Ok(()) };
        let y = match (sol.placements().get(m), sol.dense()) {
            (Some(known), _) if known == placement => sol.ys.get(m)?,
            (_, Ok(dense)) => dense.at_placements(&[*placement])?,
            _ => return Ok(()),
        };
        let y = y.flatten_all()?;
        let rest = self.w.narrow(0, y.elem_count(), self.w.elem_count() - y.elem_count())?;
        self.w = Tensor::cat(&[y, rest], 0)?;
        Ok(())
    }

    /// Adds the cotangent `g` of output `m`, which lies here.
    fn arrive(&mut self, m: usize, g: &Tensor) -> Result<()> {
        self.live = true;
        let ends = [self.problem.grid[0], self.problem.grid[self.problem.grid.len() - 1]];
        let slope = self.times.is_some().then(|| self.slope()).transpose()?;
        if let (Some(times), Some(slope)) = (&mut self.times, slope) {
            let moved = kernels::dot(g, &slope)?;
            if self.t == ends[1] {
                times.t1 += moved;
            } else if self.t != ends[0] {
                times.ts[m] = moved;
            }
        }
        let n = g.elem_count();
        let a = self.w.narrow(0, n, n)?.add(&g.flatten_all()?)?;
        let (y, theta) =
            (self.w.narrow(0, 0, n)?, self.w.narrow(0, 2 * n, self.w.elem_count() - 2 * n)?);
        self.w = Tensor::cat(&[y, a, theta], 0)?;
        Ok(())
    }

    /// Notes the cotangent of the start of the span, before an output there.
    fn leave(&mut self) -> Result<()> {
        if self.times.is_some() && !self.left {
            let moved = kernels::dot(&self.augmented.cotangent(&self.w)?, &self.slope()?)?;
            if let Some(times) = &mut self.times {
                times.t0 = -moved;
            }
        }
        self.left = true;
        Ok(())
    }

    fn slope(&self) -> Result<Tensor> {
        let y = self.augmented.state(&self.w)?;
        Evaluator::new(self.problem.field.as_ref(), &y)?.eval(self.t, &y)
    }

    fn finish(self) -> Result<Gradients> {
        let n = self.problem.y0.elem_count();
        let y0 = self.augmented.cotangent(&self.w)?;
        let mut theta = Vec::new();
        let mut at = 2 * n;
        for var in self.problem.params.vars() {
            let part = self.w.narrow(0, at, var.elem_count())?;
            theta.push(part.reshape(var.shape())?.to_dtype(var.dtype())?);
            at += var.elem_count();
        }
        Ok(Gradients { times: self.times, ..Gradients::new(y0, theta, self.nfe) })
    }
}

/// The field of the backward solve.
struct Augmented<'a> {
    field: &'a dyn VectorField,
    params: &'a Params,
    /// A tensor of the state's shape.
    like: &'a Tensor,
}

impl Augmented<'_> {
    fn theta_count(&self) -> usize {
        self.params.vars().iter().map(|var| var.elem_count()).sum()
    }

    fn state(&self, w: &Tensor) -> candle_core::Result<Tensor> {
        w.narrow(0, 0, self.like.elem_count())?.reshape(self.like.shape())
    }

    fn cotangent(&self, w: &Tensor) -> candle_core::Result<Tensor> {
        w.narrow(0, self.like.elem_count(), self.like.elem_count())?.reshape(self.like.shape())
    }
}

impl VectorField for Augmented<'_> {
    fn eval(&self, t: &Time, w: &Tensor) -> candle_core::Result<Tensor> {
        let (y, a) = (self.state(w)?, self.cotangent(w)?);
        let (f, pullback) = self.field.linearize(t, &y)?;
        if f.shape() != y.shape() {
            bail!("the field returned shape {:?} for a state of shape {:?}", f.dims(), y.dims());
        }
        let graph = pullback.graph();
        let Cotangents { y: y_bar, theta, .. } = pullback.apply(&a)?;
        if let Some(graph) = graph {
            self.params.check_listed(&theta, &graph)?;
        }
        let mut parts = vec![f.detach().flatten_all()?, y_bar.neg()?.flatten_all()?];
        for var in self.params.vars() {
            let part =
                theta.get(var).map_or_else(|| var.zeros_like(), |part| part.detach().neg())?;
            parts.push(part.flatten_all()?.to_dtype(w.dtype())?);
        }
        Tensor::cat(&parts, 0)
    }
}

/// Tolerances of the augmented state from those of the state.
///
/// The seminorm leaves the parameters' part out: its tolerance is beyond any error, and the others
/// shrink so that the root mean square over all entries is that over the first two parts.
fn spread(scale: &Scale, like: &Tensor, theta: usize, seminorm: bool) -> Result<Tolerances> {
    let n = like.elem_count();
    let (rtol, atol) = match scale {
        &Scale::Uniform { rtol, atol } if !seminorm || theta == 0 => {
            return Ok(Tolerance { rtol, atol }.into());
        }
        &Scale::Uniform { rtol, atol } => {
            let ones = Tensor::ones(n, like.dtype(), like.device())?;
            ((&ones * rtol)?, (&ones * atol)?)
        }
        Scale::Each { rtol, atol } => (rtol.flatten_all()?, atol.flatten_all()?),
    };
    let shrink = if seminorm { (2.0 * n as f64 / (2 * n + theta) as f64).sqrt() } else { 1.0 };
    let join = |part: Tensor, rest: f64| -> Result<Tensor> {
        let part = (part * shrink)?;
        let rest = (Tensor::ones(theta, like.dtype(), like.device())? * rest)?;
        Ok(Tensor::cat(&[&part, &part, &rest], 0)?)
    };
    let smallest = |part: &Tensor| -> Result<f64> {
        Ok(part.min_all()?.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()?)
    };
    let rest = if seminorm { [IGNORED; 2] } else { [smallest(&rtol)?, smallest(&atol)?] };
    Ok(Tolerances::Each { rtol: join(rtol, rest[0])?, atol: join(atol, rest[1])? })
}
