//! The clocks of a run: one for the whole state, or one for each sample.

use std::sync::Arc;

use crate::clock::Clock;
use crate::steps::pays_to_gather;
use crate::{
    Error, Evaluator, OnFailure, Result, RowStep, SampleEnd, Solver, Status, Stepper, Steps,
    TimeSpan,
};

/// Where every sample stands, and which of them the rows of a run hold. A whole state is one sample in one row.
pub(crate) struct Clocks<'a> {
    /// One a sample, and what ended it early, behind a pointer: turns look through all of them.
    clocks: Vec<Clock<'a>>,
    failures: Vec<Option<Box<Error>>>,
    /// The samples in the rows.
    samples: Arc<[usize]>,
    /// The rows of those that are neither done nor failed.
    under_way: Vec<usize>,
    /// The steps of the present turn.
    pub(crate) steps: Steps,
    /// Those of them that were accepted, and whether each is to be estimated.
    pub(crate) accepted: Vec<RowStep>,
    wanted: Vec<bool>,
}

impl<'a> Clocks<'a> {
    /// One clock for a state that steps as a whole.
    ///
    /// # Errors
    /// [`Error::InitialState`] for a `bad` entry.
    pub(crate) fn whole(clock: Clock<'a>, bad: Option<usize>) -> Result<Self> {
        if let Some(index) = bad {
            return Err(Error::InitialState { index });
        }
        let steps = Steps::whole(clock.t, clock.t);
        Ok(Self::over(vec![clock], vec![None], [0].into(), steps))
    }

    /// A clock for each sample; `bad` tells of the first entry of a state that is not finite.
    pub(crate) fn of_samples(
        solver: &'a Solver,
        spans: &[TimeSpan],
        bad: Vec<Option<usize>>,
    ) -> Result<Self> {
        let clocks = spans.iter().map(|&span| Clock::new(solver, span));
        let clocks: Vec<Clock<'_>> = clocks.collect::<Result<_>>()?;
        let initial = |index| Box::new(Error::InitialState { index });
        let failures = bad.into_iter().map(|index| index.map(initial)).collect();
        let samples: Arc<[usize]> = (0..spans.len()).collect();
        let t: Vec<f64> = clocks.iter().map(|clock| clock.t).collect();
        let steps = Steps::of_samples(samples.clone(), t.clone(), t);
        Ok(Self::over(clocks, failures, samples, steps))
    }

    fn over(
        clocks: Vec<Clock<'a>>,
        failures: Vec<Option<Box<Error>>>,
        samples: Arc<[usize]>,
        steps: Steps,
    ) -> Self {
        let (under_way, accepted, wanted) = Default::default();
        let mut all = Self { clocks, failures, samples, under_way, steps, accepted, wanted };
        all.look_who_is_under_way();
        all
    }

    /// Whether there is one clock for the whole state.
    #[inline]
    pub(crate) fn are_whole(&self) -> bool {
        self.steps.is_whole()
    }

    /// Whether step sizes are searched for.
    pub(crate) fn are_adaptive(&self) -> bool {
        self.clocks.iter().any(Clock::searches)
    }

    /// The samples in the rows.
    pub(crate) fn samples(&self) -> &[usize] {
        &self.samples
    }

    #[inline]
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

    /// Sets the magnitudes of the first steps.
    pub(crate) fn start(&mut self, h: impl Fn(usize) -> f64) {
        for &row in &self.under_way {
            self.clocks[self.samples[row]].start(h(row));
        }
    }

    /// Magnitude of the step that a whole state takes next; 0 without any.
    ///
    /// # Errors
    /// What ended the solve before it.
    pub(crate) fn first_step(mut self) -> Result<f64> {
        match self.failures[0].take() {
            Some(error) => Err(*error),
            None => Ok(self.clocks[0].h()),
        }
    }

    /// Counts evaluations of every sample under way.
    pub(crate) fn count(&mut self, evaluations: usize) {
        for &row in &self.under_way {
            self.clocks[self.samples[row]].stats.nfe += evaluations;
        }
    }

