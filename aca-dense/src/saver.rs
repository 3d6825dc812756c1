//! The sink that keeps what was asked for.

use std::sync::Arc;

use aca_core::{
    Batching, Error, Result, RowStep, SolveEnd, Solver, Spans, Step, StepSink, Stepper, TimeSpan,
    kernels,
};
use candle_core::Tensor;

use crate::save_at::Request;
use crate::{DenseOutput, DenseStep, Layout, Placement, SaveAt, Solution};

/// Keeps the outputs that a [`SaveAt`] asks for while a solve runs: of a whole state, or of each sample of a batch.
pub struct Saver {
    whole: bool,
    /// Whether samples may come to have different numbers of outputs.
    ragged: bool,
    /// What dense output needs, if it was asked for.
    methods: Arc<[Stepper]>,
    y0: Tensor,
    /// One for a whole state.
    samples: Vec<Sample>,
    /// Tensors that hold outputs, `[.., ..state]`; those of a whole state in their order.
    pieces: Vec<Tensor>,
}

/// What was kept of one sample.
struct Sample {
    span: TimeSpan,
    request: Request,
    /// Number of requested times that are already there.
    served: usize,
    ts: Vec<f64>,
    placements: Vec<Placement>,
    /// Where its outputs lie: a piece and its row.
    rows: Vec<(usize, usize)>,
    dense: Vec<DenseStep>,
    /// Whether an output was not finite, after which nothing more is kept.
    broken: bool,
}

impl Sample {
    fn new(save_at: &SaveAt, span: TimeSpan, (row, batch): (usize, Option<usize>)) -> Result<Self> {
        let request = save_at.resolve(span, (row, batch))?;
        let (ts, placements, rows, dense) = Default::default();
        let mut sample =
            Self { span, request, served: 0, ts, placements, rows, dense, broken: false };
        if sample.starts_at_t0() {
            sample.served = 1;
            sample.push(span.t0, Placement { step: 0, s: 0.0 }, (0, row));
        }
        Ok(sample)
    }

    fn starts_at_t0(&self) -> bool {
        self.request.times.first() == Some(&self.span.t0)
    }

    fn push(&mut self, t: f64, placement: Placement, row: (usize, usize)) {
        self.ts.push(t);
        self.placements.push(placement);
        self.rows.push(row);
    }

    /// Number of the next requested times that lie before `t`.
    fn pending_before(&self, t: f64) -> usize {
        let pending = &self.request.times[self.served..];
        pending.iter().take_while(|&&time| self.span.before(time, t)).count()
    }

    /// Takes back all outputs from number `first` on.
    fn take_back(&mut self, first: usize) {
        let kept = self.ts[..first].last();
        self.served = kept
            .map_or(0, |&t| self.request.times.partition_point(|&time| !self.span.before(t, time)));
        self.ts.truncate(first);
        self.placements.truncate(first);
        self.rows.truncate(first);
    }

    /// Takes back the outputs beyond where the solve stopped.
    fn end_at(&mut self, t1: f64) {
        self.take_back(self.ts.partition_point(|&t| !self.span.before(t1, t)));
    }

    /// Notes the requested times that the solve did not come to, whose outputs are in piece `nan`.
    fn miss(&mut self, nan: usize) {
        for m in self.served..self.request.times.len() {
            let nowhere = Placement { step: usize::MAX, s: f64::NAN };
            self.push(self.request.times[m], nowhere, (nan, 0));
        }
    }
}

impl Saver {
    /// Prepares to keep what `save_at` asks of a solve by `solver` from `y0`.
    ///
    /// # Errors
    /// Those of [`Spans::resolve`] and [`TimeSpan::check_times`]; [`Error::SharedSteps`], [`Error::SampleCount`].
    pub fn new(solver: &Solver, save_at: &SaveAt, spans: &Spans, y0: &Tensor) -> Result<Self> {
        let resolved = spans.resolve(solver.batching, y0)?;
        let whole = solver.batching == Batching::Shared;
        let batch = (!whole).then_some(resolved.len());
        let samples = resolved.iter().enumerate();
        let samples = samples.map(|(row, &span)| Sample::new(save_at, span, (row, batch)));
        let samples: Vec<Sample> = samples.collect::<Result<_>>()?;
        let pieces = match whole {
            true if samples[0].starts_at_t0() => vec![y0.unsqueeze(0)?],
            true => Vec::new(),
            false => vec![y0.clone()],
        };
        let ragged = save_at.is_ragged() || matches!(spans, Spans::PerSample(_));
        let methods = match samples.iter().any(|sample| sample.request.dense) {
            true => Stepper::all(solver, y0.dtype())?.into(),
            false => Arc::from([]),
        };
        Ok(Self { whole, ragged, methods, y0: y0.clone(), samples, pieces })
    }

