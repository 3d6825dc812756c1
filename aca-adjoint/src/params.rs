//! The variables that a field reads.

use crate::GradientError;
use aca_core::{Evaluator, Fingerprint, Graph, Result, VectorField, kernels};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, TensorId, Var};

/// The variables of a field whose gradient is wanted, in a fixed order and each once.
///
/// Those of half precision (`f16`, `bf16`), which a field casts to the state's type, have their gradients summed in
/// `f32` and rounded once at the end; with `Naive`, candle sums them in their own type.
#[derive(Clone, Debug)]
pub struct Params(Vec<Var>);

impl Params {
    /// Fixes the order of `vars`; repeated variables are dropped.
    ///
    /// # Errors
    /// [`GradientError::MixedParameters`] when their dtypes differ.
    pub fn new(vars: Vec<Var>) -> Result<Self> {
        let mut unique: Vec<Var> = Vec::with_capacity(vars.len());
        for (index, var) in vars.into_iter().enumerate() {
            let expected = unique.first().map_or(var.dtype(), |first| first.dtype());
            if var.dtype() != expected {
                return Err(
                    GradientError::MixedParameters { index, got: var.dtype(), expected }.into()
                );
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

    /// Refuses a graph that reads variables which this list omits; `theta` is what candle found through it.
    ///
    /// # Errors
    /// [`GradientError::UnlistedVariable`] for the first one.
    pub(crate) fn check_listed(&self, theta: &GradStore, graph: &Graph) -> Result<()> {
        let known = |id: TensorId| self.0.iter().any(|var| var.id() == id);
        // Gradients of constants are in the store too, so what is unknown need not be a variable.
        if theta.get_ids().all(|id| known(*id)) {
            return Ok(());
        }
        match graph.variables().iter().find(|var| !known(var.id())) {
            Some(var) => Err(GradientError::UnlistedVariable { shape: var.dims().to_vec() }.into()),
            None => Ok(()),
        }
    }

    /// A fingerprint of every variable's present value.
    pub(crate) fn fingerprints(&self) -> Result<Vec<Fingerprint>> {
        let of = |var: &Var| {
            let mut fingerprint = Fingerprint::default();
            fingerprint.add_tensor(var)?;
            Ok(fingerprint)
        };
        self.0.iter().map(of).collect()
    }

    /// Refuses variables that are no longer what they were at the solve.
    ///
    /// # Errors
    /// [`GradientError::ParameterChanged`] for the first one.
    pub(crate) fn check_unchanged(&self, before: &[Fingerprint]) -> Result<()> {
        let now = self.fingerprints()?;
        match now.iter().zip(before).position(|(now, before)| now != before) {
            Some(index) => Err(GradientError::ParameterChanged { index }.into()),
            None => Ok(()),
        }
    }

    /// Evaluates `field` once and refuses variables that it reads but this list omits; its running
    /// statistics stay as they are.
    ///
    /// # Errors
    /// [`GradientError::UnlistedVariable`] for the first one.
    pub fn check_covers(&self, field: &dyn VectorField, t: f64, y: &Tensor) -> Result<()> {
        let evaluator = Evaluator::new(field, y)?.tracing(true);
        let statistics = evaluator.snapshot()?;
        let f = evaluator.eval(t, &y.detach());
        evaluator.restore(&statistics)?;
        let f = f?;
        let known = |node: &Tensor| self.0.iter().any(|var| var.id() == node.id());
        match f.sorted_nodes().into_iter().find(|node| node.is_variable() && !known(node)) {
            Some(var) => Err(GradientError::UnlistedVariable { shape: var.dims().to_vec() }.into()),
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

    /// Adds the cotangents that one pullback found, through `graph` where candle found them.
    ///
    /// # Errors
    /// [`GradientError::UnlistedVariable`] for a variable that the graph reads and the parameters omit.
    pub(crate) fn add(&mut self, theta: &GradStore, graph: Option<&Graph>) -> Result<()> {
        if let Some(graph) = graph {
            self.params.check_listed(theta, graph)?;
        }
        self.add_store(theta)
    }

    /// Adds the cotangents of the parameters in a store.
    pub(crate) fn add_store(&mut self, theta: &GradStore) -> Result<()> {
        for (var, sum) in self.params.0.iter().zip(&mut self.sums) {
            // What candle's backward leaves at a variable still hangs on the graph that it walked.
            let Some(cotangent) = theta.get(var).map(Tensor::detach) else { continue };
            let cotangent = cotangent.to_dtype(sum_dtype(var.dtype()))?;
            if cotangent.shape() != var.shape() {
                let (got, expected) = (cotangent.dims().to_vec(), var.dims().to_vec());
                return Err(GradientError::CotangentShape { got, expected }.into());
            }
            *sum = Some(match sum.take() {
                // Shared among threads, which candle's sum is not: kernels of images have millions.
                Some(sum) => kernels::combine(Some(&sum), &[(1.0, &cotangent)])?,
                None => cotangent,
            });
        }
        Ok(())
    }

    /// Positions of the parameters for which nothing arrived.
    pub(crate) fn unreached(&self) -> Vec<usize> {
        (0..self.sums.len()).filter(|index| self.sums[*index].is_none()).collect()
    }

    /// The sums in the parameters' order and of their types; zeros where nothing arrived.
    pub(crate) fn finish(self) -> Result<Vec<Tensor>> {
        let sums = self.params.0.iter().zip(self.sums);
        let rounded = |(var, sum): (&Var, Option<Tensor>)| match sum {
            Some(sum) => Ok(sum.to_dtype(var.dtype())?),
            None => Ok(var.zeros_like()?),
        };
        sums.map(rounded).collect()
    }
}

/// The type that cotangents of a parameter are summed in: in half precision a large sum would swallow all
/// that is still to come.
fn sum_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}
