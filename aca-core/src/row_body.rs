//! What a run moves in which every sample has a clock of its own.

use candle_core::Tensor;

use crate::body::untried;
use crate::kernels::{self, Scale};
use crate::rules::Rules;
use crate::sink::Slopes;
use crate::stability::Probe;
use crate::{Error, Result, RowSteps, SampleSink, SampleStep, SampleSteps};

/// The states of the samples under way, in rows, and the stages of their present steps.
pub(crate) trait RowBody {
    /// The states at the starts of the steps.
    fn y(&self) -> &Tensor;

    /// Whether the slopes there are known.
    fn is_started(&self) -> bool;

    /// Evaluates them.
    fn start(&mut self, rules: &Rules<'_>, steps: &RowSteps) -> Result<()>;

    /// The slopes there, once they are known.
    fn k1(&self) -> Result<Tensor>;

    /// Tries a step of every row.
    fn attempt(&mut self, rules: &Rules<'_>, steps: &RowSteps) -> Result<()>;

    /// The error ratios of the steps that were tried.
    fn error_ratios(&self, rules: &Rules<'_>, h: &[f64], scale: &Scale) -> Result<Vec<f64>>;

    /// The first number of every row that is not finite, in the slopes at the starts or the states at the ends.
    fn non_finite_rows(&self, what: Looked) -> Result<Vec<Option<usize>>>;

    /// The first number that is not finite of a row's step that was tried: of its end, or of its `slopes` as
    /// well.
    fn first_non_finite(&self, row: usize, slopes: bool) -> Result<Option<(&'static str, usize)>>;

    /// Hands the accepted steps to the sink and moves to their ends; other rows stay. With a probe it estimates how
    /// far the steps reached, where their stages show that.
    fn accept(
        &mut self,
        rules: &Rules<'_>,
        steps: &RowSteps,
        accepted: &[SampleStep],
        sink: &mut dyn SampleSink,
        probe: Option<&Probe<'_>>,
    ) -> Result<Moved>;

    /// Undoes what was tried: no row moves.
    fn reject(&mut self, rules: &Rules<'_>) -> Result<()>;

    /// Keeps these rows alone.
    fn gather(&mut self, rows: &[usize]) -> Result<()>;
}

/// What became of accepted steps.
pub(crate) struct Moved {
    /// The samples that the sink has failed.
    pub(crate) failures: Vec<(usize, Error)>,
    /// How far the step of every row reached; nothing where that was not estimated.
    pub(crate) reaches: Vec<f64>,
}

/// What is looked at for numbers that are not finite.
#[derive(Clone, Copy)]
pub(crate) enum Looked {
    Slopes,
    Ends,
}

/// Rows as tensors, on any device.
pub(crate) struct TensorRows {
    y: Tensor,
    k1: Option<Tensor>,
    /// What was tried: stages and ends.
    trial: Option<(Vec<Tensor>, Tensor)>,
    /// Running statistics of the field before the trial, for its rejection.
    statistics: Vec<Tensor>,
}

impl TensorRows {
    pub(crate) fn new(y: Tensor) -> Self {
        Self { y, k1: None, trial: None, statistics: Vec::new() }
    }

    /// Estimates how far every row's step reached.
    fn reaches(
        &self,
        rules: &Rules<'_>,
        steps: &RowSteps,
        (k, y1): (&mut Vec<Tensor>, &Tensor),
        probe: &Probe<'_>,
    ) -> Result<Vec<f64>> {
        let Rules { method, field } = rules;
        let Some(weights) = method.difference() else { return Ok(Vec::new()) };
        let count = method.stages_with_end();
        if k.len() < count {
            // The slopes at the ends start the next steps, where they may be carried over to those; where a neighbour ends at
            // a jump they may not, but the others' estimates must not depend on it.
            if field.has_statistics() {
                return Ok(Vec::new());
            }
            method.extend_row_stages(field, steps, &self.y, k, count)?;
        }
        let (h, states, k) = (steps.h(), (&self.y, y1), &k[..count]);
        let squares = kernels::difference_squares(h.len(), states, probe.scale(), k, weights)?;
        Ok(probe.reaches(h, y1.elem_count() / h.len(), &squares))
    }

    fn trial(&self) -> Result<&(Vec<Tensor>, Tensor)> {
        self.trial.as_ref().ok_or_else(untried)
    }
}

/// Whether slopes at the ends of the steps may start the next, which holds for all or none.
pub(crate) fn carries(Rules { method, field }: &Rules<'_>, accepted: &[SampleStep]) -> bool {
    let own = method.carries_within(field.has_statistics());
    own && !(method.has_jumps() && accepted.iter().any(|step| method.is_jump(step.t1)))
}

/// Whether slopes at the ends that were evaluated for an estimate alone are finite; where one is not, the next
/// steps evaluate them again and tell of it.
pub(crate) fn are_finite(rules: &Rules<'_>, accepted: &[SampleStep], reaches: &[f64]) -> bool {
    let bad = |step: &SampleStep| reaches.get(step.row).is_some_and(|reach| reach.is_nan());
    rules.method.tableau().is_fsal() || !accepted.iter().any(bad)
}

/// Which rows move.
pub(crate) fn moved(rows: usize, accepted: &[SampleStep]) -> Vec<bool> {
    let mut moved = vec![false; rows];
    accepted.iter().for_each(|step| moved[step.row] = true);
    moved
}

impl RowBody for TensorRows {
    fn y(&self) -> &Tensor {
        &self.y
    }

    fn is_started(&self) -> bool {
        self.k1.is_some()
    }

    fn start(&mut self, rules: &Rules<'_>, steps: &RowSteps) -> Result<()> {
        let times = rules.method.stage_times(steps, 0)?;
        self.k1 = Some(rules.field.eval_at(&times, &self.y)?);
        Ok(())
    }

    fn k1(&self) -> Result<Tensor> {
        self.k1.clone().ok_or_else(untried)
    }

    fn attempt(&mut self, rules: &Rules<'_>, steps: &RowSteps) -> Result<()> {
        self.statistics = rules.field.snapshot()?;
        let k1 = self.k1.clone();
        let step = rules.method.step_rows(&rules.field, steps, &self.y, k1);
        if step.is_err() {
            rules.field.restore(&self.statistics)?;
        }
        self.trial = Some(step?);
        Ok(())
    }

    fn error_ratios(&self, rules: &Rules<'_>, h: &[f64], scale: &Scale) -> Result<Vec<f64>> {
        let (k, y1) = self.trial()?;
        rules.method.error_ratios(h, (&self.y, y1), k, scale)
    }

    fn non_finite_rows(&self, what: Looked) -> Result<Vec<Option<usize>>> {
        match what {
            Looked::Slopes => kernels::non_finite_rows(&self.k1()?),
            Looked::Ends => kernels::non_finite_rows(&self.trial()?.1),
        }
    }

    fn first_non_finite(&self, row: usize, slopes: bool) -> Result<Option<(&'static str, usize)>> {
        let (k, y1) = self.trial()?;
        let k = k.iter().filter(|_| slopes).map(|k| ("field", k));
        for (what, x) in k.chain([("state", y1)]) {
            if let Some(index) = kernels::first_non_finite(&x.get(row)?)? {
                return Ok(Some((what, index)));
            }
        }
        Ok(None)
    }

    fn accept(
        &mut self,
        rules: &Rules<'_>,
        steps: &RowSteps,
        accepted: &[SampleStep],
        sink: &mut dyn SampleSink,
        probe: Option<&Probe<'_>>,
    ) -> Result<Moved> {
        let (mut k, y1) = self.trial.take().ok_or_else(untried)?;
        let slopes = Slopes::Tensors(&mut k);
        let mut handed = SampleSteps::new(accepted, [&self.y, &y1], slopes, steps, rules);
        sink.accept(&mut handed)?;
        let failures = handed.failures();
        let reaches = match probe {
            Some(probe) => self.reaches(rules, steps, (&mut k, &y1), probe)?,
            None => Vec::new(),
        };
        let moved = moved(self.y.dims()[0], accepted);
        let carried = carries(rules, accepted) && are_finite(rules, accepted, &reaches);
        let end = if carried { rules.method.end_slope(&k)? } else { None };
        self.k1 = match (end, &self.k1) {
            (Some(end), Some(start)) => Some(kernels::choose_rows(&moved, &end, start)?),
            _ => None,
        };
        self.y = kernels::choose_rows(&moved, &y1, &self.y)?;
        Ok(Moved { failures, reaches })
    }

    fn reject(&mut self, rules: &Rules<'_>) -> Result<()> {
        rules.field.restore(&self.statistics)
    }

    fn gather(&mut self, rows: &[usize]) -> Result<()> {
        let gather = |x: &Tensor| gather(x, rows);
        self.k1 = self.k1.as_ref().map(gather).transpose()?;
        self.y = gather(&self.y)?;
        Ok(())
    }
}

/// These rows of a tensor.
pub(crate) fn gather(x: &Tensor, rows: &[usize]) -> Result<Tensor> {
    kernels::gather_rows(&rows.iter().map(|&row| (x, row)).collect::<Vec<_>>())
}
