//! MALI: the asynchronous leapfrog, undone step by step.

use std::sync::Arc;

use aca_core::kernels::{self, Term};
use aca_core::{Evaluator, Result, Step, StepSink, Stepper, VectorField};
use candle_core::Tensor;

use crate::Backward;
use crate::checkpoints::Grid;
use crate::outputs::{RowOutput, StepOutputs};
use crate::params::Accumulator;
use crate::states::{check_drift, drift_bound};
use crate::{Gradients, Outputs, Params};

/// The sink that keeps the grid, and of the last step what it takes to walk back.
#[derive(Default)]
pub(crate) struct LeapfrogTape {
    grid: Grid,
    /// State and slope at the end of the last step.
    end: Option<(Tensor, Tensor)>,
}

impl StepSink for LeapfrogTape {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.grid.accept(step)?;
        self.end = step.stages()?.pop().map(|v| (step.y1.clone(), v));
        Ok(())
    }
}

/// Walks back along the grid: each step is inverted exactly, up to rounding, from its end.
///
/// The leapfrog has two solutions, of which one alternates from step to step; where the system grows, the
/// other way round makes that one grow, and of its rounding whole numbers. So the walk must find the
/// start again, or it is refused.
///
/// # Cost
/// Memory: one state, one slope, and the graph of one evaluation. One evaluation and its pullback a
/// step.
///
/// # Source
/// Zhuang et al., "MALI: a memory efficient and reverse accurate integrator for Neural ODEs",
/// ICLR 2021.
pub(crate) struct Mali {
    pub(crate) field: Arc<dyn VectorField>,
    pub(crate) params: Params,
    pub(crate) method: Stepper,
    pub(crate) y0: Tensor,
    pub(crate) trail: LeapfrogTape,
}

/// A state of the leapfrog, or its cotangent: position and slope.
struct Pair {
    z: Tensor,
    v: Tensor,
}

/// What states weigh in the loss, to first order and at most: one number per row.
struct Sizes(Vec<f64>);

impl Pair {
    fn sizes(&self, bar: &Self) -> Result<Sizes> {
        let [z, v] = [(&self.z, &bar.z), (&self.v, &bar.v)].map(|(x, bar)| -> Result<Vec<f64>> {
            let norms = norms(x)?.into_iter().zip(norms(bar)?);
            Ok(norms.map(|(x, bar)| x * bar).collect())
        });
        Ok(Sizes(z?.into_iter().zip(v?).map(|(z, v)| z + v).collect()))
    }
}

/// Euclidean norms of rows; a state of one dimension is one row.
fn norms(x: &Tensor) -> Result<Vec<f64>> {
    let rows = if x.rank() < 2 { 1 } else { x.dims()[0] };
    Ok(kernels::dots(rows, x, x)?.into_iter().map(f64::sqrt).collect())
}

/// Adds cotangents of outputs to `a`.
fn add(a: Tensor, outputs: &[RowOutput], cotangents: &Tensor) -> Result<Tensor> {
    outputs.iter().try_fold(a, |a, output| {
        kernels::combine(Some(&a), &[(1.0, &cotangents.get(output.index)?)])
    })
}

impl Backward for Mali {
    fn pullback(
        &self,
        outputs: &Outputs,
        cotangents: &Tensor,
        _want_times: bool,
    ) -> Result<Gradients> {
        let field = Evaluator::new(self.field.as_ref(), &self.y0)?;
        let statistics = field.snapshot()?;
        let gradients = self.walk(&field, outputs, cotangents);
        field.restore(&statistics)?;
        gradients
    }
}

