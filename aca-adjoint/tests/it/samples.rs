//! Every sample on its own: a batch is its samples, each solved alone.

use aca_adjoint::{Backsolve, Gradient, Ode};
use aca_core::{Batching, Error, OnFailure, Solver, Time, Tolerance, VectorField};
use aca_dense::{DenseError, Placement, Ragged, SaveAt};
use aca_tableau::{BOSH3, DOP853, DOPRI5, RK4, TSIT5, Tableau};
use candle_core::{DType, Device, Result, Tensor, Var};

use crate::common::{Mlp, distance, loss};

const BATCH: usize = 5;

/// The Mlp, which looks at every row alone; evaluated on some rows only where `rows` says so.
struct Rows {
    mlp: Mlp,
    rows: bool,
}

impl VectorField for Rows {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.mlp.eval(t, y)
    }

    fn supports_row_subset(&self) -> bool {
        self.rows
    }
}

fn field(rows: bool) -> (Rows, Vec<Var>) {
    let mlp = Mlp::new(DType::F64);
    let vars = mlp.vars();
    (Rows { mlp, rows }, vars)
}

fn starts() -> Tensor {
    let entries = (0..3 * BATCH).map(|i| 1.3 * (0.4 + 1.9 * i as f64).sin());
    Tensor::from_iter(entries, &Device::Cpu).unwrap().reshape((BATCH, 3)).unwrap()
}

/// Spans of different lengths and places, one of them without any.
fn spans(sign: f64) -> Vec<(f64, f64)> {
    let ends = [(0.0, 3.0), (0.5, 1.0), (0.2, 0.2), (-1.0, 4.0), (1.0, 2.5)];
    ends.map(|(t0, t1)| (sign * t0, sign * t1)).to_vec()
}

/// Times of each sample: its ends or not, inside steps, a different number for each.
fn times(spans: &[(f64, f64)]) -> Vec<Vec<f64>> {
    let fractions: [&[f64]; BATCH] =
        [&[0.0, 0.31, 0.77, 1.0], &[0.5], &[0.0], &[0.1, 0.11, 0.6], &[0.9, 1.0]];
    let at = |&(t0, t1): &(f64, f64), s: f64| if s == 1.0 { t1 } else { t0 + s * (t1 - t0) };
    let rows = spans.iter().zip(fractions);
    rows.map(|(span, fractions)| fractions.iter().map(|&s| at(span, s)).collect()).collect()
}

fn shared(tableau: &Tableau) -> Solver {
    let tolerance = Tolerance { rtol: 1e-6, atol: 1e-7 };
    match tableau.is_adaptive() {
        true => Solver::adaptive(tableau.clone(), tolerance),
        false => Solver::fixed(tableau.clone(), 0.21),
    }
}

fn own_steps(solver: Solver) -> Solver {
    Solver { batching: Batching::PerSample, ..solver }
}

fn solver(tableau: &Tableau) -> Solver {
    own_steps(shared(tableau))
}

/// A loss that weighs the entries of a sample's outputs alike wherever the sample stands.
fn sample_loss(ys: &Tensor, y1: &Tensor) -> Tensor {
    (loss(ys) + loss(y1)).unwrap()
}

/// Outputs, end, gradients with respect to `y0` and the parameters, accepted and rejected steps.
struct Found {
    ys: Tensor,
    y1: Tensor,
    y0_bar: Tensor,
    theta: Vec<Tensor>,
    steps: (usize, usize),
}

fn alone(tableau: &Tableau, gradient: Gradient, sample: usize, sign: f64) -> Found {
    let (field, vars) = field(false);
    let ode = Ode::new(shared(tableau), field, vars.clone()).unwrap().gradient(gradient);
    let y0 = Var::from_tensor(&starts().narrow(0, sample, 1).unwrap()).unwrap();
    let (spans, times) = (spans(sign), times(&spans(sign)));
    let sol = ode.solve(&y0, spans[sample], &SaveAt::Times(times[sample].clone())).unwrap();
    let (ys, y1) = (sol.ys.squeeze(1).unwrap(), sol.y1.squeeze(0).unwrap());
    let grads = sample_loss(&ys, &y1).backward().unwrap();
    let theta = vars.iter().map(|var| grads.get(var).unwrap().clone()).collect();
    let y0_bar = grads.get(&y0).unwrap().squeeze(0).unwrap();
    let steps = (sol.stats.accepted, sol.stats.rejected);
    Found { ys: ys.detach(), y1: y1.detach(), y0_bar, theta, steps }
}

