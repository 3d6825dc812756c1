//! How do I write a method that is no tableau? The implicit midpoint rule, which keeps the length of a rotation, with
//! dense output and a gradient that is exact for its steps.
#![allow(clippy::print_stdout, reason = "examples talk")]

use std::sync::Arc;

use aca_adjoint::Ode;
use aca_core::{
    Error, Facts, Interpolant, Method, Result, Scheme, Solver, StageCotangents, Stages, Time,
};
use aca_dense::SaveAt;
use candle_core::{Device, Tensor, Var};

/// `k = f(t0 + h/2, y0 + h/2 k)`, `y1 = y0 + h k`.
#[derive(Debug)]
struct ImplicitMidpoint;

impl Scheme for ImplicitMidpoint {
    fn name(&self) -> &str {
        "implicit_midpoint"
    }

    fn facts(&self) -> Facts {
        let interpolant = Interpolant::hermite_with_ends(2, &[1.0]);
        Facts { error_order: None, b: vec![1.0], b_error: None, interpolant }
    }

    fn fill(&self, stages: &mut dyn Stages) -> Result<()> {
        stages.evaluate(0.5, &[], None)?;
        let settled = |moved: Result<f64>| moved.map(|moved| moved < 1e-15);
        for _ in 0..100 {
            if settled(stages.renew(0, 0.5, &[0.5]))? {
                return Ok(());
            }
        }
        Err(Error::SchemeFailed { method: self.name().into(), what: "k does not settle".into() })
    }

    /// `lambda = h a + h/2 mu`, `mu = J^T lambda`, by the same iteration.
    fn pull(&self, cotangents: &mut dyn StageCotangents) -> Result<()> {
        for _ in 0..100 {
            if cotangents.settle(0, &[0.5])? < 1e-15 {
                break;
            }
        }
        cotangents.pull(0, &[0.5])
    }
}

fn main() -> Result<()> {
    aca_adjoint::init();
    let rate = Var::new(&[1.0f64], &Device::Cpu)?;
    let omega = rate.clone();
    let spin = move |_t: &Time, y: &Tensor| {
        Tensor::stack(&[y.get(1)?, y.get(0)?.neg()?], 0)?.broadcast_mul(&omega)
    };
    let solver = Solver::fixed_count(Method::Custom(Arc::new(ImplicitMidpoint)), 50);
    let ode = Ode::new(solver, spin, vec![rate.clone()])?;
    let y0 = Tensor::new(&[1.0f64, 0.0], &Device::Cpu)?;
    let sol = ode.solve(&y0, (0.0, 10.0), &SaveAt::Dense)?;
    let length = sol.y1.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
    println!("length after 10: {length:.15}; y(3.21) = {}", sol.dense()?.at(3.21)?);
    let slope = sol.y1.get(0)?.backward()?.remove(&rate).map(|g| g.to_vec1::<f64>());
    println!("dy/d omega = {:?}, -10 sin(10) = {:.4}", slope.transpose()?, -10.0 * 10f64.sin());
    Ok(())
}
