use aca_core::Time;
use candle_core::{D, Result, Tensor};

use super::closed_form::GpuKernels;
use super::{ClosedForm, Real, System};

/// Newton's three bodies in space with unknown masses: `r_i' = K2 v_i`,
/// `v_i' = K1 sum_j m_j (r_j - r_i) / |r_j - r_i|^3`, in units of a sun's mass, the distance and
/// period of Alpha Centauri's pair, and 30 km/s.
///
/// State: `r_1, r_2, r_3, v_1, v_2, v_3`, three numbers each. A collision gives infinite slopes.
///
/// # Source
/// Constants and initial values of the three-body experiment that came with the ACA paper (Zhuang
/// et al., ICML 2020).
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreeBody;

/// Pairs of bodies.
const PAIRS: [(usize, usize); 3] = [(0, 1), (0, 2), (1, 2)];

impl ThreeBody {
    /// Gravitational constant, N m^2 / kg^2.
    const G: f64 = 6.67408e-11;
    /// Unit of mass, kg.
    const MASS: f64 = 1.989e30;
    /// Unit of length, m.
    const LENGTH: f64 = 5.326e12;
    /// Unit of speed, m/s.
    const SPEED: f64 = 3e4;
    /// Unit of time, s.
    const PERIOD: f64 = 79.91 * 365.0 * 24.0 * 3600.0 * 0.51;

    /// Gravity in the chosen units.
    pub const K1: f64 =
        Self::G * Self::PERIOD * Self::MASS / (Self::LENGTH * Self::LENGTH * Self::SPEED);
    /// Speed in the chosen units.
    pub const K2: f64 = Self::SPEED * Self::PERIOD / Self::LENGTH;
    /// Masses of the experiment.
    pub const MASSES: [f64; 3] = [1.1, 1.1, 0.9];
    /// Initial state of the experiment.
    pub const Y0: [f64; 18] = [
        0.0, 0.2, 0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.5, // positions
        0.0, 0.1, 0.0, 0.0, 0.0, 0.1, 0.1, 0.0, 0.0, // speeds
    ];

    /// Returns the field with the given masses.
    pub fn field(masses: [f64; 3]) -> Result<ClosedForm<Self>> {
        ClosedForm::from_slice(Self, &masses)
    }
}

/// Distance vector of a pair, and the inverse cube and square of its length.
#[inline(always)]
fn pair<T: Real>(y: &[T], i: usize, j: usize) -> ([T; 3], T, T) {
    let (from, to) = (&y[3 * i..3 * i + 3], &y[3 * j..3 * j + 3]);
    let d = [to[0] - from[0], to[1] - from[1], to[2] - from[2]];
    let square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
    let inverse = T::one() / square;
    (d, inverse * inverse.sqrt(), inverse)
}

impl System for ThreeBody {
    const DIM: usize = 18;
    const PARAMS: usize = 3;
    const AUTONOMOUS: bool = true;

    #[inline]
    fn slope<T: Real>(&self, _t: f64, m: &[T], y: &[T], dy: &mut [T]) {
        let (k1, k2) = (T::from_f64(Self::K1), T::from_f64(Self::K2));
        let (dr, dv) = dy.split_at_mut(9);
        for (dr, v) in dr.iter_mut().zip(&y[9..18]) {
            *dr = k2 * *v;
        }
        dv.fill(T::zero());
        for (i, j) in PAIRS {
            let (d, cube, _) = pair(y, i, j);
            for (x, d) in d.into_iter().enumerate() {
                dv[3 * i + x] += k1 * m[j] * cube * d;
                dv[3 * j + x] -= k1 * m[i] * cube * d;
            }
        }
    }

    #[inline]
    fn pullback<T: Real>(
        &self,
        _t: f64,
        m: &[T],
        y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        m_bar: &mut [T],
    ) -> T {
        let (k1, k2, three) = (T::from_f64(Self::K1), T::from_f64(Self::K2), T::from_f64(3.0));
        let (r_bar, v_bar) = y_bar.split_at_mut(9);
        for (v_bar, lambda) in v_bar.iter_mut().zip(&lambda[..9]) {
            *v_bar = k2 * *lambda;
        }
        r_bar.fill(T::zero());
        for (i, j) in PAIRS {
            let (d, cube, inverse) = pair(y, i, j);
            let (wi, wj) = (&lambda[9 + 3 * i..12 + 3 * i], &lambda[9 + 3 * j..12 + 3 * j]);
            let (along_i, along_j) = (dot(wi, &d), dot(wj, &d));
            m_bar[j] += k1 * cube * along_i;
            m_bar[i] -= k1 * cube * along_j;
            // The pair's force enters as d / |d|^3, whose derivative is (1 - 3 d d^T / |d|^2) / |d|^3.
            let along = three * inverse * (m[j] * along_i - m[i] * along_j);
            for (x, d) in d.into_iter().enumerate() {
                let d_bar = k1 * cube * (m[j] * wi[x] - m[i] * wj[x] - along * d);
                r_bar[3 * j + x] += d_bar;
                r_bar[3 * i + x] -= d_bar;
            }
        }
        T::zero()
    }

    fn trace(&self, _t: &Time, m: &Tensor, y: &Tensor) -> Result<Tensor> {
        let r = |i: usize| y.narrow(D::Minus1, 3 * i, 3);
        let mass = |i: usize| m.narrow(D::Minus1, i, 1);
        let force = |i: usize, j: usize| {
            let d = (r(j)? - r(i)?)?;
            let cube = d.sqr()?.sum_keepdim(D::Minus1)?.powf(1.5)?;
            d.broadcast_div(&cube)
        };
        let pull = |d: &Tensor, j: usize| d.broadcast_mul(&mass(j)?);
        let (d12, d13, d23) = (force(0, 1)?, force(0, 2)?, force(1, 2)?);
        let a1 = (pull(&d12, 1)? + pull(&d13, 2)?)?;
        let a2 = (pull(&d23, 2)? - pull(&d12, 0)?)?;
        let a3 = (pull(&d13, 0)? + pull(&d23, 1)?)?.neg()?;
        let dv = (Tensor::cat(&[a1, a2, a3], D::Minus1)? * Self::K1)?;
        Tensor::cat(&[(y.narrow(D::Minus1, 9, 9)? * Self::K2)?, dv], D::Minus1)
    }

    fn is_separable(&self) -> bool {
        true
    }

    fn kernels(&self) -> Option<GpuKernels> {
        Some(GpuKernels("ThreeBody"))
    }
}

#[inline(always)]
fn dot<T: Real>(a: &[T], b: &[T; 3]) -> T {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}
