//! What can go wrong in dense output.

use aca_core::Error;
use candle_core::DType;

/// What can go wrong in dense output. Functions return it
/// as [`Error::Other`], where [`DenseError::of`] finds it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum DenseError {
    /// An output was placed in a step that a solution does not have.
    #[error(
        "an output was placed in step {step} of a solution of {steps} steps; place it anew by its time"
    )]
    NoSuchStep {
        /// The step, counted from 0.
        step: usize,
        /// Steps of the solution.
        steps: usize,
    },
    /// The derivative of a law is not that of its values.
    #[error(
        "the law's derivative with respect to {what} is {got}, but differences of its values say {expected}; check its slope"
    )]
    LawSlope {
        /// What it is derived by.
        what: String,
        /// What the law says.
        got: f64,
        /// What differences say.
        expected: f64,
    },
    /// A span without length has no steps to take a derivative from.
    #[error("the span has no length, so its solution has no derivative; evaluate the field")]
    NoSteps,
    /// The solve kept no dense output.
    #[error("the solve kept no dense output; solve with SaveAt::Dense")]
    NoDenseOutput,
    /// The function of an event is not finite.
    #[error(
        "the function of event {event} is {value} at t = {t}; let it be finite wherever the solution goes, and the field beyond the event as well, since a step looks past it"
    )]
    EventNotFinite {
        /// The event, counted from 0.
        event: usize,
        /// When.
        t: f64,
        /// Its value.
        value: f64,
    },
    /// The function of an event does not give one number for each state.
    #[error(
        "the function of event {event} returned shape {got:?} where {expected} numbers are needed; let it give one for the whole state, or one for each row of samples that step on their own"
    )]
    EventShape {
        /// The event, counted from 0.
        event: usize,
        /// Shape of the result.
        got: Vec<usize>,
        /// Numbers that are needed.
        expected: usize,
    },
    /// The jump of an event returned another shape.
    #[error(
        "the jump of event {event} returned shape {got:?} for states of shape {expected:?}; let it return the shape of its argument"
    )]
    JumpShape {
        /// The event, counted from 0.
        event: usize,
        /// Shape of the result.
        got: Vec<usize>,
        /// Shape of the states.
        expected: Vec<usize>,
    },
    /// The jump of an event returned another type.
    #[error(
        "the jump of event {event} returned {got:?} for states of {expected:?}; let it return the type of its argument"
    )]
    JumpType {
        /// The event, counted from 0.
        event: usize,
        /// Type of the result.
        got: DType,
        /// Type of the states.
        expected: DType,
    },
    /// The jump of an event returned a state that is not finite.
    #[error(
        "the jump of event {event} at t = {t} returned a state that is not finite at entry {index}; let it be finite wherever the event happens"
    )]
    JumpNotFinite {
        /// The event, counted from 0.
        event: usize,
        /// When.
        t: f64,
        /// The first such entry, counted through the dimensions of the state, or of the sample's.
        index: usize,
    },
    /// An event looks at a number that the state does not have.
    #[error("event {event} looks at number {index} of a state of {size}; count from 0")]
    NoSuchComponent {
        /// The event, counted from 0.
        event: usize,
        /// The place.
        index: usize,
        /// Numbers of the state.
        size: usize,
    },
    /// An event shall end the solve at its occurrence number 0.
    #[error(
        "event {event} shall end the solve at its occurrence number 0; they are counted from 1"
    )]
    UntilZero {
        /// The event, counted from 0.
        event: usize,
    },
    /// Events come ever closer together.
    #[error(
        "event {event} happens again and again at t = {t}, {count} times so far: its times accumulate there (Zeno), and no solve gets beyond; end the solve with until or Stop before, or let the jump leave the surface for good"
    )]
    EventsAccumulate {
        /// The event, counted from 0.
        event: usize,
        /// How often it happened.
        count: usize,
        /// When.
        t: f64,
    },
    /// More events happened than are allowed.
    #[error(
        "more than {limit} events happened by t = {t}; raise Events::limit, or end the solve with until or Stop"
    )]
    TooManyEvents {
        /// The limit.
        limit: usize,
        /// When the next one happened.
        t: f64,
    },
    /// Two events that change or end the solve happen at one time.
    #[error(
        "events {} and {} both act at t = {t}, too close together for their order to mean anything; join them into one event",
        events[0], events[1]
    )]
    EventsTogether {
        /// The events, counted from 0.
        events: [usize; 2],
        /// When.
        t: f64,
    },
}

impl DenseError {
    /// The error of this type that `error` holds, if it does.
    pub fn of(error: &Error) -> Option<&Self> {
        error.find()
    }
}

impl From<DenseError> for Error {
    fn from(error: DenseError) -> Self {
        Self::other(error)
    }
}

/// The message: a `main` that returns an error prints it by `Debug`.
impl std::fmt::Debug for DenseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
