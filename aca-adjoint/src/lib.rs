//! Gradients through ODE solves that you can trust.
//!
//! The Adaptive Checkpoint Adjoint (ACA) keeps a checkpoint of each accepted step and replays them one at a time,
//! newest first: the gradient is that of the discrete solution, exactly, in the memory of one step's graphs and one
//! state per step.
//!
//! ```
//! use aca_adjoint::Ode;
//! use aca_core::{Solver, Time, Tolerance};
//! use aca_dense::SaveAt;
//! use candle_core::{Device, Tensor, Var};
//!
//! # fn main() -> aca_core::Result<()> {
//! aca_adjoint::init(); // once, the first line of main
//! let y0 = Var::new(&[1.0f64, 0.0], &Device::Cpu)?;
//! let spin = |_t: &Time, y: &Tensor| Tensor::stack(&[y.get(1)?, y.get(0)?.neg()?], 0);
//! let solver = Solver::adaptive(aca_tableau::TSIT5, Tolerance { rtol: 1e-9, atol: 1e-9 });
//! let sol = Ode::new(solver, spin, vec![])?.solve(&y0, (0.0, 1.0), &SaveAt::End)?;
//! let grads = sol.y1.get(0)?.backward()?; // y1[0] = cos(1) y0[0] + sin(1) y0[1]
//! let gradient = grads.get(&y0).map(|g| g.to_vec1::<f64>()).transpose()?.unwrap_or_default();
//! assert!((gradient[0] - 1f64.cos()).abs() < 1e-7 && (gradient[1] - 1f64.sin()).abs() < 1e-7);
//! # Ok(())
//! # }
//! ```
//!
//! | to | use |
//! |---|---|
//! | train with candle's `backward` | [`Ode::solve`] |
//! | differentiate with respect to times too | [`Ode::solve_times`] |
//! | stop, record or change the state where the solution crosses a threshold | [`Ode::solve_events`] |
//! | let every sample of a batch step on its own | `Batching::PerSample` and [`Ode::solve`] |
//! | get the gradient explicitly | [`Ode::forward`], [`Tape::pullback`] |
//! | choose how the gradient is found, or write that yourself | [`Ode::gradient`], [`Gradient`], [`Strategy`] |
//! | check a gradient | [`Ode::check_by_differences`], [`Ode::check_gradient`] |
//! | go back through thousands of solves | [`backward`], [`with_large_stack`] |
//! | differentiate a gradient again | [`Gradient::Naive`] with [`gradients_in_graph`], [`hessian_vector`] |
//!
//! **Call [`init`] in the first line of `main`**, or set the environment variable `RAYON_NUM_THREADS`: without
//! either, candle asks the operating system for the number of cores in every matrix product, and a small
//! network takes many times as long.

mod aca;
mod adjoint_state;
mod attach;
mod backsolve;
mod backward;
mod backward_pass;
mod checkpoints;
mod differences;
mod error;
mod events;
mod forward;
mod gradient;
mod gradient_check;
mod gradients;
mod large_stack;
mod mali;
mod naive;
mod ode;
mod outputs;
mod params;
mod replay;
mod report;
mod second_order;
mod solution;
mod solve;
mod states;
mod storage;
mod strategy;
mod through_step_size;
mod traced_replay;

pub use aca_core::init;
pub use adjoint_state::AdjointState;
pub use backward::Tape;
pub use checkpoints::{Checkpoint, Checkpoints, Grid};
pub use differences::DifferenceCheck;
pub use error::GradientError;
pub use events::EventOdeSolution;
pub use gradient::{Backsolve, Gradient};
pub use gradient_check::GradientCheck;
pub use gradients::{Gradients, TimeGradients};
pub use large_stack::{backward, with_large_stack};
pub use ode::{Ode, OutputTimes};
pub use outputs::Outputs;
pub use params::Params;
pub use report::{GradientReport, LossError, Untrusted};
pub use second_order::{gradients_in_graph, hessian_vector, is_second_order_enabled};
pub use solution::OdeSolution;
pub use solve::Solve;
pub use strategy::{Backward, Recorded, Strategy};

// The floors below, so that this dependency alone solves and differentiates.
pub use {aca_core, aca_dense, aca_tableau, candle_core};
