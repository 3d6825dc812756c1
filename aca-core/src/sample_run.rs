//! A solve under way in which every sample has a clock of its own.

use std::sync::Arc;

use candle_core::Tensor;

use crate::clock::Clock;
use crate::initial_step::initial_steps;
use crate::kernels::{self, Scale};
use crate::{
    Error, Evaluator, Method, OnFailure, Result, RowSteps, SampleSink, SampleStep, SampleSteps,
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
    method: Method,
    field: Evaluator<'a>,
    sink: &'a mut dyn SampleSink,
    /// One a sample, and what ended it early.
    clocks: Vec<Clock<'a>>,
    failures: Vec<Option<Error>>,
    /// The samples in the rows of `y`.
    samples: Arc<[usize]>,
    /// The rows of those that are neither done nor failed.
    under_way: Vec<usize>,
    y: Tensor,
    k1: Option<Tensor>,
    scale: Option<Scale>,
    /// Where the state of each sample lies that has left `y`.
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
        let field = Evaluator::new(field, y0)?;
        let Some(&batch) = y0.dims().first() else {
            return Err(Error::NoBatch { shape: Vec::new() });
        };
        if spans.len() != batch {
            return Err(Error::SampleCount { what: "spans", got: spans.len(), expected: batch });
        }
        let clocks = spans.iter().map(|&(t0, t1)| Clock::new(solver, TimeSpan::new(t0, t1)?));
        let mut run = Self {
            solver,
            method: Method::new(solver, y0.dtype())?,
            field,
            sink,
            clocks: clocks.collect::<Result<_>>()?,
            failures: (0..batch).map(|_| None).collect(),
            samples: (0..batch).collect(),
            under_way: Vec::new(),
            y: solver.own(y0)?.contiguous()?,
            k1: None,
            scale: solver.scale(y0)?,
            ends: vec![None; batch],
        };
        let bad = run.non_finite_rows(&run.y)?;
        for (row, index) in bad.into_iter().enumerate() {
            run.failures[row] = index.map(|index| Error::InitialState { index });
        }
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
            None => {
                let k1 = self.k1()?;
                let before = self.field.snapshot()?;
                let ahead = self.rows(|clock, method| method.beside(clock.next_mark(), clock.t));
                let order = self.method.tableau().error_order().unwrap_or(1);
                let h = initial_steps(&self.field, &ahead, (&self.y, &k1), &scale, order)?;
                self.count(1);
                self.field.restore(&before)?;
                h
            }
        };
        for &row in &self.under_way {
            self.clocks[self.samples[row]].start(h[row]);
        }
        Ok(())
    }

    /// Steps of all rows that end where `end` says; rows that are not under way rest.
    fn rows(&self, end: impl Fn(&Clock<'_>, &Method) -> f64) -> RowSteps {
        let t0: Arc<[f64]> = self.samples.iter().map(|&sample| self.clocks[sample].t).collect();
        let mut t1 = t0.to_vec();
        for &row in &self.under_way {
            t1[row] = end(&self.clocks[self.samples[row]], &self.method);
        }
        RowSteps::new(self.samples.clone(), t0, t1.into())
    }

    /// Counts evaluations of every sample under way.
    fn count(&mut self, evaluations: usize) {
        for &row in &self.under_way {
            self.clocks[self.samples[row]].stats.nfe += evaluations;
        }
    }

    /// Slopes at the starts of the next steps; samples whose slope is not finite fail.
    fn k1(&mut self) -> Result<Tensor> {
        if let Some(k1) = &self.k1 {
            return Ok(k1.clone());
        }
        let ahead = self.rows(|clock, _| clock.span.t1);
        let k1 = self.field.eval_at(&self.method.stage_times(&ahead, 0)?, &self.y)?;
        self.count(1);
        let bad = self.non_finite_rows(&k1)?;
        for &row in &self.under_way {
            if let Some(index) = bad[row] {
                let (sample, what, h) = (self.samples[row], "field", 0.0);
                let t = self.clocks[sample].t;
                self.failures[sample] = Some(Error::NonFinite { what, t, h, index });
            }
        }
        if bad.iter().any(Option::is_some) {
            self.look_who_is_under_way();
        }
        self.k1 = Some(k1.clone());
        Ok(k1)
    }

    /// Lets every sample under way try one step; returns whether there was any.
    fn turn(&mut self) -> Result<bool> {
        self.gather()?;
        if self.under_way.is_empty() {
            return Ok(false);
        }
        let k1 = self.k1()?;
        self.fail_steps_out_of_reach();
        if self.under_way.is_empty() {
            return Ok(false);
        }
        let rows = self.rows(|clock, _| clock.target_now());
        let statistics = self.field.snapshot()?;
        let before = self.field.nfe();
        let (k, y1) = self.method.step_rows(&self.field, &rows, &self.y, Some(k1))?;
        self.count(self.field.nfe() - before);
        let ratios = self.ratios(&rows, &y1, &k)?;
        let accepted = self.judge(&rows, &ratios, &k, &y1)?;
        if accepted.is_empty() {
            self.field.restore(&statistics)?;
        } else {
            self.accept(&rows, &accepted, k, y1)?;
        }
        Ok(true)
    }

    /// Fails the samples that may not take another step.
    fn fail_steps_out_of_reach(&mut self) {
        let mut any = false;
        for &row in &self.under_way {
            let sample = self.samples[row];
            self.failures[sample] = self.clocks[sample].target().err();
            any |= self.failures[sample].is_some();
        }
        if any {
            self.look_who_is_under_way();
        }
    }

    /// Error ratios; on a grid 0, or NaN where the state is not finite.
    fn ratios(&self, rows: &RowSteps, y1: &Tensor, k: &[Tensor]) -> Result<Vec<f64>> {
        match &self.scale {
            Some(scale) => self.method.error_ratios(rows.h(), (&self.y, y1), k, scale),
            None => {
                let bad = self.non_finite_rows(y1)?;
                Ok(bad.into_iter().map(|bad| if bad.is_some() { f64::NAN } else { 0.0 }).collect())
            }
        }
    }

    /// Moves the clocks of accepted steps on, and sizes the retries of rejected ones.
    fn judge(
        &mut self,
        rows: &RowSteps,
        ratios: &[f64],
        k: &[Tensor],
        y1: &Tensor,
    ) -> Result<Vec<SampleStep>> {
        let mut accepted = Vec::with_capacity(ratios.len());
        for &row in &self.under_way {
            let (sample, ratio) = (self.samples[row], ratios[row]);
            let (t0, t1) = rows.ends(row);
            let cause = match ratio.is_finite() {
                true => None,
                false => self.first_non_finite(row, t1 - t0, k, y1)?,
            };
            let clock = &mut self.clocks[sample];
            if ratio <= 1.0 {
                accepted.push(SampleStep { sample, row, index: clock.stats.accepted, t0, t1 });
                clock.accept(t1, ratio);
            } else if clock.is_adaptive() {
                clock.non_finite = cause;
                self.failures[sample] = clock.reject(t1, ratio).err();
            } else {
                self.failures[sample] = cause;
            }
        }
        self.look_who_is_under_way();
        Ok(accepted)
    }

    /// Where a row of a trial stopped being finite.
    fn first_non_finite(
        &self,
        row: usize,
        h: f64,
        k: &[Tensor],
        y1: &Tensor,
    ) -> Result<Option<Error>> {
        let t = self.clocks[self.samples[row]].t;
        // On a grid the state alone counts, as in a solve of one sample.
        let slopes = if self.scale.is_some() { k } else { &[] };
        for (what, x) in slopes.iter().map(|k| ("field", k)).chain([("state", y1)]) {
            if let Some(index) = kernels::first_non_finite(&x.get(row)?)? {
                return Ok(Some(Error::NonFinite { what, t, h, index }));
            }
        }
        Ok(None)
    }

    fn accept(
        &mut self,
        rows: &RowSteps,
        accepted: &[SampleStep],
        k: Vec<Tensor>,
        y1: Tensor,
    ) -> Result<()> {
        let (method, field) = (&self.method, &self.field);
        let mut steps = SampleSteps { accepted, y0: &self.y, y1: &y1, rows, k, method, field };
        let before = field.nfe();
        self.sink.accept(&mut steps)?;
        let k = steps.k;
        let extra = self.field.nfe() - before;
        let mut moved = vec![false; self.samples.len()];
        for step in accepted {
            moved[step.row] = true;
            self.clocks[step.sample].stats.nfe += extra;
        }
        // A slope must not cross a jump of the field, and one that only the interpolant needed has
        // left no trace in running statistics.
        let own = self.method.tableau().is_fsal() || !self.field.has_statistics();
        let jumped = accepted.iter().any(|step| self.method.is_jump(step.t1));
        let carried = if own && !jumped { self.method.end_slope(&k)? } else { None };
        self.k1 = match (carried, &self.k1) {
            (Some(end), Some(start)) => Some(kernels::choose_rows(&moved, &end, start)?),
            _ => None,
        };
        self.y = kernels::choose_rows(&moved, &y1, &self.y)?;
        let slowest = accepted.iter().min_by(|a, b| self.part(a).total_cmp(&self.part(b)));
        if let Some(step) = slowest {
            self.clocks[step.sample].report(step.t1 - step.t0);
        }
        Ok(())
    }

    /// The part of its span that a sample has done.
    fn part(&self, step: &SampleStep) -> f64 {
        let TimeSpan { t0, t1 } = self.clocks[step.sample].span;
        (step.t1 - t0) / (t1 - t0)
    }

    /// Leaves samples that are done out of the rows, where the field allows it and it pays.
    fn gather(&mut self) -> Result<()> {
        let pays = RowSteps::pays_to_gather(self.under_way.len(), self.samples.len());
        if self.under_way.is_empty() || !pays || !self.field.takes_rows() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.under_way);
        for (row, &sample) in self.samples.iter().enumerate() {
            self.ends[sample] = Some((self.y.clone(), row));
        }
        let gather = |x: &Tensor| {
            kernels::gather_rows(&rows.iter().map(|&row| (x, row)).collect::<Vec<_>>())
        };
        self.k1 = self.k1.as_ref().map(gather).transpose()?;
        if let Some(Scale::Each { rtol, atol }) = &self.scale {
            self.scale = Some(Scale::Each { rtol: gather(rtol)?, atol: gather(atol)? });
        }
        self.y = gather(&self.y)?;
        self.samples = rows.iter().map(|&row| self.samples[row]).collect();
        self.under_way = (0..rows.len()).collect();
        Ok(())
    }

    /// The first entry of every row that is not finite.
    fn non_finite_rows(&self, x: &Tensor) -> Result<Vec<Option<usize>>> {
        if kernels::first_non_finite(x)?.is_none() {
            return Ok(vec![None; x.dims()[0]]);
        }
        (0..x.dims()[0]).map(|row| kernels::first_non_finite(&x.get(row)?)).collect()
    }

    fn end(mut self) -> Result<SamplesEnd> {
        for (row, &sample) in self.samples.iter().enumerate() {
            self.ends[sample] = Some((self.y.clone(), row));
        }
        let ends: Vec<_> = self.ends.iter().flatten().map(|(y, row)| (y, *row)).collect();
        let y1 = kernels::gather_rows(&ends)?;
        let failures = self.failures.into_iter().map(|failure| failure.map(Arc::new));
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
        Ok(SamplesEnd { y1, stats, statuses, nfe: self.field.nfe() })
    }
}
