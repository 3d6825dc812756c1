//! Forward solves of samples with clocks of their own.

use std::sync::Arc;

use aca_core::{Error, Evaluator, Method, Result, TimeSpan};
use aca_dense::{Placement, SampleSolution, SaveSamples};
use candle_core::Var;

use crate::backward::Backward;
use crate::forward::Forward;
use crate::sample_aca::SampleAca;
use crate::sample_naive::Course;
use crate::sample_outputs::SampleOutputs;
use crate::sample_tape::SampleCheckpoints;
use crate::{Gradient, Tape};

impl Forward<'_> {
    /// Solves every sample by its own clock, with what `gradient` needs to keep.
    pub(crate) fn solve_samples(
        &self,
        gradient: &Gradient,
        spans: &[TimeSpan],
        save_at: &SaveSamples,
    ) -> Result<(SampleSolution, Tape)> {
        if !matches!(gradient, Gradient::Aca | Gradient::Naive) {
            let (what, remedy) = ("this gradient strategy", "use Aca or Naive");
            return Err(Error::OwnClocks { what, remedy });
        }
        let solver = self.held(false);
        let mut checkpoints = SampleCheckpoints::new(spans.len());
        let field = self.field.as_ref();
        let sol =
            SampleSolution::record(&solver, field, self.y0, spans, save_at, &mut checkpoints)?;
        let counts = sol.outputs_and_ends().counts().to_vec();
        let placements = with_ends(&sol, &checkpoints);
        let failed = sol.statuses().iter().map(|status| !status.is_finished()).collect();
        let method = Method::new(self.solver, self.y0.dtype())?;
        let backward: Arc<dyn Backward> = match gradient {
            Gradient::Naive => {
                let outputs = SampleOutputs::new(&counts, placements.clone());
                self.traced(&method, &checkpoints, &outputs, failed)?
            }
            _ => Arc::new(SampleAca {
                field: self.field.clone(),
                params: self.params.clone(),
                method,
                y0: self.y0.detach(),
                checkpoints,
                counts,
                failed,
                y1: sol.y1.clone(),
                stability_limited: sol.stats.iter().map(|stats| stats.stability_limited).sum(),
                adaptive: self.is_adaptive(),
                untrusted: self.untrusted,
            }),
        };
        let state = self.y0.dims()[1..].to_vec();
        Ok((sol, Tape::new(backward, gradient.clone(), placements, state, self.params)?))
    }

    fn traced(
        &self,
        method: &Method,
        checkpoints: &SampleCheckpoints,
        outputs: &SampleOutputs,
        failed: Vec<bool>,
    ) -> Result<Arc<dyn Backward>> {
        let y0 = Var::from_tensor(&self.y0.detach())?;
        let plain = Evaluator::new(self.field.as_ref(), &y0)?;
        let statistics = plain.snapshot()?;
        let course = Course {
            method,
            field: Evaluator::new(self.field.as_ref(), &y0)?.tracing(true),
            checkpoints,
            outputs,
            failed: &failed,
            nodes_per_step: self.nodes_per_step()?,
        };
        let traced = course.trace(y0.clone(), self.params.clone());
        plain.restore(&statistics)?;
        Ok(Arc::new(traced?))
    }
}

/// The placements of all outputs, each sample's end after its others.
fn with_ends(sol: &SampleSolution, checkpoints: &SampleCheckpoints) -> Vec<Placement> {
    let mut all = Vec::new();
    for (own, steps) in sol.placements().iter().zip(checkpoints.samples()) {
        all.extend_from_slice(own);
        all.push(match steps.len() {
            0 => Placement { step: 0, s: 0.0 },
            n => Placement { step: n - 1, s: 1.0 },
        });
    }
    all
}
