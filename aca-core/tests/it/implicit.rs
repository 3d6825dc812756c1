//! Diagonally implicit methods: orders on smooth and stiff problems, Newton's iteration, refusals.

use aca_core::{
    Batching, Error, Jacobian, Newton, OnFailure, Solver, Sparsity, Time, Tolerance, WithJacobian,
};
use aca_tableau::{
    ESDIRK4, IMPLICIT, IMPLICIT_EULER, KVAERNO3, KVAERNO4, KVAERNO5, TRAPEZOID, Tableau,
};
use candle_core::{DType, Device, Tensor};

use crate::common::{CAROUSEL, CIRCLE, adaptive, distance, state, values};

/// The error at the end of so many fixed steps.
fn slope(error: impl Fn(usize) -> f64, count: usize) -> f64 {
    (error(count) / error(4 * count)).log2() / 2.0
}

#[test]
fn errors_of_fixed_steps_fall_with_the_order_on_smooth_problems() {
    for tableau in IMPLICIT {
        let count = 40;
        for (problem, span) in
            [(CAROUSEL, (0.0, 1.5)), (CAROUSEL, (1.5, 0.0)), (CIRCLE, (0.0, 2.0))]
        {
            let error =
                |count| problem.error_at_end(&Solver::fixed_count(tableau.clone(), count), span);
            let (slope, order) = (slope(error, count), tableau.order() as f64);
            let name = tableau.name();
            assert!(
                (order - 0.35..=order + 0.8).contains(&slope),
                "{name}: {slope:.2} on {span:?}"
            );
        }
    }
}

/// `y' = -rate (y - cos t) - sin t`, whose solution from 1 is cos t.
fn prothero_robinson(rate: f64) -> impl Fn(&Time, &Tensor) -> candle_core::Result<Tensor> {
    move |t: &Time, y: &Tensor| {
        let t = t.tensor(y)?;
        (y.broadcast_sub(&t.cos()?)? * -rate)?.broadcast_sub(&t.sin()?)
    }
}

#[test]
fn stiff_problems_are_followed_with_the_stage_order_at_least() {
    for rate in [1e3, 1e6] {
        for tableau in IMPLICIT {
            let error = |count| {
                let solver = Solver::fixed_count(tableau.clone(), count);
                let end =
                    solver.solve(&prothero_robinson(rate), &state(&[1.0f64]), (0.0, 2.0), &mut ());
                distance(&end.unwrap().y1, &[2f64.cos()])
            };
            let name = tableau.name();
            // Stiffly accurate methods gain a factor 1 / (h rate) besides.
            let found = error(40);
            assert!(found < 2e-3 / rate.sqrt(), "{name} at {rate:e}: {found:e}");
            let slope = slope(error, 10);
            let least = tableau.stage_order().min(tableau.order()) as f64 - 0.4;
            assert!(slope > least || found < 1e-12, "{name} at {rate:e}: slope {slope:.2}");
        }
    }
}

#[test]
fn fast_decays_are_damped_at_once_by_all_but_the_trapezoidal_rule() {
    let decay = |_t: &Time, y: &Tensor| y.affine(-1e9, 0.0);
    for tableau in IMPLICIT {
        let solver = Solver::fixed_count(tableau.clone(), 3);
        let end = solver.solve(&decay, &state(&[1.0f64]), (0.0, 3.0), &mut ()).unwrap();
        let left = values(&end.y1)[0].abs();
        let bound = if *tableau == TRAPEZOID { 1.1 } else { 1e-6 };
        assert!(left < bound, "{}: {left:e}", tableau.name());
    }
}

/// Robertson's reaction.
fn robertson(_t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
    let last = y.rank() - 1;
    let at = |i: usize| y.narrow(last, i, 1);
    let (a, b, c) = (at(0)?, at(1)?, at(2)?);
    let first = (a * 0.04)?;
    let second = (b.sqr()? * 3e7)?;
    let third = ((b * c)? * 1e4)?;
    let db = ((&first - &third)? - &second)?;
    Tensor::cat(&[(third - first)?, db, second], last)
}

/// At 40, from the test set for initial value problem solvers.
const ROBERTSON: [f64; 3] = [0.715827068719394, 9.185534764557338e-6, 0.2841637457458];

