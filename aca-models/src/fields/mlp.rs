//! Multilayer perceptrons as vector fields.

use aca_core::{Pullback, Time, VectorField, linearize_by_autograd};
use candle_core::{DType, Result, Tensor, Var, bail};
use candle_nn::{Module, VarBuilder};

use crate::layers::{Activation, Linear};

#[cfg(feature = "cuda")]
mod gpu;
mod native;

/// How a field gets the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimeInput {
    /// Not at all: the field is autonomous.
    #[default]
    None,
    /// The time is one more input of the first layer, after the state.
    Concatenated,
}

/// The sizes of an [`Mlp`].
#[derive(Clone, Debug)]
pub struct MlpConfig {
    /// Numbers in one state.
    pub dim: usize,
    /// Outputs of each hidden layer; with none the field is affine.
    pub hidden: Vec<usize>,
    /// The function after every hidden layer; the last layer has none.
    pub activation: Activation,
    /// How the first layer gets the time.
    pub time: TimeInput,
}

/// `dy/dt = W_n act(.. act(W_1 y + b_1) ..) + b_n`: a multilayer perceptron at native speed.
///
/// Tiles of rows go through all layers while they are in the cache; where the batch is large enough,
/// threads share the tiles. Results do not depend on the number of threads. On a GPU every layer is a
/// product and one launch.
///
/// # Shapes
/// State: `[.., dim]`, `f32` or `f64` as the parameters, on their device. The time, where it is an input, is
/// the same for all states or has one entry for each leading index: `[batch, 1, ..]`.
///
/// # Gradient
/// In closed form, with respect to the state, the parameters that are variables, and the time where it is an
/// input. [`trace`](VectorField::trace) gives the same function as nodes of candle's graph: of the layers, or
/// where second derivatives are enabled of candle's own operations, which have them.
///
/// # Errors
/// Evaluation fails when the state or the time does not fit.
///
/// # Cost
/// `linearize` keeps the hidden layers' values; the pullback takes twice the time of an evaluation.
///
/// # Example
/// ```
/// use aca_core::{Time, VectorField};
/// use aca_models::fields::{Mlp, MlpConfig, TimeInput};
/// use aca_models::layers::Activation;
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{VarBuilder, VarMap};
///
/// # fn main() -> candle_core::Result<()> {
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let (hidden, activation) = (vec![16, 16], Activation::Tanh);
/// let config = MlpConfig { dim: 2, hidden, activation, time: TimeInput::Concatenated };
/// let field = Mlp::new(&config, vb)?;
/// let y = Tensor::zeros((8, 2), DType::F32, &Device::Cpu)?;
/// assert_eq!(field.eval(&Time::new(0.5), &y)?.dims(), [8, 2]);
/// assert_eq!(field.variables().len(), 6);
/// # Ok(())
/// # }
/// ```
pub struct Mlp {
    layers: Vec<Linear>,
    time: TimeInput,
    dim: usize,
    dtype: DType,
    variables: Vec<Var>,
}

impl Mlp {
    /// Returns a field whose variables are `0.weight`, `0.bias`, `1.weight` and so on, with candle's
    /// initial values.
    ///
    /// # Errors
    /// When a size is zero.
    pub fn new(config: &MlpConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let MlpConfig { dim, hidden, activation, time } = config;
        let mut inputs = dim + usize::from(*time == TimeInput::Concatenated);
        let mut layers = Vec::with_capacity(hidden.len() + 1);
        let activations = std::iter::repeat_n(*activation, hidden.len());
        let activations = activations.chain([Activation::Identity]);
        for (i, (&outputs, activation)) in hidden.iter().chain([dim]).zip(activations).enumerate() {
            layers.push(Linear::new(inputs, outputs, activation, vb.pp(i))?);
            inputs = outputs;
        }
        Self::from_layers(layers, *time)
    }

    /// Joins given layers: with or without bias, with any activations, of variables or constants.
    ///
    /// # Errors
    /// When sizes or dtypes do not fit, or when a parameter is computed from variables.
    pub fn from_layers(layers: Vec<Linear>, time: TimeInput) -> Result<Self> {
        let dim = check_sizes(&layers, time)?;
        let dtype = check_dtypes(&layers)?;
        let mut variables = Vec::<Var>::new();
        for (i, parameter) in parameters(&layers) {
            if parameter.track_op() && !parameter.is_variable() {
                bail!(
                    "a parameter of layer {i} is computed from variables, so its gradient would be lost; \
                     detach it or write the field with candle's operations"
                );
            }
            let known = variables.iter().any(|variable| variable.id() == parameter.id());
            if parameter.is_variable() && !known {
                variables.push(Var::from_tensor(parameter)?);
            }
        }
        Ok(Self { layers, time, dim, dtype, variables })
    }

