use aca_core::{Time, VectorField};
use aca_models::fields::{ConvBlock, Mlp, TimeInput};
use aca_models::layers::{Activation, BatchNorm2d, BatchNormMode, Conv2d, Linear};
use candle_core::{DType, Device, Tensor, Var};

use super::{assert_same, cotangent, var};
use crate::mlp_field::clocks;

/// Slopes, twice, and all cotangents.
fn linearized(field: &dyn VectorField, t: &Time, y: &Tensor, vars: &[Var]) -> Vec<Tensor> {
    let slopes = field.eval(t, y).unwrap();
    let (f, pullback) = field.linearize(t, y).unwrap();
    let bars = pullback.apply(&cotangent(&f)).unwrap();
    let theta = vars.iter().map(|var| bars.theta.get(var).unwrap().clone());
    [slopes, f, bars.y].into_iter().chain(theta).chain(bars.t.clone()).collect()
}

/// A perceptron 6 -> 32 -> 20 -> 6.
fn mlp(activation: Activation, time: TimeInput, place: (DType, &Device)) -> Mlp {
    let first = 6 + usize::from(time == TimeInput::Concatenated);
    let sizes = [first, 32, 20, 6];
    let layer = |(i, size): (usize, &[usize])| Linear {
        weight: var(&[size[1], size[0]], 0.4, place).as_tensor().clone(),
        bias: (i != 1).then(|| var(&[size[1]], 0.3, place).as_tensor().clone()),
        activation: if i < 2 { activation } else { Activation::Identity },
    };
    Mlp::from_layers(sizes.windows(2).enumerate().map(layer).collect(), time).unwrap()
}

#[test]
fn perceptrons_on_a_gpu_have_the_cpus_slopes_and_pullbacks() {
    for activation in [Activation::Tanh, Activation::Gelu, Activation::Identity] {
        for time in [TimeInput::None, TimeInput::Concatenated] {
            for (shape, own_times) in [(&[300, 6][..], false), (&[4, 5, 6], true), (&[6], false)] {
                let what = format!("{} {time:?} {shape:?}", activation.name());
                assert_same(&what, 1024.0, |dtype, device| {
                    let field = mlp(activation, time, (dtype, device));
                    let y = var(shape, 1.0, (dtype, device)).as_detached_tensor();
                    let t = match own_times {
                        true => clocks((0..shape[0]).map(|i| 0.3 * i as f64)),
                        false => Time::new(0.4),
                    };
                    linearized(&field, &t, &y, &field.variables())
                });
            }
        }
    }
}

/// A block of so many channels.
fn block(channels: usize, mode: BatchNormMode, place: (DType, &Device)) -> ConvBlock {
    let tensor = |shape: &[usize], scale| var(shape, scale, place).as_tensor().clone();
    let conv = |scale| {
        let weight = tensor(&[channels, channels, 3, 3], scale);
        Conv2d { weight, bias: None, stride: 1, padding: [1, 1] }
    };
    let norm = |scale| {
        let running = [tensor(&[channels], 0.1), tensor(&[channels], 0.1).sqr().unwrap()];
        let running = [running[0].detach(), running[1].affine(1.0, 0.5).unwrap().detach()];
        let parameters = [tensor(&[channels], scale), tensor(&[channels], 0.1)];
        BatchNorm2d::from_tensors(parameters, running).unwrap()
    };
    let field = ConvBlock::from_layers([(conv(0.3), norm(0.8)), (conv(0.4), norm(0.7))]).unwrap();
    field.set_mode(mode);
    field
}

#[test]
fn blocks_on_a_gpu_have_the_cpus_slopes_pullbacks_and_statistics() {
    for mode in [BatchNormMode::Train, BatchNormMode::Frozen, BatchNormMode::Eval] {
        // Two norms divide by deviations that both convolutions rounded.
        assert_same(&format!("{mode:?}"), 1e4, |dtype, device| {
            let field = block(8, mode, (dtype, device));
            let y = var(&[3, 8, 6, 6], 1.0, (dtype, device)).as_detached_tensor();
            let mut all = linearized(&field, &Time::new(0.0), &y, &field.variables());
            all.extend(field.running_statistics().iter().map(Var::as_detached_tensor));
            all
        });
    }
}
