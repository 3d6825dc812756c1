//! The residual branch against candle's autograd of its trace, and inside solves.

use aca_adjoint::{Gradient, Ode};
use aca_core::{Solver, Time, Tolerance, VectorField};
use aca_dense::SaveAt;
use aca_models::fields::ConvBlock;
use aca_models::layers::{BatchNorm2d, BatchNormMode, Conv2d};
use aca_tableau::HEUN_EULER;
use candle_core::{DType, Tensor, Var};
use rayon::ThreadPoolBuilder;

use crate::activations::{distance, filled};

fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// A field whose convolutions are variables, and its norms too if `affine`.
fn field(channels: usize, affine: bool, dtype: DType) -> ConvBlock {
    let var = |x: Tensor| Var::from_tensor(&x).unwrap().into_inner();
    let conv = |turn: f64| {
        let weight = filled(&[channels, channels, 3, 3], dtype).affine(turn, 0.1).unwrap();
        let weight = var((weight.sin().unwrap() * 0.4).unwrap());
        Conv2d { weight, bias: None, stride: 1, padding: [1, 1] }
    };
    let norm = |turn: f64| {
        let [weight, bias, mean, variance] = [(0.3, 0.9), (turn, 0.1), (0.1, 0.0), (0.2, 0.7)]
            .map(|(scale, start)| filled(&[channels], dtype).affine(scale, start).unwrap());
        let parameters = if affine { [var(weight), var(bias)] } else { [weight, bias] };
        BatchNorm2d::from_tensors(parameters, [mean, variance]).unwrap()
    };
    ConvBlock::from_layers([(conv(1.9), norm(0.2)), (conv(2.3), norm(-0.3))]).unwrap()
}

fn statistics(field: &ConvBlock) -> Vec<Vec<f64>> {
    field.running_statistics().iter().map(|var| numbers(var)).collect()
}

/// Value, state cotangent and those of the variables, in closed form.
fn closed_form(field: &ConvBlock, y: &Tensor, lambda: &Tensor) -> Vec<Tensor> {
    let (f, pullback) = field.linearize(&Time::new(0.3), y).unwrap();
    let cotangents = pullback.apply(lambda).unwrap();
    let theta = field.variables();
    let theta = theta.iter().map(|var| cotangents.theta.get(var).unwrap().clone());
    [f, cotangents.y].into_iter().chain(theta).collect()
}

#[test]
fn the_closed_form_agrees_with_autograd() {
    for (affine, mode) in
        [(true, BatchNormMode::Train), (false, BatchNormMode::Frozen), (true, BatchNormMode::Eval)]
    {
        let field = field(9, affine, DType::F64);
        field.set_mode(mode);
        let y = Var::from_tensor(&filled(&[3, 9, 13, 14], DType::F64)).unwrap();
        let lambda = (filled(y.dims(), DType::F64) * 1.7).unwrap().cos().unwrap();
        let ours = closed_form(&field, &y, &lambda);
        let traced = field.trace(&Time::new(0.3), &y).unwrap();
        let grads = (&traced * &lambda).unwrap().sum_all().unwrap().backward().unwrap();
        let variables = field.variables();
        let theirs =
            [y].iter().chain(&variables).map(|x| grads.get(x).unwrap()).collect::<Vec<_>>();
        for (i, (ours, theirs)) in ours.iter().zip([&traced].into_iter().chain(theirs)).enumerate()
        {
            let off = distance(ours, theirs);
            assert!(off <= 1e-10, "{affine} {mode:?}: part {i} is {off:e} off, bound 1e-10");
        }
    }
}

#[test]
fn evaluation_has_the_bits_of_linearization_and_stays_outside_graphs() {
    let (field, y) = (field(8, true, DType::F32), filled(&[2, 8, 9, 9], DType::F32));
    let (f, parts) = (field.eval(&Time::new(0.0), &y).unwrap(), closed_form(&field, &y, &y));
    assert_eq!(numbers(&f), numbers(&parts[0]));
    assert!([&f].into_iter().chain(&parts).all(|x| !x.track_op()), "a result is tracked");
}

