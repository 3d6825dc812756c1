//! What can go wrong in dense output.

use aca_core::Error;

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
    /// A span without length has no steps to take a derivative from.
    #[error("the span has no length, so its solution has no derivative; evaluate the field")]
    NoSteps,
    /// The solve kept no dense output.
    #[error("the solve kept no dense output; solve with SaveAt::Dense")]
    NoDenseOutput,
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
