//! A tableau made ready to step.

use std::sync::OnceLock;

use aca_tableau::{Interpolant, Tableau};
use candle_core::{DType, Tensor};
use smallvec::SmallVec;

use crate::kernels::{self, Scale, Terms};
use crate::{Error, Evaluator, Result, Solver};

/// A tableau with what a solve derives from it once: error weights and interpolant.
///
/// Stages are `k_i = f(t0 + c_i h, y0 + h sum(a_ij k_j))`. Those beyond the tableau's own are the
/// interpolant's; they are evaluated only for steps whose inside is looked at.
#[derive(Clone, Debug)]
pub struct Method {
    tableau: Tableau,
    interpolant: Interpolant,
    b_error: Vec<Vec<f64>>,
    /// Weights of the differences of slopes and of states that show how far a step reaches, once a solve asks.
    difference: OnceLock<Option<[Vec<f64>; 2]>>,
    stability: OnceLock<f64>,
    jump_ts: Vec<f64>,
    is_single: bool,
    leapfrog: bool,
}

impl Method {
    /// Prepares the solver's tableau for states of a type; steps that meet one of the solver's `jump_ts`
    /// evaluate the field on their own side, at a time that stays there when it is rounded to that type.
    ///
    /// # Errors
    /// [`Error::NodeOutsideStep`], since the field may not be evaluated outside the span.
    pub fn new(solver: &Solver, dtype: DType) -> Result<Self> {
        let tableau = &solver.tableau;
        let interpolant = tableau.interpolant();
        let extra = (0..interpolant.extra_stages()).map(|i| interpolant.c(i));
        let mut nodes = tableau.c().iter().copied().chain(extra);
        if let Some(c) = nodes.find(|c| !(0.0..=1.0).contains(c)) {
            return Err(Error::NodeOutsideStep { method: tableau.name().to_owned(), c });
        }
        Ok(Self {
            interpolant,
            b_error: tableau.b_error(),
            difference: OnceLock::new(),
            stability: OnceLock::new(),
            tableau: tableau.clone(),
            jump_ts: solver.jump_ts.clone(),
            is_single: dtype == DType::F32,
            leapfrog: solver.leapfrog,
        })
    }

    /// The tableau.
    #[inline]
    pub fn tableau(&self) -> &Tableau {
        &self.tableau
    }

    /// The interpolant of one step.
    #[inline]
    pub fn interpolant(&self) -> &Interpolant {
        &self.interpolant
    }

    /// Number of stages that a step's result depends on: all of the interpolant's where it is looked
    /// at, else the tableau's up to the last with a weight (a FSAL stage at the end has none).
    #[inline]
    pub fn stages_with_weight(&self, interpolated: bool) -> usize {
        if interpolated {
            return self.interpolant.stages();
        }
        self.tableau.b().iter().rposition(|&b| b != 0.0).map_or(0, |last| last + 1)
    }

    /// Row `i` of `a`, the interpolant's extra stages included.
    #[inline]
    pub fn a_row(&self, i: usize) -> &[f64] {
        let stages = self.tableau.stages();
        if i < stages { self.tableau.a_row(i) } else { self.interpolant.a_row(i - stages) }
    }

    /// Node `c_i`, the interpolant's extra stages included.
    #[inline]
    pub fn c(&self, i: usize) -> f64 {
        let stages = self.tableau.stages();
        if i < stages { self.tableau.c()[i] } else { self.interpolant.c(i - stages) }
    }

    /// Time of stage `i` of the step from `t0` to `t1`: exact at both ends, and beside a
    /// discontinuity by the last number on the step's side, so that the field sees one branch.
    #[inline]
    pub fn stage_time(&self, t0: f64, t1: f64, i: usize) -> f64 {
        let c = self.c(i);
        if c == 0.0 {
            self.beside(t0, t1)
        } else if c == 1.0 {
            self.beside(t1, t0)
        } else {
            t0 + c * (t1 - t0)
        }
    }

    /// Whether the field may jump anywhere.
    #[inline]
    pub fn has_jumps(&self) -> bool {
        !self.jump_ts.is_empty()
    }

    /// Whether the field may jump at `t`, so that a slope from one side is no use on the other.
    #[inline]
    pub fn is_jump(&self, t: f64) -> bool {
        self.jump_ts.contains(&t)
    }

    /// The last number before `t` on the side of `towards` if the field may jump at `t`, else `t`.
    #[inline]
    pub(crate) fn beside(&self, t: f64, towards: f64) -> f64 {
        if !self.is_jump(t) {
            return t;
        }
        let (up, near) = (towards > t, t as f32);
        // What fields of single precision make of the jump's own time must lie on the other side.
        let single = f64::from(if up { near.next_up() } else { near.next_down() });
        let inside = if up { single < towards } else { single > towards };
        match self.is_single && inside {
            true => single,
            false if up => t.next_up(),
            false => t.next_down(),
        }
    }

    /// Returns the state at which stage `i` is evaluated.
    pub fn stage_state(&self, i: usize, y0: &Tensor, h: f64, k: &[Tensor]) -> Result<Tensor> {
        if i == 0 {
            return Ok(y0.clone());
        }
        weighted(y0, h, self.a_row(i), k)
    }

    /// Returns the tableau's stages and the state at `t1`; `k1` is the first stage if it is known.
    pub fn step(
        &self,
        f: &Evaluator<'_>,
        (t0, t1): (f64, f64),
        y0: &Tensor,
        k1: Option<Tensor>,
    ) -> Result<(Vec<Tensor>, Tensor)> {
        let stages = self.tableau.stages();
        let mut k = Vec::with_capacity(stages + self.interpolant.extra_stages());
        k.extend(k1);
        let mut state = y0.clone();
        for i in k.len()..stages {
            state = self.stage_state(i, y0, t1 - t0, &k)?;
            k.push(f.eval(self.stage_time(t0, t1, i), &state)?);
        }
        // The last stage of a FSAL tableau is evaluated at y1 itself.
        let y1 = if self.tableau.is_fsal() {
            state
        } else {
            weighted(y0, t1 - t0, self.tableau.b(), &k)?
        };
        Ok((k, y1))
    }

