//! A tableau made ready to step.

use std::sync::OnceLock;

use aca_tableau::{Interpolant, Tableau};
use candle_core::DType;

use crate::scheme::{StageCotangents, Stages};
use crate::{Error, Result, Solver, Steps, Time};

/// A tableau with what a solve derives from it once: error weights and interpolant.
///
/// Stages are `k_i = f(t0 + c_i h, y0 + h sum(a_ij k_j))`. Those beyond the tableau's own are the
/// interpolant's; they are evaluated only for steps whose inside is looked at.
#[derive(Clone, Debug)]
pub struct Method {
    tableau: Tableau,
    interpolant: Interpolant,
    /// Columns of `a`, the interpolant's extra stages included.
    columns: Vec<Vec<f64>>,
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
        let (own, stages) = (tableau.stages(), tableau.stages().max(interpolant.stages()));
        let a = |j: usize| if j < own { tableau.a_row(j) } else { interpolant.a_row(j - own) };
        let column = |i: usize| (0..stages).map(|j| a(j).get(i).copied().unwrap_or(0.0)).collect();
        Ok(Self {
            columns: (0..stages).map(column).collect(),
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

    /// Number of slopes that every step has: the tableau's, and the leapfrog's at the end.
    #[inline]
    pub fn stages(&self) -> usize {
        self.tableau.stages() + usize::from(self.leapfrog)
    }

    /// Appends slopes to a step until it has `count`.
    #[inline]
    pub fn fill(&self, stages: &mut impl Stages, count: usize) -> Result<()> {
        for i in stages.known()..count {
            match self.leapfrog && i == self.tableau.stages() {
                // The leapfrog: v1 = 2 u - v0 (Mutze, 2013).
                true => stages.mix(&[-1.0, 2.0])?,
                false => stages.evaluate(self.c(i), self.a_row(i))?,
            }
        }
        Ok(())
    }

    /// Pulls cotangents of the first `count` slopes of a step back.
    #[inline]
    pub fn pull(&self, cotangents: &mut impl StageCotangents, count: usize) -> Result<()> {
        for i in (0..count).rev() {
            cotangents.pull(i, &self.columns[i])?;
        }
        Ok(())
    }

    /// The time `t0 + c h` in a step from `t0` to `t1`: exact at both ends, and beside a discontinuity by the last
    /// number on the step's side, so that the field sees one branch; a step without length has its own.
    #[inline]
    pub fn time(&self, (t0, t1): (f64, f64), c: f64) -> f64 {
        if c == 0.0 {
            self.beside(t0, t1)
        } else if c == 1.0 {
            self.beside(t1, t0)
        } else {
            t0 + c * (t1 - t0)
        }
    }

    /// The times `t0 + c h` in the steps of all rows.
    pub fn times(&self, steps: &Steps, c: f64) -> Result<Time> {
        match steps.samples() {
            None => Ok(Time::new(self.time(steps.ends(0), c))),
            Some(samples) => {
                let times = (0..steps.rows()).map(|row| self.row_time(steps.ends(row), c));
                Time::of_samples(times.collect(), samples.clone())
            }
        }
    }

    /// The time of a row that may rest: then it is where it rests.
    #[inline]
    pub(crate) fn row_time(&self, (t0, t1): (f64, f64), c: f64) -> f64 {
        if t0 == t1 { t0 } else { self.time((t0, t1), c) }
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

    /// The stage that holds the slope at the end of a step, among the first `known`.
    #[inline]
    pub fn end_stage(&self, known: usize) -> Option<usize> {
        Some(self.interpolant.end_stage()).filter(|end| *end < known)
    }

    /// Whether the slope at the end of a step starts the next whatever lies between: the leapfrog's belongs to its
    /// state.
    #[inline]
    pub(crate) fn carries_always(&self) -> bool {
        self.leapfrog
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
    pub fn b_error(&self) -> &[Vec<f64>] {
        &self.b_error
    }
}
