//! The stiff oscillator by implicit methods: gradients where those of explicit methods are worthless.

use aca_adjoint::Ode;
use aca_core::{Solver, Tolerance};
use aca_dense::SaveAt;
use aca_models::systems::{ClosedForm, Hires, Oregonator, Pollu, Robertson, System, VanDerPol};
use aca_tableau::{ESDIRK4, KVAERNO4, KVAERNO5, Tableau};
use candle_core::{Device, Tensor, Var};

#[test]
fn gradients_of_the_stiff_oscillator_are_right_at_every_tolerance_and_none_is_refused() {
    // Of x(T)^2 from (2, 0) with respect to mu, by explicit methods at tolerances where they agree; tsit5 gives -32 and
    // 2e63 for two of them.
    let truths = [
        (30.0, 20.0, 0.0906298364),
        (30.0, 60.0, 0.1868704865),
        (100.0, 20.0, 0.0056283205),
        (100.0, 60.0, 0.0219561084),
    ];
    for (mu, t1, truth) in truths {
        for tableau in [KVAERNO4, ESDIRK4, KVAERNO5] {
            for tolerance in [1e-6, 1e-8, 1e-10] {
                let field = VanDerPol::field(&[mu]).unwrap();
                let theta = field.theta().clone();
                let tolerances = Tolerance { rtol: tolerance, atol: tolerance };
                let solver = Solver::adaptive(tableau.clone(), tolerances);
                let ode = Ode::new(solver, field, vec![theta.clone()]).unwrap();
                let y0 = Tensor::new(&[2.0f64, 0.0], &Device::Cpu).unwrap();
                let sol = ode.solve(&y0, (0.0, t1), &SaveAt::End).unwrap();
                let grads = sol.y1.get(0).unwrap().sqr().unwrap().backward().unwrap();
                let found = grads.get(&theta).unwrap().to_vec1::<f64>().unwrap()[0];
                // A tolerance means more to a gradient than to the solution, by the stiffness at most.
                let (off, bound) = ((found / truth - 1.0).abs(), 3e4 * tolerance + 2e-8);
                let name = tableau.name();
                assert!(off < bound, "{name} {mu} {t1} {tolerance:e}: {found}, {truth}: {off:e}");
            }
        }
    }
}

/// A problem of the test set, and where it ends: by SciPy 1.17's Radau at 1e-12, whose digits agree with the published
/// ones of the test set.
struct Chemistry<S> {
    system: fn() -> S,
    theta: &'static [f64],
    y0: &'static [f64],
    t1: f64,
    y1: &'static [f64],
    /// What the smallest species may be off.
    atol: f64,
}

impl<S: System> Chemistry<S> {
    /// The end, and the gradient of `sum_i y_i / y1_i` with respect to parameters and initial state.
    fn solve(
        &self,
        tableau: &Tableau,
        tolerance: f64,
        theta: &[f64],
    ) -> (Vec<f64>, f64, [Vec<f64>; 2]) {
        let field = ClosedForm::from_slice((self.system)(), theta).unwrap();
        let (rates, y0) = (field.theta().clone(), Var::new(self.y0, &Device::Cpu).unwrap());
        let tolerances = Tolerance { rtol: tolerance, atol: tolerance * self.atol };
        let solver = Solver::adaptive(tableau.clone(), tolerances);
        let ode = Ode::new(solver, field, vec![rates.clone()]).unwrap();
        let sol = ode.solve(&y0, (0.0, self.t1), &SaveAt::End).unwrap();
        let weights: Vec<f64> = self.y1.iter().map(|y| 1.0 / y).collect();
        let weights = Tensor::new(weights, &Device::Cpu).unwrap();
        let loss = (&sol.y1 * weights).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        let gradient = |var: &Var| grads.get(var).unwrap().to_vec1::<f64>().unwrap();
        let value = loss.to_scalar::<f64>().unwrap();
        (sol.y1.to_vec1().unwrap(), value, [gradient(&rates), gradient(&y0)])
    }

