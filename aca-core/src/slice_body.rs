//! A run over slices, for fields that offer them.

use candle_core::Tensor;

use crate::body::Body;
use crate::kernels::{Element, Scale};
use crate::rules::{Ends, Rules};
use crate::sink::Slopes;
use crate::slice_stages::Stages;
use crate::slices::SliceField;
use crate::stability::{Probe, Reach};
use crate::{Error, Method, Result, SliceStep, Step, StepSink};

/// The state as a slice; or the states of rows that each have a clock (see `slice_rows.rs`).
pub(crate) struct SliceBody<'a, T> {
    /// The state as its sinks get it.
    pub(crate) y: Tensor,
    pub(crate) stages: Stages<'a, T>,
}

impl<'a, T: Element> SliceBody<'a, T> {
    pub(crate) fn new(
        field: Box<dyn SliceField<T> + 'a>,
        method: &Method,
        y: Tensor,
    ) -> Result<Self> {
        let stages = Stages::new(field, method, &y)?;
        Ok(Self { y, stages })
    }
}

impl<T: Element> Body for SliceBody<'_, T> {
    fn y(&self) -> &Tensor {
        &self.y
    }

    fn slope(&mut self, rules: &Rules<'_>, t: f64) -> Result<Tensor> {
        // The start of any step from here.
        self.stages.extend(rules, SliceStep::Shared { t0: t, t1: t }, 1);
        self.stages.tensor(self.stages.k(0))
    }

    fn attempt(&mut self, rules: &Rules<'_>, ends: Ends, judged: bool) -> Result<()> {
        let Ends { t0, t1, .. } = ends;
        let (stages, step) = (&mut self.stages, SliceStep::Shared { t0, t1 });
        if stages.known == 0 {
            stages.extend(rules, step, 1);
            check(stages.k(0), "field", (t0, 0.0))?;
        }
        stages.attempt(rules, step);
        if judged { Ok(()) } else { check(&stages.y1, "state", (t0, ends.h())) }
    }

    fn error_ratio(&self, rules: &Rules<'_>, h: f64, scale: &Scale) -> Result<f64> {
        Ok(h.abs() * Method::ratio(&self.stages.norms(&rules.method, scale)?))
    }

    fn accept(
        &mut self,
        rules: &Rules<'_>,
        ends: Ends,
        sink: &mut dyn StepSink,
        probe: Option<&Probe<'_>>,
    ) -> Result<Option<Reach>> {
        let stages = &mut self.stages;
        let y1 = stages.tensor(&stages.y1)?;
        let slopes = Slopes::Slices(stages);
        sink.accept(&mut Step::new(ends, [&self.y, &y1], slopes, rules))?;
        let reach = match probe {
            Some(probe) => stages.reach(rules, ends, probe)?,
            None => None,
        };
        let carries = rules.method.carries(ends.t1, false);
        // A slope that is not finite is found and told of where the next step starts.
        let finite = rules.method.tableau().is_fsal() || !reach.is_some_and(|r| r.rows.is_nan());
        let end = rules.method.end_stage(stages.known).filter(|_| carries && finite);
        stages.advance(end, None);
        self.y = y1;
        Ok(reach)
    }

    fn reject(&mut self, _: &Rules<'_>, ends: Ends, finite: bool) -> Result<Option<Error>> {
        if finite {
            return Ok(None);
        }
        let (stages, place) = (&self.stages, (ends.t0, ends.h()));
        let slopes = (0..stages.known).map(|i| (stages.k(i), "field"));
        let mut checks = slopes.chain([(&stages.y1[..], "state")]);
        Ok(checks.find_map(|(x, what)| check(x, what, place).err()))
    }
}

/// Refuses numbers that are not finite, of a step of size `h` from `t`.
fn check<T: Element>(x: &[T], what: &'static str, (t, h): (f64, f64)) -> Result<()> {
    match first_non_finite(x) {
        Some(index) => Err(Error::NonFinite { what, t, h, index }),
        None => Ok(()),
    }
}

/// The first number that is NaN or infinite.
pub(crate) fn first_non_finite<T: Element>(x: &[T]) -> Option<usize> {
    x.iter().position(|x| !x.to_f64().is_finite())
}
