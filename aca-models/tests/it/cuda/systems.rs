use aca_adjoint::Ode;
use aca_core::{Batching, Solver, Time, Tolerance, VectorField};
use aca_dense::SaveAt;
use aca_models::systems::{
    ClosedForm, CubicSpiral, LinearDecay, Lorenz, LotkaVolterra, System, ThreeBody, VanDerPol,
};
use candle_core::{DType, Device, Tensor, Var};

use super::{assert_same, cotangent, var};

/// Slopes and both cotangents of so many states.
fn closed_form<S: System + Default>(
    states: usize,
    own: bool,
    place: (DType, &Device),
) -> Vec<Tensor> {
    let shape = if own { vec![states, S::PARAMS] } else { vec![S::PARAMS] };
    let theta = var(&shape, 0.8, place);
    let field = ClosedForm::new(S::default(), theta.clone());
    let y = var(&[states, S::DIM], 1.5, place).as_detached_tensor();
    let (f, pullback) = field.linearize(&Time::new(0.0), &y).unwrap();
    let slopes = field.eval(&Time::new(0.0), &y).unwrap();
    let bars = pullback.apply(&cotangent(&f)).unwrap();
    vec![slopes, f, bars.y, bars.theta.get(&theta).unwrap().clone()]
}

fn assert_agrees<S: System + Default>() {
    // A state alone, several of a block, several blocks: the last adds up in two launches.
    for (states, own) in [(1, false), (77, false), (3000, false), (5, true), (600, true)] {
        let what = format!("{} {states}, own {own}", std::any::type_name::<S>());
        // Sums over states are of f64 here and of the state's type there.
        assert_same(&what, 4096.0, |dtype, device| closed_form::<S>(states, own, (dtype, device)));
    }
}

#[test]
fn systems_on_a_gpu_have_the_cpus_slopes_and_pullbacks() {
    assert_agrees::<LinearDecay>();
    assert_agrees::<CubicSpiral>();
    assert_agrees::<VanDerPol>();
    assert_agrees::<LotkaVolterra>();
    assert_agrees::<Lorenz>();
    assert_agrees::<ThreeBody>();
}

#[test]
fn oscillators_on_a_gpu_find_their_stiffness_when_others_are_left_out() {
    assert_same("samples", 1e5, |dtype, device| {
        let stiffness = [0.5f64, 1.0, 2.0, 4.0, 8.0];
        let mu = Tensor::new(&stiffness, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let mu = Var::from_tensor(&mu.to_device(device).unwrap()).unwrap();
        let y0 = var(&[5, 2], 1.0, (dtype, device)).as_detached_tensor();
        let tolerance = Tolerance { rtol: 1e-4, atol: 1e-4 };
        let solver = Solver::adaptive(aca_tableau::DOPRI5, tolerance);
        let solver = Solver { batching: Batching::PerSample, ..solver };
        let field = ClosedForm::new(VanDerPol, mu.clone());
        let ode = Ode::new(solver, field, vec![mu.clone()]).unwrap();
        let y1 = ode.solve(&y0, (0.0, 2.0), &SaveAt::End).unwrap().y1;
        super::value_and_gradients(&y1, &[&mu])
    });
}

#[test]
fn three_bodies_on_a_gpu_have_the_cpus_gradient() {
    // Fixed steps, so that rounding cannot decide about one.
    assert_same("three bodies", 1e5, |dtype, device| {
        let place = |x: &[f64]| {
            let x = Tensor::new(x, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            x.to_device(device).unwrap()
        };
        let masses = Var::from_tensor(&place(&ThreeBody::MASSES)).unwrap();
        let field = ClosedForm::new(ThreeBody, masses.clone());
        let solver = Solver::fixed_count(aca_tableau::RK4, 40);
        let ode = Ode::new(solver, field, vec![masses.clone()]).unwrap();
        let times = SaveAt::Times(vec![0.1, 0.25, 0.5]);
        let ys = ode.solve(&place(&ThreeBody::Y0), (0.0, 0.5), &times).unwrap().ys;
        super::value_and_gradients(&ys, &[&masses])
    });
}
