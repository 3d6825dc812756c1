//! Gradients beside central differences on held steps.

use aca_adjoint::{Backsolve, Gradient, GradientError, Ode};
use aca_core::{
    Batching, Cotangents, Method, Pullback, Solver, Time, VectorField, linearize_by_autograd,
};
use aca_dense::SaveAt;
use aca_tableau::{DOPRI5, KVAERNO3, RK4};
use candle_core::{DType, Device, Result, Tensor, Var};

use crate::common::{Mlp, adaptive, loss, state};

fn mlp(dtype: DType, solver: Solver) -> Ode {
    let mlp = Mlp::new(dtype);
    let vars = mlp.vars();
    Ode::new(solver, mlp, vars).unwrap()
}

#[test]
fn a_network_agrees_with_differences_on_the_steps_of_an_adaptive_solve() {
    let methods: [Method; 3] = [DOPRI5.into(), RK4.into(), KVAERNO3.into()];
    for method in methods {
        let name = method.name().to_owned();
        let ode = mlp(DType::F64, adaptive(method, 1e-3));
        for save_at in [SaveAt::End, SaveAt::Times(vec![0.3, 0.9, 2.0]), SaveAt::Steps] {
            let check = ode.check_by_differences(&state(DType::F64), (0.0, 2.0), &save_at, |sol| {
                Ok(loss(&sol.ys))
            });
            let check = check.unwrap();
            // Newton's iteration solves the stages of a loose tolerance loosely.
            let bound = if name == "kvaerno3" { 1e-3 } else { 1e-7 };
            assert!(check.worst < bound, "{name}, {save_at:?}: {check:?}");
            assert_eq!(check.entries, 6 + 24 + 24);
        }
    }
}

#[test]
fn a_decay_agrees_with_its_difference_and_parameters_keep_their_values() {
    let rate = Var::new(&[0.7f64], &Device::Cpu).unwrap();
    let k = rate.clone();
    let decay = move |_t: &Time, y: &Tensor| y.broadcast_mul(&k)?.neg();
    let ode = Ode::new(adaptive(DOPRI5, 1e-10), decay, vec![rate.clone()]).unwrap();
    let y0 = Tensor::new(&[2.0f64], &Device::Cpu).unwrap();
    let end = |sol: &aca_adjoint::OdeSolution| sol.y1.sum_all();
    let check = ode.check_by_differences(&y0, (0.0, 1.0), &SaveAt::End, end).unwrap();
    assert!(check.worst < 1e-9 && check.entries == 2, "{check:?}");
    let exact = match check.variable {
        None => (-0.7f64).exp(),
        Some(_) => -2.0 * (-0.7f64).exp(),
    };
    assert!((check.gradient - exact).abs() < 1e-8 && (check.difference - exact).abs() < 1e-8);
    assert_eq!(rate.to_vec1::<f64>().unwrap(), [0.7]);
}

/// A decay whose pullback forgets a part of its derivative by the rate.
struct Slip(Var);

impl VectorField for Slip {
    fn eval(&self, _t: &Time, y: &Tensor) -> Result<Tensor> {
        y.broadcast_mul(&self.0)?.neg()
    }

    fn linearize(&self, t: &Time, y: &Tensor) -> Result<(Tensor, Pullback<'_>)> {
        let y = y.clone();
        let (f, _) = linearize_by_autograd(|t, y| self.eval(t, y), t, &y)?;
        Ok((
            f,
            Pullback::new(move |cotangent| {
                let (t, field) = (Time::new(0.0), |t: &Time, y: &Tensor| self.eval(t, y));
                let (_, pullback) = linearize_by_autograd(field, &t, &y)?;
                let Cotangents { y, mut theta, t } = pullback.apply(cotangent)?;
                let rate = theta.get(&self.0).map(|bar| bar * 0.9).transpose()?;
                rate.into_iter().for_each(|bar| drop(theta.insert(&self.0, bar)));
                Ok(Cotangents { y, theta, t })
            }),
        ))
    }
}