/// The samples in the given order, solved together.
fn together(
    tableau: &Tableau,
    gradient: Gradient,
    sign: f64,
    order: &[usize],
    rows: bool,
) -> (Vec<Found>, Vec<Tensor>) {
    let (field, vars) = field(rows);
    let ode = Ode::new(solver(tableau), field, vars.clone()).unwrap().gradient(gradient);
    let pick: Vec<u32> = order.iter().map(|&i| i as u32).collect();
    let y0 = starts().index_select(&Tensor::new(pick, &Device::Cpu).unwrap(), 0).unwrap();
    let y0 = Var::from_tensor(&y0).unwrap();
    let own = |all: Vec<(f64, f64)>| order.iter().map(|&i| all[i]).collect::<Vec<_>>();
    let times = times(&spans(sign));
    let save: Vec<_> = order.iter().map(|&i| SaveAt::Times(times[i].clone())).collect();
    let sol = ode.solve(&y0, own(spans(sign)), &SaveAt::PerSample(save)).unwrap();
    let samples = 0..order.len();
    let parts =
        samples.clone().map(|i| sample_loss(&sol.sample(i).unwrap(), &sol.y1.get(i).unwrap()));
    let total = parts.reduce(|a, b| (a + b).unwrap()).unwrap();
    let grads = total.backward().unwrap();
    let theta = vars.iter().map(|var| grads.get(var).unwrap().clone()).collect();
    let y0_bar = grads.get(&y0).unwrap();
    let found = samples.map(|i| Found {
        ys: sol.sample(i).unwrap().detach(),
        y1: sol.y1.get(i).unwrap().detach(),
        y0_bar: y0_bar.get(i).unwrap(),
        theta: Vec::new(),
        steps: (sol.samples[i].stats.accepted, sol.samples[i].stats.rejected),
    });
    (found.collect(), theta)
}

fn assert_close(what: &str, a: &Tensor, b: &Tensor) {
    let off = distance(a, b);
    assert!(off <= 1e-12, "{what} differ by {off:e}, bound 1e-12: {a} against {b}");
}

/// Compares a batch with its samples, each alone.
fn batch_equals_samples(tableau: &Tableau, gradient: Gradient, sign: f64, rows: bool) {
    let order: Vec<usize> = (0..BATCH).collect();
    let (batch, theta) = together(tableau, gradient.clone(), sign, &order, rows);
    let mut sums: Vec<Tensor> = theta.iter().map(|t| t.zeros_like().unwrap()).collect();
    for (sample, found) in batch.iter().enumerate() {
        let own = alone(tableau, gradient.clone(), sample, sign);
        let name = format!("{} {gradient:?} {sign} rows {rows} sample {sample}", tableau.name());
        assert_eq!(found.steps, own.steps, "{name}: accepted and rejected steps");
        assert_close(&format!("{name}: outputs"), &found.ys, &own.ys);
        assert_close(&format!("{name}: ends"), &found.y1, &own.y1);
        assert_close(&format!("{name}: gradients of y0"), &found.y0_bar, &own.y0_bar);
        for (sum, own) in sums.iter_mut().zip(&own.theta) {
            *sum = (&*sum + own).unwrap();
        }
    }
    for (together, sum) in theta.iter().zip(&sums) {
        assert_close("gradients of parameters", together, sum);
    }
}

#[test]
fn batch_equals_its_samples_solved_alone() {
    for tableau in [DOPRI5, TSIT5, BOSH3, DOP853, RK4] {
        for sign in [1.0, -1.0] {
            for rows in [false, true] {
                batch_equals_samples(&tableau, Gradient::Aca, sign, rows);
            }
        }
    }
}

#[test]
fn naive_batch_equals_its_samples_solved_alone() {
    for (tableau, rows) in [(DOPRI5, false), (BOSH3, true), (RK4, true)] {
        batch_equals_samples(&tableau, Gradient::Naive, 1.0, rows);
    }
}

