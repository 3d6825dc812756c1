//! The Adaptive Checkpoint Adjoint of samples with clocks of their own.

use std::sync::Arc;

use aca_core::kernels::{self, RowTerm};
use aca_core::{Evaluator, Method, OnSlices, Result, VectorField};
use aca_dense::Placement;
use candle_core::Tensor;

use crate::backward::Backward;
use crate::finding::{Known, Replayed, norm, norms};
use crate::params::Accumulator;
use crate::report::{Audit, Untrusted};
use crate::sample_outputs::SampleOutputs;
use crate::sample_replay::{Pulled, RowOutput, RowOutputs, SampleReplay};
use crate::sample_tape::SampleCheckpoints;
use crate::slice_replay::{self, SliceReplay};
use crate::{Gradients, Params, TimeGradients};

/// Replays the accepted steps of all samples, each its newest first: one step of every sample at a
/// turn.
///
/// # Cost
/// Memory: as many states as all samples took steps, and the graphs of one step of the batch.
pub(crate) struct SampleAca {
    pub(crate) field: Arc<dyn VectorField>,
    pub(crate) params: Params,
    pub(crate) method: Method,
    pub(crate) y0: Tensor,
    pub(crate) checkpoints: SampleCheckpoints,
    /// Number of outputs of each sample, its end included.
    pub(crate) counts: Vec<usize>,
    /// Samples without a gradient, because they failed.
    pub(crate) failed: Vec<bool>,
    /// States at the ends of the spans.
    pub(crate) y1: Tensor,
    /// Accepted steps of all samples at the stability limit.
    pub(crate) stability_limited: usize,
    /// Whether the steps were under error control.
    pub(crate) adaptive: bool,
    pub(crate) untrusted: Untrusted,
}

impl Backward for SampleAca {
    fn pullback(
        &self,
        placements: &[Placement],
        cotangents: &Tensor,
        want_times: bool,
    ) -> Result<Gradients> {
        let field = Evaluator::new(self.field.as_ref(), &self.y0)?;
        let statistics = field.snapshot()?;
        let outputs = SampleOutputs::new(&self.counts, placements.to_vec());
        let gradients = Sweep::new(self, &field, &outputs, cotangents, want_times)?.run();
        field.restore(&statistics)?;
        gradients
    }
}

/// One backward pass.
struct Sweep<'a> {
    tape: &'a SampleAca,
    field: &'a Evaluator<'a>,
    outputs: &'a SampleOutputs,
    cotangents: &'a Tensor,
    theta: Accumulator<'a>,
    /// For fields that offer slices, where times have no gradients.
    slices: Option<Box<dyn SliceReplay + 'a>>,
    /// The samples in the rows of `a`.
    samples: Arc<[usize]>,
    /// Cotangents of the states between the steps that are done and the next.
    a: Tensor,
    /// Where the cotangent of each sample lies that has left `a`.
    starts: Vec<Option<(Tensor, usize)>>,
    times: Vec<TimeGradients>,
    audit: Audit,
    /// What the steps replayed last tell of the ends of those before, row by row.
    later: Later,
}

/// States and slopes at the starts of the steps after.
struct Later {
    y0: Tensor,
    /// Unless some field may jump there.
    k1: Option<Tensor>,
}

