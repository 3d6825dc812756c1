//! All strategies beside each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aca_adjoint::{Backsolve, Gradient, GradientError, Gradients, Ode};
use aca_core::Method::Leapfrog as ALF;
use aca_core::{Error, ProgressFn, Solver, Tableau, Time};
use aca_dense::SaveAt;
use aca_tableau::{CASH_KARP, DOP853, DOPRI5, HEUN_EULER, RK4};
use candle_core::{DType, Tensor, Var};

use crate::common::{Mlp, adaptive, distance, loss, method_of, state};

const TIMES: [f64; 4] = [0.0, 0.33, 1.21, 2.0];

/// Gradient of the loss of outputs at `times` by the explicit form.
pub fn gradients(
    solver: Solver,
    gradient: Gradient,
    span: (f64, f64),
    times: &[f64],
    dtype: DType,
) -> Gradients {
    let field = Mlp::new(dtype);
    let vars = field.vars();
    let ode = Ode::new(solver, field, vars).unwrap().gradient(gradient);
    let (sol, tape) = ode.forward(&state(dtype), span, &SaveAt::Times(times.to_vec())).unwrap();
    let ys = Var::from_tensor(&sol.ys).unwrap();
    let cotangents = loss(&ys).backward().unwrap().remove(&ys).unwrap();
    tape.pullback(&cotangents).unwrap()
}

fn apart(a: &Gradients, b: &Gradients) -> f64 {
    let theta = a.theta.iter().zip(&b.theta).map(|(a, b)| distance(a, b));
    theta.fold(distance(&a.y0, &b.y0), f64::max)
}

fn exact() -> Vec<Gradient> {
    let budgets = [1, 2, 7].map(|checkpoints| Gradient::AcaBudget { checkpoints });
    [vec![Gradient::Naive], budgets.to_vec()].concat()
}

fn all() -> Vec<Gradient> {
    let rest =
        [Gradient::NaiveThroughStepSize, Gradient::Mali, Gradient::Backsolve(Backsolve::default())];
    [exact(), rest.to_vec()].concat()
}

fn assert_agree(tableau: &Tableau, span: (f64, f64), times: &[f64], dtype: DType, bound: f64) {
    let solver = || adaptive(tableau, 1e-5);
    let aca = gradients(solver(), Gradient::Aca, span, times, dtype);
    for gradient in exact() {
        let d = apart(&gradients(solver(), gradient.clone(), span, times, dtype), &aca);
        let name = tableau.name();
        assert!(d <= bound, "{name} {span:?} {gradient:?}: off by {d:e}, bound {bound:e}");
    }
}

#[test]
fn exact_strategies_agree_on_fixed_and_adaptive_steps() {
    for tableau in [&DOPRI5, &CASH_KARP, &RK4, &DOP853] {
        assert_agree(tableau, (0.0, 2.0), &TIMES, DType::F64, 1e-11);
    }
}

#[test]
fn exact_strategies_agree_backward_in_time() {
    assert_agree(&DOPRI5, (2.0, 0.0), &[1.9, 0.4, 0.0], DType::F64, 1e-11);
}

#[test]
fn exact_strategies_agree_in_single_precision() {
    assert_agree(&DOPRI5, (0.0, 2.0), &TIMES, DType::F32, 1e-4);
}

#[test]
fn a_budget_spends_evaluations_for_memory() {
    let nfe =
        |gradient| gradients(adaptive(&DOPRI5, 1e-9), gradient, (0.0, 2.0), &[2.0], DType::F64).nfe;
    let spent = [7, 2, 1].map(|checkpoints| nfe(Gradient::AcaBudget { checkpoints }));
    let aca = nfe(Gradient::Aca);
    assert!(aca < spent[0] && spent[0] < spent[1] && spent[1] < spent[2], "{aca}, then {spent:?}");
}

#[test]
fn backsolve_converges_to_the_discrete_gradient() {
    let solver = || adaptive(&DOPRI5, 1e-10);
    let aca = gradients(solver(), Gradient::Aca, (0.0, 2.0), &TIMES, DType::F64);
    for seminorm in [true, false] {
        let error = |tolerance: f64| {
            let backward = Some(Box::new(adaptive(&DOPRI5, tolerance)));
            let gradient = Gradient::Backsolve(Backsolve {
                solver: backward,
                seminorm,
                ..Backsolve::default()
            });
            apart(&gradients(solver(), gradient, (0.0, 2.0), &TIMES, DType::F64), &aca)
        };
        let (loose, tight) = (error(1e-3), error(1e-10));
        assert!(
            tight < 1e-8 && tight < 1e-3 * loose,
            "seminorm {seminorm}: {loose:e}, then {tight:e}"
        );
    }
}

