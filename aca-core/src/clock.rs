//! The search for step sizes along one span.

use crate::stability::{AT_LIMIT, HELD};
use crate::{
    Error, Evaluator, Progress, Result, Solver, StableSteps, Stats, StepControl, Stepper, Stepping,
    TimeSpan,
};

/// Where one solve, or one sample of a batch, stands in time and how far it may step.
pub(crate) struct Clock<'a> {
    solver: &'a Solver,
    pub(crate) span: TimeSpan,
    pub(crate) t: f64,
    /// The fraction of the last step that leads there.
    pub(crate) s: f64,
    pub(crate) stats: Stats,
    /// Times that steps must hit, the last first: stops and the end, or the nodes of a grid.
    marks: Vec<f64>,
    /// `None` on a grid, whose steps are taken as they are.
    control: Option<StepControl>,
    /// Magnitude of the next adaptive step.
    h: f64,
    /// Accepted steps until the next estimate of how far one reaches, and the size of the one estimated last.
    unseen: usize,
    seen: f64,
    /// Whether step sizes are searched for, even if the span has no length.
    searches: bool,
    /// Accepted steps whose start single precision places to a sixteenth of the step at best.
    coarse: usize,
    /// What was wrong with the last trial whose error ratio was not finite.
    pub(crate) non_finite: Option<Box<Error>>,
}

impl<'a> Clock<'a> {
    /// Sets the clock to the start of `span`.
    ///
    /// # Errors
    /// [`Error::TooManyFixedSteps`].
    pub(crate) fn new(solver: &'a Solver, span: TimeSpan) -> Result<Self> {
        let length = (span.t1 - span.t0).abs();
        Ok(match &solver.stepping {
            stepping if span.is_empty() => {
                let searches = matches!(stepping, Stepping::Adaptive(_));
                Self { searches, ..Self::over(solver, span, Vec::new(), None) }
            }
            Stepping::Adaptive(_) => {
                let mut marks = solver.stops(span);
                marks.push(span.t1);
                let order = solver.method.error_order().unwrap_or(1);
                Self::over(solver, span, marks, Some(StepControl::new(solver.controller, order)))
            }
            Stepping::FixedSize(h) => Self::over(solver, span, uniform(solver, span, *h)?, None),
            Stepping::FixedCount(n) => {
                Self::over(solver, span, uniform(solver, span, length / *n as f64)?, None)
            }
        })
    }

    /// Sets the clock to the start of a grid, whose further nodes are `nodes`.
    pub(crate) fn on_grid(solver: &'a Solver, span: TimeSpan, nodes: &[f64]) -> Self {
        Self::over(solver, span, nodes.to_vec(), None)
    }

    fn over(
        solver: &'a Solver,
        span: TimeSpan,
        mut marks: Vec<f64>,
        control: Option<StepControl>,
    ) -> Self {
        marks.reverse();
        let (t, stats) = (span.t0, Stats::default());
        Self {
            solver,
            span,
            t,
            s: 1.0,
            stats,
            marks,
            searches: control.is_some(),
            control,
            h: 0.0,
            unseen: 0,
            seen: 0.0,
            coarse: 0,
            non_finite: None,
        }
    }

    /// Whether the end of the span is reached.
    pub(crate) fn is_done(&self) -> bool {
        self.marks.is_empty()
    }

    /// Whether step sizes are searched for, so that a first one is needed.
    pub(crate) fn is_adaptive(&self) -> bool {
        self.control.is_some()
    }

    /// Whether this is no grid: the solver has tolerances, whatever the span.
    pub(crate) fn searches(&self) -> bool {
        self.searches
    }

    /// Ends the span at `t`, the fraction `s` of the step that was accepted last.
    pub(crate) fn stop(&mut self, t: f64, s: f64) {
        self.marks.clear();
        (self.t, self.s) = (t, s);
    }

    /// The next time that a step must hit.
    pub(crate) fn next_mark(&self) -> f64 {
        self.marks.last().copied().unwrap_or(self.span.t1)
    }

