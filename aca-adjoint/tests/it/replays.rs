//! A replay that is not what ran is refused, and so is what a replay cannot know.

use std::sync::atomic::{AtomicUsize, Ordering};

use aca_adjoint::{Backsolve, Gradient, Ode};
use aca_core::Method::Leapfrog as ALF;
use aca_core::{Batching, Error, Result, Solver, Time, Tolerance};
use aca_dense::SaveAt;
use aca_tableau::{DOPRI5, EULER, HEUN_EULER};
use candle_core::{DType, Device, Tensor, Var};

fn adaptive(tolerance: f64) -> Solver {
    Solver::adaptive(DOPRI5, Tolerance { rtol: tolerance, atol: tolerance })
}

fn strategies() -> [(Gradient, Solver); 6] {
    let alf = Solver::adaptive(ALF, Tolerance { rtol: 1e-4, atol: 1e-4 });
    [
        (Gradient::Aca, adaptive(1e-6)),
        (Gradient::AcaBudget { checkpoints: 2 }, adaptive(1e-6)),
        (Gradient::Naive, adaptive(1e-6)),
        (Gradient::NaiveThroughStepSize, adaptive(1e-4)),
        (Gradient::Backsolve(Backsolve::default()), adaptive(1e-6)),
        (Gradient::Mali, alf),
    ]
}

fn var(x: f64) -> Var {
    Var::new(&[x], &Device::Cpu).unwrap()
}

/// The error that a backward pass ends in, found again behind candle's.
fn refusal(error: candle_core::Error) -> String {
    error.to_string()
}

#[test]
fn a_parameter_set_between_solve_and_backward_is_refused_by_every_strategy() {
    for (gradient, solver) in strategies() {
        let k = var(0.5);
        let rate = k.clone();
        let decay = move |_: &Time, y: &Tensor| y.broadcast_mul(&rate)?.neg();
        let name = format!("{gradient:?}");
        let ode = Ode::new(solver, decay, vec![k.clone()]).unwrap().gradient(gradient);
        let y0 = Tensor::new(&[1.0f64], &Device::Cpu).unwrap();
        let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
        let loss = sol.y1.sum_all().unwrap();
        k.set(&Tensor::new(&[2.0f64], &Device::Cpu).unwrap()).unwrap();
        let text = refusal(loss.backward().map(|_| ()).unwrap_err());
        assert!(text.starts_with("parameter 0 was changed between"), "{name}: {text}");
        // Set back to the same bits, the gradient is that of the solve: -exp(-1/2).
        k.set(&Tensor::new(&[0.5f64], &Device::Cpu).unwrap()).unwrap();
        let g = loss.backward().unwrap().get(&k).unwrap().to_vec1::<f64>().unwrap()[0];
        assert!((g + (-0.5f64).exp()).abs() < 1e-3, "{name}: {g}");
    }
}

#[test]
fn a_field_with_dropout_is_refused_and_its_mask_held_fixed_is_exact() {
    for gradient in [Gradient::Aca, Gradient::AcaBudget { checkpoints: 2 }] {
        let noisy = |_: &Time, y: &Tensor| candle_nn::ops::dropout(y, 0.5);
        let ode = Ode::new(Solver::fixed_count(EULER, 6), noisy, vec![])
            .unwrap()
            .gradient(gradient.clone());
        let y0 = Var::from_tensor(&Tensor::ones(64, DType::F64, &Device::Cpu).unwrap()).unwrap();
        let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
        let error = sol.y1.sum_all().unwrap().backward().map(|_| ()).unwrap_err();
        let text = refusal(error);
        assert!(text.contains("when it is replayed"), "{text}");

        let mask =
            candle_nn::ops::dropout(&y0.as_detached_tensor().ones_like().unwrap(), 0.5).unwrap();
        let fixed = move |_: &Time, y: &Tensor| y * &mask;
        let ode =
            Ode::new(Solver::fixed_count(EULER, 6), fixed, vec![]).unwrap().gradient(gradient);
        let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
        let y1 = sol.y1;
        let grads = y1.sum_all().unwrap().backward().unwrap();
        // Linear in y0 = 1, so the gradient of the sum is y1.
        let off =
            (grads.get(&y0).unwrap() - &y1.detach()).unwrap().abs().unwrap().max_all().unwrap();
        assert!(off.to_scalar::<f64>().unwrap() < 1e-14);
    }
}