#[test]
fn constant_parameters_are_no_variables() {
    let (with, without) = (field(3, true, DType::F32), field(3, false, DType::F32));
    assert_eq!((with.variables().len(), without.variables().len()), (6, 2));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let y = filled(&[12, 16, 20, 20], DType::F32);
    let results = [1, 2, 3].map(|threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let field = field(16, true, DType::F32);
        pool.install(|| closed_form(&field, &y, &y).iter().map(numbers).collect::<Vec<_>>())
    });
    assert!(results.iter().all(|result| *result == results[0]));
}

#[test]
fn every_evaluation_in_training_moves_the_running_statistics_alike() {
    let y = filled(&[2, 4, 5, 5], DType::F64);
    let t = Time::new(0.0);
    let by = |run: &dyn Fn(&ConvBlock)| {
        let field = field(4, true, DType::F64);
        run(&field);
        statistics(&field)
    };
    let eval = by(&|field| drop(field.eval(&t, &y).unwrap()));
    let linearize = by(&|field| drop(field.linearize(&t, &y).unwrap()));
    let trace = by(&|field| drop(field.trace(&t, &y).unwrap()));
    assert_eq!(eval, linearize);
    for (eval, trace) in eval.iter().flatten().zip(trace.iter().flatten()) {
        assert!((eval - trace).abs() <= 1e-14, "{eval}, by trace {trace}, bound 1e-14");
    }
}

fn solver() -> Solver {
    let tolerance = Tolerance { rtol: 1e-3, atol: 1e-3 };
    Solver { first_step: Some(1.0), ..Solver::adaptive(HEUN_EULER, tolerance) }
}

/// Gradients of a loss through a solve, with the statistics that it leaves and the times of its steps.
fn solved(gradient: Gradient, y0: &Var) -> (Vec<Tensor>, Vec<Vec<f64>>, Vec<f64>) {
    let field = std::sync::Arc::new(field(4, true, DType::F64));
    let variables = field.variables();
    let shared = Shared(field.clone());
    let ode = Ode::new(solver(), shared, variables.clone()).unwrap().gradient(gradient);
    let solution = ode.solve(y0, (0.0, 1.0), &SaveAt::Steps).unwrap();
    let rejected = solution.stats.rejected;
    assert!(rejected > 0, "nothing was rejected, so nothing is tested");
    let loss = solution.ys.get(solution.ts.len() - 1).unwrap().sqr().unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap();
    let grads = [y0].into_iter().chain(&variables).map(|x| grads.get(x).unwrap().clone());
    (grads.collect(), statistics(&field), solution.ts)
}

/// A field that the test keeps a hand on.
struct Shared(std::sync::Arc<ConvBlock>);

impl VectorField for Shared {
    fn eval(&self, t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        self.0.eval(t, y)
    }

    fn trace(&self, t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        self.0.trace(t, y)
    }

    fn linearize(
        &self,
        t: &Time,
        y: &Tensor,
    ) -> candle_core::Result<(Tensor, aca_core::Pullback<'_>)> {
        self.0.linearize(t, y)
    }

    fn running_statistics(&self) -> Vec<Var> {
        self.0.running_statistics()
    }
}

#[test]
fn aca_agrees_with_the_gradient_through_every_step() {
    let y0 = Var::from_tensor(&filled(&[2, 4, 5, 5], DType::F64)).unwrap();
    let ((aca, ..), (naive, ..)) = (solved(Gradient::Aca, &y0), solved(Gradient::Naive, &y0));
    for (i, (aca, naive)) in aca.iter().zip(&naive).enumerate() {
        let off = distance(aca, naive);
        assert!(off <= 1e-10, "part {i} is {off:e} off, bound 1e-10");
    }
}