    /// Joins what was kept to how the solve ended; outputs at times that it did not come to hold NaN.
    pub fn finish(mut self, end: SolveEnd) -> Result<Solution> {
        for (sample, end) in self.samples.iter_mut().zip(&end.samples) {
            sample.end_at(end.t1);
        }
        self.save_stops(&end)?;
        let dense = self.take_dense(&end)?;
        let (ys, layout) = if self.whole { self.whole_outputs()? } else { self.sample_outputs()? };
        let (mut ts, mut placements) = (Vec::new(), Vec::new());
        match &layout {
            Layout::Alike { .. } => ts.clone_from(&self.samples[0].ts),
            _ => self.samples.iter().for_each(|sample| ts.extend(&sample.ts)),
        }
        self.samples.into_iter().for_each(|sample| placements.extend(sample.placements));
        Ok(Solution::new((ts, ys), (placements, layout), end).with_dense(dense))
    }

    /// Keeps the ends of solves that stopped inside a step, where the ends of steps were asked for.
    fn save_stops(&mut self, end: &SolveEnd) -> Result<()> {
        let piece = if self.whole { 1 } else { self.pieces.len() };
        let mut stopped = false;
        for (row, (sample, own)) in self.samples.iter_mut().zip(&end.samples).enumerate() {
            let before = |t: &f64| sample.span.before(*t, own.t1);
            let inside = own.stats.accepted > 0 && sample.ts.last().is_some_and(before);
            if sample.request.steps && own.status.is_finished() && inside {
                let reached = sample.ts.len();
                let placement = Placement { step: own.stats.accepted - 1, s: own.s };
                sample.push(own.t1, placement, (piece, row));
                if self.whole {
                    let known = Tensor::cat(&self.pieces, 0)?.narrow(0, 0, reached)?;
                    self.pieces = vec![known, end.y1.unsqueeze(0)?];
                }
                stopped = true;
            }
        }
        if stopped && !self.whole {
            self.pieces.push(end.y1.clone());
        }
        Ok(())
    }

    /// The outputs of a whole state.
    fn whole_outputs(&mut self) -> Result<(Tensor, Layout)> {
        let sample = &mut self.samples[0];
        let reached = sample.ts.len();
        sample.miss(self.pieces.len());
        let (count, state) = (sample.ts.len(), self.y0.unsqueeze(0)?);
        let ys = match self.pieces[..] {
            [] => state.narrow(0, 0, 0)?,
            _ => Tensor::cat(&self.pieces, 0)?.narrow(0, 0, reached)?,
        };
        if count == reached {
            return Ok((ys, Layout::Whole(count)));
        }
        let nowhere = (state.zeros_like()? * f64::NAN)?;
        let missing = (reached..count).map(|_| &nowhere);
        let all: Vec<&Tensor> = std::iter::once(&ys).chain(missing).collect();
        Ok((Tensor::cat(&all, 0)?, Layout::Whole(count)))
    }

    /// The outputs of samples that step on their own.
    fn sample_outputs(&mut self) -> Result<(Tensor, Layout)> {
        let nan = (self.y0.narrow(0, 0, 1)?.zeros_like()? * f64::NAN)?;
        self.samples.iter_mut().for_each(|sample| sample.miss(self.pieces.len()));
        self.pieces.push(nan);
        let counts: Vec<usize> = self.samples.iter().map(|sample| sample.rows.len()).collect();
        let layout = match (self.ragged, counts.len()) {
            (true, _) => Layout::Ragged(counts),
            (false, batch) => Layout::Alike { times: counts[0], batch },
        };
        let shape = [&layout.dims(), &self.y0.dims()[1..]].concat();
        let mut rows = vec![(&self.y0, 0); layout.len()];
        for (number, sample) in self.samples.iter().enumerate() {
            for (place, &(piece, row)) in layout.rows(number).zip(&sample.rows) {
                rows[place] = (&self.pieces[piece], row);
            }
        }
        let ys = match rows.is_empty() {
            true => Tensor::zeros(shape, self.y0.dtype(), self.y0.device())?,
            false => kernels::gather_rows(&rows)?.reshape(shape)?,
        };
        Ok((ys, layout))
    }

    /// The solution of each sample that asked for its dense output.
    fn take_dense(&mut self, end: &SolveEnd) -> Result<Vec<Option<DenseOutput>>> {
        let mut all = Vec::new();
        for (row, (sample, end)) in self.samples.iter_mut().zip(&end.samples).enumerate() {
            if !sample.request.dense {
                all.push(None);
                continue;
            }
            let y0 = if self.whole { self.y0.clone() } else { self.y0.get(row)? };
            let steps = std::mem::take(&mut sample.dense);
            // A step whose outputs are not finite is not part of the solution.
            let t1 = match sample.broken {
                true => steps.last().map_or(sample.span.t0, |step| step.t1),
                false => end.t1,
            };
            let span = TimeSpan { t1, ..sample.span };
            all.push(Some(DenseOutput::new(self.methods.clone(), span, y0, steps)));
        }
        Ok(all)
    }

