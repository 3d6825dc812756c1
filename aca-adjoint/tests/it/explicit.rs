//! The explicit form: a tape and its pullback.

use aca_adjoint::{GradientError, Ode};
use aca_core::StepSink;
use aca_dense::SaveAt;
use aca_tableau::{CASH_KARP, DOPRI5, HEUN_EULER};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};

use crate::common::{Mlp, adaptive, distance, loss, state};

#[test]
fn pullback_agrees_with_the_attached_form() {
    let field = Mlp::new(DType::F64);
    let vars = field.vars();
    let ode = Ode::new(adaptive(&CASH_KARP, 1e-6), field, vars.clone()).unwrap();
    let times = SaveAt::Times(vec![0.2, 0.6, 1.0]);
    let y0 = Var::from_tensor(&state(DType::F64)).unwrap();
    let attached = loss(&ode.solve(&y0, (0.0, 1.0), &times).unwrap().ys).backward().unwrap();

    let (sol, tape) = ode.forward(&y0, (0.0, 1.0), &times).unwrap();
    let ys = Var::from_tensor(&sol.ys).unwrap();
    let mut grads = loss(&ys).backward().unwrap();
    let gradients = tape.pullback(&grads.remove(&ys).unwrap()).unwrap();
    gradients.merge_into(ode.params(), &mut grads).unwrap();
    assert_eq!(distance(&gradients.y0, attached.get(&y0).unwrap()), 0.0);
    for var in &vars {
        assert_eq!(distance(grads.get(var).unwrap(), attached.get(var).unwrap()), 0.0);
    }
    assert_eq!(gradients.nfe, tape.nfe());
}

#[test]
fn merging_adds_to_what_candle_found() {
    let field = Mlp::new(DType::F64);
    let w1 = field.w1.clone();
    let ode = Ode::new(adaptive(&DOPRI5, 1e-6), field, vec![w1.clone()]);
    let ode = ode.unwrap();
    let error = ode.forward(&state(DType::F64), (0.0, 1.0), &SaveAt::End).map(|_| ()).unwrap_err();
    let found = GradientError::of(&error);
    assert!(matches!(found, Some(GradientError::UnlistedVariable { .. })), "{error}");
    let mut store = GradStore::default();
    store.insert(&w1, w1.ones_like().unwrap());
    let gradients = aca_adjoint::Gradients {
        y0: state(DType::F64),
        theta: vec![w1.ones_like().unwrap()],
        times: None,
        sample_times: Vec::new(),
        nfe: 0,
        report: None,
    };
    gradients.merge_into(ode.params(), &mut store).unwrap();
    let sum = store.get(&w1).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
    assert_eq!(sum, 2.0 * w1.elem_count() as f64);
}

#[test]
fn the_tape_is_as_long_as_the_accepted_steps() {
    let field = Mlp::new(DType::F64);
    let mut tape = aca_adjoint::Checkpoints::default();
    let solver = adaptive(&HEUN_EULER, 1e-4);
    let mut pair = (&mut tape, ());
    let sink: &mut dyn StepSink = &mut pair;
    let end = solver.solve(&field, &state(DType::F64), (0.0, 2.0), sink).unwrap();
    assert!(end.stats.rejected > 0, "a solve without rejections shows little");
    let steps = tape.of_sample(0).unwrap();
    assert_eq!(steps.len(), end.stats.accepted);
    assert!(steps.windows(2).all(|pair| pair[0].t1 == pair[1].t0));
}

#[test]
fn cotangents_of_another_shape_are_refused() {
    let field = Mlp::new(DType::F64);
    let vars = field.vars();
    let ode = Ode::new(adaptive(&DOPRI5, 1e-6), field, vars).unwrap();
    let (_, tape) = ode.forward(&state(DType::F64), (0.0, 1.0), &SaveAt::End).unwrap();
    let error =
        tape.pullback(&Tensor::zeros((2, 3), DType::F64, &candle_core::Device::Cpu).unwrap());
    assert_eq!(
        error.unwrap_err().to_string(),
        "a cotangent of shape [2, 3] came for an output of shape [1, 2, 3]"
    );
}