    fn check(&self, name: &str) {
        let field = ClosedForm::from_slice((self.system)(), self.theta).unwrap();
        let y = Tensor::new(self.y1, &Device::Cpu).unwrap();
        let y = (y.broadcast_div(&y.max_keepdim(0).unwrap()).unwrap() + 0.3).unwrap();
        assert!(field.check(&y).unwrap().worst() < 1e-13, "{name}: derivative");
        for (tableau, tolerance) in [(KVAERNO5, 1e-7), (ESDIRK4, 1e-8)] {
            let (y1, ..) = self.solve(&tableau, tolerance, self.theta);
            for (i, (y, expected)) in y1.iter().zip(self.y1).enumerate() {
                let off = (y / expected - 1.0).abs();
                let bound = 3e3 * tolerance;
                assert!(off < bound, "{name} by {}: species {i} is {y}: {off:e}", tableau.name());
            }
        }
        // Differences in the logarithms of the parameters, of solves so tight that their steps do not matter.
        let (.., [found, _]) = self.solve(&KVAERNO5, 1e-10, self.theta);
        let size = found.iter().zip(self.theta).map(|(g, k)| (g * k).abs()).fold(0.0, f64::max);
        for i in (0..self.theta.len()).step_by(self.theta.len().div_ceil(4)) {
            let at = |by: f64| {
                let mut theta = self.theta.to_vec();
                theta[i] *= f64::exp(by);
                self.solve(&KVAERNO5, 1e-11, &theta).1
            };
            let d = 5e-4;
            let slope = (8.0 * (at(d) - at(-d)) - (at(2.0 * d) - at(-2.0 * d))) / (12.0 * d);
            let off = (found[i] * self.theta[i] - slope).abs() / size;
            assert!(
                off < 1e-6,
                "{name} rate {i}: {} for {slope}: {off:e}",
                found[i] * self.theta[i]
            );
        }
    }
}

#[test]
fn robertsons_reaction_and_its_gradients_are_right_up_to_1e11() {
    let problem = |t1: f64, y1: &'static [f64], atol: f64| Chemistry {
        system: || Robertson,
        theta: &Robertson::RATES,
        y0: &Robertson::Y0,
        t1,
        y1,
        atol,
    };
    let early = &[0.7158270687194057, 9.185534764557778e-6, 0.28416374574583003];
    problem(40.0, early, 1e-6).check("robertson");
    let late = &[2.0833401496993648e-8, 8.333360770327067e-14, 0.9999999791665152];
    let late = problem(1e11, late, 1e-14);
    let (y1, ..) = late.solve(&KVAERNO5, 1e-8, late.theta);
    for (y, expected) in y1.iter().zip(late.y1) {
        assert!((y / expected - 1.0).abs() < 1e-4, "{y} for {expected}");
    }
}

#[test]
fn hires_and_its_gradients_are_right() {
    let y1 = &[
        0.0007371312573325661,
        0.00014424857263161832,
        5.888729740967564e-5,
        0.0011756513432831471,
        0.002386356198831325,
        0.006238968252742803,
        0.002849998395185759,
        0.0028500016048142204,
    ];
    let (theta, y0) = (&Hires::RATES, &Hires::Y0);
    Chemistry { system: || Hires, theta, y0, t1: 321.8122, y1, atol: 1e-3 }.check("hires");
}

#[test]
fn the_oregonator_and_its_gradients_are_right() {
    let y1 = &[1.000814870318523, 1228.1785215498983, 132.05549428465613];
    let (theta, y0) = (&Oregonator::CLASSIC, &Oregonator::Y0);
    Chemistry { system: || Oregonator, theta, y0, t1: 360.0, y1, atol: 1e-2 }.check("oregonator");
}

#[test]
fn polluted_air_and_its_gradients_are_right() {
    let y1 = &[
        0.056462554800227556,
        0.1342484130422336,
        4.139734331099417e-9,
        0.0055231402074843745,
        2.0189772623022118e-7,
        1.4645418634939816e-7,
        0.07784249118997953,
        0.32450753533960136,
        0.007494013383880342,
        1.622293157301577e-8,
        1.1358638332570815e-8,
        0.002230505975721338,
        0.00020871628827986175,
        1.3969210168401618e-5,
        0.008964884856898288,
        4.352846369330115e-18,
        0.006899219696263422,
        0.0001007803037365949,
        1.7721465139699487e-6,
        5.682943292316366e-5,
    ];
    let (theta, y0) = (&Pollu::RATES, &Pollu::Y0);
    Chemistry { system: || Pollu, theta, y0, t1: 60.0, y1, atol: 1e-10 }.check("pollu");
}