#[test]
fn a_counter_inside_a_field_is_refused_for_samples_with_steps_of_their_own() {
    let calls = AtomicUsize::new(0);
    let counting = move |_: &Time, y: &Tensor| {
        y.affine(-1.0 - 1e-3 * calls.fetch_add(1, Ordering::Relaxed) as f64, 0.0)
    };
    let solver = Solver { batching: Batching::PerSample, ..Solver::fixed_count(HEUN_EULER, 5) };
    let ode = Ode::new(solver, counting, vec![]).unwrap();
    let y0 = Var::new(&[[1.0f64], [2.0]], &Device::Cpu).unwrap();
    // A counter lets rows seem coupled at the start already, or its replay differs: never a number.
    let result = ode.solve(&y0, (0.0, 1.0), &SaveAt::End);
    let text = match result {
        Err(error) => error.to_string(),
        Ok(sol) => refusal(sol.y1.sum_all().unwrap().backward().map(|_| ()).unwrap_err()),
    };
    assert!(text.contains("replayed") || text.contains("other samples"), "{text}");
}

#[test]
fn a_variable_first_read_after_the_start_is_refused_by_every_strategy() {
    for (gradient, solver) in strategies() {
        let (k, late) = (var(0.5), var(1.5));
        let (first, second) = (k.clone(), late.clone());
        let field = move |t: &Time, y: &Tensor| {
            y.broadcast_mul(if t.value() < 0.5 { &first } else { &second })?.neg()
        };
        let through = matches!(gradient, Gradient::NaiveThroughStepSize);
        let name = format!("{gradient:?}");
        let solver = Solver { jump_ts: vec![0.5], ..solver };
        let ode = Ode::new(solver, field, vec![k.clone()]).unwrap().gradient(gradient);
        let y0 = Tensor::new(&[1.0f64], &Device::Cpu).unwrap();
        let result = ode.solve(&y0, (0.0, 1.0), &SaveAt::End);
        if through {
            // Such a field reads the time as a number, and has jumps: this strategy refuses both.
            assert!(result.is_err(), "{name} took a field that reads the time as a number");
            continue;
        }
        let loss = result.unwrap().y1.sum_all().unwrap();
        let text = refusal(loss.backward().map(|_| ()).unwrap_err());
        assert!(text.starts_with("the field reads a variable of shape [1]"), "{name}: {text}");
    }
}

#[test]
fn parameters_that_no_stage_reaches_are_named() {
    let (k, detached) = (var(0.5), var(2.0));
    let (rate, hidden) = (k.clone(), detached.clone());
    let field = move |_: &Time, y: &Tensor| y.broadcast_mul(&rate)? * hidden.as_detached_tensor();
    let field = move |t: &Time, y: &Tensor| field(t, y);
    let ode = Ode::new(adaptive(1e-8), field, vec![k, detached]).unwrap();
    let y0 = Tensor::new(&[1.0f64], &Device::Cpu).unwrap();
    let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
    assert!(sol.report().is_none());
    sol.y1.sum_all().unwrap().backward().unwrap();
    assert_eq!(sol.report().unwrap().unreached, [1]);
}

#[test]
fn gradients_of_times_refuse_a_field_that_reads_the_number() {
    let y0 = Tensor::new(&[1.0f64], &Device::Cpu).unwrap();
    let times = Var::new(&[0.2f64, 1.1], &Device::Cpu).unwrap();
    let as_number = |t: &Time, y: &Tensor| y.ones_like()? * (1.5 * t.value()).cos();
    let as_tensor =
        |t: &Time, y: &Tensor| y.ones_like()?.broadcast_mul(&t.tensor(y)?.affine(1.5, 0.0)?.cos()?);
    for gradient in [Gradient::Aca, Gradient::AcaBudget { checkpoints: 3 }] {
        let ode = Ode::new(adaptive(1e-8), as_number, vec![]).unwrap().gradient(gradient.clone());
        let loss =
            |ode: &Ode| -> Result<Tensor> { Ok(ode.solve_times(&y0, &times)?.y1.sum_all()?) };
        let text = refusal(loss(&ode).unwrap().backward().map(|_| ()).unwrap_err());
        assert!(text.starts_with("the field read the time as a number"), "{text}");
        let ode = Ode::new(adaptive(1e-8), as_tensor, vec![]).unwrap().gradient(gradient);
        let grads = loss(&ode).unwrap().backward().unwrap();
        let g = grads.get(&times).unwrap().to_vec1::<f64>().unwrap();
        let truth = [-(1.5f64 * 0.2).cos(), (1.5f64 * 1.1).cos()];
        assert!((g[0] - truth[0]).abs() < 1e-6 && (g[1] - truth[1]).abs() < 1e-6, "{g:?}");
    }
    let solver = Solver { batching: Batching::PerSample, ..adaptive(1e-8) };
    let ode = Ode::new(solver, as_number, vec![]).unwrap();
    let y0 = Tensor::new(&[[1.0f64]], &Device::Cpu).unwrap();
    let loss = ode.solve_times(&y0, &times).unwrap().y1.sum_all().unwrap();
    let text = refusal(loss.backward().map(|_| ()).unwrap_err());
    assert!(text.starts_with("the field read the time as a number"), "{text}");
}

