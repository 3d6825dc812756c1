//! Closed forms on slices: the solutions and gradients of the same forms on tensors.

use aca_adjoint::{Gradient, Ode};
use aca_core::{Batching, Pullback, Solver, Time, Tolerance, VectorField};
use aca_dense::SaveAt;
use aca_models::systems::{ClosedForm, Lorenz, System, ThreeBody, VanDerPol};
use aca_tableau::{BOSH3, DOP853, DOPRI5, HEUN_EULER, RK4, Tableau};
use candle_core::{DType, Device, Result, Tensor, Var};

/// A closed form that keeps to tensors.
struct OnTensors<S>(ClosedForm<S>);

impl<S: System> VectorField for OnTensors<S> {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.0.eval(t, y)
    }

    fn trace(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.0.trace(t, y)
    }

    fn linearize(&self, t: &Time, y: &Tensor) -> Result<(Tensor, Pullback<'_>)> {
        self.0.linearize(t, y)
    }

    fn supports_row_subset(&self) -> bool {
        self.0.supports_row_subset()
    }
}

/// Outputs of every kind, the cotangent of the initial state and that of the parameters.
fn solved<S: System>(
    system: S,
    [y0, theta]: [&Var; 2],
    tableau: &Tableau,
    batching: Batching,
    slices: bool,
) -> [Tensor; 3] {
    let field = ClosedForm::new(system, theta.clone());
    let tolerance = Tolerance { rtol: 1e-5, atol: 1e-6 };
    let solver = Solver::for_method(tableau.clone(), tolerance, Some(0.05)).unwrap();
    let solver = Solver { batching, ..solver };
    let vars = vec![theta.clone()];
    let ode = match slices {
        true => Ode::new(solver, field, vars).unwrap(),
        false => Ode::new(solver, OnTensors(field), vars).unwrap(),
    };
    let ode = ode.gradient(Gradient::Aca);
    let ys = match batching {
        Batching::Shared => ode.solve(y0, (0.0, 0.5), &every_kind(0.5)).unwrap().ys.clone(),
        Batching::PerSample => {
            // Those at the back are done early, so that rows are gathered; one has nothing to do, and one
            // goes back in time.
            let ends = |row| [0.5, -0.3, 0.45, 0.0, 0.1, 0.06][row % 6];
            let rows = 0..y0.dims()[0];
            let spans: Vec<_> = rows.clone().map(|row| (0.0, ends(row))).collect();
            let save: Vec<_> = rows.map(|row| every_kind(ends(row))).collect();
            let sol = ode.solve(y0, spans, &SaveAt::PerSample(save)).unwrap();
            sol.ys.clone()
        }
    };
    let grads = ys.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    [ys, grads.get(y0).unwrap().clone(), grads.get(theta).unwrap().clone()]
}

