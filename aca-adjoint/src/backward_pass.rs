//! One walk back over the steps of a solve, newest first.

use std::sync::Arc;

use aca_core::kernels::{self, RowTerm};
use aca_core::{Evaluator, Native, Result, Stepper, Steps};
use candle_core::Tensor;
use smallvec::SmallVec;

use crate::adjoint_state::AdjointProbe;
use crate::checkpoints::Start;
use crate::gradient::check_scheme_times;
use crate::outputs::{RowOutput, StepOutputs};
use crate::params::Accumulator;
use crate::replay::{self, Arriving, Known, Replay, ReplayStep, Times};
use crate::report::{Audit, rounding};
use crate::states::States;
use crate::{Gradients, Outputs, TimeGradients};

use crate::aca::Aca;

/// One backward pass.
pub(crate) struct BackwardPass<'a, 'w> {
    tape: &'a Aca,
    field: &'a Evaluator<'a>,
    outputs: &'a Outputs,
    cotangents: &'a Tensor,
    states: States<'a>,
    theta: Accumulator<'a>,
    replay: Box<dyn Replay + 'a>,
    /// The samples in the rows of `a`.
    samples: Arc<[usize]>,
    /// Cotangents of the states between the steps that are done and the next; `None` while all are zero.
    a: Option<Tensor>,
    /// Where the cotangent of each sample lies that has left `a`.
    starts: Vec<Option<(Tensor, usize)>>,
    times: Vec<TimeGradients>,
    want_times: bool,
    probe: AdjointProbe<'w>,
    audit: Audit,
    /// States at the ends of the next steps, as far as they are known.
    y1: Option<Tensor>,
}

