//! What can go wrong in a solve.

use std::sync::Arc;

use aca_tableau::TableauError;
use candle_core::{DType, Tensor};

use crate::{Number, Stats};

/// Everything that can go wrong in a solve; each message states the fact with its values, then the remedy where one is
/// known.
///
/// Errors of the crates above arrive as [`Error::Other`], so that one result type is enough. `DenseError::of` and
/// `GradientError::of` find them in it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed, in the field or in the solver.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A tableau was refused, or no method has the given name.
    #[error(transparent)]
    Tableau(#[from] TableauError),
    /// An error of a crate above, or of a field, a sink, a scheme or a strategy of the user's.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
    /// The state has no elements.
    #[error("the state of shape {shape:?} has no elements; give at least one")]
    EmptyState {
        /// Shape of the state.
        shape: Vec<usize>,
    },
    /// The kernels of this build do not work on the state's type.
    #[error("a state of dtype {} is not supported; use f32 or f64", dtype.as_str())]
    UnsupportedDType {
        /// Type of the state.
        dtype: DType,
    },
    /// The kernels of this build do not work where the state lives.
    #[error(
        "a state on {device} is not supported by this build; move it to the CPU, or build with the feature cuda for one on CUDA"
    )]
    UnsupportedDevice {
        /// Where the state lives.
        device: String,
    },
    /// A GPU was requested, but this build has no GPU support.
    #[error(
        "GPU {ordinal} was requested, but this build has no GPU support; build with the feature cuda"
    )]
    CudaNotBuilt {
        /// Its number.
        ordinal: usize,
    },
    /// The machine has no such GPU, or no driver for it.
    #[error(
        "GPU {ordinal} cannot be used: {cause}; install NVIDIA's driver, or compute on the CPU"
    )]
    CudaUnavailable {
        /// Its number.
        ordinal: usize,
        /// What the driver says.
        cause: String,
    },
    /// Tensors of one solve lie on several devices.
    #[error("tensors of one solve lie on {expected} and {got}; move them to one device")]
    DeviceMismatch {
        /// Where the state lives.
        expected: String,
        /// Where another tensor lives.
        got: String,
    },
    /// An operation of the field does not take such a state.
    #[error(
        "the field does not take a state of shape {shape:?} and dtype {}; {}: {source}",
        dtype.as_str(), fitting(shape, source)
    )]
    StateUnfit {
        /// Shape of the state.
        shape: Vec<usize>,
        /// Type of the state.
        dtype: DType,
        /// The operation.
        source: candle_core::Error,
    },
    /// The field's result has another shape than the state.
    #[error(
        "the field returned shape {got:?} for a state of shape {expected:?}; a slope has the state's shape"
    )]
    FieldShape {
        /// Shape of the field's result.
        got: Vec<usize>,
        /// Shape of the state.
        expected: Vec<usize>,
    },
    /// The field's result has another type than the state.
    #[error(
        "the field returned dtype {} for a state of dtype {}; cast one of them",
        got.as_str(),
        expected.as_str()
    )]
    FieldDType {
        /// Type of the field's result.
        got: DType,
        /// Type of the state.
        expected: DType,
    },
    /// A tolerance is not a positive number.
    #[error("{name} holds {}, but a tolerance must be positive and finite", Number(*value))]
    InvalidTolerance {
        /// `rtol` or `atol`.
        name: &'static str,
        /// The offending entry.
        value: f64,
    },
    /// A tensor tolerance does not broadcast to the state.
    #[error("{name} of shape {got:?} does not broadcast to a state of shape {expected:?}")]
    ToleranceShape {
        /// `rtol` or `atol`.
        name: &'static str,
        /// Shape of the tolerance.
        got: Vec<usize>,
        /// Shape of the state.
        expected: Vec<usize>,
    },
    /// A solver setting lies outside its range.
    #[error("{name} = {} is not allowed; it must be {range}", Number(*value))]
    InvalidSetting {
        /// Name of the field of `Solver` or `Pid`.
        name: &'static str,
        /// The offending value.
        value: f64,
        /// The values that are allowed, in words.
        range: &'static str,
    },
    /// Adaptive steps were requested of a method that does not estimate its error.
    #[error(
        "{method} has no embedded error estimate, so it cannot adapt its step; use Solver::fixed"
    )]
    NoErrorEstimate {
        /// Name of the tableau.
        method: String,
    },
    /// A tableau without error estimate came without a fixed step.
    #[error("{method} has no embedded error estimate, so it needs a fixed step; give h")]
    FixedStepMissing {
        /// Name of the tableau.
        method: String,
    },
    /// A splitting needs a last dimension of even size: positions, then momenta.
    #[error(
        "{method} moves positions and momenta, two halves of the last dimension, but the state has shape {shape:?}; give it as many of both"
    )]
    NoHalves {
        /// Name of the method.
        method: String,
        /// Shape of the state.
        shape: Vec<usize>,
    },
    /// The facts of a scheme do not fit one another.
    #[error(
        "the facts of {method} do not fit: b, b_error and the interpolant must be of as many slopes, at least one, and error_order must come with b_error"
    )]
    InvalidScheme {
        /// Name of the scheme.
        method: String,
    },
    /// An implicit stage would need the Jacobian of too many coupled numbers.
    #[error(
        "the dense Jacobian of {size} coupled numbers was asked for, and at most {largest} are taken; let the field's `jacobian` tell a band, the places of its entries, or MatrixFree"
    )]
    JacobianTooLarge {
        /// Numbers of one system.
        size: usize,
        /// The most that are taken.
        largest: usize,
    },
    /// An additive method needs to know the stiff part of a field.
    #[error(
        "an additive method steps the stiff part of a field apart, and this field tells no parts; join two fields by aca_core::Split, or take an implicit method such as KVAERNO5"
    )]
    FieldNotSplit,
    /// Places of a Jacobian's entries do not fit the systems.
    #[error(
        "the places of the Jacobian's entries are those of {got} numbers, but a system has {expected}: a row of a batch whose rows are independent, else the whole state"
    )]
    JacobianSize {
        /// Rows of the pattern.
        got: usize,
        /// Numbers of a system.
        expected: usize,
    },
    /// A row of a pattern names a column that is not there.
    #[error("row {row} of the pattern names column {column}, but it has {size} rows and columns")]
    SparsityOutside {
        /// The row.
        row: usize,
        /// The column.
        column: usize,
        /// Rows and columns.
        size: usize,
    },
    /// A pair of methods to switch between does not hold what its place asks for.
    #[error(
        "{method} cannot be the {role} method of a pair to switch between; take an {role} one with an error estimate, such as DOPRI5 (explicit) or KVAERNO5 (implicit)"
    )]
    SwitchingPair {
        /// Its place.
        role: &'static str,
        /// The method.
        method: String,
    },
    /// A method that switches was asked for steps without error control.
    #[error(
        "method auto switches by what error control finds, and these steps have none; give tolerances (Solver::adaptive), or take one of its methods"
    )]
    SwitchingUncontrolled,
    /// Steps of an implicit method cannot be part of candle's graph.
    #[error(
        "steps of {method} are found by iterations that candle cannot differentiate; use Gradient::Aca, whose gradient is exact"
    )]
    TracedImplicit {
        /// Name of the method.
        method: String,
    },
    /// A scheme returned another number of slopes than it declared.
    #[error(
        "{method} returned {got} slopes, but its weights b have {expected} entries; append as many"
    )]
    SchemeStages {
        /// Name of the scheme.
        method: String,
        /// Slopes that it left.
        got: usize,
        /// Slopes that it said.
        expected: usize,
    },
    /// A row or a fraction of a step was named that does not exist.
    #[error(
        "there is no fraction {s} of an accepted step in row {row}; name a row of Step::accepted and a fraction in [0, 1]"
    )]
    NoSuchPlace {
        /// The row.
        row: usize,
        /// The fraction of its step.
        s: f64,
    },
    /// A scheme found no slopes.
    #[error("{method} found no slopes: {what}; take smaller steps")]
    SchemeFailed {
        /// Name of the scheme.
        method: String,
        /// What happened.
        what: String,
    },
    /// A node of the tableau lies outside the step.
    #[error(
        "node c = {c} of {method} lies outside [0, 1], so the field would be evaluated outside the step: beyond the span, or on the other side of a jump; use another method"
    )]
    NodeOutsideStep {
        /// Name of the tableau.
        method: String,
        /// The node.
        c: f64,
    },
    /// An end of the span is NaN or infinite.
    #[error("the span {} to {} is not finite", Number(*t0), Number(*t1))]
    InvalidSpan {
        /// Start of the span.
        t0: f64,
        /// End of the span.
        t1: f64,
    },
    /// A requested or given time is NaN or infinite.
    #[error("time {index} is {t}; times must be finite")]
    TimeNotFinite {
        /// Position in the list of times.
        index: usize,
        /// The offending time.
        t: f64,
    },
    /// Two times of a list are the same.
    #[error("time {index} repeats {}; give each time once", Number(*t))]
    TimeDuplicated {
        /// Position of the second of the two.
        index: usize,
        /// The repeated time.
        t: f64,
    },
    /// A list of times does not run in the span's direction.
    #[error(
        "time {index} is {} and comes after {}, against the direction of the span {} to {}; sort the times in the direction of the span, or exchange its ends",
        Number(*t), Number(*previous), Number(*t0), Number(*t1)
    )]
    TimesOutOfOrder {
        /// Position of the offending time.
        index: usize,
        /// The offending time.
        t: f64,
        /// The time before it.
        previous: f64,
        /// Start of the span.
        t0: f64,
        /// End of the span.
        t1: f64,
    },
    /// A time lies outside the span that was solved.
    #[error(
        "time {} lies outside the span {} to {}; widen the span, or continue a dense output by DenseOutput::extrapolating",
        Number(*t), Number(*t0), Number(*t1)
    )]
    TimeOutsideSpan {
        /// The offending time.
        t: f64,
        /// Start of the span.
        t0: f64,
        /// End of the span.
        t1: f64,
    },
    /// A list of times is empty.
    #[error("the list of times is empty; give at least one")]
    NoTimes,
    /// The step budget is spent before the end of the span.
    #[error(
        "reached max_steps = {max_steps} at t = {} of the span {} to {}; {}",
        Number(*t), Number(*t0), Number(*t1), advice(*accepted, *stability_limited)
    )]
    MaxSteps {
        /// The budget: accepted and rejected steps together.
        max_steps: usize,
        /// Where the solve stands.
        t: f64,
        /// Start of the span.
        t0: f64,
        /// End of the span.
        t1: f64,
        /// Steps that were accepted.
        accepted: usize,
        /// Those of them at the method's stability limit, as [`Stats::stability_limited`](crate::Stats) counts them.
        stability_limited: usize,
    },
    /// A sum over the stages of a step was asked for with more or fewer of them.
    #[error(
        "{what} of {got} stages were given where {expected} are needed; complete a step before its inside is looked at"
    )]
    StageCount {
        /// Weights or slopes.
        what: &'static str,
        /// How many were given.
        got: usize,
        /// How many there must be.
        expected: usize,
    },
    /// Fixed steps are so small that times no longer tell them apart.
    #[error(
        "fixed steps of {h:e} cannot be told apart at times around {}; take larger steps, or count time from nearer to 0",
        Number(*t)
    )]
    FixedStepUnderflow {
        /// The step.
        h: f64,
        /// Where two of its ends are one number.
        t: f64,
    },
    /// Fixed steps need more than the budget.
    #[error(
        "the span {} to {} takes {} fixed steps, but max_steps = {max_steps}; take larger steps or raise max_steps",
        Number(*t0), Number(*t1), Number(*steps)
    )]
    TooManyFixedSteps {
        /// The budget.
        max_steps: usize,
        /// Steps that the span takes, a whole number.
        steps: f64,
        /// Start of the span.
        t0: f64,
        /// End of the span.
        t1: f64,
    },
    /// Error control asks for a step smaller than allowed.
    #[error(
        "step size {h:.3e} fell below {h_min:.3e} at t = {}; the problem may be singular there, or stiff for {method}",
        Number(*t)
    )]
    StepSizeUnderflow {
        /// The step asked for.
        h: f64,
        /// The smallest step allowed there.
        h_min: f64,
        /// Where the solve stands.
        t: f64,
        /// Name of the tableau.
        method: String,
    },
    /// The initial state holds NaN or an infinity.
    #[error("the initial state is not finite at entry {index}")]
    InitialState {
        /// Row-major index of the first entry that is not finite.
        index: usize,
    },
    /// The field or the state stopped being finite, and smaller steps did not help.
    #[error(
        "the {what} is not finite at t = {} (first at entry {index}{}); check the field there",
        Number(*t), of_size(*h)
    )]
    NonFinite {
        /// `field`, `state` or `output`.
        what: &'static str,
        /// Start of the step that failed, or the output's time.
        t: f64,
        /// Its size, 0 where no step was made yet.
        h: f64,
        /// Row-major index of the first entry that is not finite.
        index: usize,
    },
    /// A state without dimensions has no samples.
    #[error(
        "the state of shape {shape:?} has no batch dimension; give one row per sample, or let the solver share its steps"
    )]
    NoBatch {
        /// Shape of the state.
        shape: Vec<usize>,
    },
    /// Each sample was to have its own span or outputs, but the samples share their steps.
    #[error(
        "{what} for each sample need steps for each sample; set Solver::batching to Batching::PerSample"
    )]
    SharedSteps {
        /// What was asked for.
        what: &'static str,
    },
    /// A list with one entry a sample has another length than the batch.
    #[error("{got} {what} came for {expected} samples; give one for each")]
    SampleCount {
        /// What the list holds.
        what: &'static str,
        /// Its length.
        got: usize,
        /// Samples in the batch.
        expected: usize,
    },
    /// A part of the library that supports only steps of the whole batch met samples that step on their own.
    #[error("{what} needs steps of the whole batch, but every sample steps on its own; {remedy}")]
    PerSampleUnsupported {
        /// What was asked.
        what: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Samples that step on their own failed.
    #[error("{}; OnFailure::Keep returns the other samples", failed_samples(samples, *batch))]
    SamplesFailed {
        /// Each failed sample and its error.
        samples: Vec<(usize, Arc<Error>)>,
        /// Samples in the batch.
        batch: usize,
    },
    /// The field read one time, but the samples of the batch are at different times.
    #[error(
        "the field reads Time::value, one number, but the samples are at different times; let it use Time::tensor, which broadcasts against the state"
    )]
    TimesDiffer,
    /// Candle's graph over all steps is too deep for recursion.
    #[error(
        "a naive gradient holds at most {limit} steps of this field, candle walks its graph recursively; use Aca, which has no such limit"
    )]
    NaiveTooDeep {
        /// Largest number of steps.
        limit: usize,
    },
    /// Single precision cannot tell the times of a solve's stages apart.
    #[error(
        "times around {t} are {spacing:.1e} apart in f32, in which the field reads them, but steps are as short as {h:.1e}: the field sees its stages at wrong times; count time from an origin near the span, or use a state of f64"
    )]
    TimeResolution {
        /// The time that is farthest from zero.
        t: f64,
        /// Distance to the next time in single precision.
        spacing: f64,
        /// Size of the smallest step.
        h: f64,
    },
    /// Rows of a state that should step on their own depend on one another.
    #[error(
        "the slope of sample {row} changes with the states of other samples, so samples cannot have steps of their own; use Batching::Shared, or give the state a first dimension of independent samples"
    )]
    SamplesCoupled {
        /// The sample.
        row: usize,
    },
    /// Candle's graph of a solve is too deep for the stack of this thread.
    #[error(
        "candle walks and drops the graph of a solve by recursion, and the stack of this thread is safe for {limit} steps of this one; {remedy}"
    )]
    GraphTooDeep {
        /// Largest number of steps.
        limit: usize,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The system grants no stack for a deep graph.
    #[error(
        "a thread with a stack of {} MiB cannot be started: {cause}; raise the limit of virtual memory (ulimit -v)", bytes >> 20
    )]
    LargeStack {
        /// The stack.
        bytes: usize,
        /// What the system says.
        cause: std::io::Error,
    },
}

