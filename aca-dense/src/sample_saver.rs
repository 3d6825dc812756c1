//! The sink that keeps what was asked for of samples with clocks of their own.

use aca_core::{
    Error, Method, Result, SampleSink, SampleStep, SampleSteps, Status, TimeSpan, kernels,
};
use candle_core::Tensor;

use crate::save_at::Request;
use crate::{DenseOutput, DenseStep, Placement, SaveAt};

/// Keeps the outputs that each sample's [`SaveAt`] asks for while a solve runs.
pub(crate) struct SampleSaver {
    y0: Tensor,
    samples: Vec<Sample>,
    /// Tensors that hold outputs, `[.., ..state]`.
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
    /// Takes back all outputs from number `first` on.
    fn take_back(&mut self, first: usize) {
        self.served -= self.ts.len() - first;
        self.ts.truncate(first);
        self.placements.truncate(first);
        self.rows.truncate(first);
        self.broken = true;
    }
}

/// What a [`SampleSaver`] kept of one sample.
pub(crate) struct SavedSample {
    pub(crate) ts: Vec<f64>,
    pub(crate) placements: Vec<Placement>,
    pub(crate) dense: Option<DenseOutput>,
}

impl SampleSaver {
    pub(crate) fn new(each: &[SaveAt], spans: &[TimeSpan], y0: &Tensor) -> Result<Self> {
        let samples = each.iter().zip(spans).enumerate().map(|(row, (save_at, &span))| {
            let request = save_at.resolve(span)?;
            let at_start = request.times.first() == Some(&span.t0);
            let first = |t| if at_start { vec![t] } else { Vec::new() };
            let placements = first(span.t0).iter().map(|_| Placement { step: 0, s: 0.0 }).collect();
            let rows = first(span.t0).iter().map(|_| (0, row)).collect();
            let (served, ts) = (usize::from(at_start), first(span.t0));
            let (dense, broken) = (Vec::new(), false);
            Ok(Sample { span, request, served, ts, placements, rows, dense, broken })
        });
        let samples = samples.collect::<Result<_>>()?;
        Ok(Self { y0: y0.clone(), samples, pieces: vec![y0.clone()] })
    }

    /// Returns each sample's outputs, its end `y1` the last, one sample after the other; times that a
    /// failed sample did not reach hold NaN.
    pub(crate) fn finish(
        mut self,
        y1: &Tensor,
        statuses: &[Status],
        method: &Method,
    ) -> Result<(Tensor, Vec<SavedSample>)> {
        let nan = (y1.narrow(0, 0, 1)?.zeros_like()? * f64::NAN)?;
        let (ends, missing) = (self.pieces.len(), self.pieces.len() + 1);
        self.pieces.extend([y1.clone(), nan]);
        let (mut rows, mut saved) = (Vec::new(), Vec::new());
        for (row, sample) in self.samples.into_iter().enumerate() {
            let Sample { span, request, mut ts, mut placements, .. } = sample;
            rows.extend(&sample.rows);
            if !statuses[row].is_finished() {
                for &t in &request.times[sample.served..] {
                    rows.push((missing, 0));
                    placements.push(Placement { step: usize::MAX, s: f64::NAN });
                    ts.push(t);
                }
            }
            rows.push((ends, row));
            let dense = request.dense.then(|| {
                let y0 = self.y0.get(row)?;
                // A sample that failed has a solution up to its last step.
                let t1 = match statuses[row].is_finished() {
                    true => span.t1,
                    false => sample.dense.last().map_or(span.t0, |step| step.t1),
                };
                let span = TimeSpan { t1, ..span };
                Ok::<_, aca_core::Error>(DenseOutput::new(method.clone(), span, y0, sample.dense))
            });
            saved.push(SavedSample { ts, placements, dense: dense.transpose()? });
        }
        let rows: Vec<_> = rows.iter().map(|&(piece, row)| (&self.pieces[piece], row)).collect();
        Ok((kernels::gather_rows(&rows)?, saved))
    }

