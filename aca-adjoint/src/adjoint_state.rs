//! The adjoint state along the trajectory.

use aca_core::{Result, kernels};
use aca_dense::interpolate;
use candle_core::Tensor;

use crate::Params;
use crate::params::Accumulator;
use crate::replay::{Outputs, Replay};

/// How the loss depends on the solution at times between: what changing the state there, or the time
/// at which it is reached, would do.
#[derive(Clone, Debug)]
pub struct AdjointState {
    /// `a(t) = dL/dy(t)` for each time, `[times, ..state]`: of the outputs at `t` and after it.
    pub a: Tensor,
    /// `dL/dt = a(t) . f(t, y(t))` for each time.
    pub dl_dt: Vec<f64>,
}

/// Collects adjoint states while a backward pass goes by.
pub(crate) struct Watch<'a> {
    ts: &'a [f64],
    found: Vec<Option<(Tensor, f64)>>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(ts: &'a [f64]) -> Self {
        Self { ts, found: vec![None; ts.len()] }
    }

    /// Looks at the times of one step, its start left out, given the cotangents of its end and of its
    /// outputs.
    ///
    /// Inside a step the solution restarts from its interpolant: the rest of the step is replayed as
    /// a step of its own.
    pub(crate) fn visit(
        &mut self,
        step: &Replay<'_>,
        a: &Tensor,
        outputs: Option<&Outputs>,
        params: &Params,
    ) -> Result<()> {
        let (t0, t1) = (step.t0, step.t1);
        for (m, &t) in self.ts.iter().enumerate() {
            if t == t1 {
                let y1 = step.method.step(step.field, (t0, t1), step.y0, None)?.1;
                self.note(m, a.clone(), step, t, &y1)?;
            } else if (t - t0) * (t1 - t) > 0.0 {
                let s = (t - t0) / (t1 - t0);
                let (mut k, _) = step.method.step(step.field, (t0, t1), step.y0, None)?;
                step.method.extend_stages(step.field, (t0, t1), step.y0, &mut k)?;
                let y = interpolate(step.method, step.y0, t1 - t0, &k, &[s])?.squeeze(0)?;
                let rest = Replay { t0: t, y0: &y, ..*step };
                let (later, here) = after(outputs, s)?;
                let mut unused = Accumulator::new(params);
                let mut a = rest.pull(a, later.as_ref(), &mut unused, false)?.start;
                if let Some(here) = here {
                    a = kernels::combine(Some(&a), &[(1.0, &here)])?;
                }
                self.note(m, a, step, t, &y)?;
            }
        }
        Ok(())
    }

    /// Looks at the start of the span, given the cotangent of the initial state.
    pub(crate) fn visit_start(&mut self, step: &Replay<'_>, a: &Tensor) -> Result<()> {
        for (m, _) in self.ts.iter().enumerate().filter(|(_, t)| **t == step.t0) {
            self.note(m, a.clone(), step, step.t0, step.y0)?;
        }
        Ok(())
    }

    /// The adjoint states found; zero after the last output.
    pub(crate) fn finish(self, y0: &Tensor) -> Result<AdjointState> {
        let mut rows = Vec::with_capacity(self.ts.len());
        let mut dl_dt = Vec::with_capacity(self.ts.len());
        for found in self.found {
            let (a, slope) =
                found.map_or_else(|| Ok::<_, candle_core::Error>((y0.zeros_like()?, 0.0)), Ok)?;
            rows.push(a);
            dl_dt.push(slope);
        }
        Ok(AdjointState { a: Tensor::stack(&rows, 0)?, dl_dt })
    }

    fn note(&mut self, m: usize, a: Tensor, step: &Replay<'_>, t: f64, y: &Tensor) -> Result<()> {
        let slope = step.field.eval(t, y)?;
        let dl_dt = kernels::dot(&a, &slope)?;
        self.found[m] = Some((a, dl_dt));
        Ok(())
    }
}

/// The outputs after the fraction `s` of a step, placed in the rest of it, and the cotangent at `s`.
fn after(outputs: Option<&Outputs>, s: f64) -> Result<(Option<Outputs>, Option<Tensor>)> {
    let Some(outputs) = outputs else { return Ok((None, None)) };
    let first = outputs.s.partition_point(|&other| other <= s);
    let here = outputs.s.iter().position(|&other| other == s);
    let here = here.map(|m| outputs.cotangents.get(m)).transpose()?;
    let rest: Vec<f64> = outputs.s[first..].iter().map(|&other| (other - s) / (1.0 - s)).collect();
    if rest.is_empty() {
        return Ok((None, here));
    }
    let cotangents = outputs.cotangents.narrow(0, first, rest.len())?;
    Ok((Some(Outputs { s: rest, cotangents }), here))
}