#[test]
fn the_seminorm_saves_evaluations() {
    let nfe = |seminorm| {
        let gradient = Gradient::Backsolve(Backsolve { seminorm, ..Backsolve::default() });
        gradients(adaptive(&DOPRI5, 1e-6), gradient, (0.0, 2.0), &[2.0], DType::F64).nfe
    };
    assert!(nfe(true) <= nfe(false), "{} against {}", nfe(true), nfe(false));
}

#[test]
fn backsolve_gives_the_continuous_time_gradients() {
    // y' = -y, L = y1: dL/dt1 = -y1, dL/dt0 = y1.
    let decay = |_t: &aca_core::Time, y: &Tensor| y.neg();
    let ode = Ode::new(adaptive(&DOPRI5, 1e-10), decay, vec![]).unwrap();
    let ode = ode.gradient(Gradient::Backsolve(Backsolve::default()));
    let y0 = Tensor::new(&[2.0f64], &candle_core::Device::Cpu).unwrap();
    let (sol, tape) = ode.forward(&y0, (0.2, 1.2), &SaveAt::End).unwrap();
    let moved = tape.pullback_with_times(&sol.ys.ones_like().unwrap()).unwrap().times.unwrap();
    let y1 = 2.0 * (-1.0f64).exp();
    assert!((moved.t1 + y1).abs() < 1e-8 && (moved.t0 - y1).abs() < 1e-8, "{moved:?}");
}

#[test]
fn the_naive_baseline_feels_its_step_sizes() {
    // Its gradient is that of the whole program, step sizes included: differences of solves that
    // choose their own steps find it, where the exact strategies hold the steps fixed.
    let (solver, span) = (|| adaptive(&aca_tableau::HEUN_EULER, 1e-2), (0.0, 2.0));
    let times = [0.7, 2.0];
    let ours = gradients(solver(), Gradient::NaiveThroughStepSize, span, &times, DType::F64);
    let aca = gradients(solver(), Gradient::Aca, span, &times, DType::F64);
    let h = solver().initial_step_size(&Mlp::new(DType::F64), &state(DType::F64), span).unwrap();
    let solver = Solver { first_step: Some(h), ..solver() };
    let run = |by: f64| {
        let mut y0 = state(DType::F64).to_vec2::<f64>().unwrap();
        y0[0][1] += by;
        let y0 = Tensor::new(y0, &candle_core::Device::Cpu).unwrap();
        let save_at = SaveAt::Times(times.to_vec());
        let sol = aca_dense::solve(&solver, &Mlp::new(DType::F64), &y0, span, &save_at).unwrap();
        loss(&sol.ys).to_scalar::<f64>().unwrap()
    };
    let difference = (run(1e-6) - run(-1e-6)) / 2e-6;
    let slope = |g: &Gradients| g.y0.to_vec2::<f64>().unwrap()[0][1];
    assert!((slope(&ours) - difference).abs() < 1e-6, "{} against {difference}", slope(&ours));
    assert!((slope(&aca) - difference).abs() > 1e-5, "a test at which both agree shows nothing");
}

#[test]
fn every_strategy_is_the_identity_on_a_span_without_length() {
    for gradient in all() {
        let solver = adaptive(method_of(&gradient), 1e-4);
        let g = gradients(solver, gradient.clone(), (0.5, 0.5), &[0.5], DType::F64);
        let y0 = Var::from_tensor(&state(DType::F64).unsqueeze(0).unwrap()).unwrap();
        let direct = loss(&y0).backward().unwrap().get(&y0).unwrap().squeeze(0).unwrap();
        assert!(distance(&g.y0, &direct) < 1e-15, "{gradient:?}");
    }
}

