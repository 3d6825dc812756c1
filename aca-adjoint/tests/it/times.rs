//! Gradients with respect to times, against differences of the replayed solve.

use aca_adjoint::{Gradient, GradientError, Ode};
use aca_core::{Batching, Error, Solver, Tableau, Time};
use aca_dense::{Ragged, SaveAt};
use aca_tableau::{ALL, DOPRI5};
use candle_core::{DType, Device, Tensor, Var};

use crate::common::{Grid, Mlp, adaptive, loss, method_of, state, traced};

/// The loss as a function of the grid and the requested times, all steps held fixed.
fn replayed(tableau: &Tableau, grid: &[f64], times: &[f64]) -> f64 {
    loss(&traced(tableau, &Mlp::new(DType::F64), &state(DType::F64), grid, times))
        .to_scalar()
        .unwrap()
}

/// Central difference of `f` at 0.
fn slope(f: impl Fn(f64) -> f64) -> f64 {
    let d = 1e-5;
    (f(d) - f(-d)) / (2.0 * d)
}

fn check(tableau: &Tableau, span: (f64, f64), inner: &[f64]) {
    let solver: Solver = adaptive(tableau, 1e-4);
    let mut grid = Grid::default();
    solver.solve(&Mlp::new(DType::F64), &state(DType::F64), span, &mut grid).unwrap();
    let grid = grid.0;
    let times = [inner, &[span.1]].concat();

    let field = Mlp::new(DType::F64);
    let vars = field.vars();
    let ode = Ode::new(solver, field, vars).unwrap();
    let (sol, tape) = ode.forward(&state(DType::F64), span, &SaveAt::Times(times.clone())).unwrap();
    let ys = Var::from_tensor(&sol.ys).unwrap();
    let cotangents = loss(&ys).backward().unwrap().remove(&ys).unwrap();
    let moved = tape.pullback_with_times(&cotangents).unwrap().times.unwrap();

    let last = grid.len() - 1;
    let with_end = |d: f64| {
        let (mut grid, mut times) = (grid.clone(), times.clone());
        grid[last] += d;
        times[inner.len()] += d;
        replayed(tableau, &grid, &times)
    };
    let with_start = |d: f64| {
        let mut grid = grid.clone();
        grid[0] += d;
        replayed(tableau, &grid, &times)
    };
    let close = |what: &str, ours: f64, difference: f64| {
        let bound = 1e-7 * difference.abs().max(1.0);
        let name = tableau.name();
        assert!(
            (ours - difference).abs() <= bound,
            "{name} {what}: {ours}, differences {difference}"
        );
    };
    close("t1", moved.t1, slope(with_end));
    close("t0", moved.t0, slope(with_start));
    for m in 0..inner.len() {
        let with_output = |d: f64| {
            let mut times = times.clone();
            times[m] += d;
            replayed(tableau, &grid, &times)
        };
        close("output", moved.ts[m], slope(with_output));
    }
    assert_eq!(moved.ts[inner.len()], 0.0, "the output at the end moves with the end");
}

#[test]
fn all_time_gradients_agree_with_differences_for_every_method() {
    for tableau in ALL {
        check(tableau, (0.0, 2.0), &[0.013, 0.5, 1.1, 1.97]);
    }
}

#[test]
fn time_gradients_agree_backward_in_time() {
    check(&DOPRI5, (1.5, -0.5), &[1.49, 0.3, -0.49]);
}

#[test]
fn times_as_a_tensor_get_their_gradient_attached() {
    let field = Mlp::new(DType::F64);
    let vars = field.vars();
    let ode = Ode::new(adaptive(&DOPRI5, 1e-11), field, vars).unwrap();
    let run = |times: &Tensor| loss(&ode.solve_times(&state(DType::F64), times).unwrap().ys);
    let ts = [0.1, 0.4, 0.8, 1.3];
    let times = Var::new(&ts, &Device::Cpu).unwrap();
    let gradient = run(&times).backward().unwrap().get(&times).unwrap().to_vec1::<f64>().unwrap();
    for (m, ours) in gradient.into_iter().enumerate() {
        let moved = |d: f64| {
            let mut ts = ts;
            ts[m] += d;
            run(&Tensor::new(&ts, &Device::Cpu).unwrap()).to_scalar::<f64>().unwrap()
        };
        let difference = slope(moved);
        assert!(
            (ours - difference).abs() < 1e-6 * difference.abs().max(1.0),
            "time {m}: {ours}, {difference}"
        );
    }
}

