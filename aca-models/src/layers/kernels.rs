//! The only place where layers touch elements: functions on slices, vectorised by run-time dispatch and
//! shared among rayon's threads above measured sizes.

pub(crate) mod matmul;