#[test]
fn robertson_is_solved_to_its_tolerance() {
    for tableau in IMPLICIT.iter().filter(|tableau| tableau.is_adaptive()) {
        let solver = Solver::adaptive((*tableau).clone(), Tolerance { rtol: 1e-6, atol: 1e-10 });
        let end = solver.solve(&robertson, &state(&[1.0f64, 0.0, 0.0]), (0.0, 40.0), &mut ());
        let end = end.unwrap();
        let off = values(&end.y1).into_iter().zip(ROBERTSON).map(|(y, r)| (y - r).abs() / r);
        let off = off.fold(0.0, f64::max);
        assert!(off < 3e-5, "{}: {off:e}", tableau.name());
        assert!(end.stats.accepted < 400, "{}: {:?}", tableau.name(), end.stats);
    }
}

#[test]
fn samples_step_as_they_would_alone() {
    // y' = -r (y - cos t): another stiffness for each sample, and one that fails.
    let field = |t: &Time, y: &Tensor| {
        let rates = y.narrow(1, 1, 1)?;
        let slope = ((y.narrow(1, 0, 1)? - t.tensor(y)?.cos()?)? * &rates)?.neg()?;
        Tensor::cat(&[slope, rates.zeros_like()?], 1)
    };
    let rates = [1.0f64, 1e2, 1e5, f64::NAN, 30.0];
    let y0: Vec<f64> = rates.iter().flat_map(|rate| [0.5, *rate]).collect();
    let y0 = Tensor::from_vec(y0, (5, 2), &Device::Cpu).unwrap();
    let solver = Solver {
        batching: Batching::PerSample,
        on_failure: OnFailure::Keep,
        ..adaptive(&ESDIRK4, 1e-7)
    };
    let together = solver.solve(&field, &y0, (0.0, 3.0), &mut ()).unwrap();
    for sample in [0, 1, 2, 4] {
        let own = y0.narrow(0, sample, 1).unwrap();
        let alone = solver.solve(&field, &own, (0.0, 3.0), &mut ()).unwrap();
        let row = together.y1.narrow(0, sample, 1).unwrap();
        assert_eq!(values(&row), values(&alone.y1), "sample {sample}");
        let (a, b) = (&together.samples[sample].stats, &alone.samples[0].stats);
        assert_eq!((a.accepted, a.rejected), (b.accepted, b.rejected), "sample {sample}");
    }
    assert!(!together.samples[3].status.is_finished());
}

#[test]
fn rows_that_are_coupled_are_solved_as_one_system() {
    // Both rows pull on each other, stiffly: blocks of rows alone would not converge.
    let field = |_t: &Time, y: &Tensor| {
        let (a, b) = (y.get(0)?, y.get(1)?);
        let pull = ((&b - &a)? * 1e5)?;
        Tensor::stack(&[(&pull - &a)?, (pull.neg()? - &b)?], 0)
    };
    let y0 = Tensor::new(&[[1.0f64, 2.0], [3.0, -2.0]], &Device::Cpu).unwrap();
    let end = adaptive(&KVAERNO5, 1e-9).solve(&field, &y0, (0.0, 1.0), &mut ()).unwrap();
    let mean = |a: f64, b: f64| 0.5 * (a + b) * (-1f64).exp();
    let expected = [mean(1.0, 3.0), mean(2.0, -2.0), mean(1.0, 3.0), mean(2.0, -2.0)];
    assert!(distance(&end.y1, &expected) < 1e-8, "{}", end.y1);
    assert!(end.stats.accepted < 120, "{:?}", end.stats);
}

#[test]
fn single_precision_is_solved_to_its_rounding() {
    let y0 = state(&[1.0f32, 0.0, 0.0]);
    let solver = Solver::adaptive(KVAERNO3, Tolerance { rtol: 1e-4, atol: 1e-8 });
    let end = solver.solve(&robertson, &y0, (0.0, 40.0), &mut ()).unwrap();
    assert_eq!(end.y1.dtype(), DType::F32);
    assert!(distance(&end.y1, &ROBERTSON) < 1e-3, "{}", end.y1);
}