impl<'a> Sweep<'a> {
    fn new(
        tape: &'a SampleAca,
        field: &'a Evaluator<'a>,
        outputs: &'a SampleOutputs,
        cotangents: &'a Tensor,
        want_times: bool,
    ) -> Result<Self> {
        let batch = tape.failed.len();
        // A sample without steps ends where it starts: all its outputs are that state.
        let still = (0..batch).filter(|&s| tape.checkpoints.samples()[s].is_empty());
        let still = still.filter(|&s| !tape.failed[s]).flat_map(|row| {
            let own = outputs.of_sample(row);
            own.map(move |source| RowTerm { row, weight: 1.0, source })
        });
        let a = kernels::add_rows(&tape.y0.zeros_like()?, &still.collect::<Vec<_>>(), cotangents)?;
        let slices = OnSlices::of_rows(tape.field.as_ref(), &tape.y0).filter(|_| !want_times);
        let times = (0..batch).map(|sample| TimeGradients::zeros(outputs.count(sample) - 1));
        Ok(Self {
            tape,
            field,
            outputs,
            cotangents,
            theta: Accumulator::new(&tape.params),
            slices: slices
                .map(|field| slice_replay::replay(field, tape.y0.elem_count(), &tape.method)),
            samples: (0..batch).collect(),
            a,
            starts: vec![None; batch],
            times: if want_times { times.collect() } else { Vec::new() },
            audit: Audit::new(batch, field.epsilon()),
            later: Later { y0: tape.y1.clone(), k1: None },
        })
    }

    fn run(mut self) -> Result<Gradients> {
        let longest = (0..self.samples.len()).map(|sample| self.steps(sample)).max().unwrap_or(0);
        for turn in 0..longest {
            self.turn(turn)?;
        }
        self.leave();
        if let Some(slices) = &mut self.slices {
            slices.finish(&mut self.theta)?;
        }
        let starts: Vec<_> = self.starts.iter().flatten().map(|(a, row)| (a, *row)).collect();
        let steps = self.tape.checkpoints.samples().iter().map(Vec::len).sum();
        let steps = (steps, self.tape.stability_limited);
        let mut report = self.audit.finish(steps, (self.tape.adaptive, self.tape.untrusted))?;
        report.unreached = self.theta.unreached();
        let (y0, theta) = (kernels::gather_rows(&starts)?, self.theta.finish()?);
        let found = Gradients::new(y0, theta, self.field.nfe());
        Ok(Gradients { sample_times: self.times, report: Some(report), ..found })
    }

    /// Number of steps to go back through.
    fn steps(&self, sample: usize) -> usize {
        match self.tape.failed[sample] {
            true => 0,
            false => self.tape.checkpoints.samples()[sample].len(),
        }
    }

    /// The step that a sample goes back through at a turn.
    fn step(&self, sample: usize, turn: usize) -> Option<usize> {
        self.steps(sample).checked_sub(turn + 1)
    }

