//! The built-in systems at their classic parameters.

use aca_core::VectorField;
use aca_models::systems::{CubicSpiral, LinearDecay, Lorenz, LotkaVolterra, ThreeBody, VanDerPol};

use crate::args::SystemName;
use crate::plot::Portrait;
use crate::report::Result;

/// A built-in system at its classic parameters.
pub struct Problem {
    pub name: &'static str,
    /// Its name in captions.
    pub title: &'static str,
    pub field: Box<dyn VectorField>,
    pub y0: &'static [f64],
    pub t1: f64,
    /// Names of the state's entries.
    pub names: &'static [&'static str],
    pub portrait: Portrait,
}

/// Names of the three bodies' positions and speeds.
const BODIES: [&str; 18] = [
    "x1", "y1", "z1", "x2", "y2", "z2", "x3", "y3", "z3", // positions
    "vx1", "vy1", "vz1", "vx2", "vy2", "vz2", "vx3", "vy3", "vz3", // speeds
];

impl Problem {
    /// Returns the system of that name.
    pub fn new(system: SystemName) -> Result<Self> {
        Ok(match system {
            SystemName::ThreeBody => Self {
                name: "three-body",
                title: "Three bodies",
                field: Box::new(ThreeBody::field(ThreeBody::MASSES)?),
                y0: &ThreeBody::Y0,
                t1: 1.0,
                names: &BODIES,
                portrait: Portrait::Bodies,
            },
            SystemName::LotkaVolterra => Self {
                name: "lotka-volterra",
                title: "Lotka and Volterra's prey and predators",
                field: Box::new(LotkaVolterra::field([0.5; 4])?),
                y0: &[1.5, 1.5],
                t1: 10.0,
                names: &["prey", "predators"],
                portrait: Portrait::Plane,
            },
            SystemName::VanDerPol => Self {
                name: "van-der-pol",
                title: "Van der Pol's oscillator",
                field: Box::new(VanDerPol::field(&[5.0])?),
                y0: &[2.0, 0.0],
                t1: 20.0,
                names: &["position", "speed"],
                portrait: Portrait::Plane,
            },
            SystemName::Lorenz => Self {
                name: "lorenz",
                title: "Lorenz's convection",
                field: Box::new(Lorenz::field(Lorenz::CLASSIC)?),
                y0: &[1.0, 1.0, 1.0],
                t1: 25.0,
                names: &["x", "y", "z"],
                portrait: Portrait::Space,
            },
            SystemName::CubicSpiral => Self {
                name: "cubic-spiral",
                title: "Cubic spiral",
                field: Box::new(CubicSpiral::field(CubicSpiral::CLASSIC)?),
                y0: &[2.0, 0.0],
                t1: 25.0,
                names: &["x", "y"],
                portrait: Portrait::Plane,
            },
            SystemName::LinearDecay => Self {
                name: "linear-decay",
                title: "Linear decay",
                field: Box::new(LinearDecay::field(1.0)?),
                y0: &[1.0],
                t1: 5.0,
                names: &["y"],
                portrait: Portrait::None,
            },
        })
    }
}
