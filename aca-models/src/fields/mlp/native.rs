//! The multilayer perceptron on kernels of our own.

use std::ops::Range;

use aca_core::kernels::View;
use aca_core::{Cotangents, Pullback, Time};
use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, bail};

use super::{Mlp, TimeInput};
use crate::layers::Linear;
use crate::layers::kernels::linear::{Gradients, Wanted};
use crate::layers::kernels::stack::{Kept, Times, WantedOf};
use crate::layers::kernels::vector_math::Elementary;
use crate::layers::linear::{tensor, with_stack};

impl Mlp {
    /// The time as the first layer sees it, if it does.
    pub(super) fn time(&self, t: &Time, y: &Tensor) -> Result<Option<Tensor>> {
        if self.time == TimeInput::None {
            return Ok(None);
        }
        let t = t.tensor(y)?;
        // Everything after the last size that is not 1 is shared.
        let batch = t.dims().iter().rposition(|&size| size != 1).map_or(0, |last| last + 1);
        let fits =
            t.rank() == y.rank() && batch < y.rank() && t.dims()[..batch] == y.dims()[..batch];
        if batch > 0 && !fits {
            let (t, y) = (t.dims(), y.dims());
            bail!(
                "times of shape {t:?} do not fit states of shape {y:?}; give one, or one per row: [batch, 1, ..]"
            );
        }
        t.contiguous().map(Some)
    }

    pub(super) fn slopes<T: Elementary>(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        let (t, y) = (self.time(t, y)?, y.contiguous()?);
        let t = t.as_ref().map(View::new).transpose()?;
        let view = View::new(&y)?;
        let x = view.slice::<T>()?;
        let times = times(t.as_ref(), x.len() / self.dim)?;
        let slopes = with_stack(&self.layers, times, |stack| stack.forward(x))?;
        Tensor::from_vec(slopes, y.shape(), &Device::Cpu)
    }

    pub(super) fn linearized<T: Elementary>(
        &self,
        t: &Time,
        y: &Tensor,
    ) -> Result<(Tensor, Pullback<'_>)> {
        let time = self.time(t, y)?;
        let point = Point { y: y.detach().contiguous()?, t: time, leaf: t.leaf().cloned() };
        let (slopes, kept) = {
            let t = point.t.as_ref().map(View::new).transpose()?;
            let view = View::new(&point.y)?;
            let x = view.slice::<T>()?;
            let times = times(t.as_ref(), x.len() / self.dim)?;
            with_stack(&self.layers, times, |stack| stack.linearize(x))?
        };
        let f = Tensor::from_vec(slopes, y.shape(), &Device::Cpu)?;
        Ok((f, Pullback::new(move |lambda| self.pull::<T>(&point, &kept, lambda))))
    }

    fn pull<T: Elementary>(
        &self,
        point: &Point,
        kept: &[Kept<T>],
        lambda: &Tensor,
    ) -> Result<Cotangents> {
        if lambda.dims() != point.y.dims() {
            let (got, expected) = (lambda.dims(), point.y.dims());
            bail!("a cotangent of shape {got:?} does not fit a state of shape {expected:?}");
        }
        let lambda = lambda.detach().contiguous()?;
        let t = point.t.as_ref().map(View::new).transpose()?;
        let (x, lambda) = (View::new(&point.y)?, View::new(&lambda)?);
        let (x, lambda) = (x.slice::<T>()?, lambda.slice::<T>()?);
        let times = times(t.as_ref(), x.len() / self.dim)?;
        let wanted: Vec<_> = self.layers.iter().map(wanted).collect();
        let wanted = WantedOf { x: true, parameters: &wanted };
        let dim = self.dim;
        let steps = |tile: usize, rows: Range<usize>| {
            kept[tile].steps(&x[rows.start * dim..rows.end * dim])
        };
        let pulled = with_stack(&self.layers, times, |stack| stack.pull(steps, lambda, wanted))?;
        Ok(Cotangents {
            y: Tensor::from_vec(pulled.x, point.y.shape(), &Device::Cpu)?,
            theta: self.store(pulled.parameters)?,
            t: point.time_cotangent(&pulled.t)?,
        })
    }

    /// The cotangents of variables; a variable of two layers gets the sum of both.
    fn store<T: Elementary>(&self, sums: Vec<Gradients<T>>) -> Result<GradStore> {
        let mut store = GradStore::default();
        for (layer, sums) in self.layers.iter().zip(sums) {
            let weight = tensor(sums.weight, layer.weight.dims())?;
            let bias = tensor(sums.bias, &[layer.sizes()?.0])?;
            let pairs = [(Some(&layer.weight), weight), (layer.bias.as_ref(), bias)];
            for (variable, sum) in pairs {
                let (Some(variable), Some(sum)) = (variable, sum) else { continue };
                let sum = match store.remove(variable) {
                    Some(other) => (sum + other)?,
                    None => sum,
                };
                store.insert(variable, sum);
            }
        }
        Ok(store)
    }
}

/// Where a field was linearized.
struct Point {
    y: Tensor,
    /// The time as the first layer saw it, if it did.
    t: Option<Tensor>,
    /// The tensor that it was rounded from.
    leaf: Option<Tensor>,
}

impl Point {
    /// Adds the cotangents of the rows' times up to those of the times.
    fn time_cotangent<T: Elementary>(&self, rows: &[T]) -> Result<Option<Tensor>> {
        let (Some(_), Some(leaf)) = (&self.t, &self.leaf) else { return Ok(None) };
        if rows.is_empty() {
            return leaf.zeros_like().map(Some);
        }
        let share = rows.len() / leaf.elem_count();
        let sums =
            rows.chunks_exact(share).map(|rows| rows.iter().map(|t| t.to_f64()).sum::<f64>());
        Tensor::from_iter(sums, &Device::Cpu)?
            .reshape(leaf.shape())?
            .to_dtype(leaf.dtype())
            .map(Some)
    }
}

fn wanted(layer: &Linear) -> Wanted {
    let bias = layer.bias.as_ref().is_some_and(|bias| bias.is_variable());
    Wanted { weight: layer.weight.is_variable(), bias }
}

/// The times of `rows` rows.
fn times<'a, T: Elementary>(t: Option<&'a View<'_>>, rows: usize) -> Result<Times<'a, T>> {
    Ok(match t.map(View::slice).transpose()? {
        None => Times::None,
        Some([t]) => Times::One(*t),
        Some(times) => Times::Each { times, rows: rows / times.len() },
    })
}
