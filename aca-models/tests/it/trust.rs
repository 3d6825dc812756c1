//! Gradients at the stability limit of explicit methods, and what a loss says of its error.

use aca_adjoint::{Gradient, GradientError, GradientReport, Ode, OdeSolution, Untrusted};
use aca_core::{Batching, Method, Solver, StableSteps, Stats, Time, Tolerance, VectorField};
use aca_dense::SaveAt;
use aca_models::systems::{ClosedForm, Lorenz, LotkaVolterra, System, ThreeBody, VanDerPol};
use aca_tableau::{
    BOSH3, CASH_KARP, DOP853, DOPRI5, FEHLBERG45, HEUN_EULER, KVAERNO5, TSIT5, Tableau,
};
use candle_core::{Device, Result, Tensor, Var};

/// `x(T)^2` of van der Pol's oscillator from (2, 0) and its derivative with respect to mu: scipy's Radau at 1e-12 and
/// DOP853 at 3e-14 on the system with its sensitivities, which agree to 1e-11.
const VAN_DER_POL: [(f64, f64, f64); 6] = [
    (10.0, 20.0, 0.439_424_174_795),
    (10.0, 60.0, 1.400_320_439_885),
    (30.0, 20.0, 0.090_629_836_411),
    (30.0, 60.0, 0.186_870_486_442),
    (100.0, 20.0, 0.005_628_320_478),
    (100.0, 60.0, 0.021_956_108_357),
];

fn tolerance(tolerance: f64) -> Tolerance {
    Tolerance { rtol: tolerance, atol: tolerance }
}

/// The gradient with respect to mu, or its refusal, and what the solve cost.
fn van_der_pol(solver: Solver, mu: f64, t: f64) -> (std::result::Result<f64, String>, Stats) {
    let field = VanDerPol::field(&[mu]).unwrap();
    let theta = field.theta().clone();
    let ode =
        Ode::new(Solver { max_steps: 1_000_000, ..solver }, field, vec![theta.clone()]).unwrap();
    let y0 = Tensor::new(&[[2.0f64, 0.0]], &Device::Cpu).unwrap();
    let sol = ode.solve(&y0, (0.0, t), &SaveAt::End).unwrap();
    let loss = sol.y1.get(0).unwrap().get(0).unwrap().sqr().unwrap();
    let gradient = loss.backward().map_err(|error| error.to_string());
    let of_mu = |g: candle_core::backprop::GradStore| {
        g.get(&theta).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()[0]
    };
    (gradient.map(of_mu), sol.stats)
}

#[test]
fn gradients_at_the_stability_limit_are_right_to_their_tolerance() {
    let explicit = [DOPRI5, TSIT5, DOP853, BOSH3, CASH_KARP];
    let methods = explicit.into_iter().map(Method::from);
    for method in methods.chain([KVAERNO5.into(), Method::auto()]) {
        let name = method.name();
        for tol in [1e-4, 1e-6, 1e-8, 1e-10] {
            if name == BOSH3.name() && tol < 1e-9 {
                continue; // a hundred thousand steps of order 3
            }
            let error = |mu: f64, t: f64, truth: f64| {
                let solver = Solver::adaptive(&method, tolerance(tol));
                let gradient = van_der_pol(solver, mu, t).0.unwrap_or_else(|e| panic!("{e}"));
                (gradient - truth).abs() / truth
            };
            let mut easy = [0.0; 2];
            for (row, (mu, t, truth)) in VAN_DER_POL.into_iter().enumerate() {
                let error = error(mu, t, truth);
                if mu == 10.0 {
                    easy[row] = error;
                    continue;
                }
                // The truth is known to 1e-10.
                let bound = 30.0 * easy[usize::from(t == 60.0)] + 1e-10;
                assert!(
                    error <= bound,
                    "{name} {tol:e} mu {mu} T {t}: off by {error:e}, bound {bound:e}"
                );
            }
        }
    }
}

#[test]
fn holding_steps_costs_no_evaluations_and_is_a_setting() {
    let solver =
        |stable_steps| Solver { stable_steps, ..Solver::adaptive(DOPRI5, tolerance(1e-8)) };
    let (refused, plain) = van_der_pol(solver(StableSteps::Never), 100.0, 60.0);
    let (held, stats) = van_der_pol(solver(StableSteps::ForGradients), 100.0, 60.0);
    let text = refused.unwrap_err();
    assert!(text.starts_with("the gradient cannot be trusted"), "{text}");
    assert!((held.unwrap() - 0.021_956_108_357).abs() < 1e-9);
    assert!(
        stats.nfe < plain.nfe && stats.accepted < plain.accepted * 11 / 10,
        "{stats:?} {plain:?}"
    );
    assert!(stats.rejected <= 2 && stats.stability_limited > stats.accepted * 9 / 10, "{stats:?}");
    // Where accuracy rules, not one bit changes.
    let (a, b) = (
        van_der_pol(solver(StableSteps::Never), 10.0, 20.0),
        van_der_pol(solver(StableSteps::Always), 10.0, 20.0),
    );
    assert_eq!((a.0, a.1), (b.0, b.1));
}

