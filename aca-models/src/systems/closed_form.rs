//! Vector fields from functions on slices.

use std::sync::Arc;

use aca_core::kernels::View;
use aca_core::{Cotangents, Native, Pullback, Time, VectorField, linearize_by_autograd};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var, bail};

use crate::Real;

mod check;
#[cfg(feature = "cuda")]
mod gpu;
mod slices;

pub use check::Difference;

/// A system `dy/dt = f(t, y; theta)` of `DIM` coupled numbers, with its derivative in closed form.
///
/// A system that does not depend on time sets [`System::AUTONOMOUS`] and returns zero as the cotangent of `t`.
///
/// Mark `slope` and `pullback` `#[inline]`. They are called once per state, and without it a call across crates
/// remains: it took a third of the gradient of a batch of oscillators.
///
/// A number of the law becomes a `T` by `T::from_f64`. `t` is an `f64` whatever `T` is; compute with it in `f64` and
/// convert the result.
///
/// # Example
/// A driven oscillator, `x'' = cos(2 t) - k x`, whose slope depends on time:
/// ```
/// use aca_core::Time;
/// use aca_models::systems::{ClosedForm, Real, System};
/// use candle_core::{D, Device, Tensor};
///
/// struct Driven;
///
/// impl System for Driven {
///     const DIM: usize = 2;
///     const PARAMS: usize = 1;
///
///     #[inline]
///     fn slope<T: Real>(&self, t: f64, k: &[T], y: &[T], dy: &mut [T]) {
///         dy[0] = y[1];
///         dy[1] = T::from_f64((2.0 * t).cos()) - k[0] * y[0];
///     }
///
///     #[inline]
///     fn pullback<T: Real>(&self, t: f64, k: &[T], y: &[T], lambda: &[T], y_bar: &mut [T], k_bar: &mut [T]) -> T {
///         y_bar[0] = -k[0] * lambda[1];
///         y_bar[1] = lambda[0];
///         k_bar[0] -= y[0] * lambda[1];
///         T::from_f64(-2.0 * (2.0 * t).sin()) * lambda[1]
///     }
///
///     fn trace(&self, t: &Time, k: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
///         let (x, v) = (y.narrow(D::Minus1, 0, 1)?, y.narrow(D::Minus1, 1, 1)?);
///         let force = (t.tensor(y)? * 2.0)?.cos()?.broadcast_sub(&x.broadcast_mul(k)?)?;
///         Tensor::cat(&[&v, &force], D::Minus1)
///     }
/// }
///
/// # fn main() -> candle_core::Result<()> {
/// let field = ClosedForm::from_slice(Driven, &[3.0])?;
/// let y = Tensor::new(&[1.0f64, -0.5], &Device::Cpu)?;
/// assert!(field.check(&y)?.worst() < 1e-14); // all four derivatives agree with candle's autograd
/// # Ok(())
/// # }
/// ```
pub trait System: Send + Sync + 'static {
    /// Numbers in one state; tensors hold states along their last dimension.
    const DIM: usize;
    /// Numbers in `theta` for one state.
    const PARAMS: usize;

    /// Whether the system does not depend on time. The time of each row is then not computed, which saves a fifth of a
    /// gradient for oscillators that step on their own. `slope` and `pullback` get NaN as `t`, so that a law that does
    /// depend on time fails visibly.
    const AUTONOMOUS: bool = false;

    /// Writes `f(t, y; theta)` of one state to `dy`.
    fn slope<T: Real>(&self, t: f64, theta: &[T], y: &[T], dy: &mut [T]);

    /// Writes the cotangent of `y` to `y_bar` and adds that of `theta` to `theta_bar`, for the
    /// cotangent `lambda` of `f(t, y; theta)`; returns that of `t`.
    fn pullback<T: Real>(
        &self,
        t: f64,
        theta: &[T],
        y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        theta_bar: &mut [T],
    ) -> T;

    /// Returns `f(t, y; theta)` in candle's operations, which read the time by [`Time::tensor`].
    ///
    /// # Shapes
    /// `theta`: `[PARAMS]`, or `[states, PARAMS]` where each state has its own; `y`: `[states, DIM]`.
    fn trace(&self, t: &Time, theta: &Tensor, y: &Tensor) -> Result<Tensor>;

    /// Whether it is [separable](VectorField::is_separable) into positions and momenta.
    fn is_separable(&self) -> bool {
        false
    }

    /// The system's kernels for GPUs; systems without them run there on [`trace`](Self::trace).
    #[doc(hidden)]
    fn kernels(&self) -> Option<GpuKernels> {
        None
    }
}