#[test]
fn every_strategy_works_attached() {
    for gradient in all() {
        let field = Mlp::new(DType::F64);
        let vars = field.vars();
        let solver = adaptive(method_of(&gradient), 1e-4);
        let ode = Ode::new(solver, field, vars.clone()).unwrap().gradient(gradient.clone());
        let y0 = Var::from_tensor(&state(DType::F64)).unwrap();
        let sol = ode.solve(&y0, (0.0, 2.0), &SaveAt::Times(TIMES.to_vec())).unwrap();
        let grads = loss(&sol.ys).backward().unwrap();
        let solver = adaptive(method_of(&gradient), 1e-4);
        let explicit = gradients(solver, gradient.clone(), (0.0, 2.0), &TIMES, DType::F64);
        assert!(distance(grads.get(&vars[0]).unwrap(), &explicit.theta[0]) < 1e-14, "{gradient:?}");
        assert!(distance(grads.get(&y0).unwrap(), &explicit.y0) < 1e-14, "{gradient:?}");
    }
}

#[test]
fn what_a_strategy_cannot_do_is_refused() {
    let refusal = |solver: Solver, gradient: Gradient| {
        let field = Mlp::new(DType::F64);
        let vars = field.vars();
        let ode = Ode::new(solver, field, vars).unwrap().gradient(gradient);
        let (sol, tape) = match ode.forward(&state(DType::F64), (0.0, 1.0), &SaveAt::End) {
            Ok(forward) => forward,
            Err(error) => return error,
        };
        tape.pullback_with_times(&sol.ys.ones_like().unwrap()).unwrap_err()
    };
    assert_eq!(
        refusal(adaptive(&DOPRI5, 1e-4), Gradient::Mali).to_string(),
        "steps of dopri5 cannot be undone; give the solver Method::Leapfrog, Splitting::VERLET or \
         Splitting::YOSHIDA4, or use Gradient::Aca"
    );
    assert_eq!(
        refusal(adaptive(&ALF, 1e-4), Gradient::Mali).to_string(),
        "Mali cannot do gradients with respect to times; use Aca"
    );
    assert_eq!(
        refusal(adaptive(&DOPRI5, 1e-4), Gradient::Naive).to_string(),
        "Naive cannot do gradients with respect to times; use Aca"
    );
    assert_eq!(
        refusal(adaptive(&ALF, 1e-4), Gradient::Aca).to_string(),
        "leapfrog steps carry a second slope, which only Mali and Naive differentiate; choose \
         one of them, or another method"
    );
    assert_eq!(
        refusal(adaptive(&DOPRI5, 1e-4), Gradient::AcaBudget { checkpoints: 0 }).to_string(),
        "checkpoints = 0 is not allowed; it must be at least 1"
    );
}

#[test]
fn a_naive_solve_of_twenty_thousand_steps_neither_overflows_nor_hangs() {
    let decay = |_t: &aca_core::Time, y: &Tensor| y.neg();
    let solver = Solver { max_steps: 20_000, ..Solver::fixed_count(aca_tableau::MIDPOINT, 20_000) };
    let ode = Ode::new(solver, decay, vec![]).unwrap().gradient(Gradient::Naive);
    let y0 = Var::new(&[1.0f64], &candle_core::Device::Cpu).unwrap();
    let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
    let grads = sol.y1.sum_all().unwrap().backward().unwrap();
    let slope = grads.get(&y0).unwrap().to_vec1::<f64>().unwrap()[0];
    assert!((slope - (-1.0f64).exp()).abs() < 1e-9, "dy1/dy0 = {slope}");
}

#[test]
fn a_graph_too_deep_to_walk_is_refused_in_favour_of_aca() {
    let long = |_t: &aca_core::Time, y: &Tensor| {
        (0..20_000).try_fold(y.clone(), |y, _| y.affine(-1.0, 0.0))
    };
    let solver = Solver::fixed_count(DOPRI5, 50);
    let ode = Ode::new(solver, long, vec![]).unwrap().gradient(Gradient::Naive);
    let y0 = Tensor::new(&[1.0f64], &candle_core::Device::Cpu).unwrap();
    let refusal = std::thread::Builder::new()
        .stack_size(256 << 20)
        .spawn(move || ode.forward(&y0, (0.0, 1.0), &SaveAt::End).map(|_| ()).unwrap_err());
    let error = refusal.unwrap().join().unwrap();
    assert!(matches!(error, Error::NaiveTooDeep { .. }), "{error}");
    assert!(error.to_string().ends_with("use Aca, which has no such limit"), "{error}");
}

