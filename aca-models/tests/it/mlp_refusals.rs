//! What fields are made of, and what they refuse.

use aca_core::{Time, VectorField};
use aca_models::fields::{Mlp, MlpConfig, TimeInput};
use aca_models::layers::{Activation, Linear};
use candle_core::{DType, Device};
use candle_nn::{VarBuilder, VarMap};

use crate::activations::filled;
use crate::linear::layer;
use crate::mlp_field::{clocks, tanh};

#[test]
fn new_fields_have_an_affine_last_layer_and_named_variables() {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let (hidden, activation, time) = (vec![5, 6], Activation::Gelu, TimeInput::Concatenated);
    let field = Mlp::new(&MlpConfig { dim: 2, hidden, activation, time }, vb).unwrap();
    let activations: Vec<_> = field.layers().iter().map(|layer| layer.activation).collect();
    assert_eq!(activations, [Activation::Gelu, Activation::Gelu, Activation::Identity]);
    let data = map.data().lock().unwrap();
    let names = ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"];
    for (name, variable) in names.iter().zip(field.variables()) {
        assert_eq!(data[*name].id(), variable.id(), "{name}");
    }
}

#[test]
fn layers_that_do_not_fit_are_refused_with_their_numbers() {
    let of = |inputs, outputs| layer((inputs, outputs), true, Activation::Tanh, DType::F64);
    let refuse = |layers: Vec<Linear>, time| {
        let error = Mlp::from_layers(layers, time).map(|_| ()).unwrap_err().to_string();
        error.lines().next().unwrap().to_owned()
    };
    assert_eq!(refuse(vec![], TimeInput::None), "a field needs at least one layer");
    assert_eq!(
        refuse(vec![of(3, 4), of(4, 3)], TimeInput::Concatenated),
        "the first layer has 3 inputs, but state and time are 4 numbers"
    );
    assert_eq!(
        refuse(vec![of(3, 4), of(5, 3)], TimeInput::None),
        "layer 0 has 4 outputs, but the next has 5 inputs"
    );
    let single = layer((4, 3), true, Activation::Tanh, DType::F32);
    assert_eq!(
        refuse(vec![of(3, 4), single], TimeInput::None),
        "layer 1 is F32, but the first is F64; cast one"
    );
    let half = layer((3, 3), true, Activation::Tanh, DType::F16);
    assert_eq!(
        refuse(vec![half], TimeInput::None),
        "fields are f32 or f64, but the layers are F16"
    );
    let Linear { weight, bias, activation } = of(3, 3);
    let computed = Linear { weight: (weight * 2.0).unwrap(), bias, activation };
    assert_eq!(
        refuse(vec![computed], TimeInput::None),
        "a parameter of layer 0 is computed from variables, so its gradient would be lost; detach it or \
         write the field with candle's operations"
    );
}

#[test]
fn states_and_times_that_do_not_fit_are_refused_with_their_numbers() {
    let field = tanh(3, &[4], TimeInput::Concatenated, DType::F64);
    let refuse = |t: &Time, shape: &[usize], dtype| {
        let error = field.eval(t, &filled(shape, dtype)).unwrap_err().to_string();
        error.lines().next().unwrap().to_owned()
    };
    let now = Time::new(0.0);
    assert_eq!(
        refuse(&now, &[2, 4], DType::F64),
        "the field has states of 3 numbers, but y has shape [2, 4]"
    );
    assert_eq!(refuse(&now, &[3], DType::F32), "y is F32 but the parameters are F64; cast one");
    let three = clocks([0.0, 1.0, 2.0]);
    assert_eq!(
        refuse(&three, &[2, 3], DType::F64),
        "times of shape [3, 1] do not fit states of shape [2, 3]; give one, or one per row: [batch, 1, ..]"
    );
}

#[test]
fn batches_without_rows_have_cotangents_of_zero() {
    let field = tanh(3, &[8], TimeInput::Concatenated, DType::F64);
    let y = filled(&[1, 3], DType::F64).narrow(0, 0, 0).unwrap();
    let time = Time::new(0.5).track();
    let (_, pullback) = field.linearize(&time, &y).unwrap();
    let cotangents = pullback.apply(&y).unwrap();
    assert_eq!(cotangents.y.dims(), [0, 3]);
    assert_eq!(cotangents.t.unwrap().to_scalar::<f64>().unwrap(), 0.0);
}

#[test]
fn the_numbers_of_one_state_are_no_samples() {
    let layers = vec![layer((2, 2), true, Activation::Tanh, DType::F64)];
    let field = Mlp::from_layers(layers, TimeInput::None).unwrap();
    let solver = aca_core::Solver::fixed(aca_tableau::RK4, 0.1);
    let solver = aca_core::Solver { batching: aca_core::Batching::PerSample, ..solver };
    let y0 = filled(&[2], DType::F64);
    let refusal = solver.solve(&field, &y0, [(0.0, 1.0); 2], &mut ()).unwrap_err();
    assert!(refusal.to_string().contains("reshape it to [1, 2]"), "{refusal}");
}