/// The name of a system in `systems.cu`; others cannot be made outside of this crate.
#[derive(Clone, Copy, Debug)]
pub struct GpuKernels(
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "for GPUs alone"))]
    pub(super)  &'static str,
);

/// A [`System`] with its parameters: a vector field at native speed.
///
/// # Shapes
/// State: `[.., DIM]`. Parameters: `[PARAMS]` for all states alike, or as many rows as there are
/// states, `[states, PARAMS]` (or `[states]` when `PARAMS` is 1).
///
/// On a GPU an evaluation of the systems here is one launch, and so is a pullback (two, where many states
/// share parameters); systems of your own run on [`System::trace`] there.
///
/// # Errors
/// Evaluation fails when shapes, dtypes or devices of state and parameters do not fit.
pub struct ClosedForm<S> {
    system: S,
    theta: Var,
}

impl<S: System> ClosedForm<S> {
    /// Joins the system to its parameters.
    pub fn new(system: S, theta: Var) -> Self {
        Self { system, theta }
    }

    /// Joins the system to `f64` parameters on the CPU.
    pub fn from_slice(system: S, theta: &[f64]) -> Result<Self> {
        Ok(Self::new(system, Var::new(theta, &Device::Cpu)?))
    }

    /// The parameters.
    pub fn theta(&self) -> &Var {
        &self.theta
    }

    /// The system.
    pub fn system(&self) -> &S {
        &self.system
    }

    /// Where the parameters of the states in `y` lie, after checking that everything fits.
    fn places(&self, t: &Time, y: &Tensor) -> Result<Places> {
        let (dim, theta) = (S::DIM, self.theta.elem_count());
        if y.dims().last() != Some(&dim) {
            bail!("the system has states of {dim} numbers, but y has shape {:?}", y.dims());
        }
        if y.dtype() != self.theta.dtype() {
            bail!("y is {:?} but the parameters are {:?}; cast one", y.dtype(), self.theta.dtype());
        }
        t.expect_batch(y)?;
        let states = y.elem_count() / dim;
        if theta == S::PARAMS {
            return Ok(Places { states, each: Each::Shared });
        }
        let dims = self.theta.dims();
        if S::PARAMS == 0 {
            bail!("the system has no parameters, but {theta} were given");
        }
        if S::PARAMS > 1 && dims.last() != Some(&S::PARAMS) {
            let params = S::PARAMS;
            bail!(
                "parameters of shape {dims:?} were given, but those of a state are the {params} of a last dimension"
            );
        }
        let rows = y.dims()[0].max(1);
        let (count, own) = (states / rows, theta / S::PARAMS);
        let each = match t.samples().filter(|samples| samples.len() == rows) {
            Some(samples) if !samples.iter().copied().eq(0..rows) => {
                Each::Sample(samples.clone(), count)
            }
            _ => Each::State,
        };
        // Solves that leave samples out see some rows of the parameters only.
        let fits = match &each {
            Each::Sample(samples, _) => samples.iter().all(|sample| (sample + 1) * count <= own),
            _ => own >= states && (own == states || t.samples().is_some()),
        };
        if !fits || theta % S::PARAMS != 0 {
            bail!("{theta} parameters do not fit {states} states of {} each", S::PARAMS);
        }
        Ok(Places { states, each })
    }

    /// The times of the rows, as far as they matter.
    fn times(t: &Time) -> &[f64] {
        if S::AUTONOMOUS { &[f64::NAN] } else { t.values() }
    }

    fn slopes_at(&self, places: &Places, ts: &[f64], y: &Tensor) -> Result<Tensor> {
        match y.dtype() {
            DType::F32 => self.slopes::<f32>(places, ts, y),
            _ => self.slopes::<f64>(places, ts, y),
        }
    }

    fn slopes<T: Real>(&self, places: &Places, ts: &[f64], y: &Tensor) -> Result<Tensor> {
        let (theta, y) = (self.theta.contiguous()?, y.contiguous()?);
        let (theta, view) = (View::new(&theta)?, View::new(&y)?);
        let (theta, states) = (theta.slice::<T>()?, view.slice::<T>()?);
        let mut dy = vec![T::zero(); states.len()];
        places.slopes(&self.system, theta, (ts.len(), |row| ts[row]), states, &mut dy);
        Tensor::from_vec(dy, y.shape(), &Device::Cpu)
    }

