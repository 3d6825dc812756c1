//! The fused multilayer perceptron against candle's autograd of its trace.

use std::sync::Arc;

use aca_adjoint::{Gradient, Ode};
use aca_core::{Solver, Time, Tolerance, VectorField};
use aca_dense::SaveAt;
use aca_models::fields::{Mlp, TimeInput};
use aca_models::layers::{Activation, Linear};
use aca_tableau::DOPRI5;
use candle_core::{DType, Tensor, Var};
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use crate::activations::{distance, filled};
use crate::linear::layer;

/// A field of layers with the given sizes between them.
fn field(
    dim: usize,
    hidden: &[usize],
    (activation, last): (Activation, Activation),
    time: TimeInput,
    (bias, dtype): (bool, DType),
) -> Mlp {
    let first = dim + usize::from(time == TimeInput::Concatenated);
    let sizes: Vec<usize> = [first].iter().chain(hidden).chain([&dim]).copied().collect();
    let activations = std::iter::repeat_n(activation, hidden.len()).chain([last]);
    let layers = sizes.windows(2).zip(activations);
    let layers =
        layers.map(|(size, activation)| layer((size[0], size[1]), bias, activation, dtype));
    Mlp::from_layers(layers.collect(), time).unwrap()
}

pub(crate) fn tanh(dim: usize, hidden: &[usize], time: TimeInput, dtype: DType) -> Mlp {
    field(dim, hidden, (Activation::Tanh, Activation::Identity), time, (true, dtype))
}

/// A time for each row of a batch.
pub(crate) fn clocks(times: impl IntoIterator<Item = f64>) -> Time {
    let times: Arc<[f64]> = times.into_iter().collect();
    let samples = (0..times.len()).collect();
    Time::of_samples(times, samples).unwrap()
}

/// Differences of value and cotangents of state, parameters and time from autograd of the trace.
fn differences(field: &Mlp, t: &Time, y: &Tensor) -> Vec<f64> {
    let lambda = filled(y.dims(), y.dtype());
    let (f, pullback) = field.linearize(t, y).unwrap();
    let ours = pullback.apply(&lambda).unwrap();
    let (leaf, y) = (t.track(), Var::from_tensor(y).unwrap());
    let traced = field.trace(&leaf, &y).unwrap();
    let grads = (&traced * &lambda).unwrap().sum_all().unwrap().backward().unwrap();
    let parameters = field.variables();
    let parameters = parameters.iter().map(|p| [ours.theta.get(p).unwrap(), grads.get(p).unwrap()]);
    let time = ours.t.as_ref().map(|t| [t, grads.get(leaf.leaf().unwrap()).unwrap()]);
    let pairs = [[&f, &traced], [&ours.y, grads.get(&y).unwrap()]].into_iter().chain(parameters);
    pairs.chain(time).map(|[ours, theirs]| distance(ours, theirs)).collect()
}

proptest! {
    #[test]
    fn closed_form_agrees_with_autograd(
        dim in 1usize..6,
        hidden in prop::collection::vec(1usize..12, 0..4),
        batch in prop::collection::vec(1usize..5, 0..3),
        (activation, last) in (0..7usize, 0..7usize),
        (timed, bias) in (any::<bool>(), any::<bool>()),
    ) {
        let time = if timed { TimeInput::Concatenated } else { TimeInput::None };
        let activations = (Activation::ALL[activation], Activation::ALL[last]);
        let field = field(dim, &hidden, activations, time, (bias, DType::F64));
        let shape: Vec<usize> = batch.into_iter().chain([dim]).collect();
        let y = filled(&shape, DType::F64);
        for off in differences(&field, &Time::new(0.7), &y) {
            prop_assert!(off <= 1e-12, "{activations:?} {dim} {hidden:?} of {shape:?}: {off:e} off, bound 1e-12");
        }
    }
}

