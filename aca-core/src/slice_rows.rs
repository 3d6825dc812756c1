//! Rows on slices, for fields that offer them.

use candle_core::Tensor;

use crate::kernels::{Element, Scale};
use crate::row_body::{Looked, RowBody, carries, gather, moved};
use crate::rules::Rules;
use crate::sink::Slopes;
use crate::slice_body::first_non_finite;
use crate::slice_stages::Stages;
use crate::slices::SliceField;
use crate::{Method, Result, RowSteps, SampleSink, SampleStep, SampleSteps, SliceStep};

/// The states as a slice.
pub(crate) struct SliceRows<'a, T> {
    /// The states as their sinks get them.
    y: Tensor,
    stages: Stages<'a, T>,
}

impl<'a, T: Element> SliceRows<'a, T> {
    pub(crate) fn new(
        field: Box<dyn SliceField<T> + 'a>,
        method: &Method,
        y: Tensor,
    ) -> Result<Self> {
        let stages = Stages::new(field, method, &y)?;
        Ok(Self { y, stages })
    }

    /// The numbers of a row.
    fn row<'x>(&self, x: &'x [T], row: usize) -> &'x [T] {
        let length = x.len() / self.y.dims()[0];
        &x[row * length..][..length]
    }
}

impl<T: Element> RowBody for SliceRows<'_, T> {
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
            Some(_) => (0..rows).map(|row| first_non_finite(self.row(x, row))).collect(),
        })
    }

    fn first_non_finite(&self, row: usize, slopes: bool) -> Result<Option<(&'static str, usize)>> {
        let stages = &self.stages;
        let k = (0..stages.known).filter(|_| slopes).map(|i| ("field", stages.k(i)));
        let mut all = k.chain([("state", &stages.y1[..])]);
        Ok(all.find_map(|(what, x)| Some((what, first_non_finite(self.row(x, row))?))))
    }

    fn accept(
        &mut self,
        rules: &Rules<'_>,
        steps: &RowSteps,
        accepted: &[SampleStep],
        sink: &mut dyn SampleSink,
    ) -> Result<()> {
        let (rows, stages) = (self.y.dims()[0], &mut self.stages);
        let moved = (accepted.len() < rows).then(|| moved(rows, accepted));
        if let Some(moved) = &moved {
            stages.hold(moved);
        }
        let y1 = stages.tensor(&stages.y1)?;
        let slopes = Slopes::Slices(stages);
        sink.accept(&mut SampleSteps::new(accepted, [&self.y, &y1], slopes, steps, rules))?;
        let end = rules.method.end_stage(stages.known).filter(|_| carries(rules, accepted));
        stages.advance(end, moved.as_deref());
        self.y = y1;
        Ok(())
    }

    fn reject(&mut self, _: &Rules<'_>) -> Result<()> {
        Ok(())
    }

    fn gather(&mut self, rows: &[usize]) -> Result<()> {
        self.y = gather(&self.y, rows)?;
        self.stages.gather(rows, &self.y)
    }
}
