//! The method of a solve.

use std::sync::Arc;

use aca_tableau::{ADDITIVE, Additive, Tableau, TableauError};

use crate::{Error, Result, Scheme, Splitting};

/// The method of a solve: plain data, or a scheme that you write.
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
    /// An explicit method where the problem is not stiff, an implicit one where it is.
    Auto(Box<Switching>),
    /// A scheme that you write.
    Custom(Arc<dyn Scheme>),
}

/// A pair of methods between which a solve switches by itself.
///
/// The solve begins with the explicit method. Once [`limited`](Self::limited) accepted steps lay at its stability limit without
/// six in a row between them that did not, it goes on with the implicit one. It goes back after
/// [`resolved`](Self::resolved) accepted steps in a row whose size times the norm of the Jacobian is below half of the explicit
/// method's stability interval, so that neither change is taken back at once. Where 200 explicit steps end beyond 0.4 of the
/// interval without being at its limit, ten implicit steps are tried; they go on if the last is four times as long, and else the
/// next trial waits four times as many steps. A replay takes every step by the method that
/// made it, so gradients are exact through switches.
///
/// # Source
/// Petzold, "Automatic selection of methods for solving stiff and nonstiff systems", SIAM J. Sci. Stat. Comput. 4 (1983);
/// the count of limited steps is that of Hairer's DOPRI5.
///
/// # Example
/// ```
/// use aca_core::{Method, Solver, Switching, Time, Tolerance};
/// use candle_core::{Device, Tensor};
///
/// let tolerance = Tolerance { rtol: 1e-6, atol: 1e-6 };
/// let fast = |t: &Time, y: &Tensor| y.affine(-1e5, 1e5 * t.value().cos());
/// let y0 = Tensor::new(&[1f64], &Device::Cpu)?;
/// let end = Solver::adaptive(Method::auto(), tolerance).solve(&fast, &y0, (0.0, 10.0), &mut ())?;
/// assert!(end.stats.implicit > 0 && end.stats.accepted < 100);
/// # Ok::<_, aca_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Switching {
    /// Where the problem is not stiff.
    pub explicit: Tableau,
    /// Where it is.
    pub implicit: Tableau,
    /// Steps at the stability limit after which the implicit method takes over.
    pub limited: usize,
    /// Steps well inside the stability interval after which the explicit method takes over.
    pub resolved: usize,
}

impl Default for Switching {
    /// DOPRI5 and KVAERNO5, both of order 5; 10 limited steps, 5 resolved ones.
    fn default() -> Self {
        let (explicit, implicit) = (aca_tableau::DOPRI5, aca_tableau::KVAERNO5);
        Self { explicit, implicit, limited: 10, resolved: 5 }
    }
}

impl From<Switching> for Method {
    fn from(switching: Switching) -> Self {
        Self::Auto(Box::new(switching))
    }
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

impl From<Additive> for Method {
    fn from(additive: Additive) -> Self {
        Self::Custom(Arc::new(additive))
    }
}

impl From<&Additive> for Method {
    fn from(additive: &Additive) -> Self {
        additive.clone().into()
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

    /// The name of methods that switch.
    const AUTO: &'static str = "auto";

    /// DOPRI5 where the problem is not stiff and KVAERNO5 where it is: [`Switching::default`].
    pub fn auto() -> Self {
        Switching::default().into()
    }

    /// The methods that steps are made by: itself, or both of a pair.
    pub(crate) fn choices(&self) -> Vec<Self> {
        match self {
            Self::Auto(pair) => vec![(&pair.explicit).into(), (&pair.implicit).into()],
            method => vec![method.clone()],
        }
    }

    /// The method of that name or alias: a tableau's, `alf` (also `asynchronous_leapfrog`, `sym12async`, `mali`), a
    /// splitting's, an additive pair's, or `auto`.
    ///
    /// # Errors
    /// [`TableauError::UnknownName`], which lists the names that look most like this one.
    pub fn by_name(name: &str) -> std::result::Result<Self, TableauError> {
        let plain = name.to_lowercase().replace(['-', '_', ' '], "");
        if [Self::LEAPFROG, "asynchronousleapfrog", "sym12async", "mali"].contains(&&plain[..]) {
            return Ok(Self::Leapfrog);
        }
        if plain == Self::AUTO {
            return Ok(Self::auto());
        }
        if let Some(additive) = ADDITIVE.into_iter().find(|additive| additive.name() == plain) {
            return Ok(additive.into());
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
            Self::Auto(_) => Self::AUTO,
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

    /// Whether some of its stages are, or may be, implicit.
    pub fn is_implicit(&self) -> bool {
        matches!(self, Self::Auto(_)) || self.tableau().is_some_and(Tableau::is_implicit)
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
            Self::Auto(pair) => pair.explicit.error_order().min(pair.implicit.error_order()),
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
            Self::Auto(pair) => pair.validate(),
            _ => Ok(()),
        }
    }
}

impl Switching {
    /// Refuses pairs that cannot switch.
    fn validate(&self) -> Result<()> {
        let Self { explicit, implicit, .. } = self;
        for (role, tableau, fits) in [
            ("explicit", explicit, !explicit.is_implicit() && explicit.real_stability() > 0.0),
            ("implicit", implicit, implicit.is_implicit()),
        ] {
            if !fits || tableau.error_order().is_none() {
                return Err(Error::SwitchingPair { role, method: tableau.name().to_owned() });
            }
        }
        Ok(())
    }
}
