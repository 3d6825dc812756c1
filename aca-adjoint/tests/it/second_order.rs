//! Second derivatives; candle reads its switch from the environment once per thread, so the claims run
//! in child processes that have it set, or not.

use std::process::Command;

use aca_adjoint::{
    Backsolve, Gradient, GradientError, Ode, gradients_in_graph, hessian_vector,
    is_second_order_enabled, with_large_stack,
};
use aca_core::Method::Leapfrog as ALF;
use aca_core::{Error, Solver, Time};
use aca_dense::SaveAt;
use aca_tableau::{DOPRI5, EULER};
use candle_core::{DType, Device, Tensor, Var};

use crate::common::{Mlp, adaptive, distance, loss, state};

const SWITCH: &str = "CANDLE_GRAD_DO_NOT_DETACH";

/// Runs one of the ignored tests below with the switch set or not.
fn child(name: &str, switch: bool) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--test-threads=1"]).env_remove(SWITCH);
    if switch {
        command.env(SWITCH, "1");
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{name}: {text}");
}

/// x' = a x^2 from x0: x(1) = x0 / (1 - a x0).
fn quadratic(a: &Var, gradient: Gradient, solver: Solver) -> Ode {
    let rate = a.clone();
    let field = move |_t: &Time, x: &Tensor| x.sqr()?.broadcast_mul(&rate);
    Ode::new(solver, field, vec![a.clone()]).unwrap().gradient(gradient)
}

fn scalar(x: &Tensor) -> f64 {
    x.sum_all().unwrap().to_scalar().unwrap()
}

fn variable(x: f64) -> Var {
    Var::new(&[x], &Device::Cpu).unwrap()
}

#[test]
fn second_derivatives_of_a_naive_solve_are_the_closed_form() {
    child("second_order::with_the_switch_second_derivatives_match", true);
}

#[test]
#[ignore = "runs as a child process that has the switch set"]
fn with_the_switch_second_derivatives_match() {
    let (x0, a) = (0.5, 0.6);
    let (start, rate) = (variable(x0), variable(a));
    let ode = quadratic(&rate, Gradient::Naive, adaptive(&DOPRI5, 1e-10));
    let x1 = ode.solve(&start, (0.0, 1.0), &SaveAt::End).unwrap().y1.sum_all().unwrap();
    let first = gradients_in_graph(&x1, &[&start, &rate]).unwrap();
    let gap = 1.0 - a * x0;
    let close = |what: &str, ours: f64, exact: f64| {
        assert!((ours - exact).abs() < 1e-8, "{what}: {ours}, closed form {exact}");
    };
    close("dx1/dx0", scalar(&first[0]), gap.powi(-2));
    close("dx1/da", scalar(&first[1]), x0 * x0 * gap.powi(-2));
    let one = Tensor::new(&[1.0f64], &Device::Cpu).unwrap();
    let zero = one.zeros_like().unwrap();
    let along_x0 = hessian_vector(&x1, &[&start, &rate], &[one, zero]).unwrap();
    close("d2x1/dx0^2", scalar(&along_x0[0]), 2.0 * a * gap.powi(-3));
    close("d2x1/dx0da", scalar(&along_x0[1]), 2.0 * x0 * gap.powi(-3));
    // A gradient penalty: P = (dx1/dx0)^2, dP/da = 2 (dx1/dx0) d2x1/dx0da.
    let penalty = first[0].sqr().unwrap().sum_all().unwrap().backward().unwrap();
    close("penalty", scalar(penalty.get(&rate).unwrap()), 4.0 * x0 * gap.powi(-5));
}

#[test]
fn without_the_switch_second_derivatives_are_refused() {
    child("second_order::the_same_code_without_the_switch_is_refused", false);
}

#[test]
#[ignore = "runs as a child process that has the switch not set"]
fn the_same_code_without_the_switch_is_refused() {
    let (start, rate) = (variable(0.5), variable(0.6));
    let ode = quadratic(&rate, Gradient::Naive, adaptive(&DOPRI5, 1e-9));
    let x1 = ode.solve(&start, (0.0, 1.0), &SaveAt::End).unwrap().y1.sum_all().unwrap();
    assert!(!is_second_order_enabled());
    let error = gradients_in_graph(&x1, &[&start]).unwrap_err();
    assert!(matches!(GradientError::of(&error), Some(GradientError::SecondOrderDisabled)));
    assert_eq!(
        error.to_string(),
        "candle detaches gradients in this thread, so a second derivative would be wrong; set \
         CANDLE_GRAD_DO_NOT_DETACH=1 before the thread's first backward"
    );
}

#[test]
fn with_the_switch_first_derivatives_stay_right_and_second_ones_of_aca_are_refused() {
    child("second_order::with_the_switch_aca_gives_one_derivative", true);
}

#[test]
#[ignore = "runs as a child process that has the switch set"]
fn with_the_switch_aca_gives_one_derivative() {
    let (x0, a) = (0.5, 0.6);
    let (start, rate) = (variable(x0), variable(a));
    let ode = quadratic(&rate, Gradient::Aca, adaptive(&DOPRI5, 1e-9));
    let x1 = ode.solve(&start, (0.0, 1.0), &SaveAt::End).unwrap().y1;
    let first = x1.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let (slope, exact) = (first.get(&start).unwrap(), 2.0 * x0 * (1.0f64 - a * x0).powi(-3));
    assert!((scalar(slope) - exact).abs() < 1e-8, "{}, closed form {exact}", scalar(slope));
    let error = slope.sqr().unwrap().sum_all().unwrap().backward().map(|_| ()).unwrap_err();
    let text = error.to_string();
    let expected = "the gradient of this solve cannot be differentiated again; use Naive for second derivatives";
    assert_eq!(text.lines().next(), Some(expected));
}

