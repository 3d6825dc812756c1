//! The sink that keeps what was asked for.

use aca_core::{Error, Result, Step, StepSink, TimeSpan, kernels};
use candle_core::Tensor;

use crate::interpolate::weights;
use crate::save_at::Request;
use crate::{DenseStep, Placement, SaveAt};

/// Keeps the outputs that a [`SaveAt`] asks for while a solve runs.
pub struct Saver {
    span: TimeSpan,
    y0: Tensor,
    request: Request,
    /// Number of requested times that are already there.
    served: usize,
    ts: Vec<f64>,
    placements: Vec<Placement>,
    /// Tensors `[times, ..state]`, one or more a step.
    rows: Vec<Tensor>,
    dense: Vec<DenseStep>,
}

/// What a [`Saver`] kept.
pub struct Saved {
    /// The times of the outputs, in the span's direction.
    pub ts: Vec<f64>,
    /// Where they lie among the steps.
    pub placements: Vec<Placement>,
    /// The outputs, `[times, ..state]`.
    pub ys: Tensor,
    /// The steps of the dense output, if it was asked for.
    pub dense: Option<Vec<DenseStep>>,
}

impl Saver {
    /// Prepares to keep what `save_at` asks of a solve from `y0` over `span`.
    ///
    /// # Errors
    /// Those of [`TimeSpan::check_times`].
    pub fn new(save_at: &SaveAt, span: TimeSpan, y0: &Tensor) -> Result<Self> {
        let request = save_at.resolve(span)?;
        let (ts, placements, rows, dense) = Default::default();
        let mut saver =
            Self { span, y0: y0.clone(), request, served: 0, ts, placements, rows, dense };
        if saver.request.times.first() == Some(&span.t0) {
            saver.served = 1;
            saver.push(span.t0, Placement { step: 0, s: 0.0 }, &saver.y0.clone())?;
        }
        Ok(saver)
    }

    /// Returns what was kept.
    pub fn finish(self) -> Result<Saved> {
        let ys = match self.rows[..] {
            [] => self.y0.unsqueeze(0)?.narrow(0, 0, 0)?,
            _ => Tensor::cat(&self.rows, 0)?,
        };
        let dense = self.request.dense.then_some(self.dense);
        Ok(Saved { ts: self.ts, placements: self.placements, ys, dense })
    }

    fn push(&mut self, t: f64, placement: Placement, y: &Tensor) -> Result<()> {
        self.ts.push(t);
        self.placements.push(placement);
        self.rows.push(y.unsqueeze(0)?);
        Ok(())
    }

    /// Keeps the requested times strictly inside the step.
    fn save_inside(&mut self, step: &mut Step<'_>) -> Result<()> {
        let pending = &self.request.times[self.served..];
        let count = pending.iter().take_while(|&&t| self.span.before(t, step.t1)).count();
        if count == 0 {
            return Ok(());
        }
        let times = pending[..count].to_vec();
        let placed = times.iter().map(|&t| Placement::new(step.index, (step.t0, step.t1), t));
        let placed: Vec<_> = placed.collect();
        let s: Vec<f64> = placed.iter().map(|placement| placement.s).collect();
        step.complete()?;
        let stages = step.method().interpolant().stages();
        let rows = step.combine_rows(s.len(), &weights(step.method(), step.h(), stages, &s))?;
        check_finite(&rows, &times, step.h())?;
        self.rows.push(rows);
        self.served += count;
        self.ts.extend(times);
        self.placements.extend(placed);
        Ok(())
    }
}

/// Looks at outputs inside a step of size `h`: nothing else judges the slope at its end, which they may need.
/// For a GPU's answer the solve would have to wait.
fn check_finite(rows: &Tensor, times: &[f64], h: f64) -> Result<()> {
    if !rows.device().is_cpu() {
        return Ok(());
    }
    let (what, state) = ("output", rows.elem_count() / times.len());
    match kernels::first_non_finite(rows)? {
        Some(entry) => {
            let (t, index) = (times[entry / state], entry % state);
            Err(Error::NonFinite { what, t, h, index })
        }
        None => Ok(()),
    }
}

impl StepSink for Saver {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.save_inside(step)?;
        let requested = self.request.times.get(self.served) == Some(&step.t1);
        self.served += usize::from(requested);
        if requested || self.request.steps {
            self.push(step.t1, Placement { step: step.index, s: 1.0 }, step.y1)?;
        }
        if self.request.dense {
            step.complete()?;
            let k = step.stages()?;
            let (y0, y1) = (step.y0.clone(), step.y1.clone());
            self.dense.push(DenseStep { t0: step.t0, t1: step.t1, y0, y1, k });
        }
        Ok(())
    }
}
