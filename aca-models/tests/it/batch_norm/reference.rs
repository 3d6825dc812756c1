//! Batch norms by their definition.

use aca_models::layers::{BatchNorm2d, BatchNormMode};

use super::numbers;

/// Mean and biased variance of the numbers of a channel.
pub(super) fn moments(
    x: &[f64],
    [_, channels, height, width]: [usize; 4],
    channel: usize,
) -> (f64, f64) {
    let own = |i: &usize| i / (height * width) % channels == channel;
    let own: Vec<f64> = (0..x.len()).filter(own).map(|i| x[i]).collect();
    let count = own.len() as f64;
    let mean = own.iter().sum::<f64>() / count;
    (mean, own.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count)
}

/// The value by its definition.
pub(super) fn reference(layer: &BatchNorm2d, x: &[f64], shape: [usize; 4]) -> Vec<f64> {
    let [weight, bias] = [&layer.weight, &layer.bias].map(numbers);
    let running = layer.running_statistics().map(|var| numbers(&var));
    let value = |i: usize| {
        let channel = i / (shape[2] * shape[3]) % shape[1];
        let (mean, variance) = match layer.mode() {
            BatchNormMode::Eval => (running[0][channel], running[1][channel]),
            _ => moments(x, shape, channel),
        };
        let y = weight[channel] * (x[i] - mean) / (variance + layer.eps).sqrt() + bias[channel];
        if layer.relu { y.max(0.0) } else { y }
    };
    (0..x.len()).map(value).collect()
}

/// The cotangent of x by the product and chain rules, and those of weight and bias.
pub(super) fn reference_gradients(
    layer: &BatchNorm2d,
    x: &[f64],
    z: &[f64],
    shape: [usize; 4],
) -> [Vec<f64>; 3] {
    let [weight, value] = [numbers(&layer.weight), reference(layer, x, shape)];
    let running = layer.running_statistics().map(|var| numbers(&var));
    let mut x_bar = vec![0.0; x.len()];
    let (mut weight_bar, mut bias_bar) = (vec![0.0; shape[1]], vec![0.0; shape[1]]);
    for channel in 0..shape[1] {
        let own = |i: &usize| i / (shape[2] * shape[3]) % shape[1] == channel;
        let own: Vec<usize> = (0..x.len()).filter(own).collect();
        let batch = layer.mode() != BatchNormMode::Eval;
        let known = (running[0][channel], running[1][channel]);
        let (mean, variance) = if batch { moments(x, shape, channel) } else { known };
        let deviation = (variance + layer.eps).sqrt();
        let passed = |i: usize| if layer.relu && value[i] == 0.0 { 0.0 } else { z[i] };
        let normal = |i: usize| (x[i] - mean) / deviation;
        bias_bar[channel] = own.iter().map(|&i| passed(i)).sum();
        weight_bar[channel] = own.iter().map(|&i| passed(i) * normal(i)).sum();
        let count = own.len() as f64;
        for &i in &own {
            let through = (bias_bar[channel] + normal(i) * weight_bar[channel]) / count;
            let through = if batch { through } else { 0.0 };
            x_bar[i] = weight[channel] / deviation * (passed(i) - through);
        }
    }
    [x_bar, weight_bar, bias_bar]
}
