//! A solve as a layer of candle's graph.

use aca_adjoint::Ode;
use aca_core::Time;
use aca_dense::{DenseError, SaveAt};
use aca_tableau::{DOPRI5, TSIT5};
use candle_core::{DType, Device, Tensor, Var};

use crate::common::{Mlp, adaptive, distance, loss, state};

fn ode() -> (Ode, Vec<Var>) {
    let field = Mlp::new(DType::F64);
    let vars = field.vars();
    (Ode::new(adaptive(&DOPRI5, 1e-8), field, vars.clone()).unwrap(), vars)
}

#[test]
fn layers_before_and_after_the_solve_get_their_gradients() {
    let (ode, vars) = ode();
    let scale = Var::from_tensor(&Tensor::new(1.5f64, &Device::Cpu).unwrap()).unwrap();
    let run = || {
        let y0 = state(DType::F64).broadcast_mul(&scale).unwrap();
        let y1 = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap().y1;
        loss(&y1.broadcast_mul(&scale).unwrap())
    };
    let grads = run().backward().unwrap();
    let slope = grads.get(&scale).unwrap().to_scalar::<f64>().unwrap();
    let shifted = |by: f64| {
        let moved = Tensor::new(1.5 + by, &Device::Cpu).unwrap();
        scale.set(&moved).unwrap();
        run().to_scalar::<f64>().unwrap()
    };
    let difference = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
    assert!((slope - difference).abs() < 1e-6 * slope.abs(), "{slope}, differences {difference}");
    assert!(vars.iter().all(|var| grads.get(var).is_some()));
}

#[test]
fn two_solves_in_one_loss_add_their_gradients() {
    let (ode, vars) = ode();
    let y1 = |end: f64| ode.solve(&state(DType::F64), (0.0, end), &SaveAt::End).unwrap().y1;
    let of = |loss: Tensor| loss.backward().unwrap().get(&vars[0]).unwrap().clone();
    let apart = (of(loss(&y1(1.0))) + of(loss(&y1(0.5)))).unwrap();
    let together = of((loss(&y1(1.0)) + loss(&y1(0.5))).unwrap());
    assert!(distance(&together, &apart) < 1e-13);
}

#[test]
fn the_end_is_attached_even_when_no_output_lies_there() {
    let (ode, vars) = ode();
    let sol = ode.solve(&state(DType::F64), (0.0, 1.0), &SaveAt::Times(vec![0.3])).unwrap();
    let end = ode.solve(&state(DType::F64), (0.0, 1.0), &SaveAt::End).unwrap();
    let of = |y: Tensor| loss(&y).backward().unwrap().get(&vars[1]).unwrap().clone();
    assert_eq!(sol.ys.dims(), [1, 2, 3]);
    assert!(distance(&of(sol.y1), &of(end.y1)) < 1e-14);
}

#[test]
fn dense_solutions_are_differentiable_at_times_chosen_later() {
    let (ode, vars) = ode();
    let times = [0.1, 0.45, 0.9];
    let later = ode.solve(&state(DType::F64), (0.0, 1.0), &SaveAt::Dense).unwrap();
    let before = ode.solve(&state(DType::F64), (0.0, 1.0), &SaveAt::Times(times.to_vec())).unwrap();
    let of = |ys: &Tensor| loss(ys).backward().unwrap().get(&vars[0]).unwrap().clone();
    assert!(distance(&of(&later.at_times(&times).unwrap()), &of(&before.ys)) < 1e-14);
    let error = before.at_times(&times).unwrap_err();
    assert!(matches!(DenseError::of(&error), Some(DenseError::NoDenseOutput)), "{error}");
}

