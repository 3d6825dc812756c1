//! The memory that each strategy keeps for its backward pass, and what that pass needs on top.

use aca_adjoint::{Backsolve, Gradient, Ode};
use aca_core::Method;
use aca_core::{Result as AcaResult, Solver, Time, Tolerance};
use aca_dense::SaveAt;
use aca_tableau::DOPRI5;
use candle_core::{Device, Tensor, Var};

use crate::counting;
use crate::report::{self, Result, Side, aligned};

/// Numbers in the state, 8 bytes each.
const STATE: usize = 1000;
/// Steps of the shorter solve; the longer one has twice as many.
const STEPS: usize = 64;

/// Memory of one solve, in bytes.
struct Usage {
    accepted: usize,
    /// Kept between the passes.
    kept: isize,
    /// Needed at most in backward, beyond what is kept.
    backward: isize,
}

/// Measures all strategies and prints the table.
pub fn run() -> Result<()> {
    counting::start();
    let strategies: [(&str, Gradient, Method); 6] = [
        ("aca", Gradient::Aca, DOPRI5.into()),
        ("aca, 8 checkpoints", Gradient::AcaBudget { checkpoints: 8 }, DOPRI5.into()),
        ("naive", Gradient::Naive, DOPRI5.into()),
        ("naive_through_step_size", Gradient::NaiveThroughStepSize, DOPRI5.into()),
        ("backsolve", Gradient::Backsolve(Backsolve::default()), DOPRI5.into()),
        ("mali", Gradient::Mali, Method::Leapfrog),
    ];
    let heads =
        ["strategy", "method", "steps", "bytes kept a step", "peak backward", "its growth a step"];
    let mut cells = vec![heads.map(str::to_owned).to_vec()];
    for (name, gradient, method) in strategies {
        let label = method.name().to_owned();
        let run = |times| measured(&gradient, &method, times);
        let (short, long) = (run(1)?, run(2)?);
        let steps = (long.accepted - short.accepted).max(1) as isize;
        let kept = (long.kept - short.kept) / steps;
        let growth = (long.backward - short.backward) / steps;
        let steps = format!("{}, {}", short.accepted, long.accepted);
        let counts = [kept, long.backward, growth].map(|bytes| bytes.to_string());
        cells.push([vec![name.to_owned(), label, steps], counts.to_vec()].concat());
    }
    report::line(&format!(
        "memory: y' = tanh(w y) with {STATE} numbers of f64, a state of {} bytes; {STEPS} steps and twice as many\n        peak backward: beyond what is kept, in the longer solve; steps of naive_through_step_size are adaptive",
        8 * STATE
    ))?;
    let lines = aligned(&cells, |column| if column < 2 { Side::Left } else { Side::Right });
    report::line(&(lines.join("\n") + "\n"))
}

/// The second of two runs, whose pools and caches are filled.
fn measured(gradient: &Gradient, method: &Method, times: usize) -> Result<Usage> {
    usage(gradient, method, times)?;
    usage(gradient, method, times)
}

fn usage(gradient: &Gradient, method: &Method, times: usize) -> Result<Usage> {
    let w = Var::from_tensor(&spread(-1.0, 1.0)?)?;
    let rates = w.clone();
    let field = move |_t: &Time, y: &Tensor| y.mul(&rates)?.tanh();
    // Searching for the step size is what the last of the strategies is about.
    let solver = match gradient {
        Gradient::NaiveThroughStepSize => {
            Solver::adaptive(method.clone(), Tolerance { rtol: 1e-10, atol: 1e-10 })
        }
        _ => Solver::fixed_count(method.clone(), STEPS * times),
    };
    let ode = Ode::new(solver, field, vec![w])?.gradient(gradient.clone());
    let y0 = spread(0.5, 1.5)?;
    // Once before the count, so that what the ODE does only once does not count.
    ode.forward(&y0, (0.0, 0.1), &SaveAt::End)?;
    let before = counting::alive();
    let (sol, tape) = ode.forward(&y0, (0.0, 4.0 * times as f64), &SaveAt::End)?;
    let (accepted, cotangents) = (sol.stats.accepted, sol.ys.ones_like()?);
    drop(sol);
    let kept = counting::alive() - before;
    let (peak, gradients) = counting::peak(|| tape.pullback(&cotangents));
    gradients?;
    Ok(Usage { accepted, kept, backward: peak - before - kept })
}

/// Numbers from `low` to `high`.
fn spread(low: f64, high: f64) -> AcaResult<Tensor> {
    let step = (high - low) / (STATE - 1) as f64;
    Ok(Tensor::arange_step(low, high + step / 2.0, step, &Device::Cpu)?)
}
