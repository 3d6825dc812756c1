//! Solves with events that candle can differentiate.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use aca_core::{Batching, Result, Spans};
use aca_dense::{Action, Event, EventFinder, EventSolution, Events, SaveAt};
use candle_core::{DType, Tensor};

use crate::attach::attach;
use crate::{Gradient, GradientError, GradientReport, LossError, Ode, Params, Solve, Untrusted};

mod cross;
mod tape;
mod walk;
mod weight;

use tape::{EventTape, Shapes};

/// A solved ODE with events whose tensors candle can differentiate: what [`EventSolution`] holds, with `ys`, `y1`,
/// `event_times`, `states_before` and `states_after` in candle's graph.
pub struct EventOdeSolution {
    solution: EventSolution,
    report: Arc<Mutex<Option<GradientReport>>>,
}

impl Deref for EventOdeSolution {
    type Target = EventSolution;

    fn deref(&self) -> &EventSolution {
        &self.solution
    }
}

impl EventOdeSolution {
    /// What the last backward pass through this solution found out about it, over all its pieces; nothing before the
    /// first one, and with strategies that replay no steps.
    pub fn report(&self) -> Option<GradientReport> {
        self.report.lock().map_or(None, |report| report.clone())
    }

    /// What the errors of the steps do to the loss that was differentiated last: see [`GradientReport::loss_error`].
    pub fn loss_error(&self) -> Option<LossError> {
        Some(self.report()?.loss_error)
    }
}

impl Ode {
    /// Solves from `y0` over `span` with events on the way; outputs, the times of the events and the states there are
    /// part of candle's graph.
    ///
    /// Times and states of events follow the initial state, the parameters, and whatever variables functions and jumps
    /// read, which need not be listed: the gradient is that of the discrete solution, whose other nodes stay fixed. A
    /// given time, or the end of a step, does not move.
    ///
    /// # Shapes
    /// As [`EventSolution`] tells.
    ///
    /// # Errors
    /// Those of [`solve_events`](aca_dense::solve_events) and [`Ode::solve`];
    /// [`GradientError::Unsupported`](crate::GradientError::Unsupported) unless the strategy is `Aca` or `AcaBudget`, or `Naive`
    /// without changes of the state at times that move; of the backward pass
    /// [`GradientError::GrazingEvent`](crate::GradientError::GrazingEvent) and
    /// [`GradientError::EventTimeRead`](crate::GradientError::EventTimeRead).
    ///
    /// # Cost
    /// One operation in candle's graph, whatever the number of events. A budget of checkpoints counts for each piece
    /// between two changes of the state.
    ///
    /// # Example
    /// ```
    /// use aca_adjoint::Ode;
    /// use aca_core::{Solver, Time, Tolerance};
    /// use aca_dense::{Event, Events, SaveAt};
    /// use candle_core::{Device, Tensor, Var};
    ///
    /// # fn main() -> aca_core::Result<()> {
    /// let y0 = Var::new(&[5.0f64, 0.0], &Device::Cpu)?;
    /// let fall = |_t: &Time, y: &Tensor| Tensor::stack(&[y.get(1)?, y.get(1)?.affine(0.0, -9.81)?], 0);
    /// let solver = Solver::adaptive(aca_tableau::DOPRI5, Tolerance { rtol: 1e-9, atol: 1e-9 });
    /// let ground = Events::new([Event::component(0, 0.0).falling()]);
    /// let sol = Ode::new(solver, fall, vec![])?.solve_events(&y0, (0.0, 9.0), &SaveAt::End, &ground)?;
    /// let grads = sol.event_times.get(0)?.backward()?; // t = sqrt(2 height / g)
    /// let slope = grads.get(&y0).map(|g| g.to_vec1::<f64>()).transpose()?.unwrap_or_default();
    /// assert!((slope[0] - 1.0 / (2.0 * 5.0 * 9.81f64).sqrt()).abs() < 1e-8);
    /// # Ok(())
    /// # }
    /// ```
    pub fn solve_events(
        &self,
        y0: &Tensor,
        span: impl Into<Spans>,
        save_at: &SaveAt,
        events: &Events,
    ) -> Result<EventOdeSolution> {
        let spans = span.into();
        self.check_events(events)?;
        self.check_covered(y0, spans.t0())?;
        let piece = |y: &Tensor, spans: &Spans, ask: &SaveAt, finder: &mut EventFinder<'_>| {
            let watch = RefCell::new(finder);
            // A piece alone does not know what its cotangents weigh in the loss.
            let (watch, untrusted) = (Some(&watch as &_), Untrusted::Flag);
            Solve { watch, untrusted, ..self.at(y, spans, ask) }.solve(&self.gradient)
        };
        let rules = (self.solver(), events);
        let (mut solution, pieces) = EventSolution::piecewise(rules, y0, (&spans, save_at), piece)?;
        let listed = self.params().vars().iter().cloned();
        let params = Params::new(listed.chain(pieces.variables.iter().cloned()).collect())?;
        let whole = self.solver().batching == Batching::Shared;
        let shapes = Shapes::of(&solution, whole);
        let report = Arc::new(Mutex::new(None));
        let tape = EventTape {
            own: self.params().clone(),
            fingerprints: params.fingerprints()?,
            params: params.clone(),
            events: events.clone(),
            pieces,
            shapes: shapes.clone(),
            report: report.clone(),
            untrusted: self.untrusted,
        };
        let constant = Tensor::zeros(1, DType::F64, y0.device())?;
        let joined = attach(&shapes.join(&solution)?, y0, &params, &constant, tape)?;
        shapes.split(&joined, &mut solution)?;
        Ok(EventOdeSolution { solution, report })
    }

    /// Returns the event that the solution has come to rest: the root mean square of the slope falls below `eps`.
    pub fn steady_state(&self, eps: f64) -> Event {
        Event::steady(self.field().clone(), eps)
    }

    /// Refuses strategies that cannot go back through events.
    fn check_events(&self, events: &Events) -> Result<()> {
        let moves =
            |event: &Event| event.function.has_roots() && matches!(event.action, Action::Jump(_));
        let moves = events.list.iter().any(moves);
        let (strategy, what) = match &self.gradient {
            Gradient::Aca | Gradient::AcaBudget { .. } if moves => {
                return self.gradient.check_times_of(&self.solver().method);
            }
            Gradient::Aca | Gradient::AcaBudget { .. } => return Ok(()),
            Gradient::Naive if !moves => return Ok(()),
            Gradient::Naive => ("Naive", "events that change the state at times that move"),
            Gradient::NaiveThroughStepSize => ("NaiveThroughStepSize", "events"),
            Gradient::Backsolve(_) => ("Backsolve", "events"),
            Gradient::Mali => ("Mali", "events"),
            Gradient::Custom(_) => ("a strategy of the user's", "events"),
        };
        Err(GradientError::Unsupported { strategy, what }.into())
    }
}