impl<'a, 'w> BackwardPass<'a, 'w> {
    pub(crate) fn new(
        tape: &'a Aca,
        field: &'a Evaluator<'a>,
        outputs: &'a Outputs,
        cotangents: &'a Tensor,
        (want_times, probed): (bool, &'w [f64]),
    ) -> Result<Self> {
        let batch = tape.batch();
        if want_times {
            check_scheme_times(tape.methods[0].method())?;
        }
        let native = match tape.is_whole() {
            true => Native::of(tape.field.as_ref(), &tape.y0),
            false => Native::of_rows(tape.field.as_ref(), &tape.y0),
        };
        let times = (0..batch).map(|sample| TimeGradients::zeros(outputs.of_sample(sample).len()));
        Ok(Self {
            tape,
            field,
            outputs,
            cotangents,
            states: States::new(&tape.checkpoints, tape.rest()?)?,
            theta: Accumulator::new(&tape.params),
            replay: replay::replay(native, tape.y0.elem_count(), &tape.methods),
            samples: (0..batch).collect(),
            a: None,
            starts: vec![None; batch],
            times: times.collect(),
            want_times,
            probe: AdjointProbe::new(probed, batch),
            audit: Audit::new(batch, rounding(field.epsilon())),
            y1: tape.ends_with_steps.then(|| tape.end.0.clone()),
        })
    }

    pub(crate) fn run(mut self) -> Result<(Gradients, AdjointProbe<'w>)> {
        self.stay()?;
        let longest = (0..self.samples.len()).map(|sample| self.steps(sample)).max().unwrap_or(0);
        for turn in 0..longest {
            self.turn(turn)?;
        }
        self.replay.finish(&mut self.theta)?;
        let y0 = self.start()?;
        let steps = (0..self.starts.len()).map(|sample| self.tape.checkpoints.steps(sample)).sum();
        let steps = (steps, self.tape.stability_limited);
        let mut report =
            self.audit.finish(steps, (self.tape.bounds_growth, self.tape.untrusted))?;
        report.unreached = self.theta.unreached();
        let found = Gradients::new(y0, self.theta.finish()?, self.field.nfe());
        let mut found = Gradients { report: Some(report), ..found };
        if self.want_times {
            match self.tape.is_whole() {
                true => found.times = self.times.pop(),
                false => found.sample_times = self.times,
            }
        }
        Ok((found, self.probe))
    }

    /// Takes in the outputs of samples without steps, which end where they start: all are that state.
    fn stay(&mut self) -> Result<()> {
        let still = (0..self.samples.len())
            .filter(|&sample| self.tape.checkpoints.steps(sample) == 0 && !self.has_failed(sample));
        let outputs = still.flat_map(|row| {
            self.outputs.of_sample(row).map(move |index| RowOutput { row, s: 0.0, index })
        });
        let outputs: Vec<RowOutput> = outputs.collect();
        self.a = self.arrive(None, &outputs)?;
        Ok(())
    }

    /// The cotangents of the initial states.
    fn start(&mut self) -> Result<Tensor> {
        self.leave()?;
        if self.tape.is_whole() {
            return Ok(self.a.take().map_or_else(|| self.tape.y0.zeros_like(), Ok)?);
        }
        let starts: Vec<_> = self.starts.iter().flatten().map(|(a, row)| (a, *row)).collect();
        kernels::gather_rows(&starts)
    }

    fn has_failed(&self, sample: usize) -> bool {
        self.tape.failed.as_ref().is_some_and(|failed| failed[sample])
    }

    /// Number of steps to go back through.
    fn steps(&self, sample: usize) -> usize {
        if self.has_failed(sample) { 0 } else { self.tape.checkpoints.steps(sample) }
    }

    /// The step that a sample goes back through at a turn.
    fn step(&self, sample: usize, turn: usize) -> Option<usize> {
        self.steps(sample).checked_sub(turn + 1)
    }

    /// Adds the whole cotangents of outputs to the rows that they belong to.
    fn arrive(&self, a: Option<Tensor>, outputs: &[RowOutput]) -> Result<Option<Tensor>> {
        if outputs.is_empty() {
            return Ok(a);
        }
        if self.tape.is_whole() {
            return outputs.iter().try_fold(a, |a, output| {
                let g = self.cotangents.get(output.index)?;
                a.map_or(Ok(g.clone()), |a| kernels::combine(Some(&a), &[(1.0, &g)])).map(Some)
            });
        }
        let a = a.map_or_else(|| self.zeros(), Ok)?;
        let terms: Vec<RowTerm> = outputs.iter().map(|output| output.term(1.0)).collect();
        kernels::add_rows(&a, &terms, self.cotangents).map(Some)
    }

    /// Zeros like the states of all rows.
    fn zeros(&self) -> Result<Tensor> {
        let y0 = &self.tape.y0;
        match !self.tape.is_whole() && self.samples.len() < y0.dims()[0] {
            true => Ok(y0.narrow(0, 0, self.samples.len())?.zeros_like()?),
            false => Ok(y0.zeros_like()?),
        }
    }

    /// Pulls back through one step of every sample that has one left; those after the last output are left out.
    fn turn(&mut self, turn: usize) -> Result<()> {
        self.gather(turn)?;
        let samples = self.samples.clone();
        let wanted: SmallVec<[Option<usize>; 1]> =
            samples.iter().map(|&sample| self.step(sample, turn)).collect();
        let mut outputs = StepOutputs::default();
        for (row, (&sample, step)) in samples.iter().zip(&wanted).enumerate() {
            if let Some(step) = *step {
                self.outputs.add_step(&mut outputs, row, sample, step);
            }
        }
        if self.a.is_none() && outputs.ends.is_empty() && outputs.inside.is_empty() {
            self.a = self.arrive(None, &outputs.starts)?;
            self.y1 = None;
            if self.tape.checkpoints.are_times() {
                self.restore(&wanted)?;
            }
            return self.probe_starts(&wanted);
        }
        let rules = (self.method(wanted[0]), self.field);
        let (steps, start) = self.restore(&wanted)?;
        let step = ReplayStep::new(rules, (&steps, &start));
        if self.y1.is_none() {
            self.meet_ends(&step, wanted[0], &outputs.ends)?;
        }
        let a = self.a.take();
        let a = self.arrive(a, &outputs.ends)?;
        let a = a.map_or_else(|| self.zeros(), Ok)?;
        self.weigh_ends(&outputs.ends)?;
        let before = if self.want_times { self.ends_before(&wanted) } else { Vec::new() };
        let (inside, g) = (&outputs.inside[..], self.cotangents);
        // Where a step's first slope is the field's own at its start, the replay has it.
        let known_before = if rules.0.starts_with_slope() { &before[..] } else { &[] };
        let arriving = Arriving { a: &a, inside, before: known_before, g };
        self.probe.visit(&step, &arriving, &samples, &self.tape.params)?;
        let last = turn == 0 && self.tape.is_whole();
        let slope = self.tape.end.1.as_ref().filter(|_| last);
        // Steps that were undone start where they should up to rounding alone.
        let y1 = self.y1.as_ref().filter(|_| !self.tape.checkpoints.are_times());
        let known = Known { y1, slope, window: turn, want_times: self.want_times };
        let replayed = self.replay.replay(&step, &arriving, &known, &mut self.theta)?;
        for (row, (&sample, index)) in samples.iter().zip(&wanted).enumerate() {
            if let Some(index) = *index {
                let (t0, t1) = steps.ends(row);
                self.audit.add(sample, (index, t0, t1), &replayed.found[row])?;
            }
        }
        if let Some(mut times) = replayed.times {
            if known_before.is_empty() {
                times.before = self.move_before(&step, &before)?;
            }
            self.move_times((turn, &wanted), &times, (inside, &before));
        }
        self.a = self.arrive(Some(replayed.start), &outputs.starts)?;
        self.y1 = Some(start.y.clone());
        self.probe_starts(&wanted)
    }

    /// The method of a step. Only a whole state has steps by several.
    fn method(&self, step: Option<usize>) -> &'a Stepper {
        let scheme = step.map_or(0, |step| self.tape.checkpoints.scheme(step));
        &self.tape.methods[scheme]
    }

