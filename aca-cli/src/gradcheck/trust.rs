//! What a backward pass says of the error of its loss, and what a tenth of the tolerance says of the gradient.

use aca_adjoint::{GradientCheck, Ode, OdeSolution, Untrusted};
use aca_core::{Solver, Time, Tolerance};
use aca_dense::SaveAt;
use aca_models::systems::{ClosedForm, Lorenz, LotkaVolterra, System, ThreeBody, VanDerPol};
use aca_tableau::{DOP853, DOPRI5, Tableau};
use candle_core::{Device, Tensor, Var};
use serde::Serialize;

use super::{Checked, Plan, draw, write_csv};
use crate::report::{self, Result, Side, aligned};

const TEXT: &str = "\
trust: the error of the loss beside what its backward pass says of it, dopri5; the loss at 1e-13 by dop853 is the truth;
       difference and cosine compare the gradient with respect to y0 with the same at a tenth of the tolerance";

/// What one tolerance found.
#[derive(Serialize)]
pub struct Trust {
    pub problem: &'static str,
    pub rtol: f64,
    /// Distance of the loss from the truth.
    pub error: f64,
    /// What the backward pass says of it.
    pub signed: f64,
    pub bound: f64,
    /// Largest growth of the cotangent in a step.
    growth: f64,
    accepted: usize,
    stability_limited: usize,
    /// The gradient beside the same at a tenth of the tolerance.
    difference: f64,
    cosine: f64,
    /// Whether the gradient would have been refused.
    refused: bool,
}

/// A loss of a solve.
type Loss = fn(&OdeSolution) -> candle_core::Result<Tensor>;

/// A problem with what its loss looks at.
struct Problem {
    name: &'static str,
    /// Makes the solver's problem for a method and a tolerance.
    ode: Box<dyn Fn(Solver) -> aca_core::Result<Ode>>,
    y0: Var,
    span: (f64, f64),
    save_at: SaveAt,
    loss: Loss,
}

/// Compares estimates and truth over tolerances.
pub fn run(plan: &Plan<'_>) -> Result<Checked> {
    let exponents = if plan.quick { 4..=6 } else { 3..=10 };
    let mut findings = Vec::new();
    for problem in problems()? {
        let (truth, _) = problem.solve(&DOP853, 1e-13)?;
        for exponent in exponents.clone() {
            findings.push(problem.find(truth, 10f64.powi(-exponent))?);
        }
    }
    report::line(&format!("{TEXT}\n{}\n", table(&findings).join("\n")))?;
    let mut files = draw::trust(&plan.out.join("trust"), &findings)?;
    files.push(write_csv(plan.out.join("trust.csv"), &findings)?);
    Ok(Checked { trust: findings, files, ..Checked::default() })
}

impl Problem {
    fn closed<S: System + Copy + 'static>(
        name: &'static str,
        field: ClosedForm<S>,
        (system, y0): (S, Tensor),
        span: (f64, f64),
        (save_at, loss): (SaveAt, Loss),
    ) -> Result<Self> {
        let theta = field.theta().clone();
        let ode = move |solver: Solver| {
            Ode::new(solver, ClosedForm::new(system, theta.clone()), vec![theta.clone()])
        };
        Ok(Self { name, ode: Box::new(ode), y0: Var::from_tensor(&y0)?, span, save_at, loss })
    }

    fn ode(&self, tableau: &Tableau, rtol: f64) -> Result<Ode> {
        let solver = Solver::adaptive(tableau.clone(), Tolerance { rtol, atol: rtol });
        Ok((self.ode)(Solver { max_steps: 1_000_000, ..solver })?.untrusted(Untrusted::Flag))
    }

    /// The loss and its solution, with which a backward pass has gone through.
    fn solve(&self, tableau: &Tableau, rtol: f64) -> Result<(f64, OdeSolution)> {
        let sol = self.ode(tableau, rtol)?.solve(&self.y0, self.span, &self.save_at)?;
        let loss = (self.loss)(&sol)?;
        loss.backward()?;
        Ok((loss.to_scalar()?, sol))
    }

    fn find(&self, truth: f64, rtol: f64) -> Result<Trust> {
        let (loss, sol) = self.solve(&DOPRI5, rtol)?;
        let report = sol.report().unwrap_or_default();
        let loss_of = |ode: &Ode| (self.loss)(&ode.solve(&self.y0, self.span, &self.save_at)?);
        let ode = self.ode(&DOPRI5, rtol)?;
        let GradientCheck { difference, cosine, .. } =
            ode.check_gradient(std::slice::from_ref(&self.y0), loss_of)?;
        Ok(Trust {
            problem: self.name,
            rtol,
            error: (loss - truth).abs(),
            signed: report.loss_error.signed,
            bound: report.loss_error.bound,
            growth: report.growth,
            accepted: sol.stats.accepted,
            stability_limited: sol.stats.stability_limited,
            difference,
            cosine,
            refused: report.doubt.is_some(),
        })
    }
}