/// What helps where the steps are spent: more of them, unless most were at the stability limit.
fn advice(accepted: usize, stability_limited: usize) -> String {
    match (Stats { accepted, stability_limited, ..Stats::default() }).is_stiff() {
        true => format!(
            "{stability_limited} of {accepted} accepted steps were at the stability limit, so the problem is stiff and a looser \
             tolerance does not help; shorten the span, or take Method::auto() or an implicit method such as KVAERNO5"
        ),
        false => "raise max_steps or loosen the tolerance".to_owned(),
    }
}

/// What candle's error says below its backtrace.
fn cause_of(error: &candle_core::Error) -> &candle_core::Error {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => cause_of(inner),
        error => error,
    }
}

/// How a state and a field come to fit.
fn fitting(shape: &[usize], source: &candle_core::Error) -> &'static str {
    match (cause_of(source), shape) {
        (candle_core::Error::DTypeMismatchBinaryOp { .. }, _) => {
            "give the state and everything that the field holds one dtype"
        }
        (_, [_]) => "layers of candle take states of shape [batch, n]",
        _ => "change its operations or the state",
    }
}

/// The step that failed, if there was one.
fn of_size(h: f64) -> String {
    if h == 0.0 { String::new() } else { format!(", step size {h:.3e}") }
}

