//! MALI: the leapfrog undone step by step.

use aca_adjoint::{Gradient, GradientError, Ode};
use aca_core::Method::Leapfrog as ALF;
use aca_core::{Error, Interpolant, Solver, Time};
use aca_dense::SaveAt;
use candle_core::{DType, Device, Tensor, Var};

use crate::common::{Grid, Mlp, adaptive, distance, loss, state};
use crate::strategies::gradients;

const TIMES: [f64; 4] = [0.0, 0.33, 1.21, 2.0];

/// The leapfrog's outputs over `grid` as candle's graph through every step.
fn leapfrog(field: &Mlp, y0: &Tensor, grid: &[f64], times: &[f64]) -> Tensor {
    use aca_core::{Time, VectorField};
    let interpolant = Interpolant::hermite(2, &[0.0, 1.0, 0.0], [0, 2]);
    let plus = |y: &Tensor, w: f64, k: &Tensor| (y + (k * w).unwrap()).unwrap();
    let mut z = y0.clone();
    let mut v = field.eval(&Time::new(grid[0]), y0).unwrap();
    let mut rows: Vec<Tensor> = (times[0] == grid[0]).then(|| z.clone()).into_iter().collect();
    for ends in grid.windows(2) {
        let h = ends[1] - ends[0];
        let u = field.eval(&Time::new(ends[0] + 0.5 * h), &plus(&z, 0.5 * h, &v)).unwrap();
        let next = ((&u * 2.0).unwrap() - &v).unwrap();
        for &t in times.iter().filter(|&&t| (t - ends[0]) * h > 0.0 && (ends[1] - t) * h > 0.0) {
            let b = interpolant.weights((t - ends[0]) / h);
            rows.push(plus(&plus(&plus(&z, h * b[0], &v), h * b[1], &u), h * b[2], &next));
        }
        (z, v) = (plus(&z, h, &u), next);
        rows.extend(times.contains(&ends[1]).then(|| z.clone()));
    }
    Tensor::stack(&rows, 0).unwrap()
}

fn assert_mali(solver: Solver, span: (f64, f64), times: &[f64]) {
    let mut grid = Grid::default();
    let field = Mlp::new(DType::F64);
    let forward = solver.clone();
    forward.solve(&field, &state(DType::F64), span, &mut grid).unwrap();
    let y0 = Var::from_tensor(&state(DType::F64)).unwrap();
    let oracle = loss(&leapfrog(&field, &y0, &grid.0, times)).backward().unwrap();
    let ours = gradients(solver, Gradient::Mali, span, times, DType::F64);
    // The gradient of a field of the same numbers has other variables: compare by position.
    let off = [
        distance(&ours.y0, oracle.get(&y0).unwrap()),
        distance(&ours.theta[0], oracle.get(&field.w1).unwrap()),
        distance(&ours.theta[1], oracle.get(&field.w2).unwrap()),
    ];
    assert!(off.iter().all(|&d| d <= 1e-9), "off by {off:?} over {} steps", grid.0.len());
}

#[test]
fn mali_is_exact_for_its_own_scheme() {
    assert_mali(adaptive(&ALF, 1e-4), (0.0, 2.0), &TIMES);
    assert_mali(adaptive(&ALF, 1e-3), (2.0, 0.0), &[1.2, 0.0]);
    assert_mali(Solver::fixed_count(ALF, 50), (0.0, 2.0), &TIMES);
}

#[test]
fn mali_needs_one_evaluation_and_its_pullback_a_step_backward() {
    let solver = Solver::fixed_count(ALF, 40);
    let nfe = gradients(solver, Gradient::Mali, (0.0, 1.0), &[1.0], DType::F64).nfe;
    assert_eq!(nfe, 40 + 1, "one linearization per step, one for the first slope");
}

