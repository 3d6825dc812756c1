//! The memory that gradients keep and need, counted by an allocator; a binary of its own, since it
//! counts every byte of the process.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

use aca_adjoint::{Backsolve, Gradient, Ode};
use aca_core::Method::{self, Leapfrog as ALF};
use aca_core::{Batching, Solver, Time};
use aca_dense::SaveAt;
use aca_tableau::DOPRI5;
use candle_core::{Device, Tensor, Var};

/// Numbers in the state, 8 bytes each.
const NUMBERS: usize = 1000;
const STATE: isize = 8 * NUMBERS as isize;
/// Steps of the shorter solve; the longer one has twice as many. A power of two, so that growing
/// lists are as long as their memory.
const STEPS: usize = 64;

static ALIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

/// One test counts at a time.
static ONE: Mutex<()> = Mutex::new(());

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    let alive = ALIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(alive, Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches atomics alone.
#[allow(unsafe_code, reason = "an allocator is unsafe by its contract")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `place` came from the system's allocator with this layout.
        unsafe { System.dealloc(place, layout) }
    }
}

/// Memory of one solve with `steps` equal steps, in bytes.
#[derive(Debug)]
struct Usage {
    /// Kept between the passes.
    kept: isize,
    /// Needed at most in backward, beyond what is kept.
    backward: isize,
}

/// How kept memory and the peak of backward grow per step between two solves.
#[derive(Debug)]
struct Growth {
    kept: f64,
    backward: f64,
}

fn growth(gradient: &Gradient, tableau: &Method) -> Growth {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let of = |steps| {
        usage(gradient, tableau, steps); // fills caches that live as long as the process
        usage(gradient, tableau, steps)
    };
    let (short, long) = (of(STEPS), of(2 * STEPS));
    let per_step = |short: isize, long: isize| (long - short) as f64 / STEPS as f64;
    Growth {
        kept: per_step(short.kept, long.kept),
        backward: per_step(short.backward, long.backward),
    }
}

/// `y' = tanh(w y)` through candle's autograd.
fn usage(gradient: &Gradient, tableau: &Method, steps: usize) -> Usage {
    let w = Var::from_tensor(&spread(-1.0, 1.0)).unwrap();
    let rates = w.clone();
    let field = move |_t: &Time, y: &Tensor| y.mul(&rates)?.tanh();
    let ode = Ode::new(Solver::fixed_count(tableau.clone(), steps), field, vec![w]).unwrap();
    let ode = ode.gradient(gradient.clone());
    let y0 = spread(0.5, 1.5);
    ode.forward(&y0, (0.0, 0.1), &SaveAt::End).unwrap(); // what the ODE does only once
    let before = ALIVE.load(Relaxed);
    let (sol, tape) = ode.forward(&y0, (0.0, 4.0), &SaveAt::End).unwrap();
    let cotangents = sol.ys.ones_like().unwrap();
    drop(sol);
    let kept = ALIVE.load(Relaxed) - before;
    PEAK.store(before + kept, Relaxed);
    tape.pullback(&cotangents).unwrap();
    Usage { kept, backward: PEAK.load(Relaxed) - before - kept }
}

#[test]
fn tape_of_samples_grows_with_their_own_steps_not_with_the_longest() {
    const SAMPLES: usize = 8;
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let field = |_t: &Time, y: &Tensor| y.tanh();
    let ode = Ode::new(
        Solver { batching: Batching::PerSample, ..Solver::fixed(DOPRI5, 0.125) },
        field,
        vec![],
    )
    .unwrap();
    let y0 = spread(0.5, 1.5).reshape((1, NUMBERS)).unwrap().repeat((SAMPLES, 1)).unwrap();
    // One span with a single step for each of seven samples, and one as long as all those of a batch.
    let mut spans = vec![(0.0, 0.125); SAMPLES];
    spans[3] = (0.0, 16.0);
    let sum = (SAMPLES - 1) + 128;
    let run = || ode.forward(&y0, spans.clone(), &SaveAt::End).unwrap();
    drop(run()); // what the ODE does only once
    let before = ALIVE.load(Relaxed);
    let (sol, tape) = run();
    assert_eq!(sol.stats.accepted, sum);
    drop(sol);
    let kept = ALIVE.load(Relaxed) - before;
    drop(tape);
    // The starts of the first steps are the caller's own tensor.
    let least = STATE * (sum - SAMPLES) as isize;
    let most = (STATE + 1024) * sum as isize;
    assert!((least..=most).contains(&kept), "{kept} bytes for {sum} steps, not {least} to {most}");
}

fn spread(low: f64, high: f64) -> Tensor {
    let step = (high - low) / (NUMBERS - 1) as f64;
    let numbers: Vec<f64> = (0..NUMBERS).map(|i| low + step * i as f64).collect();
    Tensor::new(numbers, &Device::Cpu).unwrap()
}

/// Strategies that keep no state per step.
fn frugal() -> [(&'static str, Gradient, Method); 3] {
    [
        ("AcaBudget", Gradient::AcaBudget { checkpoints: 8 }, DOPRI5.into()),
        ("Backsolve", Gradient::Backsolve(Backsolve::default()), DOPRI5.into()),
        ("Mali", Gradient::Mali, ALF),
    ]
}

#[test]
fn aca_keeps_one_state_and_at_most_a_kilobyte_a_step() {
    let Growth { kept, .. } = growth(&Gradient::Aca, &DOPRI5.into());
    let bound = (STATE + 1024) as f64;
    assert!(kept >= STATE as f64, "{kept} bytes per step, but a state has {STATE}");
    assert!(kept <= bound, "{kept} bytes per step, bound {bound}: a state and 1 KiB");
}

#[test]
fn backsolve_mali_and_a_budget_keep_the_grid_alone() {
    for (name, gradient, tableau) in frugal() {
        let Growth { kept, .. } = growth(&gradient, &tableau);
        assert!(kept <= 64.0, "{name} keeps {kept} bytes per step, bound 64: a time and slack");
    }
}

#[test]
fn backward_of_aca_holds_the_graphs_of_one_step() {
    let Growth { backward, .. } = growth(&Gradient::Aca, &DOPRI5.into());
    assert!(
        backward <= 64.0,
        "backward of Aca needs {backward} bytes more for every step, bound 64"
    );
}

#[test]
fn backward_of_backsolve_mali_and_a_budget_does_not_grow_with_the_steps() {
    for (name, gradient, tableau) in frugal() {
        let Growth { backward, .. } = growth(&gradient, &tableau);
        assert!(backward <= 64.0, "backward of {name} needs {backward} more a step, bound 64");
    }
}

#[test]
fn naive_keeps_the_graphs_of_every_step() {
    let Growth { kept, .. } = growth(&Gradient::Naive, &DOPRI5.into());
    let bound = (12 * STATE) as f64;
    assert!(kept >= bound, "{kept} bytes per step, expected two states for each of six stages");
}
