//! Functions of time and state as closed forms on slices.

use aca_core::{Cotangents, Pullback, Result, Time};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};

use crate::DenseError;

/// A function of time and state as a closed form on slices, with its derivative: the search for events then evaluates it
/// without a tensor.
///
/// # Example
/// ```
/// use aca_dense::{Event, EventLaw};
/// use candle_core::{Device, Var};
///
/// /// How far a point of a plane is from a circle of radius `theta[0]`.
/// struct Circle;
///
/// impl EventLaw for Circle {
///     fn value(&self, _t: f64, theta: &[f64], y: &[f64]) -> f64 {
///         y[0] * y[0] + y[1] * y[1] - theta[0] * theta[0]
///     }
///
///     fn slope(&self, _t: f64, theta: &[f64], y: &[f64], by: &mut [f64], by_theta: &mut [f64]) -> f64 {
///         by.copy_from_slice(&[2.0 * y[0], 2.0 * y[1]]);
///         by_theta[0] = -2.0 * theta[0];
///         0.0
///     }
/// }
///
/// let radius = Var::new(&[1.5f64], &Device::Cpu)?;
/// let leaves = Event::law(Circle, radius).rising();
/// # candle_core::Result::Ok(())
/// ```
pub trait EventLaw: Send + Sync {
    /// Returns `g(t, y)` with the parameters `theta`, of one state.
    fn value(&self, t: f64, theta: &[f64], y: &[f64]) -> f64;

    /// Writes the derivatives of `g` with respect to the state to `by_y` and to the parameters to `by_theta`, both zero at
    /// first; returns that with respect to time.
    fn slope(
        &self,
        t: f64,
        theta: &[f64],
        y: &[f64],
        by_y: &mut [f64],
        by_theta: &mut [f64],
    ) -> f64;

    /// Compares the derivatives at a point with central differences: call it in a test of yours.
    ///
    /// # Errors
    /// [`DenseError::LawSlope`] for the first that is off by more than a millionth of the largest.
    fn check(&self, t: f64, theta: &[f64], y: &[f64]) -> Result<()> {
        let (mut by_y, mut by_theta) = (vec![0.0; y.len()], vec![0.0; theta.len()]);
        let by_t = self.slope(t, theta, y, &mut by_y, &mut by_theta);
        let at = |which: usize, d: f64| {
            let (mut t, mut theta, mut y) = (t, theta.to_vec(), y.to_vec());
            match which {
                0 => t += d,
                i if i <= y.len() => y[i - 1] += d,
                i => theta[i - 1 - y.len()] += d,
            }
            self.value(t, &theta, &y)
        };
        let own = [by_t].into_iter().chain(by_y).chain(by_theta);
        let sizes = [t].into_iter().chain(y.iter().copied()).chain(theta.iter().copied());
        let pairs: Vec<(f64, f64)> = own
            .zip(sizes)
            .enumerate()
            .map(|(i, (own, size))| {
                let d = 6e-6 * size.abs().max(1.0);
                (own, (at(i, d) - at(i, -d)) / (2.0 * d))
            })
            .collect();
        let largest = pairs.iter().map(|pair| pair.0.abs().max(pair.1.abs())).fold(0.0, f64::max);
        for (i, (got, expected)) in pairs.into_iter().enumerate() {
            let off = (got - expected).abs();
            if off > 1e-6 * largest || off.is_nan() {
                let what = match i {
                    0 => "time".to_owned(),
                    i if i <= y.len() => format!("y[{}]", i - 1),
                    i => format!("theta[{}]", i - 1 - y.len()),
                };
                return Err(DenseError::LawSlope { what, got, expected }.into());
            }
        }
        Ok(())
    }
}

/// The numbers of a tensor.
fn numbers(x: &Tensor) -> candle_core::Result<Vec<f64>> {
    x.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}

/// Calls `work` with the time and the numbers of each of `rows` states.
fn each<R>(
    t: &Time,
    y: &Tensor,
    rows: usize,
    mut work: impl FnMut(f64, &[f64]) -> R,
) -> candle_core::Result<Vec<R>> {
    let (y, ts) = (numbers(y)?, t.values());
    let width = (y.len() / rows.max(1)).max(1);
    let time = |row: usize| ts.get(row).or(ts.first()).copied().unwrap_or(f64::NAN);
    Ok(y.chunks_exact(width).enumerate().map(|(row, y)| work(time(row), y)).collect())
}

/// The values of a law at so many states.
pub(super) fn values(
    law: &dyn EventLaw,
    theta: &Var,
    (t, y, rows): (&Time, &Tensor, usize),
) -> Result<Vec<f64>> {
    let theta = numbers(theta)?;
    Ok(each(t, y, rows, |t, y| law.value(t, &theta, y))?)
}

/// The values of a law, and its pullback.
pub(super) fn linearize<'a>(
    law: &'a dyn EventLaw,
    theta: &'a Var,
    (t, y, rows): (&Time, &Tensor, usize),
) -> Result<(Tensor, Pullback<'a>)> {
    let values = values(law, theta, (t, y, rows))?;
    let like = (y.dtype(), y.device().clone());
    let tensor = move |x: Vec<f64>| -> candle_core::Result<Tensor> {
        let count = x.len();
        Tensor::from_vec(x, count, &Device::Cpu)?.to_dtype(like.0)?.to_device(&like.1)
    };
    let parameters = numbers(theta)?;
    let slopes = each(t, y, rows, |t, y| {
        let (mut by_y, mut by_theta) = (vec![0.0; y.len()], vec![0.0; parameters.len()]);
        let by_t = law.slope(t, &parameters, y, &mut by_y, &mut by_theta);
        (by_y, by_theta, by_t)
    })?;
    let (g, shape) = (tensor(values)?, y.shape().clone());
    let pull = move |lambda: &Tensor| {
        let lambda = numbers(lambda)?;
        let (mut y, mut t) = (Vec::new(), Vec::new());
        let mut all = vec![0.0; theta.elem_count()];
        for (lambda, (by_y, by_theta, by_t)) in lambda.iter().zip(&slopes) {
            y.extend(by_y.iter().map(|x| lambda * x));
            all.iter_mut().zip(by_theta).for_each(|(all, x)| *all += lambda * x);
            t.push(lambda * by_t);
        }
        let mut store = GradStore::default();
        let count = all.len();
        let all = Tensor::from_vec(all, count, &Device::Cpu)?.to_dtype(theta.dtype())?;
        store.insert(theta, all.reshape(theta.shape())?.to_device(theta.device())?);
        let t = Some(Tensor::from_vec(t, slopes.len(), &Device::Cpu)?);
        Ok(Cotangents { y: tensor(y)?.reshape(&shape)?, theta: store, t })
    };
    Ok((g, Pullback::new(pull)))
}
