//! Parameters of half precision in fields of single precision.

use aca_adjoint::{Backsolve, Gradient, Ode};
use aca_core::{Batching, Solver, Time, VectorField};
use aca_dense::SaveAt;
use aca_tableau::DOPRI5;
use candle_core::{DType, Result, Tensor, Var};

use crate::common::{Mlp, adaptive, distance, loss, method_of, state};

/// The Mlp with weights of any type, cast where they meet the state.
struct Cast(Mlp);

impl VectorField for Cast {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        let [w1, w2] = [&self.0.w1, &self.0.w2].map(|w| w.to_dtype(y.dtype()));
        let hidden = y.matmul(&w1?)?.broadcast_add(&t.tensor(y)?.sin()?)?.tanh()?;
        hidden.matmul(&w2?)
    }
}

/// Gradients of the weights, which hold the numbers of type `half` as those of type `dtype`.
fn gradients(solver: &Solver, gradient: &Gradient, half: DType, dtype: DType) -> Vec<Tensor> {
    let Mlp { w1, w2 } = Mlp::new(DType::F32);
    let [w1, w2] = [w1, w2].map(|w| {
        let rounded = w.to_dtype(half).and_then(|w| w.to_dtype(dtype)).unwrap();
        Var::from_tensor(&rounded).unwrap()
    });
    let vars = vec![w1.clone(), w2.clone()];
    let ode = Ode::new(solver.clone(), Cast(Mlp { w1, w2 }), vars.clone()).unwrap();
    let ode = ode.gradient(gradient.clone());
    let sol = ode.solve(&state(DType::F32), (0.0, 2.0), &SaveAt::Times(vec![0.7, 2.0])).unwrap();
    let mut grads = loss(&sol.ys).backward().unwrap();
    vars.iter().map(|var| grads.remove(var).unwrap()).collect()
}

/// Largest distance of the gradients of half precision from those of single precision.
fn error(solver: &Solver, gradient: &Gradient, half: DType) -> f64 {
    let full = gradients(solver, gradient, half, DType::F32);
    let own = gradients(solver, gradient, half, half);
    let apart = own.iter().zip(&full).map(|(own, full)| {
        assert_eq!(own.dtype(), half, "{gradient:?}");
        distance(&own.to_dtype(DType::F32).unwrap(), full)
    });
    apart.fold(0.0, f64::max)
}

/// Twice what rounding every stage's part and the sum costs; where candle adds the parts up, every
/// partial sum is rounded too.
fn bound(gradient: &Gradient, half: DType) -> f64 {
    let unit = if half == DType::F16 { 2f64.powi(-11) } else { 2f64.powi(-8) };
    match gradient {
        Gradient::Naive | Gradient::NaiveThroughStepSize => 8.0 * unit,
        _ => 2.0 * unit,
    }
}

#[test]
fn half_precision_parameters_have_the_gradient_of_single_ones_by_every_strategy() {
    let strategies = [
        Gradient::Aca,
        Gradient::AcaBudget { checkpoints: 2 },
        Gradient::Naive,
        Gradient::NaiveThroughStepSize,
        Gradient::Backsolve(Backsolve::default()),
        Gradient::Mali,
    ];
    for half in [DType::BF16, DType::F16] {
        for gradient in &strategies {
            let (error, bound) = (
                error(&adaptive(method_of(gradient), 1e-2), gradient, half),
                bound(gradient, half),
            );
            assert!(error < bound, "{gradient:?} {half:?}: off by {error:e}, bound {bound:e}");
        }
    }
}

#[test]
fn half_precision_parameters_have_the_gradient_of_single_ones_by_own_clocks() {
    let solver = Solver { batching: Batching::PerSample, ..adaptive(&DOPRI5, 1e-4) };
    for half in [DType::BF16, DType::F16] {
        for gradient in [Gradient::Aca, Gradient::Naive] {
            let (error, bound) = (error(&solver, &gradient, half), bound(&gradient, half));
            assert!(error < bound, "{gradient:?} {half:?}: off by {error:e}, bound {bound:e}");
        }
    }
}

#[test]
fn sums_of_many_small_parts_are_rounded_once() {
    // y' = w: every one of 3000 steps adds 1/3000 to dy1/dw, which bf16 stops to add at 1/8.
    let w = Var::new(&[1f32], &candle_core::Device::Cpu).unwrap();
    let w = Var::from_tensor(&w.to_dtype(DType::BF16).unwrap()).unwrap();
    let slope = w.clone();
    let field = move |_: &Time, y: &Tensor| slope.to_dtype(y.dtype())?.broadcast_as(y.shape());
    let solver = Solver::fixed_count(aca_tableau::EULER, 3000);
    let ode = Ode::new(solver, field, vec![w.clone()]).unwrap();
    let y0 = Tensor::zeros(1, DType::F32, &candle_core::Device::Cpu).unwrap();
    let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
    let grads = sol.y1.sum_all().unwrap().backward().unwrap();
    let slope = grads.get(&w).unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap()[0];
    assert!((slope - 1.0).abs() <= 2f64.powi(-8), "dy1/dw = {slope}");
}