    /// Lays out steps of all rows that end where `end` says; rows that are not under way rest.
    pub(crate) fn look_ahead(&mut self, end: impl Fn(&Clock<'_>) -> f64) {
        self.rest();
        for &row in &self.under_way {
            let clock = &self.clocks[self.samples[row]];
            self.steps.set(row, clock.t, end(clock));
        }
    }

    /// Lays out the steps that samples try next; those that may not take another one fail, and rest.
    pub(crate) fn next_steps(&mut self) {
        self.rest();
        let mut failed = false;
        for &row in &self.under_way {
            let sample = self.samples[row];
            let clock = &mut self.clocks[sample];
            match clock.target() {
                Ok(end) => self.steps.set(row, clock.t, end),
                Err(error) => {
                    self.failures[sample] = Some(Box::new(error));
                    failed = true;
                }
            }
        }
        if failed {
            self.look_who_is_under_way();
        }
    }

    /// Lets all rows rest that are not about to be set.
    fn rest(&mut self) {
        for (row, &sample) in self.samples.iter().enumerate().filter(|_| self.samples.len() > 1) {
            let t = self.clocks[sample].t;
            self.steps.set(row, t, t);
        }
    }

    /// Fails the samples under way whose slope has an entry that is not finite.
    pub(crate) fn fail_slopes(
        &mut self,
        bad: impl Fn(usize) -> Result<Option<usize>>,
    ) -> Result<()> {
        for &row in &self.under_way {
            if let Some(index) = bad(row)? {
                let (sample, what, h) = (self.samples[row], "field", 0.0);
                let t = self.clocks[sample].t;
                self.failures[sample] = Some(Box::new(Error::NonFinite { what, t, h, index }));
            }
        }
        self.look_who_is_under_way();
        Ok(())
    }

    /// Moves the clocks of accepted steps on, and sizes the retries of rejected ones; all of them cost so many
    /// evaluations. What was wrong with a row's step between these ends is its `cause`.
    pub(crate) fn judge(
        &mut self,
        ratios: &[f64],
        evaluations: usize,
        cause: impl Fn(usize, (f64, f64)) -> Result<Option<Error>>,
    ) -> Result<()> {
        self.accepted.clear();
        let mut ended = false;
        for &row in &self.under_way {
            let (sample, ratio) = (self.samples[row], ratios[row]);
            let ((t0, t1), clock) = (self.steps.ends(row), &mut self.clocks[sample]);
            clock.stats.nfe += evaluations;
            if ratio <= 1.0 {
                let index = clock.stats.accepted;
                clock.accept(t1, ratio);
                let is_last = clock.is_done();
                ended |= is_last;
                self.accepted.push(RowStep { sample, row, index, t0, t1, is_last });
                continue;
            }
            let found = if ratio.is_finite() { None } else { cause(row, (t0, t1))? };
            let found = found.map(Box::new);
            if !clock.is_adaptive() {
                (self.failures[sample], ended) = (found, true);
                continue;
            }
            clock.non_finite = found;
            if let Err(error) = clock.reject(t1, ratio) {
                (self.failures[sample], ended) = (Some(Box::new(error)), true);
            }
        }
        if ended {
            self.look_who_is_under_way();
        }
        Ok(())
    }

    /// Which rows move; `None` where all of them do.
    pub(crate) fn moved(&self) -> Option<Vec<bool>> {
        if self.accepted.len() == self.steps.rows() {
            return None;
        }
        let mut moved = vec![false; self.steps.rows()];
        self.accepted.iter().for_each(|step| moved[step.row] = true);
        Some(moved)
    }

    /// Looks which of the accepted steps are to be estimated, as each would be if its sample were alone; returns
    /// whether any is.
    pub(crate) fn want_estimates(&mut self) -> bool {
        self.wanted.clear();
        for step in &self.accepted {
            self.wanted.push(self.clocks[step.sample].wants_estimate(step.h()));
        }
        self.wanted.contains(&true)
    }

    /// Whether a step of the first row that reached `h rho` was at the limit of the method's stability interval.
    pub(crate) fn is_at_limit(&self, reach: f64, method: &Stepper) -> bool {
        self.clocks.first().is_some_and(|clock| clock.is_at_limit(reach, method))
    }

    /// Counts accepted steps at the stability limit and holds the samples' next ones inside it; `reaches` tells how
    /// far each row's step reached.
    pub(crate) fn hold(&mut self, reaches: &[f64], method: &Stepper) {
        // Alone, a sample has no estimate that would need a slope beyond its end, or beyond a jump.
        let own = method.carries_own();
        for (step, _) in self.accepted.iter().zip(&self.wanted).filter(|(_, wanted)| **wanted) {
            if own || !(step.is_last || method.is_jump(step.t1)) {
                self.clocks[step.sample].hold(step.h(), reaches[step.row], method);
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

    /// Ends a sample early, with an error.
    pub(crate) fn fail(&mut self, sample: usize, error: Error) {
        self.failures[sample] = Some(Box::new(error));
        self.look_who_is_under_way();
    }

    /// Ends the sample of a row at `t`, the fraction `s` of its step.
    pub(crate) fn stop(&mut self, row: usize, t: f64, s: f64) {
        self.clocks[self.samples[row]].stop(t, s);
        self.look_who_is_under_way();
    }

    /// Counts evaluations that accepted steps cost beyond their trial, and the steps of an implicit method.
    pub(crate) fn count_accepted(&mut self, evaluations: usize, is_implicit: bool) {
        for step in self.accepted.iter().filter(|_| is_implicit || evaluations > 0) {
            let stats = &mut self.clocks[step.sample].stats;
            stats.nfe += evaluations;
            stats.implicit += usize::from(is_implicit);
        }
    }

    /// Tells the user's callback about the accepted step whose sample has done the least of its span.
    pub(crate) fn report(&self) {
        if !self.clocks.first().is_some_and(Clock::reports) {
            return;
        }
        let part = |step: &RowStep| {
            let TimeSpan { t0, t1 } = self.clocks[step.sample].span;
            (step.t1 - t0) / (t1 - t0)
        };
        if let Some(step) = self.accepted.iter().min_by(|a, b| part(a).total_cmp(&part(b))) {
            self.clocks[step.sample].report(step.h());
        }
    }

    /// Whether it pays to leave samples that are done out of the rows.
    #[inline]
    pub(crate) fn pay_to_gather(&self) -> bool {
        self.any_under_way() && pays_to_gather(self.under_way.len(), self.samples.len())
    }

    /// Leaves them out; returns the rows that stay.
    pub(crate) fn gather(&mut self) -> Vec<usize> {
        let rows = std::mem::take(&mut self.under_way);
        self.samples = rows.iter().map(|&row| self.samples[row]).collect();
        self.under_way = (0..rows.len()).collect();
        let t: Vec<f64> = self.samples.iter().map(|&sample| self.clocks[sample].t).collect();
        self.steps = Steps::of_samples(self.samples.clone(), t.clone(), t);
        rows
    }

    /// How each sample ended, and what it cost.
    ///
    /// # Errors
    /// What ended a whole state early; [`Error::SamplesFailed`] for samples, unless the others are kept.
    pub(crate) fn end(mut self, on_failure: OnFailure) -> Result<Vec<SampleEnd>> {
        if self.are_whole()
            && let Some(error) = self.failures[0].take()
        {
            return Err(*error);
        }
        let failures = self.failures.into_iter().map(|failure| failure.map(Arc::from));
        let failures: Vec<Option<Arc<Error>>> = failures.collect();
        let batch = failures.len();
        let failed = failures.iter().enumerate();
        let failed: Vec<_> = failed.filter_map(|(i, e)| Some((i, e.clone()?))).collect();
        if !failed.is_empty() && on_failure == OnFailure::Error {
            return Err(Error::SamplesFailed { samples: failed, batch });
        }
        let status = |failure: Option<Arc<Error>>| failure.map_or(Status::Finished, Status::Failed);
        let ends = self.clocks.iter().zip(failures).map(|(clock, failure)| SampleEnd {
            t1: clock.t,
            s: clock.s,
            stats: clock.stats,
            status: status(failure),
        });
        Ok(ends.collect())
    }
}