/// The start, times inside, all steps and the end of the span from 0 to `end`.
fn every_kind(end: f64) -> SaveAt {
    let times =
        if end == 0.0 { vec![0.0] } else { [0.0, 0.14, 0.66, 0.68].map(|s| s * end).into() };
    SaveAt::All(vec![SaveAt::Times(times), SaveAt::Steps, SaveAt::End])
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn assert_same<S: System + Clone>(system: S, y0: &Tensor, theta: &Tensor, batching: Batching) {
    for dtype in [DType::F64, DType::F32] {
        let var = |x: &Tensor| Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap();
        let (y0, theta) = (var(y0), var(theta));
        for tableau in [RK4, HEUN_EULER, BOSH3, DOPRI5, DOP853] {
            let found = solved(system.clone(), [&y0, &theta], &tableau, batching, true);
            let expected = solved(system.clone(), [&y0, &theta], &tableau, batching, false);
            let name = format!("{} {dtype:?}", tableau.name());
            assert_eq!(numbers(&found[0]), numbers(&expected[0]), "{name}: solution");
            assert_eq!(numbers(&found[1]), numbers(&expected[1]), "{name}: cotangent of y0");
            // Cotangents of parameters are added up in another order.
            let bound = if dtype == DType::F64 { 1e-13 } else { 1e-5 };
            let (found, expected) = (numbers(&found[2]), numbers(&expected[2]));
            let size = expected.iter().fold(0.0, |size: f64, x| size.max(x.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                let off = (found - expected).abs() / size;
                assert!(
                    off <= bound,
                    "{name}: {found} is {off:e} from {expected}, bound {bound:e}"
                );
            }
        }
    }
}

fn tensor(x: &[f64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(x, shape, &Device::Cpu).unwrap()
}

#[test]
fn three_bodies_on_slices_are_those_on_tensors() {
    let (y0, masses) = (tensor(&ThreeBody::Y0, &[18]), tensor(&ThreeBody::MASSES, &[3]));
    assert_same(ThreeBody, &y0, &masses, Batching::Shared);
}

#[test]
fn states_that_share_parameters_on_slices_are_those_on_tensors() {
    let y0 = tensor(&[1.0, 2.0, 3.0, -1.0, 0.5, 9.0], &[2, 3]);
    assert_same(Lorenz, &y0, &tensor(&Lorenz::CLASSIC, &[3]), Batching::Shared);
}

#[test]
fn states_with_parameters_of_their_own_on_slices_are_those_on_tensors() {
    let y0 = tensor(&[2.0, 0.0, 1.0, 0.3, -1.0, 0.2], &[3, 2]);
    assert_same(VanDerPol, &y0, &tensor(&[1.0, 5.0, 0.1], &[3]), Batching::Shared);
}

/// Six rows of `numbers` each.
fn six_rows(shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let entries: Vec<f64> = (0..count).map(|i| 1.0 + 0.8 * (0.7 + 1.3 * i as f64).sin()).collect();
    tensor(&entries, shape)
}

#[test]
fn samples_with_clocks_of_their_own_on_slices_are_those_on_tensors() {
    let theta = tensor(&Lorenz::CLASSIC, &[3]);
    assert_same(Lorenz, &six_rows(&[6, 3]), &theta, Batching::PerSample);
}

#[test]
fn samples_with_clocks_and_parameters_of_their_own_on_slices_are_those_on_tensors() {
    let theta = tensor(&[1.0, 5.0, 0.1, 2.0, 30.0, 7.0], &[6]);
    assert_same(VanDerPol, &six_rows(&[6, 2]), &theta, Batching::PerSample);
}

#[test]
fn samples_of_several_states_with_clocks_of_their_own_on_slices_are_those_on_tensors() {
    let theta = tensor(&(1..=18).map(f64::from).collect::<Vec<_>>(), &[6, 3]);
    assert_same(VanDerPol, &six_rows(&[6, 3, 2]), &theta, Batching::PerSample);
}

#[test]
fn a_state_is_not_torn_into_samples() {
    let theta = Var::new(&Lorenz::CLASSIC, &Device::Cpu).unwrap();
    let field = ClosedForm::new(Lorenz, theta.clone());
    let solver = Solver { batching: Batching::PerSample, ..Solver::fixed(RK4, 0.1) };
    let ode = Ode::new(solver, field, vec![theta]).unwrap();
    let spans = vec![(0.0, 1.0); 3];
    let error = ode.solve(&six_rows(&[3]), spans, &SaveAt::End).err().unwrap();
    assert!(error.to_string().contains("reshape it to [1, 3]"), "{error}");
}

#[test]
fn parameters_are_read_when_a_solve_begins() {
    let theta = Var::new(&[0.5f64], &Device::Cpu).unwrap();
    let field = ClosedForm::new(aca_models::systems::LinearDecay, theta.clone());
    let ode = Ode::new(Solver::fixed(RK4, 0.1), field, vec![theta.clone()]).unwrap();
    let end = |rate: f64| {
        theta.set(&Tensor::new(&[rate], &Device::Cpu).unwrap()).unwrap();
        let y0 = tensor(&[1.0], &[1]);
        numbers(&ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap().y1)[0]
    };
    for rate in [0.5, 2.0] {
        let off = (end(rate) - (-rate).exp()).abs();
        assert!(off < 1e-4, "rate {rate}: {off:e} off, bound 1e-4");
    }
}

#[test]
fn parameters_that_do_not_fit_are_refused_as_on_tensors() {
    let theta = Var::new(&[1.0f64, 2.0], &Device::Cpu).unwrap();
    let field = ClosedForm::new(VanDerPol, theta.clone());
    let ode = Ode::new(Solver::fixed(RK4, 0.1), field, vec![theta]).unwrap();
    let error = ode.solve(&tensor(&[0.0; 6], &[3, 2]), (0.0, 1.0), &SaveAt::End).err().unwrap();
    assert!(error.to_string().contains("2 parameters do not fit 3 states"), "{error}");
}

#[test]
fn parameters_of_more_samples_than_there_are_are_refused_by_every_solve() {
    let theta = Var::new(&[1.0f64, 2.0, 3.0], &Device::Cpu).unwrap();
    let field = || ClosedForm::new(VanDerPol, theta.clone());
    let (y0, span) = (six_rows(&[2, 2]), (0.0, 0.1));
    let solver = Solver::fixed(RK4, 0.1);
    let own = Solver { batching: Batching::PerSample, ..solver.clone() };
    let ode = |solver: &Solver| Ode::new(solver.clone(), field(), vec![theta.clone()]).unwrap();
    let errors = [
        aca_dense::solve(&solver, &field(), &y0, span, &SaveAt::End).map(|_| ()),
        aca_dense::solve(&own, &field(), &y0, span, &SaveAt::End).map(|_| ()),
        own.solve(&field(), &y0, [span; 2], &mut ()).map(|_| ()),
        ode(&solver).solve(&y0, span, &SaveAt::End).map(|_| ()),
        ode(&own).solve(&y0, span, &SaveAt::End).map(|_| ()),
    ];
    for (way, error) in errors.into_iter().enumerate() {
        let text = error.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.starts_with("3 parameters do not fit 2 states of 1 each"), "{way}: {text}");
    }
}

#[test]
fn a_sample_whose_parameters_are_no_numbers_spoils_no_other() {
    let theta = Var::new(&[1.0f64, f64::NAN, 2.0, f64::INFINITY], &Device::Cpu).unwrap();
    let y0 = Var::from_tensor(&six_rows(&[4, 2])).unwrap();
    for gradient in [Gradient::Aca, Gradient::Naive] {
        let field = ClosedForm::new(VanDerPol, theta.clone());
        let tolerance = Tolerance { rtol: 1e-5, atol: 1e-6 };
        let solver = Solver::adaptive(DOPRI5, tolerance);
        let (batching, on_failure) = (Batching::PerSample, aca_core::OnFailure::Keep);
        let solver = Solver { batching, on_failure, ..solver };
        let ode = Ode::new(solver, field, vec![theta.clone()]).unwrap().gradient(gradient.clone());
        let sol = ode.solve(&y0, (0.0, 0.5), &SaveAt::End).unwrap();
        let finished: Vec<_> = sol.samples.iter().map(|end| end.status.is_finished()).collect();
        assert_eq!(finished, [true, false, true, false]);
        let grads = sol.y1.sum_all().unwrap().backward().unwrap();
        let found = [grads.get(&theta), grads.get(&y0)].map(|x| numbers(x.unwrap()));
        assert!(found.iter().flatten().all(|x| x.is_finite()), "{gradient:?}: {found:?}");
        assert_eq!((found[0][1], found[0][3]), (0.0, 0.0), "{gradient:?}: {found:?}");
    }
}

#[test]
fn parameters_of_a_system_without_any_are_refused() {
    #[derive(Clone)]
    struct Still;
    impl System for Still {
        const DIM: usize = 1;
        const PARAMS: usize = 0;
        fn slope<T: aca_models::systems::Real>(&self, _t: f64, _: &[T], _: &[T], dy: &mut [T]) {
            dy[0] = T::zero();
        }
        fn pullback<T: aca_models::systems::Real>(
            &self,
            _t: f64,
            _: &[T],
            _: &[T],
            _: &[T],
            y_bar: &mut [T],
            _: &mut [T],
        ) -> T {
            y_bar[0] = T::zero();
            T::zero()
        }
        fn trace(&self, _t: &Time, _: &Tensor, y: &Tensor) -> Result<Tensor> {
            y.zeros_like()
        }
    }
    let theta = Var::new(&[1.0f64], &Device::Cpu).unwrap();
    let field = ClosedForm::new(Still, theta);
    let error = Solver::fixed(RK4, 0.1).solve(&field, &six_rows(&[3, 1]), (0.0, 1.0), &mut ());
    assert!(error.unwrap_err().to_string().contains("has no parameters, but 1 were given"));
}