    fn pull<T: Real>(
        &self,
        (places, ts): (&Places, &[f64]),
        y: &Tensor,
        lambda: &Tensor,
    ) -> Result<Cotangents> {
        let (theta, y) = (self.theta.contiguous()?, y.contiguous()?);
        let lambda = lambda.contiguous()?;
        let (theta, view, lambda) = (View::new(&theta)?, View::new(&y)?, View::new(&lambda)?);
        let (theta, states, lambda) = (theta.slice::<T>()?, view.slice()?, lambda.slice()?);
        let mut y_bar = vec![T::zero(); states.len()];
        let mut theta_bar = vec![T::zero(); theta.len()];
        let (mut t_bar, rows) = (vec![0.0; ts.len()], (ts.len(), |row| ts[row]));
        let bars = (&mut y_bar[..], &mut theta_bar[..], &mut t_bar[..]);
        places.pull(&self.system, theta, rows, [states, lambda], bars);
        let mut store = GradStore::default();
        store.insert(&self.theta, Tensor::from_vec(theta_bar, self.theta.shape(), &Device::Cpu)?);
        let y = Tensor::from_vec(y_bar, y.shape(), &Device::Cpu)?;
        let t = (!S::AUTONOMOUS).then(|| Tensor::from_vec(t_bar, ts.len(), &Device::Cpu));
        Ok(Cotangents { y, theta: store, t: t.transpose()? })
    }
}

impl<S: System> VectorField for ClosedForm<S> {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        if y.device().is_cpu() {
            return self.slopes_at(&self.places(t, y)?, Self::times(t), y);
        }
        #[cfg(feature = "cuda")]
        if let Some(kernels) = self.kernels(y) {
            return self.slopes_on_gpu(kernels, &self.places(t, y)?, y);
        }
        self.trace(t, &y.detach())
    }

    fn trace(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        let places = self.places(t, y)?;
        let theta = match &places.each {
            Each::Shared => self.theta.reshape(S::PARAMS)?,
            Each::State => self.theta.reshape(((), S::PARAMS))?.narrow(0, 0, places.states)?,
            Each::Sample(..) => {
                let rows = (0..places.states).map(|state| places.row(state) as u32);
                let rows = Tensor::from_iter(rows, y.device())?;
                self.theta.reshape(((), S::PARAMS))?.index_select(&rows, 0)?
            }
        };
        let states = y.reshape((places.states, S::DIM))?;
        let count = t.samples().map_or(1, |rows| places.states / rows.len());
        t.repeated(count, y, |t| self.system.trace(t, &theta, &states))?.reshape(y.shape())
    }

    fn linearize(&self, t: &Time, y: &Tensor) -> Result<(Tensor, Pullback<'_>)> {
        #[cfg(feature = "cuda")]
        if let Some(kernels) = self.kernels(y) {
            return self.linearized_on_gpu(kernels, self.places(t, y)?, y);
        }
        if !y.device().is_cpu() {
            return linearize_by_autograd(|t, y| self.trace(t, y), t, y);
        }
        let (places, ts, y) = (self.places(t, y)?, Self::times(t).to_vec(), y.detach());
        let f = self.slopes_at(&places, &ts, &y)?;
        let pullback = move |lambda: &Tensor| match y.dtype() {
            DType::F32 => self.pull::<f32>((&places, &ts), &y, lambda),
            _ => self.pull::<f64>((&places, &ts), &y, lambda),
        };
        Ok((f, Pullback::new(pullback)))
    }

    fn is_separable(&self) -> bool {
        self.system.is_separable()
    }

    fn supports_row_subset(&self) -> bool {
        true
    }

    fn fits(&self, y0: &Tensor) -> Result<()> {
        // At one time for all rows, which are the whole batch: there must be parameters for each, and no more.
        self.places(&Time::new(0.0), y0).map(|_| ())
    }

    fn native(&self, y: &Tensor) -> Option<Native<'_>> {
        // What does not fit is refused, with its reason, by the first evaluation on tensors.
        self.bound(y).ok().flatten()
    }
}

/// Where the parameters of each state lie.
struct Places {
    states: usize,
    each: Each,
}

/// Which states share parameters.
enum Each {
    /// All of them.
    Shared,
    /// None: each has its own row, in order.
    State,
    /// None: the states of the rows' samples, so many each, have their own rows.
    Sample(Arc<[usize]>, usize),
}

impl Places {
    /// The row of a state's parameters.
    fn row(&self, state: usize) -> usize {
        match &self.each {
            Each::Shared => 0,
            Each::State => state,
            Each::Sample(samples, count) => samples[state / count] * count + state % count,
        }
    }
}
