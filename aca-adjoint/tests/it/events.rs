//! Gradients through events: closed forms, elliptic integrals, and differences of the solve.

use aca_adjoint::{EventOdeSolution, Gradient, Ode};
use aca_core::{Batching, Method, Solver, Splitting, Time, Tolerance};
use aca_dense::{DenseError, Event, EventLaw, Events, SaveAt};
use aca_tableau::{DOP853, DOPRI5, TSIT5};
use candle_core::{DType, Device, Result, Tensor, Var};

fn adaptive(method: impl Into<Method>, tolerance: f64) -> Solver {
    Solver::adaptive(method, Tolerance { rtol: tolerance, atol: tolerance })
}

fn var(values: &[f64]) -> Var {
    Var::new(values, &Device::Cpu).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn gradients(loss: &Tensor, vars: &[&Var]) -> Vec<Vec<f64>> {
    let grads = loss.backward().unwrap();
    let of = |var: &&Var| numbers(&grads.get(var).cloned().unwrap_or(var.zeros_like().unwrap()));
    vars.iter().map(of).collect()
}

/// A ball under gravity whose bounces keep a part of its speed; both are variables.
struct Ball {
    gravity: Var,
    restitution: Var,
}

impl Ball {
    fn new() -> Self {
        Self { gravity: var(&[9.81]), restitution: var(&[0.8]) }
    }

    fn ode(&self, solver: Solver) -> Ode {
        let gravity = self.gravity.clone();
        let fall = move |_t: &Time, y: &Tensor| {
            let speed = y.narrow(y.rank() - 1, 1, 1)?;
            let down = speed.zeros_like()?.broadcast_sub(&gravity)?;
            Tensor::cat(&[&speed, &down], y.rank() - 1)
        };
        Ode::new(solver, fall, vec![self.gravity.clone()]).unwrap()
    }

    fn bounce(&self) -> Event {
        let restitution = self.restitution.clone();
        Event::component(0, 0.0).falling().jump(move |_t, y| {
            let last = y.rank() - 1;
            let speed = y.narrow(last, 1, 1)?.broadcast_mul(&restitution)?.neg()?;
            Tensor::cat(&[y.narrow(last, 0, 1)?.zeros_like()?, speed], last)
        })
    }
}

/// The derivatives of bounce `n` (from 0) of a ball thrown up at `speed` from `height`: with respect to gravity,
/// restitution, height and speed.
fn derivatives(n: i32, [g, e, height, speed]: [f64; 4]) -> [f64; 4] {
    let w = (speed * speed + 2.0 * g * height).sqrt();
    let sum: f64 = (1..=n).map(|k| e.powi(k)).sum();
    let slope: f64 = (1..=n).map(|k| f64::from(k) * e.powi(k - 1)).sum();
    let by_w = (1.0 + 2.0 * sum) / g;
    let t = speed / g + by_w * w;
    [by_w * height / w - t / g, 2.0 * w / g * slope, by_w * g / w, 1.0 / g + by_w * speed / w]
}

#[test]
fn bounces_move_as_the_closed_form_says() {
    let ball = Ball::new();
    for (height, speed) in [(5.0, 0.0), (2.0, 3.0)] {
        let y0 = var(&[height, speed]);
        let events = Events::new([ball.bounce().until(10)]);
        let ode = ball.ode(adaptive(DOPRI5, 1e-10));
        let sol = ode.solve_events(&y0, (0.0, 100.0), &SaveAt::End, &events).unwrap();
        for n in 0..10 {
            let t = sol.event_times.get(n).unwrap();
            let found = gradients(&t, &[&ball.gravity, &ball.restitution, &y0]).concat();
            let expected = derivatives(n as i32, [9.81, 0.8, height, speed]);
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-8, "bounce {n}: {found} for {expected}");
            }
        }
    }
}

