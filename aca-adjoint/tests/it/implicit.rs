//! Gradients through implicit methods: exact for steps whose stages solve their equations.

use aca_adjoint::{Backsolve, Gradient, GradientError, Ode, Untrusted};
use aca_core::{
    Batching, Error, Native, NativeField, NativeTime, Newton, Result, Solver, Time, Tolerance,
    VectorField,
};
use aca_dense::SaveAt;
use aca_tableau::{DOPRI5, ESDIRK4, IMPLICIT, KVAERNO5, TR_BDF2, Tableau};
use candle_core::{DType, Device, Tensor, Var};

use crate::common::{Mlp, distance, loss, state};

/// The stiff relative of `Mlp`: its slope is pulled towards zero a thousand times as fast besides.
struct Stiff(Mlp);

impl VectorField for Stiff {
    fn eval(&self, t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        let wanted = self.0.eval(t, y)?;
        (wanted - (y * 1e3)?)? + (self.0.w2.sum_all()?.broadcast_as(y.shape())? * 1e2)?
    }
}

fn newton(fraction: f64) -> Newton {
    Newton { fraction, max_iterations: 30 }
}

/// Central differences of the loss along a direction of `vars`.
fn difference(vars: &[Var], value: impl Fn() -> f64) -> f64 {
    let before: Vec<Tensor> = vars.iter().map(|var| var.copy().unwrap()).collect();
    let at = |by: f64| {
        for (i, (var, before)) in vars.iter().zip(&before).enumerate() {
            let along = (0..var.elem_count()).map(|k| by * (0.7 + (i + 2 * k) as f64).cos());
            let along = Tensor::from_iter(along, &Device::Cpu).unwrap();
            var.set(&(before + along.reshape(before.shape()).unwrap()).unwrap()).unwrap();
        }
        let value = value();
        vars.iter().zip(&before).for_each(|(var, before)| var.set(before).unwrap());
        value
    };
    // Of fourth order, so that large differences do and rounding stays small.
    let d = 2e-4;
    (8.0 * (at(d) - at(-d)) - (at(2.0 * d) - at(-2.0 * d))) / (12.0 * d)
}

/// The derivative along the same direction, of gradients.
fn along(vars: &[Var], gradient: impl Fn(&Var) -> Tensor) -> f64 {
    let mut sum = 0.0;
    for (i, var) in vars.iter().enumerate() {
        let g = gradient(var).flatten_all().unwrap().to_vec1::<f64>().unwrap();
        sum += g.iter().enumerate().map(|(k, g)| g * (0.7 + (i + 2 * k) as f64).cos()).sum::<f64>();
    }
    sum
}

