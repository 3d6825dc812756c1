//! Solve solves of samples that step on their own.

use std::sync::Arc;

use aca_core::{Error, Evaluator, Method, Result, Stepper, TimeSpan};
use aca_dense::{Placement, SampleSolution, SaveSamples};
use candle_core::Var;

use crate::Backward;
use crate::aca::Samples;
use crate::checkpoints::Checkpoints;
use crate::forward::Solve;
use crate::outputs::Outputs;
use crate::sample_naive::TracedReplay;
use crate::{Gradient, Tape};

impl Solve<'_> {
    /// Solves every sample on its own, with what `gradient` needs to keep.
    pub(crate) fn solve_samples(
        &self,
        gradient: &Gradient,
        spans: &[TimeSpan],
        save_at: &SaveSamples,
    ) -> Result<(SampleSolution, Tape)> {
        let leapfrog = matches!(self.solver.method, Method::Leapfrog);
        if leapfrog
            || matches!(
                gradient,
                Gradient::NaiveThroughStepSize | Gradient::Backsolve(_) | Gradient::Custom(_)
            )
        {
            let (what, remedy) = ("this gradient strategy", "use Aca, AcaBudget or Naive");
            return Err(Error::PerSampleUnsupported { what, remedy });
        }
        let (solver, field) = (self.held(false), self.field.as_ref());
        let mut checkpoints = self.checkpoints(gradient)?;
        let sol =
            SampleSolution::record(&solver, field, self.y0, spans, save_at, &mut checkpoints)?;
        let counts = sol.outputs_and_ends().counts().to_vec();
        let placements = with_ends(&sol, &checkpoints);
        let failed = sol.statuses().iter().map(|status| !status.is_finished()).collect();
        let samples = Samples { counts, failed };
        let backward = match gradient {
            Gradient::Naive => {
                let outputs = Outputs::new(&samples.counts, &placements);
                self.traced(&checkpoints, &outputs, &samples.failed)?
            }
            _ => {
                let limited = sol.stats.iter().map(|stats| stats.stability_limited).sum();
                self.aca((sol.y1.clone(), None), checkpoints, Some(samples), limited)?
            }
        };
        let state = self.y0.dims()[1..].to_vec();
        Ok((sol, Tape::new(backward, gradient.clone(), placements, state, self.params)?))
    }

    fn traced(
        &self,
        checkpoints: &Checkpoints,
        outputs: &Outputs<'_>,
        failed: &[bool],
    ) -> Result<Arc<dyn Backward>> {
        let method = &Stepper::new(self.solver, self.y0.dtype())?;
        let y0 = Var::from_tensor(&self.y0.detach())?;
        let plain = Evaluator::new(self.field.as_ref(), &y0)?;
        let statistics = plain.snapshot()?;
        let course = TracedReplay {
            method,
            field: Evaluator::new(self.field.as_ref(), &y0)?.tracing(true),
            checkpoints,
            outputs,
            failed,
            nodes_per_step: self.nodes_per_step()?,
        };
        let traced = course.trace(y0.clone(), self.params.clone());
        plain.restore(&statistics)?;
        Ok(Arc::new(traced?))
    }
}

/// The placements of all outputs, each sample's end after its others.
fn with_ends(sol: &SampleSolution, checkpoints: &Checkpoints) -> Vec<Placement> {
    let mut all = Vec::new();
    for (sample, own) in sol.placements().iter().enumerate() {
        all.extend_from_slice(own);
        all.push(match checkpoints.steps(sample) {
            0 => Placement { step: 0, s: 0.0 },
            n => Placement { step: n - 1, s: 1.0 },
        });
    }
    all
}
