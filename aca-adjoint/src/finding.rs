//! What a replayed step tells beside its gradient, on tensors.

use aca_core::kernels::{self, RowTerm, Terms};
use aca_core::{Method, Result};
use candle_core::Tensor;

use crate::replay::{Outputs, Replay};
use crate::report::RowFinding;
use crate::sample_replay::{RowOutputs, SampleReplay};

/// What is known of a step's end before the step is replayed.
pub(crate) struct Known<'a> {
    /// The state that the solve found there.
    pub(crate) y1: Option<&'a Tensor>,
    /// The slope there, on the step's own side of a jump: the first stage of the step after it.
    pub(crate) slope: Option<&'a Tensor>,
    /// Which part of a large state is compared: counted up from step to step.
    pub(crate) window: usize,
}

impl Known<'_> {
    /// Appends the stages that the error estimate alone reads, of which the end's slope may be known, and returns the
    /// estimate's weights.
    fn complete<'m>(
        &self,
        method: &'m Method,
        k: &mut Vec<Tensor>,
        evaluate: impl Fn(usize, &[Tensor]) -> Result<Tensor>,
    ) -> Result<&'m [f64]> {
        let weights = method.error_weights();
        for i in k.len()..weights.len() {
            let end = self.slope.filter(|_| method.fsal_stage() == Some(i));
            k.push(end.map_or_else(|| evaluate(i, k), |end| Ok(end.clone()))?);
        }
        Ok(weights)
    }
}

/// What a step looks like once cotangents went back through it.
pub(crate) struct Replayed<'a> {
    /// Slopes of the stages.
    pub(crate) k: Vec<Tensor>,
    /// Cotangent of the step's end.
    pub(crate) a: &'a Tensor,
    /// Cotangent of its start.
    pub(crate) start: &'a Tensor,
}

impl Replay<'_> {
    /// Compares the replayed end with the one that ran, and measures cotangents and error estimate.
    ///
    /// # Cost
    /// Passes over the state, and an evaluation where the error estimate reads a stage that nothing else does.
    pub(crate) fn find(
        &self,
        Replayed { mut k, a, start }: Replayed<'_>,
        outputs: Option<&Outputs>,
        known: &Known<'_>,
    ) -> Result<RowFinding> {
        let h = self.h();
        let ones = outputs.map(|outputs| (vec![1.0; outputs.s.len()], &outputs.cotangents));
        let rows = ones.as_ref().map(|(ones, g)| (&ones[..], *g));
        let arriving = match rows {
            Some(_) => kernels::combine_with_rows(Some(a), &[], rows)?,
            None => a.clone(),
        };
        let mut found = RowFinding { size: norm(self.y0)?, ..RowFinding::default() };
        let mut arrived = None;
        if let Some(Outputs { s, cotangents: g }) = outputs {
            // |g_1| + .. + |g_m| <= sqrt(m (|g_1|^2 + .. + |g_m|^2)), and what arrives at most is that and |a|.
            found.outputs = (s.len() as f64 * kernels::dot(g, g)?).sqrt();
            arrived = Some(norm(a)? + found.outputs);
        }
        found.off = match known.y1 {
            Some(y1) => {
                let terms = terms(h, self.method.tableau().b(), &k);
                kernels::difference(y1, self.y0, &terms, known.window)?
            }
            None => 0.0,
        };
        let weights = known.complete(self.method, &mut k, |i, k| {
            let state = self.method.stage_state(i, self.y0, h, k)?;
            self.field.eval(self.method.stage_time(self.t0, self.t1, i), &state)
        })?;
        found.products = kernels::products(1, &arriving, start, &terms(1.0, weights, &k))?[0];
        if let Some(arrived) = arrived {
            found.products.arriving = arrived * arrived;
        }
        Ok(found)
    }
}

impl SampleReplay<'_> {
    /// As [`Replay::find`], for every row; what is found of rows that rest means nothing.
    pub(crate) fn find(
        &self,
        Replayed { mut k, a, start }: Replayed<'_>,
        outputs: &RowOutputs<'_>,
        known: &Known<'_>,
    ) -> Result<Vec<RowFinding>> {
        let h = self.rows.h();
        let whole = outputs.outputs.iter();
        let whole = whole.map(|o| RowTerm { row: o.row, weight: 1.0, source: o.index });
        let arriving = kernels::add_rows(a, &whole.collect::<Vec<_>>(), outputs.cotangents)?;
        let off = self.differences(h, &k, known.y1)?;
        let weights = known.complete(self.method, &mut k, |i, k| {
            let state = self.method.stage_states(i, self.y0, h, k)?;
            self.field.eval_at(&self.method.stage_times(self.rows, i)?, &state)
        })?;
        let products = kernels::products(h.len(), &arriving, start, &terms(1.0, weights, &k))?;
        let found = products.into_iter().zip(off);
        let found =
            found.map(|(products, off)| RowFinding { products, off, ..RowFinding::default() });
        let mut found: Vec<RowFinding> = found.collect();
        self.weigh(a, outputs, &mut found)?;
        Ok(found)
    }

    /// Relative distances of the replayed ends from those that ran.
    fn differences(&self, h: &[f64], k: &[Tensor], y1: Option<&Tensor>) -> Result<Vec<f64>> {
        let Some(y1) = y1 else { return Ok(vec![0.0; h.len()]) };
        let b = self.method.tableau().b();
        let ends = kernels::combine_each(Some(self.y0), h, &terms(1.0, b, k))?;
        let off = kernels::combine(Some(&ends), &[(-1.0, y1)])?;
        let sizes = norms(y1)?.into_iter().zip(norms(self.y0)?);
        let pairs = norms(&off)?.into_iter().zip(sizes);
        let relative = |(off, (y1, y0)): (f64, (f64, f64))| off / f64::max(y1, y0);
        Ok(pairs.map(|pair| if pair.0 == 0.0 { 0.0 } else { relative(pair) }).collect())
    }

    /// Adds the cotangents of outputs inside the rows' steps and the sizes of the states.
    fn weigh(&self, a: &Tensor, outputs: &RowOutputs<'_>, found: &mut [RowFinding]) -> Result<()> {
        for (found, size) in found.iter_mut().zip(norms(self.y0)?) {
            found.size = size;
        }
        if outputs.outputs.is_empty() {
            return Ok(());
        }
        let sizes = norms(outputs.cotangents)?;
        for output in &outputs.outputs {
            found[output.row].outputs += sizes[output.index];
        }
        for (found, a) in found.iter_mut().zip(norms(a)?).filter(|(found, _)| found.outputs > 0.0) {
            found.products.arriving = (a + found.outputs).powi(2);
        }
        Ok(())
    }
}

/// The weighted slopes whose weight is not zero.
fn terms<'a>(h: f64, weights: &[f64], k: &'a [Tensor]) -> Terms<'a> {
    let terms = weights.iter().zip(k).filter(|(w, _)| **w != 0.0);
    terms.map(|(w, k)| (h * w, k)).collect()
}

/// Euclidean norm.
pub(crate) fn norm(x: &Tensor) -> Result<f64> {
    Ok(kernels::dot(x, x)?.sqrt())
}

/// Euclidean norms of rows.
pub(crate) fn norms(x: &Tensor) -> Result<Vec<f64>> {
    Ok(kernels::dot_each(x, x)?.into_iter().map(f64::sqrt).collect())
}