    /// Keeps the requested times strictly inside the steps.
    fn save_inside(&mut self, steps: &mut SampleSteps<'_>) -> Result<()> {
        let (mut rows, mut weights, mut whose) = (Vec::new(), Vec::new(), Vec::new());
        let stages = steps.method().interpolant().stages();
        let piece = self.pieces.len();
        for step in steps.accepted {
            let sample = &mut self.samples[step.sample];
            let pending = &sample.request.times[sample.served..];
            let count = pending.iter().take_while(|&&t| sample.span.before(t, step.t1)).count();
            for &t in &pending[..count] {
                let placement = Placement::new(step.index, (step.t0, step.t1), t);
                let start = weights.len();
                weights.resize(start + stages, 0.0);
                steps.method().interpolant().weights_into(placement.s, &mut weights[start..]);
                weights[start..].iter_mut().for_each(|w| *w *= step.t1 - step.t0);
                whose.push((*step, sample.ts.len()));
                sample.rows.push((piece, rows.len()));
                sample.ts.push(t);
                sample.placements.push(placement);
                rows.push(step.row);
            }
            sample.served += count;
        }
        if !rows.is_empty() {
            steps.complete()?;
            let outputs = steps.combine_picked(&rows, &weights)?;
            self.fail_non_finite(&outputs, &whose, steps)?;
            self.pieces.push(outputs);
        }
        Ok(())
    }

    /// Fails samples with outputs that are not finite: nothing else judges the slope at a step's end, which
    /// they may need. `whose` has each output's step and its number among the sample's. For a GPU's answer the
    /// solve would have to wait.
    fn fail_non_finite(
        &mut self,
        outputs: &Tensor,
        whose: &[(SampleStep, usize)],
        steps: &mut SampleSteps<'_>,
    ) -> Result<()> {
        if !outputs.device().is_cpu() {
            return Ok(());
        }
        for (&(step, number), index) in whose.iter().zip(kernels::non_finite_rows(outputs)?) {
            let sample = &mut self.samples[step.sample];
            let Some(index) = index.filter(|_| !sample.broken) else { continue };
            let (what, t, h) = ("output", sample.ts[number], step.t1 - step.t0);
            sample.take_back(number);
            steps.fail(step.sample, Error::NonFinite { what, t, h, index });
        }
        Ok(())
    }

    /// Keeps the states at the ends of steps that were asked for.
    fn save_ends(&mut self, steps: &SampleSteps<'_>) -> Result<()> {
        let (piece, mut rows) = (self.pieces.len(), Vec::new());
        for step in steps.accepted {
            let sample = &mut self.samples[step.sample];
            if sample.broken {
                continue;
            }
            let requested = sample.request.times.get(sample.served) == Some(&step.t1);
            sample.served += usize::from(requested);
            if requested || sample.request.steps {
                sample.rows.push((piece, rows.len()));
                sample.ts.push(step.t1);
                sample.placements.push(Placement { step: step.index, s: 1.0 });
                rows.push((steps.y1, step.row));
            }
        }
        if !rows.is_empty() {
            self.pieces.push(kernels::gather_rows(&rows)?);
        }
        Ok(())
    }

    /// Keeps what the dense output of the samples needs that asked for it.
    fn save_dense(&mut self, steps: &mut SampleSteps<'_>) -> Result<()> {
        let wanted = |step: &&SampleStep| {
            let sample = &self.samples[step.sample];
            sample.request.dense && !sample.broken
        };
        let wanted: Vec<SampleStep> = steps.accepted.iter().filter(wanted).copied().collect();
        if wanted.is_empty() {
            return Ok(());
        }
        steps.complete()?;
        let stages = steps.stages()?;
        for SampleStep { sample, row, t0, t1, .. } in wanted {
            let copy = |x: &Tensor| -> Result<Tensor> {
                Ok(kernels::gather_rows(&[(x, row)])?.squeeze(0)?)
            };
            let k = stages.iter().map(copy).collect::<Result<_>>()?;
            let (y0, y1) = (copy(steps.y0)?, copy(steps.y1)?);
            self.samples[sample].dense.push(DenseStep { t0, t1, y0, y1, k });
        }
        Ok(())
    }
}

impl SampleSink for SampleSaver {
    fn accept(&mut self, steps: &mut SampleSteps<'_>) -> Result<()> {
        self.save_inside(steps)?;
        self.save_ends(steps)?;
        self.save_dense(steps)
    }
}
