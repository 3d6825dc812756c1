//! Gradient strategies on every system, whose closed forms enter as `linearize` and as `trace`.

use aca_adjoint::{Gradient, Ode};
use aca_core::{Solver, Tolerance};
use aca_dense::SaveAt;
use aca_models::systems::{
    ClosedForm, CubicSpiral, LinearDecay, Lorenz, LotkaVolterra, System, ThreeBody, VanDerPol,
};
use aca_tableau::DOPRI5;
use candle_core::{Device, Tensor, Var};

/// Gradients of a loss on outputs inside steps, with respect to the state and the parameters.
fn gradients<S: System>(
    field: ClosedForm<S>,
    y0: &[f64],
    span: (f64, f64),
    gradient: Gradient,
) -> Vec<f64> {
    let theta = field.theta().clone();
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-6, atol: 1e-6 });
    let ode = Ode::new(solver, field, vec![theta.clone()]).unwrap().gradient(gradient);
    let y0 = Var::new(y0, &Device::Cpu).unwrap();
    let at = |part: f64| span.0 + part * (span.1 - span.0);
    let times = SaveAt::Times([0.0, 0.13, 0.4, 0.77, 1.0].map(at).to_vec());
    let ys = ode.solve(&y0, span, &times).unwrap().ys;
    let weights = Tensor::arange(1.0f64, ys.elem_count() as f64 + 1.0, &Device::Cpu).unwrap();
    let weighted = ys.sqr().unwrap().mul(&weights.reshape(ys.shape()).unwrap()).unwrap();
    let grads = weighted.mean_all().unwrap().backward().unwrap();
    [&y0, &theta].iter().flat_map(|x| grads.get(x).unwrap().to_vec1::<f64>().unwrap()).collect()
}

fn assert_exact<S: System>(make: impl Fn() -> ClosedForm<S>, y0: &[f64], t1: f64) {
    for span in [(0.0, t1), (t1, 0.0)] {
        let aca = gradients(make(), y0, span, Gradient::Aca);
        let size = aca.iter().map(|g| g * g).sum::<f64>().sqrt();
        let budgets = [1, 2, 7].map(|checkpoints| Gradient::AcaBudget { checkpoints });
        for gradient in std::iter::once(Gradient::Naive).chain(budgets) {
            let other = gradients(make(), y0, span, gradient.clone());
            let off =
                aca.iter().zip(&other).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt() / size;
            let name = std::any::type_name::<S>();
            assert!(off <= 1e-11, "{name} {span:?} {gradient:?}: off by {off:e}, bound 1e-11");
        }
    }
}

#[test]
fn exact_strategies_agree_on_linear_decay() {
    assert_exact(|| LinearDecay::field(0.7).unwrap(), &[1.3], 3.0);
}

#[test]
fn exact_strategies_agree_on_the_cubic_spiral() {
    assert_exact(|| CubicSpiral::field(CubicSpiral::CLASSIC).unwrap(), &[1.1, 0.3], 1.0);
}

#[test]
fn exact_strategies_agree_on_van_der_pol() {
    assert_exact(|| VanDerPol::field(&[1.2]).unwrap(), &[1.5, 0.5], 1.0);
}

#[test]
fn exact_strategies_agree_on_lotka_volterra() {
    assert_exact(|| LotkaVolterra::field([0.5; 4]).unwrap(), &[1.2, 1.8], 4.0);
}

#[test]
fn exact_strategies_agree_on_lorenz() {
    assert_exact(|| Lorenz::field(Lorenz::CLASSIC).unwrap(), &[1.0, 1.0, 1.0], 0.4);
}

#[test]
fn exact_strategies_agree_on_three_bodies() {
    assert_exact(|| ThreeBody::field(ThreeBody::MASSES).unwrap(), &ThreeBody::Y0, 0.2);
}
