//! The stiff oscillator by implicit methods: gradients where those of explicit methods are worthless.

use aca_adjoint::Ode;
use aca_core::{Solver, Tolerance};
use aca_dense::SaveAt;
use aca_models::systems::VanDerPol;
use aca_tableau::{ESDIRK4, KVAERNO4, KVAERNO5};
use candle_core::{Device, Tensor};

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
