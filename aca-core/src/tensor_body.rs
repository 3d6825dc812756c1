//! A run over tensors, on any device.

use candle_core::Tensor;

use crate::body::{Body, check_finite, untried};
use crate::kernels::cuda::Watch;
use crate::kernels::{self, Scale};
use crate::rules::{Ends, Rules};
use crate::sink::Slopes;
use crate::stability::{Probe, Reach};
use crate::{Error, Result, Step, StepSink};

/// The state as a tensor.
pub(crate) struct TensorBody {
    y: Tensor,
    k1: Option<Tensor>,
    /// What was tried: stages and end.
    trial: Option<(Vec<Tensor>, Tensor)>,
    /// Running statistics of the field before the trial, for its rejection.
    statistics: Vec<Tensor>,
    /// On a GPU, what looks for slopes and states that are not finite in place of the host.
    watch: Option<Watch>,
    /// What the watch was told to look at.
    watched: Vec<Watched>,
}

/// A slope at the start of a step, or the state at its end.
struct Watched {
    what: &'static str,
    t: f64,
    h: f64,
}

impl TensorBody {
    pub(crate) fn new(y: Tensor) -> Result<Self> {
        let watch = Watch::over(&y)?;
        let (k1, trial, statistics, watched) = Default::default();
        Ok(Self { y, k1, trial, statistics, watch, watched })
    }

    /// Checks `x` at once, or has the GPU look at it and goes on.
    fn look(&mut self, what: &'static str, (t, h): (f64, f64), x: &Tensor) -> Result<()> {
        let Some(watch) = &mut self.watch else { return check_finite(what, (t, h), x) };
        self.watched.push(Watched { what, t, h });
        watch.look(x)
    }

    /// Estimates how far the step reached that led here from `y0`.
    fn reach(
        &mut self,
        rules: &Rules<'_>,
        ends: Ends,
        (y0, mut k): (&Tensor, Vec<Tensor>),
        probe: &Probe<'_>,
    ) -> Result<Option<Reach>> {
        let method = &rules.method;
        let Some(weights) = method.difference() else { return Ok(None) };
        let (count, known) = (method.stages_with_end(), k.len());
        if known < count {
            // The slope at the end is the next step's first, unless the field jumps between them.
            if ends.last || method.is_jump(ends.t1) {
                return Ok(None);
            }
            k.push(self.slope(rules, ends.t1)?);
        }
        let rows = if y0.rank() < 2 { 1 } else { y0.dims()[0] };
        let (states, k) = ((y0, &self.y), &k[..count]);
        let squares = kernels::difference_squares(rows, states, probe.scale(), k, weights)?;
        let reach = probe.join(ends.h(), self.y.elem_count() / rows, &squares);
        if reach.rows.is_nan() && known < count {
            // The next step's start is where such a slope is found and told of.
            self.k1 = None;
        }
        Ok(Some(reach))
    }

    fn trial(&self) -> Result<&(Vec<Tensor>, Tensor)> {
        self.trial.as_ref().ok_or_else(untried)
    }
}

impl Body for TensorBody {
    fn y(&self) -> &Tensor {
        &self.y
    }

    fn slope(&mut self, rules: &Rules<'_>, t: f64) -> Result<Tensor> {
        if let Some(k1) = &self.k1 {
            return Ok(k1.clone());
        }
        let k1 = rules.field.eval(t, &self.y)?;
        self.k1 = Some(k1.clone());
        Ok(k1)
    }

    fn attempt(&mut self, rules: &Rules<'_>, ends: Ends, judged: bool) -> Result<()> {
        let Ends { t0, t1, .. } = ends;
        let carried = self.k1.is_some();
        let k1 = self.slope(rules, rules.method.stage_time(t0, t1, 0))?;
        // An error ratio that is not finite tells of such a slope as well; on a GPU it is read anyway.
        if !(carried || judged && self.watch.is_some()) {
            self.look("field", (t0, 0.0), &k1)?;
        }
        self.statistics = rules.field.snapshot()?;
        let step = rules.method.step(&rules.field, (t0, t1), &self.y, Some(k1));
        let (k, y1) = match step {
            Ok(step) => step,
            Err(error) => {
                rules.field.restore(&self.statistics)?;
                return Err(error);
            }
        };
        if !judged {
            self.look("state", (t0, ends.h()), &y1)?;
        }
        self.trial = Some((k, y1));
        Ok(())
    }

    fn error_ratio(&self, rules: &Rules<'_>, h: f64, scale: &Scale) -> Result<f64> {
        let (k, y1) = self.trial()?;
        rules.method.error_ratio(h, &self.y, y1, k, scale)
    }

    fn accept(
        &mut self,
        rules: &Rules<'_>,
        ends: Ends,
        sink: &mut dyn StepSink,
        probe: Option<&Probe<'_>>,
    ) -> Result<Option<Reach>> {
        let (mut k, y1) = self.trial.take().ok_or_else(untried)?;
        let Rules { method, field } = rules;
        let slopes = Slopes::Tensors(&mut k);
        sink.accept(&mut Step::new(ends, [&self.y, &y1], slopes, rules))?;
        let carries = method.carries(ends.t1, field.has_statistics());
        self.k1 = if carries { method.end_slope(&k)? } else { None };
        let y0 = std::mem::replace(&mut self.y, y1);
        match probe {
            Some(probe) => self.reach(rules, ends, (&y0, k), probe),
            None => Ok(None),
        }
    }

    fn reject(&mut self, rules: &Rules<'_>, ends: Ends, finite: bool) -> Result<Option<Error>> {
        rules.field.restore(&self.statistics)?;
        if finite {
            return Ok(None);
        }
        if let (Some(_), Some(k1)) = (&self.watch, &self.k1) {
            check_finite("field", (ends.t0, 0.0), k1)?;
        }
        let (k, y1) = self.trial()?;
        let mut checks = k.iter().map(|k| ("field", k)).chain([("state", y1)]);
        let place = (ends.t0, ends.h());
        Ok(checks.find_map(|(what, x)| check_finite(what, place, x).err()))
    }

    fn finish(&self) -> Result<()> {
        // Waits for the GPU if it was told to look at something.
        let Some(watch) = self.watch.as_ref().filter(|_| !self.watched.is_empty()) else {
            return Ok(());
        };
        let Some((look, index)) = watch.read()? else { return Ok(()) };
        match self.watched.get(look) {
            Some(&Watched { what, t, h }) => Err(Error::NonFinite { what, t, h, index }),
            None => Ok(()),
        }
    }
}
