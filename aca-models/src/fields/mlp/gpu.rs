//! The multilayer perceptron on a GPU, layer by layer.

use aca_core::{Cotangents, Pullback, Time};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, bail};
use candle_nn::Module;

use super::Mlp;
use crate::layers::kernels::cuda;
use crate::layers::{Linear, LinearPullback};

impl Mlp {
    pub(super) fn slopes_on_gpu(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        let time = self.time(t, y)?;
        let input = self.input(&y.detach(), time.as_ref())?;
        let layer = |x: Tensor, layer: &Linear| layer.detached().forward(&x);
        self.layers.iter().try_fold(input, layer)?.reshape(y.shape())
    }

    /// The states as rows, each with its time where the first layer sees it.
    fn input(&self, y: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let rows = y.contiguous()?.reshape(((), self.dim))?;
        match time {
            Some(time) => cuda::with_times(&rows, &time.detach(), self.dim),
            None => Ok(rows),
        }
    }

    pub(super) fn linearized_on_gpu(&self, t: &Time, y: &Tensor) -> Result<(Tensor, Pullback<'_>)> {
        let (y, time, leaf) = (y.detach(), self.time(t, y)?, t.leaf().cloned());
        let mut x = self.input(&y, time.as_ref())?;
        let mut pullbacks = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let (value, pullback) = layer.linearize(&x)?;
            x = value;
            pullbacks.push(pullback);
        }
        let f = x.reshape(y.shape())?;
        let leaf = leaf.filter(|_| time.is_some());
        let pullback = move |lambda: &Tensor| {
            if lambda.dims() != y.dims() {
                let (got, expected) = (lambda.dims(), y.dims());
                bail!("a cotangent of shape {got:?} does not fit a state of shape {expected:?}");
            }
            self.pull_on_gpu(&pullbacks, &y, leaf.as_ref(), lambda)
        };
        Ok((f, Pullback::new(pullback)))
    }

    fn pull_on_gpu(
        &self,
        pullbacks: &[LinearPullback],
        y: &Tensor,
        leaf: Option<&Tensor>,
        lambda: &Tensor,
    ) -> Result<Cotangents> {
        let mut x = lambda.detach().contiguous()?.reshape(((), self.dim))?;
        let mut theta = GradStore::default();
        for (layer, pullback) in self.layers.iter().zip(pullbacks).rev() {
            let [x_bar, weight, bias] = pullback.variables(&x, layer)?;
            let pairs = [(Some(&layer.weight), weight), (layer.bias.as_ref(), bias)];
            for (variable, bar) in pairs {
                add(&mut theta, variable.zip(bar))?;
            }
            x = x_bar.map_or_else(|| x.zeros_like(), Ok)?;
        }
        let Some(leaf) = leaf else {
            return Ok(Cotangents { y: x.reshape(y.shape())?, theta, t: None });
        };
        let y_bar = x.narrow(1, 0, self.dim)?.contiguous()?.reshape(y.shape())?;
        // Rows that share a time share its cotangent.
        let t =
            x.narrow(1, self.dim, 1)?.to_dtype(leaf.dtype())?.reshape((leaf.elem_count(), ()))?;
        Ok(Cotangents { y: y_bar, theta, t: Some(t.sum(1)?.reshape(leaf.shape())?) })
    }
}

/// Adds a cotangent to what its variable has: a variable may serve two layers.
fn add(theta: &mut GradStore, pair: Option<(&Tensor, Tensor)>) -> Result<()> {
    let Some((variable, bar)) = pair else { return Ok(()) };
    let bar = match theta.remove(variable) {
        Some(other) => (bar + other)?,
        None => bar,
    };
    theta.insert(variable, bar);
    Ok(())
}
