//! Runge-Kutta methods, explicit and diagonally implicit, as data that is checked.
//!
//! A [`Tableau`] holds the coefficients of one method, its embedded error estimates and its interpolant. It exists only
//! if every condition that its claims imply holds: row sums, the order conditions of all rooted trees up to each
//! claimed order, and an interpolant that is continuously differentiable across steps. What follows from the
//! coefficients (FSAL, the order of the error estimate, where the end slope is found) is computed from them, never
//! declared.
//!
//! ```
//! use aca_tableau::{DOPRI5, by_name};
//!
//! let tableau = by_name("Dormand-Prince")?;
//! assert_eq!(tableau, DOPRI5);
//! assert!(tableau.is_fsal());
//! assert_eq!(tableau.error_order(), Some(5));
//!
//! let weights = tableau.interpolant().weights(0.5); // y(t0 + h/2) = y0 + h sum(weights_i k_i)
//! assert!((weights.iter().sum::<f64>() - 0.5).abs() < 1e-15);
//! # Ok::<(), aca_tableau::TableauError>(())
//! ```
//!
//! | When | Method |
//! |---|---|
//! | nothing special is known | [`TSIT5`], or [`DOPRI5`] to compare with other programs |
//! | rtol below about 1e-8, or chaotic problems | [`DOP853`] |
//! | rtol above about 1e-3, or a field that is rough in `t` | [`BOSH3`], [`HEUN_EULER`] |
//! | the problem is stiff | [`KVAERNO5`]; [`KVAERNO3`] or [`TR_BDF2`] at rtol above about 1e-4 |
//! | a given grid of steps | [`RK4`]; [`MIDPOINT`] or [`EULER`] where an evaluation is expensive |
//! | a published result is to be repeated | whatever it used, by any of its names: [`by_name`] |
//! | none of these | [`Tableau::new`] with coefficients of your own |
//!
//! With the feature `serde` a tableau is read from TOML or JSON and written to it: `Tableau::from_toml` has the format.

mod additive;
mod conditions;
mod dop853;
mod dopri5;
mod draft;
mod embedded;
mod error;
mod esdirk;
#[cfg(feature = "serde")]
mod file;
mod fixed;
#[cfg(feature = "serde")]
mod fraction;
mod interpolant;
mod polynomial;
mod registry;
mod stability;
mod tableau;
mod tree;
mod triangle;
mod tsit5;

pub use additive::{ADDITIVE, Additive, KENCARP3, KENCARP4};
pub use dop853::DOP853;
pub use dopri5::DOPRI5;
pub use draft::{EmbeddedDraft, InterpolantDraft, TableauDraft};
pub use embedded::{BOSH3, CASH_KARP, FEHLBERG45, HEUN_EULER};
pub use error::{TableauError, Weights};
pub use esdirk::{ESDIRK4, IMPLICIT_EULER, KVAERNO3, KVAERNO4, KVAERNO5, TR_BDF2, TRAPEZOID};
#[cfg(feature = "serde")]
pub use file::FileError;
pub use fixed::{EULER, HEUN, MIDPOINT, RALSTON, RK4, RK4_38};
pub use interpolant::Interpolant;
pub use registry::{ALL, IMPLICIT, aliases, by_name};
pub use stability::{FarStability, StabilityInterval, StageDifference};
pub use tableau::{Embedded, Tableau};
pub use tree::{RootedTree, rooted_trees};
pub use tsit5::TSIT5;