#[test]
fn a_stage_without_solution_is_told_or_leads_to_a_smaller_step() {
    // k = (1 + k)^2 has no real solution: y' = y^2 by a step of implicit Euler.
    let square = |_t: &Time, y: &Tensor| y.sqr();
    let solver = Solver::fixed_count(IMPLICIT_EULER, 1);
    let error = solver.solve(&square, &state(&[1.0f64]), (0.0, 1.0), &mut ()).unwrap_err();
    let Error::SchemeFailed { method, what } = &error else { panic!("{error}") };
    assert_eq!(method, "implicit_euler");
    assert!(what.starts_with("Newton's iteration"), "{what}");
    // Under error control the step is halved until there is one: y = 1 / (1 - t).
    let solver = Solver { first_step: Some(0.5), ..adaptive(&KVAERNO3, 1e-6) };
    let end = solver.solve(&square, &state(&[1.0f64]), (0.0, 0.5), &mut ()).unwrap();
    assert!(distance(&end.y1, &[2.0]) < 1e-4, "{}", end.y1);
}

#[test]
fn what_an_implicit_method_cannot_do_is_refused_by_name() {
    let decay = |_t: &Time, y: &Tensor| y.neg();
    let y0 = state(&[1.0f64]);
    let traced = Solver { trace: true, ..adaptive(&KVAERNO5, 1e-6) };
    let error = traced.solve(&decay, &y0, (0.0, 1.0), &mut ()).unwrap_err();
    assert!(matches!(error, Error::TracedImplicit { .. }), "{error}");
    // The second stage of kvaerno4 lies beyond the step, where a jump may be.
    let jump = Solver { jump_ts: vec![0.5], ..adaptive(&KVAERNO4, 1e-6) };
    let error = jump.solve(&decay, &y0, (0.0, 1.0), &mut ()).unwrap_err();
    assert!(matches!(error, Error::NodeOutsideStep { .. }), "{error}");
    let jump = Solver { jump_ts: vec![0.5], ..adaptive(&ESDIRK4, 1e-6) };
    jump.solve(&decay, &y0, (0.0, 1.0), &mut ()).unwrap();
    let large = Tensor::ones(3000, DType::F64, &Device::Cpu).unwrap();
    let dense = WithJacobian::new(decay, Jacobian::Dense);
    let larger = Tensor::cat(&[&large, &large], 0).unwrap();
    let error = adaptive(&KVAERNO5, 1e-6).solve(&dense, &larger, (0.0, 1.0), &mut ()).unwrap_err();
    assert!(matches!(error, Error::JacobianTooLarge { size: 6000, .. }), "{error}");
    let other = Sparsity::new([[0], [1]]).unwrap();
    let other = WithJacobian::new(decay, Jacobian::Sparse(other.into()));
    let error = adaptive(&KVAERNO5, 1e-6).solve(&other, &large, (0.0, 1.0), &mut ()).unwrap_err();
    assert!(matches!(error, Error::JacobianSize { got: 2, expected: 3000 }), "{error}");
    let error = Sparsity::new([[0], [2]]).unwrap_err();
    assert!(matches!(error, Error::SparsityOutside { row: 1, column: 2, size: 2 }), "{error}");
    let rows = large.reshape((1500, 2)).unwrap();
    adaptive(&KVAERNO5, 1e-6).solve(&decay, &rows, (0.0, 1.0), &mut ()).unwrap();
    for newton in [
        Newton { fraction: 0.0, ..Newton::default() },
        Newton { fraction: f64::NAN, ..Newton::default() },
        Newton { max_iterations: 1, ..Newton::default() },
    ] {
        let solver = Solver { newton, ..adaptive(&KVAERNO5, 1e-6) };
        assert!(matches!(solver.validate(), Err(Error::InvalidSetting { .. })), "{newton:?}");
    }
}

#[test]
fn small_numbers_beside_large_ones_are_solved_as_if_they_were_alone() {
    // u' = -50 u^3 in units of 1e-6 beside a constant.
    let field = |_: &Time, y: &Tensor| {
        let u = (y.narrow(0, 1, 1)? * 1e6)?;
        Tensor::cat(&[(y.narrow(0, 0, 1)? * 0.0)?, ((u.sqr()? * u)? * -50e-6)?], 0)
    };
    for tableau in IMPLICIT {
        let solver = Solver::fixed_count(tableau.clone(), 40);
        let end = |large: f64| {
            let y0 = state(&[large, 1e-6]);
            values(&solver.solve(&field, &y0, (0.0, 1.0), &mut ()).unwrap().y1)[1] * 1e6
        };
        let alone = end(0.0);
        // The closed form is 1 / sqrt(101).
        assert!((alone - 101f64.sqrt().recip()).abs() < 4e-3, "{}: {alone}", tableau.name());
        for large in [1e4, 1e10] {
            assert_eq!(end(large), alone, "{} beside {large:e}", tableau.name());
        }
    }
}

