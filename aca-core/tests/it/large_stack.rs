//! Graphs that candle can neither walk nor drop on an ordinary stack.

use std::thread::{Builder, current};

use aca_core::{Error, Result, Solver, Step, StepSink, with_large_stack};
use aca_tableau::RK4;
use candle_core::{DType, Device, Tensor, Var};

use crate::common::{assert_refused, decay};

fn traced(steps: usize) -> Solver {
    Solver { trace: true, max_steps: steps, ..Solver::fixed_count(RK4, steps) }
}

/// Solves `y' = -y` over a unit of time, in candle's graph.
fn solve(steps: usize, y0: &Tensor, sink: &mut dyn StepSink) -> Result<Tensor> {
    Ok(traced(steps).solve(&decay, y0, (0.0, 1.0), sink)?.y1)
}

fn start() -> Var {
    Var::ones(2, DType::F64, &Device::Cpu).unwrap()
}

/// Runs `work` in a thread of two megabytes, as spawned ones have.
fn in_ordinary_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap()
}

#[test]
fn traced_solve_that_would_overflow_the_stack_is_refused() {
    // A step of RK4 makes some dozen nodes, and an ordinary stack is safe for 4096.
    let end = in_ordinary_thread(|| solve(20_000, &start(), &mut ()).map(|_| ()));
    let limit = match &end {
        Err(Error::GraphTooDeep { limit, .. }) => *limit,
        other => panic!("{other:?}"),
    };
    assert!((100..1000).contains(&limit), "{limit}");
    let text = format!(
        "candle walks and drops the graph of a solve by recursion, and the stack of this thread is \
         safe for {limit} steps of this one; build, differentiate and drop it inside with_large_stack"
    );
    assert_refused(end, |error| matches!(error, Error::GraphTooDeep { .. }), &text);
    in_ordinary_thread(move || solve(limit, &start(), &mut ()).map(|_| ()).unwrap());
}

#[test]
fn traced_solve_of_twenty_thousand_steps_works_on_a_large_stack() {
    let slope = with_large_stack(|| {
        let y0 = start();
        let y1 = solve(20_000, &y0, &mut ()).unwrap();
        let grads = y1.sum_all().unwrap().backward().unwrap();
        grads.get(&y0).unwrap().to_vec1::<f64>().unwrap()[0]
    });
    let (slope, exact) = (slope.unwrap(), (-1f64).exp());
    assert!((slope - exact).abs() < 1e-12, "dy1/dy0 = {slope}, closed form {exact}");
}

#[test]
fn graph_before_a_traced_solve_counts() {
    // Solves one after the other are one graph.
    let error = in_ordinary_thread(|| {
        (0..50).try_fold(start().as_tensor().clone(), |y, _| solve(100, &y, &mut ())).unwrap_err()
    });
    assert!(matches!(error, Error::GraphTooDeep { .. }), "{error}");
}

#[test]
fn graph_of_nothing_tracked_has_no_depth() {
    let y0 = Tensor::ones(2, DType::F64, &Device::Cpu).unwrap();
    in_ordinary_thread(move || solve(5000, &y0, &mut ()).map(|_| ()).unwrap());
}

/// Holds the states of all steps.
#[derive(Default)]
struct Tower(Vec<Tensor>);

impl StepSink for Tower {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.0.push(step.y1.clone());
        Ok(())
    }

    fn drops_newest_first(&self) -> bool {
        true
    }
}

impl Drop for Tower {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

#[test]
fn sink_that_drops_the_newest_first_takes_any_number_of_steps() {
    let count = in_ordinary_thread(|| {
        let mut tower = Tower::default();
        solve(5000, &start(), &mut (Some(&mut tower), ())).unwrap();
        tower.0.len()
    });
    assert_eq!(count, 5000);
}

#[test]
fn large_stack_within_a_large_stack_is_the_same() {
    let id = || current().id();
    let (outer, inner) = with_large_stack(|| (id(), with_large_stack(id).unwrap())).unwrap();
    assert_eq!(outer, inner);
    assert_ne!(outer, id());
}

#[test]
#[should_panic(expected = "what the closure panics with")]
fn panic_on_a_large_stack_goes_on() {
    with_large_stack(|| panic!("what the closure panics with")).unwrap();
}

#[test]
fn stack_that_is_not_granted_is_named() {
    let cause = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
    assert_eq!(
        Error::LargeStack { bytes: 8 << 30, cause }.to_string(),
        "a thread with a stack of 8192 MiB cannot be started: out of memory; raise the limit of \
         virtual memory (ulimit -v)"
    );
}
