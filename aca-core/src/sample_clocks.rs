//! The clocks of a batch whose samples each have one.

use std::sync::Arc;

use crate::clock::Clock;
use crate::{
    Error, Evaluator, Method, OnFailure, Result, RowSteps, SampleStep, Solver, Stats, Status,
    TimeSpan,
};

/// Where every sample stands, and which of them the rows of a run hold.
pub(crate) struct SampleClocks<'a> {
    /// One a sample, and what ended it early, behind a pointer: turns look through all of them.
    clocks: Vec<Clock<'a>>,
    failures: Vec<Option<Box<Error>>>,
    /// The samples in the rows.
    samples: Arc<[usize]>,
    /// The rows of those that are neither done nor failed.
    under_way: Vec<usize>,
}

impl<'a> SampleClocks<'a> {
    /// Sets every clock to its start; `bad` tells of the first entry of a state that is not finite.
    pub(crate) fn new(
        solver: &'a Solver,
        spans: &[(f64, f64)],
        bad: Vec<Option<usize>>,
    ) -> Result<Self> {
        let clocks = spans.iter().map(|&(t0, t1)| Clock::new(solver, TimeSpan::new(t0, t1)?));
        let initial = |index| Box::new(Error::InitialState { index });
        let mut all = Self {
            clocks: clocks.collect::<Result<_>>()?,
            failures: bad.into_iter().map(|index| index.map(initial)).collect(),
            samples: (0..spans.len()).collect(),
            under_way: Vec::new(),
        };
        all.look_who_is_under_way();
        Ok(all)
    }

    /// The samples in the rows.
    pub(crate) fn samples(&self) -> &[usize] {
        &self.samples
    }

    pub(crate) fn any_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    fn is_under_way(&self, row: usize) -> bool {
        let sample = self.samples[row];
        !self.clocks[sample].is_done() && self.failures[sample].is_none()
    }

    fn look_who_is_under_way(&mut self) {
        let mut rows = std::mem::take(&mut self.under_way);
        rows.clear();
        rows.extend((0..self.samples.len()).filter(|&row| self.is_under_way(row)));
        self.under_way = rows;
    }

    /// Sets the magnitudes of the first steps, one a row.
    pub(crate) fn start(&mut self, h: &[f64]) {
        for &row in &self.under_way {
            self.clocks[self.samples[row]].start(h[row]);
        }
    }

    /// Counts evaluations of every sample under way.
    pub(crate) fn count(&mut self, evaluations: usize) {
        for &row in &self.under_way {
            self.clocks[self.samples[row]].stats.nfe += evaluations;
        }
    }

