//! Vector fields from functions on slices.

use aca_core::{Cotangents, Pullback, Time, VectorField};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, Var, bail};

use crate::Real;

/// An autonomous system `dy/dt = f(y; theta)` of `DIM` coupled numbers, with its derivative in
/// closed form.
pub trait System: Send + Sync + 'static {
    /// Numbers in one state; tensors hold states along their last dimension.
    const DIM: usize;
    /// Numbers in `theta` for one state.
    const PARAMS: usize;

    /// Writes `f(y; theta)` of one state to `dy`.
    fn slope<T: Real>(&self, theta: &[T], y: &[T], dy: &mut [T]);

    /// Writes the cotangent of `y` to `y_bar` and adds that of `theta` to `theta_bar`, for the
    /// cotangent `lambda` of `f(y; theta)`.
    fn pullback<T: Real>(
        &self,
        theta: &[T],
        y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        theta_bar: &mut [T],
    );

    /// Returns `f(y; theta)` in candle's operations.
    ///
    /// # Shapes
    /// `theta`: `[PARAMS]`, or `[states, PARAMS]` where each state has its own; `y`: `[states, DIM]`.
    fn trace(&self, theta: &Tensor, y: &Tensor) -> Result<Tensor>;
}

/// A [`System`] with its parameters: a vector field at native speed.
///
/// # Shapes
/// State: `[.., DIM]`. Parameters: `[PARAMS]` for all states alike, or as many rows as there are
/// states, `[states, PARAMS]` (or `[states]` when `PARAMS` is 1).
///
/// # Errors
/// Evaluation fails when shapes or dtypes of state and parameters do not fit, or off the CPU.
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

    /// Number of states in `y`, after checking that everything fits.
    fn states(&self, y: &Tensor) -> Result<usize> {
        let (dim, theta) = (S::DIM, self.theta.elem_count());
        let states = y.elem_count() / dim;
        if y.dims().last() != Some(&dim) {
            bail!("the system has states of {dim} numbers, but y has shape {:?}", y.dims());
        }
        if theta != S::PARAMS && theta != states * S::PARAMS {
            bail!("{theta} parameters do not fit {states} states of {} each", S::PARAMS);
        }
        if y.dtype() != self.theta.dtype() {
            bail!("y is {:?} but the parameters are {:?}; cast one", y.dtype(), self.theta.dtype());
        }
        Ok(states)
    }

    fn slopes<T: Real>(&self, y: &Tensor) -> Result<Tensor> {
        self.states(y)?;
        let mut dy = vec![T::zero(); y.elem_count()];
        with_slices(&self.theta, y, |theta: &[T], y| {
            let rows = y.chunks_exact(S::DIM).zip(dy.chunks_exact_mut(S::DIM));
            for ((y, dy), theta) in rows.zip(theta_rows(theta, S::PARAMS)) {
                self.system.slope(theta, y, dy);
            }
        })?;
        Tensor::from_vec(dy, y.shape(), &Device::Cpu)
    }

    fn pull<T: Real>(&self, y: &Tensor, lambda: &Tensor) -> Result<Cotangents> {
        let states = self.states(y)?;
        let shared = self.theta.elem_count() == S::PARAMS;
        let mut y_bar = vec![T::zero(); y.elem_count()];
        let mut theta_bar = vec![T::zero(); self.theta.elem_count()];
        with_slices(&self.theta, y, |theta: &[T], y| {
            with_slice(lambda, |lambda: &[T]| {
                let rows = y.chunks_exact(S::DIM).zip(lambda.chunks_exact(S::DIM));
                let rows =
                    rows.zip(y_bar.chunks_exact_mut(S::DIM)).zip(theta_rows(theta, S::PARAMS));
                for (row, (((y, lambda), y_bar), theta)) in rows.enumerate() {
                    let start = if shared || states == 1 { 0 } else { row * S::PARAMS };
                    let theta_bar = &mut theta_bar[start..start + S::PARAMS];
                    self.system.pullback(theta, y, lambda, y_bar, theta_bar);
                }
            })
        })??;
        let mut store = GradStore::default();
        store.insert(&self.theta, Tensor::from_vec(theta_bar, self.theta.shape(), &Device::Cpu)?);
        Ok(Cotangents {
            y: Tensor::from_vec(y_bar, y.shape(), &Device::Cpu)?,
            theta: store,
            t: None,
        })
    }
}

impl<S: System> VectorField for ClosedForm<S> {
    fn eval(&self, _t: &Time, y: &Tensor) -> Result<Tensor> {
        match y.dtype() {
            DType::F32 => self.slopes::<f32>(y),
            _ => self.slopes::<f64>(y),
        }
    }

    fn trace(&self, _t: &Time, y: &Tensor) -> Result<Tensor> {
        let states = self.states(y)?;
        let theta = match self.theta.elem_count() {
            count if count == S::PARAMS => self.theta.reshape(S::PARAMS)?,
            _ => self.theta.reshape((states, S::PARAMS))?,
        };
        self.system.trace(&theta, &y.reshape((states, S::DIM))?)?.reshape(y.shape())
    }

    fn linearize(&self, t: &Time, y: &Tensor) -> Result<(Tensor, Pullback<'_>)> {
        let (f, y) = (self.eval(t, y)?, y.detach());
        let pullback = move |lambda: &Tensor| match y.dtype() {
            DType::F32 => self.pull::<f32>(&y, lambda),
            _ => self.pull::<f64>(&y, lambda),
        };
        Ok((f, Pullback::new(pullback)))
    }
}

/// The parameters of each state: its own row, or the same for all.
fn theta_rows<T>(theta: &[T], params: usize) -> impl Iterator<Item = &[T]> {
    theta.chunks_exact(params).cycle()
}

/// Runs `body` on the elements of a CPU tensor, copied first if they are not contiguous.
fn with_slice<T: Real, R>(x: &Tensor, body: impl FnOnce(&[T]) -> R) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let start = layout.start_offset();
    match &*storage {
        Storage::Cpu(storage) => Ok(body(&slice::<T>(storage)?[start..start + x.elem_count()])),
        _ => bail!(
            "closed-form systems run on the CPU; the state lies on {:?}",
            x.device().location()
        ),
    }
}

fn with_slices<T: Real, R>(
    theta: &Tensor,
    y: &Tensor,
    body: impl FnOnce(&[T], &[T]) -> R,
) -> Result<R> {
    with_slice(theta, |theta: &[T]| with_slice(y, |y: &[T]| body(theta, y)))?
}

fn slice<T: Real>(storage: &CpuStorage) -> Result<&[T]> {
    storage.as_slice::<T>()
}