    /// The steps of all rows, and where they start. Where steps are undone, the start of a span must be the
    /// state that the solve began with, or the walk back went astray.
    fn restore(&mut self, wanted: &[Option<usize>]) -> Result<(Steps, Start)> {
        let rules = (&self.tape.methods[..], self.field);
        let (steps, found) = self.states.restore(&self.samples, wanted, rules)?;
        if self.tape.checkpoints.are_times() {
            let own = |x: &Tensor, row: usize| match self.tape.is_whole() {
                true => Ok(x.clone()),
                false => x.get(row),
            };
            for row in (0..wanted.len()).filter(|row| wanted[*row] == Some(0)) {
                let sample = self.samples[row];
                let (found, y0) = (own(&found.y, row)?, own(&self.tape.y0, sample)?);
                self.states.check_drift(row, self.steps(sample), &found, &y0)?;
            }
        }
        Ok((steps, found))
    }

    /// Lets the probe look at starts of spans once their first steps are done.
    fn probe_starts(&mut self, wanted: &[Option<usize>]) -> Result<()> {
        let Some(a) = self.a.clone().filter(|_| self.probe.is_wanted()) else { return Ok(()) };
        let first = wanted.iter().map(|step| *step == Some(0)).collect::<Vec<_>>();
        if first.contains(&true) {
            let rules = (self.method(wanted[0]), self.field);
            let (steps, start) = match self.tape.checkpoints.are_times() {
                true => self.tape.checkpoints.starts(&self.samples, wanted, &self.tape.y0)?,
                false => self.restore(wanted)?,
            };
            let step = ReplayStep::new(rules, (&steps, &start));
            self.probe.visit_starts(&step, &a, &self.samples, &first)?;
        }
        Ok(())
    }

    /// The outputs at the ends of the steps before those that rows are in.
    fn ends_before(&self, wanted: &[Option<usize>]) -> Vec<RowOutput> {
        let rows = self.samples.iter().zip(wanted).enumerate();
        let before = rows.filter_map(|(row, (&sample, step))| {
            Some((row, sample, step.as_ref()?.checked_sub(1)?))
        });
        let outputs =
            before.flat_map(|(row, sample, step)| self.outputs.of_step(row, sample, step));
        outputs.filter(|output| output.s == 1.0).collect()
    }

    /// Adds how the loss moves with the times that belong to each row's step.
    fn move_times(
        &mut self,
        (turn, wanted): (usize, &[Option<usize>]),
        times: &Times,
        (inside, before): (&[RowOutput], &[RowOutput]),
    ) {
        for ((&sample, step), moved) in self.samples.iter().zip(wanted).zip(&times.rows) {
            let own = &mut self.times[sample];
            if turn == 0 && step.is_some() {
                own.t1 = moved.h;
            }
            if *step == Some(0) {
                own.t0 = moved.t0 - moved.h;
            }
        }
        let outputs = inside.iter().zip(&times.inside).chain(before.iter().zip(&times.before));
        for (&output, &moved) in outputs {
            let sample = self.samples[output.row];
            self.times[sample].ts[self.outputs.position(sample, output)] = moved;
        }
    }

