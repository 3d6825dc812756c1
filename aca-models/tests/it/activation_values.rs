//! Activations against exact values.

use aca_models::layers::Activation;
use candle_core::{Device, Tensor};
use candle_nn::Module;

fn of_slice(activation: Activation, x: &[f32]) -> Vec<f32> {
    let x = Tensor::from_slice(x, x.len(), &Device::Cpu).unwrap();
    activation.forward(&x).unwrap().to_vec1().unwrap()
}

pub(crate) fn exact(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid if x >= 0.0 => 1.0 / (1.0 + (-x).exp()),
        Activation::Sigmoid => x.exp() / (1.0 + x.exp()),
        Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Activation::Elu => x.max(x.min(0.0).exp_m1()),
        Activation::Relu => x.max(0.0),
        Activation::Gelu => 0.5 * x * candle_core::cpu::erf::erfc_f64(-x / 2f64.sqrt()),
    }
}

/// Distance in units of the last place of `exact` as an `f32`.
fn ulps(value: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    let unit = f64::from(rounded.abs().next_up()) - f64::from(rounded.abs());
    (f64::from(value) - exact).abs() / unit
}

/// Numbers of every magnitude and both signs: every 6151st bit pattern.
fn finite_numbers() -> Vec<f32> {
    (0..=u32::MAX).step_by(6151).map(f32::from_bits).filter(|x| x.is_finite()).collect()
}

fn assert_ulps(activation: Activation, bound: f64) {
    let x = finite_numbers();
    for (x, value) in x.iter().zip(of_slice(activation, &x)) {
        let exact = exact(activation, f64::from(*x));
        let off = ulps(value, exact);
        assert!(
            off <= bound,
            "{activation:?}({x:e}) = {value:e}, exact {exact:e}: {off} ulps off, bound {bound}"
        );
    }
}

#[test]
fn tanh_is_within_three_ulps_of_f64() {
    assert_ulps(Activation::Tanh, 3.0);
}

#[test]
fn sigmoid_is_within_three_ulps_of_f64() {
    assert_ulps(Activation::Sigmoid, 3.0);
}

#[test]
fn softplus_is_within_three_ulps_of_f64() {
    assert_ulps(Activation::Softplus, 3.0);
}

#[test]
fn elu_is_within_one_ulp_of_f64() {
    assert_ulps(Activation::Elu, 1.0);
}

#[test]
fn relu_is_exact() {
    assert_ulps(Activation::Relu, 0.0);
}

#[test]
fn gelu_is_within_six_ulps_of_f64_in_both_tails() {
    assert_ulps(Activation::Gelu, 6.0);
}

#[test]
fn double_precision_is_within_six_ulps_of_exact_values() {
    let rows = include_str!("activations.csv").lines().filter(|line| !line.starts_with('#'));
    let rows: Vec<Vec<f64>> =
        rows.map(|row| row.split(", ").map(|x| x.parse().unwrap()).collect()).collect();
    let x: Vec<f64> = rows.iter().map(|row| row[0]).collect();
    let x = Tensor::from_slice(&x, x.len(), &Device::Cpu).unwrap();
    let columns = [
        (Activation::Tanh, 3.0),
        (Activation::Sigmoid, 3.0),
        (Activation::Softplus, 3.0),
        (Activation::Elu, 2.0),
        (Activation::Gelu, 6.0),
    ];
    for (column, (activation, bound)) in columns.into_iter().enumerate() {
        let values = activation.forward(&x).unwrap().to_vec1::<f64>().unwrap();
        for (row, value) in rows.iter().zip(values) {
            let exact = row[column + 1];
            let off = (value - exact).abs() / (exact.abs().next_up() - exact.abs());
            assert!(
                off <= bound,
                "{activation:?}({:e}) = {value:e}, exact {exact:e}: {off} ulps off, bound {bound}",
                row[0]
            );
        }
    }
}

#[test]
fn limits_at_infinity_are_taken() {
    let ends = [f32::NEG_INFINITY, f32::INFINITY];
    for (activation, expected) in [
        (Activation::Tanh, [-1.0, 1.0]),
        (Activation::Sigmoid, [0.0, 1.0]),
        (Activation::Softplus, [0.0, f32::INFINITY]),
        (Activation::Elu, [-1.0, f32::INFINITY]),
        (Activation::Relu, [0.0, f32::INFINITY]),
        (Activation::Gelu, [0.0, f32::INFINITY]),
    ] {
        assert_eq!(of_slice(activation, &ends), expected, "{activation:?} at -inf and inf");
    }
}

#[test]
fn nan_stays_nan() {
    for activation in Activation::ALL {
        let value = of_slice(activation, &[f32::NAN])[0];
        assert!(value.is_nan(), "{activation:?}(NaN) = {value}");
    }
}

#[test]
fn zeros_keep_their_sign_where_the_function_is_odd_at_zero() {
    for activation in [Activation::Tanh, Activation::Elu, Activation::Gelu] {
        let signs = of_slice(activation, &[-0.0, 0.0]).into_iter().map(f32::is_sign_negative);
        assert_eq!(signs.collect::<Vec<_>>(), [true, false], "{activation:?} of -0 and 0");
    }
}
