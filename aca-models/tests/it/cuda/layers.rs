use aca_models::layers::{Activation, BatchNorm2d, BatchNormMode, Conv2d, Linear};
use candle_core::{Tensor, Var};
use candle_nn::Module;

use super::{assert_same, cotangent, value_and_gradients, var};

#[test]
fn activations_on_a_gpu_have_the_cpus_values_and_derivatives() {
    for activation in Activation::ALL {
        for shape in [&[7][..], &[5, 8], &[64, 129]] {
            // Polynomials of ours there, NVIDIA's functions here: each is right to a few units.
            assert_same(activation.name(), 16.0, |dtype, device| {
                let x = var(shape, 3.0, (dtype, device));
                value_and_gradients(&activation.forward(&x).unwrap(), &[&x])
            });
        }
    }
}

#[test]
fn activations_on_a_gpu_keep_limits_and_nan() {
    for activation in Activation::ALL {
        assert_same(activation.name(), 16.0, |dtype, device| {
            let ends = [f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 800.0, -800.0];
            let x = Tensor::new(&ends, &candle_core::Device::Cpu).unwrap();
            let x = x.to_dtype(dtype).unwrap().to_device(device).unwrap();
            let y = activation.forward(&x).unwrap();
            // Infinities compare as large numbers.
            vec![y.clamp(-1e30, 1e30).unwrap()]
        });
        let Some(gpu) = super::gpu() else { return };
        let nan = Tensor::new(&[f64::NAN], &gpu).unwrap();
        let y = activation.forward(&nan).unwrap().to_vec1::<f64>().unwrap();
        assert!(y[0].is_nan(), "{}: {y:?} of NaN", activation.name());
    }
}

/// A layer of so many outputs and inputs, and its variables.
fn linear(
    [out, inputs]: [usize; 2],
    bias: bool,
    activation: Activation,
    place: (candle_core::DType, &candle_core::Device),
) -> (Linear, Vec<Var>) {
    let weight = var(&[out, inputs], 0.4, place);
    let bias = bias.then(|| var(&[out], 0.7, place));
    let layer = Linear {
        weight: weight.as_tensor().clone(),
        bias: bias.as_ref().map(|bias| bias.as_tensor().clone()),
        activation,
    };
    (layer, [Some(weight), bias].into_iter().flatten().collect())
}

#[test]
fn dense_layers_on_a_gpu_have_the_cpus_values_and_gradients() {
    for activation in Activation::ALL {
        for (rows, sizes, bias) in
            [(5, [8, 12], true), (3, [7, 5], true), (300, [33, 40], true), (9, [4, 6], false)]
        {
            let what = format!("{} {rows} x {sizes:?}, bias {bias}", activation.name());
            assert_same(&what, 256.0, |dtype, device| {
                let (layer, vars) = linear(sizes, bias, activation, (dtype, device));
                let x = var(&[rows, sizes[1]], 1.0, (dtype, device));
                let vars: Vec<&Var> = vars.iter().chain([&x]).collect();
                value_and_gradients(&layer.forward(&x).unwrap(), &vars)
            });
        }
    }
}

#[test]
fn linearized_dense_layers_on_a_gpu_pull_back_as_the_cpus_do() {
    for activation in Activation::ALL {
        assert_same(activation.name(), 256.0, |dtype, device| {
            let (layer, _) = linear([9, 16], true, activation, (dtype, device));
            let x = var(&[70, 16], 1.0, (dtype, device));
            let (value, pullback) = layer.linearize(&x).unwrap();
            let bars = pullback.pull(&cotangent(&value)).unwrap();
            vec![value, bars.x, bars.weight, bars.bias.unwrap()]
        });
    }
}

#[test]
fn batch_norms_on_a_gpu_have_the_cpus_values_gradients_and_statistics() {
    for mode in [BatchNormMode::Train, BatchNormMode::Frozen, BatchNormMode::Eval] {
        for (shape, relu) in [
            ([3, 5, 4, 4], true),
            ([2, 3, 3, 5], false),
            ([1, 2, 1, 2], false),
            ([9, 4, 32, 32], true),
        ] {
            let what = format!("{mode:?} {shape:?}, relu {relu}");
            // A mean far from zero costs the bits of x - mean in both.
            assert_same(&what, 2048.0, |dtype, device| {
                let place = (dtype, device);
                let channels = [shape[1]];
                let (weight, bias) = (var(&channels, 0.6, place), var(&channels, 0.3, place));
                let running = [var(&channels, 0.2, place), var(&channels, 0.4, place)];
                let running = [
                    running[0].as_detached_tensor(),
                    running[1].sqr().unwrap().affine(1.0, 0.5).unwrap().detach(),
                ];
                let parameters = [weight.as_tensor().clone(), bias.as_tensor().clone()];
                let layer = BatchNorm2d::from_tensors(parameters, running).unwrap();
                let layer = if relu { layer.with_relu() } else { layer };
                layer.set_mode(mode);
                let x = var(&shape, 2.0, place);
                let value = layer.forward(&(x.as_tensor() + 1.0).unwrap()).unwrap();
                let mut all = value_and_gradients(&value, &[&x, &weight, &bias]);
                all.extend(layer.running_statistics().map(|var| var.as_detached_tensor()));
                all
            });
        }
    }
}

#[test]
fn convolutions_on_a_gpu_have_the_cpus_values_and_gradients() {
    for (size, kernel, stride, padding, bias) in [
        ([8, 8], [3, 3], 1, [1, 1], false),
        ([9, 7], [3, 3], 2, [1, 1], true),
        ([8, 6], [1, 1], 2, [0, 0], false),
        ([7, 9], [3, 1], 1, [1, 0], true),
        ([8, 8], [1, 3], 1, [0, 1], false),
    ] {
        let what = format!("{size:?} by {kernel:?}, stride {stride}, bias {bias}");
        // Winograd's transforms on the CPU cost a few bits of sums of up to 117 products.
        assert_same(&what, 1024.0, |dtype, device| {
            let place = (dtype, device);
            let weight = var(&[6, 13, kernel[0], kernel[1]], 0.5, place);
            let bias = bias.then(|| var(&[6], 0.5, place));
            let layer = Conv2d {
                weight: weight.as_tensor().clone(),
                bias: bias.as_ref().map(|bias| bias.as_tensor().clone()),
                stride,
                padding,
            };
            let x = var(&[3, 13, size[0], size[1]], 1.0, place);
            let vars: Vec<&Var> = [&x, &weight].into_iter().chain(&bias).collect();
            value_and_gradients(&layer.forward(&x).unwrap(), &vars)
        });
    }
}
