//! What can go wrong in a gradient.

use aca_core::Error;
use candle_core::{DType, Tensor};

/// What can go wrong in a gradient beyond what can in a solve. Functions return it
/// as [`Error::Other`], where [`GradientError::of`] finds it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum GradientError {
    /// The strategy undoes steps, and this method has no inverse.
    #[error(
        "steps of {method} cannot be undone; give the solver Method::Leapfrog, Splitting::VERLET or Splitting::YOSHIDA4, or use Gradient::Aca"
    )]
    NotReversible {
        /// Name of the method.
        method: String,
    },
    /// Gradients with respect to times were requested of a user's scheme.
    #[error(
        "{method} does not tell how its slopes move with time and step size, so there is no gradient with respect to times; use a tableau for those"
    )]
    SchemeTimes {
        /// Name of the scheme.
        method: String,
    },
    /// The field read the time as a number, but its gradient is wanted.
    #[error(
        "the field read the time as a number, t.value(), so its dependence on time is missing from gradients with respect to times and step sizes; use t.tensor(y) in the field, or do without those gradients"
    )]
    TimeRead,
    /// Undoing the steps did not lead back to the initial state.
    #[error(
        "undoing the steps of a solve ends {drift:.1e} (relative) off the state that it began with, where {bound:e} is allowed: the system amplifies rounding on the way back, and gradients along it are wrong; use Gradient::Aca, a shorter span or f64"
    )]
    LeapfrogDrift {
        /// Distance of state and slope from those of the start, weighted by the loss and relative to its size.
        drift: f64,
        /// The largest that is allowed.
        bound: f64,
    },
    /// The field reads a variable that the parameters omit.
    #[error(
        "the field reads a variable of shape {shape:?} that is not among the parameters, so its gradient would be lost; list it if the field owns it, and if it belongs to a network whose output the field captures, carry that output in the state (example 10_coefficients_from_a_network)"
    )]
    UnlistedVariable {
        /// Shape of the variable.
        shape: Vec<usize>,
    },
    /// The parameters do not share one type.
    #[error("parameter {index} has dtype {}, the first has {}; all parameters of a field share one dtype", got.as_str(), expected.as_str())]
    MixedParameters {
        /// Position in the list of parameters.
        index: usize,
        /// Its type.
        got: DType,
        /// Type of the first parameter.
        expected: DType,
    },
    /// The strategy needs steps that start with `f(t, y)`, and leapfrog steps do not.
    #[error(
        "leapfrog steps carry a second slope, which only Mali and Naive differentiate; choose one of them, or another method"
    )]
    LeapfrogGradient,
    /// A gradient strategy cannot do what was asked.
    #[error("{strategy} cannot do {what}; use Aca")]
    Unsupported {
        /// The strategy.
        strategy: &'static str,
        /// What was asked.
        what: &'static str,
    },
    /// The transposed linear system of an implicit stage was not solved.
    #[error(
        "the gradient of an implicit stage solves a linear system with the field's Jacobian, and that is singular or the field's pullback does not belong to its values; check the field's derivative and what its `jacobian` tells, or take smaller steps"
    )]
    StageUnsolved,
    /// Candle detaches gradients in this thread, so second derivatives would be wrong.
    #[error(
        "candle detaches gradients in this thread, so a second derivative would be wrong; set CANDLE_GRAD_DO_NOT_DETACH=1 before the thread's first backward"
    )]
    SecondOrderDisabled,
    /// The gradient of a solve was differentiated again, which only a naive one can be.
    #[error(
        "the gradient of this solve cannot be differentiated again; use Naive for second derivatives"
    )]
    NoSecondDerivative,
    /// The cotangent of an output has another shape than the output.
    #[error("a cotangent of shape {got:?} came for an output of shape {expected:?}")]
    CotangentShape {
        /// Shape of the cotangent.
        got: Vec<usize>,
        /// Shape of the output.
        expected: Vec<usize>,
    },
    /// A parameter was set between a solve and the backward pass through it.
    #[error(
        "parameter {index} was changed between the solve and its backward pass, so the gradient would belong to neither value; run backward before the optimiser's step, or solve again"
    )]
    ParameterChanged {
        /// Its position in the list of parameters.
        index: usize,
    },
    /// A replayed step did not end where the solve's own step ended.
    #[error(
        "step {step}, which ends at t = {t}, ends {off:.1e} (relative) off what the solve found when it is replayed: the field is not the same function again; let it hold no dropout, noise, counter or cache that changes from call to call (draw a mask once per solve, outside the field), and change nothing that it reads before backward"
    )]
    ReplayMismatch {
        /// The step, counted from 0.
        step: usize,
        /// Where it ends.
        t: f64,
        /// Distance of the two ends relative to their size.
        off: f64,
    },
    /// The cotangent of the state overflowed in the backward pass.
    #[error(
        "the cotangent of the state is not finite at t = {t}, where step {step} begins: it grew beyond all numbers on the way back, or the field's derivative is not finite there; tighten the tolerance, bound Solver::h_max, shorten the span, or check the derivative"
    )]
    CotangentNotFinite {
        /// Start of the step that it was pulled back through.
        t: f64,
        /// The step, counted from 0.
        step: usize,
    },
    /// The errors of the steps change the loss so much that its gradient is worthless.
    #[error(
        "the gradient cannot be trusted: the errors of the {steps} steps may change the loss by {bound:.1e} of its weight, where a tenth would be much, and cotangents grew by up to {growth:.1e} in a step (at t = {t}), where ten would be much; {limited} steps were at the stability limit; bound Solver::h_max (to some units of the fastest decay), tighten the tolerance, shorten the span, or take the number all the same with Untrusted::Flag"
    )]
    UntrustedGradient {
        /// Bound of the loss's error, relative to what the outputs weigh in the loss.
        bound: f64,
        /// Largest growth of the cotangent in a step.
        growth: f64,
        /// Start of that step.
        t: f64,
        /// Accepted steps at the stability limit.
        limited: usize,
        /// Accepted steps.
        steps: usize,
    },
    /// Differences of single precision are rounding.
    #[error(
        "differences need f64, but the state or a parameter is {}; build the network and the state in f64 for this check",
        got.as_str()
    )]
    DifferencesNeedF64 {
        /// The type found.
        got: DType,
    },
    /// Samples that step on their own have no steps in common that could be held.
    #[error(
        "a check by differences holds the steps of one solve, and samples that step on their own have none in common; use \
         Batching::Shared, or check one sample"
    )]
    DifferencesPerSample,
    /// A method that switches cannot take steps that are held.
    #[error(
        "a check by differences holds the steps of one solve, and a method that switches cannot take given steps; check with {explicit}, or with {implicit} if the problem is stiff: the field's derivatives are the same"
    )]
    DifferencesSwitching {
        /// The explicit method of the pair.
        explicit: String,
        /// The implicit one.
        implicit: String,
    },
    /// A loss is not one number.
    #[error(
        "the loss has shape {shape:?}, but a gradient is that of one number; take its sum or mean"
    )]
    LossShape {
        /// Shape of the loss.
        shape: Vec<usize>,
    },
    /// The solution runs along the surface of an event, whose time then does not follow what moves it.
    #[error(
        "event {event} at t = {t} only grazes its surface: its function moves at a rate of {rate:.1e} there, beside {size:.1e} for a solution across it, so the time of the event has no derivative; end the solve before, or move the threshold"
    )]
    GrazingEvent {
        /// The event, counted from 0.
        event: usize,
        /// When.
        t: f64,
        /// The rate `g_y . y' + g_t`.
        rate: f64,
        /// The larger of `|g_y| |y'| + |g_t|` and the function's mean rate within the step.
        size: f64,
    },
    /// The function or the jump of an event made a number of a time that is differentiated.
    #[error(
        "event {event} read the time as a number, t.value(), so its dependence on time is missing from gradients; use t.tensor(y) in its function and its jump"
    )]
    EventTimeRead {
        /// The event, counted from 0.
        event: usize,
    },
    /// A tensor of times has not exactly one dimension.
    #[error(
        "times of shape {shape:?} came where a list is needed; give a tensor of shape [n], n at least 1"
    )]
    TimesShape {
        /// Shape of the tensor.
        shape: Vec<usize>,
    },
}

impl GradientError {
    /// Checks that a loss is one number.
    pub(crate) fn check_loss(loss: &Tensor) -> Result<(), Self> {
        match loss.dims() {
            [] => Ok(()),
            shape => Err(Self::LossShape { shape: shape.to_vec() }),
        }
    }

    /// The error of this type that `error` holds, if it does.
    pub fn of(error: &Error) -> Option<&Self> {
        error.find()
    }
}

impl From<GradientError> for Error {
    fn from(error: GradientError) -> Self {
        Self::other(error)
    }
}

/// The message: a `main` that returns an error prints it by `Debug`.
impl std::fmt::Debug for GradientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
