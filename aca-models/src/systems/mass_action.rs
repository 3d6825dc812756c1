//! Chemical reactions by the law of mass action.

use aca_core::Time;
use candle_core::{D, Result, Tensor};

use super::{ClosedForm, Real, System};

/// One reaction. Its speed is its rate constant times the amounts of its reactants.
#[derive(Clone, Copy, Debug)]
pub struct Reaction {
    /// The reactants, up to two; a species that counts twice is named twice. Empty for a source.
    pub reactants: &'static [usize],
    /// The species that it changes, and by how much; negative where it uses them up.
    pub changes: &'static [(usize, f64)],
}

/// A network of reactions, whose rate constants are the parameters.
///
/// # Example
/// ```
/// use aca_models::systems::{ClosedForm, Network, Reaction};
///
/// struct Dimer; // 2 A -> B
/// impl Network for Dimer {
///     const SPECIES: usize = 2;
///     const REACTIONS: &'static [Reaction] =
///         &[Reaction { reactants: &[0, 0], changes: &[(0, -2.0), (1, 1.0)] }];
/// }
/// let field = ClosedForm::from_slice(Dimer, &[0.5])?;
/// assert_eq!(field.theta().elem_count(), 1);
/// # Ok::<(), aca_models::Error>(())
/// ```
pub trait Network: Send + Sync + 'static {
    /// Number of species.
    const SPECIES: usize;
    /// The reactions, one for each rate constant.
    const REACTIONS: &'static [Reaction];
}

impl<N: Network> System for N {
    const DIM: usize = N::SPECIES;
    const PARAMS: usize = N::REACTIONS.len();
    const AUTONOMOUS: bool = true;

    #[inline]
    fn slope<T: Real>(&self, _t: f64, theta: &[T], y: &[T], dy: &mut [T]) {
        dy.fill(T::zero());
        for (reaction, &rate) in N::REACTIONS.iter().zip(theta) {
            let speed = reaction.reactants.iter().fold(rate, |speed, &i| speed * y[i]);
            for &(i, change) in reaction.changes {
                dy[i] += T::from_f64(change) * speed;
            }
        }
    }

    #[inline]
    fn pullback<T: Real>(
        &self,
        _t: f64,
        theta: &[T],
        y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        theta_bar: &mut [T],
    ) -> T {
        y_bar.fill(T::zero());
        let reactions = N::REACTIONS.iter().zip(theta).zip(theta_bar);
        for ((reaction, &rate), theta_bar) in reactions {
            let changes = reaction.changes.iter();
            let weight =
                changes.fold(T::zero(), |sum, &(i, change)| sum + T::from_f64(change) * lambda[i]);
            let amounts = |without: Option<usize>| {
                let others = reaction.reactants.iter().enumerate();
                let others = others.filter(move |(place, _)| Some(*place) != without);
                others.fold(T::from_f64(1.0), |product, (_, &i)| product * y[i])
            };
            *theta_bar += weight * amounts(None);
            for (place, &i) in reaction.reactants.iter().enumerate() {
                y_bar[i] += weight * rate * amounts(Some(place));
            }
        }
        T::zero()
    }

    fn trace(&self, _t: &Time, theta: &Tensor, y: &Tensor) -> Result<Tensor> {
        let mut dy = vec![y.narrow(D::Minus1, 0, 1)?.zeros_like()?; N::SPECIES];
        for (m, reaction) in N::REACTIONS.iter().enumerate() {
            let rate = theta.narrow(D::Minus1, m, 1)?.broadcast_add(&dy[0].zeros_like()?)?;
            let speed = reaction
                .reactants
                .iter()
                .try_fold(rate, |speed, &i| speed.mul(&y.narrow(D::Minus1, i, 1)?))?;
            for &(i, change) in reaction.changes {
                dy[i] = (&dy[i] + (&speed * change)?)?;
            }
        }
        Tensor::cat(&dy, D::Minus1)
    }
}

/// A reaction with these reactants and changes.
const fn reaction(reactants: &'static [usize], changes: &'static [(usize, f64)]) -> Reaction {
    Reaction { reactants, changes }
}

/// Robertson's autocatalytic reaction of three species, whose rates differ by nine orders of magnitude.
///
/// # Source
/// Robertson, "The solution of a set of reaction rate equations", 1966; rates and start as in the test set for
/// initial value problem solvers of Bari.
#[derive(Clone, Copy, Debug, Default)]
pub struct Robertson;

impl Robertson {
    /// The rates.
    pub const RATES: [f64; 3] = [0.04, 3e7, 1e4];
    /// The initial state.
    pub const Y0: [f64; 3] = [1.0, 0.0, 0.0];

    /// Returns the field with these rates.
    pub fn field(rates: [f64; 3]) -> Result<ClosedForm<Self>> {
        ClosedForm::from_slice(Self, &rates)
    }
}

impl Network for Robertson {
    const SPECIES: usize = 3;
    const REACTIONS: &'static [Reaction] = &[
        reaction(&[0], &[(0, -1.0), (1, 1.0)]),
        reaction(&[1, 1], &[(1, -1.0), (2, 1.0)]),
        reaction(&[1, 2], &[(1, -1.0), (0, 1.0)]),
    ];
}

/// HIRES: eight species by which a plant's pigment reacts to light ("high irradiance responses").
///
/// # Source
/// Schaefer, 1975; Gottwald, 1977; rates and start as in the test set for initial value problem solvers of Bari.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hires;