    /// Keeps the requested times strictly inside the steps.
    fn save_inside(&mut self, step: &mut Step<'_>) -> Result<()> {
        let (mut rows, mut weights) = (Vec::new(), Vec::new());
        let (piece, interpolant) = (self.pieces.len(), step.method().interpolant());
        let stages = interpolant.stages();
        for own in step.accepted {
            let sample = &mut self.samples[own.sample];
            let count = sample.pending_before(own.t1);
            let start = weights.len();
            weights.resize(start + count * stages, 0.0);
            for weights in weights[start..].chunks_exact_mut(stages) {
                let t = sample.request.times[sample.served];
                let placement = Placement::new(own.index, (own.t0, own.t1), t);
                interpolant.weights_into(placement.s, weights);
                weights.iter_mut().for_each(|w| *w *= own.h());
                sample.push(t, placement, (piece, rows.len()));
                sample.served += 1;
                rows.push(own.row);
            }
        }
        if !rows.is_empty() {
            step.complete()?;
            let outputs = step.combine(&rows, &weights)?;
            self.fail_non_finite(&outputs, step)?;
            self.pieces.push(outputs);
        }
        Ok(())
    }

    /// Fails samples with outputs inside their steps that are not finite: nothing else judges the slope at a step's end,
    /// which they may need. For a GPU's answer the solve would have to wait.
    fn fail_non_finite(&mut self, outputs: &Tensor, step: &mut Step<'_>) -> Result<()> {
        if !outputs.device().is_cpu() || kernels::first_non_finite(outputs)?.is_none() {
            return Ok(());
        }
        let (piece, bad) = (self.pieces.len(), kernels::non_finite_rows(outputs)?);
        for own in step.accepted {
            let sample = &mut self.samples[own.sample];
            let found = sample.rows.iter().enumerate().find_map(|(number, row)| {
                let index = if row.0 == piece { bad[row.1] } else { None };
                Some((number, index?))
            });
            let Some((number, index)) = found else { continue };
            let (what, t, h) = ("output", sample.ts[number], own.h());
            sample.take_back(number);
            sample.broken = true;
            step.fail(own.sample, Error::NonFinite { what, t, h, index });
        }
        Ok(())
    }

    /// Keeps the states at the ends of steps that were asked for.
    fn save_ends(&mut self, step: &Step<'_>) -> Result<()> {
        let (piece, mut rows) = (self.pieces.len(), Vec::new());
        for own in step.accepted {
            let sample = &mut self.samples[own.sample];
            if sample.broken {
                continue;
            }
            let requested = sample.request.times.get(sample.served) == Some(&own.t1);
            sample.served += usize::from(requested);
            if requested || sample.request.steps {
                let end = Placement { step: own.index, s: 1.0 };
                sample.push(own.t1, end, (piece, rows.len()));
                rows.push(own.row);
            }
        }
        if !rows.is_empty() {
            self.pieces.push(match self.whole {
                true => step.y1.unsqueeze(0)?,
                false => kernels::pick_rows(step.y1, &rows)?,
            });
        }
        Ok(())
    }

    /// Keeps what the dense output of the samples needs that asked for it.
    fn save_dense(&mut self, step: &mut Step<'_>) -> Result<()> {
        let wanted = |own: &&RowStep| {
            let sample = &self.samples[own.sample];
            sample.request.dense && !sample.broken
        };
        let wanted: Vec<RowStep> = step.accepted.iter().filter(wanted).copied().collect();
        if wanted.is_empty() {
            return Ok(());
        }
        step.complete()?;
        let stages = step.stages()?;
        for RowStep { sample, row, t0, t1, .. } in wanted {
            let copy = |x: &Tensor| -> Result<Tensor> {
                match self.whole {
                    true => Ok(x.clone()),
                    false => Ok(kernels::pick_rows(x, &[row])?.squeeze(0)?),
                }
            };
            let k = stages.iter().map(copy).collect::<Result<_>>()?;
            let (y0, y1) = (copy(step.y0)?, copy(step.y1)?);
            self.samples[sample].dense.push(DenseStep { t0, t1, y0, y1, k, scheme: step.scheme() });
        }
        Ok(())
    }
}

impl StepSink for Saver {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.save_inside(step)?;
        self.save_ends(step)?;
        self.save_dense(step)
    }

    fn looks_inside(&self, sample: usize, t1: f64) -> bool {
        let sample = &self.samples[sample];
        sample.request.dense || sample.pending_before(t1) > 0
    }
}