    /// Sets the magnitude of the first adaptive step.
    pub(crate) fn start(&mut self, h: f64) {
        self.h = h.min(self.solver.h_max).max(self.h_min());
    }

    /// Magnitude of the next adaptive step.
    pub(crate) fn h(&self) -> f64 {
        self.h
    }

    /// Returns where the next step ends.
    ///
    /// A step that would end within a hundredth before the next mark is stretched onto it, as in
    /// Hairer's DOPRI5: the error is controlled all the same, and no sliver is left. It exceeds
    /// `h_max` by rounding at the most.
    ///
    /// # Errors
    /// [`Error::MaxSteps`]; what [`Clock::underflow`] finds when the step is too small.
    pub(crate) fn target(&mut self) -> Result<f64> {
        let mark = self.next_mark();
        if !self.is_adaptive() {
            return Ok(mark);
        }
        self.check_budget()?;
        let reach = (1.01 * self.h).min(self.solver.h_max * (1.0 + 1e-6));
        let target = match (mark - self.t).abs() <= reach {
            true => mark,
            false => self.t + self.span.sign() * self.h,
        };
        if target != mark && self.h < self.h_min() {
            return Err(self.underflow(self.h));
        }
        Ok(target)
    }

    fn check_budget(&self) -> Result<()> {
        let (max_steps, TimeSpan { t0, t1 }) = (self.solver.max_steps, self.span);
        let Stats { accepted, rejected, stability_limited, .. } = self.stats;
        match accepted + rejected < max_steps {
            true => Ok(()),
            false => {
                Err(Error::MaxSteps { max_steps, t: self.t, t0, t1, accepted, stability_limited })
            }
        }
    }

    /// Moves to the end of an accepted step and sizes the next by its error ratio.
    pub(crate) fn accept(&mut self, t1: f64, ratio: f64) {
        let tried = (t1 - self.t).abs();
        let marked = self.marks.pop_if(|mark| *mark == t1).is_some();
        if let Some(control) = &mut self.control {
            // A step cut short by a mark says little about the size that the problem allows.
            let proposed = control.accept(ratio) * tried;
            let h = if marked { proposed.max(self.h) } else { proposed };
            self.h = h.clamp(self.solver.h_min, self.solver.h_max);
        }
        self.stats.accept(tried);
        self.coarse += usize::from(spacing(t1) > tried / 16.0);
        self.t = t1;
        self.non_finite = None;
    }

    /// Whether it is to be estimated how far an accepted step of size `h` reached: always but for the three steps after
    /// one that stayed within a quarter of the interval, unless they are twice as large.
    pub(crate) fn wants_estimate(&mut self, h: f64) -> bool {
        let due = self.unseen == 0 || h.abs() > 2.0 * self.seen;
        self.unseen = self.unseen.saturating_sub(usize::from(!due));
        due
    }

    /// Whether a step that reached `h rho` was at the limit of the method's stability interval.
    pub(crate) fn is_at_limit(&self, reach: f64, method: &Stepper) -> bool {
        reach > AT_LIMIT * method.stability()
    }

    /// Counts the accepted step of size `h`, which reached `h rho`, if it was at the stability limit, and holds the
    /// next one inside it where the solver says so.
    pub(crate) fn hold(&mut self, h: f64, reach: f64, method: &Stepper) {
        let interval = method.stability();
        (self.unseen, self.seen) = (if reach < 0.25 * interval { 3 } else { 0 }, h.abs());
        self.stats.stability_limited += usize::from(self.is_at_limit(reach, method));
        let stable = HELD * interval / reach * h.abs();
        if self.solver.stable_steps == StableSteps::Always && stable < self.h {
            self.h = stable.max(self.h_min());
        }
    }