impl Mali {
    fn walk(
        &self,
        field: &Evaluator<'_>,
        outputs: &Outputs,
        cotangents: &Tensor,
    ) -> Result<Gradients> {
        let zeros = self.y0.zeros_like()?;
        let mut theta = Accumulator::new(&self.params);
        let Some((z, v)) = self.trail.end.clone() else {
            let all = (0..outputs.len()).map(|index| RowOutput { row: 0, s: 0.0, index });
            let y0 = add(zeros, &all.collect::<Vec<_>>(), cotangents)?;
            return Ok(Gradients::new(y0, theta.finish()?, 0));
        };
        let (mut end, mut bar) = (Pair { z, v }, Pair { z: zeros.clone(), v: zeros });
        let mut last = None;
        for (index, ends) in self.trail.grid.0.windows(2).enumerate().rev() {
            let mut step = StepOutputs::default();
            outputs.add_step(&mut step, 0, 0, index);
            bar.z = add(bar.z, &step.ends, cotangents)?;
            if last.is_none() {
                last = Some(end.sizes(&bar)?);
            }
            let inside = (&step.inside[..], cotangents);
            (end, bar) = self.undo(field, (ends[0], ends[1]), (&end, &bar), inside, &mut theta)?;
            bar.z = add(bar.z, &step.starts, cotangents)?;
        }
        // The first slope was f(t0, y0).
        let t0 = self.method.time((self.trail.grid.0[0], self.trail.grid.0[1]), 0.0);
        let (slope, pullback) = field.linearize(t0, &self.y0)?;
        if let Some(last) = last {
            self.check_start(&end, &slope, &bar, &last)?;
        }
        let graph = pullback.graph();
        let start = pullback.apply(&bar.v)?;
        theta.add(&start.theta, graph.as_ref())?;
        let y0 = kernels::combine(Some(&bar.z), &[(1.0, &start.y.detach())])?;
        Ok(Gradients::new(y0, theta.finish()?, field.nfe()))
    }

    /// Refuses a walk that went astray: what it `found` at the start must be the state and slope that the solve
    /// began with. What is off counts by what the loss makes of it, `bar`, beside the largest of the same
    /// product at both ends of the walk: a start near zero says nothing of the size of a driven system. Rows are
    /// judged apart, lest a large one hides another.
    fn check_start(&self, found: &Pair, slope: &Tensor, bar: &Pair, last: &Sizes) -> Result<()> {
        let start = Pair { z: self.y0.clone(), v: slope.clone() };
        let off = |x: &Tensor, y: &Tensor| kernels::combine(Some(x), &[(-1.0, y)]);
        let off = Pair { z: off(&found.z, &start.z)?, v: off(&found.v, slope)? };
        let (off, first) = (off.sizes(bar)?, start.sizes(bar)?);
        let scales = || first.0.iter().zip(&last.0).map(|(a, b)| a.max(*b));
        let bound = drift_bound(self.y0.dtype());
        // Rounding passes from row to row where they are coupled.
        let floor = bound * bound * scales().fold(0.0, f64::max);
        check_drift(bound, off.0.into_iter().zip(scales().map(|scale| scale.max(floor))))
    }

    /// Inverts the step that ends in `end`, whose cotangent is `bar`, and returns both for its start.
    ///
    /// With `u = f(t0 + h/2, z0 + v0 h/2)` the step is `z1 = z0 + h u`, `v1 = 2 u - v0`; outputs
    /// inside are `z0 + h (b_0 v0 + b_1 u + b_2 v1)`.
    fn undo(
        &self,
        field: &Evaluator<'_>,
        (t0, t1): (f64, f64),
        (end, bar): (&Pair, &Pair),
        (inside, cotangents): (&[RowOutput], &Tensor),
        theta: &mut Accumulator<'_>,
    ) -> Result<(Pair, Pair)> {
        let h = t1 - t0;
        let middle = kernels::combine(Some(&end.z), &[(-0.5 * h, &end.v)])?;
        let (u, pullback) = field.linearize(self.method.time((t0, t1), 0.5), &middle)?;
        let v = kernels::combine(None, &[(2.0, &u), (-1.0, &end.v)])?;
        let z = kernels::combine(Some(&middle), &[(-0.5 * h, &v)])?;

        let (mut to_u, mut to_v, mut to_z) = (Vec::new(), Vec::new(), Vec::new());
        for output in inside {
            let b = self.method.interpolant().weights(output.s);
            to_u.push(h * (b[1] + 2.0 * b[2]));
            to_v.push(h * (b[0] - b[2]));
            to_z.push(1.0);
        }
        let block = inside.first().map(|first| cotangents.narrow(0, first.index, inside.len()));
        let block = block.transpose()?;
        let with = |terms: &[Term<'_>], weights: &[f64]| {
            kernels::combine_with_rows(None, terms, block.as_ref().map(|g| (weights, g)))
        };
        let graph = pullback.graph();
        let cotangents = pullback.apply(&with(&[(h, &bar.z), (2.0, &bar.v)], &to_u)?)?;
        theta.add(&cotangents.theta, graph.as_ref())?;
        let mu = &cotangents.y.detach();
        let start = Pair {
            z: with(&[(1.0, &bar.z), (1.0, mu)], &to_z)?,
            v: with(&[(-1.0, &bar.v), (0.5 * h, mu)], &to_v)?,
        };
        Ok((Pair { z, v }, start))
    }
}
