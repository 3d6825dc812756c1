//! Convolutions with their batch norms, one after the other, as a vector field.

use aca_core::kernels::has_kernels;
use aca_core::{Cotangents, Pullback, Time, VectorField, linearize_by_autograd};
use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, Var, bail};
use candle_nn::{Module, VarBuilder};

use crate::layers::batch_norm::Normalise;
use crate::layers::{BatchNorm2d, BatchNormMode, Conv2d, Conv2dConfig};

/// `dy/dt = relu(norm_2(conv_2(relu(norm_1(conv_1(y))))))`, the residual branch of a ResNet of 18 layers, as an
/// autonomous field: NODE18's block. With other layers it is the block of another residual network, such as
/// SqueezeNext.
///
/// # Shapes
/// State: `[batch, channels, height, width]`, `f32` or `f64` as the parameters, on their device.
///
/// # Gradient
/// In closed form, with respect to the state and the parameters that are variables.
/// [`trace`](VectorField::trace) gives the same function as nodes of candle's graph: of the layers, or
/// where second derivatives are enabled of candle's own operations, which have them.
///
/// In training mode every evaluation moves the running statistics; the solver sets them back where it
/// rejects a step or repeats one.
///
/// # Errors
/// Evaluation fails when the state does not fit.
///
/// # Cost
/// `linearize` keeps the state and three more of its size (two more for every further layer); the pullback takes twice the time of an
/// evaluation.
///
/// # Source
/// He et al., "Deep residual learning for image recognition", 2016; as a field: Zhuang et al., "Adaptive
/// checkpoint adjoint method for gradient estimation in neural ODE", 2020.
///
/// # Example
/// ```
/// use aca_core::{Time, VectorField};
/// use aca_models::fields::ConvBlock;
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{VarBuilder, VarMap};
///
/// # fn main() -> candle_core::Result<()> {
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let field = ConvBlock::new(8, vb)?;
/// let y = Tensor::randn(0f32, 1.0, (2, 8, 6, 6), &Device::Cpu)?;
/// assert_eq!(field.eval(&Time::new(0.0), &y)?.dims(), [2, 8, 6, 6]);
/// assert_eq!(field.variables().len(), 6);
/// # Ok(())
/// # }
/// ```
pub struct ConvBlock {
    layers: Vec<(Conv2d, BatchNorm2d)>,
    variables: Vec<Var>,
}

impl ConvBlock {
    /// Returns a field of two 3x3 kernels without bias whose variables have PyTorch's names: `conv1.weight`,
    /// `bn1.weight`, `bn1.bias`, `conv2.weight` and so on.
    pub fn new(channels: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let config = Conv2dConfig::same([3, 3]);
        let conv = |name: &str| Conv2d::new(channels, channels, config, vb.pp(name));
        let norm = |name: &str| BatchNorm2d::new(channels, vb.pp(name));
        Self::from_layers([(conv("conv1")?, norm("bn1")?), (conv("conv2")?, norm("bn2")?)])
    }

    /// Joins any number of given layers, whose parameters may be variables or constants. A ReLU follows each norm.
    ///
    /// # Errors
    /// When sizes or dtypes do not fit, when a parameter is computed from variables, or without layers.
    pub fn from_layers(layers: impl IntoIterator<Item = (Conv2d, BatchNorm2d)>) -> Result<Self> {
        let layers = layers.into_iter().map(|(conv, norm)| (conv, norm.with_relu()));
        let layers: Vec<_> = layers.collect();
        let Some((first, _)) = layers.first() else { bail!("a field needs at least one layer") };
        let dtype = first.weight.dtype();
        let mut inputs = first.weight.dims().get(1).copied().unwrap_or(0);
        let (channels, mut variables) = (inputs, Vec::new());
        for (i, (conv, norm)) in layers.iter().enumerate() {
            let (weight, norm_dims) = (conv.weight.dims(), norm.weight.dims());
            if weight.get(1) != Some(&inputs) || norm_dims != &weight[..1] {
                bail!(
                    "convolution {i} of shape {weight:?} does not fit {inputs} channels before it or a norm of \
                     shape {norm_dims:?} after it"
                );
            }
            inputs = weight[0];
            for parameter in conv.parameters().chain([&norm.weight, &norm.bias]) {
                let known = |var: &Var| variables.iter().any(|other: &Var| other.id() == var.id());
                let own = variable(i, parameter, dtype)?.filter(|var| !known(var));
                variables.extend(own);
            }
        }
        if inputs != channels {
            bail!("the field makes {inputs} channels of {channels}, but a slope is like its state");
        }
        Ok(Self { layers, variables })
    }

    /// The batch norms.
    pub fn norms(&self) -> impl Iterator<Item = &BatchNorm2d> {
        self.layers.iter().map(|(_, norm)| norm)
    }

    /// The variables: first convolution, first norm, second convolution and so on, weight before bias.
    pub fn variables(&self) -> Vec<Var> {
        self.variables.clone()
    }

    /// Sets which statistics the norms use from now on.
    pub fn set_mode(&self, mode: BatchNormMode) {
        self.norms().for_each(|norm| norm.set_mode(mode));
    }

