//! A solve under way in which every sample has a clock of its own.

use std::sync::Arc;

use candle_core::Tensor;

use crate::clock::Clock;
use crate::initial_step::initial_steps;
use crate::kernels::{self, Scale};
use crate::row_body::{Looked, RowBody, TensorRows, gather, non_finite_rows};
use crate::rules::Rules;
use crate::slice_rows::SliceRows;
use crate::{
    Error, Evaluator, Method, OnFailure, OnSlices, Result, RowSteps, SampleSink, SampleStep,
    Solver, Stats, Status, TimeSpan, VectorField,
};

/// How a solve ended in which every sample had a clock of its own.
#[derive(Clone, Debug)]
pub struct SamplesEnd {
    /// States at the ends of the spans, `[batch, ..state]`, detached.
    pub y1: Tensor,
    /// What each sample's solve cost; evaluations count while it was under way.
    pub stats: Vec<Stats>,
    /// How each sample ended.
    pub statuses: Vec<Status>,
    /// Evaluations of the field, of any number of rows.
    pub nfe: usize,
}

impl Solver {
    /// Solves every sample of a batch by its own clock, from row `i` of `y0` over `spans[i]`, pushing
    /// accepted steps into `sink`.
    ///
    /// Each sample takes the steps that it would take alone. Samples that are done rest, and are left
    /// out of evaluations where the field [takes rows](VectorField::takes_rows).
    ///
    /// # Shapes
    /// `y0`: `[batch, ..state]`, `f32` or `f64`; result: the same.
    ///
    /// # Errors
    /// Bad settings, times or states as [`Error`] lists them; [`Error::SamplesFailed`] unless
    /// [`Solver::on_failure`] keeps the others; [`Error::ClocksDiffer`].
    ///
    /// # Cost
    /// As [`Solver::solve`] of the sample with the most steps.
    pub fn solve_samples(
        &self,
        field: &dyn VectorField,
        y0: &Tensor,
        spans: &[(f64, f64)],
        sink: &mut dyn SampleSink,
    ) -> Result<SamplesEnd> {
        self.validate()?;
        let mut run = SampleRun::new(self, field, y0, spans, sink)?;
        run.first_steps()?;
        while run.turn()? {}
        run.end()
    }
}

/// A solve under way.
struct SampleRun<'a> {
    solver: &'a Solver,
    rules: Rules<'a>,
    sink: &'a mut dyn SampleSink,
    /// One a sample, and what ended it early, behind a pointer: turns look through all of them.
    clocks: Vec<Clock<'a>>,
    failures: Vec<Option<Box<Error>>>,
    body: Box<dyn RowBody + 'a>,
    /// The samples in its rows.
    samples: Arc<[usize]>,
    /// The rows of those that are neither done nor failed.
    under_way: Vec<usize>,
    scale: Option<Scale>,
    /// Where the state of each sample lies that has left the rows.
    ends: Vec<Option<(Tensor, usize)>>,
}

impl<'a> SampleRun<'a> {
    fn new(
        solver: &'a Solver,
        field: &'a dyn VectorField,
        y0: &Tensor,
        spans: &[(f64, f64)],
        sink: &'a mut dyn SampleSink,
    ) -> Result<Self> {
        if solver.leapfrog || solver.trace {
            let (what, remedy) = ("a traced or leapfrog solve", "use Gradient::Aca or Naive");
            return Err(Error::OwnClocks { what, remedy });
        }
        let rules =
            Rules { field: Evaluator::new(field, y0)?, method: Method::new(solver, y0.dtype())? };
        let Some(&batch) = y0.dims().first() else {
            return Err(Error::NoBatch { shape: Vec::new() });
        };
        if spans.len() != batch {
            return Err(Error::SampleCount { what: "spans", got: spans.len(), expected: batch });
        }
        let clocks = spans.iter().map(|&(t0, t1)| Clock::new(solver, TimeSpan::new(t0, t1)?));
        let clocks = clocks.collect::<Result<_>>()?;
        let y = solver.own(y0)?.contiguous()?;
        let initial = |index| Box::new(Error::InitialState { index });
        let failures = non_finite_rows(&y)?.into_iter().map(|index| index.map(initial)).collect();
        let body: Box<dyn RowBody + 'a> = match OnSlices::of_rows(field, &y) {
            Some(OnSlices::F32(field)) => Box::new(SliceRows::new(field, &rules.method, y)?),
            Some(OnSlices::F64(field)) => Box::new(SliceRows::new(field, &rules.method, y)?),
            None => Box::new(TensorRows::new(y)),
        };
        let mut run = Self {
            solver,
            rules,
            sink,
            clocks,
            failures,
            body,
            samples: (0..batch).collect(),
            under_way: Vec::new(),
            scale: solver.scale(y0)?,
            ends: vec![None; batch],
        };
        run.look_who_is_under_way();
        Ok(run)
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