#[test]
fn single_precision_agrees_within_its_rounding() {
    for activation in Activation::ALL {
        let activations = (activation, Activation::Identity);
        let field = field(8, &[32, 32], activations, TimeInput::Concatenated, (true, DType::F32));
        for off in differences(&field, &Time::new(0.7), &filled(&[50, 8], DType::F32)) {
            assert!(
                off <= 3e-6,
                "{activation:?}: {off:e} off, bound 3e-6: sums of some hundred roundings"
            );
        }
    }
}

#[test]
fn many_tiles_agree_with_autograd() {
    let field = tanh(6, &[40, 30], TimeInput::Concatenated, DType::F64);
    let times = clocks((0..9000).map(|i| f64::from(i) * 1e-3));
    for (what, t) in [("one time", Time::new(0.7)), ("a time each", times)] {
        for off in differences(&field, &t, &filled(&[9000, 6], DType::F64)) {
            assert!(off <= 1e-12, "{what}: {off:e} off, bound 1e-12");
        }
    }
}

#[test]
fn wide_layers_agree_with_autograd() {
    let field = tanh(200, &[700], TimeInput::None, DType::F64);
    for off in differences(&field, &Time::new(0.7), &filled(&[70, 200], DType::F64)) {
        assert!(off <= 1e-12, "{off:e} off, bound 1e-12");
    }
}

#[test]
fn times_of_samples_have_cotangents_of_their_own() {
    let field = tanh(3, &[8], TimeInput::Concatenated, DType::F64);
    let t = clocks([0.1, 0.5, -0.3, 2.0]);
    let y = filled(&[4, 2, 3], DType::F64);
    for off in differences(&field, &t, &y) {
        assert!(off <= 1e-12, "{off:e} off, bound 1e-12");
    }
    let (_, pullback) = field.linearize(&t, &y).unwrap();
    assert_eq!(pullback.apply(&y).unwrap().t.unwrap().dims(), [4]);
}

#[test]
fn times_may_differ_by_every_leading_index() {
    let field = tanh(3, &[8], TimeInput::Concatenated, DType::F64);
    for (times, states) in [([2, 4, 1], [2, 4, 3]), ([1, 4, 1], [1, 4, 3])] {
        let leaf = Var::from_tensor(&filled(&times, DType::F64)).unwrap();
        let t = Time::traced(0.0, leaf.as_tensor().clone());
        let (y, lambda) = (filled(&states, DType::F64), filled(&states, DType::F64));
        let (_, pullback) = field.linearize(&t, &y).unwrap();
        let traced = (field.trace(&t, &y).unwrap() * &lambda).unwrap();
        let grads = traced.sum_all().unwrap().backward().unwrap();
        let off = distance(&pullback.apply(&lambda).unwrap().t.unwrap(), grads.get(&leaf).unwrap());
        assert!(off <= 1e-12, "{times:?}: {off:e} off, bound 1e-12");
    }
}

#[test]
fn views_are_read_by_their_strides() {
    let field = tanh(3, &[8], TimeInput::None, DType::F64);
    let view = filled(&[3, 5], DType::F64).t().unwrap();
    for off in differences(&field, &Time::new(0.0), &view) {
        assert!(off <= 1e-12, "{off:e} off, bound 1e-12");
    }
}

#[test]
fn an_autonomous_field_has_no_cotangent_of_time() {
    let field = tanh(3, &[8], TimeInput::None, DType::F64);
    let y = filled(&[3], DType::F64);
    let (_, pullback) = field.linearize(&Time::new(0.0), &y).unwrap();
    assert!(pullback.apply(&y).unwrap().t.is_none());
}

#[test]
fn constants_have_no_cotangents() {
    let Linear { weight, bias, activation } = layer((3, 3), true, Activation::Tanh, DType::F64);
    let constant = Linear { weight: weight.detach(), bias: bias.clone(), activation };
    let field = Mlp::from_layers(vec![constant], TimeInput::None).unwrap();
    let y = filled(&[2, 3], DType::F64);
    let (_, pullback) = field.linearize(&Time::new(0.0), &y).unwrap();
    let theta = pullback.apply(&y).unwrap().theta;
    assert_eq!(field.variables().len(), 1);
    assert!(theta.get(&weight).is_none() && theta.get(&bias.unwrap()).is_some());
}

