//! Backward through thousands of solves, in threads with the stack of a spawned one.

use aca_adjoint::{Gradient, Ode, backward, with_large_stack};
use aca_core::{Solver, Time};
use aca_dense::SaveAt;
use aca_tableau::MIDPOINT;
use candle_core::{Device, Tensor, Var};

const SOLVES: usize = 2000;

/// The end of 2000 solves of `y' = -y`, one after the other, over two units of time in all.
fn chain(y0: &Var) -> Tensor {
    let decay = |_: &Time, y: &Tensor| y.neg();
    let ode = Ode::new(Solver::fixed_count(MIDPOINT, 1), decay, vec![]).unwrap();
    let ode = ode.gradient(Gradient::Aca);
    let span = (0.0, 2.0 / SOLVES as f64);
    let next = |y: Tensor, _| ode.solve(&y, span, &SaveAt::End).unwrap().y1;
    (0..SOLVES).fold(y0.as_tensor().clone(), next).sum_all().unwrap()
}

fn start() -> Var {
    Var::new(&[1.0f64], &Device::Cpu).unwrap()
}

fn assert_is_decay(slope: &Tensor) {
    let (slope, exact) = (slope.to_vec1::<f64>().unwrap()[0], (-2f64).exp());
    assert!((slope - exact).abs() < 1e-6, "dy1/dy0 = {slope}, closed form {exact}");
}

/// Runs `work` in a thread of two megabytes.
fn in_ordinary_thread(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn backward_through_two_thousand_solves_does_not_overflow_the_stack() {
    in_ordinary_thread(|| {
        let y0 = start();
        let loss = chain(&y0);
        let grads = backward(&loss).unwrap();
        with_large_stack(move || drop(loss)).unwrap();
        assert_is_decay(grads.get(&y0).unwrap());
    });
}

#[test]
fn candles_own_backward_goes_through_two_thousand_solves_on_a_large_stack() {
    in_ordinary_thread(|| {
        let slope = with_large_stack(|| {
            let y0 = start();
            chain(&y0).backward().unwrap().remove(&y0).unwrap()
        });
        assert_is_decay(&slope.unwrap());
    });
}