    /// Weights of the estimate of a step's own error, `h sum(w_i k_i)` over as many stages: the finest of the
    /// tableau's, without trailing zeros; none for methods that cannot estimate it.
    pub fn error_weights(&self) -> &[f64] {
        let weights = self.b_error.first().map_or(&[][..], |weights| &weights[..]);
        &weights[..weights.iter().rposition(|w| *w != 0.0).map_or(0, |last| last + 1)]
    }

    /// The stage whose slope is the next step's first, where the tableau itself has one.
    pub fn fsal_stage(&self) -> Option<usize> {
        self.tableau.is_fsal().then(|| self.tableau.stages() - 1)
    }

    /// Appends the interpolant's extra stages to the tableau's own.
    pub fn extend_stages(
        &self,
        f: &Evaluator<'_>,
        (t0, t1): (f64, f64),
        y0: &Tensor,
        k: &mut Vec<Tensor>,
    ) -> Result<()> {
        if self.leapfrog {
            // The leapfrog's own slope at the end stands where the interpolant wants f(t1, y1).
            if k.len() < self.interpolant.stages() {
                k.extend(self.end_slope(k)?);
            }
            return Ok(());
        }
        for i in k.len()..self.interpolant.stages() {
            let state = self.stage_state(i, y0, t1 - t0, k)?;
            k.push(f.eval(self.stage_time(t0, t1, i), &state)?);
        }
        Ok(())
    }

    /// Returns the slope that the next step starts with, where the stages of this one hold it: the
    /// last of a FSAL tableau, the interpolant's at `t1` if it was evaluated, the leapfrog's `v1`.
    pub fn end_slope(&self, k: &[Tensor]) -> Result<Option<Tensor>> {
        if self.leapfrog {
            return kernels::combine(None, &[(2.0, &k[1]), (-1.0, &k[0])]).map(Some);
        }
        Ok(self.end_stage(k.len()).map(|i| k[i].clone()))
    }

    /// The stage that holds the slope at the end of a step, among the first `known`.
    #[inline]
    pub(crate) fn end_stage(&self, known: usize) -> Option<usize> {
        Some(self.interpolant.end_stage()).filter(|end| *end < known)
    }

    /// Whether the slope at the end of a step, at `t1`, may start the next.
    ///
    /// The leapfrog's slope belongs to its state; any other must not cross a jump of the field, and one
    /// that only the interpolant needed has left no trace in running statistics.
    #[inline]
    pub(crate) fn carries(&self, t1: f64, has_statistics: bool) -> bool {
        self.leapfrog || (self.carries_within(has_statistics) && !self.is_jump(t1))
    }

    /// The same where the field does not jump.
    #[inline]
    pub(crate) fn carries_within(&self, has_statistics: bool) -> bool {
        self.tableau.is_fsal() || !has_statistics
    }

    /// Returns the error ratio of a step: 1 is the tolerance, NaN when `y1` is not finite.
    ///
    /// With two embedded solutions the estimates `e5` and `e3` combine as in DOP853,
    /// `e5^2 / sqrt(e5^2 + 0.01 e3^2)` (Hairer, Norsett, Wanner I, II.10).
    pub fn error_ratio(
        &self,
        h: f64,
        y0: &Tensor,
        y1: &Tensor,
        k: &[Tensor],
        scale: &Scale,
    ) -> Result<f64> {
        let k: SmallVec<[&Tensor; 8]> = k.iter().collect();
        let norms = kernels::scaled_norms(y0, y1, scale, &k, &self.b_error)?;
        Ok(h.abs() * Self::ratio(&norms))
    }

    /// Joins the norms of all error estimates to the error of a step of size 1.
    #[inline]
    pub(crate) fn ratio(norms: &[f64]) -> f64 {
        match *norms {
            [high, low] if high > 0.0 => high * high / (high * high + 0.01 * low * low).sqrt(),
            [first, ..] => first,
            [] => f64::NAN,
        }
    }

    /// Length of the stability interval on the negative real axis.
    pub(crate) fn stability(&self) -> f64 {
        *self.stability.get_or_init(|| self.tableau.real_stability())
    }

    /// Weights of the differences of slopes and of states, over so many stages, that show how far a step reaches.
    pub(crate) fn difference(&self) -> Option<[&[f64]; 2]> {
        // The leapfrog's first slope is none of the field's.
        let find = || self.tableau.stage_difference().filter(|_| !self.leapfrog);
        let difference = self.difference.get_or_init(|| find().map(|d| [d.slopes, d.states]));
        difference.as_ref().map(|[slopes, states]| [&slopes[..], &states[..]])
    }

    /// The number of stages that they are taken over: the tableau's, and the slope at `t1`.
    pub(crate) fn stages_with_end(&self) -> usize {
        self.interpolant.end_stage() + 1
    }

    /// The weights of every error estimate.
    #[inline]
    pub(crate) fn b_error(&self) -> &[Vec<f64>] {
        &self.b_error
    }
}

/// `y0 + h sum(w_i k_i)` over the weights that are not zero.
fn weighted(y0: &Tensor, h: f64, weights: &[f64], k: &[Tensor]) -> Result<Tensor> {
    let terms = weights.iter().zip(k).filter(|(w, _)| **w != 0.0).map(|(w, k)| (h * w, k));
    kernels::combine(Some(y0), &terms.collect::<Terms<'_>>())
}