#[test]
fn time_gradients_tend_to_the_continuous_ones() {
    // y' = -y: dL/dt1 = a(t1) f(t1, y1) and dL/dt0 = -a(t0) f(t0, y0) with a(t) = e^(t - t1).
    let decay = |_t: &aca_core::Time, y: &Tensor| y.neg();
    let ode = Ode::new(adaptive(&DOPRI5, 1e-10), decay, vec![]).unwrap();
    let times = Var::new(&[0.2f64, 1.2], &Device::Cpu).unwrap();
    let y0 = Tensor::new(&[2.0f64], &Device::Cpu).unwrap();
    let y1 = ode.solve_times(&y0, &times).unwrap().y1;
    let gradient =
        y1.sum_all().unwrap().backward().unwrap().get(&times).unwrap().to_vec1::<f64>().unwrap();
    let slope = 2.0 * (-1.0f64).exp();
    assert!(
        (gradient[1] + slope).abs() < 1e-7 && (gradient[0] - slope).abs() < 1e-7,
        "{gradient:?}"
    );
}

#[test]
fn tracked_times_are_refused_where_their_gradient_would_be_lost() {
    let decay = |_t: &aca_core::Time, y: &Tensor| y.neg();
    for gradient in [Gradient::Naive, Gradient::NaiveThroughStepSize, Gradient::Mali] {
        let solver = adaptive(method_of(&gradient), 1e-4);
        let ode = Ode::new(solver, decay, vec![]).unwrap().gradient(gradient.clone());
        let times = Var::new(&[0.2f64, 1.2], &Device::Cpu).unwrap();
        let y0 = Tensor::new(&[2.0f64], &Device::Cpu).unwrap();
        let error = ode.solve_times(&y0, &times).map(|_| ()).unwrap_err();
        assert!(
            matches!(GradientError::of(&error), Some(GradientError::Unsupported { .. })),
            "{gradient:?}: {error}"
        );
        ode.solve_times(&y0, &times.detach()).unwrap();
    }
}

#[test]
fn an_output_at_the_end_of_a_step_moves_with_its_slope_though_nothing_follows() {
    let decay = |_t: &aca_core::Time, y: &Tensor| y.affine(-0.7, 0.0);
    for gradient in [Gradient::Aca, Gradient::AcaBudget { checkpoints: 2 }] {
        let ode = Ode::new(Solver::fixed_count(aca_tableau::RK4, 4), decay, vec![]).unwrap();
        let ode = ode.gradient(gradient);
        let y0 = Tensor::new(&[2.0f64], &Device::Cpu).unwrap();
        let (sol, tape) = ode.forward(&y0, (0.0, 1.0), &SaveAt::Times(vec![0.5])).unwrap();
        let moved = tape.pullback_with_times(&sol.ys.ones_like().unwrap()).unwrap().times.unwrap();
        let slope = -0.7 * 2.0 * (-0.35f64).exp();
        assert!((moved.ts[0] - slope).abs() < 1e-4, "{moved:?}, closed form {slope}");
    }
}

#[test]
fn a_span_without_length_has_no_time_gradient() {
    let decay = |_t: &aca_core::Time, y: &Tensor| y.neg();
    let backsolve = Gradient::Backsolve(aca_adjoint::Backsolve::default());
    for gradient in [Gradient::Aca, backsolve] {
        let ode = Ode::new(adaptive(&DOPRI5, 1e-6), decay, vec![]).unwrap().gradient(gradient);
        let times = Var::new(&[0.5f64], &Device::Cpu).unwrap();
        let y0 = Tensor::new(&[2.0f64], &Device::Cpu).unwrap();
        let grads = ode.solve_times(&y0, &times).unwrap().ys.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&times).unwrap().to_vec1::<f64>().unwrap(), [0.0]);
    }
}

