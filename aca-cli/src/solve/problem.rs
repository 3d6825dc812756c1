//! The built-in systems, at their classic parameters or at the user's.

use aca_core::{Number, VectorField};
use aca_models::systems::{
    ClosedForm, CubicSpiral, Hires, LinearDecay, Lorenz, LotkaVolterra, Oregonator, Pollu,
    Robertson, System, ThreeBody, VanDerPol,
};

use super::happenings::{self, Watched};
use crate::args::{SolveArgs, SystemName};
use crate::plot::Portrait;
use crate::report::{Refusal, Result};

/// A built-in system, where it starts and how it is drawn.
pub struct Problem {
    pub name: &'static str,
    /// Its name in captions.
    pub title: &'static str,
    pub field: Box<dyn VectorField>,
    /// Names and values of its parameters.
    pub params: Vec<(&'static str, f64)>,
    pub y0: Vec<f64>,
    pub t1: f64,
    /// Names of the state's entries.
    pub names: &'static [&'static str],
    pub portrait: Portrait,
    /// What may happen on the way.
    pub watched: Option<Watched>,
    /// The first output time after the start, where they grow by a constant factor.
    pub log_times: Option<f64>,
}

/// Names of the three bodies' positions and speeds.
const BODIES: [&str; 18] = [
    "x1", "y1", "z1", "x2", "y2", "z2", "x3", "y3", "z3", // positions
    "vx1", "vy1", "vz1", "vx2", "vy2", "vz2", "vx3", "vy3", "vz3", // speeds
];

/// Names of the species of polluted air.
const SPECIES: [&str; 20] = [
    "NO2", "NO", "O3P", "O3", "HO2", "OH", "HCHO", "CO", "ALD", "MEO2", "C2O3", "CO2", "PAN",
    "CH3O", "HNO3", "O1D", "SO2", "SO4", "NO3", "N2O5",
];

/// Rates by their numbers.
fn rates(values: &[f64]) -> Vec<(&'static str, f64)> {
    const NAMES: [&str; 25] = [
        "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9", "k10", "k11", "k12", "k13", "k14",
        "k15", "k16", "k17", "k18", "k19", "k20", "k21", "k22", "k23", "k24", "k25",
    ];
    NAMES.into_iter().zip(values.iter().copied()).collect()
}

/// A system as it is built in.
pub struct Classic<S> {
    pub system: S,
    pub name: &'static str,
    pub title: &'static str,
    pub params: Vec<(&'static str, f64)>,
    pub y0: &'static [f64],
    pub t1: f64,
    pub names: &'static [&'static str],
    pub portrait: Portrait,
}

impl Problem {
    /// Returns the system that the user named, with parameters and initial state of the user's where given.
    ///
    /// # Errors
    /// [`Refusal::NoParameter`], [`Refusal::Repeated`], [`Refusal::StateLength`] or [`Refusal::Range`].
    pub fn new(args: &SolveArgs) -> Result<Self> {
        match args.system {
            SystemName::ThreeBody => Classic {
                system: ThreeBody,
                name: "three-body",
                title: "Three bodies",
                params: ["m1", "m2", "m3"].into_iter().zip(ThreeBody::MASSES).collect(),
                y0: &ThreeBody::Y0,
                t1: 1.0,
                names: &BODIES,
                portrait: Portrait::Bodies,
            }
            .build(args),
            SystemName::LotkaVolterra => Classic {
                system: LotkaVolterra,
                name: "lotka-volterra",
                title: "Lotka and Volterra's prey and predators",
                params: ["alpha", "beta", "delta", "gamma"].map(|name| (name, 0.5)).into(),
                y0: &[1.5, 1.5],
                t1: 10.0,
                names: &["prey", "predators"],
                portrait: Portrait::Plane,
            }
            .build(args),
            SystemName::VanDerPol => Classic {
                system: VanDerPol,
                name: "van-der-pol",
                title: "Van der Pol's oscillator",
                params: vec![("mu", 5.0)],
                y0: &[2.0, 0.0],
                t1: 20.0,
                names: &["position", "speed"],
                portrait: Portrait::Plane,
            }
            .build(args),
            SystemName::Lorenz => Classic {
                system: Lorenz,
                name: "lorenz",
                title: "Lorenz's convection",
                params: ["sigma", "rho", "beta"].into_iter().zip(Lorenz::CLASSIC).collect(),
                y0: &[1.0, 1.0, 1.0],
                t1: 25.0,
                names: &["x", "y", "z"],
                portrait: Portrait::Space,
            }
            .build(args),
            SystemName::CubicSpiral => Classic {
                system: CubicSpiral,
                name: "cubic-spiral",
                title: "Cubic spiral",
                params: ["a11", "a12", "a21", "a22"]
                    .into_iter()
                    .zip(CubicSpiral::CLASSIC)
                    .collect(),
                y0: &[2.0, 0.0],
                t1: 25.0,
                names: &["x", "y"],
                portrait: Portrait::Plane,
            }
            .build(args),
            SystemName::LinearDecay => Classic {
                system: LinearDecay,
                name: "linear-decay",
                title: "Linear decay",
                params: vec![("k", 1.0)],
                y0: &[1.0],
                t1: 5.0,
                names: &["y"],
                portrait: Portrait::None,
            }
            .build(args),
            SystemName::Robertson => Classic {
                system: Robertson,
                name: "robertson",
                title: "Robertson's reaction",
                params: rates(&Robertson::RATES),
                y0: &Robertson::Y0,
                t1: 1e5,
                names: &["a", "b", "c"],
                portrait: Portrait::None,
            }
            .build(args),
            SystemName::Hires => Classic {
                system: Hires,
                name: "hires",
                title: "HIRES",
                params: rates(&Hires::RATES),
                y0: &Hires::Y0,
                t1: 321.8122,
                names: &["y1", "y2", "y3", "y4", "y5", "y6", "y7", "y8"],
                portrait: Portrait::None,
            }
            .build(args),
            SystemName::Pollu => Classic {
                system: Pollu,
                name: "pollu",
                title: "Polluted air",
                params: rates(&Pollu::RATES),
                y0: &Pollu::Y0,
                t1: 60.0,
                names: &SPECIES,
                portrait: Portrait::None,
            }
            .build(args),
            SystemName::Oregonator => Classic {
                system: Oregonator,
                name: "oregonator",
                title: "Oregonator",
                params: ["s", "q", "w"].into_iter().zip(Oregonator::CLASSIC).collect(),
                y0: &Oregonator::Y0,
                t1: 360.0,
                names: &["x", "y", "z"],
                portrait: Portrait::None,
            }
            .build(args),
            SystemName::BouncingBall => happenings::bouncing_ball(args),
            SystemName::ThrownBall => happenings::thrown_ball(args),
            SystemName::Neuron => happenings::neuron(args),
        }
    }
}

