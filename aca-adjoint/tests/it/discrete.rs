//! ACA's gradient is that of the discrete solution: candle's autograd through the same steps.

use aca_adjoint::Ode;
use aca_dense::SaveAt;
use aca_tableau::{ALL, DOPRI5, Tableau};
use candle_core::{DType, Tensor, Var};

use crate::common::{Grid, Mlp, adaptive, distance, loss, state, traced};

/// Distances of ACA's gradients (state, both weights) from the oracle's.
fn distances(tableau: &Tableau, span: (f64, f64), times: &[f64], dtype: DType) -> Vec<f64> {
    let solver = adaptive(tableau, 1e-5);
    let mut grid = Grid::default();
    let field = Mlp::new(dtype);
    solver.solve(&field, &state(dtype), span, &mut grid).unwrap();
    assert!(grid.0.len() > 3, "{}: a test of one step shows little", tableau.name());

    let y0 = Var::from_tensor(&state(dtype)).unwrap();
    let vars = field.vars();
    let oracle = loss(&traced(tableau, &field, &y0, &grid.0, times)).backward().unwrap();
    let ode = Ode::new(solver, field, vars.clone()).unwrap();
    let sol = ode.solve(&y0, span, &SaveAt::Times(times.to_vec())).unwrap();
    let ours = loss(&sol.ys).backward().unwrap();
    let all: Vec<&Tensor> = std::iter::once(&*y0).chain(vars.iter().map(|v| &**v)).collect();
    all.iter().map(|x| distance(ours.get(x).unwrap(), oracle.get(x).unwrap())).collect()
}

fn assert_close(tableau: &Tableau, span: (f64, f64), times: &[f64], dtype: DType, bound: f64) {
    for (what, d) in ["y0", "w1", "w2"].iter().zip(distances(tableau, span, times, dtype)) {
        assert!(d <= bound, "{} {span:?}: {what} off by {d:e}, bound {bound:e}", tableau.name());
    }
}

#[test]
fn gradient_of_the_end_is_exact_for_every_method() {
    for tableau in ALL {
        assert_close(tableau, (0.0, 2.0), &[2.0], DType::F64, 1e-11);
    }
}

#[test]
fn gradient_backward_in_time_is_exact_for_every_method() {
    for tableau in ALL {
        assert_close(tableau, (1.5, -0.5), &[0.4, -0.5], DType::F64, 1e-11);
    }
}

#[test]
fn gradient_through_interpolated_outputs_is_exact_for_every_method() {
    for tableau in ALL {
        let times: Vec<f64> = (0..40).map(|i| f64::from(i) * 0.05).collect();
        assert_close(tableau, (0.0, 2.0), &times, DType::F64, 1e-11);
    }
}

#[test]
fn outputs_that_end_before_the_span_leave_later_steps_alone() {
    assert_close(&DOPRI5, (0.0, 3.0), &[0.0, 0.31, 0.7], DType::F64, 1e-11);
}

#[test]
fn single_precision_is_exact_to_its_rounding() {
    assert_close(&DOPRI5, (0.0, 2.0), &[0.5, 2.0], DType::F32, 1e-5);
}

/// The loss of a replay over `grid`, as a function of the field and the initial state.
fn replayed(tableau: &Tableau, field: &Mlp, y0: &Tensor, grid: &[f64], times: &[f64]) -> f64 {
    loss(&traced(tableau, field, y0, grid, times)).to_scalar().unwrap()
}

#[test]
fn gradient_agrees_with_differences_of_the_replayed_solve() {
    let (tableau, span, times) = (&DOPRI5, (0.0, 2.0), [0.31, 1.2, 2.0]);
    let (field, y0) = (Mlp::new(DType::F64), state(DType::F64));
    let solver = adaptive(tableau, 1e-4);
    let mut grid = Grid::default();
    solver.solve(&field, &y0, span, &mut grid).unwrap();
    let vars = field.vars();
    let ode =
        Ode::new(solver, Mlp { w1: vars[0].clone(), w2: vars[1].clone() }, vars.clone()).unwrap();
    let leaf = Var::from_tensor(&y0).unwrap();
    let grads = loss(&ode.solve(&leaf, span, &SaveAt::Times(times.to_vec())).unwrap().ys)
        .backward()
        .unwrap();
    for (what, var) in [("y0", &leaf), ("w1", &vars[0]), ("w2", &vars[1])] {
        let values = var.to_vec2::<f64>().unwrap();
        let ours = grads.get(var).unwrap().to_vec2::<f64>().unwrap();
        for (i, j) in [(0, 0), (1, 2)] {
            let moved = |by: f64| {
                let mut moved = values.clone();
                moved[i][j] += by;
                var.set(&Tensor::new(moved, &candle_core::Device::Cpu).unwrap()).unwrap();
                replayed(tableau, &field, &leaf, &grid.0, &times)
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            moved(0.0);
            let off = (ours[i][j] - difference).abs() / difference.abs();
            assert!(off <= 1e-7, "{what}[{i}][{j}]: {}, differences {difference}", ours[i][j]);
        }
    }
}

#[test]
fn gradient_of_a_linear_solution_is_its_closed_form() {
    // dz/dt = k z, L = z(T)^2: dL/dz0 = 2 z0 e^(2kT), dL/dk = 2 T z0^2 e^(2kT).
    let (k, z0, end) = (-0.4, 1.3, 2.5);
    let rate = Var::new(&[k], &candle_core::Device::Cpu).unwrap();
    let rate_of_field = rate.clone();
    let field = move |_t: &aca_core::Time, y: &Tensor| y.broadcast_mul(&rate_of_field);
    let z = Var::new(&[z0], &candle_core::Device::Cpu).unwrap();
    let ode = Ode::new(adaptive(&DOPRI5, 1e-11), field, vec![rate.clone()]).unwrap();
    let end_state = ode.solve(&z, (0.0, end), &SaveAt::End).unwrap().y1;
    let grads = end_state.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let of = |x: &Tensor| grads.get(x).unwrap().to_vec1::<f64>().unwrap()[0];
    let growth = (2.0 * k * end).exp();
    let (dz, dk) = (2.0 * z0 * growth, 2.0 * end * z0 * z0 * growth);
    assert!((of(&z) - dz).abs() < 1e-9 * dz, "dL/dz0 = {}, closed form {dz}", of(&z));
    assert!((of(&rate) - dk).abs() < 1e-9 * dk, "dL/dk = {}, closed form {dk}", of(&rate));
}