    /// Begins at outputs at the ends of steps whose next ones nobody asks for: finds the states there, and how the loss
    /// moves with the times of these outputs.
    fn meet_ends(
        &mut self,
        step: &ReplayStep<'_>,
        first: Option<usize>,
        ends: &[RowOutput],
    ) -> Result<()> {
        let whole = self.tape.is_whole();
        self.y1 = first.filter(|_| whole).and_then(|step| self.tape.checkpoints.after(step));
        if ends.is_empty() || (self.y1.is_some() && !self.want_times) {
            return Ok(());
        }
        let mut stages = step.stages();
        stages.fill(step.method.stages())?;
        let y1 = stages.end()?;
        if self.want_times {
            let slope = step.field.eval_at(&step.method.times(step.steps, 1.0)?, &y1)?;
            let slope = if whole { slope.unsqueeze(0)? } else { slope };
            for output in ends {
                let g = self.cotangents.get(output.index)?;
                let moved = kernels::dot(&g, &slope.get(output.row)?)?;
                let sample = self.samples[output.row];
                self.times[sample].ts[self.outputs.position(sample, *output)] = moved;
            }
        }
        self.y1.get_or_insert(y1);
        Ok(())
    }

    /// How the loss moves with the times of outputs at the starts of steps, by the slopes there.
    fn move_before(&self, step: &ReplayStep<'_>, before: &[RowOutput]) -> Result<Vec<f64>> {
        if before.is_empty() {
            return Ok(Vec::new());
        }
        let slope = step.field.eval_at(&step.method.times(step.steps, 0.0)?, step.y0)?;
        let slope = if step.steps.is_whole() { slope.unsqueeze(0)? } else { slope };
        let (rows, own): (Vec<_>, Vec<_>) = before.iter().map(|o| (o.row, o.index)).unzip();
        let g = kernels::pick_rows(self.cotangents, &own)?;
        Ok(kernels::dots(own.len(), &g, &kernels::pick_rows(&slope, &rows)?)?.into_vec())
    }

    /// Counts what outputs at the ends of steps weigh in the loss.
    fn weigh_ends(&mut self, ends: &[RowOutput]) -> Result<()> {
        let Some(y1) = self.y1.as_ref().filter(|_| !ends.is_empty()) else { return Ok(()) };
        let sizes = kernels::dots(self.samples.len(), y1, y1)?;
        for output in ends {
            let g = self.cotangents.get(output.index)?;
            let g = kernels::dot(&g, &g)?.sqrt();
            self.audit.add_output(self.samples[output.row], g, sizes[output.row].sqrt());
        }
        Ok(())
    }

    /// Leaves samples without steps to go out of the rows, where the field allows it and it pays.
    fn gather(&mut self, turn: usize) -> Result<()> {
        if self.samples.len() < 2 {
            return Ok(());
        }
        let under_way = |row: &usize| self.step(self.samples[*row], turn).is_some();
        let rows: Vec<usize> = (0..self.samples.len()).filter(under_way).collect();
        let pays = self.tape.checkpoints.pay_to_gather(rows.len(), &self.samples);
        if !pays || !self.field.supports_row_subset() {
            return Ok(());
        }
        self.leave()?;
        self.states.keep(&rows)?;
        let gather =
            |x: &Option<Tensor>| x.as_ref().map(|x| kernels::pick_rows(x, &rows)).transpose();
        (self.a, self.y1) = (gather(&self.a)?, gather(&self.y1)?);
        self.replay.keep(&rows)?;
        self.samples = rows.iter().map(|&row| self.samples[row]).collect();
        Ok(())
    }

    /// Notes where the cotangents of all samples in `a` lie.
    fn leave(&mut self) -> Result<()> {
        if self.tape.is_whole() {
            return Ok(());
        }
        let a = self.a.clone().map_or_else(|| self.zeros(), Ok)?;
        for (row, &sample) in self.samples.iter().enumerate() {
            self.starts[sample] = Some((a.clone(), row));
        }
        Ok(())
    }
}