#[test]
fn times_that_are_no_list_are_refused() {
    for batching in [Batching::Shared, Batching::PerSample] {
        let solver = Solver { batching, ..adaptive(&DOPRI5, 1e-4) };
        let ode = Ode::new(solver, |_: &Time, y: &Tensor| y.neg(), vec![]).unwrap();
        for shape in [&[][..], &[2, 2]] {
            let times = Tensor::zeros(shape, DType::F64, &Device::Cpu).unwrap();
            let error = ode.solve_times(&state(DType::F64), &times).err().unwrap();
            assert!(
                matches!(GradientError::of(&error), Some(GradientError::TimesShape { .. })),
                "{error}"
            );
            let text = format!(
                "times of shape {shape:?} came where a list is needed; give a tensor of shape [n], n at \
                 least 1"
            );
            assert_eq!(error.to_string(), text);
        }
        let none = Tensor::zeros(0, DType::F64, &Device::Cpu).unwrap();
        let error = ode.solve_times(&state(DType::F64), &none).err().unwrap();
        assert!(matches!(error, Error::NoTimes), "{error}");
    }
}

#[test]
fn times_that_turn_back_are_refused() {
    let ode = Ode::new(adaptive(&DOPRI5, 1e-4), |_: &Time, y: &Tensor| y.neg(), vec![]).unwrap();
    for (times, text) in [
        (
            [0.0, 0.9, 0.3],
            "time 2 is 0.3 and comes after 0.9, against the direction of the span 0 to 0.3; ",
        ),
        (
            [0.9, 0.2, 0.3],
            "time 2 is 0.3 and comes after 0.2, against the direction of the span 0.9 to 0.3; ",
        ),
        ([0.0, 0.3, 0.3], "time 2 repeats 0.3; "),
    ] {
        let times = Tensor::new(&times, &Device::Cpu).unwrap();
        let error = ode.solve_times(&state(DType::F64), &times).err().unwrap().to_string();
        assert!(error.starts_with(text), "{error}");
    }
}

#[test]
fn lists_of_times_that_are_no_numbers_are_refused() {
    let solver = Solver { batching: Batching::PerSample, ..adaptive(&DOPRI5, 1e-4) };
    let ode = Ode::new(solver, |_: &Time, y: &Tensor| y.neg(), vec![]).unwrap();
    let times = Tensor::zeros((4, 2), DType::F64, &Device::Cpu).unwrap();
    let times = Ragged::new(times, vec![2, 2]).unwrap();
    let error = ode.solve_times(&state(DType::F64), &times).err().unwrap();
    assert!(
        matches!(GradientError::of(&error), Some(GradientError::TimesShape { shape }) if *shape == [4, 2]),
        "{error}"
    );
}

#[test]
fn times_may_be_of_any_type_of_numbers() {
    for batching in [Batching::Shared, Batching::PerSample] {
        let solver = Solver { batching, ..adaptive(&DOPRI5, 1e-4) };
        let ode = Ode::new(solver, |_: &Time, y: &Tensor| y.neg(), vec![]).unwrap();
        let end = |dtype: DType| {
            let times = Tensor::new(&[0f64, 1.0, 3.0], &Device::Cpu).unwrap();
            let times = times.to_dtype(dtype).unwrap();
            ode.solve_times(&state(DType::F64), &times).unwrap().ys.flatten_all().unwrap()
        };
        let expected = end(DType::F64).to_vec1::<f64>().unwrap();
        for dtype in [DType::U8, DType::U32, DType::I64, DType::F32, DType::BF16] {
            assert_eq!(end(dtype).to_vec1::<f64>().unwrap(), expected, "{dtype:?} {batching:?}");
        }
    }
}