#[test]
fn hundreds_of_bounces_are_one_operation() {
    let ball = Ball { restitution: var(&[0.999]), ..Ball::new() };
    let y0 = var(&[5.0, 0.0]);
    let events = Events::new([ball.bounce().until(600)]);
    let sol = ball.ode(adaptive(DOPRI5, 1e-9)).solve_events(&y0, (0.0, 1e4), &SaveAt::End, &events);
    let t = sol.unwrap().event_times.get(599).unwrap();
    let found = gradients(&t, &[&ball.gravity, &ball.restitution, &y0]).concat();
    let expected = derivatives(599, [9.81, 0.999, 5.0, 0.0]);
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-7 * expected.abs(), "{found} for {expected}");
    }
}

/// The complete elliptic integrals K and E of a modulus, by the arithmetic-geometric mean.
fn elliptic(k: f64) -> (f64, f64) {
    let (mut a, mut b, mut c, mut power, mut sum) = (1.0, (1.0 - k * k).sqrt(), k, 0.5, 0.0);
    for _ in 0..12 {
        sum += power * c * c;
        (a, b, c, power) = (0.5 * (a + b), f64::sqrt(a * b), 0.5 * (a - b), 2.0 * power);
    }
    let first = std::f64::consts::FRAC_PI_2 / a;
    (first, first * (1.0 - sum))
}

fn swing(_t: &Time, y: &Tensor) -> Result<Tensor> {
    Tensor::cat(&[y.narrow(0, 1, 1)?, y.narrow(0, 0, 1)?.sin()?.neg()?], 0)
}

#[test]
fn period_of_a_pendulum_moves_with_its_amplitude() {
    let amplitude = 2.0;
    let y0 = var(&[amplitude, 0.0]);
    // It begins at rest, and comes to rest on the other side first.
    let events = Events::new([Event::component(1, 0.0).until(2)]);
    let ode = Ode::new(adaptive(DOP853, 1e-12), swing, vec![]).unwrap();
    let sol = ode.solve_events(&y0, (0.0, 50.0), &SaveAt::End, &events);
    // Recording until the second time.
    let events = Events::new([Event::component(1, 0.0).record().until(2)]);
    assert_eq!(sol.unwrap().len(), 1, "a stop is a stop");
    let sol = ode.solve_events(&y0, (0.0, 50.0), &SaveAt::End, &events).unwrap();
    let period = sol.event_times.get(1).unwrap();
    let k = (0.5 * amplitude).sin();
    let (first, second) = elliptic(k);
    assert!((numbers(&period)[0] - 4.0 * first).abs() < 1e-10, "{period}");
    let found = gradients(&period, &[&y0]).concat()[0];
    let by_k = (second - (1.0 - k * k) * first) / (k * (1.0 - k * k));
    let expected = 4.0 * by_k * 0.5 * (0.5 * amplitude).cos();
    assert!((found - expected).abs() < 1e-8, "{found} for {expected}");
}

/// A driven spring whose surface moves with time, whose jump reads time, state and a variable, and whose threshold is one.
struct Driven {
    stiffness: Var,
    threshold: Var,
    kick: Var,
}

impl Driven {
    fn new() -> Self {
        Self { stiffness: var(&[3.0]), threshold: var(&[0.4]), kick: var(&[0.3]) }
    }

    fn vars(&self) -> [&Var; 3] {
        [&self.stiffness, &self.threshold, &self.kick]
    }

