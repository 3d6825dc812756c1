//! The model zoo of the ACA workspace.
//!
//! [`systems`] holds systems of physics with unknown parameters, whose derivatives are closed forms: they run at native
//! speed and without graphs. [`fields`] and [`layers`] are fast building blocks of networks. [`data`] holds images to
//! classify, [`networks`] the classifiers, [`training`] their training loop. [`optimizers`] are for your own training
//! loops.
//!
//! ```
//! use aca_adjoint::Ode;
//! use aca_core::{Solver, Tolerance};
//! use aca_dense::SaveAt;
//! use aca_models::systems::LotkaVolterra;
//! use candle_core::{Device, Tensor};
//!
//! # fn main() -> aca_core::Result<()> {
//! aca_models::init(); // once, the first line of main
//! let field = LotkaVolterra::field([0.5, 0.5, 0.5, 0.5])?;
//! let rates = field.theta().clone();
//! let solver = Solver::adaptive(aca_tableau::DOPRI5, Tolerance { rtol: 1e-8, atol: 1e-8 });
//! let ode = Ode::new(solver, field, vec![rates.clone()])?;
//! let y0 = Tensor::new(&[1.2f64, 1.8], &Device::Cpu)?;
//! let grads = ode.solve(&y0, (0.0, 10.0), &SaveAt::End)?.y1.sum_all()?.backward()?;
//! assert!(grads.get(&rates).is_some());
//! # Ok(())
//! # }
//! ```
//!
//! **Call [`init`] in the first line of `main`**, or set the environment variable `RAYON_NUM_THREADS`: without
//! either, candle asks the operating system for the number of cores in every matrix product, and a small
//! network of candle's layers takes many times as long. The [`layers`] here do not ask.
//!
//! | feature | what it adds |
//! |---|---|
//! | `cuda` | layers, fields, systems and networks on NVIDIA's GPUs |
//! | `cudnn` | convolutions by cuDNN there |
//! | `serde` | tableaux from TOML and JSON: `Tableau::from_toml` |
//! | `mpi`, `nccl` | training by many processes: [`communicator`] |
//! | `download` | fetching CIFAR: [`data`] |

pub mod communicator;
pub mod data;
mod error;
pub mod fields;
mod files;
pub mod layers;
pub mod networks;
pub mod optimizers;
mod real;
pub mod systems;
pub mod training;

pub use aca_core::init;
pub use error::{Error, Result};
pub use real::Real;

// The floors below, so that this dependency alone trains a model.
pub use {aca_adjoint, aca_core, aca_dense, aca_tableau, candle_core, candle_nn};

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../docs/trust.md")]
pub struct Trust;

#[cfg(doctest)]
#[doc = include_str!("../../docs/from-torch-aca.md")]
pub struct FromTorchAca;

#[cfg(doctest)]
#[doc = include_str!("../../docs/from-torchdiffeq.md")]
pub struct FromTorchdiffeq;

#[cfg(doctest)]
#[doc = include_str!("../../docs/events.md")]
pub struct EventsPage;

#[cfg(doctest)]
#[doc = include_str!("../../docs/cookbook.md")]
pub struct Cookbook;
