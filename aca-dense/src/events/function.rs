//! The functions whose zeros are events.

use std::fmt;
use std::sync::Arc;

use aca_core::kernels::View;
use aca_core::{Cotangents, Pullback, Result, Time, VectorField, linearize_by_autograd};
use candle_core::backprop::GradStore;
use candle_core::{DType, Result as CandleResult, Shape, Tensor, Var, bail};

use super::law::{self, EventLaw};
use crate::DenseError;

/// A function of time and state.
type Function = dyn Fn(&Time, &Tensor) -> CandleResult<Tensor> + Send + Sync;

/// What an event looks at.
#[derive(Clone)]
pub enum EventFunction {
    /// A function of time and state in candle's operations.
    Closure(Arc<Function>),
    /// A closed form on slices, with its parameters.
    Law(Arc<dyn EventLaw>, Var),
    /// One number of the state against a threshold.
    Component {
        /// Its place, counted through all dimensions of the state, or of one sample's.
        index: usize,
        /// What it is compared with.
        threshold: f64,
    },
    /// The root mean square of the slope against a bound.
    Steady {
        /// The field.
        field: Arc<dyn VectorField>,
        /// The bound.
        eps: f64,
    },
    /// Given times.
    Times(Vec<f64>),
    /// The ends of accepted steps.
    Steps,
}

impl fmt::Debug for EventFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closure(_) | Self::Law(..) => f.write_str("a function"),
            Self::Component { index, threshold } => write!(f, "y[{index}] - {threshold}"),
            Self::Steady { eps, .. } => write!(f, "|f| - {eps}"),
            Self::Times(ts) => write!(f, "times {ts:?}"),
            Self::Steps => f.write_str("steps"),
        }
    }
}

impl EventFunction {
    /// Whether zeros are searched for.
    pub fn has_roots(&self) -> bool {
        !matches!(self, Self::Times(_) | Self::Steps)
    }

    /// Returns `g(t, y)` in candle's graph, one number for each of `rows` states.
    pub(crate) fn trace(&self, t: &Time, y: &Tensor, rows: Option<usize>) -> CandleResult<Tensor> {
        let count = rows.unwrap_or(1);
        let flat = |x: &Tensor| x.reshape((count, x.elem_count() / count.max(1)));
        match self {
            Self::Closure(g) => g(t, y),
            &Self::Component { index, threshold } => {
                flat(y)?.narrow(1, index, 1)?.affine(1.0, -threshold)
            }
            Self::Steady { field, eps } => {
                flat(&field.trace(t, y)?)?.sqr()?.mean(1)?.sqrt()?.affine(1.0, -eps)
            }
            Self::Law(..) | Self::Times(_) | Self::Steps => {
                bail!("laws, times and steps are no functions in candle's graph")
            }
        }
    }

    /// Returns the values of `g`, one for each of `rows` states, or one for a whole state.
    ///
    /// # Errors
    /// [`DenseError::EventShape`], naming the `event`; whatever the function returns.
    pub(crate) fn eval(
        &self,
        event: usize,
        t: &Time,
        y: &Tensor,
        rows: Option<usize>,
    ) -> Result<Vec<f64>> {
        if let (&Self::Component { index, threshold }, true) = (self, y.device().is_cpu()) {
            return component(y, (index, threshold), rows.unwrap_or(1));
        }
        if let Self::Law(law, theta) = self {
            return law::values(law.as_ref(), theta, (t, y, rows.unwrap_or(1)));
        }
        let g = self.trace(t, &y.detach(), rows)?.detach();
        check_shape(event, &g, rows)?;
        Ok(g.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
    }

    /// Returns `g` at a point, in candle's graph, and its pullback.
    ///
    /// # Errors
    /// [`DenseError::EventShape`], naming the `event`; whatever the function returns.
    pub fn linearize(
        &self,
        event: usize,
        t: &Time,
        y: &Tensor,
        rows: Option<usize>,
    ) -> Result<(Tensor, Pullback<'_>)> {
        if let &Self::Component { index, .. } = self {
            let g = self.trace(t, &y.detach(), rows)?;
            let (shape, count) = (y.shape().clone(), rows.unwrap_or(1));
            let pull = move |lambda: &Tensor| pull_component(&shape, (index, count), lambda);
            return Ok((g, Pullback::new(pull)));
        }
        if let Self::Law(law, theta) = self {
            return law::linearize(law.as_ref(), theta, (t, y, rows.unwrap_or(1)));
        }
        let (g, pullback) = linearize_by_autograd(|t, y| self.trace(t, y, rows), t, y)?;
        check_shape(event, &g, rows)?;
        Ok((g, pullback))
    }
}

/// The cotangent of states of which one number each was looked at.
fn pull_component(
    shape: &Shape,
    (index, rows): (usize, usize),
    lambda: &Tensor,
) -> CandleResult<Cotangents> {
    let width = shape.elem_count() / rows.max(1);
    let column = lambda.reshape((rows, 1))?;
    let around = |count: usize| Tensor::zeros((rows, count), lambda.dtype(), lambda.device());
    let y = Tensor::cat(&[&around(index)?, &column, &around(width - index - 1)?], 1)?;
    Ok(Cotangents { y: y.reshape(shape)?, theta: GradStore::default(), t: None })
}

/// One number of each state against a threshold, without making tensors.
fn component(y: &Tensor, (index, threshold): (usize, f64), rows: usize) -> Result<Vec<f64>> {
    let width = y.elem_count() / rows.max(1);
    let y = y.contiguous()?;
    let view = View::new(&y)?;
    Ok(match y.dtype() {
        DType::F32 => {
            let y = view.slice::<f32>()?;
            // In the type of the states, as candle's operations do it.
            (0..rows).map(|row| f64::from(y[row * width + index] - threshold as f32)).collect()
        }
        _ => {
            let y = view.slice::<f64>()?;
            (0..rows).map(|row| y[row * width + index] - threshold).collect()
        }
    })
}

fn check_shape(event: usize, g: &Tensor, rows: Option<usize>) -> Result<()> {
    let expected = rows.unwrap_or(1);
    match g.elem_count() == expected {
        true => Ok(()),
        false => Err(DenseError::EventShape { event, got: g.dims().to_vec(), expected }.into()),
    }
}