fn values(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn scalar(x: &Tensor) -> f64 {
    x.to_scalar::<f64>().unwrap()
}

#[test]
fn gradients_with_respect_to_state_and_parameters_are_those_of_differences() {
    for tableau in IMPLICIT {
        for stiff in [false, true] {
            let field = Mlp::new(DType::F64);
            let mut vars = field.vars();
            let solver = Solver::fixed_count(tableau.clone(), 6);
            let ode = match stiff {
                true => Ode::new(solver, Stiff(field), vars.clone()).unwrap(),
                false => Ode::new(solver, field, vars.clone()).unwrap(),
            };
            // So few steps err much, which the gradient of the discrete solution does not mind.
            let ode = ode.untrusted(Untrusted::Flag);
            let y0 = Var::from_tensor(&state(DType::F64)).unwrap();
            vars.push(y0.clone());
            // Outputs at the start, inside steps, at the end of one and at the end.
            let save_at = SaveAt::Times(vec![0.0, 0.11, 0.5, 0.77, 0.78, 1.0]);
            let value = || loss(&ode.solve(&y0, (0.0, 1.0), &save_at).unwrap().ys);
            let grads = value().backward().unwrap();
            let ours = along(&vars, |var| grads.get(var).unwrap().clone());
            let differences = difference(&vars, || scalar(&value()));
            let off = (ours - differences).abs() / differences.abs();
            let name = tableau.name();
            assert!(off < 1e-8, "{name} stiff {stiff}: {ours}, differences {differences}: {off:e}");
        }
    }
}

#[test]
fn gradients_with_respect_to_times_are_those_of_differences() {
    for tableau in [TR_BDF2, ESDIRK4, KVAERNO5] {
        let field = Mlp::new(DType::F64);
        let vars = field.vars();
        // One step between outputs' ends and the span's: a grid that moves with its ends alone.
        let ode = Ode::new(Solver::fixed_count(tableau.clone(), 1), field, vars).unwrap();
        let times = Var::new(&[0.2f64, 0.45, 0.9], &Device::Cpu).unwrap();
        let value = || loss(&ode.solve_times(&state(DType::F64), &times).unwrap().ys);
        let grads = value().backward().unwrap();
        let vars = [times.clone()];
        let ours = along(&vars, |var| grads.get(var).unwrap().clone());
        let differences = difference(&vars, || scalar(&value()));
        let off = (ours - differences).abs() / differences.abs();
        assert!(off < 1e-8, "{}: {ours}, differences {differences}: {off:e}", tableau.name());
    }
}

#[test]
fn what_newton_leaves_is_all_that_a_gradient_is_off_by() {
    // At a loose tolerance of the steps, against the gradient by stages that are solved to rounding, on the same grid.
    let gradient = |fraction: f64, grid: Option<&[f64]>| {
        let field = Mlp::new(DType::F64);
        let vars = field.vars();
        let tolerance = Tolerance { rtol: 1e-3, atol: 1e-3 };
        let solver = match grid {
            None => Solver::adaptive(KVAERNO5, tolerance),
            Some(grid) => Solver { step_ts: grid.to_vec(), ..Solver::fixed_count(KVAERNO5, 1) },
        };
        let solver = Solver { newton: newton(fraction), ..solver };
        let ode = Ode::new(solver, Stiff(field), vars.clone()).unwrap();
        let y0 = Var::from_tensor(&state(DType::F64)).unwrap();
        let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::Steps).unwrap();
        let last = sol.ys.get(sol.ts.len() - 1).unwrap();
        let grads = loss(&last).backward().unwrap();
        (sol.ts.clone(), grads.get(&vars[0]).unwrap().clone())
    };
    for fraction in [1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12] {
        let (grid, found) = gradient(fraction, None);
        let (_, exact) = gradient(1e-3, Some(&grid));
        let off = distance(&found, &exact);
        // Of the tolerance, 1e-3, not of the gradient; a stiff field divides by its stiffness besides.
        assert!(off < (1e3 * fraction * 1e-3).max(1e-11), "{fraction:e}: {off:e}");
    }
}

/// `x' = v, v' = mu (1 - x^2) v - x` on slices and on tensors.
struct Oscillator {
    mu: Var,
    slices: bool,
}

struct OnSlices(Vec<f64>, Var);

impl NativeField<f64> for OnSlices {
    fn eval(&mut self, _t: NativeTime<'_>, y: &[f64], dy: &mut [f64]) {
        for (y, dy) in y.chunks_exact(2).zip(dy.chunks_exact_mut(2)) {
            dy[0] = y[1];
            dy[1] = self.0[0] * (1.0 - y[0] * y[0]) * y[1] - y[0];
        }
    }

    fn pull(
        &mut self,
        _t: NativeTime<'_>,
        y: &[f64],
        lambda: &[f64],
        y_bar: &mut [f64],
        theta_bar: &mut [f64],
        _t_bar: &mut [f64],
    ) {
        let mu = self.0[0];
        let rows = y.chunks_exact(2).zip(lambda.chunks_exact(2)).zip(y_bar.chunks_exact_mut(2));
        for ((y, l), out) in rows {
            out[0] = l[1] * (-2.0 * mu * y[0] * y[1] - 1.0);
            out[1] = l[0] + l[1] * mu * (1.0 - y[0] * y[0]);
            theta_bar[0] += l[1] * (1.0 - y[0] * y[0]) * y[1];
        }
    }

    fn variables(&self) -> Vec<Var> {
        vec![self.1.clone()]
    }
}

