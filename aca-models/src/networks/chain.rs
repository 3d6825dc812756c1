//! Convolutions with their batch norms, one after the other, as a vector field.

use aca_core::{Cotangents, Pullback, Time, VectorField};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var, bail};
use candle_nn::Module;

use super::layer::ConvNorm;
use crate::layers::batch_norm::Normalise;

/// An autonomous field of any number of units; the images keep their size.
///
/// Candle's autograd through the same layers is right, and five times slower: it reduces the state to a
/// number and broadcasts that number's gradient back, entry by entry.
pub(super) struct Chain {
    units: Vec<ConvNorm>,
    variables: Vec<Var>,
}

impl Chain {
    pub(super) fn new(units: Vec<ConvNorm>) -> Result<Self> {
        let variables = units.iter().map(ConvNorm::variables).collect::<Result<Vec<_>>>()?.concat();
        Ok(Self { units, variables })
    }

    /// The variables of all units.
    pub(super) fn variables(&self) -> &[Var] {
        &self.variables
    }
}

impl VectorField for Chain {
    fn eval(&self, _t: &Time, y: &Tensor) -> Result<Tensor> {
        self.units.iter().try_fold(y.detach(), |x, unit| Ok(Place::of(unit, x)?.0))
    }

    fn trace(&self, _t: &Time, y: &Tensor) -> Result<Tensor> {
        self.units.iter().try_fold(y.clone(), |x, unit| unit.forward(&x))
    }

    fn linearize(&self, _t: &Time, y: &Tensor) -> Result<(Tensor, Pullback<'_>)> {
        let (mut x, mut places) = (y.detach(), Vec::with_capacity(self.units.len()));
        for unit in &self.units {
            let (value, place) = Place::of(unit, x)?;
            x = value;
            places.push(place);
        }
        let shape = x.shape().clone();
        let pullback = move |lambda: &Tensor| {
            if *lambda.shape() != shape {
                let (got, expected) = (lambda.dims(), shape.dims());
                bail!("a cotangent of shape {got:?} does not fit a state of shape {expected:?}");
            }
            let mut theta = GradStore::default();
            let mut places = places.into_iter().rev();
            let y =
                places.try_fold(lambda.clone(), |lambda, place| place.pull(&lambda, &mut theta))?;
            Ok(Cotangents { y, theta, t: None })
        };
        Ok((x, Pullback::new(pullback)))
    }

    fn running_statistics(&self) -> Vec<Var> {
        self.units.iter().flat_map(|unit| unit.norm.running_statistics()).collect()
    }
}

/// Where a unit was linearized.
struct Place<'a> {
    unit: &'a ConvNorm,
    x: Tensor,
    /// What the convolution made of x.
    sums: Tensor,
    normalise: Normalise,
}

impl<'a> Place<'a> {
    /// The unit's value at `x`, and what pulls a cotangent of it back.
    fn of(unit: &'a ConvNorm, x: Tensor) -> Result<(Tensor, Self)> {
        let sums = unit.conv.value(&x)?;
        let (value, normalise) = unit.norm.linearize(&sums)?;
        Ok((value, Self { unit, x, sums, normalise }))
    }

    /// Pulls a cotangent back to x, and adds those of the variables to `theta`.
    fn pull(self, lambda: &Tensor, theta: &mut GradStore) -> Result<Tensor> {
        let ConvNorm { conv, norm } = self.unit;
        let [sums, weight, bias] =
            self.normalise.pull(&self.sums, [&norm.weight, &norm.bias], lambda)?;
        theta.insert(&norm.weight, weight);
        theta.insert(&norm.bias, bias);
        let [x, weight, bias] = conv.pull(&self.x, &sums, [true, true, conv.bias.is_some()])?;
        if let Some(weight) = weight {
            theta.insert(&conv.weight, weight);
        }
        if let Some((parameter, bias)) = conv.bias.as_ref().zip(bias) {
            theta.insert(parameter, bias);
        }
        x.map_or_else(|| self.x.zeros_like(), Ok)
    }
}
