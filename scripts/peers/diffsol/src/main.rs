//! Robertson's reaction to 1e5 in diffsol, solve and adjoint gradient of the end's sum of squares by the rates, for
//! `scripts/peers/stiff.py`. Argument: the end and the gradient at 1e-13, six numbers with commas.
//! Rows: `gradient,diffsol METHOD,TOLERANCE,FORWARD,BOTH,ERROR,GRADIENT_ERROR,STEPS`.

use std::time::Instant;

use diffsol::{
    AdjointOdeSolverMethod, DenseMatrix, Matrix, NalgebraLU, NalgebraMat, OdeBuilder,
    OdeSolverMethod, OdeSolverState, Vector,
};

type M = NalgebraMat<f64>;
type LS = NalgebraLU<f64>;
const END: f64 = 1e5;

fn median(mut call: impl FnMut()) -> f64 {
    call();
    let mut times: Vec<f64> = (0..31)
        .map(|_| {
            let start = Instant::now();
            call();
            1e3 * start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[15]
}

fn error(got: &[f64], truth: &[f64]) -> f64 {
    got.iter().zip(truth).map(|(got, truth)| (got / truth - 1.0).abs()).fold(0.0, f64::max)
}

fn main() {
    let truth = std::env::args().nth(1).expect("the truth, six numbers with commas");
    let truth: Vec<f64> = truth.split(',').map(|word| word.parse().unwrap()).collect();
    for exponent in 4..=9 {
        let tol = 10f64.powi(-exponent);
        // Rates in the order of the truth: 0.04, 3e7, 1e4.
        let problem = OdeBuilder::<M>::new()
            .rtol(tol)
            .atol([tol * 1e-6; 3])
            .p([0.04, 3e7, 1e4])
            .rhs_adjoint_implicit(
                |x, p, _t, y| {
                    let speeds = [p[0] * x[0], p[1] * x[1] * x[1], p[2] * x[1] * x[2]];
                    y[0] = speeds[2] - speeds[0];
                    y[1] = speeds[0] - speeds[1] - speeds[2];
                    y[2] = speeds[1];
                },
                |x, p, _t, v, y| {
                    let speeds =
                        [p[0] * v[0], 2.0 * p[1] * x[1] * v[1], p[2] * (x[1] * v[2] + v[1] * x[2])];
                    y[0] = speeds[2] - speeds[0];
                    y[1] = speeds[0] - speeds[1] - speeds[2];
                    y[2] = speeds[1];
                },
                // Minus the transposed products, as diffsol has them.
                |x, p, _t, v, y| {
                    let weights = [v[1] - v[0], v[2] - v[1], v[0] - v[1]];
                    y[0] = -weights[0] * p[0];
                    y[1] = -weights[1] * 2.0 * p[1] * x[1] - weights[2] * p[2] * x[2];
                    y[2] = -weights[2] * p[2] * x[1];
                },
                |x, _p, _t, v, y| {
                    y[0] = -(v[1] - v[0]) * x[0];
                    y[1] = -(v[2] - v[1]) * x[1] * x[1];
                    y[2] = -(v[0] - v[1]) * x[1] * x[2];
                },
            )
            .init_adjoint(
                |_p, _t, y| {
                    y[0] = 1.0;
                    y[1] = 0.0;
                    y[2] = 0.0;
                },
                |_p, _t, _v, y| y.fill(0.0),
                3,
            )
            .build()
            .unwrap();
        macro_rules! row {
            ($name:literal, $method:ident, $adjoint:ident) => {{
                let forward = || -> Result<(Vec<f64>, usize), diffsol::error::DiffsolError> {
                    let mut solver = problem.$method::<LS>()?;
                    solver.set_stop_time(END)?;
                    let mut steps = 0;
                    while solver.state().t < END {
                        solver.step()?;
                        steps += 1;
                    }
                    Ok((solver.state().y.clone_as_vec(), steps))
                };
                let both = || -> Result<Vec<f64>, diffsol::error::DiffsolError> {
                    let mut solver = problem.$method::<LS>()?;
                    let (path, ends, _) = solver.solve_dense_with_checkpointing(&[END], None)?;
                    let mut weights = M::zeros(3, 1, problem.context().clone());
                    for i in 0..3 {
                        weights.set_index(i, 0, 2.0 * ends.get_index(i, 0));
                    }
                    let back = problem.$adjoint::<LS, _>(path, Some(solver), Some(1))?;
                    let (state, _) = back.solve_adjoint_backwards_pass(&[END], &[&weights])?;
                    Ok(state.into_common().sg.clone_as_vec())
                };
                let (end, steps) = match forward() {
                    Ok(done) => done,
                    Err(error) => {
                        eprintln!("diffsol {} at {tol:e}: {error}", $name);
                        continue;
                    }
                };
                let ms = median(|| drop(forward()));
                let (both_ms, off) = match both() {
                    Ok(gradient) => (median(|| drop(both())), error(&gradient, &truth[3..])),
                    Err(error) => {
                        eprintln!("diffsol {} at {tol:e}: {error}", $name);
                        (f64::NAN, f64::NAN)
                    }
                };
                println!(
                    "gradient,diffsol {},1e-{exponent},{ms:.4},{both_ms:.4},{:.3e},{off:.3e},{steps}",
                    $name,
                    error(&end, &truth)
                );
            }};
        }
        row!("bdf", bdf, bdf_solver_adjoint);
        row!("tr_bdf2", tr_bdf2, tr_bdf2_solver_adjoint);
        row!("esdirk34", esdirk34, esdirk34_solver_adjoint);
    }
}
