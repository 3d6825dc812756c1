//! Solves of candle vector fields.
//!
//! [`Solver`] says how to solve, a [`VectorField`] what, and a [`StepSink`] receives the accepted
//! steps. The loop searches the step size on detached values and knows nothing of outputs,
//! checkpoints or gradients: these are sinks of the crates above.
//!
//! ```
//! use aca_core::{Solver, Time, Tolerance};
//! use aca_tableau::TSIT5;
//! use candle_core::{Device, Tensor};
//!
//! # fn main() -> aca_core::Result<()> {
//! aca_core::init(); // once, the first line of main
//! let pendulum = |_t: &Time, y: &Tensor| {
//!     let (angle, speed) = (y.get(0)?, y.get(1)?);
//!     Tensor::stack(&[speed, angle.sin()?.neg()?], 0)
//! };
//! let y0 = Tensor::new(&[0.1f64, 0.0], &Device::Cpu)?;
//! let solver = Solver::adaptive(TSIT5, Tolerance { rtol: 1e-8, atol: 1e-8 });
//! let end = solver.solve(&pendulum, &y0, (0.0, 6.0), &mut ())?;
//! assert!(end.stats.accepted < 60 && end.y1.get(0)?.to_scalar::<f64>()? < 0.1);
//! # Ok(())
//! # }
//! ```
//!
//! | to | use |
//! |---|---|
//! | adapt the step to a tolerance | [`Solver::adaptive`] |
//! | take fixed steps | [`Solver::fixed`], [`Solver::fixed_count`] |
//! | solve stiff problems | an implicit tableau such as `KVAERNO5`, [`Newton`] |
//! | tell implicit methods that a Jacobian is a band, or sparse, or too large to be kept | [`Jacobian`], [`WithJacobian`] |
//! | solve linear systems for a field's stiff part alone | [`Split`] and an additive method such as `KENCARP4` |
//! | choose a method, or write one | [`Method`], [`Splitting`], [`Scheme`] |
//! | integrate a given grid | [`Solver::replay`] |
//! | hit given times, cross jumps of the field | [`Solver::step_ts`], [`Solver::jump_ts`] |
//! | stay inside the method's stability interval | [`Solver::stable_steps`] |
//! | weigh the parts of a state differently | [`Tolerances::Each`] |
//! | solve for several tensors at once | [`Packing`] |
//! | let every sample of a batch step on its own | [`Batching::PerSample`], [`Spans`] |
//! | look at accepted steps, end a solve inside one | [`StepSink`], [`Step::stop`] |
//! | walk and drop deep graphs | [`with_large_stack`] |
//! | use as many cores as you like | [`init_with_threads`] |
//! | keep states on a GPU | the feature `cuda`, [`kernels::cuda::device`] |
//!
//! **Call [`init`] in the first line of `main`**, or set the environment variable `RAYON_NUM_THREADS`: without
//! either, candle asks the operating system for the number of cores in every matrix product, and a small
//! network takes many times as long.

mod additive;
mod batching;
mod clock;
mod clocks;
mod controller;
mod coupling;
mod error;
mod evaluator;
mod field;
mod fingerprint;
mod finite;
mod implicit;
mod initial_step;
pub mod kernels;
pub mod large_stack;
mod method;
mod native;
mod number;
mod packed;
mod parts;
mod run;
mod scheme;
mod sink;
mod solve;
mod solver;
mod space;
mod span;
mod splitting;
mod stability;
mod stats;
mod step_context;
mod stepper;
mod steps;
mod threads;
mod time;
mod tolerance;
mod trace_guard;
mod vjp;
mod with_jacobian;

pub use aca_tableau::{Interpolant, Tableau, TableauError};
pub use batching::{Batching, OnFailure, Status};
pub use controller::{Pid, StepControl};
pub use error::{Error, Result};
pub use evaluator::Evaluator;
pub use field::{Cotangents, Graph, Pullback, VectorField, linearize_by_autograd};
pub use fingerprint::Fingerprint;
pub use implicit::{
    Jacobian, Newton, NewtonState, Preconditioner, Sparsity, StagePoint, Structure,
    TransposedSystems, products, products_on_slices, systems,
};
pub use large_stack::with_large_stack;
pub use method::{Method, Switching};
pub use native::{Native, NativeField, NativeTime};
pub use number::Number;
pub use packed::{PackedField, Packing};
pub use parts::{Part, Parts, Split};
pub use scheme::{Facts, Half, Halves, Scheme, StageCotangents, Stages, half_of};
pub use sink::{RowStep, Step, StepSink};
pub use solve::{SampleEnd, SolveEnd};
pub use solver::{Progress, ProgressFn, Solver, Stepping};
pub use space::{Point, SliceStages, TensorStages};
pub use span::{Spans, TimeSpan};
pub use splitting::Splitting;
pub use stability::StableSteps;
pub use stats::Stats;
pub use stepper::Stepper;
pub use steps::{Steps, pays_to_gather};
pub use threads::{init, init_with_threads};
pub use time::Time;
pub use tolerance::{Tolerance, Tolerances};
pub use with_jacobian::WithJacobian;