#[test]
fn permuting_the_batch_permutes_the_results() {
    let order = [3, 0, 4, 2, 1];
    let (shuffled, _) = together(&DOPRI5, Gradient::Aca, 1.0, &order, true);
    let (plain, _) = together(&DOPRI5, Gradient::Aca, 1.0, &[0, 1, 2, 3, 4], true);
    for (place, &sample) in order.iter().enumerate() {
        let (a, b) = (&shuffled[place], &plain[sample]);
        assert_eq!(a.steps, b.steps, "steps of sample {sample}");
        assert_close("outputs", &a.ys, &b.ys);
        assert_close("gradients", &a.y0_bar, &b.y0_bar);
    }
}

#[test]
fn every_sample_has_time_gradients_of_its_own() {
    let (field_alone, vars) = field(false);
    let solo = Ode::new(shared(&TSIT5), field_alone, vars).unwrap();
    let (field, vars) = field(true);
    let ode = Ode::new(solver(&TSIT5), field, vars).unwrap();
    let (spans, times) = (spans(1.0), times(&spans(1.0)));
    let save = times.iter().map(|ts| SaveAt::Times(ts.clone())).collect();
    let (sol, tape) = ode.forward(&starts(), spans.clone(), &SaveAt::PerSample(save)).unwrap();
    let weights = (0..sol.ys.elem_count()).map(|i| (1.0 + 0.7 * i as f64).sin());
    let weights = Tensor::from_iter(weights, &Device::Cpu).unwrap();
    let weights = weights.reshape(sol.ys.shape()).unwrap();
    let found = tape.pullback_with_times(&weights).unwrap();
    let own_weights = Ragged::new(weights, times.iter().map(Vec::len).collect()).unwrap();
    // Sample 2 has no steps, so no times that could move.
    for sample in [0, 1, 3, 4] {
        let y0 = starts().narrow(0, sample, 1).unwrap();
        let g = own_weights.sample(sample).unwrap().unsqueeze(1).unwrap();
        let save = SaveAt::Times(times[sample].clone());
        let (_, tape) = solo.forward(&y0, spans[sample], &save).unwrap();
        let alone = tape.pullback_with_times(&g).unwrap().times.unwrap();
        let batch = &found.sample_times[sample];
        let pairs = [(batch.t0, alone.t0), (batch.t1, alone.t1)];
        for (a, b) in pairs.into_iter().chain(batch.ts.iter().copied().zip(alone.ts)) {
            assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "sample {sample}: {a} against {b}");
        }
    }
}

#[test]
fn times_of_samples_are_differentiable() {
    let (field, vars) = field(true);
    let ode = Ode::new(own_steps(Solver::fixed_count(DOPRI5, 7)), field, vars).unwrap();
    let value = |ts: &[f64]| {
        let ts = Tensor::new(ts, &Device::Cpu).unwrap();
        let times = Ragged::new(ts, vec![3, 2, 1, 2, 2]).unwrap();
        loss(&ode.solve_times(&starts(), &times).unwrap().ys)
    };
    let ts = [0.0, 0.4, 1.0, 0.3, 2.0, 0.5, -1.0, 1.0, 0.2, 0.9];
    let var = Var::new(&ts, &Device::Cpu).unwrap();
    let times = Ragged::new(var.as_tensor().clone(), vec![3, 2, 1, 2, 2]).unwrap();
    let sol = ode.solve_times(&starts(), &times).unwrap();
    let grads = loss(&sol.ys).backward().unwrap();
    let found = grads.get(&var).unwrap().to_vec1::<f64>().unwrap();
    // The one time of sample 2 is start and end at once: nothing moves.
    for m in (0..ts.len()).filter(|&m| m != 5) {
        let moved = |by: f64| {
            let mut ts = ts;
            ts[m] += by;
            value(&ts).to_scalar::<f64>().unwrap()
        };
        // Moving an end moves the nodes of equal steps too, which the gradient holds fixed up to the
        // method's error.
        let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        let off = (found[m] - difference).abs();
        assert!(off <= 1e-4 * difference.abs().max(1.0), "time {m}: {} for {difference}", found[m]);
    }
}