#[test]
fn running_statistics_follow_the_accepted_evaluations_alone() {
    let y0 = Var::from_tensor(&filled(&[2, 4, 5, 5], DType::F64)).unwrap();
    let (_, solved, ts) = solved(Gradient::Aca, &y0);
    let field = field(4, true, DType::F64);
    let mut y = y0.as_detached_tensor();
    for ends in ts.windows(2) {
        let (t, h) = (Time::new(ends[0]), ends[1] - ends[0]);
        let k1 = field.eval(&t, &y).unwrap();
        let k2 = field.eval(&Time::new(ends[1]), &(&y + (&k1 * h).unwrap()).unwrap()).unwrap();
        y = (y + ((k1 + k2).unwrap() * (h / 2.0)).unwrap()).unwrap();
    }
    for (solved, by_hand) in solved.iter().flatten().zip(statistics(&field).iter().flatten()) {
        assert!((solved - by_hand).abs() <= 1e-12, "{solved}, by hand {by_hand}, bound 1e-12");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_sizes() {
    let conv = |inner: usize, outer: usize, padding: usize| {
        let weight = filled(&[outer, inner, 3, 3], DType::F32);
        Conv2d { weight, bias: None, stride: 1, padding: [padding; 2] }
    };
    let norm = |channels: usize| {
        let x = || filled(&[channels], DType::F32);
        BatchNorm2d::from_tensors([x(), x()], [x(), x()]).unwrap()
    };
    let failed = |convs: [Conv2d; 2], norms: [BatchNorm2d; 2]| {
        ConvBlock::from_layers(convs.into_iter().zip(norms)).err().unwrap().to_string()
    };
    let small =
        ConvBlock::from_layers([(conv(2, 2, 0), norm(2)), (conv(2, 2, 1), norm(2))]).unwrap();
    let y = |shape: &[usize], dtype: DType| filled(shape, dtype);
    let refused =
        |field: &ConvBlock, y: &Tensor| field.eval(&Time::new(0.0), y).unwrap_err().to_string();
    let fits = field(2, true, DType::F32);
    for (message, words) in [
        (
            failed([conv(2, 3, 1), conv(2, 2, 1)], [norm(3), norm(2)]),
            "convolution 1 of shape [2, 2, 3, 3]",
        ),
        (
            failed([conv(2, 3, 1), conv(3, 2, 1)], [norm(2), norm(2)]),
            "convolution 0 of shape [3, 2, 3, 3]",
        ),
        (failed([conv(2, 3, 1), conv(3, 4, 1)], [norm(3), norm(4)]), "4 channels of 2"),
        (refused(&small, &y(&[1, 2, 5, 5], DType::F32)), "images of [3, 3] of those of [5, 5]"),
        (
            refused(&fits, &y(&[1, 3, 5, 5], DType::F32)),
            "2 input channels, but x has shape [1, 3, 5, 5]",
        ),
        (refused(&fits, &y(&[1, 2, 5, 5], DType::F64)), "x is F64 but a parameter is F32"),
    ] {
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
}

#[test]
fn layers_that_share_a_variable_add_their_cotangents() {
    let weight = Var::from_tensor(&(filled(&[4, 4, 3, 3], DType::F64) * 0.3).unwrap()).unwrap();
    let scale = Var::from_tensor(&filled(&[4], DType::F64).affine(0.3, 0.9).unwrap()).unwrap();
    let layer = || {
        let weight = weight.as_tensor().clone();
        let shift = filled(&[4], DType::F64);
        let running = [shift.zeros_like().unwrap(), shift.ones_like().unwrap()];
        let norm = BatchNorm2d::from_tensors([scale.as_tensor().clone(), shift], running).unwrap();
        (Conv2d { weight, bias: None, stride: 1, padding: [1, 1] }, norm)
    };
    let field = ConvBlock::from_layers([layer(), layer()]).unwrap();
    assert_eq!(field.variables().len(), 2);
    let y = Var::from_tensor(&filled(&[2, 4, 5, 6], DType::F64)).unwrap();
    let lambda = (filled(y.dims(), DType::F64) * 1.7).unwrap().cos().unwrap();
    let ours = closed_form(&field, &y, &lambda);
    let traced = field.trace(&Time::new(0.0), &y).unwrap();
    let grads = (&traced * &lambda).unwrap().sum_all().unwrap().backward().unwrap();
    for (ours, var) in ours[2..].iter().zip(field.variables()) {
        let off = distance(ours, grads.get(&var).unwrap());
        assert!(off <= 1e-12, "{off:e} off, bound 1e-12");
    }
}