    /// Pulls back through one step of every sample that has one left.
    fn turn(&mut self, turn: usize) -> Result<()> {
        self.gather(turn)?;
        let steps = self.samples.iter().map(|&sample| self.step(sample, turn));
        let (rows, states) = self.tape.checkpoints.rows(&self.samples, steps);
        let y0 = kernels::gather_rows(&states)?;
        let (mut ends, mut inside, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for (row, &sample) in self.samples.iter().enumerate() {
            let Some(index) = self.step(sample, turn) else { continue };
            for output in self.outputs.of_step(sample, index) {
                let term = RowTerm { row, weight: 1.0, source: output.index };
                match output.s {
                    1.0 => ends.push(term),
                    0.0 => starts.push(term),
                    s => inside.push(RowOutput { row, s, index: output.index }),
                }
            }
        }
        let a = kernels::add_rows(&self.a, &ends, self.cotangents)?;
        self.weigh_ends(&ends)?;
        let (method, field) = (&self.tape.method, self.field);
        let replay = SampleReplay { method, field, rows: &rows, y0: &y0 };
        let outputs = RowOutputs { outputs: inside, cotangents: self.cotangents };
        let start = self.pull(turn, &replay, (&a, &outputs))?;
        self.a = kernels::add_rows(&start, &starts, self.cotangents)?;
        Ok(())
    }

    /// Maps the cotangents of the steps' ends and outputs to those of their starts, and looks at what the steps tell.
    fn pull(
        &mut self,
        turn: usize,
        step: &SampleReplay<'_>,
        (a, outputs): (&Tensor, &RowOutputs<'_>),
    ) -> Result<Tensor> {
        let next = Later { y0: step.y0.clone(), k1: None };
        let later = std::mem::replace(&mut self.later, next);
        let known = Known { y1: Some(&later.y0), slope: later.k1.as_ref(), window: turn };
        let (start, found) = match &mut self.slices {
            Some(slices) => slices.pull_rows(step, a, outputs, &known)?,
            None => {
                let want_times = !self.times.is_empty();
                let pulled = step.pull(a, outputs, &mut self.theta, want_times)?;
                if want_times {
                    self.move_times(turn, &pulled)?;
                }
                let k1 = pulled.k.first().filter(|_| !step.method.has_jumps());
                self.later.k1 = k1.cloned();
                let replayed = Replayed { k: pulled.k, a, start: &pulled.start };
                let found = step.find(replayed, outputs, &known)?;
                (pulled.start, found)
            }
        };
        for (row, &sample) in self.samples.iter().enumerate() {
            if let Some(index) = self.step(sample, turn) {
                let (t0, t1) = step.rows.ends(row);
                self.audit.add(sample, (index, t0, t1), &found[row])?;
            }
        }
        Ok(start)
    }

    /// Counts what outputs at the ends of steps weigh in the loss.
    fn weigh_ends(&mut self, ends: &[RowTerm]) -> Result<()> {
        if ends.is_empty() {
            return Ok(());
        }
        let sizes = norms(&self.later.y0)?;
        for term in ends {
            let g = norm(&self.cotangents.get(term.source)?)?;
            self.audit.add_output(self.samples[term.row], g, sizes[term.row]);
        }
        Ok(())
    }

    /// Adds how the loss moves with the times that belong to each row's step.
    fn move_times(&mut self, turn: usize, pulled: &Pulled) -> Result<()> {
        for (row, &sample) in self.samples.clone().iter().enumerate() {
            let Some(index) = self.step(sample, turn) else { continue };
            let (step, outputs) = (&pulled.times[row], self.outputs);
            let times = &mut self.times[sample];
            if turn == 0 {
                times.t1 = step.h;
            }
            if index == 0 {
                times.t0 = step.t0 - step.h;
            }
            let inside = outputs.of_step(sample, index).filter(|o| o.s != 0.0 && o.s != 1.0);
            for (output, slope) in inside.zip(&step.outputs) {
                times.ts[outputs.position(sample, output)] = *slope;
            }
            // An output at the end of the step before has this step's slope at its start.
            let before = index.checked_sub(1);
            let at_start = before.into_iter().flat_map(|i| outputs.of_step(sample, i));
            for output in at_start.filter(|output| output.s == 1.0) {
                let (g, k1) = (self.cotangents.get(output.index)?, pulled.k[0].get(row)?);
                times.ts[outputs.position(sample, output)] = kernels::dot(&g, &k1)?;
            }
        }
        Ok(())
    }

    /// Leaves samples without steps to go out of the rows, where the field allows it and it pays.
    fn gather(&mut self, turn: usize) -> Result<()> {
        let under_way = |row: &usize| self.step(self.samples[*row], turn).is_some();
        let rows: Vec<usize> = (0..self.samples.len()).filter(under_way).collect();
        let pays = self.tape.checkpoints.pay_to_gather(rows.len(), &self.samples);
        if !pays || !self.field.takes_rows() {
            return Ok(());
        }
        self.leave();
        let gather = |x: &Tensor| {
            kernels::gather_rows(&rows.iter().map(|&row| (x, row)).collect::<Vec<_>>())
        };
        self.a = gather(&self.a)?;
        self.later.y0 = gather(&self.later.y0)?;
        self.later.k1 = self.later.k1.as_ref().map(gather).transpose()?;
        if let Some(slices) = &mut self.slices {
            slices.keep(&rows);
        }
        self.samples = rows.iter().map(|&row| self.samples[row]).collect();
        Ok(())
    }

    /// Notes where the cotangents of all samples in `a` lie.
    fn leave(&mut self) {
        for (row, &sample) in self.samples.iter().enumerate() {
            self.starts[sample] = Some((self.a.clone(), row));
        }
    }
}