impl VectorField for Oscillator {
    fn eval(&self, _t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        let last = y.rank() - 1;
        let (x, v) = (y.narrow(last, 0, 1)?, y.narrow(last, 1, 1)?);
        let damping = (1.0 - x.sqr()?)?.mul(&v)?.broadcast_mul(&self.mu)?;
        Tensor::cat(&[&v, &(damping - &x)?], last)
    }

    fn native(&self, y: &Tensor) -> Option<Native<'_>> {
        let mu = self.mu.to_vec1::<f64>().ok()?;
        let fits = self.slices && y.dtype() == DType::F64;
        fits.then(|| Native::F64(Box::new(OnSlices(mu, self.mu.clone()))))
    }

    fn supports_row_subset(&self) -> bool {
        true
    }
}

fn oscillator(mu: f64, slices: bool, solver: Solver) -> (Ode, Var) {
    let mu = Var::new(&[mu], &Device::Cpu).unwrap();
    (Ode::new(solver, Oscillator { mu: mu.clone(), slices }, vec![mu.clone()]).unwrap(), mu)
}

fn stiff_solver(tableau: &Tableau, tolerance: f64) -> Solver {
    Solver::adaptive(tableau.clone(), Tolerance { rtol: tolerance, atol: tolerance })
}

#[test]
fn the_stiff_oscillators_gradients_are_right_where_explicit_methods_fail() {
    // Of x(T)^2 from (2, 0) with respect to mu, by explicit methods at tolerances where they agree.
    let truths =
        [(30.0, 20.0, 0.0906298364), (30.0, 60.0, 0.1868704865), (100.0, 20.0, 0.0056283205)];
    for (mu, t1, truth) in truths {
        for slices in [true, false] {
            for (tableau, tolerance, bound) in [(ESDIRK4, 1e-8, 1e-4), (KVAERNO5, 1e-10, 1e-6)] {
                let (ode, mu) = oscillator(mu, slices, stiff_solver(&tableau, tolerance));
                let y0 = Tensor::new(&[2.0f64, 0.0], &Device::Cpu).unwrap();
                let sol = ode.solve(&y0, (0.0, t1), &SaveAt::End).unwrap();
                let loss = sol.y1.get(0).unwrap().sqr().unwrap();
                let grads = loss.backward().unwrap();
                let found = grads.get(&mu).unwrap().to_vec1::<f64>().unwrap()[0];
                let off = (found / truth - 1.0).abs();
                assert!(off < bound, "{} {t1}: {found} for {truth}: {off:e}", tableau.name());
                assert!(sol.loss_error().unwrap().bound.is_finite());
            }
        }
    }
}

#[test]
fn slices_and_tensors_find_the_same_gradients_together_and_alone() {
    let y0 = Tensor::new(&[[2.0f64, 0.0], [0.5, -1.0], [-1.5, 3.0]], &Device::Cpu).unwrap();
    let spans = [(0.0, 3.0), (0.0, 0.7), (0.0, 5.0)];
    let find = |slices: bool, gradient: Gradient, rows: &[usize]| {
        let solver = Solver { batching: Batching::PerSample, ..stiff_solver(&KVAERNO5, 1e-7) };
        let (ode, mu) = oscillator(20.0, slices, solver);
        let ode = ode.gradient(gradient);
        let pick = Tensor::new(rows.iter().map(|&r| r as u32).collect::<Vec<_>>(), &Device::Cpu);
        let y0 = Var::from_tensor(&y0.index_select(&pick.unwrap(), 0).unwrap()).unwrap();
        let spans: Vec<_> = rows.iter().map(|&row| spans[row]).collect();
        let sol = ode.solve(&y0, spans, &SaveAt::Steps).unwrap();
        let grads = sol.ys.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        (grads.get(&y0).unwrap().clone(), grads.get(&mu).unwrap().clone())
    };
    let (y0_bar, mu_bar) = find(true, Gradient::Aca, &[0, 1, 2]);
    let (other, _) = find(false, Gradient::Aca, &[0, 1, 2]);
    assert!(distance(&y0_bar, &other) < 1e-9, "{:e}", distance(&y0_bar, &other));
    let (budget, _) = find(true, Gradient::AcaBudget { checkpoints: 2 }, &[0, 1, 2]);
    assert!(distance(&budget, &y0_bar) < 1e-12, "{budget}");
    let mut sum = mu_bar.zeros_like().unwrap();
    for row in 0..3 {
        let (alone, mu) = find(true, Gradient::Aca, &[row]);
        assert!(distance(&alone.get(0).unwrap(), &y0_bar.get(row).unwrap()) < 1e-10);
        sum = (sum + mu).unwrap();
    }
    assert!(distance(&sum, &mu_bar) < 1e-10);
}