#[test]
fn steps_far_beyond_what_a_linear_model_reaches_are_solved_too() {
    let field = |t: &Time, y: &Tensor| {
        let push = ((t.tensor(y)? * 3.0)?.cos()? * 20.0)?;
        ((y.sqr()? * y)? * -50.0)?.broadcast_add(&push)
    };
    let end = |method: &Tableau, count| {
        let solver = Solver::fixed_count(method.clone(), count);
        values(&solver.solve(&field, &state(&[1.5f64]), (0.0, 2.0), &mut ()).unwrap().y1)[0]
    };
    let fine = end(&KVAERNO5, 3000);
    for (method, off) in [(&IMPLICIT_EULER, 0.05), (&KVAERNO3, 0.01), (&KVAERNO5, 0.01)] {
        assert!((end(method, 10) - fine).abs() < off, "{}", method.name());
    }
}

#[test]
fn decays_below_the_smallest_number_go_on() {
    for tableau in IMPLICIT.iter().filter(|tableau| tableau.far_stability().is_l_stable()) {
        for rate in [1e3, 1e6, 1e12] {
            let field = move |_: &Time, y: &Tensor| y.affine(-rate, 0.0);
            let solver = Solver::fixed_count((*tableau).clone(), 200);
            let end = solver.solve(&field, &state(&[1.0f64]), (0.0, 10.0), &mut ()).unwrap();
            assert!(values(&end.y1)[0].abs() < 1e-100, "{} at {rate:e}", tableau.name());
        }
    }
}

#[test]
fn rows_that_are_joined_only_later_are_solved_as_one_system() {
    // Both rows go their own way until t = 0.5.
    let field = |t: &Time, y: &Tensor| {
        let joined = (t.tensor(y)? - 0.5)?.relu()?;
        let other = Tensor::cat(&[y.narrow(0, 1, 1)?, y.narrow(0, 0, 1)?], 0)?;
        (other - y)?.broadcast_mul(&(joined * 1e6)?)? - y
    };
    let y0 = Tensor::new(&[[1.0f64], [3.0]], &Device::Cpu).unwrap();
    let end = adaptive(KVAERNO5, 1e-8).solve(&field, &y0, (0.0, 1.0), &mut ()).unwrap();
    let mean = 2.0 * (-1f64).exp();
    assert!(distance(&end.y1, &[mean, mean]) < 1e-6, "{}", end.y1);
    // As many steps as for the same two numbers in one system.
    let whole = adaptive(KVAERNO5, 1e-8);
    let whole = whole.solve(&field, &y0.reshape(2).unwrap(), (0.0, 1.0), &mut ()).unwrap();
    assert!(end.stats.accepted < 2 * whole.stats.accepted + 10, "{:?}", end.stats);
}

#[test]
fn rows_too_many_for_one_matrix_are_solved_as_one_system_without() {
    // Rows i and i + 300 become the same between t = 0.2 and 0.3, and are apart before and after.
    let field = |t: &Time, y: &Tensor| {
        let t = t.tensor(y)?;
        let joined = ((&t - 0.2)?.relu()? * (t.neg()? + 0.3)?.relu()?)?;
        let other = Tensor::cat(&[y.narrow(0, 300, 300)?, y.narrow(0, 0, 300)?], 0)?;
        (other - y)?.broadcast_mul(&(joined * 1e8)?)? - y
    };
    let y0: Vec<f64> = (0..600).map(|i| if i < 300 { 1.0 } else { 3.0 }).collect();
    let y0 = Tensor::from_vec(y0, (600, 1), &Device::Cpu).unwrap();
    let end = adaptive(KVAERNO5, 1e-6).solve(&field, &y0, (0.0, 0.6), &mut ()).unwrap();
    let mean = 2.0 * (-0.6f64).exp();
    for (i, y) in values(&end.y1).into_iter().enumerate() {
        assert!((y - mean).abs() < 1e-4, "row {i}: {y} for {mean}");
    }
}
