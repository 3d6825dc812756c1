//! Constants, names and refusals.

use aca_models::layers::{Conv2d, Conv2dConfig};
use candle_core::{DType, Device, Var};
use candle_nn::{Module, VarBuilder, VarMap};

use super::{Case, inputs};
use crate::activations::filled;

#[test]
fn constants_get_no_gradient() {
    let case = Case::same(1, 2, 4);
    let [x, weight, bias, _] = inputs(case, DType::F32);
    let x = Var::from_tensor(&x).unwrap();
    let value = case.layer(&weight, Some(&bias)).forward(&x).unwrap();
    let grads = value.sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some() && grads.get(&weight).is_none() && grads.get(&bias).is_none());
}

#[test]
fn new_layers_have_the_variables_of_pytorch() {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let config = Conv2dConfig { bias: true, ..Conv2dConfig::same([1, 3]) };
    Conv2d::new(2, 5, config, vb).unwrap();
    let data = map.data().lock().unwrap();
    let mut shapes: Vec<_> = data.iter().map(|(name, var)| (name.as_str(), var.dims())).collect();
    shapes.sort_unstable();
    assert_eq!(shapes, [("bias", &[5][..]), ("weight", &[5, 2, 1, 3])]);
}

#[test]
fn what_does_not_fit_is_refused_with_its_sizes() {
    let layer = |padding: usize, stride: usize| Conv2d {
        weight: filled(&[4, 2, 3, 3], DType::F32),
        bias: None,
        stride,
        padding: [padding; 2],
    };
    let x = |shape: &[usize]| filled(shape, DType::F32);
    let long = Conv2d { bias: Some(x(&[3])), ..layer(1, 1) };
    for (layer, x, words) in [
        (layer(1, 1), x(&[1, 3, 5, 5]), "2 input channels, but x has shape [1, 3, 5, 5]"),
        (layer(0, 1), x(&[1, 2, 5, 2]), "kernels of [3, 3] do not fit into images of [5, 2]"),
        (layer(1, 1), x(&[2, 5, 5]), "[batch, channels, height, width], not [2, 5, 5]"),
        (layer(1, 0), x(&[1, 2, 5, 5]), "a stride of 0"),
        (layer(1, 1), filled(&[1, 2, 5, 5], DType::F64), "x is F64 but a parameter is F32"),
        (long, x(&[1, 2, 5, 5]), "a bias of shape [3] does not fit 4 outputs"),
    ] {
        let message = layer.forward(&x).unwrap_err().to_string();
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
}