    /// The layers, first to last.
    pub fn layers(&self) -> &[Linear] {
        &self.layers
    }

    /// The variables, from the first layer to the last, weight before bias.
    pub fn variables(&self) -> Vec<Var> {
        self.variables.clone()
    }

    fn check(&self, t: &Time, y: &Tensor) -> Result<()> {
        t.expect_batch(y)?;
        if y.dims().last() != Some(&self.dim) {
            bail!("the field has states of {} numbers, but y has shape {:?}", self.dim, y.dims());
        }
        if y.dtype() != self.dtype {
            bail!("y is {:?} but the parameters are {:?}; cast one", y.dtype(), self.dtype);
        }
        Ok(())
    }
}

impl VectorField for Mlp {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.check(t, y)?;
        #[cfg(feature = "cuda")]
        if y.device().is_cuda() {
            return self.slopes_on_gpu(t, y);
        }
        if !y.device().is_cpu() {
            return self.trace(t, &y.detach());
        }
        match y.dtype() {
            DType::F32 => self.slopes::<f32>(t, y),
            _ => self.slopes::<f64>(t, y),
        }
    }

    fn trace(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.check(t, y)?;
        let input = match self.time(t, y)? {
            None => y.clone(),
            Some(t) => {
                let last = y.rank() - 1;
                let t = t.broadcast_as(y.narrow(last, 0, 1)?.shape())?;
                Tensor::cat(&[y, &t], last)?
            }
        };
        self.layers.iter().try_fold(input, |x, layer| layer.forward(&x))
    }

    fn linearize(&self, t: &Time, y: &Tensor) -> Result<(Tensor, Pullback<'_>)> {
        self.check(t, y)?;
        #[cfg(feature = "cuda")]
        if y.device().is_cuda() {
            return self.linearized_on_gpu(t, y);
        }
        if !y.device().is_cpu() {
            return linearize_by_autograd(|t, y| self.trace(t, y), t, y);
        }
        match y.dtype() {
            DType::F32 => self.linearized::<f32>(t, y),
            _ => self.linearized::<f64>(t, y),
        }
    }

    fn supports_row_subset(&self) -> bool {
        true
    }
}

/// Returns the numbers of a state, after checking that every layer's outputs are the next one's inputs.
fn check_sizes(layers: &[Linear], time: TimeInput) -> Result<usize> {
    let sizes = layers.iter().map(Linear::sizes).collect::<Result<Vec<_>>>()?;
    let (Some(&(dim, _)), Some(&(_, inputs))) = (sizes.last(), sizes.first()) else {
        bail!("a field needs at least one layer");
    };
    let expected = dim + usize::from(time == TimeInput::Concatenated);
    if inputs != expected {
        bail!("the first layer has {inputs} inputs, but state and time are {expected} numbers");
    }
    for (i, ((outputs, _), (_, inputs))) in sizes.iter().zip(sizes.iter().skip(1)).enumerate() {
        if outputs != inputs {
            bail!("layer {i} has {outputs} outputs, but the next has {inputs} inputs");
        }
    }
    Ok(dim)
}

/// Returns the dtype of every layer.
fn check_dtypes(layers: &[Linear]) -> Result<DType> {
    let mut dtypes = layers.iter().map(|layer| layer.weight.dtype()).enumerate();
    let Some((_, first)) = dtypes.next() else { bail!("a field needs at least one layer") };
    match dtypes.find(|&(_, dtype)| dtype != first) {
        Some((i, dtype)) => bail!("layer {i} is {dtype:?}, but the first is {first:?}; cast one"),
        None if !matches!(first, DType::F32 | DType::F64) => {
            bail!("fields are f32 or f64, but the layers are {first:?}")
        }
        None => Ok(first),
    }
}

/// Every parameter with the number of its layer.
fn parameters(layers: &[Linear]) -> impl Iterator<Item = (usize, &Tensor)> {
    layers.iter().enumerate().flat_map(|(i, layer)| {
        let parameters = [Some(&layer.weight), layer.bias.as_ref()];
        parameters.into_iter().flatten().map(move |parameter| (i, parameter))
    })
}