#[test]
fn own_clocks_are_one_setting_away_from_the_ordinary_call() {
    let (field, vars) = field(true);
    let own = Solver { batching: Batching::PerSample, ..solver(&DOPRI5) };
    let ode = Ode::new(own, field, vars.clone()).unwrap();
    let ts = vec![0.0, 0.4, 2.0];
    let sol = ode.solve(&starts(), (0.0, 3.0), &SaveAt::Times(ts.clone())).unwrap();
    assert_eq!((sol.ys.dims(), sol.ts.clone()), (&[3, BATCH, 3][..], ts.clone()));
    let each = ode.solve(&starts(), [(0.0, 3.0); BATCH], &SaveAt::Times(ts.clone())).unwrap();
    for sample in 0..BATCH {
        let shared = sol.ys.narrow(1, sample, 1).unwrap().squeeze(1).unwrap();
        assert_close("outputs", &shared, &each.sample(sample).unwrap());
    }
    assert_close("ends", &sol.y1, &each.y1);
    assert!(sol.samples.iter().all(|end| end.status.is_finished()));
    assert_eq!(sol.samples.len(), BATCH);
    let times = Var::new(&ts[..], &Device::Cpu).unwrap();
    let sol = ode.solve_times(&starts(), &times).unwrap();
    let grads = loss(&sol.ys).backward().unwrap();
    assert!(grads.get(&times).is_some() && grads.get(&vars[0]).is_some());
}

#[test]
fn field_of_one_time_is_refused_where_clocks_differ() {
    let clock = |t: &Time, y: &Tensor| y * t.value().cos();
    let ode = Ode::new(solver(&DOPRI5), clock, vec![]).unwrap();
    let error = ode.solve(&starts(), (0.0, 3.0), &SaveAt::End).err().unwrap();
    assert!(matches!(error, Error::TimesDiffer), "{error}");
    // Equal steps over one span keep all samples at one time, which such a field may ask for.
    let clock = |t: &Time, y: &Tensor| y * t.value().cos();
    let ode = Ode::new(own_steps(Solver::fixed(RK4, 0.5)), clock, vec![]).unwrap();
    assert!(ode.solve(&starts(), (0.0, 3.0), &SaveAt::End).is_ok());
}

/// `y' = y^2`, which leaves every bound at `t = 1 / y0`.
fn blow_up(_t: &Time, y: &Tensor) -> Result<Tensor> {
    y.sqr()
}

#[test]
fn failed_sample_is_named() {
    let ode = Ode::new(solver(&DOPRI5), blow_up, vec![]).unwrap();
    let y0 = Tensor::new(&[[0.1f64], [2.0], [0.2]], &Device::Cpu).unwrap();
    let error = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).err().unwrap();
    let Error::SamplesFailed { samples, batch: 3 } = &error else { panic!("{error}") };
    assert_eq!(samples.iter().map(|(sample, _)| *sample).collect::<Vec<_>>(), [1]);
    let text = error.to_string();
    assert!(text.starts_with("1 of 3 samples failed: sample 1: "), "{text}");
    assert!(text.ends_with("OnFailure::Keep returns the other samples"), "{text}");
}

#[test]
fn kept_failures_leave_the_others_as_they_are() {
    for gradient in [Gradient::Aca, Gradient::Naive] {
        let solver = Solver { on_failure: OnFailure::Keep, ..solver(&DOPRI5) };
        let ode = Ode::new(solver, blow_up, vec![]).unwrap().gradient(gradient);
        let y0 = Tensor::new(&[[0.1f64], [2.0], [f64::NAN], [0.2]], &Device::Cpu).unwrap();
        let y0 = Var::from_tensor(&y0).unwrap();
        let times = SaveAt::Times(vec![0.25, 0.9]);
        let sol = ode.solve(&y0, (0.0, 1.0), &times).unwrap();
        let finished: Vec<_> = sol.samples.iter().map(|end| end.status.is_finished()).collect();
        assert_eq!(finished, [true, false, false, true]);
        let failed = sol.sample(1).unwrap().to_vec2::<f64>().unwrap();
        assert!((failed[0][0] - 4.0).abs() < 1e-4 && failed[1][0].is_nan(), "{failed:?}");
        // y(1) = y0 / (1 - y0), whose derivative is 1 / (1 - y0)^2.
        let grads = sol.y1.sum_all().unwrap().backward().unwrap();
        let gradient = grads.get(&y0).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let wanted = [1.0 / 0.81, 0.0, 0.0, 1.0 / 0.64];
        for (got, wanted) in gradient.iter().zip(wanted) {
            assert!((got - wanted).abs() < 1e-5, "{gradient:?}, wanted {wanted}");
        }
    }
}