/// Gradients of `y(t1)` of `y' = k y` with respect to `k` and `y0 = 1`.
fn growth(gradient: Gradient, k: f64, t1: f64, dtype: DType) -> Result<[f64; 2], Error> {
    let number = |x: f64| Tensor::new(&[x], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
    let (k, y0) = (Var::from_tensor(&number(k)).unwrap(), Var::from_tensor(&number(1.0)).unwrap());
    let rate = k.clone();
    let field = move |_: &Time, y: &Tensor| y.broadcast_mul(&rate);
    let ode = Ode::new(adaptive(&ALF, 1e-2), field, vec![k]).unwrap().gradient(gradient);
    let (_, tape) = ode.forward(&y0, (0.0, t1), &SaveAt::End).unwrap();
    let grads = tape.pullback(&number(1.0).reshape((1, 1)).unwrap())?;
    let first = |x: &Tensor| x.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap()[0];
    Ok([first(&grads.theta[0]), first(&grads.y0)])
}

#[test]
fn a_walk_that_rounding_led_astray_is_refused() {
    // At 15 the gradient would be -1e9 where 5e7 is true.
    for (k, t1, dtype) in [(1.0, 15.0, DType::F32), (1.0, 25.0, DType::F64)] {
        let error = growth(Gradient::Mali, k, t1, dtype).unwrap_err();
        assert!(
            matches!(GradientError::of(&error), Some(GradientError::LeapfrogDrift { drift, bound }) if drift > bound),
            "{error}"
        );
    }
}

#[test]
fn a_walk_that_finds_the_start_again_has_the_gradient_of_its_graph() {
    for (k, t1, dtype, bound) in [
        (1.0, 5.0, DType::F32, 1e-5),
        (1.0, 12.0, DType::F64, 1e-9),
        (-1.0, 2.0, DType::F64, 1e-12),
    ] {
        let found = growth(Gradient::Mali, k, t1, dtype).unwrap();
        let expected = growth(Gradient::Naive, k, t1, dtype).unwrap();
        for (found, expected) in found.iter().zip(expected) {
            let off = (found / expected - 1.0).abs();
            assert!(off <= bound, "k = {k} over {t1}: {off:e} off, bound {bound:e}");
        }
    }
}

#[test]
fn a_state_at_rest_is_walked_back() {
    let zeros = Tensor::zeros(3, DType::F64, &Device::Cpu).unwrap();
    let field = |_: &Time, y: &Tensor| y.neg();
    let ode = Ode::new(Solver::fixed(ALF, 0.1), field, Vec::new()).unwrap();
    let (_, tape) = ode.gradient(Gradient::Mali).forward(&zeros, (0.0, 1.0), &SaveAt::End).unwrap();
    let ones = Tensor::ones((1, 3), DType::F64, &Device::Cpu).unwrap();
    let grads = tape.pullback(&ones).unwrap();
    for x in grads.y0.to_vec1::<f64>().unwrap() {
        let off = (x - (-1.0f64).exp()).abs();
        assert!(off < 2e-3, "{x} is {off:e} off exp(-1), bound 2e-3");
    }
}

/// Gradients of the sum of `y(3)` of `y' = cos(y / 2) - k y` with respect to `k`.
fn driven(gradient: Gradient, y0: f64, dtype: DType) -> f64 {
    let number = |x: f64| Tensor::new(&[[x]], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
    let k = Var::from_tensor(&number(1.0)).unwrap();
    let rate = k.clone();
    let field = move |_: &Time, y: &Tensor| (y * 0.5)?.cos()? - y.broadcast_mul(&rate)?;
    let ode = Ode::new(adaptive(&ALF, 1e-2), field, vec![k]).unwrap().gradient(gradient);
    let (_, tape) = ode.forward(&number(y0), (0.0, 3.0), &SaveAt::End).unwrap();
    let grads = tape.pullback(&number(1.0).reshape((1, 1, 1)).unwrap()).unwrap();
    grads.theta[0].to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap()[0][0]
}

#[test]
fn a_start_near_zero_is_no_measure_of_a_driven_system() {
    for (dtype, bound) in [(DType::F32, 1e-5), (DType::F64, 1e-12)] {
        for y0 in [0.0, 1e-3, 1e-8, 1e-12] {
            let found = driven(Gradient::Mali, y0, dtype);
            let off = (found / driven(Gradient::Naive, y0, dtype) - 1.0).abs();
            assert!(off <= bound, "{dtype:?} from {y0}: {off:e} off, bound {bound:e}");
        }
    }
}

#[test]
fn a_large_row_hides_no_other() {
    // Over 12 the decaying row alone has a gradient that is 43 % off; the other keeps still.
    let k = Var::new(&[[-1.0f32], [0.0]], &Device::Cpu).unwrap();
    let rate = k.clone();
    let field = move |_: &Time, y: &Tensor| y * rate.as_tensor();
    let y0 = Tensor::new(&[[1.0f32], [1e4]], &Device::Cpu).unwrap();
    let ode = Ode::new(Solver::fixed_count(ALF, 100), field, vec![k]).unwrap();
    let (sol, tape) = ode.gradient(Gradient::Mali).forward(&y0, (0.0, 12.0), &SaveAt::End).unwrap();
    let error = tape.pullback(&sol.ys.ones_like().unwrap()).unwrap_err();
    assert!(
        matches!(GradientError::of(&error), Some(GradientError::LeapfrogDrift { .. })),
        "{error}"
    );
}
