//! Steps that leave all numbers, and smaller ones that do not.

use aca_core::{Number, Solver, Stepping};

use super::Setup;
use crate::report::{Error, Refusal};

/// Halvings of the step that are tried.
const HALVINGS: i32 = 12;

/// Tells of steps after which the state is not finite, of fixed ones with the first half, quarter, .. of the step by which
/// the solve arrives; other errors are as they were.
pub fn told(setup: &Setup, error: Error) -> Error {
    let Error::Aca(aca_core::Error::NonFinite { t, .. }) = error else { return error };
    let Stepping::FixedSize(h) = setup.solver.stepping else {
        return Refusal::Overflow { t }.into();
    };
    let method = setup.solver.method.name().to_owned();
    let smaller = (1..=HALVINGS).map(|n| h * 0.5f64.powi(n)).find(|&h| arrives(setup, h));
    let remedy = match smaller {
        Some(smaller) => format!("give a smaller step: --h {} arrives at the end", Number(smaller)),
        None => format!(
            "no step down to --h {} arrives within --max-steps either; give another end by --t1",
            Number(h * 0.5f64.powi(HALVINGS))
        ),
    };
    Refusal::BlownUp { method, h, t, remedy }.into()
}

/// Whether fixed steps of this size reach the end of the span.
fn arrives(setup: &Setup, h: f64) -> bool {
    let solver = Solver { stepping: Stepping::FixedSize(h), ..setup.solver.clone() };
    setup.solve_by(&solver, 2).is_ok()
}