#[test]
fn coupled_rows_have_exact_gradients_too() {
    let rate = Var::new(&[50.0f64], &Device::Cpu).unwrap();
    let r = rate.clone();
    let field = move |_t: &Time, y: &Tensor| {
        let (a, b) = (y.get(0)?, y.get(1)?);
        let pull = (b.tanh()? - &a)?.broadcast_mul(&r)?;
        Tensor::stack(&[(&pull - &a)?, (pull.neg()? - &b)?], 0)
    };
    let ode = Ode::new(Solver::fixed_count(ESDIRK4, 20), field, vec![rate.clone()]).unwrap();
    let y0 = Var::new(&[[1.0f64, 0.7], [1.1, -0.9]], &Device::Cpu).unwrap();
    let value = || loss(&ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap().y1);
    let grads = value().backward().unwrap();
    let vars = [rate, y0.clone()];
    let ours = along(&vars, |var| grads.get(var).unwrap().clone());
    let differences = difference(&vars, || scalar(&value()));
    assert!((ours / differences - 1.0).abs() < 1e-7, "{ours}, differences {differences}");
}

#[test]
fn the_adjoint_state_is_the_gradient_of_what_starts_there() {
    let (ode, _) = oscillator(20.0, true, stiff_solver(&KVAERNO5, 1e-9));
    let y0 = Tensor::new(&[2.0f64, 0.0], &Device::Cpu).unwrap();
    let (sol, tape) = ode.forward(&y0, (0.0, 2.0), &SaveAt::End).unwrap();
    let g = Tensor::ones_like(&sol.ys).unwrap();
    let found = tape.adjoint_state(&g, &[0.0, 2.0]).unwrap();
    let whole = tape.pullback(&g).unwrap();
    assert!(distance(&found.a.get(0).unwrap(), &whole.y0) < 1e-12);
    assert!(distance(&found.a.get(1).unwrap(), &g.get(0).unwrap()) < 1e-12);
}

#[test]
fn strategies_that_cannot_go_through_implicit_stages_say_so() {
    let y0 = Tensor::new(&[2.0f64, 0.0], &Device::Cpu).unwrap();
    let solve = |gradient: Gradient| -> Result<()> {
        let (ode, _) = oscillator(20.0, true, stiff_solver(&KVAERNO5, 1e-6));
        ode.gradient(gradient).solve(&y0, (0.0, 1.0), &SaveAt::End).map(|_| ())
    };
    for gradient in [Gradient::Naive, Gradient::NaiveThroughStepSize] {
        let error = solve(gradient).unwrap_err();
        assert!(matches!(error, Error::TracedImplicit { .. }), "{error}");
    }
    let error = solve(Gradient::Mali).unwrap_err();
    assert!(matches!(GradientError::of(&error), Some(GradientError::NotReversible { .. })));
    let error = solve(Gradient::Backsolve(Backsolve::default())).unwrap_err();
    assert!(
        matches!(GradientError::of(&error), Some(GradientError::Unsupported { .. })),
        "{error}"
    );
    let explicit = Some(Box::new(stiff_solver(&DOPRI5, 1e-6)));
    solve(Gradient::Backsolve(Backsolve { solver: explicit, ..Backsolve::default() })).unwrap();
}

