//! Optimizers for your own training loop: their state can be saved and resumed bit for bit. Also clipping and
//! learning-rate schedules.
//!
//! ```
//! use aca_models::optimizers::{Adam, AdamConfig, Schedule, clip_global_norm};
//! use candle_core::{Device, Var};
//!
//! # fn main() -> aca_models::Result<()> {
//! let x = Var::new(&[3.0f64, -4.0], &Device::Cpu)?;
//! let (mut adam, schedule) = (Adam::new(vec![("x".to_owned(), x.clone())], AdamConfig::default())?,
//!     Schedule::Cosine { warmup: 0.1 });
//! let steps = 100;
//! for step in 0..steps {
//!     let mut grads = x.sqr()?.sum_all()?.backward()?;
//!     clip_global_norm(&mut grads, &[x.clone()], 1.0)?;
//!     adam.config.lr = schedule.learning_rate(0.3, step, 1, steps);
//!     adam.step(&grads)?;
//! }
//! assert!(x.sqr()?.sum_all()?.to_scalar::<f64>()? < 0.1);
//! # Ok(())
//! # }
//! ```
//!
//! | to | use |
//! |---|---|
//! | follow the gradient with momentum | [`Sgd`] |
//! | scale each entry by its gradients' size | [`Adam`], with [`AdamConfig::decoupled`] AdamW |
//! | bound a gradient | [`clip_global_norm`] |
//! | change the learning rate | [`Schedule`] |
//! | go on after an interruption | [`save_state`], [`load_state`] |

mod adam;
mod clip;
mod parameters;
mod resume;
mod schedule;
mod sgd;

pub use adam::{Adam, AdamConfig};
pub use clip::clip_global_norm;
pub use resume::{Resumable, load_state, save_state};
pub use schedule::Schedule;
pub use sgd::Sgd;
