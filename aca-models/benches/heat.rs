//! What does each kind of linear algebra cost on a heat equation? Give cells and kind: `-- 2000 banded`, of `dense`, `banded`,
//! `free` (GMRES) and `prepared` (GMRES with the diffusion's own inverse); without them 200 cells of all kinds but one
//! process. Prints steps, milliseconds of a solve and of solve and gradient, and the largest memory of the process.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench talks and ends by panicking")]

use std::sync::Arc;
use std::time::Instant;

use aca_adjoint::Ode;
use aca_core::{
    Jacobian, Preconditioner, Result, Solver, StagePoint, Time, Tolerance, WithJacobian,
};
use aca_dense::SaveAt;
use aca_tableau::KVAERNO5;
use candle_core::{Device, Tensor, Var};

/// `u_t = u_xx + source u^2 (1 - u)` in a rod of `n` cells, cold at both ends.
fn heat(
    n: usize,
    source: &Var,
) -> impl Fn(&Time, &Tensor) -> candle_core::Result<Tensor> + Send + Sync + 'static {
    let (source, scale) = (source.clone(), ((n + 1) * (n + 1)) as f64);
    move |_t: &Time, u: &Tensor| {
        let padded = u.pad_with_zeros(0, 1, 1)?;
        let around = (padded.narrow(0, 0, n)? + padded.narrow(0, 2, n)?)?;
        let spread = ((around - (u * 2.0)?)? * scale)?;
        spread + (u.sqr()? * u.affine(-1.0, 1.0)?)?.broadcast_mul(&source)?
    }
}

/// Solves the diffusion's tridiagonal system.
#[derive(Debug)]
struct Diffusion(f64);

impl Preconditioner for Diffusion {
    fn apply(&self, at: &StagePoint<'_>, b: &Tensor, _transposed: bool) -> Result<Tensor> {
        let (c, mut b) = (at.reach[0] * self.0, b.to_vec1::<f64>()?);
        let mut upper = vec![0.0; b.len()];
        for i in 0..b.len() {
            let (before, last) = if i == 0 { (0.0, 0.0) } else { (upper[i - 1], b[i - 1]) };
            let pivot = 1.0 + 2.0 * c + c * before;
            (upper[i], b[i]) = (-c / pivot, (b[i] + c * last) / pivot);
        }
        for i in (1..b.len()).rev() {
            b[i - 1] -= upper[i - 1] * b[i];
        }
        Ok(Tensor::from_slice(&b, b.len(), &Device::Cpu)?)
    }
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

fn run(n: usize, kind: &str) {
    let source = Var::new(&[20.0f64], &Device::Cpu).unwrap();
    let jacobian = match kind {
        "dense" => Jacobian::Dense,
        "banded" => Jacobian::Banded { lower: 1, upper: 1 },
        "prepared" => {
            let scale = ((n + 1) * (n + 1)) as f64;
            Jacobian::MatrixFree(Some(Arc::new(Diffusion(scale))))
        }
        _ => Jacobian::MatrixFree(None),
    };
    let x = (1..=n).map(|i| i as f64 / (n + 1) as f64);
    let u = x.map(|x| (std::f64::consts::PI * x).sin() + 0.3 * (9.0 * x).sin());
    let u = Var::from_tensor(&Tensor::from_iter(u, &Device::Cpu).unwrap()).unwrap();
    let solver = Solver::adaptive(KVAERNO5, Tolerance { rtol: 1e-6, atol: 1e-6 });
    let field = WithJacobian::new(heat(n, &source), jacobian);
    let ode = Ode::new(solver, field, vec![source.clone()]).unwrap();
    let (mut forward, mut both) = (f64::INFINITY, f64::INFINITY);
    let mut steps = 0;
    for _ in 0..3 {
        let start = Instant::now();
        let sol = ode.solve(&u, (0.0, 0.2), &SaveAt::End).unwrap();
        forward = forward.min(1e3 * start.elapsed().as_secs_f64());
        drop(sol.y1.sqr().unwrap().sum_all().unwrap().backward().unwrap());
        both = both.min(1e3 * start.elapsed().as_secs_f64());
        steps = sol.stats.accepted;
        if both > 2e4 {
            break;
        }
    }
    println!("{n},{kind},{steps},{forward:.1},{both:.1},{:.0}", peak_mib());
}

fn main() {
    aca_adjoint::init();
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    println!("cells,kind,steps,forward ms,gradient ms,peak MiB");
    match &args[..] {
        [n, kind, ..] => run(n.parse().unwrap(), kind),
        _ => ["banded", "prepared", "free", "dense"].iter().for_each(|kind| run(200, kind)),
    }
}
