//! Additive methods: orders of both parts together, stiff parts, refusals.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aca_core::{
    Batching, Error, Jacobian, Method, Solver, Split, Time, Tolerance, VectorField, WithJacobian,
};
use aca_tableau::{ADDITIVE, KENCARP4};
use candle_core::{Device, Result, Tensor};

use crate::common::{distance, state, values};

/// A pendulum with drag that is driven: the drag and the drive are one part, what swings the other.
fn pendulum() -> Split<impl VectorField + Clone, impl VectorField + Clone> {
    let swing = |_t: &Time, y: &Tensor| {
        Tensor::cat(&[y.narrow(0, 1, 1)?, y.narrow(0, 0, 1)?.sin()?.neg()?], 0)
    };
    let drag = |t: &Time, y: &Tensor| {
        let v = y.narrow(0, 1, 1)?;
        let force = (v.sqr()? * -0.05)?.affine(1.0, (2.0 * t.value()).cos())?;
        Tensor::cat(&[(v * 0.3)?.sin()?, force], 0)
    };
    Split { nonstiff: swing, stiff: drag }
}

fn end(solver: &Solver, field: &dyn VectorField, y0: &Tensor, span: (f64, f64)) -> Tensor {
    solver.solve(field, y0, span, &mut ()).unwrap().y1
}

#[test]
fn errors_of_fixed_steps_fall_with_the_order_of_the_pair() {
    let y0 = state(&[1.0f64, 0.2]);
    for span in [(0.0, 2.0), (2.0, 0.0)] {
        let fine = Solver::fixed_count(aca_tableau::DOP853, 400);
        let exact = values(&end(&fine, &pendulum(), &y0, span));
        for pair in ADDITIVE {
            let error = |count| {
                distance(&end(&Solver::fixed_count(pair, count), &pendulum(), &y0, span), &exact)
            };
            let slope = (error(20) / error(80)).log2() / 2.0;
            let order = pair.order() as f64;
            assert!((order - 0.3..order + 0.8).contains(&slope), "{}: {slope:.2}", pair.name());
        }
    }
}

/// `y' = sin t + rate (cos t - y) - 2 sin t`, of which the pull is stiff; its solution from 1 is cos t.
fn pulled(rate: f64) -> Split<impl VectorField, impl VectorField> {
    let push = |t: &Time, y: &Tensor| y.affine(0.0, -t.value().sin());
    let pull = move |t: &Time, y: &Tensor| y.affine(-rate, rate * t.value().cos());
    Split { nonstiff: push, stiff: pull }
}

#[test]
fn stiff_part_does_not_shorten_steps() {
    for pair in ADDITIVE {
        for rate in [1e3, 1e6, 1e9] {
            let solver = Solver::adaptive(pair, Tolerance { rtol: 1e-6, atol: 1e-6 });
            let end = solver.solve(&pulled(rate), &state(&[1.0f64]), (0.0, 10.0), &mut ()).unwrap();
            let off = distance(&end.y1, &[10f64.cos()]);
            assert!(off < 5e-5, "{} at {rate:e}: {off:e}", pair.name());
            assert!(end.stats.accepted < 2000, "{} at {rate:e}: {:?}", pair.name(), end.stats);
        }
    }
}

#[test]
fn linear_systems_are_those_of_the_stiff_part() {
    // Parts that count their evaluations: the Jacobian of the one that is not stiff is never asked for.
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counted = |which: usize, rate: f64| {
        let counts = counts.clone();
        move |_t: &Time, y: &Tensor| -> Result<Tensor> {
            counts[which].fetch_add(1, Ordering::Relaxed);
            y * rate
        }
    };
    let field = Split {
        nonstiff: WithJacobian::new(counted(0, -1.0), Jacobian::Unknown),
        stiff: WithJacobian::new(counted(1, -1e4), Jacobian::Banded { lower: 0, upper: 0 }),
    };
    let solver = Solver::fixed_count(KENCARP4, 10);
    let y0 = Tensor::ones(50, candle_core::DType::F64, &Device::Cpu).unwrap();
    let end = solver.solve(&field, &y0, (0.0, 1.0), &mut ()).unwrap();
    assert!(distance(&end.y1, &[0.0; 50]) < 1e-6);
    let [nonstiff, stiff] = [0, 1].map(|which| counts[which].load(Ordering::Relaxed));
    // Six stages of ten steps, and the rows' probe.
    assert!(nonstiff < 80, "{nonstiff}");
    assert!(stiff > nonstiff && stiff < 400, "{stiff}");
}

#[test]
fn samples_have_the_bits_of_each_alone() {
    let own = Solver {
        batching: Batching::PerSample,
        ..Solver::adaptive(KENCARP4, Tolerance { rtol: 1e-7, atol: 1e-7 })
    };
    let rates = |_t: &Time, y: &Tensor| (y.sqr()? * y)? * -300.0;
    let field = Split {
        nonstiff: |t: &Time, y: &Tensor| {
            y.ones_like()?.broadcast_mul(&t.tensor(y)?.cos()?.reshape(((), 1))?)
        },
        stiff: rates,
    };
    let y0 = Tensor::new(&[[1.0f64, 0.3], [5.0, 0.1], [0.01, 2.0]], &Device::Cpu).unwrap();
    let together = own.solve(&field, &y0, (0.0, 2.0), &mut ()).unwrap();
    for i in 0..3 {
        let alone = own.solve(&field, &y0.narrow(0, i, 1).unwrap(), (0.0, 2.0), &mut ()).unwrap();
        assert_eq!(values(&together.y1.get(i).unwrap()), values(&alone.y1), "sample {i}");
    }
}

#[test]
fn field_without_parts_is_refused_with_the_remedy() {
    let whole = |_t: &Time, y: &Tensor| y.neg();
    let error = Solver::fixed(KENCARP4, 0.1).solve(&whole, &state(&[1.0f64]), (0.0, 1.0), &mut ());
    let error = error.unwrap_err();
    assert!(matches!(error, Error::FieldNotSplit), "{error}");
    assert!(error.to_string().contains("Split"), "{error}");
    let traced = Solver { trace: true, ..Solver::fixed(KENCARP4, 0.1) };
    let error = traced.solve(&pulled(10.0), &state(&[1.0f64]), (0.0, 1.0), &mut ()).unwrap_err();
    assert!(matches!(error, Error::TracedImplicit { .. }), "{error}");
    assert_eq!(Method::by_name("KenCarp4").unwrap().name(), "kencarp4");
}

#[test]
fn other_methods_step_the_sum() {
    let solver = Solver::adaptive(aca_tableau::KVAERNO5, Tolerance { rtol: 1e-8, atol: 1e-8 });
    let end = end(&solver, &pulled(1e3), &state(&[1.0f64]), (0.0, 3.0));
    assert!(distance(&end, &[3f64.cos()]) < 1e-6);
}