#[test]
fn long_graphs_on_the_callers_stack_are_refused() {
    child("second_order::with_the_switch_long_solves_are_refused", true);
}

#[test]
#[ignore = "runs as a child process that has the switch set"]
fn with_the_switch_long_solves_are_refused() {
    let ode = quadratic(&variable(0.1), Gradient::Naive, Solver::fixed_count(EULER, 5000));
    let error = ode.solve(&variable(0.5), (0.0, 1.0), &SaveAt::End).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::GraphTooDeep { .. }), "{error}");
    let text = error.to_string();
    assert!(text.ends_with("; build, differentiate and drop it inside with_large_stack"), "{text}");
}

#[test]
fn second_derivatives_of_a_thousand_steps_are_the_closed_form_on_a_large_stack() {
    child("second_order::with_the_switch_second_derivatives_of_a_long_solve_match", true);
}

#[test]
#[ignore = "runs as a child process that has the switch set"]
fn with_the_switch_second_derivatives_of_a_long_solve_match() {
    let (x0, a) = (0.5, 0.6);
    let found = with_large_stack(|| {
        let (start, rate) = (variable(x0), variable(a));
        let ode = quadratic(&rate, Gradient::Naive, Solver::fixed_count(DOPRI5, 1000));
        let x1 = ode.solve(&start, (0.0, 1.0), &SaveAt::End).unwrap().y1;
        let x1 = x1.sum_all().unwrap();
        let first = gradients_in_graph(&x1, &[&start, &rate]).unwrap();
        let penalty = aca_adjoint::backward(&first[0].sqr().unwrap().sum_all().unwrap()).unwrap();
        let one = Tensor::new(&[1.0f64], &Device::Cpu).unwrap();
        let vectors = [one.clone(), one.zeros_like().unwrap()];
        let along_x0 = hessian_vector(&x1, &[&start, &rate], &vectors).unwrap();
        [&first[0], &along_x0[0], &along_x0[1], penalty.get(&rate).unwrap()].map(scalar)
    });
    let gap = 1.0 - a * x0;
    let exact =
        [gap.powi(-2), 2.0 * a * gap.powi(-3), 2.0 * x0 * gap.powi(-3), 4.0 * x0 * gap.powi(-5)];
    for (ours, exact) in found.unwrap().into_iter().zip(exact) {
        assert!((ours - exact).abs() < 1e-9, "{ours}, closed form {exact}");
    }
}

#[test]
fn second_derivatives_through_a_network_and_a_thousand_steps_are_finite_differences() {
    child("second_order::with_the_switch_second_derivatives_of_a_network_match", true);
}

#[test]
#[ignore = "runs as a child process that has the switch set"]
fn with_the_switch_second_derivatives_of_a_network_match() {
    let field = Mlp::new(DType::F64);
    let (w1, vars) = (field.w1.clone(), field.vars());
    let ode = Ode::new(Solver::fixed_count(DOPRI5, 1000), field, vars).unwrap();
    let naive = ode.gradient(Gradient::Naive);
    let end =
        |ode: &Ode| loss(&ode.solve(&state(DType::F64), (0.0, 1.0), &SaveAt::End).unwrap().ys);
    let along = w1.sin().unwrap().detach();
    let (naive, end, w1, along) = (&naive, &end, &w1, &along);
    let product = with_large_stack(|| {
        let product = hessian_vector(&end(naive), &[w1], std::slice::from_ref(along)).unwrap();
        product[0].detach().copy().unwrap()
    });
    let h = 1e-5;
    let start = w1.as_detached_tensor().copy().unwrap();
    let [after, before] = [h, -h].map(|h| {
        w1.set(&(&start + (along * h).unwrap()).unwrap()).unwrap();
        with_large_stack(|| end(naive).backward().unwrap().remove(w1).unwrap().detach()).unwrap()
    });
    let difference = ((after - before).unwrap() / (2.0 * h)).unwrap();
    let apart = distance(&product.unwrap(), &difference);
    assert!(apart < 1e-8, "off by {apart:e}");
}

#[test]
fn first_derivatives_do_not_depend_on_the_switch() {
    for switch in [false, true] {
        child("second_order::first_derivatives_of_all_strategies_match", switch);
    }
}

#[test]
#[ignore = "runs as a child process that has the switch set or not"]
fn first_derivatives_of_all_strategies_match() {
    let (x0, a) = (0.5, 0.6);
    let strategies = [
        Gradient::Aca,
        Gradient::AcaBudget { checkpoints: 1 },
        Gradient::Naive,
        Gradient::NaiveThroughStepSize,
        Gradient::Backsolve(Backsolve::default()),
        Gradient::Mali,
    ];
    for gradient in strategies {
        let method = if matches!(gradient, Gradient::Mali) { ALF } else { DOPRI5.into() };
        let (start, rate) = (variable(x0), variable(a));
        let ode = quadratic(&rate, gradient.clone(), adaptive(method, 1e-7));
        let sol = ode.solve(&start, (0.0, 1.0), &SaveAt::Times(vec![0.5, 1.0])).unwrap();
        let x1 = sol.y1.sum_all().unwrap();
        let grads = x1.backward().unwrap();
        let gap = 1.0 - a * x0;
        for (var, exact) in [(&start, gap.powi(-2)), (&rate, (x0 / gap).powi(2))] {
            let ours = scalar(grads.get(var).unwrap());
            assert!((ours - exact).abs() < 1e-5, "{gradient:?}: {ours}, closed form {exact}");
        }
    }
}
