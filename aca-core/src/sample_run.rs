//! A solve under way in which every sample has a clock of its own.

use candle_core::Tensor;

use crate::coupling::first_coupled_row;
use crate::initial_step::initial_steps;
use crate::kernels::{self, Scale};
use crate::row_body::{Looked, RowBody, TensorRows, gather};
use crate::rules::Rules;
use crate::sample_clocks::SampleClocks;
use crate::slice_body::SliceBody;
use crate::stability::Probe;
use crate::{
    Error, Evaluator, Method, OnSlices, Result, RowSteps, SampleSink, SampleStep, Solver, Stats,
    Status, VectorField,
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
        run.check_apart()?;
        run.first_steps()?;
        while run.turn()? {}
        run.clocks.check_resolution(&run.rules.field);
        run.end()
    }
}

/// A solve under way.
struct SampleRun<'a> {
    solver: &'a Solver,
    rules: Rules<'a>,
    sink: &'a mut dyn SampleSink,
    clocks: SampleClocks<'a>,
    body: Box<dyn RowBody + 'a>,
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
        let y = solver.own(y0)?.contiguous()?;
        let clocks = SampleClocks::new(solver, spans, kernels::non_finite_rows(&y)?)?;
        let body: Box<dyn RowBody + 'a> = match OnSlices::of_rows(field, &y) {
            Some(OnSlices::F32(field)) => Box::new(SliceBody::new(field, &rules.method, y)?),
            Some(OnSlices::F64(field)) => Box::new(SliceBody::new(field, &rules.method, y)?),
            None => Box::new(TensorRows::new(y)),
        };
        let (scale, ends) = (solver.scale(y0)?, vec![None; batch]);
        Ok(Self { solver, rules, sink, clocks, body, scale, ends })
    }

    /// Refuses rows that are no samples: whose slopes depend on one another.
    fn check_apart(&mut self) -> Result<()> {
        if !self.clocks.any_under_way() {
            return Ok(());
        }
        self.slopes()?;
        let ahead = self.clocks.steps(|clock| clock.span.t1);
        let (t, field) = (self.rules.method.stage_times(&ahead, 0)?, self.rules.field.field());
        match first_coupled_row(field, &t, self.body.y(), &self.body.k1()?)? {
            Some(row) => Err(Error::SamplesCoupled { row }),
            None => Ok(()),
        }
    }

    /// Sizes the first step of every sample.
    fn first_steps(&mut self) -> Result<()> {
        let Some(scale) = self.scale.clone().filter(|_| self.clocks.any_under_way()) else {
            return Ok(());
        };
        let h = match self.solver.first_step {
            Some(h) => vec![h; self.clocks.samples().len()],
            None => self.guess_steps(&scale)?,
        };
        self.clocks.start(&h);
        Ok(())
    }

    /// First steps from the slopes, and how those change.
    fn guess_steps(&mut self, scale: &Scale) -> Result<Vec<f64>> {
        self.slopes()?;
        let Rules { method, field } = &self.rules;
        let before = field.snapshot()?;
        let ahead = self.clocks.steps(|clock| method.beside(clock.next_mark(), clock.t));
        let order = method.tableau().error_order().unwrap_or(1);
        let start = (self.body.y(), &self.body.k1()?);
        let h = initial_steps(field, &ahead, start, scale, order)?;
        field.restore(&before)?;
        self.clocks.count(1);
        Ok(h)
    }

    /// Evaluates slopes at the starts of the next steps; samples whose slope is not finite fail.
    fn slopes(&mut self) -> Result<()> {
        if self.body.is_started() {
            return Ok(());
        }
        let ahead = self.clocks.steps(|clock| clock.span.t1);
        self.body.start(&self.rules, &ahead)?;
        self.clocks.count(1);
        self.clocks.fail_slopes(&self.body.non_finite_rows(Looked::Slopes)?);
        Ok(())
    }

    /// Lets every sample under way try one step; returns whether there was any.
    fn turn(&mut self) -> Result<bool> {
        self.gather()?;
        if !self.clocks.any_under_way() {
            return Ok(false);
        }
        self.slopes()?;
        let rows = self.clocks.next_steps();
        if !self.clocks.any_under_way() {
            return Ok(false);
        }
        let before = self.rules.field.nfe();
        self.body.attempt(&self.rules, &rows)?;
        let evaluations = self.rules.field.nfe() - before;
        let ratios = self.ratios(&rows)?;
        // On a grid the state alone counts, as in a solve of one sample.
        let slopes = self.scale.is_some();
        let cause = |row| self.body.first_non_finite(row, slopes);
        let accepted = self.clocks.judge(&rows, &ratios, evaluations, cause)?;
        if accepted.is_empty() {
            self.body.reject(&self.rules)?;
        } else {
            self.accept(&rows, &accepted)?;
        }
        Ok(true)
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

    fn accept(&mut self, rows: &RowSteps, accepted: &[SampleStep]) -> Result<()> {
        let before = self.rules.field.nfe();
        let wanted = self.clocks.wanting_estimates(accepted);
        let probe = self.scale.as_ref().filter(|_| wanted.contains(&true));
        let probe = probe.map(|scale| Probe::new(scale, self.rules.field.epsilon())).transpose()?;
        let moved = self.body.accept(&self.rules, rows, accepted, self.sink, probe.as_ref())?;
        self.clocks.hold(accepted, &wanted, &moved.reaches, &self.rules.method);
        self.clocks.fail(moved.failures);
        self.clocks.moved(accepted, self.rules.field.nfe() - before);
        if self.solver.progress.is_some() {
            self.clocks.report_slowest(accepted);
        }
        Ok(())
    }

    /// Leaves samples that are done out of the rows, where the field allows it and it pays.
    fn gather(&mut self) -> Result<()> {
        if !self.rules.field.takes_rows() || !self.clocks.pay_to_gather() {
            return Ok(());
        }
        self.leave();
        let rows = self.clocks.gather();
        if let Some(Scale::Each { rtol, atol }) = &self.scale {
            let (rtol, atol) = (gather(rtol, &rows)?, gather(atol, &rows)?);
            self.scale = Some(Scale::Each { rtol, atol });
        }
        self.body.gather(&rows)
    }

    /// Notes where the states of all samples in the rows lie.
    fn leave(&mut self) {
        for (row, &sample) in self.clocks.samples().iter().enumerate() {
            self.ends[sample] = Some((self.body.y().clone(), row));
        }
    }

    fn end(mut self) -> Result<SamplesEnd> {
        self.leave();
        let ends: Vec<_> = self.ends.iter().flatten().map(|(y, row)| (y, *row)).collect();
        let y1 = kernels::gather_rows(&ends)?;
        let (stats, statuses) = self.clocks.end(self.solver.on_failure)?;
        Ok(SamplesEnd { y1, stats, statuses, nfe: self.rules.field.nfe() })
    }
}