    /// Steps of all rows that end where `end` says; rows that are not under way rest.
    pub(crate) fn steps(&self, end: impl Fn(&Clock<'_>) -> f64) -> RowSteps {
        let t0 = self.starts();
        let mut t1 = t0.to_vec();
        for &row in &self.under_way {
            t1[row] = end(&self.clocks[self.samples[row]]);
        }
        RowSteps::new(self.samples.clone(), t0, t1.into())
    }

    /// The steps that samples try next; those that may not take another one fail, and rest.
    pub(crate) fn next_steps(&mut self) -> RowSteps {
        let t0 = self.starts();
        let (mut t1, mut failed) = (t0.to_vec(), false);
        for &row in &self.under_way {
            let sample = self.samples[row];
            match self.clocks[sample].target() {
                Ok(end) => t1[row] = end,
                Err(error) => {
                    self.failures[sample] = Some(Box::new(error));
                    failed = true;
                }
            }
        }
        if failed {
            self.look_who_is_under_way();
        }
        RowSteps::new(self.samples.clone(), t0, t1.into())
    }

    /// The times of all rows.
    fn starts(&self) -> Arc<[f64]> {
        self.samples.iter().map(|&sample| self.clocks[sample].t).collect()
    }

    /// Fails the samples under way whose slope has an entry that is not finite.
    pub(crate) fn fail_slopes(&mut self, bad: &[Option<usize>]) {
        for &row in &self.under_way {
            if let Some(index) = bad[row] {
                let (sample, what, h) = (self.samples[row], "field", 0.0);
                let t = self.clocks[sample].t;
                self.failures[sample] = Some(Box::new(Error::NonFinite { what, t, h, index }));
            }
        }
        if bad.iter().any(Option::is_some) {
            self.look_who_is_under_way();
        }
    }

    /// Moves the clocks of accepted steps on, and sizes the retries of rejected ones; all of them cost so many
    /// evaluations. What is not finite in a row's step is its `cause`.
    pub(crate) fn judge(
        &mut self,
        rows: &RowSteps,
        ratios: &[f64],
        evaluations: usize,
        cause: impl Fn(usize) -> Result<Option<(&'static str, usize)>>,
    ) -> Result<Vec<SampleStep>> {
        let mut accepted = Vec::with_capacity(ratios.len());
        for &row in &self.under_way {
            let (sample, ratio) = (self.samples[row], ratios[row]);
            let ((t0, t1), clock) = (rows.ends(row), &mut self.clocks[sample]);
            clock.stats.nfe += evaluations;
            if ratio <= 1.0 {
                accepted.push(SampleStep { sample, row, index: clock.stats.accepted, t0, t1 });
                clock.accept(t1, ratio);
                continue;
            }
            let found = if ratio.is_finite() { None } else { cause(row)? };
            let (t, h) = (clock.t, t1 - t0);
            let found = found.map(|(what, index)| Box::new(Error::NonFinite { what, t, h, index }));
            if !clock.is_adaptive() {
                self.failures[sample] = found;
                continue;
            }
            clock.non_finite = found;
            if let Err(error) = clock.reject(t1, ratio) {
                self.failures[sample] = Some(Box::new(error));
            }
        }
        self.look_who_is_under_way();
        Ok(accepted)
    }

    /// Which of the accepted steps are to be estimated, as each would be if its sample were alone.
    pub(crate) fn wanting_estimates(&mut self, accepted: &[SampleStep]) -> Vec<bool> {
        let wants = |step: &SampleStep| self.clocks[step.sample].wants_estimate(step.t1 - step.t0);
        accepted.iter().map(wants).collect()
    }

    /// Counts accepted steps at the stability limit and holds the samples' next ones inside it; `reaches` tells how
    /// far each row's step reached, if that was estimated, and `wanted` whose estimates count.
    pub(crate) fn hold(
        &mut self,
        accepted: &[SampleStep],
        wanted: &[bool],
        reaches: &[f64],
        method: &Method,
    ) {
        // Alone, a sample has no estimate that would need a slope beyond its end, or beyond a jump.
        let own = method.tableau().is_fsal();
        for (step, _) in accepted.iter().zip(wanted).filter(|(_, wanted)| **wanted) {
            let clock = &mut self.clocks[step.sample];
            if let Some(&reach) = reaches.get(step.row)
                && (own || !(clock.is_done() || method.is_jump(step.t1)))
            {
                clock.hold(step.t1 - step.t0, reach, method);
            }
        }
    }

    /// Fails the samples whose times the field read in a precision too low for their steps.
    pub(crate) fn check_resolution(&mut self, field: &Evaluator<'_>) {
        for (clock, failure) in self.clocks.iter().zip(&mut self.failures) {
            if let (Err(error), None) = (clock.check_resolution(field), &failure) {
                *failure = Some(Box::new(error));
            }
        }
    }

    /// Ends samples early.
    pub(crate) fn fail(&mut self, failures: Vec<(usize, Error)>) {
        if failures.is_empty() {
            return;
        }
        for (sample, error) in failures {
            self.failures[sample] = Some(Box::new(error));
        }
        self.look_who_is_under_way();
    }

    /// Counts evaluations that accepted steps cost beyond their trial.
    pub(crate) fn moved(&mut self, accepted: &[SampleStep], evaluations: usize) {
        for step in accepted.iter().filter(|_| evaluations > 0) {
            self.clocks[step.sample].stats.nfe += evaluations;
        }
    }

    /// Tells the user's callback about the sample that has done the least of its span.
    pub(crate) fn report_slowest(&self, accepted: &[SampleStep]) {
        let part = |step: &SampleStep| {
            let TimeSpan { t0, t1 } = self.clocks[step.sample].span;
            (step.t1 - t0) / (t1 - t0)
        };
        if let Some(step) = accepted.iter().min_by(|a, b| part(a).total_cmp(&part(b))) {
            self.clocks[step.sample].report(step.t1 - step.t0);
        }
    }

    /// Whether it pays to leave samples that are done out of the rows.
    pub(crate) fn pay_to_gather(&self) -> bool {
        self.any_under_way() && RowSteps::pays_to_gather(self.under_way.len(), self.samples.len())
    }

    /// Leaves them out; returns the rows that stay.
    pub(crate) fn gather(&mut self) -> Vec<usize> {
        let rows = std::mem::take(&mut self.under_way);
        self.samples = rows.iter().map(|&row| self.samples[row]).collect();
        self.under_way = (0..rows.len()).collect();
        rows
    }

    /// What each sample cost, and how it ended.
    ///
    /// # Errors
    /// [`Error::SamplesFailed`], unless the others are kept.
    pub(crate) fn end(self, on_failure: OnFailure) -> Result<(Vec<Stats>, Vec<Status>)> {
        let failures = self.failures.into_iter().map(|failure| failure.map(Arc::from));
        let failures: Vec<Option<Arc<Error>>> = failures.collect();
        let batch = failures.len();
        let failed = failures.iter().enumerate();
        let failed: Vec<_> = failed.filter_map(|(i, e)| Some((i, e.clone()?))).collect();
        if !failed.is_empty() && on_failure == OnFailure::Error {
            return Err(Error::SamplesFailed { samples: failed, batch });
        }
        let status = |failure: Option<Arc<Error>>| failure.map_or(Status::Finished, Status::Failed);
        let statuses = failures.into_iter().map(status).collect();
        Ok((self.clocks.iter().map(|clock| clock.stats).collect(), statuses))
    }
}