#[test]
fn a_span_without_length_is_the_identity() {
    let (ode, vars) = ode();
    let y0 = Var::from_tensor(&state(DType::F64)).unwrap();
    let sol = ode.solve(&y0, (0.7, 0.7), &SaveAt::End).unwrap();
    let grads = loss(&sol.y1).backward().unwrap();
    let direct = loss(&y0).backward().unwrap();
    assert_eq!(distance(&sol.y1, &y0), 0.0);
    let to_state = |y: &Tensor| y.to_vec2::<f64>().unwrap();
    assert_eq!(to_state(grads.get(&y0).unwrap()), to_state(direct.get(&y0).unwrap()));
    let theta = grads.get(&vars[0]).unwrap().abs().unwrap().sum_all().unwrap();
    assert_eq!(theta.to_scalar::<f64>().unwrap(), 0.0);
    assert_eq!((sol.stats.nfe, sol.nfe_backward()), (0, 0));
}

#[test]
fn backward_needs_at_most_two_evaluations_a_stage() {
    let (ode, _) = ode();
    let sol = ode.solve(&state(DType::F64), (0.0, 1.0), &SaveAt::End).unwrap();
    loss(&sol.y1).backward().unwrap();
    // DOPRI5's seventh stage has no weight at the end: six linearizations per step.
    assert_eq!(sol.nfe_backward(), 6 * sol.stats.accepted);
}

#[test]
fn parameters_that_the_field_does_not_read_get_zeros() {
    let field = Mlp::new(DType::F64);
    let idle = Var::zeros(4, DType::F64, &Device::Cpu).unwrap();
    let params = [field.vars(), vec![idle.clone(), idle.clone()]].concat();
    let ode = Ode::new(adaptive(&TSIT5, 1e-6), field, params).unwrap();
    assert_eq!(ode.params().vars().len(), 3, "a variable given twice counts once");
    let sol = ode.solve(&state(DType::F64), (0.0, 1.0), &SaveAt::End).unwrap();
    let grads = loss(&sol.y1).backward().unwrap();
    assert_eq!(grads.get(&idle).unwrap().to_vec1::<f64>().unwrap(), [0.0; 4]);
}

#[test]
fn span_without_steps_gives_the_rows_that_a_view_shows() {
    let whole = Tensor::arange(0f64, 9.0, &Device::Cpu).unwrap().reshape((3, 3)).unwrap();
    for y0 in [whole.narrow(0, 1, 2).unwrap(), whole.t().unwrap().narrow(0, 1, 2).unwrap()] {
        let decay = |_t: &Time, y: &Tensor| y.neg();
        let ode = Ode::new(adaptive(&DOPRI5, 1e-8), decay, vec![]).unwrap();
        let y1 = ode.solve(&y0, (0.5, 0.5), &SaveAt::End).unwrap().y1;
        assert_eq!(y1.to_vec2::<f64>().unwrap(), y0.to_vec2::<f64>().unwrap());
    }
}

#[test]
fn solution_outlives_changes_of_the_variable_that_it_started_from() {
    let base = Var::new(&[[9f64, 9.0], [0.5, 0.2], [1.0, -0.3]], &Device::Cpu).unwrap();
    let field = |_t: &Time, y: &Tensor| y.sqr()?.neg();
    let both = SaveAt::All(vec![SaveAt::Times(vec![0.0, 0.4]), SaveAt::Dense]);
    let ode = Ode::new(adaptive(&DOPRI5, 1e-8), field, vec![]).unwrap();
    let found = [false, true].map(|changes| {
        let y0 = base.narrow(0, 1, 2).unwrap();
        let sol = ode.solve(&y0, (0.0, 1.0), &both).unwrap();
        if changes {
            base.set(&base.affine(0.0, 5.0).unwrap()).unwrap();
        }
        let dense = sol.dense().unwrap().at_times(&[0.0, 0.01]).unwrap();
        let grads = loss(&sol.y1).backward().unwrap();
        let all = [&sol.ys, &dense, grads.get(&base).unwrap()].map(|x| x.flatten_all().unwrap());
        Tensor::cat(&all, 0).unwrap().to_vec1::<f64>().unwrap()
    });
    assert_eq!(found[0], found[1]);
}