#[test]
fn every_adaptive_method_sees_its_limit_on_a_fast_decay() {
    for tableau in [HEUN_EULER, BOSH3, FEHLBERG45, CASH_KARP, DOPRI5, TSIT5, DOP853] {
        let (limit, name) = (tableau.real_stability(), tableau.name().to_owned());
        let fast =
            |t: &Time, y: &Tensor| y.broadcast_sub(&t.tensor(y)?.cos()?)?.affine(-1000.0, 0.0);
        let y0 = Var::new(&[[1.0f64], [1.0]], &Device::Cpu).unwrap();
        for batching in [Batching::Shared, Batching::PerSample] {
            let solver = Solver { batching, ..Solver::adaptive(tableau.clone(), tolerance(1e-3)) };
            let ode = Ode::new(solver, fast, vec![]).unwrap();
            let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
            let stats = sol.stats;
            assert!(stats.stability_limited * 2 > stats.accepted, "{name} {batching:?}: {stats:?}");
            assert!(stats.h_largest * 1000.0 < 1.3 * limit, "{name} {batching:?}: {stats:?}");
            let grads = sol.y1.sum_all().unwrap().backward().unwrap();
            let g = grads
                .get(&y0)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f64>()
                .unwrap();
            assert!(
                g < 1e-6,
                "{name} {batching:?}: what began is forgotten, but its gradient is {g:e}"
            );
        }
    }
}

/// A problem whose loss is compared with that of a solve at 1e-13.
struct Case {
    name: &'static str,
    make: fn() -> (Box<dyn VectorField>, Vec<Var>),
    y0: Vec<f64>,
    shape: &'static [usize],
    span: (f64, f64),
    save_at: SaveAt,
    loss: fn(&OdeSolution) -> Result<Tensor>,
}

/// Boxed fields are fields.
struct Boxed(Box<dyn VectorField>);

impl VectorField for Boxed {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.0.eval(t, y)
    }

    fn linearize(&self, t: &Time, y: &Tensor) -> Result<(Tensor, aca_core::Pullback<'_>)> {
        self.0.linearize(t, y)
    }

    fn trace(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.0.trace(t, y)
    }

    fn native(&self, y: &Tensor) -> Option<aca_core::Native<'_>> {
        self.0.native(y)
    }
}

fn closed<S: System + 'static>(field: ClosedForm<S>) -> (Box<dyn VectorField>, Vec<Var>) {
    let theta = field.theta().clone();
    (Box::new(field), vec![theta])
}

fn numbers(count: usize, scale: f64) -> impl Iterator<Item = f64> {
    (0..count).map(move |i| scale * (1.7 * i as f64 + 0.4).sin())
}

fn mean_square(sol: &OdeSolution) -> Result<Tensor> {
    sol.y1.sqr()?.mean_all()
}

fn cases() -> [Case; 5] {
    [
        Case {
            name: "three bodies",
            make: || closed(ThreeBody::field([1.05, 0.95, 1.0]).unwrap()),
            y0: ThreeBody::Y0.to_vec(),
            shape: &[18],
            span: (0.0, 1.0),
            save_at: SaveAt::Times((0..100).map(|i| f64::from(i) / 99.0).collect()),
            loss: |sol| sol.ys.narrow(1, 0, 9)?.sqr()?.mean_all(),
        },
        Case {
            name: "Lotka and Volterra",
            make: || closed(LotkaVolterra::field([1.5, 1.0, 3.0, 1.0]).unwrap()),
            y0: vec![1.0, 1.0],
            shape: &[2],
            span: (0.0, 10.0),
            save_at: SaveAt::End,
            loss: mean_square,
        },
        Case {
            name: "van der Pol, mu = 10",
            make: || closed(VanDerPol::field(&[10.0]).unwrap()),
            y0: vec![2.0, 0.0],
            shape: &[1, 2],
            span: (0.0, 20.0),
            save_at: SaveAt::End,
            loss: |sol| sol.y1.get(0)?.get(0)?.sqr(),
        },
        Case {
            name: "Lorenz, T = 2",
            make: || closed(Lorenz::field(Lorenz::CLASSIC).unwrap()),
            y0: vec![1.0, 1.0, 1.0],
            shape: &[3],
            span: (0.0, 2.0),
            save_at: SaveAt::End,
            loss: mean_square,
        },
        Case {
            name: "a small network",
            make: || {
                let a = Tensor::from_iter(numbers(40, 1.2), &Device::Cpu)
                    .unwrap()
                    .reshape((4, 10))
                    .unwrap();
                let b = Tensor::from_iter(numbers(40, 0.9), &Device::Cpu)
                    .unwrap()
                    .reshape((10, 4))
                    .unwrap();
                let field = move |_: &Time, y: &Tensor| y.matmul(&a)?.tanh()?.matmul(&b);
                (Box::new(field), vec![])
            },
            y0: numbers(12, 1.0).collect(),
            shape: &[3, 4],
            span: (0.0, 5.0),
            save_at: SaveAt::Times(vec![1.0, 2.5, 5.0]),
            loss: |sol| sol.ys.sqr()?.mean_all(),
        },
    ]
}