    fn field(&self) -> impl Fn(&Time, &Tensor) -> Result<Tensor> + Send + Sync + 'static {
        let stiffness = self.stiffness.clone();
        move |t: &Time, y: &Tensor| {
            let last = y.rank() - 1;
            let (x, v) = (y.narrow(last, 0, 1)?, y.narrow(last, 1, 1)?);
            let push = t.tensor(y)?.sin()?.broadcast_as(x.shape())?;
            Tensor::cat(&[&v, &(push - x.broadcast_mul(&stiffness)?)?], last)
        }
    }

    fn surface(&self) -> impl Fn(&Time, &Tensor) -> Result<Tensor> + Send + Sync + 'static {
        let threshold = self.threshold.clone();
        move |t: &Time, y: &Tensor| {
            let last = y.rank() - 1;
            let (x, v) = (y.narrow(last, 0, 1)?, y.narrow(last, 1, 1)?);
            let moved = (x + (v * 0.2)?)?.broadcast_sub(&threshold)?;
            moved.broadcast_add(&(t.tensor(y)? * 0.1)?)
        }
    }

    fn jump(&self) -> impl Fn(&Time, &Tensor) -> Result<Tensor> + Send + Sync + 'static {
        let kick = self.kick.clone();
        move |t: &Time, y: &Tensor| {
            let last = y.rank() - 1;
            let (x, v) = (y.narrow(last, 0, 1)?, y.narrow(last, 1, 1)?);
            let push = t.tensor(y)?.cos()?.broadcast_mul(&kick)?.broadcast_as(x.shape())?;
            Tensor::cat(&[&x.affine(0.9, -0.3)?, &((v * 0.7)? - (x.sqr()? + push)?)?], last)
        }
    }

    fn events(&self, jumps: bool) -> Events {
        let kicked = Event::new(self.surface()).rising();
        let kicked = if jumps { kicked.jump(self.jump()) } else { kicked.record() };
        Events::new([
            kicked,
            Event::component(1, 0.05).record(),
            Event::at_times(vec![0.8]).jump(|_t, y| y.affine(1.1, 0.0)),
        ])
    }
}

/// A loss that looks at everything.
fn loss(sol: &EventOdeSolution) -> Tensor {
    let weighed = |x: &Tensor, phase: f64| {
        let count = x.elem_count();
        let weights = (0..count).map(|k| (phase + 1.7 * k as f64).cos());
        let weights = Tensor::from_iter(weights, &Device::Cpu).unwrap();
        (x.flatten_all().unwrap() * weights).unwrap().sum_all().unwrap()
    };
    let parts = [&sol.ys, &sol.y1, &sol.event_times, &sol.states_before, &sol.states_after];
    let parts = parts.iter().enumerate().map(|(i, part)| weighed(part, 0.3 + i as f64));
    parts.reduce(|a, b| (a + b).unwrap()).unwrap()
}

/// Compares all gradients with differences.
fn agrees_with_differences(
    what: &str,
    vars: &[&Var],
    bound: f64,
    solve: impl Fn() -> EventOdeSolution,
) {
    let sol = solve();
    assert!(sol.len() >= 4, "{what}: {} events", sol.len());
    let found = gradients(&loss(&sol), vars);
    for (number, (var, found)) in vars.iter().zip(&found).enumerate() {
        let at = numbers(var);
        for i in 0..at.len() {
            let moved = |d: f64| {
                let mut at = at.clone();
                at[i] += d;
                var.set(&Tensor::from_vec(at, var.shape(), &Device::Cpu).unwrap()).unwrap();
                let sol = solve();
                numbers(&loss(&sol))[0]
            };
            let d = 1e-5;
            let difference = (moved(d) - moved(-d)) / (2.0 * d);
            moved(0.0);
            let off = (found[i] - difference).abs();
            assert!(
                off < bound * (1.0 + difference.abs()),
                "{what}, variable {number}[{i}]: {} for {difference}",
                found[i]
            );
        }
    }
}

#[test]
fn gradients_agree_with_differences() {
    for (span, jumps) in [((0.0, 6.0), true), ((6.0, 0.0), true), ((0.0, 6.0), false)] {
        let driven = Driven::new();
        let y0 = var(&[0.5, -0.2]);
        let (t0, t1) = span;
        let times = SaveAt::Times((1..6).map(|i| t0 + (t1 - t0) * f64::from(i) / 5.5).collect());
        let events = driven.events(jumps);
        let ode = Ode::new(adaptive(DOPRI5, 1e-12), driven.field(), vec![driven.stiffness.clone()]);
        let ode = ode.unwrap();
        let vars = [&driven.vars()[..], &[&y0]].concat();
        agrees_with_differences(&format!("{span:?} {jumps}"), &vars, 2e-7, || {
            ode.solve_events(&y0, span, &times, &events).unwrap()
        });
    }
}