#[test]
fn a_variable_of_two_layers_gets_the_sum_of_its_cotangents() {
    let shared = layer((3, 3), true, Activation::Tanh, DType::F64);
    let field = Mlp::from_layers(vec![shared.clone(), shared], TimeInput::None).unwrap();
    assert_eq!(field.variables().len(), 2);
    for off in differences(&field, &Time::new(0.0), &filled(&[4, 3], DType::F64)) {
        assert!(off <= 1e-12, "{off:e} off, bound 1e-12");
    }
}

#[test]
fn no_result_is_in_candles_graph() {
    let field = tanh(3, &[8], TimeInput::Concatenated, DType::F64);
    let (t, y) = (Time::tracked(0.4), Var::from_tensor(&filled(&[2, 3], DType::F64)).unwrap());
    let (f, pullback) = field.linearize(&t, &y).unwrap();
    let bars = pullback.apply(&y).unwrap();
    let theta = field.variables().into_iter().map(|p| bars.theta.get(&p).unwrap().clone());
    let results = [field.eval(&t, &y).unwrap(), f, bars.y, bars.t.unwrap()];
    assert!(results.into_iter().chain(theta).all(|x| !x.track_op()));
}

#[test]
fn eval_and_linearize_give_the_same_bits() {
    for activation in Activation::ALL {
        let activations = (activation, activation);
        let field = field(5, &[60, 7], activations, TimeInput::Concatenated, (true, DType::F32));
        let (t, y) = (Time::new(0.3), filled(&[5000, 5], DType::F32));
        let bits = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let linearized = bits(field.linearize(&t, &y).unwrap().0);
        assert!(bits(field.eval(&t, &y).unwrap()) == linearized, "{activation:?}");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let field = tanh(6, &[40, 30], TimeInput::Concatenated, DType::F32);
    let y = filled(&[20_000, 6], DType::F32);
    let bits = |threads: usize| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let results = pool.install(|| {
            let (f, pullback) = field.linearize(&Time::new(0.3), &y).unwrap();
            let bars = pullback.apply(&y).unwrap();
            let theta = field.variables().into_iter().map(|p| bars.theta.get(&p).unwrap().clone());
            theta.chain([f, bars.y]).collect::<Vec<_>>()
        });
        results
            .iter()
            .map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            .collect::<Vec<_>>()
    };
    let one = bits(1);
    assert!(one == bits(2) && one == bits(3), "1, 2 and 3 threads differ");
}

/// Gradients of a loss on outputs inside steps with respect to state and parameters.
fn solved(field: Mlp, gradient: Gradient) -> Vec<Tensor> {
    let variables = field.variables();
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-6, atol: 1e-6 });
    let ode = Ode::new(solver, field, variables.clone()).unwrap().gradient(gradient);
    let y0 = Var::from_tensor(&filled(&[4, 3], DType::F64)).unwrap();
    let ys = ode.solve(&y0, (0.0, 2.0), &SaveAt::Times(vec![0.3, 1.1, 2.0])).unwrap().ys;
    let mut grads = ys.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let all = [&y0].into_iter().chain(&variables);
    all.map(|x| grads.remove(x).unwrap()).collect()
}

#[test]
fn aca_agrees_with_the_graph_through_every_step() {
    for time in [TimeInput::None, TimeInput::Concatenated] {
        for activation in Activation::ALL {
            let make =
                || field(3, &[9, 7], (activation, Activation::Identity), time, (true, DType::F64));
            let pairs =
                solved(make(), Gradient::Aca).into_iter().zip(solved(make(), Gradient::Naive));
            for (aca, naive) in pairs {
                let off = distance(&aca, &naive);
                assert!(off <= 1e-10, "{activation:?}, {time:?}: {off:e} off, bound 1e-10");
            }
        }
    }
}