#[test]
fn outputs_chosen_later_have_the_gradient_of_those_named_before() {
    let rest = [Gradient::Aca, Gradient::Mali, Gradient::Backsolve(Backsolve::default())];
    for gradient in [exact(), rest.to_vec()].concat() {
        let field = Mlp::new(DType::F64);
        let vars = field.vars();
        let solver = adaptive(method_of(&gradient), 1e-4);
        let ode = Ode::new(solver, field, vars.clone()).unwrap().gradient(gradient.clone());
        let slope = |ys: &Tensor| loss(ys).backward().unwrap().get(&vars[0]).unwrap().clone();
        let solve = |save_at: &SaveAt| ode.solve(&state(DType::F64), (0.0, 2.0), save_at).unwrap();
        let later = slope(&solve(&SaveAt::Dense).at_times(&TIMES).unwrap());
        let named = slope(&solve(&SaveAt::Times(TIMES.to_vec())).ys);
        assert!(distance(&later, &named) < 1e-13, "{gradient:?}: {:e}", distance(&later, &named));
    }
}

#[test]
fn gradient_through_step_sizes_is_a_number_where_the_error_estimate_is_zero() {
    for dtype in [DType::F32, DType::F64] {
        let rate = Var::from_tensor(&state(dtype)).unwrap();
        let slope = rate.clone();
        let field = move |_t: &Time, y: &Tensor| y.zeros_like()? + slope.as_tensor();
        let solver = adaptive(&HEUN_EULER, 1e-4);
        let ode = Ode::new(solver, field, vec![rate.clone()]).unwrap();
        let ode = ode.gradient(Gradient::NaiveThroughStepSize);
        let sol = ode.solve(&state(dtype), (0.0, 1.5), &SaveAt::End).unwrap();
        let grads = sol.y1.sum_all().unwrap().backward().unwrap();
        let exact = state(dtype).ones_like().unwrap().affine(1.5, 0.0).unwrap();
        assert!(distance(grads.get(&rate).unwrap(), &exact) < 1e-6, "{dtype:?}");
    }
}

#[test]
fn gradient_through_step_sizes_needs_times_that_are_tensors() {
    let y0 = Var::from_tensor(&state(DType::F64)).unwrap();
    let solve = |hidden: bool| {
        let field = move |t: &Time, y: &Tensor| {
            let t = if hidden { Tensor::new(t.value(), y.device())? } else { t.tensor(y)? };
            y.broadcast_mul(&(t * 3.0)?.cos()?)
        };
        let ode = Ode::new(adaptive(&HEUN_EULER, 1e-2), field, Vec::new()).unwrap();
        ode.gradient(Gradient::NaiveThroughStepSize).solve(&y0, (0.0, 2.0), &SaveAt::End)
    };
    let error = solve(true).map(|_| ()).unwrap_err();
    assert!(matches!(GradientError::of(&error), Some(GradientError::TimeRead)), "{error}");
    assert!(solve(false).is_ok());
}

#[test]
fn every_accepted_step_of_every_strategy_is_reported_once() {
    for gradient in all().into_iter().chain([Gradient::Aca]) {
        let reports = Arc::new(AtomicUsize::new(0));
        let count = reports.clone();
        let progress = ProgressFn::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let method = if matches!(gradient, Gradient::Mali) { ALF } else { DOPRI5.into() };
        let solver = Solver { progress: Some(progress), ..adaptive(method, 1e-3) };
        let field = Mlp::new(DType::F64);
        let vars = field.vars();
        let ode = Ode::new(solver, field, vars).unwrap().gradient(gradient.clone());
        let sol = ode.solve(&state(DType::F64), (0.0, 1.0), &SaveAt::End).unwrap();
        let accepted = sol.stats.accepted;
        loss(&sol.y1).backward().unwrap();
        let reports = reports.load(Ordering::Relaxed);
        assert_eq!(reports, accepted, "{gradient:?}");
    }
}

#[test]
fn problems_that_share_a_field_find_the_gradient_that_one_alone_finds() {
    let field = Arc::new(Mlp::new(DType::F64));
    let gradient = |ode: Ode| {
        let y0 = Var::from_tensor(&state(DType::F64)).unwrap();
        let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
        loss(&sol.ys).backward().unwrap().get(&field.w1).unwrap().clone()
    };
    let solvers = [adaptive(&DOPRI5, 1e-4), Solver::fixed_count(DOPRI5, 5)];
    for solver in solvers {
        let shared = Ode::shared(solver.clone(), field.clone(), field.vars()).unwrap();
        let alone = Mlp { w1: field.w1.clone(), w2: field.w2.clone() };
        let alone = Ode::new(solver, alone, field.vars()).unwrap();
        assert_eq!(distance(&gradient(shared), &gradient(alone)), 0.0);
    }
}