    /// Refuses a span along which single precision, in which the field read the time, cannot tell the
    /// stages of its steps apart.
    ///
    /// # Errors
    /// [`Error::TimeResolution`] where neighbouring times are more than a sixteenth of the mean step apart, or of more
    /// than sixteen steps: the field then sees stages at wrong times, and what it returns is wrong by as much as it
    /// changes between.
    pub(crate) fn check_resolution(&self, field: &Evaluator<'_>) -> Result<()> {
        let TimeSpan { t0, t1 } = self.span;
        if !field.reads_single_times() || self.stats.accepted == 0 {
            return Ok(());
        }
        let t = if t0.abs() > t1.abs() { t0 } else { t1 };
        let (spacing, h) = (spacing(t), (self.t - t0).abs() / self.stats.accepted as f64);
        // A start needs some six tiny steps to find its size, which mean nothing.
        match spacing > h / 16.0 || self.coarse > 16 {
            true => Err(Error::TimeResolution { t, spacing, h: self.stats.h_smallest.min(h) }),
            false => Ok(()),
        }
    }

    /// Counts a rejected step and sizes its retry.
    ///
    /// # Errors
    /// What [`Clock::underflow`] finds when no smaller step is allowed.
    pub(crate) fn reject(&mut self, t1: f64, ratio: f64) -> Result<()> {
        let tried = (t1 - self.t).abs();
        self.stats.rejected += 1;
        let factor = self.control.as_mut().map_or(1.0, |control| control.reject(ratio));
        // A tenth of slack, since the step that was tried is rounded to the times around it.
        if tried <= 1.1 * self.h_min() {
            return Err(self.underflow(factor * tried));
        }
        self.h = (factor * tried).max(self.h_min());
        Ok(())
    }

    /// Smallest step from here: below sixteen units in the last place the nodes of a step run into
    /// each other.
    fn h_min(&self) -> f64 {
        self.solver.h_min.max(16.0 * f64::EPSILON * self.t.abs()).max(f64::MIN_POSITIVE)
    }

    /// Why a step of size `h` will not do: what the last rejection found, if it found anything.
    fn underflow(&mut self, h: f64) -> Error {
        let (h_min, method) = (self.h_min(), self.solver.method.name().to_owned());
        let other = Error::StepSizeUnderflow { h, h_min, t: self.t, method };
        self.non_finite.take().map_or(other, |found| *found)
    }

    /// Whether the user wants to be told.
    #[inline]
    pub(crate) fn reports(&self) -> bool {
        self.solver.progress.is_some()
    }

    /// Tells the user's callback about an accepted step of size `h`.
    pub(crate) fn report(&self, h: f64) {
        if let Some(progress) = &self.solver.progress {
            let TimeSpan { t0, t1 } = self.span;
            let Stats { accepted, rejected, .. } = self.stats;
            let fraction = (self.t - t0) / (t1 - t0);
            progress.call(Progress { t: self.t, h, fraction, accepted, rejected });
        }
    }
}

/// Distance from a time to the next in single precision.
fn spacing(t: f64) -> f64 {
    let single = (t as f32).abs();
    f64::from(single.next_up()) - f64::from(single)
}

/// Uniform nodes of distance `h` after `t0`, ending on `t1` exactly, joined with the stops.
fn uniform(solver: &Solver, span: TimeSpan, h: f64) -> Result<Vec<f64>> {
    let TimeSpan { t0, t1 } = span;
    // A last step shorter than a millionth of h is rounding of the quotient, not wanted.
    let count = ((t1 - t0).abs() / h - 1e-6).ceil().max(1.0);
    if count > solver.max_steps as f64 {
        return Err(Error::TooManyFixedSteps { max_steps: solver.max_steps, steps: count, t0, t1 });
    }
    let mut grid = Vec::new();
    let mut nodes = (1..count as usize).map(|i| t0 + span.sign() * h * i as f64).peekable();
    for stop in solver.stops(span).into_iter().chain([t1]) {
        while let Some(node) = nodes.next_if(|&node| span.before(node, stop)) {
            if (stop - node).abs() > 1e-6 * h {
                grid.push(node);
            }
        }
        nodes.next_if(|&node| (node - stop).abs() <= 1e-6 * h);
        grid.push(stop);
    }
    let ends = std::iter::once(&t0).chain(&grid).zip(&grid);
    match ends.clone().find(|(t0, t1)| !span.before(**t0, **t1)) {
        Some((&t, _)) => Err(Error::FixedStepUnderflow { h, t }),
        None => Ok(grid),
    }
}
