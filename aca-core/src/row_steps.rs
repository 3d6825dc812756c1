//! One step of every row of a batch, each with times of its own.

use std::sync::Arc;

use candle_core::Tensor;
use smallvec::SmallVec;

use crate::kernels::{self, Scale, Terms};
use crate::{Evaluator, Method, Result, Time};

/// The times of one step of every row of a batch; a row that rests ends where it starts.
#[derive(Clone, Debug)]
pub struct RowSteps {
    samples: Arc<[usize]>,
    t0: Arc<[f64]>,
    t1: Arc<[f64]>,
    h: Vec<f64>,
}

impl RowSteps {
    /// Joins where each row's step starts and ends to the samples that the rows hold.
    pub fn new(samples: Arc<[usize]>, t0: Arc<[f64]>, t1: Arc<[f64]>) -> Self {
        let h = t0.iter().zip(&*t1).map(|(t0, t1)| t1 - t0).collect();
        Self { samples, t0, t1, h }
    }

    /// The samples that the rows hold.
    pub fn samples(&self) -> &Arc<[usize]> {
        &self.samples
    }

    /// Where a row's step starts and ends.
    pub fn ends(&self, row: usize) -> (f64, f64) {
        (self.t0[row], self.t1[row])
    }

    /// Signed sizes of the steps.
    pub fn h(&self) -> &[f64] {
        &self.h
    }

    /// The same steps of the rows that `goes` names; the others rest.
    pub fn resting_unless(&self, goes: impl Fn(usize) -> bool) -> Self {
        let ends = self.t0.iter().zip(&*self.t1).enumerate();
        let t1 = ends.map(|(row, (&t0, &t1))| if goes(row) { t1 } else { t0 }).collect();
        Self::new(self.samples.clone(), self.t0.clone(), t1)
    }

    /// Whether it pays to gather the rows under way, so that the others are not evaluated: below three
    /// quarters a gather is cheaper than the evaluations that it saves.
    pub fn pays_to_gather(under_way: usize, rows: usize) -> bool {
        4 * under_way < 3 * rows
    }
}

impl Method {
    /// Times of stage `i`, as [`Method::stage_time`] gives them for one step.
    pub fn stage_times(&self, rows: &RowSteps, i: usize) -> Result<Time> {
        let ts = match self.c(i) {
            0.0 if !self.has_jumps() => rows.t0.clone(),
            1.0 if !self.has_jumps() => rows.t1.clone(),
            _ => {
                let ends = rows.t0.iter().copied().zip(rows.t1.iter().copied());
                ends.map(|ends| self.row_time(ends, i)).collect()
            }
        };
        Time::of_samples(ts, rows.samples.clone())
    }

    /// The time of stage `i` of a row; one that rests has its own.
    pub(crate) fn row_time(&self, (t0, t1): (f64, f64), i: usize) -> f64 {
        if t0 == t1 { t0 } else { self.stage_time(t0, t1, i) }
    }

    /// States at which stage `i` is evaluated.
    ///
    /// # Shapes
    /// `y0`, every `k_i` and the result: `[rows, ..state]`; `h`: one a row.
    pub fn stage_states(&self, i: usize, y0: &Tensor, h: &[f64], k: &[Tensor]) -> Result<Tensor> {
        if i == 0 { Ok(y0.clone()) } else { weighted_each(y0, h, self.a_row(i), k) }
    }

    /// The tableau's stages of every row's step and the states at their ends; `k1` is the first stage
    /// if it is known.
    pub fn step_rows(
        &self,
        f: &Evaluator<'_>,
        rows: &RowSteps,
        y0: &Tensor,
        k1: Option<Tensor>,
    ) -> Result<(Vec<Tensor>, Tensor)> {
        let (h, stages) = (rows.h(), self.tableau().stages());
        let mut k = Vec::with_capacity(self.interpolant().stages().max(stages));
        k.extend(k1);
        let mut state = y0.clone();
        for i in k.len()..stages {
            state = self.stage_states(i, y0, h, &k)?;
            k.push(f.eval_at(&self.stage_times(rows, i)?, &state)?);
        }
        // The last stage of a FSAL tableau is evaluated at y1 itself.
        let y1 = match self.tableau().is_fsal() {
            true => state,
            false => weighted_each(y0, h, self.tableau().b(), &k)?,
        };
        Ok((k, y1))
    }

    /// Appends the interpolant's extra stages, up to `count` stages in all, to the tableau's own.
    pub fn extend_row_stages(
        &self,
        f: &Evaluator<'_>,
        rows: &RowSteps,
        y0: &Tensor,
        k: &mut Vec<Tensor>,
        count: usize,
    ) -> Result<()> {
        for i in k.len()..count {
            let state = self.stage_states(i, y0, rows.h(), k)?;
            k.push(f.eval_at(&self.stage_times(rows, i)?, &state)?);
        }
        Ok(())
    }

    /// Error ratio of every row's step, as [`Method::error_ratio`] gives it for one.
    pub fn error_ratios(
        &self,
        h: &[f64],
        (y0, y1): (&Tensor, &Tensor),
        k: &[Tensor],
        scale: &Scale,
    ) -> Result<Vec<f64>> {
        let k: SmallVec<[&Tensor; 8]> = k.iter().collect();
        let norms = kernels::scaled_norms_each(y0, y1, scale, &k, self.b_error())?;
        Ok(Self::ratios(h, &norms))
    }

    /// Joins every row's norms to its error ratio.
    pub(crate) fn ratios(h: &[f64], norms: &[SmallVec<[f64; 2]>]) -> Vec<f64> {
        h.iter().zip(norms).map(|(h, norms)| h.abs() * Self::ratio(norms)).collect()
    }
}

/// `y0 + h sum(w_i k_i)` over the weights that are not zero, with a step size for each row.
fn weighted_each(y0: &Tensor, h: &[f64], weights: &[f64], k: &[Tensor]) -> Result<Tensor> {
    let terms = weights.iter().zip(k).filter(|(w, _)| **w != 0.0).map(|(&w, k)| (w, k));
    kernels::combine_each(Some(y0), h, &terms.collect::<Terms<'_>>())
}
