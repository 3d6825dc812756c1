//! How often the field is evaluated, beside other libraries.

use aca_adjoint::{Backsolve, Gradient, Ode};
use aca_core::{Solver, Time, Tolerance};
use aca_dense::SaveAt;
use aca_tableau::DOPRI5;
use candle_core::{DType, Device, Tensor, Var};

use crate::report::{self, Result, Side, aligned};

/// Evaluations of the same workload by other libraries, forward and backward together, as the
/// peers' benchmark counts them: torchdiffeq 0.2.5, TorchDiffEqPack 1.0.1.
const PEERS: [(&str, usize); 3] =
    [("torchdiffeq, direct", 20), ("torchdiffeq, adjoint", 40), ("TorchDiffEqPack, ACA", 80)];

const TEXT: &str = "\
evaluations: a network 64 -> 256 tanh -> 64 on 256 states in f32, dopri5 at 1e-5, t from 0 to 1
             forward 2 + 6 (accepted + rejected), aca backward 6 an accepted step, each with its pullback";

/// Counts evaluations of the network workload and prints the table.
pub fn run() -> Result<()> {
    let strategies = [
        ("aca", Gradient::Aca),
        ("naive", Gradient::Naive),
        ("backsolve", Gradient::Backsolve(Backsolve::default())),
    ];
    let heads = ["", "accepted", "rejected", "forward", "backward", "both"];
    let mut cells = vec![heads.map(str::to_owned).to_vec()];
    for (name, gradient) in strategies {
        let (y0, ode) = network(gradient)?;
        let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End)?;
        sol.y1.sqr()?.mean_all()?.backward()?;
        let (stats, backward) = (sol.stats, sol.nfe_backward());
        let both = stats.nfe + backward;
        let counts = [stats.accepted, stats.rejected, stats.nfe, backward, both];
        let counts = counts.map(|count| count.to_string());
        cells.push([&[name.to_owned()], &counts[..]].concat());
    }
    for (name, both) in PEERS {
        cells.push([name, "", "", "", "", &both.to_string()].map(str::to_owned).to_vec());
    }
    let lines = aligned(&cells, |column| if column == 0 { Side::Left } else { Side::Right });
    report::line(&format!("{TEXT}\n{}\n", lines.join("\n")))
}

/// The network, whose weights come from a formula that other languages can repeat.
fn network(gradient: Gradient) -> Result<(Tensor, Ode)> {
    let (w1, b1) = (fill(&[256, 64], 0.15, 0.1)?, fill(&[256], 0.1, 0.2)?);
    let (w2, b2) = (fill(&[64, 256], 0.08, 0.3)?, fill(&[64], 0.1, 0.4)?);
    let params = vec![w1.clone(), b1.clone(), w2.clone(), b2.clone()];
    let field = move |_t: &Time, y: &Tensor| {
        let hidden = y.matmul(&w1.t()?)?.broadcast_add(&b1)?.tanh()?;
        hidden.matmul(&w2.t()?)?.broadcast_add(&b2)
    };
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-5, atol: 1e-5 });
    let y0 = fill(&[256, 64], 1.0, 0.5)?.as_tensor().clone();
    Ok((y0, Ode::new(solver, field, params)?.gradient(gradient)))
}

/// `scale sin(phase + 0.7 i)` for the `i`-th number.
fn fill(shape: &[usize], scale: f64, phase: f64) -> Result<Var> {
    let count = shape.iter().product::<usize>();
    let numbers: Vec<f64> = (0..count).map(|i| scale * (phase + 0.7 * i as f64).sin()).collect();
    let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(DType::F32)?;
    Ok(Var::from_tensor(&tensor)?)
}
