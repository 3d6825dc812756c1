//! Symplectic methods by splitting.

/// A symplectic method for separable systems: the state's last dimension holds positions `q`, then as many momenta `p`,
/// and the field is `q' = v(p)`, `p' = a(t, q)`. Kicks (of the momenta) and drifts (of the positions) alternate. A step
/// begins and ends with a kick.
///
/// Energy stays bounded over any number of steps, and a step can be undone, so that gradients need no checkpoints
/// (`Gradient::Mali` of aca-adjoint). Steps are fixed: error control would break both. A field whose positions' slope
/// depends on positions, or momenta's on momenta, is not separable; the method then has another order and keeps no
/// energy. Fields that [say that they are separable](crate::VectorField::is_separable) need one evaluation less per
/// step.
///
/// # Source
/// Hairer, Lubich, Wanner, "Geometric Numerical Integration", I.1.4 (Stoermer-Verlet) and II.4 (compositions); Yoshida,
/// "Construction of higher order symplectic integrators", Physics Letters A 150 (1990).
#[derive(Clone, Debug, PartialEq)]
pub struct Splitting {
    name: &'static str,
    order: usize,
    /// Weights of kicks and drifts by turns, a kick first and last.
    weights: &'static [f64],
}

/// The weights of Yoshida's composition of three steps of second order: `w1 = 1/(2 - 2^(1/3))`, `w0 = 1 - 2 w1`.
const W1: f64 = 1.351_207_191_959_657_6;
const W0: f64 = 1.0 - 2.0 * W1;

impl Splitting {
    /// Stoermer's and Verlet's method of second order, with velocities (kick, drift, kick): three evaluations of the
    /// field per step, two of a separable one.
    pub const VERLET: Self = Self { name: "verlet", order: 2, weights: &[0.5, 1.0, 0.5] };

    /// Yoshida's method of fourth order, three steps of Verlet of different sizes: seven evaluations per step, six of
    /// a separable field. It evaluates the field up to 0.36 steps before the start and after the end of a step, which
    /// matters where the field depends on time: no splitting of an order above two stays inside. Beside
    /// [jumps](crate::Solver::jump_ts) it is therefore refused.
    pub const YOSHIDA4: Self = Self {
        name: "yoshida4",
        order: 4,
        weights: &[0.5 * W1, W1, 0.5 * (W1 + W0), W0, 0.5 * (W0 + W1), W1, 0.5 * W1],
    };

    /// The splitting of that name or alias.
    pub(crate) fn by_name(plain: &str) -> Option<Self> {
        match plain {
            "verlet" | "velocityverlet" | "stoermerverlet" | "leapfrog" => Some(Self::VERLET),
            "yoshida4" | "yoshida4th" | "yoshida" => Some(Self::YOSHIDA4),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Its order.
    pub fn order(&self) -> usize {
        self.order
    }

    /// The weights of kicks and drifts alternately, a kick first and last. The weights of the kicks sum to 1, those of
    /// the drifts too.
    pub fn weights(&self) -> &[f64] {
        self.weights
    }

    /// The time at which slope `i` is evaluated, as a fraction of the step: kicks where the drifts before them have moved
    /// the positions to, drifts likewise.
    pub(crate) fn node(&self, i: usize) -> f64 {
        let others = self.weights[..i].iter().rev().step_by(2);
        // The last kick ends the step, exactly.
        if i + 1 == self.weights.len() { 1.0 } else { others.sum() }
    }
}