impl Case {
    fn solve(&self, tableau: &Tableau, tol: f64, gradient: Gradient) -> (f64, GradientReport) {
        let ((field, vars), y0) = ((self.make)(), self.y0.clone());
        let solver =
            Solver { max_steps: 1_000_000, ..Solver::adaptive(tableau.clone(), tolerance(tol)) };
        let ode = Ode::new(solver, Boxed(field), vars).unwrap();
        let ode = ode.gradient(gradient).untrusted(Untrusted::Flag);
        let y0 =
            Var::from_tensor(&Tensor::from_vec(y0, self.shape, &Device::Cpu).unwrap()).unwrap();
        let sol = ode.solve(&y0, self.span, &self.save_at).unwrap();
        let loss = (self.loss)(&sol).unwrap();
        loss.backward().unwrap();
        (loss.to_scalar::<f64>().unwrap(), sol.report().unwrap())
    }
}

#[test]
fn the_bound_of_the_losss_error_is_never_below_a_third_of_it() {
    for case in cases() {
        let (truth, _) = case.solve(&DOP853, 1e-13, Gradient::Aca);
        for tableau in [DOPRI5, TSIT5, DOP853, BOSH3] {
            for tol in [1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10] {
                if tableau == BOSH3 && tol < 1e-8 {
                    continue;
                }
                let (loss, report) = case.solve(&tableau, tol, Gradient::Aca);
                let (error, bound) = ((loss - truth).abs(), report.loss_error.bound);
                // What the truth itself is not known to.
                let noise = 1e-12 * truth.abs();
                let (name, method) = (case.name, tableau.name());
                assert!(
                    bound >= (error - noise) / 3.0,
                    "{name} {method} {tol:e}: {bound:e} for {error:e}"
                );
                assert!(
                    report.doubt.is_none() || tol > 2e-5,
                    "{name} {method} {tol:e}: {report:?}"
                );
            }
        }
    }
}

#[test]
fn reports_do_not_depend_on_checkpoints_or_on_who_steps() {
    for case in cases() {
        let (_, all) = case.solve(&DOPRI5, 1e-6, Gradient::Aca);
        let (_, some) = case.solve(&DOPRI5, 1e-6, Gradient::AcaBudget { checkpoints: 3 });
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (a.abs() + b.abs());
        let name = case.name;
        assert!(close(all.loss_error.bound, some.loss_error.bound), "{name}: {all:?} {some:?}");
        assert!(close(all.growth, some.growth), "{name}: {all:?} {some:?}");
    }
}

#[test]
fn every_sample_has_the_loss_error_that_it_has_alone() {
    let run = |mus: &[f64], batching| {
        let field = VanDerPol::field(mus).unwrap();
        let theta = field.theta().clone();
        let solver = Solver { batching, ..Solver::adaptive(DOPRI5, tolerance(1e-6)) };
        let ode = Ode::new(solver, field, vec![theta]).unwrap();
        let y0 = [2.0, 0.0].repeat(mus.len());
        let y0 = Tensor::from_vec(y0, (mus.len(), 2), &Device::Cpu).unwrap();
        let sol = ode.solve(&y0, (0.0, 5.0), &SaveAt::Times(vec![1.7, 5.0])).unwrap();
        sol.ys.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        sol.report().unwrap()
    };
    let together = run(&[1.0, 5.0, 40.0], Batching::PerSample);
    assert_eq!(together.sample_loss_errors.len(), 3);
    for (sample, mu) in [1.0, 5.0, 40.0].into_iter().enumerate() {
        let alone = run(&[mu], Batching::Shared).loss_error;
        let own = together.sample_loss_errors[sample];
        assert!((own.bound - alone.bound).abs() < 1e-9 * alone.bound, "{mu}: {own:?} {alone:?}");
        assert!((own.signed - alone.signed).abs() < 1e-9 * alone.bound, "{mu}: {own:?} {alone:?}");
    }
}