/// Names the first few failed samples, each with its error.
fn failed_samples(samples: &[(usize, Arc<Error>)], batch: usize) -> String {
    const NAMED: usize = 3;
    let named = samples.iter().take(NAMED);
    let named: Vec<_> = named.map(|(sample, error)| format!("sample {sample}: {error}")).collect();
    let rest = match samples.len().saturating_sub(NAMED) {
        0 => String::new(),
        rest => format!(" (and {rest} more)"),
    };
    format!("{} of {batch} samples failed: {}{rest}", samples.len(), named.join("; "))
}

/// Result with the workspace's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl From<Error> for candle_core::Error {
    /// Lets a solve be called with `?` inside a candle `Module`; the message stays whole.
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(inner) => inner,
            other => candle_core::Error::wrap(other),
        }
    }
}

impl Error {
    /// Takes an error of another type along, as it is.
    pub fn other(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Other(Box::new(error))
    }

    /// What evaluating a field on `y` failed with, which names the state where shapes or dtypes do not fit.
    pub(crate) fn in_field(error: candle_core::Error, y: &Tensor) -> Self {
        use candle_core::Error as Candle;
        match cause_of(&error) {
            Candle::ShapeMismatchBinaryOp { .. }
            | Candle::ShapeMismatchCat { .. }
            | Candle::ShapeMismatch { .. }
            | Candle::UnexpectedShape { .. }
            | Candle::UnexpectedNumberOfDims { .. }
            | Candle::DimOutOfRange { .. }
            | Candle::NarrowInvalidArgs { .. }
            | Candle::DTypeMismatchBinaryOp { .. }
            | Candle::UnexpectedDType { .. } => {
                Self::StateUnfit { shape: y.dims().to_vec(), dtype: y.dtype(), source: error }
            }
            _ => error.into(),
        }
    }

    /// The error of type `E` that this one takes along, if it does.
    pub fn find<E: std::error::Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Other(error) => error.downcast_ref(),
            _ => None,
        }
    }
}

/// The message: a `main` that returns an error prints it by `Debug`.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