impl Hires {
    /// The rates.
    pub const RATES: [f64; 15] = [
        1.71, 0.43, 8.32, 8.32, 1.71, 0.43, 0.69, 0.035, 1.71, 0.43, 280.0, 0.43, 0.69, 0.69,
        0.0007,
    ];
    /// The initial state.
    pub const Y0: [f64; 8] = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0057];

    /// Returns the field with these rates.
    pub fn field(rates: [f64; 15]) -> Result<ClosedForm<Self>> {
        ClosedForm::from_slice(Self, &rates)
    }
}

impl Network for Hires {
    const SPECIES: usize = 8;
    const REACTIONS: &'static [Reaction] = &[
        reaction(&[0], &[(0, -1.0), (1, 1.0)]),
        reaction(&[1], &[(1, -1.0), (0, 1.0)]),
        reaction(&[1], &[(1, -1.0), (3, 1.0)]),
        reaction(&[2], &[(2, -1.0), (0, 1.0)]),
        reaction(&[2], &[(2, -1.0), (3, 1.0)]),
        reaction(&[3], &[(3, -1.0), (2, 1.0)]),
        reaction(&[3], &[(3, -1.0), (5, 1.0)]),
        reaction(&[4], &[(4, -1.0), (2, 1.0)]),
        reaction(&[4], &[(4, -1.0), (5, 1.0)]),
        reaction(&[5], &[(5, -1.0), (4, 1.0)]),
        reaction(&[5, 7], &[(5, -1.0), (7, -1.0), (6, 1.0)]),
        reaction(&[6], &[(6, -1.0), (4, 1.0), (7, 1.0)]),
        reaction(&[6], &[(6, -1.0), (5, 1.0), (7, 1.0)]),
        reaction(&[6], &[(6, -1.0), (7, 1.0)]),
        reaction(&[], &[(0, 1.0)]),
    ];
}

/// POLLU: twenty-five reactions of twenty species of polluted air.
///
/// # Source
/// Verwer, "Gauss-Seidel iteration for stiff ODEs from chemical kinetics", 1994; as in the test set for initial value
/// problem solvers of Bari.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pollu;

impl Pollu {
    /// The rates.
    pub const RATES: [f64; 25] = [
        0.35, 26.6, 1.23e4, 8.6e-4, 8.2e-4, 1.5e4, 1.3e-4, 2.4e4, 1.65e4, 9e3, 0.022, 1.2e4, 1.88,
        1.63e4, 4.8e6, 3.5e-4, 0.0175, 1e8, 4.44e11, 1.24e3, 2.1, 5.78, 0.0474, 1.78e3, 3.12,
    ];
    /// The initial state.
    pub const Y0: [f64; 20] = [
        0.0, 0.2, 0.0, 0.04, 0.0, 0.0, 0.1, 0.3, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.007,
        0.0, 0.0, 0.0,
    ];

    /// Returns the field with these rates.
    pub fn field(rates: [f64; 25]) -> Result<ClosedForm<Self>> {
        ClosedForm::from_slice(Self, &rates)
    }
}

/// Species: NO2, NO, O3P, O3, HO2, OH, HCHO, CO, ALD, MEO2, C2O3, CO2, PAN, CH3O, HNO3, O1D, SO2, SO4, NO3, N2O5.
impl Network for Pollu {
    const SPECIES: usize = 20;
    const REACTIONS: &'static [Reaction] = &[
        reaction(&[0], &[(0, -1.0), (1, 1.0), (2, 1.0)]),
        reaction(&[1, 3], &[(1, -1.0), (3, -1.0), (0, 1.0)]),
        reaction(&[4, 1], &[(4, -1.0), (1, -1.0), (0, 1.0), (5, 1.0)]),
        reaction(&[6], &[(6, -1.0), (4, 2.0), (7, 1.0)]),
        reaction(&[6], &[(6, -1.0), (7, 1.0)]),
        reaction(&[6, 5], &[(6, -1.0), (5, -1.0), (4, 1.0), (7, 1.0)]),
        reaction(&[8], &[(8, -1.0), (9, 1.0), (4, 1.0), (7, 1.0)]),
        reaction(&[8, 5], &[(8, -1.0), (5, -1.0), (10, 1.0)]),
        reaction(&[10, 1], &[(10, -1.0), (1, -1.0), (0, 1.0), (9, 1.0), (11, 1.0)]),
        reaction(&[10, 0], &[(10, -1.0), (0, -1.0), (12, 1.0)]),
        reaction(&[12], &[(12, -1.0), (10, 1.0), (0, 1.0)]),
        reaction(&[9, 1], &[(9, -1.0), (1, -1.0), (13, 1.0), (0, 1.0)]),
        reaction(&[13], &[(13, -1.0), (6, 1.0), (4, 1.0)]),
        reaction(&[0, 5], &[(0, -1.0), (5, -1.0), (14, 1.0)]),
        reaction(&[2], &[(2, -1.0), (3, 1.0)]),
        reaction(&[3], &[(3, -1.0), (15, 1.0)]),
        reaction(&[3], &[(3, -1.0), (2, 1.0)]),
        reaction(&[15], &[(15, -1.0), (5, 2.0)]),
        reaction(&[15], &[(15, -1.0), (2, 1.0)]),
        reaction(&[16, 5], &[(16, -1.0), (5, -1.0), (17, 1.0), (4, 1.0)]),
        reaction(&[18], &[(18, -1.0), (1, 1.0)]),
        reaction(&[18], &[(18, -1.0), (0, 1.0), (2, 1.0)]),
        reaction(&[0, 3], &[(0, -1.0), (3, -1.0), (18, 1.0)]),
        reaction(&[18, 0], &[(18, -1.0), (0, -1.0), (19, 1.0)]),
        reaction(&[19], &[(19, -1.0), (18, 1.0), (0, 1.0)]),
    ];
}