    fn check(&self, y: &Tensor) -> Result<()> {
        let first = &self.layers[0].0;
        let (g, dtype) = (first.geometry(y)?, first.weight.dtype());
        if !matches!(dtype, DType::F32 | DType::F64) {
            bail!("a block runs on f32 or f64, not {dtype:?}");
        }
        if g.result != g.size {
            bail!(
                "the field makes images of {:?} of those of {:?}, but a slope is like its state",
                g.result,
                g.size
            );
        }
        Ok(())
    }
}

impl VectorField for ConvBlock {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.check(y)?;
        if !has_kernels(y.device()) {
            return self.trace(t, &y.detach());
        }
        self.layers.iter().try_fold(y.detach(), |x, layer| Ok(Place::of(layer, x)?.0))
    }

    fn trace(&self, _t: &Time, y: &Tensor) -> Result<Tensor> {
        self.check(y)?;
        let mut layers = self.layers.iter();
        layers.try_fold(y.clone(), |x, (conv, norm)| norm.forward(&conv.forward(&x)?))
    }

    fn linearize(&self, t: &Time, y: &Tensor) -> Result<(Tensor, Pullback<'_>)> {
        self.check(y)?;
        if !has_kernels(y.device()) {
            return linearize_by_autograd(|t, y| self.trace(t, y), t, y);
        }
        let (mut x, mut places) = (y.detach(), Vec::with_capacity(self.layers.len()));
        for layer in &self.layers {
            let (value, place) = Place::of(layer, x)?;
            x = value;
            places.push(place);
        }
        let shape = x.shape().clone();
        let pullback = move |lambda: &Tensor| {
            if *lambda.shape() != shape {
                let (got, expected) = (lambda.dims(), shape.dims());
                bail!("a cotangent of shape {got:?} does not fit a state of shape {expected:?}");
            }
            let (mut y, mut theta) = (lambda.clone(), GradStore::default());
            for place in places.iter().rev() {
                y = place.pull(&y, &mut theta)?;
            }
            Ok(Cotangents { y, theta, t: None })
        };
        Ok((x, Pullback::new(pullback)))
    }

    fn running_statistics(&self) -> Vec<Var> {
        self.norms().flat_map(BatchNorm2d::running_statistics).collect()
    }
}

/// Where a layer and its norm were linearized.
struct Place<'a> {
    conv: &'a Conv2d,
    norm: &'a BatchNorm2d,
    x: Tensor,
    /// What the convolution made of x.
    sums: Tensor,
    normalise: Normalise,
}

impl<'a> Place<'a> {
    /// Their value at `x`, and what pulls a cotangent of it back.
    fn of((conv, norm): &'a (Conv2d, BatchNorm2d), x: Tensor) -> Result<(Tensor, Self)> {
        let sums = conv.value(&x)?;
        let (value, normalise) = norm.linearize(&sums)?;
        Ok((value, Self { conv, norm, x, sums, normalise }))
    }

    /// Pulls a cotangent back to x, and adds those of variables to `theta`.
    fn pull(&self, lambda: &Tensor, theta: &mut GradStore) -> Result<Tensor> {
        let parameters = [&self.norm.weight, &self.norm.bias];
        let [sums, weight, bias] = self.normalise.pull(&self.sums, parameters, lambda)?;
        for (parameter, cotangent) in parameters.into_iter().zip([weight, bias]) {
            add(theta, parameter, Some(cotangent))?;
        }
        let bias = self.conv.bias.as_ref();
        let wanted = [true, self.conv.weight.is_variable(), bias.is_some_and(|b| b.is_variable())];
        let [x, weight, bias_bar] = self.conv.pull(&self.x, &sums, wanted)?;
        add(theta, &self.conv.weight, weight)?;
        if let Some(bias) = bias {
            add(theta, bias, bias_bar)?;
        }
        x.map_or_else(|| self.x.zeros_like(), Ok)
    }
}

/// Adds the cotangent of a parameter that is a variable, which several layers may share.
fn add(theta: &mut GradStore, parameter: &Tensor, cotangent: Option<Tensor>) -> Result<()> {
    if let Some(cotangent) = cotangent.filter(|_| parameter.is_variable()) {
        let sum = match theta.remove(parameter) {
            Some(other) => (other + cotangent)?,
            None => cotangent,
        };
        theta.insert(parameter, sum);
    }
    Ok(())
}

/// The variable that a parameter of layer `i` is, if it is one.
fn variable(i: usize, parameter: &Tensor, dtype: DType) -> Result<Option<Var>> {
    if parameter.dtype() != dtype {
        let got = parameter.dtype();
        bail!("a parameter of layer {i} is {got:?}, but the first is {dtype:?}; cast one");
    }
    if parameter.is_variable() {
        return Var::from_tensor(parameter).map(Some);
    }
    if parameter.track_op() {
        bail!(
            "a parameter of layer {i} is computed from variables, so its gradient would be lost; detach \
             it or write the field with candle's operations"
        );
    }
    Ok(None)
}
