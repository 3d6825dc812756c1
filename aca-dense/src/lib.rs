//! Dense output: the solution of an ODE between the steps of its solve.
//!
//! Requested times do not change the steps: they are evaluated by the tableau's interpolant, at its
//! full order.
//!
//! ```
//! use aca_core::{Solver, Time, Tolerance};
//! use aca_dense::{SaveAt, solve};
//! use candle_core::{Device, Tensor};
//!
//! # fn main() -> aca_core::Result<()> {
//! let solver = Solver::adaptive(aca_tableau::DOPRI5, Tolerance { rtol: 1e-9, atol: 1e-9 });
//! let decay = |_t: &Time, y: &Tensor| y.neg();
//! let y0 = Tensor::new(&[1.0f64], &Device::Cpu)?;
//! let sol = solve(&solver, &decay, &y0, (0.0, 2.0), &SaveAt::Dense)?;
//! let y = sol.dense()?.at(1.234)?.to_vec1::<f64>()?;
//! assert!((y[0] - (-1.234f64).exp()).abs() < 1e-8);
//! # Ok(())
//! # }
//! ```
//!
//! | to have | ask for |
//! |---|---|
//! | the state at the end | [`SaveAt::End`] |
//! | states at given times | [`SaveAt::Times`] |
//! | the solver's own steps | [`SaveAt::Steps`] |
//! | `y(t)` and `y'(t)` later, anywhere | [`SaveAt::Dense`] |
//! | several of these | [`SaveAt::All`] |
//! | what happens where the solution crosses a threshold | [`solve_events`] |
//! | a span and times for each sample of a batch | [`Batching::PerSample`](aca_core::Batching::PerSample), [`SaveAt::PerSample`] |

mod dense_output;
mod error;
mod events;
mod interpolate;
mod layout;
mod placement;
mod ragged;
mod save_at;
mod saver;
mod solution;

pub use dense_output::{DenseOutput, DenseStep};
pub use error::DenseError;
pub use events::{
    Action, Crossing, Direction, Event, EventFinder, EventFunction, EventLaw, EventSolution,
    Events, Motion, Piece, Pieces, crossings_of, jumping, moments, solve_events,
};
pub use interpolate::{interpolate, interpolate_derivative};
pub use layout::Layout;
pub use placement::Placement;
pub use ragged::Ragged;
pub use save_at::SaveAt;
pub use saver::Saver;
pub use solution::{Solution, solve};