    /// Sizes the first step of every sample.
    fn first_steps(&mut self) -> Result<()> {
        let Some(scale) = self.scale.clone().filter(|_| !self.under_way.is_empty()) else {
            return Ok(());
        };
        let h = match self.solver.first_step {
            Some(h) => vec![h; self.samples.len()],
            None => self.guess_steps(&scale)?,
        };
        for &row in &self.under_way {
            self.clocks[self.samples[row]].start(h[row]);
        }
        Ok(())
    }

    /// First steps from the slopes, and how those change.
    fn guess_steps(&mut self, scale: &Scale) -> Result<Vec<f64>> {
        self.slopes()?;
        let Rules { method, field } = &self.rules;
        let before = field.snapshot()?;
        let ahead = self.rows(|clock, method| method.beside(clock.next_mark(), clock.t));
        let order = method.tableau().error_order().unwrap_or(1);
        let start = (self.body.y(), &self.body.k1()?);
        let h = initial_steps(field, &ahead, start, scale, order)?;
        field.restore(&before)?;
        self.count(1);
        Ok(h)
    }

    /// Steps of all rows that end where `end` says; rows that are not under way rest.
    fn rows(&self, end: impl Fn(&Clock<'_>, &Method) -> f64) -> RowSteps {
        let t0: Arc<[f64]> = self.samples.iter().map(|&sample| self.clocks[sample].t).collect();
        let mut t1 = t0.to_vec();
        for &row in &self.under_way {
            t1[row] = end(&self.clocks[self.samples[row]], &self.rules.method);
        }
        RowSteps::new(self.samples.clone(), t0, t1.into())
    }

    /// Counts evaluations of every sample under way.
    fn count(&mut self, evaluations: usize) {
        for &row in &self.under_way {
            self.clocks[self.samples[row]].stats.nfe += evaluations;
        }
    }

    /// Evaluates slopes at the starts of the next steps; samples whose slope is not finite fail.
    fn slopes(&mut self) -> Result<()> {
        if self.body.is_started() {
            return Ok(());
        }
        let ahead = self.rows(|clock, _| clock.span.t1);
        self.body.start(&self.rules, &ahead)?;
        self.count(1);
        let bad = self.body.non_finite_rows(Looked::Slopes)?;
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
        Ok(())
    }

    /// Lets every sample under way try one step; returns whether there was any.
    fn turn(&mut self) -> Result<bool> {
        self.gather()?;
        if self.under_way.is_empty() {
            return Ok(false);
        }
        self.slopes()?;
        let rows = self.next_steps();
        if self.under_way.is_empty() {
            return Ok(false);
        }
        let before = self.rules.field.nfe();
        self.body.attempt(&self.rules, &rows)?;
        let evaluations = self.rules.field.nfe() - before;
        let ratios = self.ratios(&rows)?;
        let accepted = self.judge(&rows, &ratios, evaluations)?;
        if accepted.is_empty() {
            self.body.reject(&self.rules)?;
        } else {
            self.accept(&rows, &accepted)?;
        }
        Ok(true)
    }

    /// The steps that samples try next; those that may not take another one fail, and rest.
    fn next_steps(&mut self) -> RowSteps {
        let t0: Arc<[f64]> = self.samples.iter().map(|&sample| self.clocks[sample].t).collect();
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

    /// Error ratios; on a grid 0, or NaN where the state is not finite.
    fn ratios(&self, rows: &RowSteps) -> Result<Vec<f64>> {
        match &self.scale {
            Some(scale) => self.body.error_ratios(&self.rules, rows.h(), scale),
            None => {
                let bad = self.body.non_finite_rows(Looked::Ends)?;
                Ok(bad.into_iter().map(|bad| if bad.is_some() { f64::NAN } else { 0.0 }).collect())
            }
        }
    }

    /// Moves the clocks of accepted steps on, and sizes the retries of rejected ones; all of them cost so many
    /// evaluations.
    fn judge(
        &mut self,
        rows: &RowSteps,
        ratios: &[f64],
        evaluations: usize,
    ) -> Result<Vec<SampleStep>> {
        let mut accepted = Vec::with_capacity(ratios.len());
        for &row in &self.under_way {
            let (sample, ratio) = (self.samples[row], ratios[row]);
            let (t0, t1) = rows.ends(row);
            self.clocks[sample].stats.nfe += evaluations;
            if ratio <= 1.0 {
                let clock = &mut self.clocks[sample];
                accepted.push(SampleStep { sample, row, index: clock.stats.accepted, t0, t1 });
                clock.accept(t1, ratio);
                continue;
            }
            let cause = match ratio.is_finite() {
                true => None,
                false => self.first_non_finite(row, t1 - t0)?.map(Box::new),
            };
            let clock = &mut self.clocks[sample];
            if !clock.is_adaptive() {
                self.failures[sample] = cause;
                continue;
            }
            clock.non_finite = cause;
            if let Err(error) = clock.reject(t1, ratio) {
                self.failures[sample] = Some(Box::new(error));
            }
        }
        self.look_who_is_under_way();
        Ok(accepted)
    }

    /// Where a row of a trial stopped being finite.
    fn first_non_finite(&self, row: usize, h: f64) -> Result<Option<Error>> {
        let t = self.clocks[self.samples[row]].t;
        // On a grid the state alone counts, as in a solve of one sample.
        let found = self.body.first_non_finite(row, self.scale.is_some())?;
        Ok(found.map(|(what, index)| Error::NonFinite { what, t, h, index }))
    }

    fn accept(&mut self, rows: &RowSteps, accepted: &[SampleStep]) -> Result<()> {
        let before = self.rules.field.nfe();
        self.body.accept(&self.rules, rows, accepted, self.sink)?;
        let extra = self.rules.field.nfe() - before;
        for step in accepted.iter().filter(|_| extra > 0) {
            self.clocks[step.sample].stats.nfe += extra;
        }
        if self.solver.progress.is_some() {
            self.report_slowest(accepted);
        }
        Ok(())
    }

    /// Tells the user's callback about the sample that has done the least of its span.
    fn report_slowest(&self, accepted: &[SampleStep]) {
        let slowest = accepted.iter().min_by(|a, b| self.part(a).total_cmp(&self.part(b)));
        if let Some(step) = slowest {
            self.clocks[step.sample].report(step.t1 - step.t0);
        }
    }

    /// The part of its span that a sample has done.
    fn part(&self, step: &SampleStep) -> f64 {
        let TimeSpan { t0, t1 } = self.clocks[step.sample].span;
        (step.t1 - t0) / (t1 - t0)
    }

    /// Leaves samples that are done out of the rows, where the field allows it and it pays.
    fn gather(&mut self) -> Result<()> {
        let pays = RowSteps::pays_to_gather(self.under_way.len(), self.samples.len());
        if self.under_way.is_empty() || !pays || !self.rules.field.takes_rows() {
            return Ok(());
        }
        self.leave();
        let rows = std::mem::take(&mut self.under_way);
        if let Some(Scale::Each { rtol, atol }) = &self.scale {
            let (rtol, atol) = (gather(rtol, &rows)?, gather(atol, &rows)?);
            self.scale = Some(Scale::Each { rtol, atol });
        }
        self.body.gather(&rows)?;
        self.samples = rows.iter().map(|&row| self.samples[row]).collect();
        self.under_way = (0..rows.len()).collect();
        Ok(())
    }

    /// Notes where the states of all samples in the rows lie.
    fn leave(&mut self) {
        for (row, &sample) in self.samples.iter().enumerate() {
            self.ends[sample] = Some((self.body.y().clone(), row));
        }
    }

    fn end(mut self) -> Result<SamplesEnd> {
        self.leave();
        let ends: Vec<_> = self.ends.iter().flatten().map(|(y, row)| (y, *row)).collect();
        let y1 = kernels::gather_rows(&ends)?;
        let failures = self.failures.into_iter().map(|failure| failure.map(Arc::from));
        let failures: Vec<Option<Arc<Error>>> = failures.collect();
        let batch = failures.len();
        let failed = failures.iter().enumerate();
        let failed: Vec<_> = failed.filter_map(|(i, e)| Some((i, e.clone()?))).collect();
        if !failed.is_empty() && self.solver.on_failure == OnFailure::Error {
            return Err(Error::SamplesFailed { samples: failed, batch });
        }
        let status = |failure: Option<Arc<Error>>| failure.map_or(Status::Finished, Status::Failed);
        let statuses = failures.into_iter().map(status).collect();
        let stats = self.clocks.iter().map(|clock| clock.stats).collect();
        Ok(SamplesEnd { y1, stats, statuses, nfe: self.rules.field.nfe() })
    }
}
