//! Rows on slices, for fields that offer them.

use candle_core::Tensor;

use crate::kernels::{Element, Scale};
use crate::row_body::{Looked, Moved, RowBody, are_finite, carries, gather, moved};
use crate::rules::Rules;
use crate::sink::Slopes;
use crate::slice_body::{SliceBody, first_non_finite};
use crate::stability::Probe;
use crate::{Method, Result, RowSteps, SampleSink, SampleStep, SampleSteps, SliceStep};

impl<T: Element> RowBody for SliceBody<'_, T> {
    fn y(&self) -> &Tensor {
        &self.y
    }

    fn is_started(&self) -> bool {
        self.stages.known > 0
    }

    fn start(&mut self, rules: &Rules<'_>, steps: &RowSteps) -> Result<()> {
        self.stages.extend(rules, SliceStep::Each(steps), 1);
        Ok(())
    }

    fn k1(&self) -> Result<Tensor> {
        self.stages.tensor(self.stages.k(0))
    }

    fn attempt(&mut self, rules: &Rules<'_>, steps: &RowSteps) -> Result<()> {
        self.stages.attempt(rules, SliceStep::Each(steps));
        Ok(())
    }

    fn error_ratios(&self, rules: &Rules<'_>, h: &[f64], scale: &Scale) -> Result<Vec<f64>> {
        let norms = self.stages.norms_each(&rules.method, h.len(), scale)?;
        Ok(Method::ratios(h, &norms))
    }

    fn non_finite_rows(&self, what: Looked) -> Result<Vec<Option<usize>>> {
        let x = match what {
            Looked::Slopes => self.stages.k(0),
            Looked::Ends => &self.stages.y1,
        };
        let rows = self.y.dims()[0];
        Ok(match first_non_finite(x) {
            None => vec![None; rows],
            Some(_) => (0..rows).map(|row| first_non_finite(numbers_of(x, rows, row))).collect(),
        })
    }

    fn first_non_finite(&self, row: usize, slopes: bool) -> Result<Option<(&'static str, usize)>> {
        let stages = &self.stages;
        let k = (0..stages.known).filter(|_| slopes).map(|i| ("field", stages.k(i)));
        let mut all = k.chain([("state", &stages.y1[..])]);
        let rows = self.y.dims()[0];
        Ok(all.find_map(|(what, x)| Some((what, first_non_finite(numbers_of(x, rows, row))?))))
    }

    fn accept(
        &mut self,
        rules: &Rules<'_>,
        steps: &RowSteps,
        accepted: &[SampleStep],
        sink: &mut dyn SampleSink,
        probe: Option<&Probe<'_>>,
    ) -> Result<Moved> {
        let (rows, stages) = (self.y.dims()[0], &mut self.stages);
        let moved = (accepted.len() < rows).then(|| moved(rows, accepted));
        if let Some(moved) = &moved {
            stages.hold(moved);
        }
        let y1 = stages.tensor(&stages.y1)?;
        let slopes = Slopes::Slices(stages);
        let mut handed = SampleSteps::new(accepted, [&self.y, &y1], slopes, steps, rules);
        sink.accept(&mut handed)?;
        let failures = handed.failures();
        let carries = carries(rules, accepted);
        let reaches = match probe {
            Some(probe) => stages.reaches(rules, steps, probe)?,
            None => Vec::new(),
        };
        let finite = are_finite(rules, accepted, &reaches);
        let end = rules.method.end_stage(stages.known).filter(|_| carries && finite);
        stages.advance(end, moved.as_deref());
        self.y = y1;
        Ok(Moved { failures, reaches })
    }

    fn reject(&mut self, _: &Rules<'_>) -> Result<()> {
        Ok(())
    }

    fn gather(&mut self, rows: &[usize]) -> Result<()> {
        self.y = gather(&self.y, rows)?;
        self.stages.gather(rows, &self.y)
    }
}

/// The numbers of one of several rows.
fn numbers_of<T>(x: &[T], rows: usize, row: usize) -> &[T] {
    let length = x.len() / rows;
    &x[row * length..][..length]
}
