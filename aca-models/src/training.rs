//! Training of image classifiers: a loop that stops and goes on at any batch, bit for bit.
//!
//! A [`Trainer`] owns a network, its optimiser and its data. It trains one epoch at a time. A run can be saved at any
//! batch: a [`Checkpoint`] holds parameters, running statistics, momentum, position in the epoch and history. Batches
//! follow from seed, epoch and position alone, so a run that was stopped and resumed ends with the numbers of one that
//! was not. [`Trainer::distributed`] makes it one of many processes that train the same network.
//!
//! ```no_run
//! use std::{ops::ControlFlow, path::Path};
//!
//! use aca_models::{
//!     data::DataSet,
//!     networks::{Network, NetworkName, NetworkSpec, OdeOptions},
//!     training::{TrainPlan, Trainer},
//! };
//!
//! # fn main() -> aca_models::Result<()> {
//! let digits = DataSet::digits()?;
//! let plan = TrainPlan::digits();
//! let ode = OdeOptions::digits();
//! let spec = NetworkSpec { seed: plan.seed, ..NetworkSpec::of(NetworkName::Digits) };
//! let network = Network::new(&spec, &ode)?;
//! let mut trainer = Trainer::new(network, digits, plan)?;
//! while let Some(row) = trainer.epoch(&mut |_| ControlFlow::Continue(()))? {
//!     trainer.checkpoint(serde_json::Value::Null)?.save(Path::new("run.safetensors"))?;
//!     assert!(row.test.accuracy() > 0.1);
//! }
//! # Ok(())
//! # }
//! ```

mod checkpoint;
mod evaluate;
mod history;
mod plan;
mod ranks;
mod restore;
mod trainer;

pub use checkpoint::{About, Checkpoint};

pub use crate::files::replace;
pub use evaluate::{Verdict, evaluate};
pub use history::{EpochRow, Position, Tally};
pub use plan::TrainPlan;
pub use restore::load_network;
pub use trainer::{BatchReport, Trainer};
