//! The only place where layers touch elements: functions on slices, vectorised by run-time dispatch and
//! shared among rayon's threads above measured sizes.

pub(crate) mod activation;
pub(crate) mod conv;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod linear;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod scatter;
pub(crate) mod share;
pub(crate) mod stack;
pub(crate) mod vector_math;
