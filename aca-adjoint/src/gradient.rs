//! Which gradient strategy to use.

/// How the gradient of a solve is found.
///
/// | strategy | memory | evaluations of the field a step of s stages |
/// |---|---|---|
/// | [`Gradient::Aca`] | a state a step, one step's graphs | s forward, s with their pullbacks backward |
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Gradient {
    /// The Adaptive Checkpoint Adjoint: replays accepted steps, exact for the discrete solution.
    #[default]
    Aca,
}