#[test]
fn numbers_of_one_state_are_not_taken_for_samples() {
    let spring = |_: &Time, y: &Tensor| {
        Tensor::cat(&[y.narrow(0, 1, 1)?, y.narrow(0, 0, 1)?.affine(-25.0, 0.0)?], 0)
    };
    let solver = Solver { batching: Batching::PerSample, ..adaptive(1e-8) };
    let ode = Ode::new(solver.clone(), spring, vec![]).unwrap();
    let y0 = Tensor::new(&[1.0f64, 0.0], &Device::Cpu).unwrap();
    let error = ode.solve(&y0, (0.0, 2.0), &SaveAt::End).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::SamplesCoupled { .. }), "{error}");
    // Numbers that do not see one another are samples, whatever the state's shape.
    let apart = Ode::new(solver, |_: &Time, y: &Tensor| y.affine(-25.0, 0.0), vec![]).unwrap();
    let y1 = apart.solve(&y0, (0.0, 0.2), &SaveAt::End).unwrap().y1.to_vec1::<f64>().unwrap();
    assert!((y1[0] - (-5.0f64).exp()).abs() < 1e-7, "{y1:?}");
}

#[test]
fn a_batch_that_a_field_mixes_is_refused() {
    let attention = |_: &Time, y: &Tensor| {
        let weights = candle_nn::ops::softmax(&y.matmul(&y.t()?)?, 1)?;
        weights.matmul(y)?.neg()
    };
    let solver = Solver { batching: Batching::PerSample, ..adaptive(1e-6) };
    let ode = Ode::new(solver, attention, vec![]).unwrap();
    let y0 = Tensor::new(&[[1.0f64, 0.3], [0.2, -0.7], [0.5, 0.5]], &Device::Cpu).unwrap();
    let error = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::SamplesCoupled { .. }), "{error}");
}

#[test]
fn mirrored_rows_are_found_and_a_domain_that_a_probe_leaves_is_not_held_against_a_field() {
    let solver = Solver { batching: Batching::PerSample, ..adaptive(1e-6) };
    for rows in [2, 4, 16, 64] {
        let mirror = move |_: &Time, y: &Tensor| {
            let order: Vec<u32> = (0..rows as u32).rev().collect();
            y.index_select(&Tensor::new(order, y.device())?, 0)? - y
        };
        let y0 = Tensor::arange(1.0, rows as f64 + 1.0, &Device::Cpu)
            .unwrap()
            .reshape((rows, 1))
            .unwrap();
        let ode = Ode::new(solver.clone(), mirror, vec![]).unwrap();
        let error = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::SamplesCoupled { .. }), "{rows}: {error}");
    }
    let concentration = |_: &Time, y: &Tensor| {
        if y.max_all()?.to_scalar::<f64>()? > 1.0 + 1e-6 {
            candle_core::bail!("a concentration beyond 1");
        }
        y.affine(-0.5, 0.0)
    };
    let y0 = Tensor::new(&[[1.0f64], [0.5], [0.2]], &Device::Cpu).unwrap();
    Ode::new(solver, concentration, vec![]).unwrap().solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
}

#[test]
fn a_neighbour_at_a_jump_does_not_change_how_a_sample_is_held() {
    for tableau in [HEUN_EULER, aca_tableau::FEHLBERG45, aca_tableau::DOP853] {
        let rates = Tensor::new(&[[100.0f64], [1.0], [500.0], [37.0]], &Device::Cpu).unwrap();
        let solver = Solver {
            jump_ts: vec![0.5],
            stable_steps: aca_core::StableSteps::Always,
            ..Solver::adaptive(tableau.clone(), Tolerance { rtol: 1e-4, atol: 1e-4 })
        };
        let solve = |rates: Tensor, batching| {
            let count = rates.dims()[0];
            let field = move |t: &Time, y: &Tensor| {
                y.broadcast_sub(&t.tensor(y)?.cos()?)?.mul(&rates)?.neg()
            };
            let ode = Ode::new(Solver { batching, ..solver.clone() }, field, vec![]).unwrap();
            let y0 = Tensor::ones((count, 1), DType::F64, &Device::Cpu).unwrap();
            let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
            (
                sol.y1.to_vec2::<f64>().unwrap(),
                sol.stats,
                sol.samples.iter().map(|end| end.stats).collect::<Vec<_>>(),
            )
        };
        let (together, _, stats) = solve(rates.clone(), Batching::PerSample);
        for row in 0..4 {
            let (alone, own, _) = solve(rates.narrow(0, row, 1).unwrap(), Batching::Shared);
            let name = tableau.name();
            assert!(
                (together[row][0] - alone[0][0]).abs() < 1e-12,
                "{name} {row}: {together:?} {alone:?}"
            );
            assert_eq!(stats[row].accepted, own.accepted, "{name} {row}");
            assert_eq!(stats[row].stability_limited, own.stability_limited, "{name} {row}");
        }
    }
}

