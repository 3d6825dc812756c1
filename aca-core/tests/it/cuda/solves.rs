use aca_core::{Batching, Error, Solver, Time};
use aca_tableau::{ALL, EULER, HEUN_EULER, RK4, TSIT5};
use candle_core::{Device, Tensor};

use super::gpu;
use crate::common::{CIRCLE, adaptive, adaptive_tableaus, distance, state, values};

#[test]
fn solves_on_a_gpu_follow_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let y0 = state(&(CIRCLE.y)(0.0));
    for tableau in adaptive_tableaus() {
        let solver = adaptive(tableau, 1e-6);
        let there =
            solver.solve(&CIRCLE.f, &y0.to_device(&gpu).unwrap(), (0.0, 1.0), &mut ()).unwrap();
        let here = solver.solve(&CIRCLE.f, &y0, (0.0, 1.0), &mut ()).unwrap();
        assert_eq!(there.stats.accepted, here.stats.accepted, "steps of {}", tableau.name());
        let off = distance(&there.y1, &values(&here.y1));
        assert!(off <= 1e-9, "{}: off by {off}, far above rounding", tableau.name());
    }
    for tableau in ALL {
        let solver = Solver::fixed_count(tableau.clone(), 20);
        let there =
            solver.solve(&CIRCLE.f, &y0.to_device(&gpu).unwrap(), (0.0, 1.0), &mut ()).unwrap();
        let here = solver.solve(&CIRCLE.f, &y0, (0.0, 1.0), &mut ()).unwrap();
        let off = distance(&there.y1, &values(&here.y1));
        assert!(off <= 1e-12, "{}: off by {off}, far above rounding", tableau.name());
    }
}

#[test]
fn samples_on_a_gpu_step_by_their_own_clocks() {
    let Some(gpu) = gpu() else { return };
    let decay = |_t: &aca_core::Time, y: &Tensor| y.sqr()?.neg();
    let y0 = Tensor::new(&[[1.0f64], [10.0], [0.1]], &Device::Cpu).unwrap();
    let solver = Solver { batching: Batching::PerSample, ..adaptive(&TSIT5, 1e-8) };
    let solve = |y0: &Tensor| solver.solve(&decay, y0, [(0.0, 3.0); 3], &mut ()).unwrap();
    let (here, there) = (solve(&y0), solve(&y0.to_device(&gpu).unwrap()));
    let off = distance(&there.y1, &values(&here.y1));
    assert!(off <= 1e-12, "off by {off}, far above rounding");
}

/// `y' = -y`, of which an entry is spoilt from a time on.
fn spoilt(at: f64) -> impl Fn(&Time, &Tensor) -> candle_core::Result<Tensor> {
    move |t, y| {
        let spoil = if t.value() >= at { f64::NAN } else { 0.0 };
        let entries = Tensor::new(&[0.0, 0.0, spoil], &Device::Cpu)?.to_device(y.device())?;
        y.neg()? + entries
    }
}

#[test]
fn fixed_steps_on_a_gpu_end_with_the_cpus_error() {
    let Some(gpu) = gpu() else { return };
    let y0 = state(&[1.0, 2.0, 3.0]);
    for (tableau, at) in [(RK4, 0.0), (RK4, 0.52), (EULER, 0.52), (TSIT5, 0.52)] {
        let name = tableau.name().to_owned();
        let solver = Solver::fixed_count(tableau, 20);
        let solve = |y0: &Tensor| solver.solve(&spoilt(at), y0, (0.0, 1.0), &mut ()).unwrap_err();
        let (here, there) = (solve(&y0), solve(&y0.to_device(&gpu).unwrap()));
        assert!(matches!(there, Error::NonFinite { index: 2, .. }), "{name}: {there:?}");
        assert_eq!(there.to_string(), here.to_string(), "{name}");
    }
}

#[test]
fn adaptive_steps_on_a_gpu_end_with_the_cpus_error() {
    let Some(gpu) = gpu() else { return };
    let y0 = state(&[1.0, 2.0, 3.0]);
    for tableau in [HEUN_EULER, TSIT5] {
        let name = tableau.name().to_owned();
        let solver = Solver { first_step: Some(0.1), ..adaptive(&tableau, 1e-3) };
        let solve = |y0: &Tensor| solver.solve(&spoilt(0.0), y0, (0.0, 1.0), &mut ()).unwrap_err();
        let (here, there) = (solve(&y0), solve(&y0.to_device(&gpu).unwrap()));
        assert_eq!(there.to_string(), here.to_string(), "{name}");
    }
}