#[test]
fn gradients_of_samples_agree_with_differences() {
    let driven = Driven::new();
    let y0 = Var::new(&[[0.5f64, -0.2], [-0.3, 0.6], [0.1, 0.9]], &Device::Cpu).unwrap();
    let solver = Solver { batching: Batching::PerSample, ..adaptive(TSIT5, 1e-11) };
    let ode = Ode::new(solver, driven.field(), vec![driven.stiffness.clone()]).unwrap();
    let events = driven.events(true);
    let spans = [(0.0, 5.0), (0.2, 6.0), (4.0, 0.0)];
    let each = spans.map(|(t0, t1): (f64, f64)| SaveAt::Times(vec![0.6 * t0 + 0.4 * t1, t1]));
    let save_at = SaveAt::PerSample(each.to_vec());
    let vars = [&driven.vars()[..], &[&y0]].concat();
    agrees_with_differences("samples", &vars, 5e-7, || {
        ode.solve_events(&y0, spans, &save_at, &events).unwrap()
    });
}

#[test]
fn gradients_agree_for_every_kind_of_method() {
    let methods: [(Method, f64); 4] = [
        (DOP853.into(), 1e-12),
        (aca_tableau::BOSH3.into(), 1e-9),
        (aca_tableau::KVAERNO5.into(), 1e-10),
        (aca_tableau::RK4.into(), 0.0),
    ];
    for (method, tolerance) in methods {
        let driven = Driven::new();
        let y0 = var(&[0.5, -0.2]);
        let name = method.name().to_owned();
        let solver = match tolerance {
            0.0 => Solver::fixed(method, 0.004),
            // Hermite's cubic between the nodes is coarser than the steps themselves.
            tolerance => Solver { h_max: 0.02, ..adaptive(method, tolerance) },
        };
        let ode = Ode::new(solver, driven.field(), vec![driven.stiffness.clone()]).unwrap();
        let events = driven.events(true);
        let vars = [&driven.vars()[..], &[&y0]].concat();
        agrees_with_differences(&name, &vars, 3e-6, || {
            ode.solve_events(&y0, (0.0, 4.0), &SaveAt::End, &events).unwrap()
        });
    }
}

#[test]
fn splittings_go_through_bounces() {
    let y0 = var(&[1.2, 0.3]);
    let stiffness = var(&[2.0]);
    let own = stiffness.clone();
    let spring = move |_t: &Time, y: &Tensor| {
        Tensor::cat(&[y.narrow(0, 1, 1)?, y.narrow(0, 0, 1)?.broadcast_mul(&own)?.neg()?], 0)
    };
    let solver = Solver::fixed(Method::Symplectic(Splitting::YOSHIDA4), 0.01);
    let ode = Ode::new(solver, spring, vec![stiffness.clone()]).unwrap();
    let bounce = Event::component(0, 0.2)
        .falling()
        .jump(|_t, y| Tensor::cat(&[y.narrow(0, 0, 1)?, y.narrow(0, 1, 1)?.affine(-0.9, 0.0)?], 0));
    let events = Events::new([bounce]);
    agrees_with_differences("yoshida4", &[&stiffness, &y0], 3e-6, || {
        ode.solve_events(&y0, (0.0, 9.0), &SaveAt::End, &events).unwrap()
    });
}

#[test]
fn a_budget_finds_the_bits_of_aca() {
    let driven = Driven::new();
    let y0 = var(&[0.5, -0.2]);
    let found = |gradient: Gradient| {
        let ode = Ode::new(adaptive(DOPRI5, 1e-8), driven.field(), vec![driven.stiffness.clone()]);
        let ode = ode.unwrap().gradient(gradient);
        let sol = ode.solve_events(&y0, (0.0, 6.0), &SaveAt::End, &driven.events(true)).unwrap();
        gradients(&loss(&sol), &[&driven.vars()[..], &[&y0]].concat())
    };
    assert_eq!(found(Gradient::Aca), found(Gradient::AcaBudget { checkpoints: 2 }));
}