#[test]
fn cotangents_below_the_smallest_number_and_of_nan_are_no_failure_of_the_linear_solves() {
    let rate = Var::new(&[1e4f64], &Device::Cpu).unwrap();
    let find = |dtype: DType, weight: f64| -> candle_core::Result<f64> {
        let k = rate.clone();
        let field = move |t: &Time, y: &Tensor| {
            let off = y.broadcast_sub(&t.tensor(y)?.cos()?)?;
            off.broadcast_mul(&k.to_dtype(y.dtype())?)?.neg()
        };
        let ode = Ode::new(stiff_solver(&KVAERNO5, 1e-4), field, vec![rate.clone()]).unwrap();
        let y0 = Var::from_tensor(&Tensor::new(&[1.0f64, 0.5], &Device::Cpu)?.to_dtype(dtype)?)?;
        let sol = ode.solve(&y0, (0.0, 20.0), &SaveAt::End)?;
        let loss = (sol.y1.to_dtype(DType::F64)?.sum_all()? * weight)?;
        Ok(values(loss.backward()?.get(&rate).unwrap())[0])
    };
    // y tends to cos t + sin t / k, so dy/dk to -sin t / k^2, twice.
    let right = -2.0 * 20f64.sin() * 1e-8;
    for dtype in [DType::F32, DType::F64] {
        let found = find(dtype, 1.0).unwrap();
        assert!((found / right - 1.0).abs() < 0.3, "{dtype:?}: {found:e}, {right:e}");
    }
    assert!(find(DType::F64, f64::NAN).unwrap().is_nan());
}

#[test]
fn rows_that_are_joined_only_later_have_exact_gradients() {
    let rate = Var::new(&[1e3f64], &Device::Cpu).unwrap();
    let r = rate.clone();
    let field = move |t: &Time, y: &Tensor| {
        let joined = (t.tensor(y)? - 0.5)?.relu()?.broadcast_mul(&r)?;
        let other = Tensor::cat(&[y.narrow(0, 1, 1)?, y.narrow(0, 0, 1)?], 0)?;
        (other.tanh()? - y)?.broadcast_mul(&joined)? - y
    };
    let solver = Solver { newton: newton(1e-6), ..Solver::fixed_count(KVAERNO5, 40) };
    let ode = Ode::new(solver, field, vec![rate.clone()]).unwrap();
    let y0 = Var::new(&[[1.0f64, 2.0], [3.0, -2.0]], &Device::Cpu).unwrap();
    let value = || loss(&ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap().y1);
    let grads = value().backward().unwrap();
    let vars = [rate, y0.clone()];
    let ours = along(&vars, |var| grads.get(var).unwrap().clone());
    let differences = difference(&vars, || scalar(&value()));
    assert!((ours / differences - 1.0).abs() < 1e-6, "{ours}, differences {differences}");
}

#[test]
fn slopes_that_steps_hand_on_are_replayed_within_a_budget_and_across_jumps() {
    for batching in [Batching::Shared, Batching::PerSample] {
        let find = |gradient: Gradient| {
            let solver = Solver { batching, jump_ts: vec![0.4], ..stiff_solver(&ESDIRK4, 1e-5) };
            let rate = Var::new(&[1e4f64], &Device::Cpu).unwrap();
            let k = rate.clone();
            let field = move |t: &Time, y: &Tensor| {
                let wanted = (t.tensor(y)?.ge(0.4)?.to_dtype(DType::F64)? + 0.5)?;
                (y.sqr()? * y)?.broadcast_sub(&wanted)?.broadcast_mul(&k)?.neg()
            };
            let ode = Ode::new(solver, field, vec![rate.clone()]).unwrap().gradient(gradient);
            let y0 = Var::new(&[[1.0f64], [0.2]], &Device::Cpu).unwrap();
            let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::Times(vec![0.3, 0.45, 0.9])).unwrap();
            let grads = loss(&sol.ys).backward().unwrap();
            (grads.get(&y0).unwrap().clone(), grads.get(&rate).unwrap().clone())
        };
        let (all, all_rate) = find(Gradient::Aca);
        for checkpoints in [1, 3] {
            let (y0, rate) = find(Gradient::AcaBudget { checkpoints });
            assert_eq!(values(&y0), values(&all));
            assert_eq!(values(&rate), values(&all_rate));
        }
    }
}
