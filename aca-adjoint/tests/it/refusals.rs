//! What a gradient refuses rather than getting wrong.

use aca_adjoint::Ode;
use aca_core::{Error, Time, VectorField};
use aca_dense::SaveAt;
use aca_tableau::DOPRI5;
use candle_core::{DType, Device, Result, Tensor, Var};

use crate::common::{Mlp, adaptive, loss, state};

#[test]
fn an_unlisted_variable_is_refused() {
    let field = Mlp::new(DType::F64);
    let ode = Ode::new(adaptive(&DOPRI5, 1e-6), Mlp::new(DType::F64), field.vars()).unwrap();
    let error = ode.solve(&state(DType::F64), (0.0, 1.0), &SaveAt::End).map(|_| ()).unwrap_err();
    assert!(matches!(&error, Error::UnlistedVariable { shape } if shape.len() == 2));
    assert!(
        error
            .to_string()
            .ends_with("that is not among the parameters; its gradient would be lost, add it")
    );
}

#[test]
fn parameters_of_two_dtypes_are_refused() {
    let vars = [Mlp::new(DType::F64).vars(), Mlp::new(DType::F32).vars()].concat();
    let error =
        Ode::new(adaptive(&DOPRI5, 1e-6), Mlp::new(DType::F64), vars).map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "parameter 2 has dtype f32, the first has f64; all parameters of a field share one dtype"
    );
}

/// Counts its evaluations in a variable, as batch norm does its running mean.
struct Counting {
    count: Var,
}

impl VectorField for Counting {
    fn eval(&self, _t: &Time, y: &Tensor) -> Result<Tensor> {
        self.count.set(&(self.count.as_tensor() + 1.0)?.detach())?;
        y.sin()
    }

    fn running_statistics(&self) -> Vec<Var> {
        vec![self.count.clone()]
    }
}

#[test]
fn backward_leaves_running_statistics_alone() {
    let count = Var::zeros(1, DType::F64, &Device::Cpu).unwrap();
    let ode = Ode::new(adaptive(&DOPRI5, 1e-6), Counting { count: count.clone() }, vec![]).unwrap();
    let y0 = Var::from_tensor(&state(DType::F64)).unwrap();
    let read = || count.to_vec1::<f64>().unwrap()[0];
    let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
    // One evaluation at the start and six a step: neither the look at the field's variables nor the
    // search for the first step leaves a trace.
    assert_eq!(read(), 1.0 + 6.0 * sol.stats.accepted as f64);
    let before = read();
    loss(&sol.y1().unwrap()).backward().unwrap();
    assert_eq!(read(), before);
}
