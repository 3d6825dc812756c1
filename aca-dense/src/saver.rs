//! The sink that keeps what was asked for.

use aca_core::{Error, Result, RowStep, Step, StepSink, Stepper, TimeSpan, kernels};
use candle_core::Tensor;

use crate::save_at::Request;
use crate::{DenseOutput, DenseStep, Placement, SaveAt};

/// Keeps the outputs that a [`SaveAt`] asks for while a solve runs: of a whole state, or of each sample of a batch.
pub struct Saver {
    whole: bool,
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

/// What a [`Saver`] kept of a whole state.
pub struct Saved {
    /// The times of the outputs, in the span's direction.
    pub ts: Vec<f64>,
    /// Where they lie among the steps.
    pub placements: Vec<Placement>,
    /// The outputs, `[times, ..state]`.
    pub ys: Tensor,
    /// The steps of the dense output, if it was asked for.
    pub dense: Option<Vec<DenseStep>>,
}

/// What a [`Saver`] kept of one sample.
pub(crate) struct SavedSample {
    pub(crate) ts: Vec<f64>,
    pub(crate) placements: Vec<Placement>,
    pub(crate) dense: Option<DenseOutput>,
}

impl Sample {
    fn new(save_at: &SaveAt, span: TimeSpan, row: usize) -> Result<Self> {
        let request = save_at.resolve(span)?;
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
    /// Prepares to keep what `save_at` asks of a solve of a whole state from `y0` over `span`.
    ///
    /// # Errors
    /// Those of [`TimeSpan::check_times`].
    pub fn new(save_at: &SaveAt, span: TimeSpan, y0: &Tensor) -> Result<Self> {
        let sample = Sample::new(save_at, span, 0)?;
        let pieces = if sample.starts_at_t0() { vec![y0.unsqueeze(0)?] } else { Vec::new() };
        Ok(Self { whole: true, y0: y0.clone(), samples: vec![sample], pieces })
    }

    /// Prepares to keep what each sample of a batch is asked for.
    pub(crate) fn of_samples(each: &[SaveAt], spans: &[TimeSpan], y0: &Tensor) -> Result<Self> {
        let samples = each.iter().zip(spans).enumerate();
        let samples = samples.map(|(row, (save_at, &span))| Sample::new(save_at, span, row));
        let samples = samples.collect::<Result<_>>()?;
        Ok(Self { whole: false, y0: y0.clone(), samples, pieces: vec![y0.clone()] })
    }

    /// Takes back what was kept beyond `t1`, where a sink stopped the solve.
    pub fn end_at(&mut self, t1: f64) {
        self.samples.iter_mut().for_each(|sample| sample.end_at(t1));
    }

    /// Returns what was kept of a whole state; times that a solve did not come to hold NaN.
    pub fn finish(mut self) -> Result<Saved> {
        let nan = self.pieces.len();
        let Some(mut sample) = self.samples.pop() else { return Err(Error::NoTimes) };
        let reached = sample.ts.len();
        sample.miss(nan);
        let state = self.y0.unsqueeze(0)?;
        let missing = sample.ts.len() - reached;
        let ys = match self.pieces[..] {
            [] => state.narrow(0, 0, 0)?,
            _ => Tensor::cat(&self.pieces, 0)?.narrow(0, 0, reached)?,
        };
        let nowhere = (state.zeros_like()? * f64::NAN)?;
        let all: Vec<&Tensor> =
            std::iter::once(&ys).chain((0..missing).map(|_| &nowhere)).collect();
        let ys = if missing == 0 { ys } else { Tensor::cat(&all, 0)? };
        let dense = sample.request.dense.then_some(sample.dense);
        Ok(Saved { ts: sample.ts, placements: sample.placements, ys, dense })
    }

    /// Returns each sample's outputs, its end `y1` the last, one sample after the other; times that a
    /// sample did not come to hold NaN.
    pub(crate) fn finish_samples(
        mut self,
        (y1, t1): (&Tensor, &[f64]),
        method: &Stepper,
    ) -> Result<(Tensor, Vec<SavedSample>)> {
        let nan = (y1.narrow(0, 0, 1)?.zeros_like()? * f64::NAN)?;
        let (ends, missing) = (self.pieces.len(), self.pieces.len() + 1);
        self.pieces.extend([y1.clone(), nan]);
        let (mut rows, mut saved) = (Vec::new(), Vec::new());
        for (row, mut sample) in self.samples.into_iter().enumerate() {
            sample.end_at(t1[row]);
            sample.miss(missing);
            rows.extend(&sample.rows);
            rows.push((ends, row));
            let Sample { span, request, ts, placements, dense, broken, .. } = sample;
            let dense = request.dense.then(|| {
                let y0 = self.y0.get(row)?;
                // A step whose outputs are not finite is not part of the solution.
                let t1 = match broken {
                    true => dense.last().map_or(span.t0, |step| step.t1),
                    false => t1[row],
                };
                let span = TimeSpan { t1, ..span };
                Ok::<_, Error>(DenseOutput::new(method.clone(), span, y0, dense))
            });
            saved.push(SavedSample { ts, placements, dense: dense.transpose()? });
        }
        let rows: Vec<_> = rows.iter().map(|&(piece, row)| (&self.pieces[piece], row)).collect();
        Ok((kernels::gather_rows(&rows)?, saved))
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
            self.samples[sample].dense.push(DenseStep { t0, t1, y0, y1, k });
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
}