impl<S: System> Classic<S> {
    fn build(mut self, args: &SolveArgs) -> Result<Problem>
    where
        S: Clone,
    {
        self.set_all(args)?;
        let field = ClosedForm::from_slice(self.system.clone(), &self.theta())?;
        self.join(args, Box::new(field), None)
    }

    /// As `build`, with what may happen on the way.
    pub fn build_with(
        mut self,
        args: &SolveArgs,
        watched: impl Fn(&ClosedForm<S>) -> Watched,
    ) -> Result<Problem>
    where
        S: Clone,
    {
        self.set_all(args)?;
        let field = ClosedForm::from_slice(self.system.clone(), &self.theta())?;
        let watched = watched(&field);
        self.join(args, Box::new(field), Some(watched))
    }

    fn theta(&self) -> Vec<f64> {
        self.params.iter().map(|(_, value)| *value).collect()
    }

    /// Sets the parameters that the user gave.
    pub fn set_all(&mut self, args: &SolveArgs) -> Result<()> {
        for (i, (name, second)) in args.param.iter().enumerate() {
            if let Some((name, first)) = args.param[..i].iter().find(|(known, _)| known == name) {
                let (name, first, second) = (name.clone(), *first, *second);
                return Err(Refusal::Repeated { name, first, second }.into());
            }
            self.set(name, *second)?;
        }
        Ok(())
    }

    /// The problem of a field.
    pub fn join(
        self,
        args: &SolveArgs,
        field: Box<dyn VectorField>,
        watched: Option<Watched>,
    ) -> Result<Problem> {
        let Self { name, title, params, t1, names, portrait, .. } = self;
        let y0 = start((name, names), self.y0, &args.y0)?;
        let own = (name == "robertson").then_some(1e-5);
        let log_times = args.log_times.or(own).filter(|_| !args.equal_times);
        Ok(Problem { name, title, field, params, y0, t1, names, portrait, watched, log_times })
    }

    fn set(&mut self, name: &str, value: f64) -> Result<()> {
        let known = |(name, value): &(&str, f64)| format!("{name} = {}", Number(*value));
        let all: Vec<_> = self.params.iter().map(known).collect();
        let param = self.params.iter_mut().find(|(known, _)| *known == name);
        let param = param.ok_or_else(|| {
            let (system, known) = (self.name, all.join(", "));
            Refusal::NoParameter { system, name: name.to_owned(), known }
        })?;
        param.1 = value;
        Ok(())
    }
}

/// The initial state: the user's, of as many finite numbers as there are names, or the system's own.
fn start((system, names): (&'static str, &[&str]), own: &[f64], given: &[f64]) -> Result<Vec<f64>> {
    if given.is_empty() {
        return Ok(own.to_vec());
    }
    if let Some(&value) = given.iter().find(|y| !y.is_finite()) {
        return Err(Refusal::Range { option: "--y0", value, range: "finite", example: "1" }.into());
    }
    let (got, expected, names) = (given.len(), own.len(), names.join(", "));
    match got == expected {
        true => Ok(given.to_vec()),
        false => Err(Refusal::StateLength { system, got, expected, names }.into()),
    }
}