fn mean_square(sol: &OdeSolution) -> candle_core::Result<Tensor> {
    sol.y1.sqr()?.mean_all()
}

fn problems() -> Result<Vec<Problem>> {
    let state = |y0: &[f64]| Tensor::new(y0, &Device::Cpu);
    let at_end = || (SaveAt::End, mean_square as Loss);
    let times = (0..1000).map(|i| f64::from(i) / 999.0).collect();
    let positions: Loss = |sol| sol.ys.narrow(1, 0, 9)?.sqr()?.mean_all();
    let bodies = (ThreeBody, state(&ThreeBody::Y0)?);
    let three = ThreeBody::field([1.05, 0.95, 1.0])?;
    let predators = LotkaVolterra::field([1.5, 1.0, 3.0, 1.0])?;
    let stiff = VanDerPol::field(&[10.0])?;
    let butterfly = Lorenz::field(Lorenz::CLASSIC)?;
    let oscillator = (VanDerPol, Tensor::new(&[[2.0, 0.0]], &Device::Cpu)?);
    Ok(vec![
        Problem::closed(
            "three bodies",
            three,
            bodies,
            (0.0, 1.0),
            (SaveAt::Times(times), positions),
        )?,
        Problem::closed(
            "Lotka-Volterra",
            predators,
            (LotkaVolterra, state(&[1.0, 1.0])?),
            (0.0, 10.0),
            at_end(),
        )?,
        Problem::closed("van der Pol, 10", stiff, oscillator, (0.0, 20.0), at_end())?,
        Problem::closed(
            "Lorenz",
            butterfly,
            (Lorenz, state(&[1.0, 1.0, 1.0])?),
            (0.0, 2.0),
            at_end(),
        )?,
        network()?,
    ])
}

/// A small network whose weights come from a formula.
fn network() -> Result<Problem> {
    let numbers = |shape: (usize, usize), scale: f64| {
        let numbers = (0..shape.0 * shape.1).map(|i| scale * (1.7 * i as f64 + 0.4).sin());
        Tensor::from_iter(numbers, &Device::Cpu)?.reshape(shape)
    };
    let (inner, outer) = (numbers((4, 10), 1.2)?, numbers((10, 4), 0.9)?);
    let ode = move |solver: Solver| {
        let (inner, outer) = (inner.clone(), outer.clone());
        let field = move |_: &Time, y: &Tensor| y.matmul(&inner)?.tanh()?.matmul(&outer);
        Ode::new(solver, field, Vec::new())
    };
    Ok(Problem {
        name: "network",
        ode: Box::new(ode),
        y0: Var::from_tensor(&numbers((3, 4), 1.0)?)?,
        span: (0.0, 5.0),
        save_at: SaveAt::End,
        loss: mean_square,
    })
}

fn table(findings: &[Trust]) -> Vec<String> {
    let heads = [
        "problem",
        "rtol",
        "steps",
        "at limit",
        "error",
        "signed",
        "bound",
        "growth",
        "difference",
        "cosine",
        "",
    ];
    let row = |found: &Trust| {
        vec![
            found.problem.to_owned(),
            format!("{:e}", found.rtol),
            found.accepted.to_string(),
            found.stability_limited.to_string(),
            format!("{:.1e}", found.error),
            format!("{:.1e}", found.signed),
            format!("{:.1e}", found.bound),
            format!("{:.1}", found.growth),
            format!("{:.1e}", found.difference),
            format!("{:.4}", found.cosine),
            if found.refused { "refused" } else { "" }.to_owned(),
        ]
    };
    let cells: Vec<_> = std::iter::once(heads.map(str::to_owned).to_vec())
        .chain(findings.iter().map(row))
        .collect();
    aligned(&cells, |column| if column == 0 { Side::Left } else { Side::Right })
}
