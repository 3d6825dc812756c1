use aca_core::{Batching, Solver};
use aca_tableau::{ALL, TSIT5};
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
    let solve = |y0: &Tensor| solver.solve_samples(&decay, y0, &[(0.0, 3.0); 3], &mut ()).unwrap();
    let (here, there) = (solve(&y0), solve(&y0.to_device(&gpu).unwrap()));
    let off = distance(&there.y1, &values(&here.y1));
    assert!(off <= 1e-12, "off by {off}, far above rounding");
}
