//! The variables that a field reads.

use aca_core::{Error, Evaluator, Result, Time, VectorField, kernels};
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

/// The variables of a field whose gradient is wanted, in a fixed order and each once.
#[derive(Clone, Debug)]
pub struct Params(Vec<Var>);

impl Params {
    /// Fixes the order of `vars`; repeated variables are dropped.
    ///
    /// # Errors
    /// [`Error::MixedParameters`] when their dtypes differ.
    pub fn new(vars: Vec<Var>) -> Result<Self> {
        let mut unique: Vec<Var> = Vec::with_capacity(vars.len());
        for (index, var) in vars.into_iter().enumerate() {
            let expected = unique.first().map_or(var.dtype(), |first| first.dtype());
            if var.dtype() != expected {
                return Err(Error::MixedParameters { index, got: var.dtype(), expected });
            }
            if unique.iter().all(|known| known.id() != var.id()) {
                unique.push(var);
            }
        }
        Ok(Self(unique))
    }

    /// The variables, in their order.
    pub fn vars(&self) -> &[Var] {
        &self.0
    }

    /// Joins all variables into one vector that candle can split a gradient back through; a single
    /// zero beside `y0` when there are none, since an operation needs its argument.
    pub(crate) fn flatten(&self, y0: &Tensor) -> Result<Tensor> {
        if self.0.is_empty() {
            return Ok(Tensor::zeros(1, y0.dtype(), y0.device())?);
        }
        let flat =
            self.0.iter().map(|var| var.flatten_all()).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&flat, 0)?)
    }

    /// Evaluates `field` once and refuses variables that it reads but this list omits; its running
    /// statistics stay as they are.
    ///
    /// # Errors
    /// [`Error::UnlistedVariable`] for the first one.
    pub fn check_covers(&self, field: &dyn VectorField, t: f64, y: &Tensor) -> Result<()> {
        let evaluator = Evaluator::new(field, y)?;
        let statistics = evaluator.snapshot()?;
        let f = field.trace(&Time::new(t), &y.detach());
        evaluator.restore(&statistics)?;
        let f = f?;
        let known = |node: &Tensor| self.0.iter().any(|var| var.id() == node.id());
        match f.sorted_nodes().into_iter().find(|node| node.is_variable() && !known(node)) {
            Some(var) => Err(Error::UnlistedVariable { shape: var.dims().to_vec() }),
            None => Ok(()),
        }
    }
}

/// Sums the cotangents of the parameters over stages and steps.
pub(crate) struct Accumulator<'a> {
    params: &'a Params,
    sums: Vec<Option<Tensor>>,
}

impl<'a> Accumulator<'a> {
    pub(crate) fn new(params: &'a Params) -> Self {
        Self { params, sums: vec![None; params.0.len()] }
    }

    pub(crate) fn add(&mut self, theta: &GradStore) -> Result<()> {
        for (var, sum) in self.params.0.iter().zip(&mut self.sums) {
            // What candle's backward leaves at a variable still hangs on the graph that it walked.
            let Some(cotangent) = theta.get(var).map(Tensor::detach) else { continue };
            if cotangent.shape() != var.shape() {
                let (got, expected) = (cotangent.dims().to_vec(), var.dims().to_vec());
                return Err(Error::CotangentShape { got, expected });
            }
            *sum = Some(match sum.take() {
                // Shared among threads, which candle's sum is not: kernels of images have millions.
                Some(sum) => kernels::combine(Some(&sum), &[(1.0, &cotangent)])?,
                None => cotangent,
            });
        }
        Ok(())
    }

    /// The sums in the parameters' order; zeros where nothing arrived.
    pub(crate) fn finish(self) -> Result<Vec<Tensor>> {
        let sums = self.params.0.iter().zip(self.sums);
        sums.map(|(var, sum)| Ok(sum.map_or_else(|| var.zeros_like(), Ok)?)).collect()
    }
}
