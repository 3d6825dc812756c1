//! Which method a solve steps by.

use std::sync::Arc;

use aca_tableau::{Tableau, TableauError};

use crate::{Result, Scheme, Splitting};

/// The method of a solve: plain data, or a scheme of your own.
///
/// # Example
/// ```
/// use aca_core::{Method, Solver, Splitting};
///
/// assert_eq!(Method::from(aca_tableau::DOPRI5).name(), "dopri5");
/// let verlet = Solver::fixed(Splitting::VERLET, 0.01); // a method, a tableau or a splitting
/// assert_eq!(verlet.method.name(), "verlet");
/// ```
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a solver holds one")]
pub enum Method {
    /// A Runge-Kutta method, explicit or diagonally implicit.
    RungeKutta(Tableau),
    /// The asynchronous leapfrog (ALF), of second order: beside the state `z` it carries a slope `v`, which starts as
    /// `f(t0, z0)`. With `u = f(t0 + h/2, z0 + v0 h/2)` a step is `z1 = z0 + h u`, `v1 = 2 u - v0`, and can be undone
    /// exactly; the distance from Euler's step is its error estimate.
    ///
    /// # Source
    /// Mutze, "An asynchronous leapfrog method II" (2013); Zhuang et al., "MALI" (ICLR 2021).
    Leapfrog,
    /// A symplectic method for states of positions and momenta.
    Symplectic(Splitting),
    /// A scheme of your own.
    Custom(Arc<dyn Scheme>),
}

impl From<Tableau> for Method {
    fn from(tableau: Tableau) -> Self {
        Self::RungeKutta(tableau)
    }
}

impl From<&Tableau> for Method {
    fn from(tableau: &Tableau) -> Self {
        Self::RungeKutta(tableau.clone())
    }
}

impl From<&Self> for Method {
    fn from(method: &Self) -> Self {
        method.clone()
    }
}

impl From<Splitting> for Method {
    fn from(splitting: Splitting) -> Self {
        Self::Symplectic(splitting)
    }
}

impl Method {
    /// The name of the leapfrog.
    const LEAPFROG: &'static str = "alf";

    /// The method of that name or alias: a tableau's, `alf` (also `asynchronous_leapfrog`, `sym12async`, `mali`), or a
    /// splitting's.
    ///
    /// # Errors
    /// [`TableauError::UnknownName`], which lists the names that look most like this one.
    pub fn by_name(name: &str) -> std::result::Result<Self, TableauError> {
        let plain = name.to_lowercase().replace(['-', '_', ' '], "");
        if [Self::LEAPFROG, "asynchronousleapfrog", "sym12async", "mali"].contains(&&plain[..]) {
            return Ok(Self::Leapfrog);
        }
        match Splitting::by_name(&plain) {
            Some(splitting) => Ok(splitting.into()),
            None => aca_tableau::by_name(name).map(Self::from),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::RungeKutta(tableau) => tableau.name(),
            Self::Leapfrog => Self::LEAPFROG,
            Self::Symplectic(splitting) => splitting.name(),
            Self::Custom(scheme) => scheme.name(),
        }
    }

    /// The tableau of a Runge-Kutta method.
    pub fn tableau(&self) -> Option<&Tableau> {
        match self {
            Self::RungeKutta(tableau) => Some(tableau),
            _ => None,
        }
    }

    /// Whether some of its stages are implicit.
    pub fn is_implicit(&self) -> bool {
        self.tableau().is_some_and(Tableau::is_implicit)
    }

    /// Whether it estimates its error, so that steps can adapt.
    pub fn is_adaptive(&self) -> bool {
        self.error_order().is_some()
    }

    /// The power of the step size by which its error estimate falls; `None` without one.
    pub fn error_order(&self) -> Option<usize> {
        match self {
            Self::RungeKutta(tableau) => tableau.error_order(),
            // Against Euler's step, of first order.
            Self::Leapfrog => Some(2),
            Self::Symplectic(_) => None,
            Self::Custom(scheme) => scheme.facts().error_order,
        }
    }

    /// Whether a step can be undone from its end, up to rounding, so that a gradient needs no checkpoints.
    pub fn is_reversible(&self) -> bool {
        matches!(self, Self::Leapfrog | Self::Symplectic(_))
    }

    /// Refuses data that make no method.
    pub(crate) fn validate(&self) -> Result<()> {
        match self {
            Self::Custom(scheme) => scheme.facts().validate(scheme.name()),
            _ => Ok(()),
        }
    }
}
