//! Systems of physics with closed-form derivatives.
//!
//! A [`System`] is two plain functions on slices, `slope` and `pullback`, and one in candle's operations, `trace`;
//! [`ClosedForm`] makes a vector field of it, for states of any batch, `f32` or `f64`. Your own systems work the same
//! way, at the same speed; [`ClosedForm::check`] finds mistakes in their derivatives.
//!
//! | system | state | parameters |
//! |---|---|---|
//! | [`LinearDecay`] | one decaying amount | rate |
//! | [`CubicSpiral`] | plane | 2 x 2 matrix |
//! | [`VanDerPol`] | position, speed | stiffness |
//! | [`Ball`] that bounces, [`ThrownBall`] | height, speed; place, velocity | gravity, restitution; gravity, drag |
//! | [`Izhikevich`]'s neuron that spikes | potential, recovery | a, b, c, d, current |
//! | [`LotkaVolterra`] | prey, predators | four rates |
//! | [`Lorenz`] | three | sigma, rho, beta |
//! | [`ThreeBody`] | three positions, three speeds in space | three masses |
//! | [`Robertson`], [`Hires`], [`Pollu`] | amounts of 3, 8, 20 species, stiff | rates of 3, 15, 25 reactions |
//! | [`Oregonator`] | three concentrations, stiff | s, q, w |
//! | a [`Network`] of reactions of your own | amounts of its species | rates |

mod ball;
mod closed_form;
mod cubic_spiral;
mod izhikevich;
mod linear_decay;
mod lorenz;
mod lotka_volterra;
mod mass_action;
mod oregonator;
mod three_body;
mod van_der_pol;

pub use ball::{Ball, ThrownBall};
pub use closed_form::{ClosedForm, Difference, System};
pub use cubic_spiral::CubicSpiral;
pub use izhikevich::Izhikevich;
pub use linear_decay::LinearDecay;
pub use lorenz::Lorenz;
pub use lotka_volterra::LotkaVolterra;
pub use mass_action::{Hires, Network, Pollu, Reaction, Robertson};
pub use oregonator::Oregonator;
pub use three_body::ThreeBody;
pub use van_der_pol::VanDerPol;

pub use crate::Real;