#[test]
fn strategies_without_clocks_of_samples_say_so() {
    for gradient in [Gradient::NaiveThroughStepSize, Gradient::Backsolve(Backsolve::default())] {
        let ode = Ode::new(solver(&DOPRI5), blow_up, vec![]).unwrap().gradient(gradient);
        let error = ode.solve(&starts(), (0.0, 0.1), &SaveAt::End).err().unwrap();
        assert!(matches!(error, Error::PerSampleUnsupported { .. }), "{error}");
    }
}

#[test]
fn a_budget_for_each_sample_gives_the_bits_of_all_checkpoints() {
    for rows in [true, false] {
        let gradient = |gradient: Gradient| {
            let (field, vars) = field(rows);
            let y0 = Var::from_tensor(&starts()).unwrap();
            let ode = Ode::new(solver(&DOPRI5), field, vars.clone()).unwrap().gradient(gradient);
            let times = SaveAt::All(vec![SaveAt::Steps, SaveAt::End]);
            let sol = ode.solve(&y0, spans(1.0), &times).unwrap();
            let loss = sol.ys.sqr().unwrap().sum_all().unwrap();
            let grads = loss.backward().unwrap();
            let bits = |var: &Var| {
                let g = grads.get(var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
                g.into_iter().map(f64::to_bits).collect::<Vec<_>>()
            };
            let bits: Vec<_> = std::iter::once(&y0).chain(&vars).map(bits).collect();
            (bits, sol.nfe_backward())
        };
        let (all, fewest) = gradient(Gradient::Aca);
        for checkpoints in [1, 2, 5] {
            let (some, evaluations) = gradient(Gradient::AcaBudget { checkpoints });
            assert!(some == all, "{checkpoints} checkpoints, rows alone: {rows}");
            assert!(evaluations > fewest, "a budget of {checkpoints} recomputes steps");
        }
    }
}

#[test]
fn lists_of_another_length_than_the_batch_are_refused() {
    let ode = Ode::new(solver(&DOPRI5), blow_up, vec![]).unwrap();
    let error = ode.solve(&starts(), [(0.0, 0.1)], &SaveAt::End).err().unwrap();
    assert_eq!(error.to_string(), "1 spans came for 5 samples; give one for each");
    let save = SaveAt::PerSample(vec![SaveAt::End; 2]);
    let error = ode.solve(&starts(), (0.0, 0.1), &save).err().unwrap();
    assert_eq!(error.to_string(), "2 requests came for 5 samples; give one for each");
}

#[test]
fn dense_outputs_of_a_failed_sample_end_where_it_failed() {
    // From 2 the solution of y' = y^2 grows beyond all bounds at 1/2.
    let y0 = Tensor::new(&[[0.1f64], [2.0]], &Device::Cpu).unwrap();
    let square = |_t: &Time, y: &Tensor| y.sqr();
    let solver = Solver { on_failure: OnFailure::Keep, ..solver(&DOPRI5) };
    let spans = vec![(0.0, 1.0), (0.0, 1.0)];
    let save_at = SaveAt::All(vec![SaveAt::Times(vec![0.25, 0.75]), SaveAt::Dense]);
    let ode = Ode::new(solver, square, vec![]).unwrap();
    let sol = ode.solve(&y0, spans, &save_at).unwrap();
    let dense = sol.sample_dense(1).unwrap();
    let at = |t: f64| dense.at(t).map(|y| y.to_vec1::<f64>().unwrap()[0]);
    assert!((at(0.25).unwrap() - 4.0).abs() < 1e-3, "{:?}", at(0.25));
    assert!(matches!(at(0.75), Err(Error::TimeOutsideSpan { .. })), "{:?}", at(0.75));
    let missed = Placement { step: usize::MAX, s: f64::NAN };
    let placed = dense.at_placements(&[dense.place(0.25).unwrap(), missed]).unwrap();
    let placed = placed.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert!((placed[0] - 4.0).abs() < 1e-3 && placed[1].is_nan(), "{placed:?}");
    let elsewhere = dense.at_placements(&[Placement { step: 9999, s: 0.5 }]);
    let error = elsewhere.unwrap_err();
    let found = DenseError::of(&error);
    assert!(matches!(found, Some(DenseError::NoSuchStep { step: 9999, .. })), "{error}");
}

#[test]
fn outputs_of_samples_at_times_named_later_train_as_those_named_before() {
    for gradient in [Gradient::Aca, Gradient::Naive] {
        let (field, vars) = field(true);
        let ode = Ode::new(solver(&TSIT5), field, vars.clone()).unwrap().gradient(gradient);
        let y0 = Var::from_tensor(&starts()).unwrap();
        let ts = [0.3, 0.77, 2.0];
        let named = ode.solve(&y0, (0.0, 2.0), &SaveAt::Times(ts.to_vec())).unwrap();
        let dense = ode.solve(&y0, (0.0, 2.0), &SaveAt::Dense).unwrap();
        let later = dense.at_times(&ts).unwrap();
        assert_eq!(later.dims(), [3, BATCH, 3]);
        assert_close("outputs", &named.ys, &later);
        let [a, b] = [&named.ys, &later].map(|ys| loss(ys).backward().unwrap());
        for var in std::iter::once(&y0).chain(&vars) {
            assert_close("gradients", a.get(var).unwrap(), b.get(var).unwrap());
        }
        let refusal = dense.dense().map(|_| ()).unwrap_err();
        assert!(matches!(refusal, Error::PerSampleUnsupported { .. }), "{refusal}");
    }
}

#[test]
fn what_belongs_to_samples_is_refused_where_they_share_their_steps() {
    let ode = Ode::new(shared(&DOPRI5), blow_up, vec![]).unwrap();
    let times =
        Ragged::new(Tensor::new(&[0.0f64, 0.1, 0.0, 0.2], &Device::Cpu).unwrap(), vec![2, 2]);
    let y0 = starts().narrow(0, 0, 2).unwrap();
    let save = SaveAt::All(vec![SaveAt::End, SaveAt::PerSample(vec![SaveAt::Steps, SaveAt::End])]);
    let errors = [
        ode.solve(&y0, [(0.0, 0.1), (0.0, 0.2)], &SaveAt::End).map(|_| ()),
        ode.solve(&y0, (0.0, 0.1), &save).map(|_| ()),
        ode.solve_times(&y0, &times.unwrap()).map(|_| ()),
    ];
    for error in errors.map(|end| end.unwrap_err()) {
        assert!(matches!(error, Error::SharedSteps { .. }), "{error}");
        assert!(error.to_string().ends_with("set Solver::batching to Batching::PerSample"));
    }
}

#[test]
fn cotangents_are_laid_out_as_the_outputs_are() {
    let (field, vars) = field(true);
    let ode = Ode::new(solver(&BOSH3), field, vars.clone()).unwrap();
    let y0 = Var::from_tensor(&starts()).unwrap();
    let save_at = SaveAt::Times(vec![0.5, 1.5]);
    let sol = ode.solve(&y0, (0.0, 2.0), &save_at).unwrap();
    let grads = loss(&sol.ys).backward().unwrap();
    let (sol, tape) = ode.forward(&y0, (0.0, 2.0), &save_at).unwrap();
    let ys = Var::from_tensor(&sol.ys).unwrap();
    let g = loss(&ys).backward().unwrap().remove(&ys).unwrap();
    assert_eq!(g.dims(), [2, BATCH, 3]);
    let found = tape.pullback(&g).unwrap();
    assert_close("y0", &found.y0, grads.get(&y0).unwrap());
    for (found, var) in found.theta.iter().zip(&vars) {
        assert_close("parameters", found, grads.get(var).unwrap());
    }
    let each = sol.each().unwrap();
    assert_eq!(each.counts(), [2; BATCH]);
    assert_close("each", &each.sample(3).unwrap(), &sol.sample(3).unwrap());
}