#[test]
fn naive_agrees_where_nothing_jumps() {
    for batching in [Batching::Shared, Batching::PerSample] {
        let driven = Driven::new();
        let y0 = match batching {
            Batching::Shared => var(&[0.5, -0.2]),
            Batching::PerSample => Var::new(&[[0.5f64, -0.2], [-0.3, 0.6]], &Device::Cpu).unwrap(),
        };
        let found = |gradient: Gradient| {
            let solver = Solver { batching, ..adaptive(DOPRI5, 1e-8) };
            let ode = Ode::new(solver, driven.field(), vec![driven.stiffness.clone()]);
            let ode = ode.unwrap().gradient(gradient);
            let events = Events::new([
                Event::new(driven.surface()).record().until(2),
                Event::component(1, 0.05).record(),
            ]);
            let sol = ode.solve_events(&y0, (0.0, 6.0), &SaveAt::End, &events).unwrap();
            assert!(sol.len() > 2);
            // Not the outputs: a solve that stops comes to none.
            let sum = ((sol.event_times.sum_all().unwrap() + sol.y1.sum_all().unwrap()).unwrap()
                + sol.states_before.sqr().unwrap().sum_all().unwrap())
            .unwrap();
            gradients(&sum, &[&driven.stiffness, &driven.threshold, &y0]).concat()
        };
        for (a, b) in found(Gradient::Aca).iter().zip(found(Gradient::Naive)) {
            assert!((a - b).abs() < 1e-10 * (1.0 + a.abs()), "{a} and {b}");
        }
    }
}

#[test]
fn other_strategies_refuse_by_name() {
    let ball = Ball::new();
    let y0 = var(&[5.0, 0.0]);
    let refused = |gradient: Gradient, event: Event| {
        let ode = ball.ode(adaptive(DOPRI5, 1e-6)).gradient(gradient);
        let error = ode.solve_events(&y0, (0.0, 9.0), &SaveAt::End, &event.into()).err().unwrap();
        error.to_string()
    };
    let stop = || Event::component(0, 0.0);
    assert_eq!(
        refused(Gradient::Backsolve(Default::default()), stop()),
        "Backsolve cannot do events; use Aca"
    );
    assert_eq!(refused(Gradient::Mali, stop()), "Mali cannot do events; use Aca");
    assert_eq!(
        refused(Gradient::NaiveThroughStepSize, stop()),
        "NaiveThroughStepSize cannot do events; use Aca"
    );
    assert_eq!(
        refused(Gradient::Naive, ball.bounce()),
        "Naive cannot do events that change the state at times that move; use Aca"
    );
}

#[test]
fn gradients_of_a_batch_are_those_of_each_alone() {
    let ball = Ball::new();
    let heights: Vec<f64> = (0..256).map(|i| 1.0 + 0.05 * f64::from(i)).collect();
    let rows: Vec<f64> = heights.iter().flat_map(|&h| [h, 0.0]).collect();
    let solver = Solver { batching: Batching::PerSample, ..adaptive(DOPRI5, 1e-8) };
    let ode = ball.ode(solver);
    let events = Events::new([ball.bounce()]);
    let solve = |rows: Vec<f64>| {
        let shape = (rows.len() / 2, 2);
        let y0 = Var::from_vec(rows, shape, &Device::Cpu).unwrap();
        let sol = ode.solve_events(&y0, (0.0, 4.0), &SaveAt::End, &events).unwrap();
        let sum = sol.event_times.sum_all().unwrap() + sol.y1.sqr().unwrap().sum_all().unwrap();
        (gradients(&sum.unwrap(), &[&y0]).remove(0), sol.counts.clone())
    };
    let (all, counts) = solve(rows.clone());
    assert!(counts.iter().any(|&c| c > 3) && counts.contains(&1), "{counts:?}");
    for i in (0..256).step_by(17) {
        let alone = solve(rows[2 * i..2 * i + 2].to_vec()).0;
        assert_eq!(alone, all[2 * i..2 * i + 2], "sample {i}");
    }
}

