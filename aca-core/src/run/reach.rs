//! How far the steps of a run reach into their method's stability interval.

use super::Run;
use crate::space::Trial;
use crate::stability::Reach;
use crate::step_context::StepContext;
use crate::{Method, Result, RowStep, Time};

/// How far accepted steps reached.
pub(super) enum Reaches {
    None,
    Whole(Reach),
    Rows(Vec<f64>),
}

impl Reaches {
    /// How far the step of a whole state reached, as the system of its rows that reached farthest.
    pub(super) fn of_whole(&self) -> Option<f64> {
        match self {
            Self::Whole(reach) => Some(reach.rows),
            _ => None,
        }
    }

    fn has_nan(&self, accepted: &[RowStep]) -> bool {
        match self {
            Self::None => false,
            Self::Whole(reach) => reach.rows.is_nan(),
            Self::Rows(reaches) => accepted.iter().any(|step| reaches[step.row].is_nan()),
        }
    }
}

impl Run<'_> {
    /// Estimates how far the accepted steps reached, where their slopes show that, and says whether the slopes at their
    /// ends may start the next steps.
    pub(super) fn look_at_reach(&mut self) -> Result<(Reaches, bool)> {
        let StepContext { method, field, .. } = &self.rules;
        let (own, whole) = (method.carries_own(), self.clocks.are_whole());
        let jump = |step: &RowStep| method.has_jumps() && method.is_jump(step.t1);
        let jumps = self.clocks.accepted.iter().any(jump);
        let mut carried = own || !field.has_statistics();
        if let Method::Symplectic(_) = method.method() {
            // The last kick was evaluated at other momenta than those that the step ends with.
            carried &= field.field().is_separable();
        }
        if method.begins_with_solved_slope() {
            carried &=
                self.clocks.accepted.iter().all(|step| method.hands_on_slope(whole, step.t1));
        }
        let mut reach = Reaches::None;
        let wanted = self.control.is_some() && self.clocks.want_estimates();
        if let (true, Some((scale, probe)), Some(weights)) =
            (wanted, &self.control, method.difference())
        {
            // The slope at the end is the next step's first, unless there is none or the field jumps between them.
            let idle = match whole {
                true => jumps || self.clocks.accepted.iter().all(|step| step.is_last),
                false => field.has_statistics(),
            };
            if own || !idle {
                let count = method.stages_with_end();
                let trial = trial!(self);
                if self.space.known() < count {
                    self.space.fill(trial, count)?;
                    // Running statistics have seen what starts the next step.
                    carried = true;
                }
                let h = self.clocks.steps.h();
                let rows = match (whole, self.y.rank()) {
                    (true, ..2) => 1,
                    (true, _) => self.y.dims()[0],
                    (false, _) => h.len(),
                };
                let squares = self.space.differences(trial, rows, weights, scale)?;
                let length = self.y.elem_count() / rows;
                reach = match whole {
                    true => Reaches::Whole(probe.join(h[0], length, &squares)),
                    false => Reaches::Rows(probe.reaches(h, length, &squares)),
                };
            }
        }
        // Where an estimate alone evaluated a slope that is not finite, the next step evaluates it again and tells.
        let finite = own || !reach.has_nan(&self.clocks.accepted);
        Ok((reach, method.carries_always() || (carried && finite && !jumps)))
    }

    /// Counts steps at the stability limit, and holds the next ones inside it where the solver says so.
    pub(super) fn hold(&mut self, reach: Reaches) -> Result<()> {
        match reach {
            Reaches::None => {}
            Reaches::Rows(reaches) => self.clocks.hold(&reaches, &self.rules.method),
            Reaches::Whole(Reach { whole, rows }) => {
                let limit = self.clocks.is_at_limit(rows, &self.rules.method);
                // A row alone reaches that far only if it is a system alone.
                let reach = match limit && rows > whole && !self.are_rows_apart()? {
                    true => whole,
                    false => rows,
                };
                self.clocks.hold(&[reach], &self.rules.method);
            }
        }
        Ok(())
    }

    fn are_rows_apart(&self) -> Result<bool> {
        let t = || Ok(Time::new(self.clocks.steps.ends(0).1));
        self.rules.field.are_rows_apart(t, || Ok(self.y.clone()))
    }
}