#[test]
fn a_gradient_that_steps_make_worthless_is_refused_or_flagged_with_numbers() {
    let run = |untrusted| {
        let field = VanDerPol::field(&[100.0]).unwrap();
        let theta = field.theta().clone();
        let solver =
            Solver { stable_steps: StableSteps::Never, ..Solver::adaptive(TSIT5, tolerance(1e-8)) };
        let ode = Ode::new(solver, field, vec![theta]).unwrap().untrusted(untrusted);
        let y0 = Tensor::new(&[[2.0f64, 0.0]], &Device::Cpu).unwrap();
        let sol = ode.solve(&y0, (0.0, 60.0), &SaveAt::End).unwrap();
        let gradient = sol.y1.get(0).unwrap().get(0).unwrap().sqr().unwrap().backward();
        (gradient.map(|_| ()), sol.report())
    };
    let (refused, _) = run(Untrusted::Refuse);
    let text = refused.unwrap_err().to_string();
    assert!(
        text.starts_with("the gradient cannot be trusted") && text.contains("Untrusted::Flag"),
        "{text}"
    );
    let (flagged, report) = run(Untrusted::Flag);
    flagged.unwrap();
    let report = report.unwrap();
    assert!(report.loss_error.bound > report.loss_weight && report.growth > 3.0, "{report:?}");
    assert!(report.stability_limited > 1000 && report.steps > 3000, "{report:?}");
    assert!(matches!(report.doubt.as_deref(), Some(GradientError::UntrustedGradient { .. })));
}

#[test]
fn a_stiff_direction_that_the_solution_does_not_take_is_refused() {
    // diag(-1000, -1) from (0, 1): no stage ever moves in the first entry, so nothing holds the steps.
    let field = |_: &Time, y: &Tensor| y * Tensor::new(&[-1000.0f64, -1.0], y.device())?;
    let y0 = Var::new(&[0.0f64, 1.0], &Device::Cpu).unwrap();
    for tol in [1e-4, 1e-6] {
        let ode = Ode::new(Solver::adaptive(DOPRI5, tolerance(tol)), field, vec![]).unwrap();
        let sol = ode.solve(&y0, (0.0, 5.0), &SaveAt::End).unwrap();
        let text = sol.y1.sum_all().unwrap().backward().map(|_| ()).unwrap_err().to_string();
        let refused =
            ["the gradient cannot be trusted", "the cotangent of the state is not finite"];
        assert!(refused.iter().any(|start| text.starts_with(start)), "{tol:e}: {text}");
        let h_max = Solver { h_max: 3e-3, ..Solver::adaptive(DOPRI5, tolerance(tol)) };
        let ode = Ode::new(h_max, field, vec![]).unwrap();
        let loss = ode.solve(&y0, (0.0, 5.0), &SaveAt::End).unwrap().y1.sum_all().unwrap();
        let g = loss.backward().unwrap().get(&y0).unwrap().to_vec1::<f64>().unwrap();
        assert!(g[0].abs() < 1e-9 && (g[1] - (-5f64).exp()).abs() < 1e-6, "{g:?}");
    }
}

#[test]
fn outputs_near_zero_are_no_reason_to_refuse() {
    let y0 = Var::new(&[0.0f64], &Device::Cpu).unwrap();
    let wave = |t: &Time, y: &Tensor| y.ones_like()?.broadcast_mul(&t.tensor(y)?.cos()?);
    for (tol, t) in [(1e-3, std::f64::consts::PI), (1e-6, 2.0 * std::f64::consts::PI)] {
        let ode = Ode::new(Solver::adaptive(DOPRI5, tolerance(tol)), wave, vec![]).unwrap();
        let loss = ode.solve(&y0, (0.0, t), &SaveAt::End).unwrap().y1.sum_all().unwrap();
        let g = loss.backward().unwrap().get(&y0).unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(g, [1.0], "{tol:e}");
    }
    // Control of a pendulum to its rest, until the loss is that of rounding.
    let u = Var::new(&[0.0f64, 0.0], &Device::Cpu).unwrap();
    let control = u.clone();
    let field = move |_: &Time, y: &Tensor| {
        Tensor::cat(&[y.narrow(0, 1, 1)?.sin()?, y.narrow(0, 0, 1)?.sin()?.neg()?], 0)?
            + control.as_tensor()
    };
    let ode = Ode::new(Solver::adaptive(DOPRI5, tolerance(1e-3)), field, vec![u.clone()]).unwrap();
    let start = Tensor::new(&[1.0f64, 0.5], &Device::Cpu).unwrap();
    for _ in 0..40 {
        let loss = ode.solve(&start, (0.0, 1.0), &SaveAt::End).unwrap().y1.sqr().unwrap();
        let grads = loss.sum_all().unwrap().backward().unwrap();
        u.set(&(u.as_tensor() - (grads.get(&u).unwrap() * 0.45).unwrap()).unwrap()).unwrap();
    }
}
