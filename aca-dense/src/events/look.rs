//! Functions at points of the steps of all rows.

use aca_core::{Result, Step};
use candle_core::Tensor;

use super::EventFunction;
use super::crossing::moments;
use super::inside::moment;

/// States at points of the steps of all rows.
pub(crate) struct Looked {
    y: Tensor,
    ts: Vec<f64>,
    samples: Vec<usize>,
}

impl Looked {
    pub(crate) fn new(step: &Step<'_>, fractions: &[f64]) -> Result<Self> {
        let interpolant = step.method().interpolant();
        let stages = interpolant.stages();
        let count = step.accepted.len() * fractions.len();
        let (mut rows, mut weights) = (Vec::with_capacity(count), vec![0.0; count * stages]);
        let (mut ts, mut samples) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut all = weights.chunks_exact_mut(stages);
        let mut unit = vec![0.0; fractions.len() * stages];
        for (&s, weights) in fractions.iter().zip(unit.chunks_exact_mut(stages)) {
            interpolant.weights_into(s, weights);
        }
        for own in step.accepted {
            let h = own.h();
            let unit = fractions.iter().zip(unit.chunks_exact(stages));
            for ((&s, unit), weights) in unit.zip(&mut all) {
                weights.iter_mut().zip(unit).for_each(|(w, unit)| *w = h * unit);
                rows.push(own.row);
                ts.push(moment(own, s));
                samples.push(own.sample);
            }
        }
        Ok(Self { y: step.combine(&rows, &weights)?.detach(), ts, samples })
    }

    /// The values of a function at all of them.
    pub(crate) fn values(
        &self,
        (event, function): (usize, &EventFunction),
        step: &Step<'_>,
        count: usize,
    ) -> Result<Vec<f64>> {
        let rows = self.ts.len();
        if !step.is_whole()
            || matches!(function, EventFunction::Component { .. } | EventFunction::Law(..))
        {
            let t = moments(false, &self.ts, &self.samples)?;
            return function.eval(event, &t, &self.y, Some(rows));
        }
        let mut values = Vec::with_capacity(count);
        for row in 0..rows {
            let t = moments(true, &self.ts[row..], &self.samples)?;
            values.extend(function.eval(event, &t, &self.y.get(row)?, None)?);
        }
        Ok(values)
    }
}
