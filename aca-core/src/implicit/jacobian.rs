//! What fields tell of their Jacobians.

use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;

use super::Sparsity;
use crate::{Error, Result, Time};

/// The largest system whose matrix is dense unless the field says otherwise.
const DENSE: usize = 500;

/// The largest system whose matrix is dense at all: Jacobian and factors take 400 MB.
const LARGEST: usize = 5000;

/// What a field tells of its Jacobian `df/dy`, which implicit methods solve linear systems with.
///
/// A system is a sample that steps on its own, a row of a state whose rows the field treats apart, or else the whole state;
/// numbers are counted through all its dimensions. What is told is not taken on trust: a stage counts as solved once it
/// solves its equation, and a gradient once the exact products of the field say so.
#[derive(Clone, Debug, Default)]
pub enum Jacobian {
    /// Nothing: systems of up to 500 numbers get dense matrices, larger ones are solved as
    /// [`MatrixFree`](Self::MatrixFree) without a preconditioner.
    #[default]
    Unknown,
    /// Any entry may differ from zero.
    Dense,
    /// Number `i` of the slope depends on numbers `i - lower` to `i + upper` of the state alone.
    Banded {
        /// Places below the diagonal.
        lower: usize,
        /// Places above it.
        upper: usize,
    },
    /// Every number of the slope depends on some numbers of the state alone.
    Sparse(Arc<Sparsity>),
    /// The matrix is never formed: GMRES needs its products alone.
    MatrixFree(Option<Arc<dyn Preconditioner>>),
}

/// Where a linear system `(I - reach J(t, y)) x = b` is set up.
#[derive(Debug)]
pub struct StagePoint<'a> {
    /// The time.
    pub t: &'a Time,
    /// The state.
    pub y: &'a Tensor,
    /// `h gamma`: one number, or one for each row that steps on its own.
    pub reach: &'a [f64],
}

/// An approximate inverse that lets GMRES converge in few products.
pub trait Preconditioner: fmt::Debug + Send + Sync {
    /// Returns an approximation of `(I - reach J)^-1 b`, or of `(I - reach J)^-T b` if `transposed`.
    ///
    /// # Shapes
    /// `b` and the result: that of the state.
    ///
    /// # Errors
    /// Whatever ends the solve.
    fn apply(&self, at: &StagePoint<'_>, b: &Tensor, transposed: bool) -> Result<Tensor>;
}

/// How the linear systems of one solve are set up.
#[derive(Clone, Debug)]
pub enum Structure {
    /// Dense matrices.
    Dense,
    /// Matrices of a band, after a permutation.
    Sparse(Arc<Sparsity>),
    /// No matrices.
    MatrixFree(Option<Arc<dyn Preconditioner>>),
}

impl Jacobian {
    /// How systems of `size` numbers are set up.
    ///
    /// # Errors
    /// [`Error::JacobianTooLarge`], [`Error::JacobianSize`].
    pub fn structure(&self, size: usize) -> Result<Structure> {
        Ok(match self {
            Self::Unknown if size <= DENSE => Structure::Dense,
            Self::Unknown => Structure::MatrixFree(None),
            Self::Dense if size > LARGEST => {
                return Err(Error::JacobianTooLarge { size, largest: LARGEST });
            }
            Self::Dense => Structure::Dense,
            &Self::Banded { lower, upper } => {
                Structure::Sparse(Arc::new(Sparsity::banded(size, lower, upper)))
            }
            Self::Sparse(sparsity) if sparsity.size() != size => {
                return Err(Error::JacobianSize { got: sparsity.size(), expected: size });
            }
            Self::Sparse(sparsity) => Structure::Sparse(sparsity.clone()),
            Self::MatrixFree(preconditioner) => Structure::MatrixFree(preconditioner.clone()),
        })
    }
}