#[test]
fn grazing_contact_has_no_gradient() {
    // y = (t - 1/2)^3 lies along its threshold where it crosses it, alone and beside another number.
    for width in [1, 2] {
        let flat = move |t: &Time, y: &Tensor| {
            let slope = (t.tensor(y)?.affine(1.0, -0.5)?.sqr()? * 3.0)?.reshape(1)?;
            Tensor::cat(&vec![slope; y.elem_count()], 0)
        };
        let y0 = var(&vec![-0.125; width]);
        let ode = Ode::new(Solver::fixed_count(DOPRI5, 3), flat, vec![]).unwrap();
        let event = Event::component(0, 0.0);
        let sol = ode.solve_events(&y0, (0.0, 1.0), &SaveAt::End, &event.into()).unwrap();
        assert!((numbers(&sol.event_times)[0] - 0.5).abs() < 1e-4, "{}", sol.event_times);
        let error = sol.event_times.sum_all().unwrap().backward().err().unwrap().to_string();
        assert!(
            error.contains("event 0 at t = 0.") && error.contains("only grazes its"),
            "{error}"
        );
    }
}

#[test]
fn times_read_as_numbers_are_refused() {
    let ball = Ball::new();
    let y0 = var(&[5.0, 0.0]);
    let reads = Event::new(|t: &Time, y: &Tensor| y.get(0)?.affine(1.0, -t.value()));
    let ode = ball.ode(adaptive(DOPRI5, 1e-8));
    let sol = ode.solve_events(&y0, (0.0, 9.0), &SaveAt::End, &reads.into()).unwrap();
    let error = sol.event_times.sum_all().unwrap().backward().err().unwrap().to_string();
    assert!(error.contains("event 0 read the time as a number"), "{error}");
}

#[test]
fn variable_changed_after_the_solve_is_refused() {
    let ball = Ball::new();
    let y0 = var(&[5.0, 0.0]);
    let ode = ball.ode(adaptive(DOPRI5, 1e-8));
    let sol = ode.solve_events(&y0, (0.0, 3.0), &SaveAt::End, &ball.bounce().into()).unwrap();
    ball.restitution.set(&Tensor::new(&[0.7f64], &Device::Cpu).unwrap()).unwrap();
    let error = sol.y1.sum_all().unwrap().backward().err().unwrap().to_string();
    assert!(error.contains("parameter 1 was changed"), "{error}");
}

#[test]
fn error_of_the_loss_covers_all_pieces() {
    let driven = Driven::new();
    let y0 = var(&[0.5, -0.2]);
    let solve = |tolerance: f64| {
        let ode =
            Ode::new(adaptive(DOPRI5, tolerance), driven.field(), vec![driven.stiffness.clone()]);
        ode.unwrap().solve_events(&y0, (0.0, 6.0), &SaveAt::End, &driven.events(true)).unwrap()
    };
    let sol = solve(1e-5);
    let sum = |sol: &EventOdeSolution| sol.event_times.sum_all().unwrap();
    sum(&sol).backward().unwrap();
    let bound = sol.loss_error().unwrap().bound;
    let truth = (numbers(&sum(&sol))[0] - numbers(&sum(&solve(1e-12)))[0]).abs();
    assert!(truth < bound && bound < 1e4 * truth, "{truth} within {bound}");
    assert_eq!(sol.report().unwrap().steps, sol.stats.accepted);
}

#[test]
fn single_precision_goes_back_through_bounces() {
    let gravity = Var::new(&[9.81f32], &Device::Cpu).unwrap();
    let own = gravity.clone();
    let fall = move |_t: &Time, y: &Tensor| {
        let speed = y.narrow(0, 1, 1)?;
        Tensor::cat(&[&speed, &speed.zeros_like()?.broadcast_sub(&own)?], 0)
    };
    let bounce = Event::component(0, 0.0).falling().until(3).jump(|_t, y| {
        Tensor::cat(&[y.narrow(0, 0, 1)?.zeros_like()?, y.narrow(0, 1, 1)?.affine(-0.8, 0.0)?], 0)
    });
    let y0 = Var::new(&[5f32, 0.0], &Device::Cpu).unwrap();
    let ode = Ode::new(adaptive(DOPRI5, 1e-6), fall, vec![gravity.clone()]).unwrap();
    let sol = ode.solve_events(&y0, (0.0, 100.0), &SaveAt::End, &bounce.into()).unwrap();
    let found = gradients(&sol.event_times.get(2).unwrap(), &[&gravity, &y0]).concat();
    let expected = derivatives(2, [9.81, 0.8, 5.0, 0.0]);
    for (found, expected) in found.iter().zip([expected[0], expected[2], expected[3]]) {
        assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
    }
}