#[test]
fn a_slip_in_a_pullback_is_found_and_its_variable_named() {
    let rate = Var::new(&[0.7f64], &Device::Cpu).unwrap();
    let ode = Ode::new(adaptive(DOPRI5, 1e-4), Slip(rate.clone()), vec![rate]).unwrap();
    let y0 = Tensor::new(&[2.0f64], &Device::Cpu).unwrap();
    let check = ode.check_by_differences(&y0, (0.0, 1.0), &SaveAt::End, |sol| sol.y1.sum_all());
    let check = check.unwrap();
    assert!((check.worst - 0.1).abs() < 1e-6 && check.variable == Some(0), "{check:?}");
}

#[test]
fn large_variables_are_compared_at_a_hundred_entries() {
    let shift = Var::zeros(1000, DType::F64, &Device::Cpu).unwrap();
    let s = shift.clone();
    let field = move |_t: &Time, y: &Tensor| y.neg()? + s.as_tensor();
    let ode = Ode::new(adaptive(DOPRI5, 1e-4), field, vec![shift]).unwrap();
    let y0 = Tensor::ones(1000, DType::F64, &Device::Cpu).unwrap();
    let mean = |sol: &aca_adjoint::OdeSolution| sol.y1.sqr()?.mean_all();
    let check = ode.check_by_differences(&y0, (0.0, 1.0), &SaveAt::End, mean).unwrap();
    assert!(check.entries == 200 && check.worst < 1e-5, "{check:?}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let refusal = |ode: &Ode, dtype| {
        let check = ode
            .check_by_differences(&state(dtype), (0.0, 1.0), &SaveAt::End, |sol| Ok(loss(&sol.ys)));
        check.map(|_| ()).unwrap_err()
    };
    let single = mlp(DType::F32, adaptive(DOPRI5, 1e-4));
    let error = refusal(&single, DType::F32);
    assert!(matches!(GradientError::of(&error), Some(GradientError::DifferencesNeedF64 { .. })));
    assert_eq!(
        error.to_string(),
        "differences need f64, but the state or a parameter is f32; build the network and the state in f64 for this check"
    );
    let solver = Solver { batching: Batching::PerSample, ..adaptive(DOPRI5, 1e-4) };
    let error = refusal(&mlp(DType::F64, solver), DType::F64).to_string();
    let expected = "a check by differences holds the steps of one solve, and samples that step on their own have none in \
                    common; use Batching::Shared, or check one sample";
    assert_eq!(error, expected);
    let error = refusal(&mlp(DType::F64, adaptive(Method::auto(), 1e-4)), DType::F64).to_string();
    let expected = "a check by differences holds the steps of one solve, and a method that switches cannot take given \
                    steps; check with dopri5, or with kvaerno5 if the problem is stiff: the field's derivatives are the same";
    assert_eq!(error, expected);
    let ode = mlp(DType::F64, adaptive(DOPRI5, 1e-4));
    let y0 = state(DType::F64);
    let expected =
        "the loss has shape [2, 3], but a gradient is that of one number; take its sum or mean";
    let check = ode.check_by_differences(&y0, (0.0, 1.0), &SaveAt::End, |sol| Ok(sol.y1.clone()));
    assert_eq!(check.map(|_| ()).unwrap_err().to_string(), expected);
    let whole = |ode: &Ode| Ok(ode.solve(&y0, (0.0, 1.0), &SaveAt::End)?.y1.clone());
    assert_eq!(ode.check_gradient(&[], whole).map(|_| ()).unwrap_err().to_string(), expected);
}

#[test]
fn a_continuous_adjoint_shows_how_far_it_is_off() {
    let backsolve = Gradient::Backsolve(Backsolve::default());
    let ode = mlp(DType::F64, adaptive(DOPRI5, 1e-3)).gradient(backsolve);
    let check = ode.check_by_differences(&state(DType::F64), (0.0, 2.0), &SaveAt::End, |sol| {
        Ok(loss(&sol.ys))
    });
    let check = check.unwrap();
    assert!(check.worst > 1e-6, "{check:?}");
}