#[test]
fn times_that_single_precision_cannot_tell_apart_are_refused() {
    let t0 = 1.7e9;
    let wave = move |t: &Time, y: &Tensor| {
        y.ones_like()?.broadcast_mul(&t.tensor(y)?.affine(1.0, -t0)?.cos()?)
    };
    let y0 = Tensor::new(&[0.0f32], &Device::Cpu).unwrap();
    for batching in [Batching::Shared, Batching::PerSample] {
        let solver = Solver { batching, ..adaptive(1e-4) };
        let ode = Ode::new(solver.clone(), wave, vec![]).unwrap();
        let error = ode.solve(&y0, (t0, t0 + 300.0), &SaveAt::End).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("apart in f32"), "{error}");
        // In f64 the same is right: the sine of 300.
        let y0 = y0.to_dtype(DType::F64).unwrap();
        let y1 = ode.solve(&y0, (t0, t0 + 300.0), &SaveAt::End).unwrap().y1;
        assert!((y1.to_vec1::<f64>().unwrap()[0] - 300f64.sin()).abs() < 1e-2);
    }
    // Late bursts of short steps count, however long the others are.
    let burst = |t: &Time, y: &Tensor| {
        let late = t.tensor(y)?.affine(1.0, -99_999.0)?.relu()?.affine(200.0, 0.0)?;
        y.ones_like()?.broadcast_mul(&(late.cos()? * &late)?)
    };
    let solver = Solver { jump_ts: vec![99_999.0], ..adaptive(1e-4) };
    let ode = Ode::new(solver, burst, vec![]).unwrap();
    let error = ode.solve(&y0, (0.0, 1e5), &SaveAt::End).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("apart in f32"), "{error}");
    // A field that reads no time may start wherever it likes, and so may one whose steps are long beside rounding.
    let still = Ode::new(adaptive(1e-4), |_: &Time, y: &Tensor| y.neg(), vec![]).unwrap();
    still.solve(&y0, (t0, t0 + 300.0), &SaveAt::End).unwrap();
    let slow =
        |t: &Time, y: &Tensor| y.ones_like()?.broadcast_mul(&t.tensor(y)?.affine(0.1, 0.0)?.cos()?);
    Ode::new(adaptive(1e-4), slow, vec![])
        .unwrap()
        .solve(&y0, (1000.0, 1001.0), &SaveAt::End)
        .unwrap();
}

#[test]
fn a_check_at_a_tenth_of_the_tolerance_sees_what_a_tolerance_does() {
    let y0 = Var::new(&[1.0f64], &Device::Cpu).unwrap();
    let check = |tolerance: f64| {
        let field = |t: &Time, y: &Tensor| y.broadcast_mul(&t.tensor(y)?.affine(6.0, 0.0)?.cos()?);
        let ode = Ode::new(adaptive(tolerance), field, vec![]).unwrap();
        ode.check_gradient(std::slice::from_ref(&y0), |ode| {
            ode.solve(&y0, (0.0, 3.0), &SaveAt::End)?.y1.sum_all()
        })
        .unwrap()
    };
    let (loose, tight) = (check(1e-2), check(1e-9));
    assert!(tight.difference < 1e-7 && tight.cosine > 0.999_999, "{tight:?}");
    assert!(loose.difference > 100.0 * tight.difference, "{loose:?} {tight:?}");
    let fixed =
        Ode::new(Solver::fixed_count(EULER, 10), |_: &Time, y: &Tensor| y.neg(), vec![]).unwrap();
    let halved = fixed
        .check_gradient(std::slice::from_ref(&y0), |ode| {
            ode.solve(&y0, (0.0, 1.0), &SaveAt::End)?.y1.sum_all()
        })
        .unwrap();
    // Euler's gradients (1 - h)^n at ten and twenty steps.
    let (ten, twenty) = (0.9f64.powi(10), 0.95f64.powi(20));
    assert!((halved.difference - (twenty - ten) / twenty).abs() < 1e-12, "{halved:?}");
}