/// `y0^2 + theta0 y1 - theta1 - sin t / 4`, with a slip in its derivative where that is asked for.
#[derive(Clone, Copy)]
struct Curve {
    slips: bool,
}

impl EventLaw for Curve {
    fn value(&self, t: f64, theta: &[f64], y: &[f64]) -> f64 {
        y[0] * y[0] + theta[0] * y[1] - theta[1] - 0.25 * t.sin()
    }

    fn slope(
        &self,
        t: f64,
        theta: &[f64],
        y: &[f64],
        by_y: &mut [f64],
        by_theta: &mut [f64],
    ) -> f64 {
        by_y.copy_from_slice(&[if self.slips { y[0] } else { 2.0 * y[0] }, theta[0]]);
        by_theta.copy_from_slice(&[y[1], -1.0]);
        -0.25 * t.cos()
    }
}

#[test]
fn closed_form_finds_the_events_and_gradients_of_the_same_in_candles_operations() {
    for batching in [Batching::Shared, Batching::PerSample] {
        let theta = var(&[0.3, 0.4]);
        let own = theta.clone();
        let closure = move |t: &Time, y: &Tensor| {
            let last = y.rank() - 1;
            let (a, b) = (y.narrow(last, 0, 1)?, y.narrow(last, 1, 1)?);
            let moved = (t.tensor(y)?.sin()? * 0.25)?.reshape(((), 1))?;
            let moved = if y.rank() == 1 { moved.reshape(1)? } else { moved };
            let g = (a.sqr()? + b.broadcast_mul(&own.narrow(0, 0, 1)?)?)?;
            g.broadcast_sub(&own.narrow(0, 1, 1)?)?.broadcast_sub(&moved)?.squeeze(last)
        };
        let y0 = match batching {
            Batching::Shared => var(&[1.2, 0.3]),
            Batching::PerSample => Var::new(&[[1.2f64, 0.3], [0.8, -0.5]], &Device::Cpu).unwrap(),
        };
        let swing = |_t: &Time, y: &Tensor| {
            let last = y.rank() - 1;
            Tensor::cat(&[y.narrow(last, 1, 1)?, y.narrow(last, 0, 1)?.sin()?.neg()?], last)
        };
        let solver = Solver { batching, ..adaptive(DOPRI5, 1e-9) };
        let ode = Ode::new(solver, swing, vec![]).unwrap();
        let found = |event: Event| {
            let events = Events::new([event.record()]);
            let sol = ode.solve_events(&y0, (0.0, 9.0), &SaveAt::End, &events).unwrap();
            (numbers(&sol.event_times), gradients(&loss(&sol), &[&theta, &y0]).concat())
        };
        let (times, slopes) = found(Event::law(Curve { slips: false }, theta.clone()));
        let (expected_times, expected) = found(Event::new(closure));
        assert!(times.len() > 2 && times.len() == expected_times.len(), "{times:?}");
        for (own, expected) in times.iter().zip(&expected_times) {
            assert!((own - expected).abs() < 1e-13, "{own} for {expected}");
        }
        for (own, expected) in slopes.iter().zip(&expected) {
            assert!((own - expected).abs() < 1e-11 * expected.abs().max(1.0), "{own}, {expected}");
        }
    }
    Curve { slips: false }.check(0.7, &[0.3, 0.4], &[1.2, -0.3]).unwrap();
    let error = Curve { slips: true }.check(0.7, &[0.3, 0.4], &[1.2, -0.3]).unwrap_err();
    let error = error.find::<DenseError>().unwrap();
    assert!(matches!(error, DenseError::LawSlope { what, .. } if what == "y[0]"), "{error}");
}
